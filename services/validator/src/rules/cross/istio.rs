//! Istio's kinds among others.

mod access;
mod destination_rule;
mod gateway;
mod gateway_conflict;
mod hosts;
mod identity;
mod peer;
mod policy;
mod service_entry;
mod sidecar;
mod telemetry;
mod tls;
mod virtual_service;

use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, View},
};

pub(super) use destination_rule::check as destination_rule;
pub(super) use policy::{attached, istiod, request_authentication};
pub(super) use service_entry::{check as service_entry, service};
pub(super) use sidecar::check as sidecar;
pub(super) use telemetry::check as telemetry;

pub(super) fn virtual_service(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = virtual_service::check(entry, view);
    hits.extend(hosts::check(entry, view));
    hits
}

pub(super) fn gateway(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = gateway::check(entry, view);
    hits.extend(gateway_conflict::check(entry, view));
    hits
}

pub(super) fn authorization_policy(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = policy::authorization(entry, view);
    hits.extend(access::check(entry, view));
    hits.extend(identity::check(entry, view));
    hits
}

pub(super) fn peer_authentication(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    peer::check(entry, view)
}

/// Conditions that are bad when they are false, by kind.
const CONDITIONS: [(Kind, &[&str]); 7] = [
    (Kind::Service, &["istio.io/WaypointBound"]),
    (Kind::ServiceEntry, &["istio.io/WaypointBound"]),
    (Kind::WorkloadEntry, &["istio.io/WaypointBound"]),
    (Kind::AuthorizationPolicy, &["ZtunnelAccepted", "WaypointAccepted"]),
    (Kind::KubernetesGateway, &["Accepted", "Programmed", "ResolvedRefs"]),
    (Kind::HttpRoute, &["Accepted", "Programmed", "ResolvedRefs"]),
    (Kind::GrpcRoute, &["Accepted", "Programmed", "ResolvedRefs"]),
];

/// What the object's own status complains of.
pub(super) fn status(entry: &Entry) -> Vec<Hit> {
    let Some((_, names)) = CONDITIONS.iter().find(|(kind, _)| *kind == entry.kind) else { return Vec::new() };
    let status = entry.root().get("status");
    let parents = status.get("parents").items();
    let of_parents = parents.iter().flat_map(|parent| parent.get("conditions").items());
    let conditions: Vec<Field<'_>> = status.get("conditions").items().into_iter().chain(of_parents).collect();
    let is_bad = |condition: &&Field<'_>| {
        let name = condition.get("type").text();
        let partly = name == "WaypointAccepted" && condition.get("reason").text() == "PartiallyInvalid";
        names.contains(&name) && (condition.get("status").text() == "False" || partly)
    };
    let hit = |condition: &Field<'_>| {
        let text = |name: &str| quote(condition.get(name).text());
        let message =
            format!("the status says that {} is not so: {} {}", text("type"), text("reason"), text("message"));
        Hit::new(rule::STATUS_NEGATIVE, condition.path(), message)
    };
    conditions.iter().filter(is_bad).map(hit).collect()
}
