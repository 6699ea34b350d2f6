//! A ServiceEntry: the endpoints of both versions in the one object, each with its part of the weight; or, where that is
//! asked for, whole in some of the namespaces that call: see [`consumers`].

mod consumers;

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Weight};
use serde_json::{Value, json};

use super::{WHOLE, alternatives, check_places, metrics_target, no_versions, not_covered, weight};
use crate::{
    dialect::{
        Need, Phase, Planned, Question, Unsupported, direct,
        istio::{
            differing_fields, neighbours_of,
            virtual_service::{hosts, overlap, qualified},
        },
        steps::{ALL_AT_ONCE, Wording, planned, step},
    },
    object::{self, full_name, is_of, spec},
};

/// The objects that a plan must know: who has the host, and how callers balance.
pub(in crate::dialect::istio) fn needs(question: &Question<'_>) -> Vec<Need> {
    if question.wanted == Some(Mechanism::Namespace) {
        return consumers::needs(question);
    }
    let api_version = &question.target.api_version;
    vec![
        Need::within(api_version, "ServiceEntry", &question.target.namespace),
        Need::all(api_version, "DestinationRule"),
    ]
}

pub(in crate::dialect::istio) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    if question.wanted == Some(Mechanism::Namespace) {
        return consumers::plan(question);
    }
    let Some(stable) = question.baseline.object.as_ref().filter(|_| !question.canary.is_null()) else {
        return Err(no_versions(question));
    };
    let (stable, canary) = (object::spec(stable), object::spec(question.canary));
    check_versions(stable, canary)?;
    check_same_address(stable, canary)?;
    check_places(endpoints(stable).iter().chain(endpoints(canary)))?;
    let hosts = hosts(question.target, question.canary);
    check_others(question, &hosts)?;
    check_balancers(question, &hosts)?;
    let exposed = |weight: Weight| {
        format!("Each request or connection goes to the new endpoints with a probability of {weight}.")
    };
    let mechanism = Mechanism::Weight;
    let wording = Wording { mechanism, share: &|weight| weight, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism,
        reason: "By weights of endpoints: the versions differ only in where requests go and how many.".to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered: not_covered(),
        alternatives: alternatives(mechanism, "Serves whole namespaces of callers, not a share of the requests."),
        metrics_target: metrics_target(question, mechanism, hosts),
    };
    Ok(plan.into())
}

fn endpoints(spec: &Value) -> &[Value] {
    spec["endpoints"].as_array().map_or(&[], Vec::as_slice)
}

