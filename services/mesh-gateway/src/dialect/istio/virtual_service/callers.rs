//! INSTANCE: the new version for some of the pods that call.
//!
//! A match can ask for labels of the caller (`sourceLabels`), and istiod generates for each proxy only the routes whose
//! labels it has. So the canary's routes ask for the cohort's label and come first, then the stable ones as they are:
//! to a pod without the label they are all that there is. "Has not" cannot be asked, so what a canary's request matches
//! in no route of the new version would fall through to a stable route. A last route for the cohort keeps it from that:
//! it answers as a proxy does that has no route, 404.
//!
//! In a match that lists `gateways` Istio ignores the labels: such a route of the new version is refused.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Target, Weight};
use serde_json::{Value, json};

use super::{
    ALL_AT_ONCE, Pair, alternatives, bindings, delegates, matches, metrics_target,
    narrow::{self, CANARY_SERIES, STABLE_SERIES, with_each_match},
    routes,
};
use crate::{
    cohorts::nominal_share,
    dialect::{
        CANARY, Phase, Planned, Unsupported, callers as namespaces, direct,
        istio::callers,
        steps::{Wording, baseline, cohort_key, planned, step},
    },
};

pub(super) fn plan(pair: &Pair<'_>) -> Result<Planned, Unsupported> {
    check(pair)?;
    let count = callers::count(pair.question)?;
    let place = callers::namespace(pair.question);
    let key = cohort_key(pair.question.target);
    let exposed = |weight| {
        let share = nominal_share(weight, count);
        format!("The callers in {place} with the label {key}={CANARY}: {share} of the {count} pods that there are now.")
    };
    let mechanism = Mechanism::Instance;
    let wording = Wording { mechanism, share: &|weight| nominal_share(weight, count), exposed: &exposed };
    let facts = namespaces::to_facts(&[place.to_owned()]);
    let mut not_covered = callers::pods_not_covered(place);
    not_covered.push("istiod keeps no generated routes of the host meanwhile, and works more at each push.".to_owned());
    not_covered.extend(narrow::not_covered(pair.question, pair.stable, pair.canary));
    let plan = ExposurePlan {
        mechanism,
        reason: "By the pods that call: each of them is governed by exactly one whole version.".to_owned(),
        steps: planned(pair.question, (&[], &facts), &wording, super::render)?,
        not_covered,
        alternatives: alternatives(pair, mechanism),
        // The callers' proxies count the routes of both versions apart; a share of callers is none of requests.
        metrics_target: metrics_target(pair.question, mechanism, CANARY_SERIES, STABLE_SERIES),
    };
    Ok(Planned { facts, ..plan.into() })
}

fn check(pair: &Pair<'_>) -> Result<(), Unsupported> {
    narrow::check_only_http(pair.stable, pair.canary)?;
    if !bindings::is_bound_to_mesh(pair.canary) {
        return Err(Unsupported::new(
            "the VirtualService is for gateways only, and callers behind a gateway are no pods",
            format!("ask for REQUEST, or {ALL_AT_ONCE}"),
        ));
    }
    let versions = [pair.stable, pair.canary];
    if versions.iter().any(|spec| delegates::is_delegate(spec) || delegates::delegates(spec)) {
        return Err(Unsupported::new(
            "a version delegates or is delegated to, and Istio may merge a match that asks for labels with one that \
             makes it ignore them",
            format!("ask for REQUEST, or {ALL_AT_ONCE}"),
        ));
    }
    for (index, route) in routes(pair.canary, "http").iter().enumerate() {
        if let Some(number) = matches(route).iter().position(|one| !one["gateways"].is_null()) {
            return Err(Unsupported::new(
                format!(
                    "spec.http[{index}].match[{number}] of the new version lists gateways, and there Istio ignores the \
                     labels of callers"
                ),
                format!("leave gateways out of the match, ask for REQUEST, or {ALL_AT_ONCE}"),
            ));
        }
    }
    pair.check_shared_hosts()
}

/// The spec of a step, whatever its weight: the labels of the pods decide.
pub(super) fn compose(target: &Target, stable: &Value, canary: &Value) -> Value {
    let key = cohort_key(target);
    let mut all: Vec<_> = routes(canary, "http").iter().map(|route| for_cohort(route, &key)).collect();
    if !routes(canary, "http").last().is_some_and(|last| matches(last).is_empty()) {
        all.push(for_cohort(&json!({"directResponse": {"status": 404}}), &key));
    }
    all.extend(
        routes(stable, "http")
            .iter()
            .map(|route| with_each_match(route, |one| one["statPrefix"] = STABLE_SERIES.into())),
    );
    let mut spec = stable.clone();
    spec["http"] = all.into();
    spec
}

fn for_cohort(route: &Value, key: &str) -> Value {
    with_each_match(route, |one| {
        one["sourceLabels"][key] = CANARY.into();
        one["statPrefix"] = CANARY_SERIES.into();
    })
}

/// The phases of a step: the routes of both versions before any pod is the canary.
pub(super) fn render(intent: &ExposureIntent, stable: &Value, canary: &Value) -> Vec<Phase> {
    if intent.weight == Weight::FULL {
        return [direct::at_the_end(intent), vec![callers::cohorts(intent, None)]].concat();
    }
    let spec = match intent.weight {
        Weight::ZERO => stable.clone(),
        _ => compose(&intent.target, stable, canary),
    };
    vec![Phase::Objects(vec![step(&intent.target, spec)]), callers::cohorts(intent, Some(intent.weight))]
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    vec![Phase::Objects(vec![baseline(&intent.target)]), callers::cohorts(intent, None)]
}
