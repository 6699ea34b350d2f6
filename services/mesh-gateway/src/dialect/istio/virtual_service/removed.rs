//! The version of a VirtualService that is its absence: what the mesh does without it.
//!
//! For a Service of Kubernetes that is known: each port has one route, to the Service itself, without a subset. One route
//! without a port says the same on all ports at once, since a destination that names none is the port of the caller's
//! listener. So a deletion is released like a change to that route, and at 100 % the object goes.
//!
//! It is the same only where the absence means that. On a gateway a host without routes is not found; a host that is no
//! Service, or a wildcard, is whatever the mesh lets through; another VirtualService takes over where this one goes; and
//! one route cannot send two hosts to themselves. All of these are refused.

use meshward_model::{Mechanism, Target};
use serde_json::{Value, json};

use super::{ALL_AT_ONCE, bindings, delegates, hosts, routes};
use crate::{
    dialect::{
        Need, Question, Unsupported,
        istio::{destination_rule::takes_requests, neighbours_of},
    },
    object::{full_name, is_of, spec},
};

/// What else a plan must know.
pub(super) fn needs(question: &Question<'_>) -> Option<Need> {
    question.canary.is_null().then(|| Need::within("v1", "Service", &question.target.namespace))
}

/// What does the same as the absence of a VirtualService, for those that are not refused.
pub(super) fn instead(stable: &Value) -> Value {
    let mut spec = stable.clone();
    spec["http"] = json!([{"route": [{"destination": {"host": stable["hosts"][0]}}]}]);
    spec
}

fn refuse(reason: impl Into<String>) -> Result<(), Unsupported> {
    Err(Unsupported::new(reason, ALL_AT_ONCE))
}

/// Whether the absence is what [`instead`] says.
pub(super) fn check(question: &Question<'_>, live: &Value) -> Result<(), Unsupported> {
    let by = question.wanted.or(question.audience.header.as_ref().map(|_| Mechanism::Header));
    if by.is_some_and(|wanted| ![Mechanism::Request, Mechanism::Weight].contains(&wanted)) {
        return Err(Unsupported::new(
            "a VirtualService that shall be gone is taken away from requests, not from callers",
            format!("ask for REQUEST or WEIGHT, or {ALL_AT_ONCE}"),
        ));
    }
    let stable = spec(live);
    if delegates::is_delegate(stable) || delegates::delegates(stable) {
        return refuse("a VirtualService that delegates, or is delegated to, is not all that says what its absence is");
    }
    let is_for_sidecars = stable["gateways"].is_null() || stable["gateways"] == json!(["mesh"]);
    if !is_for_sidecars {
        return refuse(
            "a gateway finds no host that has no routes, so the absence is no version to share requests with",
        );
    }
    if let Some(protocol) = ["tcp", "tls"].into_iter().find(|protocol| !routes(stable, protocol).is_empty()) {
        return refuse(format!("it has spec.{protocol}, and connections are not shared with the absence of a route"));
    }
    let hosts = hosts(question.target, live);
    let [host] = &hosts[..] else {
        return refuse(format!("it has {} hosts, and one route cannot send each to itself", hosts.len()));
    };
    check_service(question, host)?;
    check_others(question, host)
}

fn check_service(question: &Question<'_>, host: &str) -> Result<(), Unsupported> {
    let Target { namespace, .. } = question.target;
    let is_it = |service: &&Value| {
        let metadata = &service["metadata"];
        let name = metadata["name"].as_str().unwrap_or_default();
        metadata["namespace"] == **namespace && host == format!("{name}.{namespace}.svc.cluster.local")
    };
    let Some(service) = neighbours_of(question, "Service").find(is_it) else {
        return refuse(format!("{host} is no Service of namespace {namespace}, so what becomes of it is not known"));
    };
    if spec(service)["clusterIP"] == "None" || spec(service)["type"] == "ExternalName" {
        return refuse(format!("the Service of {host} has no address of its own (headless, or another name)"));
    }
    if !service["metadata"]["annotations"]["networking.istio.io/exportTo"].is_null() {
        return refuse(format!("the Service of {host} is not everybody's (networking.istio.io/exportTo)"));
    }
    if !takes_requests(service) {
        return refuse(format!("no port of {host} takes requests"));
    }
    Ok(())
}

/// Whoever has the host next takes over.
fn check_others(question: &Question<'_>, host: &str) -> Result<(), Unsupported> {
    let has_it = |other: &&Value| {
        let place = other["metadata"]["namespace"].as_str().unwrap_or_default();
        let target = Target { namespace: place.to_owned(), ..question.target.clone() };
        !is_of(other, question.target)
            && bindings::is_bound_to_mesh(spec(other))
            && hosts(&target, other).iter().any(|known| bindings::overlap(known, host))
    };
    match neighbours_of(question, &question.target.kind).find(has_it) {
        None => Ok(()),
        Some(other) => refuse(format!("VirtualService {} has {host} as well and would take over", full_name(other))),
    }
}
