//! HTTPRoute: where a request goes by its path, headers and method. Linkerd has one of its own, from before the
//! Gateway API's was finished, and checks both.

use super::{
    Object, POLICY_GROUP,
    common::{self, REGULAR_EXPRESSION},
    http_route_shape::SHAPE,
    route::{self, GATEWAY_GROUP, Protocol},
    shape,
};
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field, istio::common::nanoseconds},
};

/// All rules for the HTTPRoute of policy.linkerd.io.
#[must_use]
pub(super) fn own(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    hits.extend(both(object, POLICY_GROUP));
    for rule in spec.get("rules").items() {
        hits.extend(timeouts(&rule.get("timeouts")));
        hits.extend(rule.get("filters").items().iter().filter_map(filter_is_set));
    }
    hits
}

/// All rules for the HTTPRoute of the Gateway API.
#[must_use]
pub(super) fn gateway(object: &Object<'_>) -> Vec<Hit> {
    let mut hits = both(object, GATEWAY_GROUP);
    hits.extend(object.root().get("spec").get("rules").items().iter().flat_map(route::backends));
    hits
}

/// What both have in common. `group` is the group of a parent that names none.
fn both(object: &Object<'_>, group: &str) -> Vec<Hit> {
    let mut hits = route::parents(object, group);
    hits.extend(route::annotations(object, group, Protocol::Http));
    for rule in object.root().get("spec").get("rules").items() {
        for one in rule.get("matches").items() {
            hits.extend(path_match(&one.get("path")));
            hits.extend(one.get("headers").items().iter().flat_map(header_match));
            hits.extend(one.get("queryParams").items().iter().filter_map(query_match));
        }
        for filter in rule.get("filters").items() {
            hits.extend(header_modifier(&filter.get("requestHeaderModifier")));
            hits.extend(header_modifier(&filter.get("responseHeaderModifier")));
            hits.extend(redirect(&filter.get("requestRedirect")));
        }
    }
    hits
}

fn is_regex(one: &Field<'_>) -> bool {
    one.get("type").text() == REGULAR_EXPRESSION
}

fn path_match(path: &Field<'_>) -> Option<Hit> {
    let value = path.get("value");
    if is_regex(path) {
        return common::regex(rule::LD_ROUTE_REGEX, &value);
    }
    let text = value.value()?.as_str()?;
    (!text.starts_with('/')).then(|| {
        let message = format!("the path {} does not begin with a slash", quote(text));
        Hit::new(rule::LD_PATH, value.path(), message).suggest(format!("write {}", quote(&format!("/{text}"))))
    })
}

/// A header to match: its name, and its value or regular expression.
pub(super) fn header_match(header: &Field<'_>) -> Vec<Hit> {
    let (name, value) = (header.get("name"), header.get("value"));
    if !is_regex(header) {
        return common::header(&name, &value);
    }
    common::header_name(&name).into_iter().chain(common::regex(rule::LD_ROUTE_REGEX, &value)).collect()
}

fn query_match(query: &Field<'_>) -> Option<Hit> {
    is_regex(query).then(|| common::regex(rule::LD_ROUTE_REGEX, &query.get("value"))).flatten()
}

/// Headers to set, add and remove.
pub(super) fn header_modifier(modifier: &Field<'_>) -> Vec<Hit> {
    let written = [modifier.get("set"), modifier.get("add")];
    let written = written.iter().flat_map(Field::items);
    let mut hits: Vec<Hit> =
        written.flat_map(|header| common::header(&header.get("name"), &header.get("value"))).collect();
    hits.extend(modifier.get("remove").items().iter().filter_map(common::header_name));
    hits
}

fn redirect(redirect: &Field<'_>) -> Option<Hit> {
    let path = redirect.get("path");
    if !path.is_set() {
        return None;
    }
    let (full, prefix) = (path.get("replaceFullPath"), path.get("replacePrefixMatch"));
    let target = if full.is_set() { full } else { prefix };
    let Some(text) = target.value() else {
        let message = "a redirect's path needs replaceFullPath or replacePrefixMatch";
        return Some(Hit::new(rule::LD_REDIRECT, path.path(), message));
    };
    let text = text.as_str()?;
    (!text.starts_with('/')).then(|| {
        let message = format!("the path {} of a redirect does not begin with a slash", quote(text));
        Hit::new(rule::LD_REDIRECT, target.path(), message).suggest(format!("write {}", quote(&format!("/{text}"))))
    })
}

fn timeouts(timeouts: &Field<'_>) -> Vec<Hit> {
    let fields = [timeouts.get("request"), timeouts.get("backendRequest")];
    let mut hits: Vec<Hit> = fields.iter().filter_map(timeout).collect();
    let [request, backend] = fields;
    let too_long = nanoseconds(backend.text()).zip(nanoseconds(request.text())).is_some_and(|(b, r)| b > r);
    if hits.is_empty() && too_long {
        let message = format!(
            "the backend's timeout {} is longer than the request's, {}",
            quote(backend.text()),
            quote(request.text())
        );
        hits.push(Hit::new(rule::LD_TIMEOUT, backend.path(), message));
    }
    hits
}

/// A timeout that is a text and no duration, or a negative one.
fn timeout(field: &Field<'_>) -> Option<Hit> {
    let text = field.value()?.as_str()?;
    let message = match nanoseconds(text) {
        None => format!("{} is no duration", quote(text)),
        Some(nanos) if nanos < 0 => format!("the timeout {} is negative", quote(text)),
        Some(_) => return None,
    };
    Some(Hit::new(rule::LD_TIMEOUT, field.path(), message).suggest("write e.g. 250ms, 10s or 1m"))
}

/// A filter whose type has no settings.
fn filter_is_set(filter: &Field<'_>) -> Option<Hit> {
    let name = match filter.get("type").text() {
        "RequestHeaderModifier" => "requestHeaderModifier",
        "RequestRedirect" => "requestRedirect",
        _ => return None,
    };
    let settings = filter.get(name);
    (!settings.is_set()).then(|| shape::missing(settings.path(), name))
}
