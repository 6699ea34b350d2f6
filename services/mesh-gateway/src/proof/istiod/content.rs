//! `/debug/config_dump`: what istiod would generate for a proxy, and whether that is what was written.
//!
//! Generated routes carry no version of the object that they come from. Two things in them tell:
//!
//! - the expression on `x-request-id`, which every weight of a canary by request ids has its own of: if the ones in the
//!   routes are not exactly those of the written spec, the routes are older;
//! - otherwise what can be predicted of each route ([`traits`]): its name, series, destinations with weights, timeout.
//!   If the routes fit the written spec and no other that the proxy may still have, they are new; if they fit only
//!   another one, or send elsewhere than what was written, they are older; anything else is unclear. A prediction that is
//!   wrong costs time, never truth.
//!
//! What a VirtualService says of connections that are no requests is in listeners, and is predicted like its routes:
//! [`connections`].
//!
//! An AuthorizationPolicy is in listeners, and named there: see [`rbac`]; a DestinationRule in clusters: [`clusters`];
//! what lists endpoints in these: [`endpoints`].

pub(super) mod clusters;
mod connections;
pub(super) mod endpoints;
pub(super) mod rbac;
mod traits;

use std::collections::BTreeSet;

use meshward_model::Target;
use serde_json::Value;

use super::{super::Content, Expected, cohorts, sync};
use crate::dialect::qualified;

const REQUEST_ID: &str = "x-request-id";
/// How the types of what is dumped end.
const LISTENER: &str = ".Listener";
const ROUTES: &str = ".RouteConfiguration";
const CLUSTER: &str = ".Cluster";
const ENDPOINTS: &str = ".ClusterLoadAssignment";

/// What a dump says of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen<'a> {
    pub(super) content: Content,
    /// The kinds of configuration that the object is part of.
    pub(super) kinds: Vec<&'a str>,
}

/// The types of configuration that tell of an object, as `/debug/config_dump?types=` is asked for them; `None` if it cannot
/// be recognized. No others are asked for: see [`super::turns`].
pub(super) fn types(expected: &Expected) -> Option<&'static str> {
    match (expected.target.group(), expected.target.kind.as_str()) {
        _ if expected.cohorts.is_some() && !cohorts::are_recognized(expected) => None,
        ("security.istio.io", "AuthorizationPolicy") => Some(LISTENERS_ALONE),
        ("networking.istio.io", "DestinationRule") => Some("cds"),
        ("networking.istio.io", _) if endpoints::are_told_by(expected) => Some("eds"),
        _ => Some("rds,lds"),
    }
}

/// The kinds of configuration by which a proxy is judged that could not be asked yet: those that are most likely.
pub(super) fn likely_kinds(expected: &Expected) -> &'static [&'static str] {
    match types(expected) {
        Some(LISTENERS_ALONE) => &[sync::LISTENERS],
        Some("cds" | "eds") => &[sync::CLUSTERS, sync::ENDPOINTS],
        _ => &[sync::ROUTES],
    }
}

/// Listeners are the one type that istiod keeps no generated copies of.
pub(super) const LISTENERS_ALONE: &str = "lds";

/// `None` if the object cannot concern the proxy.
pub(super) fn read(dump: &Value, expected: &Expected) -> Option<Seen<'static>> {
    match (expected.target.group(), expected.target.kind.as_str()) {
        ("security.istio.io", "AuthorizationPolicy") => rbac::read(dump, expected),
        ("networking.istio.io", "DestinationRule") => clusters::read(dump, expected),
        ("networking.istio.io", _) if endpoints::are_told_by(expected) => endpoints::read(dump, expected),
        _ => read_routes(dump, expected),
    }
}

fn read_routes(dump: &Value, expected: &Expected) -> Option<Seen<'static>> {
    let sources: Vec<_> = [&expected.target].into_iter().chain(&expected.through).map(source).collect();
    let routes = routes_of(dump, &sources);
    let chains = connections::of(dump, &sources);
    let in_listeners = resources(dump, LISTENER).any(|listener| mentions(listener, &sources));
    let mut kinds = Vec::new();
    if !routes.is_empty() {
        kinds.push(sync::ROUTES);
    }
    if in_listeners {
        kinds.push(sync::LISTENERS);
    }
    let uses = !kinds.is_empty();
    let serves = !uses && serves_a_host(dump, expected);
    if !uses {
        // It may have to use the object and not know of it yet: always where it serves one of the hosts, and anywhere
        // if hosts or gateways are what changed.
        if !(serves || expected.rebinds) {
            return None;
        }
        kinds.push(sync::ROUTES);
    }
    let content = match &expected.object {
        None if uses => Content::Older,
        None if serves => Content::Shows,
        Some(object) if uses => compare(&object["spec"], &expected.others, &routes, &chains),
        _ => Content::Unused,
    };
    Some(Seen { content, kinds })
}

