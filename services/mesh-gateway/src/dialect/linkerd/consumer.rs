//! NAMESPACE: a copy of the new version in some of the namespaces that call.
//!
//! Linkerd asks the caller's namespace first, in three different ways:
//!
//! - A **route** there is added to those of the Service's own namespace, and the older one wins a tie. So the copy must
//!   be strictly more specific: it asks for the Service's host names, and a match with any host comes before one without.
//! - A **ServiceProfile** there takes the place of the Service's own, whole.
//! - An **EgressNetwork** there takes the place of all that stand in `linkerd-egress` for everybody.
//!
//! Which namespaces call is not known; those whose pods get a proxy are taken, in an order that differs from object to
//! object, or those that the plan is told ([`callers`]).

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Target, Weight};
use serde_json::Value;

use super::{
    alternatives,
    kind::Kind,
    object::{Parent, helper, kind_of, list, name, namespace, twin_name},
    route,
};
use crate::{
    dialect::{
        Desired, Phase, Planned, Question, Unsupported, Wanted, callers, direct,
        steps::{ALL_AT_ONCE, Wording, approved, baseline, planned, step},
    },
    object::{full_name, metadata_map, spec},
};

/// Where Linkerd looks for networks that are everybody's, as its chart has it.
const EGRESS: &str = "linkerd-egress";
const INJECT: &str = "linkerd.io/inject";

fn refuse<T>(reason: impl Into<String>, would_work: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported::new(reason, would_work))
}

/// The plan.
pub(super) fn plan(question: &Question<'_>, kind: Kind) -> Result<Planned, Unsupported> {
    let Some(stable) = &question.baseline.object else { return Err(super::no_version_yet(question)) };
    match kind {
        Kind::Profile => check_profile(question, stable)?,
        Kind::Egress => check_egress(question)?,
        _ => check_route(question, kind, stable)?,
    }
    let callers = callers(question, kind);
    if callers.is_empty() {
        return refuse(
            format!("no other namespace can be given a copy: none has the annotation {INJECT}, or each has its own"),
            format!("annotate the namespaces of the callers with {INJECT}: enabled, or {ALL_AT_ONCE}"),
        );
    }
    let share = |weight| callers::nominal_share(weight, callers.len());
    let exposed = |weight: Weight| format!("Callers in {}.", callers::split(&callers, weight).0.join(", "));
    let wording = Wording { mechanism: Mechanism::Namespace, share: &share, exposed: &exposed };
    let facts = callers::to_facts(&callers);
    let is_counted = kind.is_route();
    let plan = ExposurePlan {
        mechanism: Mechanism::Namespace,
        reason: "By the caller's namespace: each caller is governed by exactly one whole version.".to_owned(),
        steps: planned(question, (&[], &facts), &wording, render)?,
        not_covered: not_covered(kind, &question.target.namespace),
        alternatives: alternatives::of(kind, Mechanism::Namespace),
        metrics_target: MetricsTarget {
            hosts: super::hosts(question, kind),
            canary_series: if is_counted { twin_name(&question.target.name) } else { String::new() },
            control_series: if is_counted { question.target.name.clone() } else { String::new() },
            ..MetricsTarget::uncounted(question.target.mesh, Mechanism::Namespace, &question.target.cluster)
        },
    };
    Ok(Planned { plan, related: Vec::new(), facts })
}

fn check_route(question: &Question<'_>, kind: Kind, stable: &Value) -> Result<(), Unsupported> {
    for parent in route::outside(kind, question.canary) {
        match parent {
            Parent::Service { namespace, .. } if namespace == question.target.namespace => {}
            Parent::Service { .. } => {
                return refuse(
                    "the route stands in a caller's namespace and serves only that one",
                    format!("ask for WEIGHT or HEADER, or {ALL_AT_ONCE}"),
                );
            }
            _ => return refuse("a caller's own route is one of a Service", ALL_AT_ONCE),
        }
    }
    if let Some(host) = route::first_hostname(stable).or_else(|| route::first_hostname(question.canary)) {
        return refuse(
            format!(
                "the route asks for the host {host:?} already, so a copy would be no more specific, and the older one wins"
            ),
            format!("leave hostnames out of both versions, ask for WEIGHT or HEADER, or {ALL_AT_ONCE}"),
        );
    }
    route::check_beside(question, kind, stable)?;
    let rules = list(spec(question.canary), "rules");
    match route::uncovered(kind, spec(stable), spec(question.canary)) {
        Some(missing) if !rules.iter().any(route::is_catch_all) => refuse(
            format!(
                "the new version does not match {missing}, which the live one does: such requests would stay stable"
            ),
            format!("keep the match, or add a rule for every path, or {ALL_AT_ONCE}"),
        ),
        _ => Ok(()),
    }
}

