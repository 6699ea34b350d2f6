//! NAMESPACE: a copy of the new version in some of the namespaces that call, where it takes the place of the live one.
//!
//! Of the services with one name Istio takes for a caller the one that stands in the caller's own namespace. So a copy
//! that is kept there (`exportTo: ["."]`) replaces the live entry for exactly these callers, and whole: ports,
//! resolution, endpoints. Beside the live entry no copy can stand, since entries of one host in one namespace are one
//! service with the endpoints of all: callers there are stable until the end.
//!
//! But the copy is a service of another namespace than the live one. What tells services by their namespace would make
//! it another host than version 2 will be, and is refused:
//!
//! - rules beside the live entry (of the namespaces of a caller, the service and the mesh the first that has one counts);
//! - workloads that are selected, or that are in the mesh, and identities of endpoints;
//! - Sidecar objects that let callers see hosts of one of the namespaces and not of the other;
//! - an address that Istio gives each entry of its own, where it and not the name chooses the host (all but HTTP).

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism};
use serde_json::{Value, json};

use super::{ALL_AT_ONCE, alternatives, endpoints, has_common_host, metrics_target, no_versions};
use crate::{
    dialect::{
        Need, Phase, Planned, Question, Unsupported, callers as chosen,
        istio::{
            callers,
            destination_rule::shown_to,
            differing_fields, neighbours_of, placed,
            virtual_service::{hosts, overlap, qualified},
        },
        steps::{Wording, planned},
    },
    object::{self, full_name, is_of, spec},
};

/// Protocols whose requests name their host.
const WITH_HOST: [&str; 5] = ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"];
/// Where a Sidecar is for all namespaces that have none.
const ROOT_NAMESPACE: &str = "istio-system";

/// The objects that a plan must know.
pub(super) fn needs(question: &Question<'_>) -> Vec<Need> {
    let all = |kind: &str| Need::all(&question.target.api_version, kind);
    let places = callers::namespaces_needed(question);
    ["ServiceEntry", "DestinationRule", "Sidecar"].map(all).into_iter().chain(places).collect()
}

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let Some(stable) = question.baseline.object.as_ref().filter(|_| !question.canary.is_null()) else {
        return Err(no_versions(question));
    };
    let (stable, canary) = (object::spec(stable), object::spec(question.canary));
    let hosts = hosts(question.target, question.canary);
    check_whom(question, stable, canary, &hosts)?;
    [stable, canary].into_iter().try_for_each(check_version)?;
    check_others(question, &hosts)?;
    check_rules(question, &hosts)?;
    let own = &question.target.namespace;
    for place in &question.audience.namespaces {
        check_place(question, place, &hosts)?;
    }
    let names = callers::namespaces(question, |place| check_place(question, place, &hosts).is_err())?;
    let exposed = |weight| format!("Callers in {}.", chosen::split(&names, weight).0.join(", "));
    let mechanism = Mechanism::Namespace;
    let share = |weight| chosen::nominal_share(weight, names.len());
    let wording = Wording { mechanism, share: &share, exposed: &exposed };
    let facts = chosen::to_facts(&names);
    let plan = ExposurePlan {
        mechanism,
        reason: "By the caller's namespace: each caller is governed by exactly one whole version.".to_owned(),
        steps: planned(question, (&[], &facts), &wording, render)?,
        not_covered: not_covered(own),
        alternatives: alternatives(mechanism, ""),
        metrics_target: metrics_target(question, mechanism, hosts),
    };
    Ok(Planned { facts, ..plan.into() })
}

fn refuse<T>(reason: impl Into<String>, would_work: &str) -> Result<T, Unsupported> {
    Err(Unsupported::new(reason, format!("{would_work}, or {ALL_AT_ONCE}")))
}

/// For whom both versions are.
fn check_whom(question: &Question<'_>, stable: &Value, canary: &Value, hosts: &[String]) -> Result<(), Unsupported> {
    let differing = differing_fields(stable, canary, "");
    if let Some(name) = ["hosts", "exportTo"].iter().find(|name| differing.iter().any(|found| found == *name)) {
        let reason = format!("the versions differ in spec.{name}, which decides for whom they are");
        return refuse(reason, &format!("leave spec.{name} as it is"));
    }
    if shown_to(stable, &question.target.namespace).is_some() {
        return refuse(
            "the entry is shown to namespaces by name (spec.exportTo), which counts as much as one that is there: of \
             the two the older one wins",
            "show it to all (\"*\"), or ask for WEIGHT",
        );
    }
    match hosts.iter().find(|host| host.ends_with(".svc.cluster.local")) {
        None => Ok(()),
        Some(host) => refuse(format!("{host} is a name of Kubernetes' own, whose Service wins"), "ask for WEIGHT"),
    }
}

/// What depends on the namespace in which an entry stands.
fn check_version(version: &Value) -> Result<(), Unsupported> {
    if version["location"] == "MESH_INTERNAL" || !version["workloadSelector"].is_null() {
        return refuse(
            "the endpoints are workloads of the mesh, and a copy in another namespace is another service of theirs",
            "ask for WEIGHT",
        );
    }
    let has_identity = |endpoint: &Value| {
        !endpoint["serviceAccount"].is_null() || !endpoint["labels"]["security.istio.io/tlsMode"].is_null()
    };
    if endpoints(version).iter().any(has_identity) {
        return refuse(
            "an endpoint has an identity in the mesh, which belongs to the entry's namespace",
            "ask for WEIGHT",
        );
    }
    let without_host = version["ports"].as_array().into_iter().flatten().find(|port| {
        let protocol = port["protocol"].as_str().unwrap_or_default().to_ascii_uppercase();
        !WITH_HOST.contains(&protocol.as_str())
    });
    match without_host.filter(|_| version["addresses"].as_array().is_none_or(Vec::is_empty)) {
        None => Ok(()),
        Some(port) => refuse(
            format!("port {} is found by an address, and Istio gives each entry one of its own", port["number"]),
            "say spec.addresses in both versions, ask for WEIGHT",
        ),
    }
}

