//! DestinationRule: by twin subsets, to which a share of the requests is sent.
//!
//! One host has one policy, so a share of its requests cannot be given another one in place. But a subset without
//! labels has all endpoints of the host, and its own policy. So while a deployment lasts the rule holds both versions:
//! version 1 as it stands, and version 2 as the policy of a subset `canary` (and of a `-canary` twin for each subset);
//! and the VirtualService of the host sends the requests of a cohort of ids to the twins. See [`policy`] for how a twin
//! says exactly what version 2 says, [`routes`] for the requests, [`around`] for whom that could harm.
//!
//! A subset must be live before anything is sent to it, and nothing may be sent to it any more before it goes: a
//! request that meets a missing one is lost. So a step has the rule as its first phase and the routes as its second,
//! and the way back has them the other way round. At the end the rule first becomes version 2 with the twins still
//! there, then the routes go back to what they were, and then the twins go.
//!
//! A rule that does not exist yet, or shall be gone, is a version without any policy.
//!
//! Where callers shall be chosen and not requests, a copy with version 2 is given to some of them: see [`callers`] for
//! pods and [`consumers`] for namespaces.

mod around;
mod callers;
mod consumers;
mod copies;
mod policy;
mod routes;
mod virtual_services;
mod words;

use std::collections::BTreeSet;

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, RelatedBaseline, Target, Weight};
use serde_json::{Value, json};

use super::{
    cohort::Cohort,
    differing_fields, placed,
    virtual_service::{self, CANARY_SERIES, STABLE_SERIES, qualified},
};
use crate::{
    dialect::{
        Desired, Need, Neighbours, Phase, Planned, Question, Unsupported, Wanted,
        steps::{ALL_AT_ONCE, Wording, approved, baseline, planned, step, with_spec},
    },
    object,
};
pub(super) use around::takes_requests;
use policy::Names;
use routes::Way;
use virtual_services::Ways;

/// What a rule says for a subset (empty: for the host without one) on a port, part by part, once Istio has merged it.
pub(crate) fn effective_policy(spec: &Value, subset: &str, port: u64) -> serde_json::Map<String, Value> {
    let own = policy::subsets(spec).iter().find(|known| known["name"] == *subset).unwrap_or(&Value::Null);
    policy::effective(&spec["trafficPolicy"], &own["trafficPolicy"], port)
}

/// What a plan is about.
struct Rule<'a> {
    target: &'a Target,
    /// Fully qualified.
    host: &'a str,
    stable: &'a Value,
    canary: &'a Value,
    neighbours: Neighbours<'a>,
    /// Neither version is that the rule does not exist.
    is_there_before_and_after: bool,
}

/// The objects that a plan must know.
pub(super) fn needs(question: &Question<'_>) -> Vec<Need> {
    let target = question.target;
    let mut needs = vec![
        Need::all(&target.api_version, "VirtualService"),
        Need::all(&target.api_version, "DestinationRule"),
        Need::within(&target.api_version, "ServiceEntry", &target.namespace),
    ];
    match question.wanted {
        Some(Mechanism::Instance) => needs.push(super::callers::pods_needed(question)),
        Some(Mechanism::Namespace) => needs.extend(super::callers::namespaces_needed(question)),
        _ => needs.push(Need::within("v1", "Service", &target.namespace)),
    }
    needs
}

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    match question.wanted {
        Some(Mechanism::Instance) => callers::plan(question),
        Some(Mechanism::Namespace) => consumers::plan(question),
        _ => by_subsets(question),
    }
}

