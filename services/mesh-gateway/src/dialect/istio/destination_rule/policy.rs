//! The canary's subsets: version 2 of the traffic policy under other names, beside version 1.
//!
//! Istio merges the policy of a subset over the one of the whole rule, part by part (`connectionPool`,
//! `outlierDetection`, …): a part that a subset does not name is the rule's. So what version 2 has *removed* would come
//! back from version 1. Settings of a port are no such overlay: for their port they replace the four parts that they
//! can have, named or not. Three parts they cannot have (`tunnel`, `proxyProtocol`, `retryBudget`) are inherited
//! whatever one writes.
//!
//! So a twin says what version 2 says, and repeats it as settings of a port wherever the overlay alone would come to
//! something else. What cannot be had either way is refused. [`effective`] is Istio's merge as far as that needs it.
//!
//! TLS is decided twice: for the cluster as above, and for each endpoint by the mode that subset or rule names for the
//! port, whichever names one. A version 2 that names none where version 1 does would keep version 1's mode on the
//! endpoints, and no mode means the same as none; so it is refused.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::ALL_AT_ONCE;
use crate::dialect::Unsupported;

/// What settings of a port replace.
const REPLACED: [&str; 4] = ["connectionPool", "outlierDetection", "loadBalancer", "tls"];
/// What they cannot have.
const INHERITED: [&str; 3] = ["tunnel", "proxyProtocol", "retryBudget"];
/// The longest name of a subset.
const LONGEST_NAME: usize = 63;
/// Most clusters of an arm that metrics-collector is asked about.
const MOST_CLUSTERS: usize = 64;

/// The names of the canary's subsets: none that either version has.
pub(super) struct Names<'a>(BTreeSet<&'a str>);

impl<'a> Names<'a> {
    pub(super) fn new(stable: &'a Value, canary: &'a Value) -> Self {
        let names = [stable, canary].into_iter().flat_map(subsets).filter_map(|subset| subset["name"].as_str());
        Self(names.collect())
    }

    /// The canary's name for a subset, or for the host without one.
    pub(super) fn twin(&self, subset: Option<&str>) -> String {
        let base = match subset {
            None | Some("") => "canary".to_owned(),
            Some(name) => format!("{name}-canary"),
        };
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        names.find(|name| !self.0.contains(name.as_str())).unwrap_or(base)
    }
}

/// The clusters of Envoy that requests of the canary go to, and those of the others, each as `<subset>|<host>`; none if
/// there are more than can be asked for.
pub(super) fn clusters(stable: &Value, canary: &Value, host: &str) -> (Vec<String>, Vec<String>) {
    let names = Names::new(stable, canary);
    let of = |version| std::iter::once(None).chain(subsets(version).iter().map(|subset| subset["name"].as_str()));
    let twins: Vec<_> = of(canary).map(|subset| format!("{}|{host}", names.twin(subset))).collect();
    let own: Vec<_> = of(stable).map(|subset| format!("{}|{host}", subset.unwrap_or_default())).collect();
    if twins.len().max(own.len()) > MOST_CLUSTERS { (Vec::new(), Vec::new()) } else { (twins, own) }
}

/// The subsets of a version.
pub(super) fn subsets(spec: &Value) -> &[Value] {
    spec["subsets"].as_array().map_or(&[], Vec::as_slice)
}

/// The rule that holds both versions: version 1 as it is, and twins that say what version 2 says.
pub(super) fn exposed(stable: &Value, canary: &Value, ports: &[u64]) -> Result<Value, Unsupported> {
    check_passthrough(stable, canary)?;
    let names = Names::new(stable, canary);
    let twin = |subset: &Value| -> Result<Value, Unsupported> {
        let name = names.twin(subset["name"].as_str());
        if name.len() > LONGEST_NAME {
            return Err(Unsupported::new(
                format!("the subset {} has so long a name that its twin cannot be called {name}", subset["name"]),
                "give it a shorter one",
            ));
        }
        let mut twin = json!({"name": name});
        if !subset["labels"].is_null() {
            twin["labels"] = subset["labels"].clone();
        }
        let policy = twin_policy(stable, canary, subset, ports)?;
        if !policy.is_null() {
            twin["trafficPolicy"] = policy;
        }
        Ok(twin)
    };
    let everything = [Value::Null];
    let twins = everything.iter().chain(subsets(canary)).map(twin).collect::<Result<Vec<_>, _>>()?;
    Ok(with_subsets(stable, subsets(stable).iter().cloned().chain(twins)))
}

/// Version 2 with the twins still there, for routes that still name them.
pub(super) fn promoted(stable: &Value, canary: &Value) -> Value {
    let names = Names::new(stable, canary);
    let twins = subsets(canary).iter().map(|subset| {
        let mut twin = subset.clone();
        twin["name"] = names.twin(subset["name"].as_str()).into();
        twin
    });
    let whole = json!({"name": names.twin(None)});
    with_subsets(canary, subsets(canary).iter().cloned().chain([whole]).chain(twins))
}

fn with_subsets(spec: &Value, subsets: impl Iterator<Item = Value>) -> Value {
    let mut spec = spec.clone();
    spec["subsets"] = subsets.collect();
    spec
}

/// A part of a version's policies, wherever it is set: for the host, its ports and its subsets.
pub(super) fn parts_of<'a>(spec: &'a Value, part: &'a str) -> impl Iterator<Item = &'a Value> {
    let policies = std::iter::once(spec).chain(subsets(spec)).map(|holder| &holder["trafficPolicy"]);
    let with_ports = policies
        .flat_map(|policy| std::iter::once(policy).chain(policy["portLevelSettings"].as_array().into_iter().flatten()));
    with_ports.map(move |policy| &policy[part]).filter(|value| !value.is_null())
}

