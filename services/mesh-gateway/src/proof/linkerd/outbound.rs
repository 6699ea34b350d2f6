//! Where clients' requests should go, and what their policy says. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use linkerd2_proxy_api::{
    http_route::Timeouts,
    meta::Metadata,
    outbound::{
        Backend, GrpcRoute, HttpRoute, OpaqueRoute, OutboundPolicy as Message, TlsRoute, grpc_route, http_route,
        opaque_route, proxy_protocol::Kind as Protocol, tls_route,
    },
    tls_route::{SniMatch, sni_match},
};
use serde_json::{Value, json};

use super::{
    facts::{Facts, Kind},
    inbound::this_route,
    shape::{self, items},
};
use crate::proof::Expected;

/// The namespace whose networks are everybody's.
const GLOBAL_EGRESS: &str = "linkerd-egress";

/// A client, by one pod that stands for all of its namespace, and where it sends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Kind, namespace and name of the service or the network.
    pub(super) parent: (String, String, String),
}

/// Every client and every address that some version of the target is about.
pub(super) fn places(facts: &Facts, expected: &Expected) -> BTreeSet<Place> {
    let written = expected.object.as_ref().map(|object| &object["spec"]);
    let specs: Vec<_> = written.into_iter().chain(&expected.others).collect();
    let mut addresses = BTreeSet::new();
    for spec in specs {
        match expected.target.kind.as_str() {
            "EgressNetwork" => {
                let parent =
                    ("EgressNetwork".to_owned(), expected.target.namespace.clone(), expected.target.name.clone());
                addresses.extend(samples(spec).map(|address| (address, 443, parent.clone())));
            }
            _ => addresses.extend(items(spec, "parentRefs").flat_map(|parent| of_parent(facts, expected, parent))),
        }
    }
    let mut places = BTreeSet::new();
    for (address, port, parent) in addresses {
        for (namespace, pod) in facts.clients() {
            if sees(expected, &namespace, &parent) {
                places.insert(Place { namespace, pod, address, port, parent: parent.clone() });
            }
        }
    }
    places
}

/// Whether a client of this namespace is given the target: a producer's route is given to all, a consumer's to its own;
/// a network is its namespace's alone, unless it is everybody's.
fn sees(expected: &Expected, client: &str, (kind, parent, _): &Parent) -> bool {
    let has_parent = kind != "EgressNetwork" || parent == GLOBAL_EGRESS || parent == client;
    let own = &expected.target.namespace;
    has_parent && (own == parent || own == client)
}

type Parent = (String, String, String);

/// The addresses of a parent of a route.
fn of_parent(facts: &Facts, expected: &Expected, parent: &Value) -> Vec<(IpAddr, u16, Parent)> {
    let namespace = parent["namespace"].as_str().unwrap_or(&expected.target.namespace);
    let name = parent["name"].as_str().unwrap_or_default();
    let kind = parent["kind"].as_str().unwrap_or_default();
    let port = parent["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    let identity = (kind.to_owned(), namespace.to_owned(), name.to_owned());
    match kind {
        "Service" => {
            let Some(service) = facts.find(Kind::Service, namespace, name) else { return Vec::new() };
            let Some(address) = service["spec"]["clusterIP"].as_str().and_then(|text| text.parse().ok()) else {
                return Vec::new();
            };
            let ports = items(&service["spec"], "ports").filter_map(|port| u16::try_from(port["port"].as_u64()?).ok());
            ports
                .filter(|own| port.is_none_or(|port| port == *own))
                .map(|port| (address, port, identity.clone()))
                .collect()
        }
        "EgressNetwork" => {
            let Some(network) = facts.find(Kind::Egress, namespace, name) else { return Vec::new() };
            let addresses = samples(&network["spec"]);
            addresses.map(|address| (address, port.unwrap_or(443), identity.clone())).collect()
        }
        _ => Vec::new(),
    }
}

/// An address of each range, none that is left out; of a network that says none, one outside of private use.
fn samples(spec: &Value) -> impl Iterator<Item = IpAddr> {
    let outside = spec["networks"].is_null().then_some(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)));
    let ranges = items(spec, "networks").filter_map(|network| {
        let range: IpNet = network["cidr"].as_str()?.parse().ok()?;
        let except: Vec<IpNet> = items(network, "except").filter_map(|one| one.as_str()?.parse().ok()).collect();
        range.hosts().take(4096).find(|host| !except.iter().any(|one| one.contains(host)))
    });
    ranges.chain(outside).collect::<Vec<_>>().into_iter()
}

