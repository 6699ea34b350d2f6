//! VirtualService: by request ids where it can be, by blended destination weights where it must be.
//!
//! Both mechanisms change the one object in place. A second VirtualService for the same host would not do: sidecars let
//! the older one win whole, and gateways concatenate the routes of both.

mod bindings;
mod delegates;
mod request;
pub(super) mod weight;

use meshward_model::{Alternative, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Target, Weight};
use serde_json::{Value, json};

use super::{cohort::Cohort, differing_fields};
pub(super) use bindings::{check_shared_hosts as check_gateways, is_bound_to_mesh as bound_to_mesh, overlap};
pub(super) use request::{CANARY_SERIES, STABLE_SERIES, check_route as check_ids, narrow};

use crate::{
    dialect::{
        Phase, Planned, Question, Unsupported, direct,
        steps::{ALL_AT_ONCE, Wording, planned, step},
    },
    object,
};

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let Some(baseline) = &question.baseline.object else {
        return Err(Unsupported::new(
            format!("{} does not exist, so there is no version to share the traffic with", question.target),
            "create it all at once (mechanism NONE, 100 %)",
        ));
    };
    let (stable, canary) = (object::spec(baseline), object::spec(question.canary));
    let request = request::check(stable, canary)
        .and_then(|()| delegates::check(question, stable, canary))
        .and_then(|()| check_shared_hosts(question, canary));
    let weight = weight::check(stable, canary);
    match question.wanted {
        None | Some(Mechanism::Request) if request.is_ok() => by_request(question, stable, canary, weight.err()),
        None | Some(Mechanism::Weight) if weight.is_ok() => by_weight(question, stable, canary, request.err()),
        Some(Mechanism::Weight) => Err(refused(weight)),
        _ => Err(refused(request)),
    }
}

/// The hosts whose requests the object governs; those of a delegate are its roots'.
fn governed(question: &Question<'_>) -> Vec<String> {
    if !delegates::is_delegate(object::spec(question.canary)) {
        return hosts(question.target, question.canary);
    }
    let of = |root: &Value| hosts(&target_of(question, root), root);
    let mut all: Vec<_> = delegates::roots(question).into_iter().flat_map(of).collect();
    all.sort();
    all.dedup();
    all
}

fn target_of(question: &Question<'_>, other: &Value) -> Target {
    let text = |field: &str| other["metadata"][field].as_str().unwrap_or_default().to_owned();
    Target { namespace: text("namespace"), name: text("name"), ..question.target.clone() }
}

/// Generated routes name the root that they come from and not the delegate.
fn facts(question: &Question<'_>) -> Value {
    if !delegates::is_delegate(object::spec(question.canary)) {
        return Value::Null;
    }
    let roots = delegates::roots(question).into_iter().map(|root| {
        let target = target_of(question, root);
        json!({"namespace": target.namespace, "name": target.name})
    });
    json!({"roots": roots.collect::<Vec<_>>()})
}

/// The objects that a delegate's routes are generated from.
pub(super) fn through(intent: &ExposureIntent) -> Vec<Target> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let root = |root: &Value| Target {
        namespace: text(&root["namespace"]),
        name: text(&root["name"]),
        ..intent.target.clone()
    };
    intent.baseline.facts["roots"].as_array().into_iter().flatten().map(root).collect()
}

/// The hosts of a delegate are those of its roots.
fn check_shared_hosts(question: &Question<'_>, canary: &Value) -> Result<(), Unsupported> {
    bindings::check_shared_hosts(question.target, canary, question.neighbours)?;
    let roots = if delegates::is_delegate(canary) { delegates::roots(question) } else { Vec::new() };
    let check = |root: &Value| {
        bindings::check_shared_hosts(&target_of(question, root), object::spec(root), question.neighbours)
    };
    roots.into_iter().try_for_each(check)
}

fn refused(check: Result<(), Unsupported>) -> Unsupported {
    check.err().unwrap_or_else(|| Unsupported::new("it is refused", ALL_AT_ONCE))
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    if intent.weight == Weight::FULL {
        return Ok(direct::at_the_end(intent));
    }
    let Some(baseline) = &intent.baseline.object else { return Err(direct::only_full()) };
    let (stable, canary) = (object::spec(baseline), object::spec(&intent.canary));
    let spec = match (intent.weight, intent.mechanism) {
        (Weight::ZERO, _) => stable.clone(),
        (_, Mechanism::Weight) => weight::blend(stable, canary, intent.weight),
        _ => request::compose(stable, canary, Cohort::of(intent.weight)),
    };
    Ok(vec![Phase::Objects(vec![step(&intent.target, spec)])])
}

