//! EnvoyFilter: patches that say what they change, and match what they change.
//!
//! What Envoy itself makes of a value is not checked, but for what is surely wrong: a type of its API version 2, which it no
//! longer has, and names that are no texts.

use serde_json::Value;

use super::{common, regexp, selector};
use crate::{
    path::Path,
    report::{Hit, list, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// What a match can be about.
const MATCHES: [&str; 4] = ["listener", "routeConfiguration", "cluster", "waypoint"];
const MANAGERS: [&str; 2] = ["envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"];
/// What the names of types of version 2 begin with, apart from those that say ".v2" themselves.
const OLD: [&str; 2] = ["envoy.api.", "envoy.config.filter."];

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let selector = spec.get("workloadSelector");
    let mut hits = selector::by_labels(&selector, "labels");
    let set = spec.set_among(&["workloadSelector", "targetRefs"]);
    if let Some(second) = set.get(1) {
        let message = format!("{} exclude each other", list(&set, " and "));
        hits.push(Hit::new(rule::TARGET_REF, spec.get(second).path(), message).at_key());
    }
    for reference in spec.get("targetRefs").items() {
        let namespace = reference.get("namespace");
        if !namespace.text().is_empty() {
            let message = "a policy can be attached in its own namespace only";
            hits.push(Hit::new(rule::TARGET_REF, namespace.path(), message).at_key().suggest("remove namespace"));
        }
    }
    for patch in spec.get("configPatches").items() {
        hits.extend(incomplete(&patch).or_else(|| version(&patch)).or_else(|| mismatch(&patch)));
        hits.extend(waypoint(&patch.get("match")));
        hits.extend(value(&patch));
    }
    hits.extend(operations(&spec));
    let message = "an EnvoyFilter changes the inside of Istio, which may be another after an upgrade";
    hits.push(
        Hit::new(rule::EF_INTERNAL, object.root().get("kind").path(), message)
            .suggest("use another kind if one can do it"),
    );
    hits
}

/// Operations that Envoy ignores, or whose place depends on other filters.
fn operations(spec: &Field<'_>) -> Vec<Hit> {
    const ROUTES: [&str; 2] = ["ROUTE_CONFIGURATION", "HTTP_ROUTE"];
    const REPLACED: [&str; 3] = ["NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"];
    let prioritized = spec.get("priority").integer().unwrap_or_default() != 0;
    let mut versioned: Vec<&str> = Vec::new();
    let mut hits = Vec::new();
    for patch in spec.get("configPatches").items() {
        let (target, change, on) = (patch.get("applyTo").text(), patch.get("patch"), patch.get("match"));
        let (operation, value) = (change.get("operation"), change.get("value"));
        let matched = on.get("listener").get("filterChain").get("filter").get("name").text();
        let name = if value.get("name").is_set() { value.get("name").text() } else { matched };
        let id = match operation.text() {
            "ADD" if ROUTES.contains(&target) => Some(rule::EF_ADD),
            "REMOVE" if ROUTES.contains(&target) => Some(rule::EF_REMOVE),
            "REPLACE" if !REPLACED.contains(&target) => Some(rule::EF_REPLACE),
            "REMOVE" | "REPLACE" | "INSERT_BEFORE" | "INSERT_AFTER" if !prioritized => {
                Some(if versioned.contains(&name) { rule::EF_RELATIVE_VERSION } else { rule::EF_RELATIVE })
            }
            _ => None,
        };
        hits.extend(id.map(|id| operation_hit(id, &operation, target)));
        if !on.get("proxy").get("proxyVersion").text().is_empty() {
            versioned.push(name);
        }
    }
    hits
}

fn operation_hit(id: &'static rule::Rule, operation: &Field<'_>, target: &str) -> Hit {
    let name = operation.text();
    let (message, advice) = if [rule::EF_RELATIVE, rule::EF_RELATIVE_VERSION].contains(&id) {
        (
            format!("{name} without a priority: what it finds depends on which EnvoyFilter comes first"),
            "set spec.priority",
        )
    } else {
        (format!("{name} has no effect on {target}"), "use MERGE, or another operation that works there")
    };
    Hit::new(id, operation.path(), message).suggest(advice)
}

fn incomplete(patch: &Field<'_>) -> Option<Hit> {
    let (target, change) = (patch.get("applyTo"), patch.get("patch"));
    let (operation, value) = (change.get("operation"), change.get("value"));
    let hit = |field: &Field<'_>, message: &str| Some(Hit::new(rule::EF_PATCH, field.path(), message));
    let unset = |field: &Field<'_>| ["", "INVALID"].contains(&field.text());
    match () {
        () if unset(&target) => hit(&target, "the patch does not say what it applies to"),
        () if !change.is_set() => hit(&change, "the patch is missing"),
        () if unset(&operation) => hit(&operation, "the patch has no operation"),
        () if operation.text() != "REMOVE" && !value.is_set() => hit(&value, "the patch has no value"),
        () => None,
    }
}

fn version(patch: &Field<'_>) -> Option<Hit> {
    let field = patch.get("match").get("proxy").get("proxyVersion");
    let problem = regexp::problem(field.text())?;
    let message = format!("{} is no RE2 expression: {problem}", quote(field.text()));
    Some(Hit::new(rule::REGEX, field.path(), message))
}

/// What is matched must be of the class of what is patched.
fn mismatch(patch: &Field<'_>) -> Option<Hit> {
    let (target, on) = (patch.get("applyTo").text(), patch.get("match"));
    let wanted = match target {
        "LISTENER" | "FILTER_CHAIN" | "NETWORK_FILTER" | "HTTP_FILTER" => "listener",
        "ROUTE_CONFIGURATION" | "VIRTUAL_HOST" | "HTTP_ROUTE" => "routeConfiguration",
        "CLUSTER" => "cluster",
        _ => return None,
    };
    let set = on.set_among(&MATCHES);
    let is_other = |name: &&&str| **name != wanted && **name != "waypoint";
    if let Some(other) = set.iter().find(is_other) {
        let message = format!("a patch of {target} matches on {wanted}, not on {other}");
        return Some(Hit::new(rule::EF_MATCH, on.get(other).path(), message).at_key());
    }
    filter_name(&on.get("listener").get("filterChain").get("filter"), target)
}

fn filter_name(filter: &Field<'_>, target: &str) -> Option<Hit> {
    let (name, below) = (filter.get("name"), filter.get("subFilter"));
    let hit = |field: &Field<'_>, message: String| Some(Hit::new(rule::EF_MATCH, field.path(), message));
    match () {
        () if !filter.is_set() => None,
        () if name.text().is_empty() => hit(&name, "the filter to match has no name".to_owned()),
        () if !below.is_set() => None,
        () if target != "HTTP_FILTER" => {
            hit(&below, format!("subFilter is for patches of HTTP_FILTER, not of {target}"))
        }
        () if !MANAGERS.contains(&name.text()) => {
            hit(&name, format!("subFilter needs the filter {}, not {}", MANAGERS[0], quote(name.text())))
        }
        () if below.get("name").text().is_empty() => hit(&below.get("name"), "the subFilter has no name".to_owned()),
        () => None,
    }
}

/// A waypoint's own match goes with its context, and with no other.
fn waypoint(on: &Field<'_>) -> Vec<Hit> {
    let (context, waypoint) = (on.get("context"), on.get("waypoint"));
    let number = waypoint.get("portNumber");
    let mut hits: Vec<Hit> = common::port(&number).into_iter().collect();
    if (context.text() == "WAYPOINT") != waypoint.is_set() {
        let message = "the context WAYPOINT and a match on waypoint go together";
        let at = if waypoint.is_set() { &waypoint } else { &context };
        hits.push(Hit::new(rule::EF_MATCH, at.path(), message).at_key());
    }
    hits
}

fn value(patch: &Field<'_>) -> Vec<Hit> {
    let field = patch.get("patch").get("value");
    let mut hits = Vec::new();
    let name = field.get("name");
    if name.is_set() && name.as_text().is_none() && patch.get("applyTo").text() != "BOOTSTRAP" {
        hits.push(Hit::new(rule::EF_VALUE, name.path(), "name must be a text").suggest("put it in quotes"));
    }
    if let Some(value) = field.value() {
        types(value, field.path(), &mut hits);
    }
    hits
}

/// Every `@type` in a value.
fn types(value: &Value, path: &Path, hits: &mut Vec<Hit>) {
    match value {
        Value::Object(fields) => {
            for (name, below) in fields {
                let at = path.field(name);
                if name == "@type" {
                    hits.extend(type_problem(below).map(|problem| Hit::new(rule::EF_VALUE, &at, problem)));
                }
                types(below, &at, hits);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| types(item, &path.index(index), hits));
        }
        _ => {}
    }
}

fn type_problem(value: &Value) -> Option<String> {
    let Some(text) = value.as_str() else { return Some("the name of a type must be a text".to_owned()) };
    let name = text.rsplit('/').next().unwrap_or_default();
    let is_old = name.contains(".v2.") || name.contains(".v2alpha") || OLD.iter().any(|start| name.starts_with(start));
    let message = || format!("Envoy no longer has the type {}: its API version is 3", quote(name));
    (is_old && name.starts_with("envoy.")).then(message)
}