/// What a client's policy should say of the target, if the target says `spec`; null = nothing.
pub(super) fn wanted(facts: &Facts, expected: &Expected, spec: Option<&Value>, place: &Place) -> Value {
    let Some(spec) = spec else { return Value::Null };
    if expected.target.kind == "EgressNetwork" {
        let is_in = samples(spec).any(|address| address == place.address);
        return if is_in { json!({"policy": spec["trafficPolicy"]}) } else { Value::Null };
    }
    let parents = items(spec, "parentRefs").flat_map(|parent| of_parent(facts, expected, parent));
    let is_its = parents.into_iter().any(|(address, port, _)| (address, port) == (place.address, place.port));
    if !is_its {
        return Value::Null;
    }
    let annotations = |object: Option<&Value>| Policy::of(object.unwrap_or(&Value::Null), &expected.target.kind);
    let own = annotations(expected.object.as_ref());
    let service = annotations(facts.find(Kind::Service, &place.parent.1, &place.parent.2));
    let rules: Value = items(spec, "rules").map(|rule| of_rule(expected, place, rule, &own, &service)).collect();
    json!({"hosts": shape::hosts_of(spec), "rules": rules})
}

/// Timeouts and retries, which are annotations of routes or of services.
struct Policy {
    request: Option<u64>,
    response: Option<u64>,
    idle: Option<u64>,
    retry: Value,
}

impl Policy {
    fn of(object: &Value, kind: &str) -> Self {
        let annotation = |name: &str| object["metadata"]["annotations"][name].as_str();
        let timeout = |name: &str| annotation(&format!("timeout.linkerd.io/{name}")).and_then(shape::milliseconds_of);
        let conditions =
            annotation(if kind == "GRPCRoute" { "retry.linkerd.io/grpc" } else { "retry.linkerd.io/http" });
        let limit =
            annotation("retry.linkerd.io/limit").and_then(|limit| limit.parse::<u64>().ok()).filter(|limit| *limit > 0);
        let after = annotation("retry.linkerd.io/timeout").and_then(shape::milliseconds_of);
        let is_set = conditions.is_some() || limit.is_some() || after.is_some();
        let conditions = conditions.map_or_else(|| json!([]), conditions_of);
        let retry = json!({"limit": limit.unwrap_or(1), "timeout": after, "conditions": conditions});
        Self {
            request: timeout("request"),
            response: timeout("response"),
            idle: timeout("idle"),
            retry: if is_set { retry } else { Value::Null },
        }
    }
}

/// "5xx,418" as ranges of statuses; the names of gRPC's statuses as they are.
fn conditions_of(text: &str) -> Value {
    let one = |condition: &str| match condition.to_lowercase().as_str() {
        "5xx" => json!([500, 599]),
        "gateway-error" => json!([502, 504]),
        condition => match condition.split_once('-').map(|(a, b)| (a.parse::<u32>(), b.parse::<u32>())) {
            Some((Ok(start), Ok(end))) => json!([start, end]),
            _ => condition.parse::<u32>().map_or_else(|_| condition.into(), |code| json!([code, code])),
        },
    };
    let mut conditions: Vec<_> = text.split(',').map(one).collect();
    conditions.sort_by_key(Value::to_string);
    conditions.into()
}

fn of_rule(expected: &Expected, place: &Place, rule: &Value, own: &Policy, service: &Policy) -> Value {
    let backends: Value = items(rule, "backendRefs").map(|reference| of_backend(place, reference)).collect();
    let matches = match expected.target.kind.as_str() {
        "HTTPRoute" => shape::matches_of(rule),
        "GRPCRoute" => shape::rpcs_of(rule),
        _ => return json!({"backends": backends}),
    };
    let request = own.request.or_else(|| rule["timeouts"]["request"].as_str().and_then(shape::milliseconds_of));
    let mut timeouts = json!([request, own.response, own.idle]);
    if timeouts == json!([null, null, null]) {
        timeouts = json!([service.request, service.response, service.idle]);
    }
    let retry = if own.retry.is_null() { &service.retry } else { &own.retry };
    json!({"matches": matches, "filters": shape::filters_of(rule), "backends": backends, "timeouts": timeouts,
           "retry": retry})
}

/// A reference without a namespace means that of the parent, whatever the status says of it.
fn of_backend(place: &Place, reference: &Value) -> Value {
    let kind = reference["kind"].as_str().unwrap_or("Service");
    let namespace = reference["namespace"].as_str().unwrap_or(&place.parent.1);
    let port = reference["port"].as_u64().or((kind != "Service").then_some(place.port.into()));
    json!({"to": [kind, namespace, reference["name"], port], "weight": reference["weight"].as_u64().unwrap_or(1),
           "filters": shape::filters_of(reference)})
}

