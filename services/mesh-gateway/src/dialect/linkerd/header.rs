//! HEADER: a more specific copy of the new version for the requests of some traces.
//!
//! Linkerd makes no ids of its own. Where applications send a `traceparent`, its trace id is random, and its last two
//! digits choose 1/256 of the traces each, as `x-request-id` does in Istio. The copy asks for such an id in every match,
//! and so has one header more than the match of the live version: of two matches, Linkerd takes the one with the longer
//! path, then the one with more headers. That is why the new version must have every match that the live one has: else
//! a longer path of the live version would win over the copy.
//!
//! The expression is wrapped, since Linkerd takes the first alternative that fits and then asks whether it was the whole
//! value. The header is sent by the caller: this is no boundary of security, which is why no policy is exposed by it.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Weight};
use serde_json::{Value, json};

use super::{
    alternatives,
    kind::Kind,
    object::{Parent, helper, kind_of, list, name, twin_name, twin_of},
    route,
};
use crate::{
    dialect::{
        Desired, Phase, Planned, Question, Unsupported, Wanted, direct,
        istio::Cohort,
        steps::{ALL_AT_ONCE, Wording, approved, baseline, planned, step},
    },
    object::{self, spec},
};

const HEADER: &str = "traceparent";
/// What the schema allows in one match.
const MOST_HEADERS: usize = 16;

/// The plan.
pub(super) fn plan(question: &Question<'_>, kind: Kind) -> Result<Planned, Unsupported> {
    let Some(stable) = &question.baseline.object else { return Err(super::no_version_yet(question)) };
    check(question, kind, stable)?;
    let share = |weight| Cohort::of(weight).nominal_share();
    let exposed = |weight: Weight| {
        let regex = expression(weight).unwrap_or_default();
        format!("Requests whose {HEADER} matches {regex}: {} of random trace ids.", share(weight))
    };
    let wording = Wording { mechanism: Mechanism::Header, share: &share, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism: Mechanism::Header,
        reason: "By trace id: each request is governed by exactly one whole version, and one trace always by the same."
            .to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered: vec![
            format!("Requests without a {HEADER} are stable: the share is one of those that carry it."),
            "It is no share of the traffic where trace ids are not random.".to_owned(),
            "Callers can choose their version by the header that they send.".to_owned(),
            format!("The canary's requests are counted under the route {}.", twin_name(name(stable))),
        ],
        alternatives: alternatives::of(kind, Mechanism::Header),
        metrics_target: MetricsTarget {
            mesh: question.target.mesh,
            mechanism: Mechanism::Header,
            cluster: question.target.cluster.clone(),
            hosts: super::hosts(question, kind),
            canary_series: twin_name(&question.target.name),
            control_series: question.target.name.clone(),
            cohort_label: String::new(),
        },
    };
    Ok(plan.into())
}

fn check(question: &Question<'_>, kind: Kind, stable: &Value) -> Result<(), Unsupported> {
    let (before, after) = (spec(stable), spec(question.canary));
    let refuse = |reason: String, would_work: String| Err(Unsupported::new(reason, would_work));
    if !route::outside(kind, question.canary).iter().all(|parent| matches!(parent, Parent::Service { .. })) {
        return refuse("a cohort by header is one of the callers of a Service".to_owned(), ALL_AT_ONCE.to_owned());
    }
    let twin = twin_of(question.target);
    if question.neighbours.iter().any(|other| object::is_of(other, &twin)) {
        return refuse(
            format!("{twin} exists already, and the copy needs that name"),
            "remove it if it is left from a deployment, or give it another name".to_owned(),
        );
    }
    route::check_beside(question, kind, stable)?;
    if let Some(missing) = route::uncovered(kind, before, after) {
        return refuse(
            format!("the new version has no match {missing}, which the live one has: such requests would stay stable"),
            format!("keep the match and change what its rule does, ask for NAMESPACE, or {ALL_AT_ONCE}"),
        );
    }
    let all = [before, after].into_iter().flat_map(|spec| list(spec, "rules")).flat_map(|rule| list(rule, "matches"));
    for one in all {
        let headers = list(one, "headers");
        let asks = |header: &Value| header["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(HEADER));
        if headers.iter().any(asks) {
            return refuse(
                format!(
                    "a match asks for {HEADER} itself, so the requests that it governs are no random part of the traces"
                ),
                format!("match another header, or {ALL_AT_ONCE}"),
            );
        }
        if headers.len() >= MOST_HEADERS {
            return refuse(format!("a match has {MOST_HEADERS} headers already"), "ask for fewer headers".to_owned());
        }
    }
    Ok(())
}

/// The expression of the cohort's headers; `None` for nobody.
fn expression(weight: Weight) -> Option<String> {
    Some(format!("^(?:{}-[0-9a-f]{{16}}-[0-9a-f]{{2}})$", Cohort::of(weight).regex()?))
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let (Some(stable), Some(kind)) = (&intent.baseline.object, kind_of(&intent.canary)) else {
        return Err(direct::only_full());
    };
    let copy = twin_of(&intent.target);
    let gone = Desired { target: copy.clone(), wanted: Wanted::Gone };
    if intent.weight == Weight::FULL {
        let approved = approved(&intent.target, &intent.canary);
        return Ok(vec![Phase::Objects(vec![approved]), Phase::Objects(vec![gone])]);
    }
    let wanted = match expression(intent.weight) {
        None => gone,
        Some(expression) => {
            let header = json!({"name": HEADER, "type": "RegularExpression", "value": expression});
            let object = helper(&copy, &intent.canary, route::narrowed(kind, &intent.canary, &header));
            Desired { target: copy, wanted: Wanted::Helper(object) }
        }
    };
    Ok(vec![Phase::Objects(vec![step(&intent.target, spec(stable).clone()), wanted])])
}

/// The way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let gone = Desired { target: twin_of(&intent.target), wanted: Wanted::Gone };
    vec![Phase::Objects(vec![gone, baseline(&intent.target)])]
}
