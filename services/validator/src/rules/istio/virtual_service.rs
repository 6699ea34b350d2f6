//! VirtualService: hosts, gateways, and which routes there are. What an HTTP route says is in `http.rs`.

use std::collections::HashMap;

use super::{
    common::{self, Audience},
    header, http, route_order,
};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const MESH: &str = "mesh";
/// What Istio's own names for east-west traffic begin with.
const GENERATED: &str = "outbound_";

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let (hosts, gateways) = (spec.get("hosts").items(), spec.get("gateways").items());
    let bound = Bound::to(&gateways);
    let is_delegate = hosts.is_empty();
    let mut hits = Vec::new();
    if is_delegate {
        hits.extend(delegate(&spec));
    }
    hits.extend(gateway_names(&gateways));
    hits.extend(host_names(&spec, &hosts, bound));
    hits.extend(routes(&spec));
    for route in &spec.get("http").items() {
        hits.extend(http::check(route, is_delegate));
        if bound == Bound::Mesh {
            hits.extend(claims(route));
        }
        hits.extend(route_order::retries(route));
        hits.extend(old_percent(route));
    }
    for protocol in ["http", "tls", "tcp"] {
        hits.extend(route_order::check(&spec.get(protocol).items()));
    }
    let served = Served::new(&hosts);
    for route in spec.get("tls").items() {
        hits.extend(tls_route(&route, &served, &gateways));
    }
    for route in spec.get("tcp").items() {
        hits.extend(tcp_route(&route));
    }
    hits.extend(common::export_to(&spec.get("exportTo"), &object.head.namespace, Audience::Anyone));
    hits
}

/// Whose proxies take the routes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// Sidecars, and perhaps gateways too.
    Mesh,
    /// Gateways only.
    Gateways,
}

impl Bound {
    fn to(gateways: &[Field<'_>]) -> Self {
        let mesh = gateways.is_empty() || gateways.iter().any(|name| name.text() == MESH);
        if mesh { Self::Mesh } else { Self::Gateways }
    }
}

fn delegate(spec: &Field<'_>) -> Vec<Hit> {
    let forbidden = spec.set_among(&["gateways", "tls", "tcp"]);
    let hit = |name: &&str| {
        let message = format!("without hosts this is a delegate, and a delegate must not have {name}");
        Hit::new(rule::VS_DELEGATE, spec.get(name).path(), message).suggest(format!("add hosts, or remove {name}"))
    };
    let not_empty = |name: &&&str| !spec.get(name).items().is_empty();
    forbidden.iter().filter(not_empty).map(hit).collect()
}

/// `namespace/name`, `name`, or the old dotted form.
fn gateway_names(gateways: &[Field<'_>]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for gateway in gateways {
        let name = gateway.text();
        let problem = match name.split_once('/') {
            None => common::dns_name(name).err(),
            Some((namespace, short)) if common::is_label(namespace) && common::is_label(short) => None,
            Some(_) => Some("it is not of the form namespace/name".to_owned()),
        };
        if let Some(problem) = problem {
            let message = format!("the gateway name {} cannot be used: {problem}", quote(name));
            hits.push(Hit::new(rule::VS_GATEWAY, gateway.path(), message));
        } else if name.contains('.') {
            let message = format!("the gateway name {} has the old dotted form", quote(name));
            hits.push(Hit::new(rule::VS_DEPRECATED, gateway.path(), message).suggest("write namespace/name"));
        }
    }
    hits
}

fn host_names(spec: &Field<'_>, hosts: &[Field<'_>], bound: Bound) -> Vec<Hit> {
    let has_sni = spec
        .get("tls")
        .items()
        .iter()
        .any(|route| route.get("match").items().iter().any(|item| !item.get("sniHosts").items().is_empty()));
    let generated_is_good = bound == Bound::Gateways && has_sni;
    let mut hits = Vec::new();
    for host in hosts {
        let name = host.text();
        match host_problem(name, generated_is_good) {
            Some(problem) if !common::is_ip(name) => {
                let message = format!("the host {} cannot be used: {problem}", quote(name));
                hits.push(Hit::new(rule::VS_HOST, host.path(), message));
            }
            None if name == "*" && bound == Bound::Mesh => {
                let message = "the host * would take every request of the mesh; only gateways allow it";
                hits.push(
                    Hit::new(rule::VS_HOST_WILDCARD, host.path(), message)
                        .suggest("name the hosts, or bind it to a gateway"),
                );
            }
            _ => {}
        }
    }
    if hits.is_empty() { duplicate_hosts(hosts) } else { hits }
}