/// What a client's policy says of the target.
pub(super) fn found(expected: &Expected, message: &Message) -> Value {
    let protocol = message.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref());
    match (expected.target.kind.as_str(), protocol) {
        ("EgressNetwork", _) => egress(expected, message),
        ("HTTPRoute", _) => {
            this_route(expected, http_routes(protocol).iter().map(|route| (&route.metadata, || http(route))))
        }
        ("GRPCRoute", Some(Protocol::Grpc(grpc))) => {
            this_route(expected, grpc.routes.iter().map(|route| (&route.metadata, || rpc(route))))
        }
        ("TLSRoute", Some(Protocol::Tls(tls))) => {
            this_route(expected, tls.routes.iter().map(|route| (&route.metadata, || connections(route))))
        }
        ("TCPRoute", Some(Protocol::Opaque(opaque))) => {
            this_route(expected, opaque.routes.iter().map(|route| (&route.metadata, || opaque_connections(route))))
        }
        _ => Value::Null,
    }
}

/// Both versions of HTTP are told the same.
fn http_routes(protocol: Option<&Protocol>) -> &[HttpRoute] {
    match protocol {
        Some(Protocol::Detect(protocol)) => protocol.http1.as_ref().map_or(&[], |protocol| &protocol.routes),
        Some(Protocol::Http1(protocol)) => &protocol.routes,
        Some(Protocol::Http2(protocol)) => &protocol.routes,
        _ => &[],
    }
}

fn egress(expected: &Expected, message: &Message) -> Value {
    let target = &expected.target;
    let is_it = shape::resource(message.metadata.as_ref()).is_some_and(|resource| {
        resource.kind == "EgressNetwork" && resource.namespace == target.namespace && resource.name == target.name
    });
    if !is_it {
        return Value::Null;
    }
    let protocol = message.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref());
    // Where no route is, the last one says what the network says.
    let is_denied = match protocol {
        Some(Protocol::Opaque(opaque)) => opaque.routes.last().map(|route| names_denial(route.metadata.as_ref())),
        Some(Protocol::Tls(tls)) => tls.routes.last().map(|route| names_denial(route.metadata.as_ref())),
        Some(Protocol::Grpc(grpc)) => grpc.routes.last().map(|route| names_denial(route.metadata.as_ref())),
        _ => http_routes(protocol).last().map(|route| names_denial(route.metadata.as_ref())),
    };
    let policy = is_denied.map(|is_denied| if is_denied { "Deny" } else { "Allow" });
    json!({"policy": policy})
}

fn names_denial(metadata: Option<&Metadata>) -> bool {
    use linkerd2_proxy_api::meta::metadata::Kind;
    matches!(metadata.and_then(|metadata| metadata.kind.as_ref()), Some(Kind::Default(name)) if name.ends_with("-deny"))
}

/// The backends of a rule; `parts` are the backend itself, its weight and its filters.
fn shares<'a, T: 'a>(all: &'a [T], parts: impl Fn(&'a T) -> (Option<&'a Backend>, u32, Value)) -> Value {
    let one = |one| {
        let (backend, weight, filters) = parts(one);
        let to = backend
            .and_then(|backend| shape::resource(backend.metadata.as_ref()))
            .map(|resource| json!([resource.kind, resource.namespace, resource.name, resource.port]));
        json!({"to": to, "weight": weight, "filters": filters})
    };
    all.iter().map(one).collect()
}

fn retries(limit: u32, timeout: Option<&prost_types::Duration>, conditions: &Value) -> Value {
    json!({"limit": limit, "timeout": shape::milliseconds(timeout), "conditions": conditions})
}

fn timeouts(timeouts: Option<&Timeouts>) -> Value {
    let timeouts = timeouts.copied().unwrap_or_default();
    json!([
        shape::milliseconds(timeouts.request.as_ref()),
        shape::milliseconds(timeouts.response.as_ref()),
        shape::milliseconds(timeouts.idle.as_ref())
    ])
}