fn check_profile(question: &Question<'_>, stable: &Value) -> Result<(), Unsupported> {
    let target = question.target;
    let within = target.name.split('.').nth(1).unwrap_or_default();
    if within != target.namespace {
        return refuse(
            format!("the profile stands in a caller's namespace ({}) and serves only that one", target.namespace),
            ALL_AT_ONCE,
        );
    }
    let (before, after) = (route::is_empty_profile(spec(stable)), route::is_empty_profile(spec(question.canary)));
    if before != after {
        return refuse(
            "one version says where requests go (routes, dstOverrides) and the other does not: a proxy chooses between \
             the profile and the routes of the Service when it first calls, and busy ones would not see the change",
            format!("keep at least one route in both versions, or {ALL_AT_ONCE} and restart the callers"),
        );
    }
    Ok(())
}

fn check_egress(question: &Question<'_>) -> Result<(), Unsupported> {
    if question.target.namespace != EGRESS {
        return refuse(format!("the network is one of the namespace {} alone", question.target.namespace), ALL_AT_ONCE);
    }
    let others = question.neighbours.iter().filter(|other| !crate::object::is_of(other, question.target));
    let mut globals = others.filter(|other| kind_of(other) == Some(Kind::Egress) && namespace(other) == EGRESS);
    if let Some(other) = globals.next() {
        return refuse(
            format!(
                "EgressNetwork {} is everybody's too, and a namespace with a network of its own has none of those",
                full_name(other)
            ),
            format!("write both as one EgressNetwork, or {ALL_AT_ONCE}"),
        );
    }
    let is_on_it = |route: &&Value| {
        let Some(kind) = kind_of(route).filter(|kind| kind.is_route()) else { return false };
        let is_it = |parent: &Parent| {
            matches!(parent, Parent::Egress { namespace, name, .. }
                                               if namespace == EGRESS && *name == question.target.name)
        };
        route::outside(kind, route).iter().any(is_it)
    };
    match question.neighbours.iter().find(is_on_it) {
        Some(route) => refuse(
            format!("the route {} has it as its parent, and would not be one of the copies", full_name(route)),
            ALL_AT_ONCE,
        ),
        None => Ok(()),
    }
}

/// The namespaces that can be given a copy, in the order in which they are.
fn callers(question: &Question<'_>, kind: Kind) -> Vec<String> {
    let target = question.target;
    let is_meshed = |one: &&Value| {
        let inject = metadata_map(one, "annotations").and_then(|map| map.get(INJECT)?.as_str());
        matches!(inject, Some("enabled" | "ingress"))
    };
    let has_own = |caller: &str| {
        question.neighbours.iter().any(|other| {
            let is_kind = kind_of(other) == Some(kind) && namespace(other) == caller;
            let copy = copy_name(kind, target);
            is_kind && (kind == Kind::Egress || name(other) == copy)
        })
    };
    let is_other = |name: &String| *name != target.namespace && !has_own(name);
    if !question.audience.namespaces.is_empty() {
        return question.audience.namespaces.iter().filter(|name| is_other(name)).cloned().collect();
    }
    let namespaces = question.neighbours.iter().filter(|one| one["kind"] == "Namespace" && one["apiVersion"] == "v1");
    let names = namespaces.filter(is_meshed).map(|one| name(one).to_owned());
    let mut names: Vec<_> = names.filter(is_other).collect();
    callers::shuffle(&mut names, target);
    names
}

