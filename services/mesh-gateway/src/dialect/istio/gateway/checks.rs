//! What cannot be exposed pod by pod of a gateway, and why.

use serde_json::Value;

use super::labels;
use crate::{
    dialect::{
        Question, Unsupported,
        istio::{
            differing_fields,
            instance::{overlaps, pods},
            neighbours_of,
        },
        steps::{ALL_AT_ONCE, cohort_key},
    },
    object::{self, full_name, is_of, spec},
};

/// Each is a write of every step.
const MOST_BOUND: usize = 10;
/// Leaves room for the name of the second one.
const LONGEST_NAME: usize = 200;

/// How many pods there are to be divided.
pub(super) fn check(question: &Question<'_>) -> Result<usize, Unsupported> {
    let Some(stable) = question.baseline.object.as_ref().filter(|_| !question.canary.is_null()) else {
        return Err(Unsupported::new(
            format!(
                "{} does not exist, or shall be gone, and there is no second version to divide pods by",
                question.target
            ),
            ALL_AT_ONCE,
        ));
    };
    let (stable, canary) = (object::spec(stable), object::spec(question.canary));
    check_versions(question, stable, canary)?;
    check_others(question, stable, canary)?;
    let bound = super::bound(question).len();
    if bound > MOST_BOUND {
        return Err(Unsupported::new(
            format!(
                "{bound} VirtualServices are bound to it, each of which has to name a second Gateway, and more than \
                 {MOST_BOUND} are too many writes of every step"
            ),
            format!("make a second Gateway with pods of its own, and move the load balancer, or {ALL_AT_ONCE}"),
        ));
    }
    count(question, stable)
}

fn check_versions(question: &Question<'_>, stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    let differing = differing_fields(stable, canary, "servers");
    let refuse = |reason: String| Err(Unsupported::new(reason, ALL_AT_ONCE));
    if !differing.is_empty() {
        let names = differing.iter().map(|name| format!("spec.{name}")).collect::<Vec<_>>().join(", ");
        return refuse(format!("the versions differ in {names}, which decides for which pods they are"));
    }
    let labels = labels(stable);
    if labels.is_empty() || labels.contains_key(&cohort_key(question.target)) {
        return refuse("the Gateway has no selector of its own that could be narrowed".to_owned());
    }
    if question.target.name.len() > LONGEST_NAME {
        return refuse(format!("the name of {} is too long to make another of it", question.target));
    }
    Ok(())
}

/// Of two that have a port and a host in common Istio takes the older, and the second one would be the newest.
fn check_others(question: &Question<'_>, stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    let taken: Vec<_> = [stable, canary].into_iter().flat_map(served).collect();
    let competes = |other: &&Value| {
        !is_of(other, question.target)
            && overlaps(&labels(stable), &labels(spec(other)))
            && served(spec(other)).iter().any(|one| taken.contains(one))
    };
    match neighbours_of(question, "Gateway").find(competes) {
        None => Ok(()),
        Some(other) => Err(Unsupported::new(
            format!(
                "Gateway {} serves a host on the same port of the same pods, and the older one wins",
                full_name(other)
            ),
            format!("let only one of them serve it, or {ALL_AT_ONCE}"),
        )),
    }
}

/// Port and host of each server; a host without the namespaces that it is for.
fn served(spec: &Value) -> Vec<(u64, &str)> {
    let mut all = Vec::new();
    for server in spec["servers"].as_array().into_iter().flatten() {
        let port = server["port"]["number"].as_u64().unwrap_or_default();
        let hosts = server["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.extend(hosts.map(|host| (port, host.rsplit('/').next().unwrap_or(host))));
    }
    all
}

fn count(question: &Question<'_>, stable: &Value) -> Result<usize, Unsupported> {
    let (own, labels) = (&question.target.namespace, labels(stable));
    let elsewhere = neighbours_of(question, "Pod").find(|pod| {
        let found = &pod["metadata"]["labels"];
        pod["metadata"]["namespace"] != **own && labels.iter().all(|(key, value)| found[key] == value.as_str())
    });
    if let Some(pod) = elsewhere {
        return Err(Unsupported::new(
            format!("pod {} is selected too, and only pods of the Gateway's own namespace are divided", full_name(pod)),
            format!("put the Gateway beside its pods, or let it select those only, or {ALL_AT_ONCE}"),
        ));
    }
    let count = pods::dividable(question, own, &labels)?.len();
    if count < 2 {
        return Err(Unsupported::new(
            format!("{count} pods of namespace {own} are selected, and two at least are needed to share the traffic"),
            format!("run more pods, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(count)
}
