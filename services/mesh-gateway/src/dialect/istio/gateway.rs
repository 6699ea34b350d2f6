//! Gateway: pod by pod of the gateway.
//!
//! Which pods a Gateway is for its selector says. So the pods are divided by a label of the rollout's own, the live
//! Gateway is narrowed to the stable ones, and a second one with the new version is for the canaries. But a
//! VirtualService is bound to a Gateway by its *name*: pods with a second one would answer 404 to every host that is
//! bound to the first alone. So each VirtualService that names the live one names the second as well, before a pod is a
//! canary and until the second one is gone.
//!
//! | phase of a step | what is written |
//! |---|---|
//! | 0 | the label of the stable ones, on all pods |
//! | 1 | the live Gateway for the stable pods; the VirtualServices with both names, also in matches that list gateways; the second Gateway |
//! | 2 | the label of the canaries |
//!
//! At the end the live one becomes the approved version for all pods. A pod that has both for a moment serves what both
//! say, since Istio merges the servers of a pod. The way back begins with the labels.

mod checks;

use std::collections::BTreeMap;

use meshward_model::{
    Alternative, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, RelatedBaseline, Target, Weight,
};
use serde_json::{Value, json};

use super::{copy_of, neighbours_of};
use crate::{
    cohorts::nominal_share,
    dialect::{
        CANARY, Desired, Need, Phase, Planned, PodCohorts, Question, STABLE, Unsupported,
        steps::{Wording, approved, baseline, cohort_key, gone, helper_name, planned, step},
    },
    object::{self, spec},
};

/// Where a VirtualService has routes, and each of those its matches.
const PROTOCOLS: [&str; 3] = ["http", "tcp", "tls"];

/// The objects that a plan must know: the pods of the gateway may be anywhere.
pub(super) fn needs(question: &Question<'_>) -> Vec<Need> {
    let api_version = &question.target.api_version;
    vec![Need::all("v1", "Pod"), Need::all(api_version, "VirtualService"), Need::all(api_version, "Gateway")]
}

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let count = checks::check(question)?;
    let related = bound(question);
    let key = cohort_key(question.target);
    let exposed = |weight| {
        let share = nominal_share(weight, count);
        format!("The gateway's pods with the label {key}={CANARY}: {share} of the {count} that there are now.")
    };
    let mechanism = Mechanism::Instance;
    let wording = Wording { mechanism, share: &|weight| nominal_share(weight, count), exposed: &exposed };
    let plan = ExposurePlan {
        mechanism,
        reason: "By pods of the gateway: each of them has exactly one version.".to_owned(),
        steps: planned(question, (&related, &Value::Null), &wording, render)?,
        not_covered: not_covered(&related),
        alternatives: alternatives(),
        metrics_target: MetricsTarget::uncounted(question.target.mesh, mechanism, &question.target.cluster),
    };
    Ok(Planned { related, ..plan.into() })
}

