//! What a pod should let in, and what its policy says. Pure.

use std::collections::BTreeSet;

use linkerd2_proxy_api::inbound::{
    Authz, GrpcRoute, HttpLocalRateLimit, HttpRoute, Server as Message, http_local_rate_limit::Limit, http_route,
    proxy_protocol::Kind as Protocol,
};
use serde_json::{Map, Value, json};

use super::{
    authorization,
    facts::{Facts, Kind, is_named},
    shape::{self, items},
};
use crate::{object, proof::Expected};

/// A pod and a port of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) port: u16,
}

/// Every port of every pod that some server may speak for, and with an object that is gone every port there is.
pub(super) fn places(facts: &Facts, expected: &Expected) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    for pod in facts.all(Kind::Pod) {
        if ["Succeeded", "Failed"].iter().any(|over| pod["status"]["phase"] == *over) {
            continue;
        }
        let part = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (part("namespace"), part("name"));
        let servers = facts.within(Kind::Server, &namespace).map(|server| &server["spec"]["port"]);
        // A server that moved to another port has left the old one.
        let left = expected.others.iter().filter(|_| expected.target.kind == "Server").map(|spec| &spec["port"]);
        let mut ports: BTreeSet<u16> = servers.chain(left).filter_map(|port| number(pod, port)).collect();
        if expected.object.is_none() {
            ports.extend(declared(pod).map(|(_, port)| port));
        }
        for port in ports {
            places.insert(Place { namespace: namespace.clone(), pod: name.clone(), port });
        }
    }
    places
}

/// The ports that a pod's containers declare, by name.
fn declared(pod: &Value) -> impl Iterator<Item = (&str, u16)> {
    let ports = items(&pod["spec"], "containers").flat_map(|container| items(container, "ports"));
    ports.filter_map(|port| {
        let number = port["containerPort"].as_u64().and_then(|number| u16::try_from(number).ok())?;
        Some((port["name"].as_str().unwrap_or_default(), number))
    })
}

/// The number of a server's port on this pod.
fn number(pod: &Value, port: &Value) -> Option<u16> {
    match port {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(name) => declared(pod).find(|(declared, _)| declared == name).map(|(_, number)| number),
        _ => None,
    }
}