fn by_request(
    question: &Question<'_>,
    stable: &Value,
    canary: &Value,
    weight: Option<Unsupported>,
) -> Result<Planned, Unsupported> {
    let exposed = |weight: Weight| {
        let cohort = Cohort::of(weight);
        let regex = cohort.regex().unwrap_or_default();
        format!("Requests whose x-request-id matches {regex}: {} of random ids.", cohort.nominal_share())
    };
    let mechanism = Mechanism::Request;
    let not_weight = match weight {
        None => "Would do, but is not sticky: two requests with one id can get different versions.".to_owned(),
        Some(unsupported) => sentence(&unsupported.reason),
    };
    let share = |weight| Cohort::of(weight).nominal_share();
    let wording = Wording { mechanism, share: &share, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism,
        reason: "By request id: each request is governed by exactly one whole version, and one id always by the same."
            .to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered: request::not_covered(question, stable, canary),
        alternatives: alternatives(Mechanism::Weight, not_weight),
        metrics_target: metrics_target(question, mechanism, request::CANARY_SERIES, request::STABLE_SERIES),
    };
    Ok(Planned { facts: facts(question), ..plan.into() })
}

fn by_weight(
    question: &Question<'_>,
    stable: &Value,
    canary: &Value,
    request: Option<Unsupported>,
) -> Result<Planned, Unsupported> {
    let exposed = |weight: Weight| format!("Each request or connection, drawn anew, with a probability of {weight}.");
    let mechanism = Mechanism::Weight;
    let not_request = match request {
        None => "Would do and is better: sticky, and measured apart. WEIGHT was asked for.".to_owned(),
        Some(unsupported) => sentence(&unsupported.reason),
    };
    let wording = Wording { mechanism, share: &|weight| weight, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism,
        reason: "By blended weights: the versions differ only in where their routes send and how much.".to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered: weight::not_covered(stable, canary),
        alternatives: alternatives(Mechanism::Request, not_request),
        // Both versions share their routes, so Envoy's route statistics cannot tell them apart.
        metrics_target: metrics_target(question, mechanism, "", ""),
    };
    Ok(Planned { facts: facts(question), ..plan.into() })
}

fn metrics_target(question: &Question<'_>, mechanism: Mechanism, canary: &str, control: &str) -> MetricsTarget {
    MetricsTarget {
        mesh: question.target.mesh,
        mechanism,
        cluster: question.target.cluster.clone(),
        hosts: governed(question),
        canary_series: canary.to_owned(),
        control_series: control.to_owned(),
        cohort_label: String::new(),
    }
}

fn alternatives(other: Mechanism, reason: String) -> Vec<Alternative> {
    let fixed = [
        (Mechanism::Instance, "sourceLabels are ignored in a match that lists gateways; not built yet."),
        (Mechanism::Namespace, "An exportTo copy serves whole consumer namespaces, not a share; not built yet."),
        (Mechanism::Header, "A header chooses who, not how many; not built yet."),
        (Mechanism::Subset, "Is for DestinationRule."),
        (Mechanism::Shadow, "Istio has no dry run of routes."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    let fixed = fixed.into_iter().map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() });
    std::iter::once(Alternative { mechanism: other, reason }).chain(fixed).collect()
}

fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// The hosts of an object, fully qualified as Istio does it: a name without a dot belongs to the object's namespace.
pub(super) fn hosts(target: &Target, object: &Value) -> Vec<String> {
    let names = object["spec"]["hosts"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
    names.map(|host| qualified(host, &target.namespace)).collect()
}

/// A host as Istio understands it in an object of this namespace.
pub(crate) fn qualified(host: &str, namespace: &str) -> String {
    if host == "*" || host.contains('.') { host.to_owned() } else { format!("{host}.{namespace}.svc.cluster.local") }
}

fn matches(route: &Value) -> &[Value] {
    route["match"].as_array().map_or(&[], Vec::as_slice)
}

/// The routes of one protocol ("http", "tcp" or "tls").
pub(super) fn routes<'a>(spec: &'a Value, protocol: &str) -> &'a [Value] {
    spec[protocol].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
