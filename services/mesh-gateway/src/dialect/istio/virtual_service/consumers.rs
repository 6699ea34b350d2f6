//! NAMESPACE: a copy of the new version that is shown to some of the namespaces that call.
//!
//! For a sidecar Istio takes the first VirtualService of a host: of those that its own namespace keeps for itself, then
//! of those that are exported to it by name, then of those that are everybody's; among equals the oldest. So a copy
//! that is exported by name takes the place of a public one, whole, for exactly those namespaces. It stands beside the
//! live one, so that short names mean the same, and its list of namespaces is all that a step changes.
//!
//! Where that order would not choose it nobody would be exposed, or somebody else's routes would be replaced: both are
//! refused. Gateways do not choose, they concatenate; so the copy is for sidecars only.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Target, Weight};
use serde_json::{Value, json};

use super::{
    ALL_AT_ONCE, Pair, alternatives, bindings, delegates, differing_fields, metrics_target,
    narrow::{self, CANARY_SERIES, STABLE_SERIES, with_each_match},
    overlap, qualified, routes,
};
use crate::{
    dialect::{
        Phase, Planned, Unsupported, callers as chosen, direct,
        istio::{callers, copy_of, destination_rule::shown_to},
        steps::{Wording, baseline, gone, helper_name, planned, step},
    },
    object::{full_name, is_of, spec},
};

pub(super) fn plan(pair: &Pair<'_>) -> Result<Planned, Unsupported> {
    check(pair)?;
    let names = callers::namespaces(pair.question, |place| has_own(pair, place))?;
    let exposed = |weight| format!("Callers in {}.", chosen::split(&names, weight).0.join(", "));
    let mechanism = Mechanism::Namespace;
    let share = |weight| chosen::nominal_share(weight, names.len());
    let wording = Wording { mechanism, share: &share, exposed: &exposed };
    let facts = chosen::to_facts(&names);
    let has_requests = [pair.stable, pair.canary].iter().all(|spec| !routes(spec, "http").is_empty());
    let [canary, control] = if has_requests { [CANARY_SERIES, STABLE_SERIES] } else { ["", ""] };
    let plan = ExposurePlan {
        mechanism,
        reason: "By the caller's namespace: each caller is governed by exactly one whole version.".to_owned(),
        steps: planned(pair.question, (&[], &facts), &wording, super::render)?,
        not_covered: not_covered(pair),
        alternatives: alternatives(pair, mechanism),
        // The routes of both versions are counted apart, as they are by request ids; but what some namespaces send is no
        // share of the requests that was asked for.
        metrics_target: metrics_target(pair.question, mechanism, canary, control),
    };
    Ok(Planned { facts, ..plan.into() })
}

fn check(pair: &Pair<'_>) -> Result<(), Unsupported> {
    let Pair { question, stable, canary } = *pair;
    let refuse =
        |reason: String, would_work: &str| Err(Unsupported::new(reason, format!("{would_work}, or {ALL_AT_ONCE}")));
    let differing = differing_fields(stable, canary, "http");
    let whom = |name: &&String| ["hosts", "gateways", "exportTo"].contains(&name.as_str());
    if let Some(name) = differing.iter().find(whom) {
        let reason = format!("the versions differ in spec.{name}, which decides for whom they are");
        return refuse(reason, &format!("leave spec.{name} as it is"));
    }
    if delegates::is_delegate(stable) {
        return refuse(
            "the VirtualService is a delegate: callers get it through its root and not by themselves".to_owned(),
            "ask for REQUEST, or release the root",
        );
    }
    if !bindings::is_bound_to_mesh(stable) {
        let reason = "the VirtualService is for gateways only, which merge all VirtualServices of a host";
        return refuse(reason.to_owned(), "ask for REQUEST");
    }
    if shown_to(stable, &question.target.namespace).is_some() {
        return refuse(
            "the VirtualService is shown to namespaces by name (spec.exportTo), and of two that are the older one wins"
                .to_owned(),
            "show it to all (\"*\"), or ask for REQUEST",
        );
    }
    match others(pair).find(|other| shown_to(spec(other), place(other)).is_none()) {
        None => Ok(()),
        Some(other) => refuse(
            format!(
                "VirtualService {} is everybody's too and has a host in common: which of the two a caller uses now \
                 depends on their age, and the copy would take the place of both",
                full_name(other)
            ),
            "put their routes into one",
        ),
    }
}

/// Others with a host in common that sidecars use.
fn others<'a>(pair: &Pair<'a>) -> impl Iterator<Item = &'a Value> {
    let target = pair.question.target;
    let hosts = |spec: &Value, namespace: &str| {
        let names = spec["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|host| qualified(host, namespace)).collect::<Vec<_>>()
    };
    let own = hosts(pair.stable, &target.namespace);
    let has_common = move |other: &Value| {
        let theirs = hosts(spec(other), place(other));
        theirs.iter().any(|host| own.iter().any(|own| overlap(own, host)))
    };
    super::super::neighbours_of(pair.question, &target.kind)
        .filter(move |other| !is_of(other, target) && bindings::is_bound_to_mesh(spec(other)) && has_common(other))
}

fn place(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// Whether another VirtualService governs the callers of a namespace.
fn has_own(pair: &Pair<'_>, namespace: &str) -> bool {
    others(pair).any(|other| shown_to(spec(other), place(other)).is_some_and(|shown| shown.contains(namespace)))
}

fn not_covered(pair: &Pair<'_>) -> Vec<String> {
    let mut sentences = callers::namespaces_not_covered();
    sentences.push(
        "It is taken for granted that a VirtualService without exportTo is everybody's, as a mesh has it unless \
         defaultVirtualServiceExportTo says otherwise."
            .to_owned(),
    );
    if !pair.stable["gateways"].is_null() {
        sentences.push("What comes through gateways is governed by the live version until 100 %.".to_owned());
    }
    sentences.extend(narrow::not_covered(pair.question, pair.stable, pair.canary));
    sentences
}

/// The spec with a series for each of its routes of requests.
pub(super) fn counted(spec: &Value, series: &str) -> Value {
    let mut counted = spec.clone();
    if !routes(spec, "http").is_empty() {
        let with_series = |route| with_each_match(route, |one| one["statPrefix"] = series.into());
        counted["http"] = routes(spec, "http").iter().map(with_series).collect();
    }
    counted
}

fn copy(target: &Target) -> Target {
    Target { name: helper_name(&target.name), ..target.clone() }
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent, stable: &Value, canary: &Value) -> Vec<Phase> {
    let copy = copy(&intent.target);
    if intent.weight == Weight::FULL {
        return [direct::at_the_end(intent), vec![Phase::Objects(vec![gone(&copy)])]].concat();
    }
    let callers = chosen::of_facts(&intent.baseline.facts);
    let (with, _) = chosen::split(&callers, intent.weight);
    if with.is_empty() {
        return vec![Phase::Objects(vec![step(&intent.target, stable.clone()), gone(&copy)])];
    }
    let mut shown = counted(canary, CANARY_SERIES);
    shown["exportTo"] = json!(with);
    if !shown["gateways"].is_null() {
        shown["gateways"] = json!(["mesh"]);
    }
    let live = step(&intent.target, counted(stable, STABLE_SERIES));
    vec![Phase::Objects(vec![live, copy_of(&copy, &intent.canary, shown)])]
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    vec![Phase::Objects(vec![gone(&copy(&intent.target)), baseline(&intent.target)])]
}