fn http(route: &HttpRoute) -> Value {
    use http_route::{distribution::Kind as Choice, filter::Kind};
    let filter = |filter: &http_route::Filter| match filter.kind.as_ref() {
        Some(Kind::RequestHeaderModifier(one)) => {
            json!({"request": shape::modifier(one.add.as_ref(), one.set.as_ref(), &one.remove)})
        }
        Some(Kind::ResponseHeaderModifier(one)) => {
            json!({"response": shape::modifier(one.add.as_ref(), one.set.as_ref(), &one.remove)})
        }
        Some(Kind::Redirect(one)) => json!({"redirect": shape::redirect(one)}),
        _ => json!({"fails": true}),
    };
    let filters = |filters: &[http_route::Filter]| filters.iter().map(filter).collect::<Value>();
    let rule = |rule: &http_route::Rule| {
        let all = match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()) {
            Some(Choice::RandomAvailable(random)) => &random.backends[..],
            _ => &[],
        };
        let backends = shares(all, |one| {
            let inner = one.backend.as_ref();
            (
                inner.and_then(|inner| inner.backend.as_ref()),
                one.weight,
                filters(inner.map_or(&[], |inner| &inner.filters)),
            )
        });
        let retry = rule.retry.as_ref().map(|retry| {
            let ranges = retry.conditions.iter().flat_map(|conditions| &conditions.status_ranges);
            let mut ranges: Vec<_> = ranges.map(|range| json!([range.start, range.end])).collect();
            ranges.sort_by_key(Value::to_string);
            retries(retry.max_retries, retry.timeout.as_ref(), &json!(ranges))
        });
        json!({"matches": shape::matches(&rule.matches), "filters": filters(&rule.filters), "backends": backends,
               "timeouts": timeouts(rule.timeouts.as_ref()), "retry": retry})
    };
    json!({"hosts": shape::hosts(&route.hosts), "rules": route.rules.iter().map(rule).collect::<Vec<_>>()})
}

fn rpc(route: &GrpcRoute) -> Value {
    use grpc_route::{distribution::Kind as Choice, filter::Kind};
    let filter = |filter: &grpc_route::Filter| match filter.kind.as_ref() {
        Some(Kind::RequestHeaderModifier(one)) => {
            json!({"request": shape::modifier(one.add.as_ref(), one.set.as_ref(), &one.remove)})
        }
        _ => json!({"fails": true}),
    };
    let filters = |filters: &[grpc_route::Filter]| filters.iter().map(filter).collect::<Value>();
    let rule = |rule: &grpc_route::Rule| {
        let all = match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()) {
            Some(Choice::RandomAvailable(random)) => &random.backends[..],
            _ => &[],
        };
        let backends = shares(all, |one| {
            let inner = one.backend.as_ref();
            (
                inner.and_then(|inner| inner.backend.as_ref()),
                one.weight,
                filters(inner.map_or(&[], |inner| &inner.filters)),
            )
        });
        let retry = rule.retry.as_ref().map(|retry| {
            let conditions = retry.conditions.unwrap_or_default();
            let named = [
                ("cancelled", conditions.cancelled),
                ("deadline-exceeded", conditions.deadine_exceeded),
                ("internal", conditions.internal),
                ("resource-exhausted", conditions.resource_exhausted),
                ("unavailable", conditions.unavailable),
            ];
            let named: Vec<_> = named.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
            retries(retry.max_retries, retry.timeout.as_ref(), &json!(named))
        });
        json!({"matches": shape::rpcs(&rule.matches), "filters": filters(&rule.filters), "backends": backends,
               "timeouts": timeouts(rule.timeouts.as_ref()), "retry": retry})
    };
    json!({"hosts": shape::hosts(&route.hosts), "rules": route.rules.iter().map(rule).collect::<Vec<_>>()})
}

fn connections(route: &TlsRoute) -> Value {
    use tls_route::distribution::Kind as Choice;
    let sni = |sni: &SniMatch| match sni.r#match.as_ref() {
        Some(sni_match::Match::Exact(name)) => name.clone(),
        Some(sni_match::Match::Suffix(suffix)) => shape::wildcard(&suffix.reverse_labels),
        None => String::new(),
    };
    let rule = |rule: &tls_route::Rule| {
        let backends = match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()) {
            Some(Choice::RandomAvailable(random)) => &random.backends[..],
            _ => &[],
        };
        let all = shares(backends, |one| {
            let inner = one.backend.as_ref();
            let filters = inner.map_or(0, |inner| inner.filters.len());
            (inner.and_then(|inner| inner.backend.as_ref()), one.weight, vec![json!({"fails": true}); filters].into())
        });
        json!({"backends": all})
    };
    json!({"hosts": route.snis.iter().map(sni).collect::<Vec<_>>(),
           "rules": route.rules.iter().map(rule).collect::<Vec<_>>()})
}

fn opaque_connections(route: &OpaqueRoute) -> Value {
    use opaque_route::distribution::Kind as Choice;
    let rule = |rule: &opaque_route::Rule| {
        let backends = match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()) {
            Some(Choice::RandomAvailable(random)) => &random.backends[..],
            _ => &[],
        };
        let all = shares(backends, |one| {
            let inner = one.backend.as_ref();
            let filters = inner.map_or(0, |inner| inner.filters.len());
            (inner.and_then(|inner| inner.backend.as_ref()), one.weight, vec![json!({"fails": true}); filters].into())
        });
        json!({"backends": all})
    };
    json!({"hosts": [], "rules": route.rules.iter().map(rule).collect::<Vec<_>>()})
}
