//! Where a client's requests go, as the controller tells its proxy.

use std::{net::IpAddr, str::FromStr as _, time::Duration};

use linkerd2_proxy_api::{
    destination::WeightedAddr,
    http_route::{HttpFailureInjector, Timeouts},
    meta::{Metadata, Resource, metadata},
    outbound::{
        Backend, HttpRoute, OpaqueRoute, OutboundPolicy, ProxyProtocol, TlsRoute, backend, http_route, opaque_route,
        proxy_protocol, tls_route,
    },
    tls_route::{SniMatch, sni_match},
};

use super::{
    super::kinds::{self, BackendReference, HttpRule, ParentReference, TrafficPolicy},
    convert,
    index::{Content, Entry, Index, Key, Kind},
};

/// The namespace whose networks are everybody's.
const GLOBAL_EGRESS: &str = "linkerd-egress";

/// What a request is sent to.
struct Parent<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    port: u16,
    /// Where it goes if no route says otherwise.
    denied: bool,
}

/// The policy for an address, as seen from a namespace; `None` = there is no such service.
pub(super) fn policy(index: &Index, source: &str, address: IpAddr, port: u16) -> Option<OutboundPolicy> {
    let services = index.all(Kind::Service);
    let service = services.iter().find(|(_, entry)| match &entry.content {
        Content::Service(Some(own), _) => IpAddr::from_str(own).is_ok_and(|own| own == address),
        _ => false,
    });
    if let Some(((_, namespace, name), entry)) = service {
        let Content::Service(_, ports) = &entry.content else { return None };
        let parent = Parent { kind: "Service", namespace, name, port, denied: false };
        return Some(if ports.contains(&port) { of(index, source, &parent) } else { closed(&parent) });
    }
    let (namespace, name, policy) = egress(index, source, address)?;
    let denied = policy == TrafficPolicy::Deny;
    Some(of(index, source, &Parent { kind: "EgressNetwork", namespace: &namespace, name: &name, port, denied }))
}

/// The network that an address belongs to: those of the client's namespace hide everybody's; the smallest range wins,
/// then the oldest.
fn egress(index: &Index, source: &str, address: IpAddr) -> Option<(String, String, TrafficPolicy)> {
    let own = index.within(Kind::Egress, source);
    let (namespace, all) =
        if own.is_empty() { (GLOBAL_EGRESS, index.within(Kind::Egress, GLOBAL_EGRESS)) } else { (source, own) };
    let mut best: Option<(u8, &str, TrafficPolicy)> = None;
    for (name, entry) in all {
        let Content::Egress(network) = &entry.content else { continue };
        let Some(length) = prefix(network, address) else { continue };
        if best.is_none_or(|(known, ..)| length > known) {
            best = Some((length, name, network.traffic_policy));
        }
    }
    best.map(|(_, name, policy)| (namespace.to_owned(), name.to_owned(), policy))
}

/// The length of the longest range that has the address.
fn prefix(network: &kinds::EgressNetwork, address: IpAddr) -> Option<u8> {
    let Some(networks) = &network.networks else { return Some(0) };
    let has = |cidr: &str| convert::range(cidr).filter(|range| range.contains(&address));
    let allowed = networks.iter().filter(|one| !one.except.iter().flatten().any(|except| has(except).is_some()));
    allowed.filter_map(|one| has(&one.cidr)).map(|range| range.prefix_len()).max()
}