fn selects(selector: &Value, object: &Value) -> bool {
    let labels = object::metadata_map(object, "labels");
    let value = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = items(selector, "matchExpressions");
    wanted.into_iter().all(|(key, wanted)| value(key) == wanted.as_str())
        && expressions.into_iter().all(|one| {
            let value = value(one["key"].as_str().unwrap_or_default());
            let is_listed = items(one, "values").any(|listed| listed.as_str() == value && value.is_some());
            match one["operator"].as_str().unwrap_or_default() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// The server that speaks for a place: the oldest that selects it.
fn server<'a>(facts: &'a Facts, place: &Place) -> Option<&'a Value> {
    let pod = facts.find(Kind::Pod, &place.namespace, &place.pod)?;
    facts.oldest_first(Kind::Server, &place.namespace).into_iter().find(|server| {
        let spec = &server["spec"];
        spec["podSelector"].is_object()
            && selects(&spec["podSelector"], pod)
            && number(pod, &spec["port"]) == Some(place.port)
    })
}

/// What the policy of a place should say of the target, if the target says `spec`; null = nothing.
pub(super) fn wanted(facts: &Facts, expected: &Expected, spec: Option<&Value>, place: &Place) -> Value {
    let target = &expected.target;
    let (Some(spec), Some(server)) = (spec, server(facts, place)) else { return Value::Null };
    let name = server["metadata"]["name"].as_str().unwrap_or_default();
    match target.kind.as_str() {
        "Server" if name == target.name => of_server(spec),
        "AuthorizationPolicy" if target.namespace == place.namespace => {
            authorized(facts, spec, &place.namespace, server)
        }
        "ServerAuthorization" if covers(spec, server) => {
            json!({"server": authorization::of_server_authorization(&target.namespace, spec)})
        }
        "MeshTLSAuthentication" | "NetworkAuthentication" => by_policies(facts, expected, place, server),
        "HTTPLocalRateLimitPolicy" => of_limits(facts, expected, place, server),
        "HTTPRoute" | "GRPCRoute" => of_route(expected, spec, server),
        _ => Value::Null,
    }
}

fn of_server(spec: &Value) -> Value {
    let access = spec["accessPolicy"].as_str().unwrap_or("deny");
    json!({"protocol": spec["proxyProtocol"].as_str().unwrap_or("unknown"),
           "lets in": (access != "deny").then_some(access)})
}

/// Where a policy is found in the message of a server, and what it says there.
fn authorized(facts: &Facts, spec: &Value, namespace: &str, server: &Value) -> Value {
    let target = &spec["targetRef"];
    let name = target["name"].as_str().unwrap_or_default();
    let kind = target["kind"].as_str().unwrap_or_default();
    let place = match kind {
        "Server" if server["metadata"]["name"] == name => "server".to_owned(),
        "Namespace" if name == namespace => "server".to_owned(),
        "HTTPRoute" | "GRPCRoute" => {
            let group = target["group"].as_str().unwrap_or_default();
            let route = Kind::of_route(group, kind).and_then(|kind| facts.find(kind, namespace, name));
            match route.filter(|route| is_served(&route["spec"], kind == "GRPCRoute", server)) {
                Some(_) => format!("route {group}/{kind}/{name}"),
                None => return Value::Null,
            }
        }
        _ => return Value::Null,
    };
    let says = authorization::of_policy(facts, namespace, spec);
    says.map_or(Value::Null, |says| json!({place: says}))
}

fn covers(spec: &Value, server: &Value) -> bool {
    let chosen = &spec["server"];
    chosen["name"] == server["metadata"]["name"]
        || chosen["selector"].is_object() && selects(&chosen["selector"], server)
}

/// What all policies of the place's namespace say that refer to the target.
fn by_policies(facts: &Facts, expected: &Expected, place: &Place, server: &Value) -> Value {
    let mut found = Map::new();
    for policy in facts.within(Kind::Policy, &place.namespace) {
        let spec = &policy["spec"];
        if refers(spec, &place.namespace, expected) {
            let says = authorized(facts, spec, &place.namespace, server);
            if let (false, Some(name)) = (says.is_null(), policy["metadata"]["name"].as_str()) {
                found.insert(name.to_owned(), says);
            }
        }
    }
    if found.is_empty() { Value::Null } else { Value::Object(found) }
}

fn refers(spec: &Value, namespace: &str, expected: &Expected) -> bool {
    let target = &expected.target;
    items(spec, "requiredAuthenticationRefs").any(|reference| {
        reference["kind"] == target.kind.as_str()
            && reference["name"] == target.name.as_str()
            && reference["namespace"].as_str().unwrap_or(namespace) == target.namespace
    })
}

/// Limits are for requests that the proxy reads: other protocols carry none, nor does a server with an older limit.
fn of_limits(facts: &Facts, expected: &Expected, place: &Place, server: &Value) -> Value {
    let name = &server["metadata"]["name"];
    let protocol = server["spec"]["proxyProtocol"].as_str().unwrap_or("unknown");
    let is_its = |limit: &&&Value| {
        let target = &limit["spec"]["targetRef"];
        target["kind"] == "Server" && target["name"] == *name
    };
    let limits = facts.oldest_first(Kind::RateLimit, &place.namespace);
    let first = limits.iter().find(is_its).filter(|limit| is_named(limit, &expected.target));
    let Some(spec) = first.map(|limit| &limit["spec"]).filter(|_| !["gRPC", "opaque", "TLS"].contains(&protocol))
    else {
        return Value::Null;
    };
    let overrides: Value = items(spec, "overrides")
        .map(|one| {
            let clients: Value = items(one, "clientRefs")
                .map(|client| {
                    let namespace = client["namespace"].as_str().unwrap_or(&place.namespace);
                    let name = client["name"].as_str().unwrap_or_default();
                    Value::from(format!("{name}.{namespace}.serviceaccount.identity.*"))
                })
                .collect();
            json!([one["requestsPerSecond"], clients])
        })
        .collect();
    json!({"total": spec["total"]["requestsPerSecond"], "identity": spec["identity"]["requestsPerSecond"],
           "overrides": overrides})
}

/// Whether a server has this route: as one of its parents, and by its protocol.
fn is_served(route: &Value, is_rpc: bool, server: &Value) -> bool {
    let fits = match server["spec"]["proxyProtocol"].as_str().unwrap_or("unknown") {
        "gRPC" => is_rpc,
        "opaque" | "TLS" => false,
        _ => !is_rpc,
    };
    let mut parents = items(route, "parentRefs");
    fits && parents.any(|parent| {
        let is_server = parent["kind"] == "Server" && parent["group"] == "policy.linkerd.io";
        is_server && parent["name"] == server["metadata"]["name"]
    })
}

fn of_route(expected: &Expected, spec: &Value, server: &Value) -> Value {
    let is_rpc = expected.target.kind == "GRPCRoute";
    if !is_served(spec, is_rpc, server) {
        return Value::Null;
    }
    let rule = |rule: &Value| {
        let matches = if is_rpc { shape::rpcs_of(rule) } else { shape::matches_of(rule) };
        json!({"matches": matches, "filters": shape::filters_of(rule)})
    };
    let rules: Value = items(spec, "rules").map(rule).collect();
    json!({"hosts": shape::hosts_of(spec), "rules": rules})
}

/// What the policy of a place says of the target.
pub(super) fn found(facts: &Facts, expected: &Expected, place: &Place, message: &Message) -> Value {
    let target = &expected.target;
    match target.kind.as_str() {
        "Server" => served_by(message, &target.name),
        "AuthorizationPolicy" => authorized_by(message, "authorizationpolicy", &target.name),
        "ServerAuthorization" => authorized_by(message, "serverauthorization", &target.name),
        "MeshTLSAuthentication" | "NetworkAuthentication" => {
            let mut found = Map::new();
            for policy in facts.within(Kind::Policy, &place.namespace) {
                let name = policy["metadata"]["name"].as_str().unwrap_or_default();
                let says = authorized_by(message, "authorizationpolicy", name);
                if refers(&policy["spec"], &place.namespace, expected) && !says.is_null() {
                    found.insert(name.to_owned(), says);
                }
            }
            if found.is_empty() { Value::Null } else { Value::Object(found) }
        }
        "HTTPLocalRateLimitPolicy" => limited_by(message, &target.name),
        "HTTPRoute" => {
            let routes = http_routes(message).iter().map(|route| (&route.metadata, || http_route(route)));
            this_route(expected, routes)
        }
        "GRPCRoute" => {
            let routes = grpc_routes(message).iter().map(|route| (&route.metadata, || grpc_route(route)));
            this_route(expected, routes)
        }
        _ => Value::Null,
    }
}

fn protocol(message: &Message) -> Option<&Protocol> {
    message.protocol.as_ref()?.kind.as_ref()
}

fn served_by(message: &Message, name: &str) -> Value {
    let label = |key: &str| message.labels.get(key).map_or("", String::as_str);
    if label("kind") != "server" || label("name") != name {
        return Value::Null;
    }
    let protocol = match protocol(message) {
        Some(Protocol::Detect(_)) => "unknown",
        Some(Protocol::Http1(_)) => "HTTP/1",
        Some(Protocol::Http2(_)) => "HTTP/2",
        Some(Protocol::Grpc(_)) => "gRPC",
        Some(Protocol::Opaque(_)) => "opaque",
        Some(Protocol::Tls(_)) => "TLS",
        None => "none",
    };
    json!({"protocol": protocol, "lets in": authorization::default_of(&message.authorizations)})
}

fn http_routes(message: &Message) -> &[HttpRoute] {
    match protocol(message) {
        Some(Protocol::Detect(protocol)) => &protocol.http_routes,
        Some(Protocol::Http1(protocol)) => &protocol.routes,
        Some(Protocol::Http2(protocol)) => &protocol.routes,
        _ => &[],
    }
}

fn grpc_routes(message: &Message) -> &[GrpcRoute] {
    match protocol(message) {
        Some(Protocol::Grpc(protocol)) => &protocol.routes,
        _ => &[],
    }
}

/// Where the message has the authorization, and what it says there.
fn authorized_by(message: &Message, kind: &str, name: &str) -> Value {
    let mut found = Map::new();
    let mut at = |place: String, authorizations: &[Authz]| {
        let says = authorization::found(authorizations, kind, name);
        if !says.is_null() {
            found.insert(place, says);
        }
    };
    at("server".to_owned(), &message.authorizations);
    let http = http_routes(message).iter().map(|route| (&route.metadata, &route.authorizations));
    let grpc = grpc_routes(message).iter().map(|route| (&route.metadata, &route.authorizations));
    for (metadata, authorizations) in http.chain(grpc) {
        if let Some(route) = shape::resource(metadata.as_ref()) {
            at(format!("route {}/{}/{}", route.group, route.kind, route.name), authorizations);
        }
    }
    if found.is_empty() { Value::Null } else { Value::Object(found) }
}

fn limited_by(message: &Message, name: &str) -> Value {
    let limit = match protocol(message) {
        Some(Protocol::Detect(protocol)) => protocol.http_local_rate_limit.as_ref(),
        Some(Protocol::Http1(protocol)) => protocol.local_rate_limit.as_ref(),
        Some(Protocol::Http2(protocol)) => protocol.local_rate_limit.as_ref(),
        _ => None,
    };
    let is_it = |limit: &&HttpLocalRateLimit| {
        shape::resource(limit.metadata.as_ref()).is_some_and(|resource| resource.name == name)
    };
    let Some(limit) = limit.filter(is_it) else { return Value::Null };
    let number = |limit: Option<&Limit>| limit.map(|limit| limit.requests_per_second);
    let overrides: Value = limit
        .overrides
        .iter()
        .map(|one| {
            let clients = one.clients.iter().flat_map(|clients| &clients.identities);
            json!([number(one.limit.as_ref()), clients.map(|client| client.name.clone()).collect::<Vec<_>>()])
        })
        .collect();
    json!({"total": number(limit.total.as_ref()), "identity": number(limit.identity.as_ref()), "overrides": overrides})
}

type RouteMetadata = Option<linkerd2_proxy_api::meta::Metadata>;

/// The shape of the route that the target is, among those of a message.
pub(super) fn this_route<'a, S: Fn() -> Value>(
    expected: &Expected,
    routes: impl IntoIterator<Item = (&'a RouteMetadata, S)>,
) -> Value {
    let target = &expected.target;
    let is_it = |metadata: &RouteMetadata| {
        shape::resource(metadata.as_ref()).is_some_and(|resource| {
            resource.group == target.group()
                && resource.kind.eq_ignore_ascii_case(&target.kind)
                && resource.name == target.name
                && (resource.namespace.is_empty() || resource.namespace == target.namespace)
        })
    };
    routes.into_iter().find(|(metadata, _)| is_it(metadata)).map_or(Value::Null, |(_, shape)| shape())
}

fn http_route(route: &HttpRoute) -> Value {
    use http_route::filter::Kind;
    let filter = |filter: &http_route::Filter| match filter.kind.as_ref() {
        Some(Kind::RequestHeaderModifier(one)) => {
            json!({"request": shape::modifier(one.add.as_ref(), one.set.as_ref(), &one.remove)})
        }
        Some(Kind::Redirect(one)) => json!({"redirect": shape::redirect(one)}),
        _ => json!({"fails": true}),
    };
    let rule = |rule: &http_route::Rule| {
        let filters: Value = rule.filters.iter().map(filter).collect();
        json!({"matches": shape::matches(&rule.matches), "filters": filters})
    };
    json!({"hosts": shape::hosts(&route.hosts), "rules": route.rules.iter().map(rule).collect::<Vec<_>>()})
}

fn grpc_route(route: &GrpcRoute) -> Value {
    use linkerd2_proxy_api::inbound::grpc_route::{Filter, Rule, filter::Kind};
    let filter = |filter: &Filter| match filter.kind.as_ref() {
        Some(Kind::RequestHeaderModifier(one)) => {
            json!({"request": shape::modifier(one.add.as_ref(), one.set.as_ref(), &one.remove)})
        }
        _ => json!({"fails": true}),
    };
    let rule = |rule: &Rule| {
        let filters: Value = rule.filters.iter().map(filter).collect();
        json!({"matches": shape::rpcs(&rule.matches), "filters": filters})
    };
    json!({"hosts": shape::hosts(&route.hosts), "rules": route.rules.iter().map(rule).collect::<Vec<_>>()})
}