/// A route's copy has its own name, so that it is counted apart; the others are known by their names.
fn copy_name(kind: Kind, target: &Target) -> String {
    if kind.is_route() { twin_name(&target.name) } else { target.name.clone() }
}

fn not_covered(kind: Kind, own: &str) -> Vec<String> {
    let mut sentences = vec![
        "The share is one of namespaces, whatever they call.".to_owned(),
        format!("Callers in {own} itself, without a proxy, or in namespaces made later are stable until 100 %."),
    ];
    match kind {
        Kind::Profile => {
            sentences
                .push("The profile takes the place of all HTTPRoutes of its Service, as the live one does.".to_owned());
            sentences.push("It cannot be judged by route: a profile's requests are not counted by version.".to_owned());
        }
        Kind::Egress => sentences.push("It cannot be judged: both versions have one name.".to_owned()),
        _ => sentences.push(
            "Requests under another host than the Service's names (an address, an alias) are stable until 100 %."
                .to_owned(),
        ),
    }
    sentences
}

/// The object in a caller's namespace.
fn copy(kind: Kind, target: &Target, canary: &Value, caller: &str) -> (Target, Value) {
    let copy = Target { namespace: caller.to_owned(), name: copy_name(kind, target), ..target.clone() };
    let mut spec = spec(canary).clone();
    if kind.is_route() {
        make_consumer(kind, &mut spec, canary);
    }
    let object = helper(&copy, canary, spec);
    (copy, object)
}

/// Names the namespaces that were left out, and the hosts. A destination without a namespace is looked for in two
/// places: the proxies' policy looks in the parent's namespace, the status in the route's.
fn make_consumer(kind: Kind, spec: &mut Value, canary: &Value) {
    let own = namespace(canary);
    let name_it = |reference: &mut Value| {
        if reference["namespace"].is_null() {
            reference["namespace"] = own.into();
        }
    };
    spec["parentRefs"].as_array_mut().into_iter().flatten().for_each(name_it);
    for rule in spec["rules"].as_array_mut().into_iter().flatten() {
        rule["backendRefs"].as_array_mut().into_iter().flatten().for_each(name_it);
        if rule["backendRefs"].is_null()
            && let Some(fields) = rule.as_object_mut()
        {
            fields.remove("backendRefs");
        }
    }
    let hosts = route::hosts(kind, canary);
    let parts = hosts.iter().flat_map(|host| {
        let ends = ["", ".svc", ".svc.cluster.local"];
        let short = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
        let first = short.split('.').next().unwrap_or(short).to_owned();
        std::iter::once(first).chain(ends.map(|end| format!("{short}{end}")))
    });
    spec["hostnames"] = parts.collect();
}

/// The copies of these namespaces, or that they are gone.
fn copies(intent: &ExposureIntent, kind: Kind, callers: &[String], there: bool) -> Vec<Desired> {
    let one = |caller: &String| {
        let (target, object) = copy(kind, &intent.target, &intent.canary, caller);
        Desired { target, wanted: if there { Wanted::Helper(object) } else { Wanted::Gone } }
    };
    callers.iter().map(one).collect()
}

/// The phases of a step: the object as it is, which holds late writers back, and the copies.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let (Some(stable), Some(kind)) = (&intent.baseline.object, Kind::of_target(&intent.target)) else {
        return Err(direct::only_full());
    };
    let callers = callers::of_facts(&intent.baseline.facts);
    if intent.weight == Weight::FULL {
        let approved = approved(&intent.target, &intent.canary);
        return Ok(vec![Phase::Objects(vec![approved]), Phase::Objects(copies(intent, kind, &callers, false))]);
    }
    let (with, without) = callers::split(&callers, intent.weight);
    let mut objects = vec![step(&intent.target, spec(stable).clone())];
    objects.extend(copies(intent, kind, with, true));
    objects.extend(copies(intent, kind, without, false));
    Ok(vec![Phase::Objects(objects)])
}

/// The way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let kind = Kind::of_target(&intent.target);
    let callers = callers::of_facts(&intent.baseline.facts);
    let mut objects = kind.map_or_else(Vec::new, |kind| copies(intent, kind, &callers, false));
    objects.push(baseline(&intent.target));
    vec![Phase::Objects(objects)]
}