/// The kinds of routes, those that hide the next ones first.
fn of(index: &Index, source: &str, parent: &Parent<'_>) -> OutboundPolicy {
    use proxy_protocol::{Detect, Http1, Http2, Opaque, Tls};
    let http = routes_of(index, source, parent, &[Kind::PolicyRoute, Kind::GatewayRoute]);
    let kind = if let tls @ [_, ..] = &routes_of(index, source, parent, &[Kind::TlsRoute])[..]
        && http.is_empty()
    {
        let routes = tls.iter().map(|(key, entry)| tls_route(index, parent, key, entry)).collect();
        proxy_protocol::Kind::Tls(Tls { routes })
    } else if let [(key, entry), ..] = &routes_of(index, source, parent, &[Kind::TcpRoute])[..]
        && http.is_empty()
    {
        // Only the oldest is served.
        proxy_protocol::Kind::Opaque(Opaque { routes: vec![tcp_route(index, parent, key, entry)] })
    } else {
        let mut routes: Vec<_> = http.iter().map(|(key, entry)| http_route(index, parent, key, entry)).collect();
        if routes.is_empty() || parent.kind == "EgressNetwork" {
            routes.push(default_route(parent));
        }
        proxy_protocol::Kind::Detect(Detect {
            http1: Some(Http1 { routes: routes.clone(), ..Http1::default() }),
            http2: Some(Http2 { routes, ..Http2::default() }),
            ..Detect::default()
        })
    };
    OutboundPolicy {
        protocol: Some(ProxyProtocol { kind: Some(kind) }),
        metadata: Some(metadata_of(parent.kind, parent.namespace, parent.name, parent.port)),
    }
}

/// The routes of some kinds that a client of this namespace is given, the oldest first: the producer's and its own.
fn routes_of<'a>(index: &'a Index, source: &str, parent: &Parent<'_>, kinds: &[Kind]) -> Vec<(&'a Key, &'a Entry)> {
    let mut found: Vec<_> = kinds.iter().flat_map(|kind| index.all(*kind)).collect();
    found.sort_by_key(|(key, entry)| (entry.created, key.2.clone()));
    found.retain(|(key, entry)| {
        let parents = match &entry.content {
            Content::Route(route) => &route.parent_refs,
            Content::Connections(route) => &route.parent_refs,
            _ => return false,
        };
        let is_visible = key.1 == parent.namespace || key.1 == source;
        is_visible && parents.iter().flatten().any(|reference| names(reference, &key.1, parent))
    });
    found
}

fn names(reference: &ParentReference, own: &str, parent: &Parent<'_>) -> bool {
    let group = reference.group.as_deref().unwrap_or_default();
    let fits = match parent.kind {
        "Service" => ["", "core"].contains(&group),
        _ => group == kinds::POLICY,
    };
    fits && reference.kind.as_deref() == Some(parent.kind)
        && reference.name == parent.name
        && reference.namespace.as_deref().unwrap_or(own) == parent.namespace
        && reference.port.is_none_or(|port| port == i32::from(parent.port))
}

fn metadata_of(kind: &str, namespace: &str, name: &str, port: u16) -> Metadata {
    let group = if kind == "Service" { "core" } else { kinds::POLICY };
    let resource = Resource {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        section: String::new(),
        port: port.into(),
    };
    Metadata { kind: Some(metadata::Kind::Resource(resource)) }
}

/// A port that the service does not have.
fn closed(parent: &Parent<'_>) -> OutboundPolicy {
    let route = OpaqueRoute {
        metadata: Some(Metadata { kind: Some(metadata::Kind::Default("undefined-port".to_owned())) }),
        rules: Vec::new(),
    };
    let kind = proxy_protocol::Kind::Opaque(proxy_protocol::Opaque { routes: vec![route] });
    OutboundPolicy {
        protocol: Some(ProxyProtocol { kind: Some(kind) }),
        metadata: Some(metadata_of(parent.kind, parent.namespace, parent.name, parent.port)),
    }
}

fn failure(status: u32, message: &str) -> http_route::Filter {
    let failure = HttpFailureInjector { status, message: message.to_owned(), ratio: None };
    http_route::Filter { kind: Some(http_route::filter::Kind::FailureInjector(failure)) }
}

