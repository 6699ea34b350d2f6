//! The rules of a step, for each way in which two versions can differ.
//!
//! A request of the cohort is decided by the new version, any other by the live one, and a connection (which has no id)
//! by the live one until the deployment ends. Three shapes of rules do that, written here for the cohort C and the
//! ports H on which a workload takes HTTP:
//!
//! - `on(rule, notValues C)` and `on(rule, values C)`: the rule for requests, on H, of one side;
//! - `off(rule)`: the rule for connections, on every port but H;
//! - `{on H, values C}`: lets the cohort through an ALLOW that is about to go, or that gives way to another action;
//!   `{on H, notValues C}` with `{not on H}`: lets everybody else through an ALLOW that was not there before.
//!
//! The last ones are needed only where no other ALLOW policy selects the workload: without any ALLOW everything is
//! allowed, and the first one denies whatever it does not name.

use serde_json::{Map, Value, json};

use super::{REQUEST_ID, rules, tcp};
use crate::dialect::istio::Cohort;

/// What the cluster says of the workloads that a policy selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    /// Ports on which they take HTTP, as a policy writes them; on all others they take connections.
    pub(super) http: Vec<String>,
    /// No other ALLOW policy selects them.
    pub(super) is_alone: bool,
}

impl Workload {
    pub(super) fn to_facts(&self) -> Value {
        json!({"http_ports": self.http, "alone": self.is_alone})
    }

    /// `None` if the plan did not need to know.
    pub(super) fn of_facts(facts: &Value) -> Option<Self> {
        let ports = facts["http_ports"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned);
        Some(Self { http: ports.collect(), is_alone: facts["alone"].as_bool()? })
    }
}

/// Both versions in one object that has one action. Without a [`Workload`] the rules must be about requests only.
pub(super) fn both(stable: &Value, canary: &Value, cohort: Cohort, workload: Option<&Workload>) -> Value {
    let suffixes = cohort.suffixes();
    if suffixes.is_empty() {
        return stable.clone();
    }
    let (before, after) = (rules(stable), rules(canary));
    let mut all = Vec::new();
    for rule in before {
        match after.contains(rule) {
            // Whoever decides, decides the same.
            true => all.push(rule.clone()),
            false => all.extend(old(super::action(stable), rule, &suffixes, workload)),
        }
    }
    for rule in after.iter().filter(|rule| !before.contains(rule)) {
        all.extend(new(rule, &suffixes, workload));
    }
    with_rules(stable, all)
}

/// A version of its own action that comes: the only rules of an object, which is there for the cohort alone.
pub(super) fn coming(canary: &Value, cohort: Cohort, workload: &Workload) -> Value {
    let (suffixes, is_allow) = (cohort.suffixes(), super::action(canary) == "ALLOW");
    if suffixes.is_empty() {
        // Nobody: an ALLOW that allows everything, or another action that meets nothing.
        return with_rules(canary, if is_allow && workload.is_alone { vec![json!({})] } else { Vec::new() });
    }
    let mut all: Vec<_> = rules(canary).iter().flat_map(|rule| new(rule, &suffixes, Some(workload))).collect();
    if is_allow && workload.is_alone {
        all.push(json!({"to": on_http(workload), "when": [{"key": REQUEST_ID, "notValues": suffixes}]}));
        all.push(json!({"to": [{"operation": {"notPorts": workload.http}}]}));
    }
    with_rules(canary, all)
}

/// A version of its own action that goes: for everybody but the cohort.
pub(super) fn going(stable: &Value, cohort: Cohort, workload: &Workload) -> Value {
    let suffixes = cohort.suffixes();
    if suffixes.is_empty() {
        return stable.clone();
    }
    let action = super::action(stable);
    let mut all: Vec<_> = rules(stable).iter().flat_map(|rule| old(action, rule, &suffixes, Some(workload))).collect();
    if action == "ALLOW" && workload.is_alone {
        all.push(json!({"to": on_http(workload), "when": [{"key": REQUEST_ID, "values": suffixes}]}));
    }
    with_rules(stable, all)
}

