//! What counts of an object and of a message, in one form, so that they can be compared. Pure.
//!
//! A shape is plain JSON. What the controller would not convert (a filter that it does not know, say) has a shape that no
//! message has: such an object is never called live, and that is how it is, for the controller then silently keeps what
//! it had before.

use std::time::Duration;

use linkerd2_proxy_api::{
    http_route::{
        HeaderMatch, HostMatch, HttpRouteMatch, QueryParamMatch, RequestRedirect, header_match, host_match, path_match,
        path_modifier, query_param_match,
    },
    http_types::{Headers, HttpMethod, Scheme},
    meta::{Metadata, Resource, metadata},
};
use serde_json::{Value, json};

/// In a wanted shape: whatever is there.
pub(super) const ANY: &str = "(any)";

/// Whether a shape is what was wanted. A text that ends with ".*" wants that beginning.
pub(super) fn fits(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::String(wanted), _) if wanted == ANY => true,
        (Value::String(wanted), Value::String(found)) => match wanted.strip_suffix('*') {
            Some(start) if start.ends_with('.') => found.starts_with(start),
            _ => wanted == found,
        },
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| fits(wanted, found))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.len() == found.len()
                && wanted.iter().all(|(name, wanted)| found.get(name).is_some_and(|found| fits(wanted, found)))
        }
        _ => wanted == found,
    }
}

/// A field that is a list, or nothing.
pub(super) fn items<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    object[field].as_array().into_iter().flatten()
}

fn text<'a>(object: &'a Value, field: &str, default: &'a str) -> &'a str {
    object[field].as_str().unwrap_or(default)
}

/// The resource that a message names, if it names one.
pub(super) fn resource(metadata: Option<&Metadata>) -> Option<&Resource> {
    match metadata?.kind.as_ref()? {
        metadata::Kind::Resource(resource) => Some(resource),
        metadata::Kind::Default(_) => None,
    }
}

/// `hostnames` of an object.
pub(super) fn hosts_of(spec: &Value) -> Value {
    items(spec, "hostnames").cloned().collect()
}

/// The same of a message.
pub(super) fn hosts(hosts: &[HostMatch]) -> Value {
    let one = |host: &HostMatch| match host.r#match.as_ref() {
        Some(host_match::Match::Exact(name)) => name.clone(),
        Some(host_match::Match::Suffix(suffix)) => wildcard(&suffix.reverse_labels),
        None => String::new(),
    };
    hosts.iter().map(one).map(Value::from).collect()
}

/// "*.example.org" of its labels in reverse.
pub(super) fn wildcard(reverse_labels: &[String]) -> String {
    let labels: Vec<_> = reverse_labels.iter().rev().map(String::as_str).collect();
    format!("*.{}", labels.join("."))
}

/// `matches` of a rule of an HTTPRoute.
pub(super) fn matches_of(rule: &Value) -> Value {
    let values = |one: &Value, field: &str, lower: bool| -> Value {
        let pair = |value: &Value| {
            let name = text(value, "name", "");
            let name = if lower { name.to_lowercase() } else { name.to_owned() };
            json!([name, text(value, "type", "Exact"), value["value"]])
        };
        items(one, field).map(pair).collect()
    };
    let one = |one: &Value| {
        let path = &one["path"];
        let kind = match text(path, "type", "PathPrefix") {
            "PathPrefix" => "Prefix",
            "RegularExpression" => "Regex",
            other => other,
        };
        let path = if path.is_null() { Value::Null } else { json!([kind, text(path, "value", "/")]) };
        json!({"path": path, "headers": values(one, "headers", true), "params": values(one, "queryParams", false),
               "method": one["method"]})
    };
    items(rule, "matches").map(one).collect()
}

/// The same of a message.
pub(super) fn matches(matches: &[HttpRouteMatch]) -> Value {
    let one = |one: &HttpRouteMatch| {
        let path = match one.path.as_ref().and_then(|path| path.kind.as_ref()) {
            Some(path_match::Kind::Exact(path)) => json!(["Exact", path]),
            Some(path_match::Kind::Prefix(path)) => json!(["Prefix", path]),
            Some(path_match::Kind::Regex(path)) => json!(["Regex", path]),
            None => Value::Null,
        };
        json!({"path": path, "headers": headers(&one.headers), "params": parameters(&one.query_params),
               "method": one.method.clone().map(method)})
    };
    matches.iter().map(one).collect()
}

/// The header matches of a message, of a request or of an RPC.
pub(super) fn headers(headers: &[HeaderMatch]) -> Value {
    let one = |header: &HeaderMatch| match &header.value {
        Some(header_match::Value::Exact(value)) => json!([header.name, "Exact", String::from_utf8_lossy(value)]),
        Some(header_match::Value::Regex(value)) => json!([header.name, "RegularExpression", value]),
        None => Value::Null,
    };
    headers.iter().map(one).collect()
}

fn parameters(parameters: &[QueryParamMatch]) -> Value {
    let one = |parameter: &QueryParamMatch| match &parameter.value {
        Some(query_param_match::Value::Exact(value)) => json!([parameter.name, "Exact", value]),
        Some(query_param_match::Value::Regex(value)) => json!([parameter.name, "RegularExpression", value]),
        None => Value::Null,
    };
    parameters.iter().map(one).collect()
}