/// How generated configuration names its source.
fn source(target: &Target) -> String {
    format!("/namespaces/{}/{}/{}", target.namespace, kebab(&target.kind), target.name)
}

/// "VirtualService" as "virtual-service".
fn kebab(kind: &str) -> String {
    let mut text = String::new();
    for (index, letter) in kind.char_indices() {
        if letter.is_uppercase() && index > 0 {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The resources of a kind.
fn resources<'a>(dump: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    let all = dump["configs"].as_array().into_iter().flatten();
    all.filter(move |config| config["@type"].as_str().is_some_and(|type_url| type_url.ends_with(kind)))
}

/// "1.5s", "200ms", "1m": 0 if there is none.
fn milliseconds(duration: &Value) -> u64 {
    let parsed = duration.as_str().and_then(|text| text.parse::<jiff::SignedDuration>().ok());
    parsed.map_or(0, |duration| u64::try_from(duration.as_millis()).unwrap_or(0))
}

/// Whether any part of a section names one of the sources.
fn mentions(value: &Value, sources: &[String]) -> bool {
    match value {
        Value::String(text) => text.starts_with("/apis/") && sources.iter().any(|source| text.ends_with(source)),
        Value::Array(items) => items.iter().any(|item| mentions(item, sources)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, sources)),
        _ => false,
    }
}

fn virtual_hosts(dump: &Value) -> impl Iterator<Item = &Value> {
    resources(dump, ROUTES).flat_map(|config| config["virtualHosts"].as_array().into_iter().flatten())
}

/// The routes that come from the object, one list for each virtual host that has any.
fn routes_of<'a>(dump: &'a Value, sources: &[String]) -> Vec<Vec<&'a Value>> {
    let of_host = |host: &'a Value| {
        let routes = host["routes"].as_array().into_iter().flatten();
        routes.filter(|route| mentions(&route["metadata"], sources)).collect::<Vec<_>>()
    };
    virtual_hosts(dump).map(of_host).filter(|routes| !routes.is_empty()).collect()
}

/// Whether the proxy has a virtual host for one of the hosts that the object names, or named.
fn serves_a_host(dump: &Value, expected: &Expected) -> bool {
    let specs = expected.object.iter().map(|object| &object["spec"]).chain(&expected.others);
    let names = specs.flat_map(|spec| spec["hosts"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    let hosts: BTreeSet<_> = names.map(|host| qualified(host, &expected.target.namespace)).collect();
    let domains = virtual_hosts(dump).flat_map(|host| host["domains"].as_array().into_iter().flatten());
    domains.filter_map(Value::as_str).any(|domain| hosts.contains(domain))
}

/// Compares routes and filter chains with what was written and with what the proxy may still have.
fn compare(written: &Value, others: &[Value], routes: &[Vec<&Value>], chains: &[Vec<&Value>]) -> Content {
    let wanted = expressions(&written["http"], &["headers", "withoutHeaders"]);
    let found: BTreeSet<_> = routes.iter().flatten().flat_map(|route| generated_expressions(route)).collect();
    // A listener has no expressions.
    if !routes.is_empty() && wanted != found {
        return Content::Older;
    }
    if !routes.is_empty() && !wanted.is_empty() {
        return Content::Shows;
    }
    let fits = |spec: &Value| {
        routes.iter().all(|routes| traits::fit(spec, routes))
            && chains.iter().all(|chains| connections::fit(spec, chains))
    };
    match (fits(written), others.iter().any(fits)) {
        (true, false) => Content::Shows,
        (false, true) => Content::Older,
        // Where they send, and how much, is certain: whatever this comes from, another weight perhaps, it is not what was
        // written.
        (false, false) if routes.iter().all(|routes| traits::fit_elsewhere(written, routes)) => Content::Older,
        _ => Content::Unclear,
    }
}

/// The expressions on the request id in a spec.
fn expressions(routes: &Value, fields: &[&str]) -> BTreeSet<String> {
    let matches =
        routes.as_array().into_iter().flatten().flat_map(|route| route["match"].as_array().into_iter().flatten());
    let regexes = matches.flat_map(|one| fields.iter().filter_map(|field| one[*field][REQUEST_ID]["regex"].as_str()));
    regexes.map(str::to_owned).collect()
}

/// The expressions on the request id in a generated route.
fn generated_expressions(route: &Value) -> Vec<String> {
    let headers = route["match"]["headers"].as_array().into_iter().flatten();
    let ours = headers.filter(|header| header["name"] == REQUEST_ID);
    ours.filter_map(|header| header["stringMatch"]["safeRegex"]["regex"].as_str()).map(str::to_owned).collect()
}