fn host_problem(name: &str, generated_is_good: bool) -> Option<String> {
    if generated_is_good && name.starts_with(GENERATED) {
        let parts: Vec<&str> = name.split('_').collect();
        let good = parts.len() == 4
            && parts[1].bytes().any(|c| c.is_ascii_digit())
            && parts[3].bytes().any(|c| c.is_ascii_alphabetic());
        return (!good).then(|| "it is not of the form outbound_.PORT_._.HOST".to_owned());
    }
    common::wildcard_name(name).err()
}

/// Hosts that are the same, or of which a wildcard covers the other. Looks up the ends of each name instead of comparing all
/// pairs.
fn duplicate_hosts(hosts: &[Field<'_>]) -> Vec<Hit> {
    let mut exact: HashMap<&str, usize> = HashMap::new();
    let mut ends: HashMap<&str, usize> = HashMap::new();
    for (index, host) in hosts.iter().enumerate() {
        match host.text().strip_prefix('*') {
            Some(end) => ends.entry(end).or_insert(index),
            None => exact.entry(host.text()).or_insert(index),
        };
    }
    let mut hits = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let name = host.text();
        let wildcard = name
            .char_indices()
            .map(|(at, _)| &name[at..])
            .chain([""])
            .find_map(|end| ends.get(end).copied().filter(|other| *other != index));
        let other = exact.get(name).copied().filter(|other| *other != index).or(wildcard);
        if let Some(other) =
            other.filter(|other| *other < index || exact.get(name).is_none_or(|first| *first != *other))
        {
            let message = format!("the hosts {} and {} overlap", quote(hosts[other].text()), quote(name));
            hits.push(Hit::new(rule::VS_HOST_DUPLICATE, host.path(), message).suggest("keep the wider one"));
        }
    }
    hits
}

fn routes(spec: &Field<'_>) -> Option<Hit> {
    let none = ["http", "tls", "tcp"].iter().all(|name| spec.get(name).items().is_empty());
    none.then(|| {
        Hit::new(rule::VS_NO_ROUTES, spec.path(), "there is no http, tls or tcp route")
            .suggest("add http routes, or delete the VirtualService")
    })
}

fn claims(route: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for item in route.get("match").items() {
        for (name, field) in ["headers", "withoutHeaders"].iter().flat_map(|place| item.get(place).entries()) {
            if header::is_claim(name) {
                let message = format!("the JWT claim {} can be matched on gateways only", quote(name));
                hits.push(Hit::new(rule::VS_JWT_CLAIM, field.path(), message).at_key().suggest("bind it to gateways"));
            }
        }
    }
    hits
}

/// A share of delays in its old form.
fn old_percent(route: &Field<'_>) -> Option<Hit> {
    let percent = route.get("fault").get("delay").get("percent");
    percent.integer().filter(|percent| *percent > 0).map(|number| {
        let message = format!("percent: {number} is deprecated");
        Hit::new(rule::DEPRECATED, percent.path(), message)
            .at_key()
            .suggest(format!("write percentage: {{value: {number}}}"))
    })
}

/// The hosts of a VirtualService, to look names up in.
struct Served<'a> {
    names: Vec<&'a str>,
    exact: HashMap<&'a str, ()>,
    ends: HashMap<&'a str, ()>,
}