fn by_subsets(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let before = question.baseline.object.as_ref();
    let (stable, canary) = versions(before, question.canary);
    if question.canary.is_null() && before.is_none() {
        return Err(Unsupported::new(format!("{} does not exist and shall be gone", question.target), "do nothing"));
    }
    let host = check_same_callers(&stable, &canary, &question.target.namespace)?;
    check_routable(&host)?;
    let rule = Rule {
        target: question.target,
        host: &host,
        stable: &stable,
        canary: &canary,
        neighbours: question.neighbours,
        is_there_before_and_after: before.is_some() && !question.canary.is_null(),
    };
    around::check_rules(&rule)?;
    let ports = around::ports(&rule)?;
    let ways = virtual_services::ways(&rule, &ports)?;
    let numbers: Vec<_> = ports.iter().map(|port| port.number).collect();
    let exposed = policy::exposed(&stable, &canary, &numbers)?;
    let facts = json!({"ports": numbers, "helper": ways.helper});
    let related = related(&rule, &ways);
    let share = |weight| Cohort::of(weight).nominal_share();
    let (canary_clusters, control_clusters) = policy::clusters(&stable, &canary, rule.host);
    let wording = Wording { mechanism: Mechanism::Subset, share: &share, exposed: &words::exposed };
    let plan = ExposurePlan {
        mechanism: Mechanism::Subset,
        reason:
            "By twin subsets that say what the new version says, chosen by request id: each request is governed by \
                 exactly one version, and one id always by the same."
                .to_owned(),
        steps: planned(question, (&related, &facts), &wording, render)?,
        not_covered: words::not_covered(&rule, &exposed, &ways),
        alternatives: words::alternatives(Mechanism::Subset),
        metrics_target: MetricsTarget {
            hosts: measured_hosts(&rule, &ways),
            canary_series: CANARY_SERIES.to_owned(),
            control_series: STABLE_SERIES.to_owned(),
            canary_clusters,
            control_clusters,
            ..MetricsTarget::uncounted(question.target.mesh, Mechanism::Subset, &question.target.cluster)
        },
    };
    Ok(Planned { plan, related, facts })
}