fn check_versions(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    let differing = differing_fields(stable, canary, "endpoints");
    if !differing.is_empty() {
        let names = differing.iter().map(|name| format!("spec.{name}")).collect::<Vec<_>>().join(", ");
        return Err(Unsupported::new(
            format!("the versions differ in {names}, and every caller has one view of a host"),
            format!("add a second host and share the traffic in a VirtualService by weight, or {ALL_AT_ONCE}"),
        ));
    }
    let resolution = stable["resolution"].as_str().unwrap_or("NONE");
    if resolution != "STATIC" {
        return Err(Unsupported::new(
            format!("the host is resolved by {resolution}: how many addresses an endpoint is, and when, is not known"),
            format!("add a second host and share the traffic in a VirtualService by weight, or {ALL_AT_ONCE}"),
        ));
    }
    if [stable, canary].iter().any(|version| endpoints(version).is_empty()) {
        return Err(Unsupported::new(
            "a version lists no endpoints, so there is nothing that weights could share",
            format!("list them, release the WorkloadEntries that it selects, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(())
}

/// What a caller knows an endpoint by is its address: of two with the same one of them is ignored.
fn check_same_address(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    let all: Vec<_> = endpoints(stable).iter().chain(endpoints(canary)).map(without_weight).collect();
    let is_other = |a: &Value, b: &Value| a["address"] == b["address"] && a["ports"] == b["ports"] && a != b;
    match all.iter().find(|one| all.iter().any(|other| is_other(one, other))) {
        None => Ok(()),
        Some(one) => Err(Unsupported::new(
            format!("the endpoint {} has one address in both versions and differs otherwise", one["address"]),
            format!("change the address as well, or {ALL_AT_ONCE}"),
        )),
    }
}

/// Entries of one namespace for the same host are one service.
fn check_others(question: &Question<'_>, hosts: &[String]) -> Result<(), Unsupported> {
    let has_common = |other: &&Value| {
        !is_of(other, question.target)
            && other["metadata"]["namespace"] == *question.target.namespace
            && has_common_host(other, hosts)
    };
    match neighbours_of(question, "ServiceEntry").find(has_common) {
        None => Ok(()),
        Some(other) => Err(Unsupported::new(
            format!("ServiceEntry {} has a host in common, and the endpoints of both are one", full_name(other)),
            format!("put them into one, or {ALL_AT_ONCE}"),
        )),
    }
}

fn has_common_host(other: &Value, hosts: &[String]) -> bool {
    let mut theirs = spec(other)["hosts"].as_array().into_iter().flatten();
    theirs.any(|host| hosts.iter().any(|own| *host == **own))
}

/// Refuses rules by which weights of endpoints are no shares.
fn check_balancers(question: &Question<'_>, hosts: &[String]) -> Result<(), Unsupported> {
    for rule in neighbours_of(question, "DestinationRule") {
        let place = rule["metadata"]["namespace"].as_str().unwrap_or_default();
        let host = qualified(spec(rule)["host"].as_str().unwrap_or_default(), place);
        if !hosts.iter().any(|own| overlap(own, &host)) {
            continue;
        }
        let is_labelled = |subset: &Value| subset["labels"].as_object().is_some_and(|labels| !labels.is_empty());
        let why = match spec(rule)["subsets"].as_array() {
            Some(subsets) if subsets.iter().any(is_labelled) => "divides the endpoints by their labels (subsets)",
            _ if ignores_weights(spec(rule)) => "chooses endpoints without looking at their weights",
            _ => continue,
        };
        return Err(Unsupported::new(
            format!("DestinationRule {} {why}", full_name(rule)),
            format!("let it balance by ROUND_ROBIN or LEAST_REQUEST and without subsets, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(())
}

/// Whether any balancer of a rule does, whatever it is for.
fn ignores_weights(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(ignores_weights),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let is_blind = name == "loadBalancer"
                && (!value["consistentHash"].is_null()
                    || !value["localityLbSetting"].is_null()
                    || value["simple"] == "RANDOM"
                    || value["simple"] == "PASSTHROUGH");
            is_blind || ignores_weights(value)
        }),
        _ => false,
    }
}

fn without_weight(endpoint: &Value) -> Value {
    let mut endpoint = endpoint.clone();
    if let Some(fields) = endpoint.as_object_mut() {
        fields.remove("weight");
    }
    endpoint
}

/// Both versions' endpoints, each with its weight of 10000; what both have is one entry.
fn blend(stable: &Value, canary: &Value, share: Weight) -> Value {
    let mut blended: Vec<(Value, f64)> = Vec::new();
    for (version, part) in [(stable, 1.0 - share.fraction()), (canary, share.fraction())] {
        let total: u64 = endpoints(version).iter().map(weight).sum();
        for endpoint in endpoints(version) {
            #[expect(clippy::cast_precision_loss, reason = "weights are 32 bits")]
            let fraction = part * weight(endpoint) as f64 / total as f64;
            let key = without_weight(endpoint);
            match blended.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known += fraction,
                None => blended.push((key, fraction)),
            }
        }
    }
    let entries = blended.into_iter().map(|(mut endpoint, fraction)| {
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of 10000 is within 0 to 10000")]
        let weight = (fraction * WHOLE).round() as i64;
        endpoint["weight"] = json!(weight.max(1));
        endpoint
    });
    let mut spec = stable.clone();
    spec["endpoints"] = entries.collect();
    spec
}

/// The phases of a step.
pub(in crate::dialect::istio) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    if intent.mechanism == Mechanism::Namespace {
        return consumers::render(intent);
    }
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    let (stable, canary) = (object::spec(stable), object::spec(&intent.canary));
    let spec = match intent.weight {
        Weight::FULL => return Ok(direct::at_the_end(intent)),
        Weight::ZERO => stable.clone(),
        weight => blend(stable, canary, weight),
    };
    Ok(vec![Phase::Objects(vec![step(&intent.target, spec)])])
}