/// The parent itself, as a place to send to.
fn parent_backend(parent: &Parent<'_>) -> Backend {
    let metadata = Some(metadata_of(parent.kind, parent.namespace, parent.name, parent.port));
    Backend { metadata, kind: Some(backend::Kind::Forward(WeightedAddr::default())), queue: None }
}

fn default_route(parent: &Parent<'_>) -> HttpRoute {
    let (name, filters) = match (parent.kind, parent.denied) {
        ("Service", _) => ("http", Vec::new()),
        (_, false) => ("http-egress-allow", Vec::new()),
        (_, true) => ("http-egress-deny", vec![failure(403, "traffic not allowed")]),
    };
    let rule = http_route::Rule {
        matches: vec![convert::every_path()],
        filters,
        backends: Some(to_the_parent(parent)),
        ..http_route::Rule::default()
    };
    let metadata = Some(Metadata { kind: Some(metadata::Kind::Default(name.to_owned())) });
    HttpRoute { metadata, rules: vec![rule], ..HttpRoute::default() }
}

fn to_the_parent(parent: &Parent<'_>) -> http_route::Distribution {
    let backend = http_route::RouteBackend { backend: Some(parent_backend(parent)), ..Default::default() };
    let first = http_route::distribution::FirstAvailable { backends: vec![backend] };
    http_route::Distribution { kind: Some(http_route::distribution::Kind::FirstAvailable(first)) }
}

fn http_route(index: &Index, parent: &Parent<'_>, (kind, namespace, name): &Key, entry: &Entry) -> HttpRoute {
    let (group, kind) = kind.name();
    let metadata = Some(convert::metadata(group, kind, namespace, name));
    let Content::Route(route) = &entry.content else { return HttpRoute { metadata, ..HttpRoute::default() } };
    let rules = route.rules.iter().flatten().map(|rule| http_rule(index, parent, entry, rule)).collect();
    HttpRoute { metadata, hosts: convert::hosts(route.hostnames.as_deref()), rules }
}

fn http_rule(index: &Index, parent: &Parent<'_>, entry: &Entry, rule: &HttpRule) -> http_route::Rule {
    let backends: Vec<_> =
        rule.backend_refs.iter().flatten().map(|reference| http_backend(index, parent, reference)).collect();
    let backends = if backends.is_empty() {
        to_the_parent(parent)
    } else {
        let random = http_route::distribution::RandomAvailable { backends };
        http_route::Distribution { kind: Some(http_route::distribution::Kind::RandomAvailable(random)) }
    };
    let annotated =
        |name: &str| entry.annotations.get(&format!("timeout.linkerd.io/{name}")).and_then(|text| duration(text));
    let of_rule = || rule.timeouts.as_ref()?.request.as_deref().and_then(duration);
    http_route::Rule {
        matches: convert::matches(rule.matches.as_deref()),
        filters: convert::outbound_filters(rule.filters.as_deref()),
        backends: Some(backends),
        timeouts: Some(Timeouts {
            request: annotated("request").or_else(of_rule),
            response: annotated("response"),
            idle: annotated("idle"),
        }),
        ..http_route::Rule::default()
    }
}

/// "10s", "500ms", "1m", "1h"; zero is none.
fn duration(text: &str) -> Option<prost_types::Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number * milliseconds);
    (!duration.is_zero()).then(|| duration.try_into().ok()).flatten()
}

/// Where a reference points, with its weight; the third is why it points nowhere.
fn resolve(index: &Index, parent: &Parent<'_>, reference: &BackendReference) -> (Metadata, u32, Option<String>) {
    let namespace = reference.namespace.as_deref().unwrap_or(parent.namespace);
    let weight = u32::try_from(reference.weight.unwrap_or(1)).unwrap_or_default();
    let port = reference.port.and_then(|port| u16::try_from(port).ok());
    let kind = reference.kind.as_deref().unwrap_or("Service");
    let metadata = metadata_of(kind, namespace, &reference.name, port.unwrap_or(parent.port));
    let is_known = match kind {
        "Service" => index.get(Kind::Service, namespace, &reference.name).is_some(),
        _ => kind == parent.kind && reference.name == parent.name,
    };
    let why = match (kind, port) {
        ("Service", None) => Some(format!("missing port for backend Service {}", reference.name)),
        _ if !is_known => Some(format!("{kind} not found {}", reference.name)),
        _ => None,
    };
    (metadata, weight, why)
}

