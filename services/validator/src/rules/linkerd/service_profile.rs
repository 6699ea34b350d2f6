//! ServiceProfile: the routes of a Service, what counts as a failure on each, and how much may be tried again.
//!
//! The webhook reads it strictly, and the definition leaves nested conditions open, so both are needed to know what is
//! admitted. Where they contradict each other nothing is: `not` at the top of a route's condition is a list to the
//! definition and a mapping to the webhook.

use serde_json::Value;

use super::{
    common,
    shape::{self, ANY, Form, Need, Shape},
};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field, istio::common::nanoseconds},
};

const COUNT: Shape = Shape::Whole(0, u32::MAX as i64);
const TEXT: Shape = Shape::Text(Form::Free);

static SHAPE: Shape = Shape::Map(&[
    ("routes", Need::May, Shape::List(&ROUTE, ANY)),
    ("retryBudget", Need::May, RETRY_BUDGET),
    ("dstOverrides", Need::May, Shape::List(&OVERRIDE, ANY)),
    ("opaquePorts", Need::May, Shape::Any),
]);

static ROUTE: Shape = Shape::Map(&[
    ("name", Need::Must, TEXT),
    ("condition", Need::Must, Shape::Inner(&REQUEST_MATCH)),
    ("responseClasses", Need::May, Shape::List(&RESPONSE_CLASS, ANY)),
    ("isRetryable", Need::May, Shape::Flag),
    ("timeout", Need::May, TEXT),
]);

static REQUEST_MATCH: Shape = Shape::Map(&[
    ("all", Need::May, Shape::List(&REQUEST_MATCH, ANY)),
    ("any", Need::May, Shape::List(&REQUEST_MATCH, ANY)),
    ("not", Need::May, Shape::Inner(&REQUEST_MATCH)),
    ("pathRegex", Need::May, TEXT),
    ("method", Need::May, TEXT),
]);

static RESPONSE_CLASS: Shape =
    Shape::Map(&[("condition", Need::Must, Shape::Inner(&RESPONSE_MATCH)), ("isFailure", Need::May, Shape::Flag)]);

static RESPONSE_MATCH: Shape = Shape::Map(&[
    ("all", Need::May, Shape::List(&RESPONSE_MATCH, ANY)),
    ("any", Need::May, Shape::List(&RESPONSE_MATCH, ANY)),
    ("not", Need::May, Shape::Inner(&RESPONSE_MATCH)),
    ("status", Need::May, Shape::Map(&[("min", Need::May, COUNT), ("max", Need::May, COUNT)])),
]);

const RETRY_BUDGET: Shape = Shape::Map(&[
    ("retryRatio", Need::Must, Shape::Number),
    ("minRetriesPerSecond", Need::Must, COUNT),
    ("ttl", Need::Must, TEXT),
]);

const OVERRIDE: Shape = Shape::Map(&[("authority", Need::May, TEXT), ("weight", Need::May, Shape::WholeOrText)]);

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    for route in spec.get("routes").items() {
        hits.extend(self::route(&route));
    }
    hits.extend(retry_budget(&spec.get("retryBudget")));
    let opaque = spec.get("opaquePorts");
    if opaque.is_set() {
        let message = "opaquePorts can have no value: the definition demands a list, and the webhook a mapping";
        let advice = "annotate the Service with config.linkerd.io/opaque-ports instead";
        hits.push(Hit::new(rule::SP_OPAQUE_PORTS, opaque.path(), message).suggest(advice));
    }
    hits
}

fn route(route: &Field<'_>) -> Vec<Hit> {
    let name = route.get("name");
    let mut hits = Vec::new();
    if name.is_set() && name.value() == Some(&Value::String(String::new())) {
        hits.push(Hit::new(rule::SP_NAME_EMPTY, name.path(), "the name of a route is empty"));
    }
    let timeout = route.get("timeout");
    if !timeout.text().is_empty() {
        hits.extend(duration(&timeout));
    }
    let condition = route.get("condition");
    request(&condition, &mut hits);
    let not = condition.get("not");
    if not.value().is_some_and(Value::is_object) {
        let message = "here the definition demands a list and the webhook a mapping, so nothing is admitted";
        hits.push(Hit::new(rule::TYPE, not.path(), message).suggest("write it inside of all: \"all: [{not: …}]\""));
    }
    for class in route.get("responseClasses").items() {
        response(&class.get("condition"), &mut hits);
    }
    hits
}

/// What a request has to look like. Every condition says something, and so does every part of it.
fn request(condition: &Field<'_>, hits: &mut Vec<Hit>) {
    parts(condition, &["pathRegex", "method"], hits, request);
    hits.extend(common::regex(rule::SP_REGEX, &condition.get("pathRegex")));
}

/// What a response has to look like.
fn response(condition: &Field<'_>, hits: &mut Vec<Hit>) {
    parts(condition, &["status"], hits, response);
    hits.extend(status(&condition.get("status")));
}

/// The parts of a condition; one that has none and none of `own` says nothing.
fn parts(condition: &Field<'_>, own: &[&str], hits: &mut Vec<Hit>, inner: fn(&Field<'_>, &mut Vec<Hit>)) {
    if !condition.value().is_some_and(Value::is_object) {
        return;
    }
    let said = |name: &&str| condition.get(name).value() != Some(&Value::String(String::new()));
    let set = condition.set_among(&["all", "any", "not"]).len()
        + condition.set_among(own).iter().filter(|name| said(name)).count();
    if set == 0 {
        hits.push(Hit::new(rule::SP_CONDITION, condition.path(), "the condition says nothing"));
    }
    for list in [condition.get("all"), condition.get("any")] {
        list.items().iter().for_each(|part| inner(part, hits));
    }
    inner(&condition.get("not"), hits);
}

/// A range of status codes; 0 is as good as absent.
fn status(range: &Field<'_>) -> Option<Hit> {
    let bounds = [range.get("min"), range.get("max")];
    for bound in &bounds {
        let number = bound.integer().filter(|number| *number != 0 && !(100..=599).contains(number));
        if let Some(number) = number {
            let message = format!("the status {number} is not within 100 to 599");
            return Some(Hit::new(rule::SP_STATUS, bound.path(), message));
        }
    }
    let [min, max] = bounds.map(|bound| (bound.integer().unwrap_or_default(), bound));
    (max.0 != 0 && max.0 < min.0).then(|| {
        let message = format!("the range ends at {} before it begins at {}", max.0, min.0);
        Hit::new(rule::SP_STATUS, max.1.path(), message)
    })
}

fn retry_budget(budget: &Field<'_>) -> Vec<Hit> {
    let ratio = budget.get("retryRatio");
    let negative = ratio.number().filter(|number| *number < 0.0);
    let negative = negative
        .map(|number| Hit::new(rule::SP_RETRY_RATIO, ratio.path(), format!("the retry ratio {number} is negative")));
    negative.into_iter().chain(duration(&budget.get("ttl"))).collect()
}

/// A text that is no duration.
fn duration(field: &Field<'_>) -> Option<Hit> {
    let text = field.value()?.as_str()?;
    nanoseconds(text).is_none().then(|| {
        let message = format!("{} is no duration", quote(text));
        Hit::new(rule::SP_DURATION, field.path(), message).suggest("write e.g. 250ms, 10s or 1m")
    })
}