/// The labels of the gateway's pods.
pub(super) fn labels(spec: &Value) -> BTreeMap<String, String> {
    let labels = spec["selector"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The VirtualServices that name the Gateway.
fn bound(question: &Question<'_>) -> Vec<RelatedBaseline> {
    let names = |object: &&Value| {
        let place = object["metadata"]["namespace"].as_str().unwrap_or_default();
        with_second(spec(object), place, question.target) != *spec(object)
    };
    let related = |object: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let target = Target {
            api_version: text(&object["apiVersion"]),
            kind: "VirtualService".to_owned(),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            ..question.target.clone()
        };
        RelatedBaseline { target, object: Some(object.clone()) }
    };
    neighbours_of(question, "VirtualService").filter(names).map(related).collect()
}

/// A VirtualService with the second Gateway wherever it names the first.
fn with_second(routes: &Value, place: &str, gateway: &Target) -> Value {
    let mut spec = routes.clone();
    add_second(&mut spec, place, gateway);
    for protocol in PROTOCOLS {
        for route in spec.get_mut(protocol).and_then(Value::as_array_mut).into_iter().flatten() {
            for one in route.get_mut("match").and_then(Value::as_array_mut).into_iter().flatten() {
                add_second(one, place, gateway);
            }
        }
    }
    spec
}

fn add_second(of: &mut Value, place: &str, gateway: &Target) {
    let Some(names) = of.get_mut("gateways").and_then(Value::as_array_mut) else { return };
    let (full, second) = (format!("{}/{}", gateway.namespace, gateway.name), helper_name(&gateway.name));
    let is_it = |name: &Value| name == &full || place == gateway.namespace && name == &gateway.name;
    if names.iter().any(is_it) {
        names.push(json!(format!("{}/{second}", gateway.namespace)));
    }
}

fn narrowed(spec: &Value, key: &str, cohort: &str) -> Value {
    let mut spec = spec.clone();
    spec["selector"][key] = cohort.into();
    spec
}

fn second(target: &Target) -> Target {
    Target { name: helper_name(&target.name), ..target.clone() }
}

/// The pods, divided; `None` = the label is taken away.
fn cohorts(intent: &ExposureIntent, share: Option<Weight>) -> PodCohorts {
    PodCohorts {
        namespace: intent.target.namespace.clone(),
        labels: labels(intent.baseline.object.as_ref().map_or(&Value::Null, object::spec)),
        key: cohort_key(&intent.target),
        share,
        label_stable: true,
    }
}

/// The pods whose labels decide, at every step.
pub(super) fn divided(intent: &ExposureIntent) -> PodCohorts {
    cohorts(intent, Some(intent.weight))
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(stable) = &intent.baseline.object else { return Err(crate::dialect::direct::only_full()) };
    if intent.weight == Weight::FULL {
        let first = vec![Phase::Objects(vec![approved(&intent.target, &intent.canary)])];
        return Ok([first, clean_up(intent)].concat());
    }
    let (target, key) = (&intent.target, cohort_key(&intent.target));
    let live = step(target, narrowed(object::spec(stable), &key, STABLE));
    let routes = intent.baseline.related.iter().filter_map(|related| both_named(intent, related));
    let canary = narrowed(object::spec(&intent.canary), &key, CANARY);
    let second = copy_of(&second(target), &intent.canary, canary);
    Ok(vec![
        Phase::Pods(cohorts(intent, Some(Weight::ZERO))),
        Phase::Objects(std::iter::once(live).chain(routes).chain([second]).collect()),
        Phase::Pods(cohorts(intent, Some(intent.weight))),
    ])
}

fn both_named(intent: &ExposureIntent, related: &RelatedBaseline) -> Option<Desired> {
    let live = related.object.as_ref()?;
    Some(step(&related.target, with_second(spec(live), &related.target.namespace, &intent.target)))
}

/// What is left to do once all pods have one version.
fn clean_up(intent: &ExposureIntent) -> Vec<Phase> {
    let mut phases = vec![Phase::Objects(vec![gone(&second(&intent.target))])];
    if !intent.baseline.related.is_empty() {
        phases.push(Phase::Objects(intent.baseline.related.iter().map(|related| baseline(&related.target)).collect()));
    }
    phases.push(Phase::Pods(cohorts(intent, None)));
    phases
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let back = vec![Phase::Pods(cohorts(intent, Some(Weight::ZERO))), Phase::Objects(vec![baseline(&intent.target)])];
    [back, clean_up(intent)].concat()
}

fn not_covered(related: &[RelatedBaseline]) -> Vec<String> {
    let mut sentences = vec![
        "The share is one of the gateway's pods: which of them a client reaches, the load balancer decides.".to_owned(),
        "It cannot be judged by series of its own: compare the pods' metrics.".to_owned(),
        "A VirtualService that is bound to the Gateway meanwhile is not served by the canaries.".to_owned(),
        "A pod that is not Ready follows when it is: istiod does not look at its labels before.".to_owned(),
    ];
    if !related.is_empty() {
        let names: Vec<_> = related.iter().map(|one| format!("{}/{}", one.target.namespace, one.target.name)).collect();
        sentences.push(format!("Until the end VirtualService {} is changed as well.", names.join(", ")));
    }
    sentences
}

fn alternatives() -> Vec<Alternative> {
    let fixed = [
        (Mechanism::Request, "A listener is there for all requests or for none."),
        (Mechanism::Weight, "Is for destinations."),
        (Mechanism::Subset, "Is for DestinationRule."),
        (Mechanism::Namespace, "A Gateway governs pods, wherever its callers are."),
        (Mechanism::Header, "A listener is there before any header is."),
        (Mechanism::Shadow, "Istio has no dry run of listeners."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    fixed.map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() }).to_vec()
}

#[cfg(test)]
mod tests;
