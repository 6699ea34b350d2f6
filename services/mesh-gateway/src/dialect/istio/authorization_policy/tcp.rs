//! What a policy means for TCP connections, and why a condition on a header can spoil it.
//!
//! Istio makes two things of one policy: a filter for requests, and one for connections on ports that are not HTTP
//! (also on ports that no Service declares, which every proxy has). A connection has no method, path, host, header or
//! token. What a rule asks of those, Istio treats by action:
//!
//! - ALLOW: the whole rule is left out for connections. If nothing is left, all of them are denied.
//! - DENY, AUDIT and CUSTOM: only the condition is left out, so that the rule meets *more* connections.
//!
//! Narrowed to a cohort of ids, every rule asks for a header. So an ALLOW rule that has let connections in would do so
//! no more, and a DENY rule of the new version would deny connections at the first step already, whatever the cohort.
//! Which ports a workload serves is not looked up: a pair is refused unless connections are decided at every step as
//! they were before.

use std::collections::BTreeSet;

use meshward_model::canonical_json;
use serde_json::Value;

use super::ALL_AT_ONCE;
use crate::dialect::Unsupported;

const OF_SOURCES: [&str; 2] = ["requestPrincipals", "notRequestPrincipals"];
const OF_OPERATIONS: [&str; 6] = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"];
const OF_CONDITIONS: [&str; 2] = ["request.headers", "request.auth."];

/// Whether connections are decided as before while two versions share an object.
pub(super) fn check(action: &str, stable: &[Value], canary: &[Value]) -> Result<(), Unsupported> {
    if action == "ALLOW" { check_allow(stable, canary) } else { check_others(action, stable, canary) }
}

/// A rule that both have is not narrowed and may mean what it likes.
fn check_allow(stable: &[Value], canary: &[Value]) -> Result<(), Unsupported> {
    for (version, rules, other) in [("live", stable, canary), ("new", canary, stable)] {
        let lets_connections_in = |rule: &Value| !other.contains(rule) && !is_about_requests(rule);
        if let Some(index) = rules.iter().position(lets_connections_in) {
            return Err(Unsupported::new(
                format!(
                    "spec.rules[{index}] of the {version} version allows TCP connections too, since it names no \
                     method, path, host, header or token; narrowed to request ids it would deny them"
                ),
                format!(
                    "if its workloads serve no plain TCP, add {{operation: {{methods: [\"*\"]}}}} to the rule in both \
                     versions; or {ALL_AT_ONCE}"
                ),
            ));
        }
    }
    Ok(())
}

fn check_others(action: &str, stable: &[Value], canary: &[Value]) -> Result<(), Unsupported> {
    let meaning = |rules: &[Value]| rules.iter().map(for_connections).collect::<BTreeSet<_>>();
    let before = meaning(stable);
    match canary.iter().position(|rule| !before.contains(&for_connections(rule))) {
        None if before == meaning(canary) => Ok(()),
        None => Err(Unsupported::new(
            format!("the new version's {action} meets fewer TCP connections, which have no request id to be shared by"),
            format!("change only methods, paths, hosts, headers or tokens, or {ALL_AT_ONCE}"),
        )),
        Some(index) => Err(Unsupported::new(
            format!(
                "spec.rules[{index}] of the new version would meet TCP connections with the action {action} from the \
                 first step on: of a connection, methods, paths, hosts, headers and tokens are not asked"
            ),
            format!("change only methods, paths, hosts, headers or tokens, or {ALL_AT_ONCE}"),
        )),
    }
}

/// Whether a rule asks for something that only a request has.
pub(super) fn is_about_requests(rule: &Value) -> bool {
    let asks = |field: &str, inner: &str, names: &[&str]| {
        let mut parts = rule[field].as_array().into_iter().flatten();
        parts.any(|part| names.iter().any(|name| has_any(&part[inner][*name])))
    };
    let mut conditions = rule["when"].as_array().into_iter().flatten();
    asks("from", "source", &OF_SOURCES)
        || asks("to", "operation", &OF_OPERATIONS)
        || conditions.any(|condition| is_of_requests(condition) && asks_something(condition))
}

fn has_any(values: &Value) -> bool {
    values.as_array().is_some_and(|values| !values.is_empty())
}

fn is_of_requests(condition: &Value) -> bool {
    condition["key"].as_str().is_some_and(|key| OF_CONDITIONS.iter().any(|prefix| key.starts_with(prefix)))
}

fn asks_something(condition: &Value) -> bool {
    has_any(&condition["values"]) || has_any(&condition["notValues"])
}

/// What is left of a rule for connections, as a text to compare. Two that mean the same and are written differently
/// count as different.
fn for_connections(rule: &Value) -> String {
    let conditions = rule["when"].as_array().into_iter().flatten().filter(|condition| !is_of_requests(condition));
    let conditions: BTreeSet<_> = conditions.map(canonical_json).collect();
    let (from, to) = (left_of(&rule["from"], "source", &OF_SOURCES), left_of(&rule["to"], "operation", &OF_OPERATIONS));
    format!("from {from:?} to {to:?} when {conditions:?}")
}

/// What is left of alternatives; nothing if one of them has nothing left, since that one meets everything.
fn left_of(alternatives: &Value, inner: &str, names: &[&str]) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    for alternative in alternatives.as_array().into_iter().flatten() {
        let mut fields = alternative[inner].as_object().cloned().unwrap_or_default();
        fields.retain(|name, values| !names.contains(&name.as_str()) && has_any(values));
        if fields.is_empty() {
            return BTreeSet::new();
        }
        left.insert(canonical_json(&Value::Object(fields)));
    }
    left
}