fn on_http(workload: &Workload) -> Value {
    json!([{"operation": {"ports": workload.http}}])
}

fn with_rules(spec: &Value, all: Vec<Value>) -> Value {
    let mut spec = spec.clone();
    if !all.is_empty() || !spec["rules"].is_null() {
        spec["rules"] = all.into();
    }
    spec
}

/// A rule of the live version: for the requests outside the cohort, and for connections as before.
fn old(action: &str, rule: &Value, suffixes: &[String], workload: Option<&Workload>) -> Vec<Value> {
    let Some(workload) = workload else { return vec![narrow(rule, "notValues", suffixes)] };
    let mut both: Vec<_> = on(rule, workload).map(|rule| narrow(&rule, "notValues", suffixes)).into_iter().collect();
    // Of an ALLOW, Istio leaves out for connections what asks for something of a request.
    if action != "ALLOW" || !tcp::is_about_requests(rule) {
        both.extend(off(rule, workload));
    }
    both
}

/// A rule of the new version: for the requests of the cohort.
fn new(rule: &Value, suffixes: &[String], workload: Option<&Workload>) -> Option<Value> {
    let rule = match workload {
        Some(workload) => on(rule, workload)?,
        None => rule.clone(),
    };
    Some(narrow(&rule, "values", suffixes))
}

/// The rule for the ids of the cohort only (`values`), or for all others (`notValues`; also those without an id).
fn narrow(rule: &Value, field: &str, suffixes: &[String]) -> Value {
    let mut rule = rule.clone();
    let mut conditions = rule["when"].as_array().cloned().unwrap_or_default();
    conditions.push(json!({"key": REQUEST_ID, field: suffixes}));
    rule["when"] = conditions.into();
    rule
}

/// The rule on the ports of HTTP; `None` if it is about none of them.
fn on(rule: &Value, workload: &Workload) -> Option<Value> {
    on_ports(rule, |ports| match ports {
        None => Some(("ports", workload.http.clone())),
        Some(ports) => some("ports", ports.into_iter().filter(|port| workload.http.contains(port)).collect()),
    })
}

/// The rule on all other ports; `None` if it is about none of them.
fn off(rule: &Value, workload: &Workload) -> Option<Value> {
    on_ports(rule, |ports| match ports {
        None => Some(("notPorts", workload.http.clone())),
        Some(ports) => some("ports", ports.into_iter().filter(|port| !workload.http.contains(port)).collect()),
    })
}

fn some(field: &'static str, ports: Vec<String>) -> Option<(&'static str, Vec<String>)> {
    (!ports.is_empty()).then_some((field, ports))
}

/// The rule with each of its operations on the ports that `choose` makes of its own (`None` = it names none); without
/// those for which it makes nothing.
fn on_ports(
    rule: &Value,
    choose: impl Fn(Option<Vec<String>>) -> Option<(&'static str, Vec<String>)>,
) -> Option<Value> {
    let any = [json!({"operation": {}})];
    let operations = match rule["to"].as_array() {
        Some(operations) if !operations.is_empty() => operations,
        _ => &any[..],
    };
    let mut chosen = Vec::new();
    for entry in operations {
        let named = entry["operation"]["ports"].as_array().filter(|ports| !ports.is_empty());
        let named = named.map(|ports| ports.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let Some((field, ports)) = choose(named) else { continue };
        let mut operation = entry["operation"].as_object().cloned().unwrap_or_else(Map::new);
        let mut all: Vec<Value> = ports.into_iter().map(Value::from).collect();
        if field == "notPorts" {
            let known = operation.get("notPorts").and_then(Value::as_array).cloned().unwrap_or_default();
            all.extend(known.into_iter().filter(|port| !all.contains(port)).collect::<Vec<_>>());
        }
        operation.insert(field.to_owned(), all.into());
        chosen.push(json!({"operation": operation}));
    }
    if chosen.is_empty() {
        return None;
    }
    let mut rule = rule.clone();
    rule["to"] = chosen.into();
    Some(rule)
}