fn place_of(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// Other entries with a host in common.
fn others<'a>(question: &Question<'a>, hosts: &[String]) -> impl Iterator<Item = &'a Value> {
    let target = question.target;
    neighbours_of(question, "ServiceEntry").filter(move |other| !is_of(other, target) && has_common_host(other, hosts))
}

fn check_others(question: &Question<'_>, hosts: &[String]) -> Result<(), Unsupported> {
    let own = &question.target.namespace;
    let is_everybodys = |other: &&Value| place_of(other) == own || shown_to(spec(other), place_of(other)).is_none();
    match others(question, hosts).find(is_everybodys) {
        None => Ok(()),
        Some(other) => refuse(
            format!(
                "ServiceEntry {} has a host in common, and which of the two a caller uses depends on it",
                full_name(other)
            ),
            "put them into one",
        ),
    }
}

/// Callers find a rule of the service's namespace by the service, and the copy is one of theirs.
fn check_rules(question: &Question<'_>, hosts: &[String]) -> Result<(), Unsupported> {
    let own = &question.target.namespace;
    let is_for_it = |rule: &&Value| {
        let host = qualified(spec(rule)["host"].as_str().unwrap_or_default(), own);
        place_of(rule) == own && hosts.iter().any(|own| overlap(own, &host))
    };
    match neighbours_of(question, "DestinationRule").find(is_for_it) {
        None => Ok(()),
        Some(rule) => refuse(
            format!(
                "DestinationRule {} is for the host as a service of {own}, and a copy would be without it",
                full_name(rule)
            ),
            "put the rule into the namespaces that call, ask for WEIGHT",
        ),
    }
}

/// Whether a copy in a namespace takes the place of the live entry for all callers there.
fn check_place(question: &Question<'_>, place: &str, hosts: &[String]) -> Result<(), Unsupported> {
    let own = &question.target.namespace;
    if place == own {
        return refuse(
            format!("a copy in {own} would add its endpoints to those of the live entry"),
            "name other namespaces, ask for WEIGHT",
        );
    }
    let shown_here = |other: &&Value| shown_to(spec(other), place_of(other)).is_some_and(|shown| shown.contains(place));
    if let Some(other) = others(question, hosts).find(shown_here) {
        return refuse(
            format!("the callers in {place} use ServiceEntry {} instead", full_name(other)),
            "name other namespaces",
        );
    }
    let divides = |sidecar: &&Value| {
        let mut listeners = spec(sidecar)["egress"].as_array().into_iter().flatten();
        listeners.any(|listener| hosts.iter().any(|host| !shows_both(listener, [own, place], host)))
    };
    match sidecars(question, place).find(divides) {
        None => Ok(()),
        Some(sidecar) => refuse(
            format!("Sidecar {} does not show hosts of {own} and of {place} alike", full_name(sidecar)),
            "name other namespaces, let it show both",
        ),
    }
}

/// The Sidecars by which callers of a namespace go.
fn sidecars<'a>(question: &Question<'a>, place: &str) -> impl Iterator<Item = &'a Value> {
    let is_for_all = |sidecar: &Value| spec(sidecar)["workloadSelector"].is_null();
    let has_own = neighbours_of(question, "Sidecar").any(|it| place_of(it) == place && is_for_all(it));
    neighbours_of(question, "Sidecar").filter(move |it| match place_of(it) {
        ROOT_NAMESPACE => !has_own && is_for_all(it),
        found => found == place,
    })
}

/// Whether a listener shows a host of both namespaces to callers in the second, or of none.
fn shows_both(listener: &Value, [own, place]: [&str; 2], host: &str) -> bool {
    let all: Vec<_> = listener["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let shows = |namespace: &str| {
        all.iter().filter_map(|entry| entry.split_once('/')).any(|(of, pattern)| {
            (of == "*" || of == namespace || of == "." && namespace == place) && overlap(pattern, host)
        })
    };
    // What is taken out again is not looked into.
    let takes_out = all.iter().any(|entry| entry.starts_with('~') && *entry != "~/*");
    !takes_out && shows(own) == shows(place)
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let mut spec = object::spec(&intent.canary).clone();
    spec["exportTo"] = json!(["."]);
    placed::render(intent, spec)
}

fn not_covered(own: &str) -> Vec<String> {
    let mut sentences = callers::namespaces_not_covered();
    sentences.extend([
        format!("Callers in {own} itself are governed by the live version until 100 %."),
        "Each namespace that joins takes a write of its own.".to_owned(),
        "Until the end the new version is counted as a service of its callers' namespace.".to_owned(),
        "It is taken for granted that a ServiceEntry without exportTo is everybody's, as a mesh has it unless \
         defaultServiceExportTo says otherwise."
            .to_owned(),
    ]);
    sentences
}

#[cfg(test)]
mod tests;