fn method(method: HttpMethod) -> String {
    http::Method::try_from(method).map_or_else(|_| String::new(), |method| method.to_string())
}

/// `matches` of a rule of a GRPCRoute.
pub(super) fn rpcs_of(rule: &Value) -> Value {
    let one = |one: &Value| {
        let method = &one["method"];
        let rpc = || json!([text(method, "service", ""), text(method, "method", "")]);
        // The controller takes no other than exact ones.
        let rpc = match text(method, "type", "Exact") {
            _ if method.is_null() => Value::Null,
            "Exact" => rpc(),
            _ => "not converted".into(),
        };
        let headers: Value = items(one, "headers")
            .map(|header| {
                json!([text(header, "name", "").to_lowercase(), text(header, "type", "Exact"), header["value"]])
            })
            .collect();
        json!({"rpc": rpc, "headers": headers})
    };
    items(rule, "matches").map(one).collect()
}

/// The same of a message.
pub(super) fn rpcs(matches: &[linkerd2_proxy_api::grpc_route::GrpcRouteMatch]) -> Value {
    let one = |one: &linkerd2_proxy_api::grpc_route::GrpcRouteMatch| {
        let rpc = one.rpc.as_ref().map(|rpc| json!([rpc.service, rpc.method]));
        json!({"rpc": rpc, "headers": headers(&one.headers)})
    };
    matches.iter().map(one).collect()
}

/// `filters` of a rule or of a backend.
pub(super) fn filters_of(object: &Value) -> Value {
    let modifier = |modifier: &Value| {
        let pairs = |field: &str| -> Value {
            let pair = |header: &Value| json!([text(header, "name", "").to_lowercase(), header["value"]]);
            items(modifier, field).map(pair).collect()
        };
        let removed: Value =
            items(modifier, "remove").map(|name| name.as_str().unwrap_or_default().to_lowercase()).collect();
        json!({"add": pairs("add"), "set": pairs("set"), "remove": removed})
    };
    let one = |filter: &Value| match text(filter, "type", "") {
        "RequestHeaderModifier" => json!({"request": modifier(&filter["requestHeaderModifier"])}),
        "ResponseHeaderModifier" => json!({"response": modifier(&filter["responseHeaderModifier"])}),
        "RequestRedirect" => {
            let redirect = &filter["requestRedirect"];
            let path = &redirect["path"];
            let path = ["replaceFullPath", "replacePrefixMatch"].iter().find(|field| path[**field].is_string());
            json!({"redirect": {
                "scheme": redirect["scheme"], "host": text(redirect, "hostname", ""),
                "path": path.map(|field| json!([field, redirect["path"][*field]])),
                "port": redirect["port"].as_u64().unwrap_or_default(),
                "status": redirect["statusCode"].as_u64().unwrap_or(302)}})
        }
        other => json!({"not converted": other}),
    };
    items(object, "filters").map(one).collect()
}

/// The modifier of headers in a message.
pub(super) fn modifier(add: Option<&Headers>, set: Option<&Headers>, remove: &[String]) -> Value {
    let pairs = |headers: Option<&Headers>| -> Value {
        let headers = headers.into_iter().flat_map(|headers| &headers.headers);
        headers.map(|header| json!([header.name, String::from_utf8_lossy(&header.value)])).collect()
    };
    json!({"add": pairs(add), "set": pairs(set), "remove": remove})
}

/// The redirect in a message.
pub(super) fn redirect(redirect: &RequestRedirect) -> Value {
    let path = match redirect.path.as_ref().and_then(|path| path.replace.as_ref()) {
        Some(path_modifier::Replace::Full(path)) => json!(["replaceFullPath", path]),
        Some(path_modifier::Replace::Prefix(path)) => json!(["replacePrefixMatch", path]),
        None => Value::Null,
    };
    let scheme = |scheme: Scheme| http::uri::Scheme::try_from(scheme).map(|scheme| scheme.to_string()).ok();
    json!({"scheme": redirect.scheme.clone().and_then(scheme), "host": redirect.host, "path": path,
           "port": redirect.port, "status": redirect.status})
}

/// Milliseconds of "10s", "500ms", "1m30s"; zero is none.
pub(super) fn milliseconds_of(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let unit = rest[number..].find(|letter: char| letter.is_ascii_digit()).map_or(rest.len(), |end| number + end);
        let seconds = match &rest[number..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        whole += Duration::try_from_secs_f64(rest[..number].parse::<f64>().ok()? * seconds).ok()?;
        rest = &rest[unit..];
    }
    u64::try_from(whole.as_millis()).ok().filter(|milliseconds| *milliseconds > 0)
}

/// The same of a message.
pub(super) fn milliseconds(duration: Option<&prost_types::Duration>) -> Option<u64> {
    let duration = Duration::try_from(*duration?).ok()?;
    u64::try_from(duration.as_millis()).ok().filter(|milliseconds| *milliseconds > 0)
}