/// A policy that, over version 1, has the effect that version 2 gives to one of its subsets (null: to the host without
/// one).
fn twin_policy(stable: &Value, canary: &Value, subset: &Value, ports: &[u64]) -> Result<Value, Unsupported> {
    let (below, rule, own) = (&stable["trafficPolicy"], &canary["trafficPolicy"], &subset["trafficPolicy"]);
    let mut policy = overlay(&parts(rule, &REPLACED), own, false);
    let mut settings = Vec::new();
    for port in ports {
        let wanted = effective(rule, own, *port);
        let (inherited, _) = at_port(below, *port);
        if overlay(&inherited, &Value::Object(policy.clone()), false) == wanted {
            continue;
        }
        check_inherited(&inherited, &wanted, *port)?;
        let mut parts: Map<String, Value> = wanted.into_iter().filter(|(part, _)| is_replaced(part)).collect();
        if parts.is_empty() {
            // At least one part is asked for, and this one says nothing.
            parts.insert("connectionPool".to_owned(), json!({"tcp": {}}));
        }
        parts.insert("port".to_owned(), json!({"number": port}));
        settings.push(Value::Object(parts));
    }
    if !settings.is_empty() {
        policy.insert("portLevelSettings".to_owned(), settings.into());
    }
    let policy = if policy.is_empty() { Value::Null } else { Value::Object(policy) };
    check_tls((below, &policy), (rule, own), ports)?;
    Ok(policy)
}

fn is_replaced(part: &str) -> bool {
    REPLACED.contains(&part)
}

/// The parts of a policy, without the settings of ports.
fn parts(policy: &Value, names: &[&str]) -> Map<String, Value> {
    let named = names.iter().chain(&INHERITED).filter(|name| !policy[**name].is_null());
    named.map(|name| ((*name).to_owned(), policy[*name].clone())).collect()
}

/// What a policy says for a port, and whether the port has settings of its own.
fn at_port(policy: &Value, port: u64) -> (Map<String, Value>, bool) {
    let settings = policy["portLevelSettings"].as_array().into_iter().flatten();
    match settings.into_iter().find(|setting| setting["port"]["number"] == port) {
        Some(setting) => {
            let own = REPLACED.iter().filter(|name| !setting[**name].is_null());
            (own.map(|name| ((*name).to_owned(), setting[*name].clone())).collect(), true)
        }
        None => (parts(policy, &REPLACED), false),
    }
}

/// Lays the parts of a policy over others; one for a port of its own replaces what it can have.
fn overlay(below: &Map<String, Value>, over: &Value, is_for_port: bool) -> Map<String, Value> {
    let mut merged = below.clone();
    if is_for_port {
        merged.retain(|part, _| !is_replaced(part));
    }
    merged.extend(parts(over, &REPLACED));
    merged
}

/// What holds on a port for a subset with a policy of its own, or none.
pub(super) fn effective(rule: &Value, subset: &Value, port: u64) -> Map<String, Value> {
    let (below, _) = at_port(rule, port);
    let (own, is_for_port) = at_port(subset, port);
    overlay(&below, &Value::Object(own), is_for_port)
}

fn check_inherited(inherited: &Map<String, Value>, wanted: &Map<String, Value>, port: u64) -> Result<(), Unsupported> {
    match INHERITED.iter().find(|part| inherited.get(**part) != wanted.get(**part)) {
        None => Ok(()),
        Some(part) => Err(Unsupported::new(
            format!(
                "the versions differ in {part} on port {port}, and there the canary needs settings of the port, which \
                 cannot have it"
            ),
            format!("change {part} in a version of its own that removes nothing, or {ALL_AT_ONCE}"),
        )),
    }
}

/// Endpoints take the mode of TLS from whichever of the two names one.
fn check_tls((below, twin): (&Value, &Value), (rule, own): (&Value, &Value), ports: &[u64]) -> Result<(), Unsupported> {
    for port in ports {
        let got = tls_mode(twin, *port).or_else(|| tls_mode(below, *port));
        let wanted = tls_mode(own, *port).or_else(|| tls_mode(rule, *port));
        if got != wanted {
            return Err(Unsupported::new(
                format!(
                    "the new version has no tls.mode for port {port}, and the live one has {}, which the endpoints of \
                     the canary would keep",
                    got.unwrap_or_default()
                ),
                format!("name the mode in the new version (ISTIO_MUTUAL, DISABLE, …), or {ALL_AT_ONCE}"),
            ));
        }
    }
    Ok(())
}

fn tls_mode(policy: &Value, port: u64) -> Option<&str> {
    let settings = policy["portLevelSettings"].as_array().into_iter().flatten();
    let own = settings.into_iter().find(|setting| setting["port"]["number"] == port && !setting["tls"].is_null());
    let tls = own.map_or(&policy["tls"], |setting| &setting["tls"]);
    tls.is_object().then(|| tls["mode"].as_str().unwrap_or("DISABLE"))
}

/// Where the caller chooses the endpoint itself, subsets are built in another way than the host.
fn check_passthrough(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    for (version, spec) in [("live", stable), ("new", canary)] {
        if parts_of(spec, "loadBalancer").any(|balancer| balancer["simple"] == "PASSTHROUGH") {
            return Err(Unsupported::new(
                format!(
                    "the {version} version has loadBalancer PASSTHROUGH, with which a subset is not what the host is"
                ),
                ALL_AT_ONCE,
            ));
        }
    }
    Ok(())
}
