//! HEADER: a more specific copy of the new version for the requests of some traces, or of an audience that is named by a
//! header or a cookie (A/B).
//!
//! Linkerd makes no ids of its own. Where applications send a `traceparent`, its trace id is random, and its last two
//! digits choose 1/256 of the traces each, as `x-request-id` does in Istio. The copy asks for such an id in every match,
//! and so has one header more than the match of the live version: of two matches, Linkerd takes the one with the longer
//! path, then the one with more headers. That is why the new version must have every match that the live one has: else
//! a longer path of the live version would win over the copy.
//!
//! The expression is wrapped, since Linkerd takes the first alternative that fits and then asks whether it was the whole
//! value. The header is sent by the caller: this is no boundary of security.

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
        Desired, HeaderMatch, HeaderValue, Phase, Planned, Question, Unsupported, Wanted,
        audience::Asked as _,
        direct,
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
    let audience = question.audience.header.as_ref();
    check(question, kind, stable, audience.map_or(HEADER, HeaderMatch::header))?;
    let facts = audience.map_or(Value::Null, |wanted| json!({"header": of_audience(wanted)}));
    let share = |weight| if audience.is_some() { weight } else { Cohort::of(weight).nominal_share() };
    let exposed = |weight: Weight| match audience {
        Some(wanted) => format!("Requests {}: all of them, whatever the weight.", wanted.in_words()),
        None => {
            let regex = expression(weight).unwrap_or_default();
            format!("Requests whose {HEADER} matches {regex}: {} of random trace ids.", share(weight))
        }
    };
    let wording = Wording { mechanism: Mechanism::Header, share: &share, exposed: &exposed };
    let mut not_covered = match audience {
        Some(_) => {
            vec!["It is no share of the traffic: how many requests have the header nobody knows before.".to_owned()]
        }
        None => vec![
            format!("Requests without a {HEADER} are stable: the share is one of those that carry it."),
            "It is no share of the traffic where trace ids are not random.".to_owned(),
        ],
    };
    not_covered.extend([
        "Callers can choose their version by the header that they send.".to_owned(),
        format!("The canary's requests are counted under the route {}.", twin_name(name(stable))),
    ]);
    let plan = ExposurePlan {
        mechanism: Mechanism::Header,
        reason: match audience {
            Some(_) => "By a header: each request is governed by exactly one whole version.".to_owned(),
            None => {
                "By trace id: each request is governed by exactly one whole version, and one trace always by the same."
                    .to_owned()
            }
        },
        steps: planned(question, (&[], &facts), &wording, render)?,
        not_covered,
        alternatives: alternatives::of(kind, Mechanism::Header),
        metrics_target: MetricsTarget {
            hosts: super::hosts(question, kind),
            canary_series: twin_name(&question.target.name),
            control_series: question.target.name.clone(),
            ..MetricsTarget::uncounted(question.target.mesh, Mechanism::Header, &question.target.cluster)
        },
    };
    Ok(Planned { facts, ..plan.into() })
}

fn check(question: &Question<'_>, kind: Kind, stable: &Value, header: &str) -> Result<(), Unsupported> {
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
        let asks = |one: &Value| one["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(header));
        if headers.iter().any(asks) {
            return refuse(
                format!("a match asks for {header} itself, so the requests that it governs are no random part of all"),
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

/// What a route of Linkerd's asks of the requests of an audience. An expression must fit the whole value, and is wrapped.
pub(super) fn of_audience(wanted: &HeaderMatch) -> Value {
    let (kind, value) = match (wanted.expression(), &wanted.value) {
        (None, HeaderValue::Exact(value)) => ("Exact", value.clone()),
        (expression, _) => ("RegularExpression", format!("^(?:{})$", expression.unwrap_or_default())),
    };
    json!({"name": wanted.header(), "type": kind, "value": value})
}

/// What the requests of the cohort have; `None` for nobody.
fn asked(intent: &ExposureIntent) -> Option<Value> {
    match &intent.baseline.facts["header"] {
        Value::Null => {
            let value = expression(intent.weight)?;
            Some(json!({"name": HEADER, "type": "RegularExpression", "value": value}))
        }
        header => (intent.weight != Weight::ZERO).then(|| header.clone()),
    }
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
    let wanted = match asked(intent) {
        None => gone,
        Some(header) => {
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
