//! Telemetries: whom they are for, and which of several counts.

use super::{gateway::shown, policy};
use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, View, labels, matches},
};

pub(in super::super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = provider(entry, view);
    hits.extend(policy::attached(entry, view));
    let field = entry.spec().get("selector");
    let selector = labels(&field.get("matchLabels"));
    let others = view.all_in(Kind::Telemetry, entry.namespace());
    let others: Vec<&Entry> = others.into_iter().filter(|other| other.head != entry.head).collect();
    if !field.is_set() {
        if entry.spec().get("targetRef").is_set() || entry.spec().get("targetRefs").is_set() {
            return hits;
        }
        let rivals: Vec<&Entry> = others.into_iter().filter(|other| !other.spec().get("selector").is_set()).collect();
        hits.extend(twice(
            &rivals,
            rule::TELEMETRY_DEFAULTS,
            "of this namespace have no selector either",
            &entry.spec(),
        ));
        return hits;
    }
    if selector.is_empty() {
        return hits;
    }
    let workloads = view.workloads(entry.namespace());
    let own: Vec<_> = workloads.iter().filter(|workload| matches(&selector, &workload.labels)).collect();
    if own.is_empty() {
        let Some(sure) = view.absence(&[Kind::Workload], "workloads of Telemetries") else { return hits };
        let message =
            format!("no workload of {} has the labels {}", quote(entry.namespace()), quote(&shown(&selector)));
        let hit = Hit::new(rule::SELECTOR_NO_POD, field.path(), message).sure(sure);
        hits.push(hit.workloads("ignored", vec![shown(&selector)]));
        return hits;
    }
    let clash = |other: &&Entry| {
        let theirs = labels(&other.spec().get("selector").get("matchLabels"));
        !theirs.is_empty() && own.iter().any(|workload| matches(&theirs, &workload.labels))
    };
    let rivals: Vec<&Entry> = others.into_iter().filter(clash).collect();
    hits.extend(twice(&rivals, rule::TELEMETRY_OVERLAP, "select a workload that this one selects", &field));
    hits
}

fn twice(rivals: &[&Entry], id: &'static rule::Rule, what: &str, field: &Field<'_>) -> Option<Hit> {
    if rivals.is_empty() {
        return None;
    }
    let names: Vec<String> = rivals.iter().map(|other| quote(&other.full_name())).collect();
    let message = format!("{} {what}; which one counts is not defined", list(&names, " and "));
    let related = rivals.iter().map(|other| other.related(other.spec().path(), "is for the same workload"));
    Some(Hit::new(id, field.path(), message).with_all(related).suggest("keep one of them"))
}

/// Access logging needs a provider, here or as the mesh's default.
fn provider(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    if !view.mesh_config().get("defaultProviders").get("accessLogging").items().is_empty() {
        return Vec::new();
    }
    let loggings = entry.spec().get("accessLogging").items();
    let bare = loggings.iter().filter(|one| !one.get("disabled").is_true() && one.get("providers").items().is_empty());
    let Some(sure) = view.absence(&[Kind::MeshConfig], "the mesh's default providers of access logs") else {
        return Vec::new();
    };
    let hit = |one: &Field<'_>| {
        let message = "the access log has no provider and the mesh has no default one, so nothing is logged";
        Hit::new(rule::TELEMETRY_PROVIDER, one.path(), message).sure(sure).suggest("add providers: [{name: …}]")
    };
    bare.map(hit).collect()
}
