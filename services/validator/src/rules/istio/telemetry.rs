//! Telemetry: which metrics, traces and access logs there are.

use super::{cel, common, selector};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const NANOS_PER_MILLI: i128 = 1_000_000;

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let (metrics, tracing, logs) = (spec.get("metrics"), spec.get("tracing"), spec.get("accessLogging"));
    let mut hits = selector::attachment(&spec);
    hits.extend(metrics.items().iter().flat_map(metric));
    hits.extend(several(&tracing, "tracings"));
    for trace in tracing.items() {
        hits.extend(several(&trace.get("providers"), "tracing providers"));
        hits.extend(providers(&trace));
        hits.extend(sampling(&trace.get("randomSamplingPercentage")));
        hits.extend(trace.get("customTags").entries().iter().filter_map(|(name, field)| tag(name, field)));
    }
    for log in logs.items() {
        hits.extend(providers(&log));
        hits.extend(filter(&log.get("filter")));
    }
    hits
}

fn several(list: &Field<'_>, what: &str) -> Option<Hit> {
    let second = list.item(1);
    let message = format!("of several {what}, only one is used");
    second.is_set().then(|| Hit::new(rule::TM_SEVERAL, second.path(), message))
}

fn providers(around: &Field<'_>) -> Vec<Hit> {
    let nameless = |provider: &Field<'_>| {
        let name = provider.get("name");
        name.text().is_empty().then(|| Hit::new(rule::TM_PROVIDER, name.path(), "the provider has no name"))
    };
    around.get("providers").items().iter().filter_map(nameless).collect()
}

fn sampling(field: &Field<'_>) -> Option<Hit> {
    let percent = field.number().filter(|percent| !(0.0..=100.0).contains(percent))?;
    Some(Hit::new(rule::TM_PROVIDER, field.path(), format!("{percent} is not within 0 to 100 percent")))
}

fn tag(name: &str, tag: &Field<'_>) -> Option<Hit> {
    let hit = |field: &Field<'_>, message: String| Some(Hit::new(rule::TM_PROVIDER, field.path(), message));
    if name.is_empty() {
        return hit(tag, "a tag has no name".to_owned()).map(Hit::at_key);
    }
    let needed = [("literal", "value"), ("header", "name"), ("environment", "name")];
    let lacking =
        needed.iter().find(|(kind, field)| tag.get(kind).is_set() && tag.get(kind).get(field).text().is_empty());
    let (kind, field) = lacking?;
    hit(&tag.get(kind).get(field), format!("the {kind} of the tag {} has no {field}", quote(name)))
}

fn metric(metric: &Field<'_>) -> Vec<Hit> {
    let mut hits = providers(metric);
    let interval = metric.get("reportingInterval");
    let too_short = common::nanoseconds(interval.text()).is_none_or(|nanos| nanos < NANOS_PER_MILLI);
    if interval.is_set() && too_short {
        let message = format!("{} is no duration of at least 1ms", quote(interval.text()));
        hits.push(Hit::new(rule::DURATION, interval.path(), message).suggest("write e.g. 5s"));
    }
    for change in metric.get("overrides").items() {
        hits.extend(change.get("tagOverrides").entries().iter().filter_map(|(name, tag)| tag_override(name, tag)));
        let custom = change.get("match").get("customMetric");
        if custom.is_set() && custom.text().is_empty() {
            hits.push(Hit::new(rule::TM_METRIC, custom.path(), "the metric has no name"));
        }
    }
    hits
}

fn tag_override(name: &str, tag: &Field<'_>) -> Option<Hit> {
    let (operation, value) = (tag.get("operation").text(), tag.get("value"));
    match operation {
        // Nothing said is UPSERT.
        "" | "UPSERT" if value.text().is_empty() => {
            let message = format!("the tag {} is set to nothing", quote(name));
            Some(Hit::new(rule::TM_METRIC, value.path(), message).suggest("set value, or operation: REMOVE"))
        }
        "REMOVE" if value.is_set() => {
            let message = format!("the tag {} is removed, so it has no value", quote(name));
            Some(Hit::new(rule::TM_METRIC, value.path(), message).at_key().suggest("remove value"))
        }
        _ => None,
    }
}

fn filter(filter: &Field<'_>) -> Option<Hit> {
    if !filter.is_set() {
        return None;
    }
    let expression = filter.get("expression");
    let problem = cel::problem(expression.text())?;
    let message = format!("{} is no CEL expression: {problem}", quote(expression.text()));
    Some(Hit::new(rule::TM_FILTER, expression.path(), message).suggest("write e.g. response.code >= 400"))
}