fn http_backend(index: &Index, parent: &Parent<'_>, reference: &BackendReference) -> http_route::WeightedRouteBackend {
    let (metadata, weight, why) = resolve(index, parent, reference);
    let filters = match &why {
        Some(why) => vec![failure(500, why)],
        None => convert::outbound_filters(reference.filters.as_deref()),
    };
    let kind = why.is_none().then(|| backend::Kind::Forward(WeightedAddr::default()));
    let backend = Backend { metadata: Some(metadata), kind, queue: None };
    let backend = http_route::RouteBackend { backend: Some(backend), filters, ..Default::default() };
    http_route::WeightedRouteBackend { backend: Some(backend), weight }
}

fn tls_route(index: &Index, parent: &Parent<'_>, (kind, namespace, name): &Key, entry: &Entry) -> TlsRoute {
    use tls_route::{RouteBackend, Rule, WeightedRouteBackend, distribution};
    let (group, kind) = kind.name();
    let metadata = Some(convert::metadata(group, kind, namespace, name));
    let Content::Connections(route) = &entry.content else { return TlsRoute { metadata, ..TlsRoute::default() } };
    let sni = |name: &String| SniMatch {
        r#match: Some(match name.strip_prefix("*.") {
            Some(rest) => sni_match::Match::Suffix(sni_match::Suffix {
                reverse_labels: rest.split('.').rev().map(str::to_owned).collect(),
            }),
            None => sni_match::Match::Exact(name.clone()),
        }),
    };
    let rules = route.rules.iter().map(|rule| {
        let backends = rule.backend_refs.iter().flatten().map(|reference| {
            let (metadata, weight, _) = resolve(index, parent, reference);
            let backend = Backend { metadata: Some(metadata), ..Backend::default() };
            WeightedRouteBackend {
                backend: Some(RouteBackend { backend: Some(backend), ..Default::default() }),
                weight,
            }
        });
        let random =
            distribution::Kind::RandomAvailable(distribution::RandomAvailable { backends: backends.collect() });
        Rule { backends: Some(tls_route::Distribution { kind: Some(random) }), filters: Vec::new() }
    });
    TlsRoute { metadata, snis: route.hostnames.iter().flatten().map(sni).collect(), rules: rules.collect() }
}

fn tcp_route(index: &Index, parent: &Parent<'_>, (kind, namespace, name): &Key, entry: &Entry) -> OpaqueRoute {
    use opaque_route::{RouteBackend, Rule, WeightedRouteBackend, distribution};
    let (group, kind) = kind.name();
    let metadata = Some(convert::metadata(group, kind, namespace, name));
    let Content::Connections(route) = &entry.content else { return OpaqueRoute { metadata, ..OpaqueRoute::default() } };
    let rules = route.rules.iter().map(|rule| {
        let backends = rule.backend_refs.iter().flatten().map(|reference| {
            let (metadata, weight, _) = resolve(index, parent, reference);
            let backend = Backend { metadata: Some(metadata), ..Backend::default() };
            WeightedRouteBackend {
                backend: Some(RouteBackend { backend: Some(backend), ..Default::default() }),
                weight,
            }
        });
        let random =
            distribution::Kind::RandomAvailable(distribution::RandomAvailable { backends: backends.collect() });
        Rule { backends: Some(opaque_route::Distribution { kind: Some(random) }), filters: Vec::new() }
    });
    OpaqueRoute { metadata, rules: rules.collect() }
}