/// The specs of both versions; one that does not exist is a rule for the host that says nothing.
fn versions(before: Option<&Value>, canary: &Value) -> (Value, Value) {
    let (stable, canary) = (before.map_or(&Value::Null, object::spec), object::spec(canary));
    let nothing = |other: &Value| {
        let fields = ["host", "exportTo"].into_iter().filter(|field| !other[*field].is_null());
        fields.map(|field| (field.to_owned(), other[field].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    match (stable.is_null(), canary.is_null()) {
        (true, _) => (nothing(canary), canary.clone()),
        (_, true) => (stable.clone(), nothing(stable)),
        _ => (stable.clone(), canary.clone()),
    }
}

/// Only the policy and the subsets may differ. The host, fully qualified.
fn check_same_callers(stable: &Value, canary: &Value, namespace: &str) -> Result<String, Unsupported> {
    let host = |spec: &Value| qualified(spec["host"].as_str().unwrap_or_default(), namespace);
    let (before, after) = (host(stable), host(canary));
    let differing = differing_fields(stable, canary, "trafficPolicy");
    let is_same_host = |name: &str| name == "host" && before == after;
    let others = differing.iter().filter(|name| *name != "subsets" && !is_same_host(name));
    let names: Vec<_> = others.map(|name| format!("spec.{name}")).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        return Err(Unsupported::new(
            format!("the versions differ in {names}, which decides for whom the rule is, and a subset is for the same"),
            format!("leave {names} as it is, or {ALL_AT_ONCE}"),
        ));
    }
    if !stable["workloadSelector"].is_null() {
        return Err(Unsupported::new(
            "the rule is for selected callers only (spec.workloadSelector), and what is beside it or routed to a subset \
             of it is for others as well",
            ALL_AT_ONCE,
        ));
    }
    Ok(before)
}

fn check_routable(host: &str) -> Result<(), Unsupported> {
    if !host.contains('*') {
        return Ok(());
    }
    Err(Unsupported::new(
        format!("{host} stands for many hosts, and no route can be sent to a subset of those"),
        format!("write a rule for one host, ask for INSTANCE or NAMESPACE, or {ALL_AT_ONCE}"),
    ))
}

/// The namespaces that an object is shown to; `None` = all.
pub(super) fn shown_to(spec: &Value, namespace: &str) -> Option<BTreeSet<String>> {
    let names: Vec<_> = spec["exportTo"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() || names.contains(&"*") {
        return None;
    }
    Some(names.into_iter().map(|name| if name == "." { namespace } else { name }.to_owned()).collect())
}

/// The VirtualServices that are changed, and the one that is made.
fn related(rule: &Rule<'_>, ways: &Ways<'_>) -> Vec<RelatedBaseline> {
    let edited = ways.edited.iter().map(|object| RelatedBaseline {
        target: virtual_services::target(rule, object),
        object: Some((*object).clone()),
    });
    let helper = ways.helper.iter().map(|_| RelatedBaseline {
        target: Target {
            kind: "VirtualService".to_owned(),
            name: format!("{}-meshward-canary", rule.target.name),
            ..rule.target.clone()
        },
        object: None,
    });
    edited.chain(helper).collect()
}

/// The hosts by whose routes requests are counted.
fn measured_hosts(rule: &Rule<'_>, ways: &Ways<'_>) -> Vec<String> {
    let edited = ways.edited.iter().flat_map(|object| {
        let target = virtual_services::target(rule, object);
        virtual_service::hosts(&target, object)
    });
    let helper = ways.helper.iter().map(|_| rule.host.to_owned());
    edited.chain(helper).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    match intent.mechanism {
        Mechanism::Instance => return callers::render(intent),
        Mechanism::Namespace => return consumers::render(intent),
        _ => {}
    }
    let (stable, canary) = versions(intent.baseline.object.as_ref(), &intent.canary);
    let at_baseline = || Phase::Objects(intent.baseline.related.iter().map(put_back).collect());
    Ok(match intent.weight {
        Weight::ZERO => {
            let unexposed = |related: &RelatedBaseline| match &related.object {
                Some(object) => step(&related.target, object::spec(object).clone()),
                None => put_back(related),
            };
            let routes = intent.baseline.related.iter().map(unexposed).collect();
            vec![Phase::Objects(routes), Phase::Objects(vec![unexposed_rule(intent)])]
        }
        Weight::FULL => vec![
            Phase::Objects(vec![held(intent, policy::promoted(&stable, &canary))]),
            at_baseline(),
            Phase::Objects(vec![approved(&intent.target, &intent.canary)]),
        ],
        _ => {
            let rule = policy::exposed(&stable, &canary, &ports(intent))?;
            vec![
                Phase::Objects(vec![held(intent, rule)]),
                Phase::Objects(intent.baseline.related.iter().map(|related| split(intent, related)).collect()),
            ]
        }
    })
}

/// The phases of the way back: from every step, and also when the last one is half done, nothing is taken away that
/// is still referred to.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    match intent.mechanism {
        Mechanism::Instance => return callers::undo(intent),
        Mechanism::Namespace => return placed::undo(intent),
        _ => {}
    }
    let routes = intent.baseline.related.iter().map(put_back).collect();
    vec![Phase::Objects(routes), Phase::Objects(vec![baseline(&intent.target)])]
}

/// What proxies may still have, besides what was before and comes at the end: the rule with twins, or the routes of a
/// host that is given a VirtualService.
pub(super) fn older(intent: &ExposureIntent, target: &Target) -> Vec<Value> {
    if !intent.is_about(target) {
        let helper = &intent.baseline.facts["helper"];
        return if intent.before(target).is_none() { vec![helper.clone()] } else { Vec::new() };
    }
    let (stable, canary) = versions(intent.baseline.object.as_ref(), &intent.canary);
    let with_twins = policy::promoted(&stable, &canary);
    policy::exposed(&stable, &canary, &ports(intent)).into_iter().chain([with_twins]).collect()
}

fn ports(intent: &ExposureIntent) -> Vec<u64> {
    intent.baseline.facts["ports"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// The rule while the deployment has it. One that was not there before is a helper until the end.
fn held(intent: &ExposureIntent, spec: Value) -> Desired {
    match intent.baseline.object {
        Some(_) => step(&intent.target, spec),
        None => Desired { target: intent.target.clone(), wanted: Wanted::Helper(with_spec(&intent.target, spec)) },
    }
}

fn unexposed_rule(intent: &ExposureIntent) -> Desired {
    match &intent.baseline.object {
        Some(object) => step(&intent.target, object::spec(object).clone()),
        None => Desired { target: intent.target.clone(), wanted: Wanted::Gone },
    }
}

fn put_back(related: &RelatedBaseline) -> Desired {
    match related.object {
        Some(_) => baseline(&related.target),
        None => Desired { target: related.target.clone(), wanted: Wanted::Gone },
    }
}

fn split(intent: &ExposureIntent, related: &RelatedBaseline) -> Desired {
    let (stable, canary) = versions(intent.baseline.object.as_ref(), &intent.canary);
    let host = qualified(stable["host"].as_str().unwrap_or_default(), &intent.target.namespace);
    let way = Way { host: &host, namespace: &related.target.namespace };
    let names = Names::new(&stable, &canary);
    match &related.object {
        Some(object) => step(&related.target, way.split(object::spec(object), &names, intent.weight)),
        None => {
            let spec = way.split(&intent.baseline.facts["helper"], &names, intent.weight);
            Desired { target: related.target.clone(), wanted: Wanted::Helper(with_spec(&related.target, spec)) }
        }
    }
}

#[cfg(test)]
mod tests;