impl<'a> Served<'a> {
    fn new(hosts: &[Field<'a>]) -> Self {
        let names: Vec<&'a str> = hosts.iter().map(Field::text).collect();
        let exact = names.iter().filter(|name| !name.starts_with('*')).map(|name| (*name, ())).collect();
        let ends = names.iter().filter_map(|name| name.strip_prefix('*')).map(|end| (end, ())).collect();
        Self { names, exact, ends }
    }

    fn covers(&self, name: &str) -> bool {
        let body = name.strip_prefix('*');
        let end_of = body.unwrap_or(name);
        let wildcard =
            end_of.char_indices().map(|(at, _)| &end_of[at..]).chain([""]).any(|end| self.ends.contains_key(end));
        wildcard || (body.is_none() && self.exact.contains_key(name))
    }
}

fn tls_route(route: &Field<'_>, served: &Served<'_>, gateways: &[Field<'_>]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let matches = route.get("match").items();
    if matches.is_empty() {
        let message = "a tls route needs a match with sniHosts";
        hits.push(Hit::new(rule::VS_TLS_MATCH, route.get("match").path(), message));
    }
    let generated_is_good = !gateways.iter().any(|name| name.text() == MESH);
    for item in &matches {
        let names = item.get("sniHosts").items();
        if names.is_empty() {
            let message = "a tls match needs at least one SNI host";
            hits.push(Hit::new(rule::VS_TLS_MATCH, item.get("sniHosts").path(), message));
        }
        hits.extend(names.iter().filter_map(|name| sni_host(name, served, generated_is_good)));
        hits.extend(l4_match(item));
    }
    hits.extend(l4_destinations(route, "tls"));
    hits
}

fn sni_host(field: &Field<'_>, served: &Served<'_>, generated_is_good: bool) -> Option<Hit> {
    let name = field.text();
    if let Some(problem) = host_problem(name, generated_is_good) {
        if common::is_ip(name) {
            let message = format!("{} is an IP address, which most clients do not send as SNI", quote(name));
            return Some(Hit::new(rule::VS_DEPRECATED, field.path(), message));
        }
        let message = format!("the SNI host {} cannot be used: {problem}", quote(name));
        return Some(Hit::new(rule::VS_TLS_MATCH, field.path(), message));
    }
    if served.covers(name) {
        return None;
    }
    let few: Vec<String> = served.names.iter().take(5).map(|host| quote(host)).collect();
    let message = format!("the SNI host {} is not within the hosts {}", quote(name), few.join(", "));
    Some(Hit::new(rule::VS_TLS_MATCH, field.path(), message).suggest("add it to spec.hosts"))
}

fn tcp_route(route: &Field<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = route.get("match").items().iter().flat_map(l4_match).collect();
    hits.extend(l4_destinations(route, "tcp"));
    hits
}

fn l4_match(item: &Field<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = item.get("destinationSubnets").items().iter().filter_map(common::subnet).collect();
    hits.extend(match_port(item));
    hits.extend(common::label_map(&item.get("sourceLabels")));
    hits.extend(gateway_names(&item.get("gateways").items()));
    hits
}

/// The port of a match; 0 is the same as none.
fn match_port(item: &Field<'_>) -> Option<Hit> {
    let port = item.get("port");
    if port.integer() == Some(0) { None } else { common::port(&port) }
}

/// What an HTTP match has in common with the others.
pub(super) fn shared_match(item: &Field<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = match_port(item).into_iter().collect();
    hits.extend(common::label_map(&item.get("sourceLabels")));
    hits.extend(gateway_names(&item.get("gateways").items()));
    let namespace = item.get("sourceNamespace");
    if !namespace.text().is_empty() && !common::is_label(namespace.text()) {
        let message = format!("{} is no namespace", quote(namespace.text()));
        hits.push(Hit::new(rule::LABEL, namespace.path(), message));
    }
    hits
}

fn l4_destinations(route: &Field<'_>, protocol: &str) -> Vec<Hit> {
    let destinations = route.get("route").items();
    if destinations.is_empty() {
        let message = format!("a {protocol} route needs a destination");
        return vec![Hit::new(rule::VS_ACTION_MISSING, route.get("route").path(), message)];
    }
    weighted(&route.get("route"), &destinations)
}

/// Destinations with their weights.
pub(super) fn weighted(list: &Field<'_>, destinations: &[Field<'_>]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut sum = 0_i64;
    for item in destinations {
        let weight = item.get("weight");
        let number = weight.integer().unwrap_or_default();
        sum = sum.saturating_add(number);
        if number < 0 {
            let message = format!("the weight {number} is negative");
            hits.push(Hit::new(rule::VS_WEIGHT, weight.path(), message).suggest("write 0 for no traffic"));
        } else if i32::try_from(number).is_err() {
            let message = format!("the weight {number} is larger than {}", i32::MAX);
            hits.push(Hit::new(rule::VS_WEIGHT, weight.path(), message));
        }
        let to = item.get("destination");
        if !to.is_set() {
            hits.push(Hit::new(rule::VS_DESTINATION, to.path(), "the destination is missing"));
        }
        hits.extend(destination(&to));
    }
    if destinations.len() > 1 && sum == 0 {
        let message = format!("the weights of {} destinations sum up to 0", destinations.len());
        hits.push(Hit::new(rule::VS_WEIGHT_SUM, list.path(), message).suggest("write weights that sum up to 100"));
    }
    hits
}

/// Host, subset and port of a destination that is there.
pub(super) fn destination(to: &Field<'_>) -> Vec<Hit> {
    if !to.is_set() {
        return Vec::new();
    }
    let mut hits = Vec::new();
    let (host, subset, port) = (to.get("host"), to.get("subset"), to.get("port"));
    let problem = match host.text() {
        "*" => Some("it names no service".to_owned()),
        name => common::wildcard_name(name).err(),
    };
    if let Some(problem) = problem {
        let message = format!("the destination host {} cannot be used: {problem}", quote(host.text()));
        hits.push(Hit::new(rule::VS_DESTINATION, host.path(), message));
    }
    if !subset.text().is_empty() && !common::is_label(subset.text()) {
        let message = format!("{} is no subset name", quote(subset.text()));
        hits.push(Hit::new(rule::LABEL, subset.path(), message));
    }
    if port.is_set() {
        match common::port(&port.get("number")) {
            None if !port.get("number").is_set() => {
                hits.push(Hit::new(rule::PORT, port.path(), "the port has no number"));
            }
            hit => hits.extend(hit),
        }
    }
    hits
}
