//! ServiceEntries and Services: ports, protocols, and names that are there twice.

use std::collections::BTreeSet;

use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, View, host},
};

/// Protocols that Istio reads from the name of a port.
const PROTOCOLS: [&str; 14] = [
    "http",
    "http2",
    "https",
    "grpc",
    "grpc-web",
    "grpcweb",
    "tcp",
    "tls",
    "udp",
    "mongo",
    "redis",
    "mysql",
    "http_proxy",
    "hbone",
];
/// Ports whose protocol Istio knows without a name.
const WELL_KNOWN: [i64; 4] = [25, 3306, 27017, 53];

pub(in super::super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = addresses(entry, view);
    hits.extend(protocols(entry, view));
    let spec = entry.spec();
    for field in spec.get("hosts").items() {
        let name = host::full(field.text(), entry.namespace());
        hits.extend(overlap(entry, &field, &name, view));
        hits.extend(shadows(&field, &name, view));
    }
    hits.extend(tcp_on_http(entry, view));
    hits
}

/// What Istio takes a Service's port to be: the application protocol, or what its name begins with.
fn protocol(port: &Field<'_>) -> Option<&'static str> {
    let app = port.get("appProtocol");
    let name = if app.is_set() { app.text() } else { port.get("name").text() };
    match name {
        "kubernetes.io/h2c" => return Some("http2"),
        "kubernetes.io/ws" => return Some("http"),
        "kubernetes.io/wss" => return Some("https"),
        _ => {}
    }
    let name = name.to_ascii_lowercase();
    if name.starts_with("grpc-web") {
        return Some("grpc-web");
    }
    let first = name.split('-').next().unwrap_or_default();
    PROTOCOLS.iter().copied().find(|known| *known == first)
}

/// Whether a Service's port is declared to be something else than HTTP.
pub(super) fn is_tcp(port: &Field<'_>) -> bool {
    protocol(port).is_some_and(|protocol| ["tcp", "tls", "udp", "mongo", "redis", "mysql"].contains(&protocol))
}

/// Names of a Service's ports. Those of Istio's own Services and of Kubernetes are their maker's concern.
pub(in super::super) fn service(entry: &Entry) -> Vec<Hit> {
    let own = entry.root().get("metadata").get("labels");
    let managed = own.get("gateway.istio.io/managed").text().starts_with("istio.io-");
    if entry.namespace().starts_with("kube-")
        || own.get("istio").is_set()
        || own.get("release").text() == "istio"
        || managed
    {
        return Vec::new();
    }
    let external = entry.spec().get("type").text() == "ExternalName";
    let mut hits = Vec::new();
    for port in entry.spec().get("ports").items() {
        let (name, number) = (port.get("name"), port.get("port"));
        let known = protocol(&port).is_some()
            || port.get("protocol").text() == "UDP"
            || number.integer().is_some_and(|number| WELL_KNOWN.contains(&number));
        if external && (!known || name.text() == "tcp") {
            let message = format!(
                "the port {} of an ExternalName Service takes the TCP traffic of every host",
                quote(name.text())
            );
            hits.push(
                Hit::new(rule::EXTERNAL_NAME_PORT, number.path(), message)
                    .suggest("name the port after its protocol, e.g. https"),
            );
        } else if !known {
            let message = format!(
                "the name {} of port {} gives no protocol, so Istio has to guess it",
                quote(name.text()),
                number.integer().unwrap_or_default()
            );
            hits.push(
                Hit::new(rule::SERVICE_PORT_NAME, number.path(), message)
                    .suggest("name it e.g. http-web, or set appProtocol"),
            );
        }
    }
    hits
}

/// A TCP port needs an address to be told from others, if the proxies do not give one.
fn addresses(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let spec = entry.spec();
    let allocated = !entry.root().get("status").get("addresses").items().is_empty();
    if spec.get("addresses").is_set() || allocated {
        return Vec::new();
    }
    let ports = spec.get("ports").items();
    let tcp = ports
        .into_iter()
        .filter(|port| ["", "TCP"].contains(&port.get("protocol").text().to_ascii_uppercase().as_str()));
    let tcp: Vec<Field<'_>> = tcp.collect();
    if tcp.is_empty() {
        return Vec::new();
    }
    let metadata = view.mesh_config().get("defaultConfig").get("proxyMetadata");
    let on = |name: &str| metadata.get(name).text() == "true";
    if on("ISTIO_META_DNS_CAPTURE") && (on("ISTIO_META_DNS_AUTO_ALLOCATE") || on("PILOT_ENABLE_IP_AUTOALLOCATE")) {
        return Vec::new();
    }
    // istiod gives an address to a ServiceEntry that it resolves and that has no wildcard; of the others Istio warns itself.
    let wildcard = spec.get("hosts").items().iter().any(|host| host.text().starts_with('*'));
    let never = wildcard || ["", "NONE"].contains(&spec.get("resolution").text());
    let also: &[&str] = if never { &["IST0133"] } else { &[] };
    let hit = |port: &Field<'_>| {
        let number = port.get("number").integer().unwrap_or_default();
        let message =
            format!("without addresses, TCP port {number} takes the traffic of every host that has no service");
        let hit = Hit::new(rule::ADDRESSES_REQUIRED, port.path(), message);
        hit.suggest("name addresses, or a protocol with host names").known_as(also)
    };
    tcp.iter().map(hit).collect()
}

fn audience<'e>(entry: &'e Entry, exports: &[Field<'e>]) -> Option<Vec<&'e str>> {
    let exports: Vec<&str> = exports.iter().map(Field::text).collect();
    host::exported(&exports, entry.namespace())
}

/// Whether some namespace sees both.
fn meet(one: &Entry, other: &Entry) -> bool {
    let (own, theirs) = (one.spec().get("exportTo").items(), other.spec().get("exportTo").items());
    match (audience(one, &own), audience(other, &theirs)) {
        (Some(own), Some(theirs)) => own.iter().any(|namespace| theirs.contains(namespace)),
        _ => true,
    }
}

fn rivals<'w>(entry: &Entry, name: &str, view: &View<'w>) -> Vec<&'w Entry> {
    let others = view.of_host(Kind::ServiceEntry, name);
    others.into_iter().filter(|other| other.head != entry.head && meet(entry, other)).collect()
}

/// One port of one host with different protocols; also within one ServiceEntry.
fn protocols(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    for field in spec.get("hosts").items() {
        let others = rivals(entry, &host::full(field.text(), entry.namespace()), view);
        for port in spec.get("ports").items() {
            let number = port.get("number").integer();
            let of = |entry: &&Entry| {
                entry
                    .spec()
                    .get("ports")
                    .items()
                    .into_iter()
                    .filter(|port| port.get("number").integer() == number)
                    .map(|port| port.get("protocol").text().to_ascii_uppercase())
                    .collect::<Vec<_>>()
            };
            let own = of(&entry);
            let differs = |other: &&&Entry| of(other).iter().any(|theirs| own.iter().any(|own| own != theirs));
            let rival = others.iter().find(differs).copied();
            if rival.is_none() && own.iter().all(|protocol| *protocol == own[0]) {
                continue;
            }
            let other = rival.unwrap_or(entry);
            let all: BTreeSet<String> = own.iter().cloned().chain(of(&other)).collect();
            let all: Vec<String> = all.into_iter().collect();
            let message = format!(
                "port {} of {} is {} here and in {}; which one proxies take is not defined",
                number.unwrap_or_default(),
                quote(field.text()),
                list(&all, " and "),
                quote(&other.full_name())
            );
            let related = other.related(other.spec().get("ports").path(), "has another protocol");
            let hit = Hit::new(rule::SE_PROTOCOL, port.get("protocol").path(), message).with(related);
            return Some(hit.suggest("give the port one protocol").hosts("failing", field.text()));
        }
    }
    None
}

fn overlap(entry: &Entry, field: &Field<'_>, name: &str, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    let numbers = |entry: &Entry| {
        entry
            .spec()
            .get("ports")
            .items()
            .iter()
            .filter_map(|port| port.get("number").integer())
            .collect::<BTreeSet<_>>()
    };
    for other in rivals(entry, name, view) {
        let theirs = other.spec();
        let what = if spec.get("resolution").text() != theirs.get("resolution").text() {
            let text = |spec: &Field<'_>| if spec.get("resolution").text().is_empty() { "NONE" } else { "" };
            let shown = |spec: &Field<'_>| format!("{}{}", spec.get("resolution").text(), text(spec));
            format!("resolution {} here and {} there", shown(&spec), shown(&theirs))
        } else if numbers(entry) != numbers(other) {
            "other ports".to_owned()
        } else {
            continue;
        };
        let path = if what.starts_with("resolution") { "resolution" } else { "ports" };
        let message = format!(
            "{} is defined by {} too, with {what}; a client gets one of the two",
            quote(name),
            quote(&other.full_name())
        );
        let hit = Hit::new(rule::SE_OVERLAP, field.path(), message)
            .with(other.related(theirs.get(path).path(), "defines the same host"));
        return Some(hit.suggest("define a host in one ServiceEntry").hosts("failing", name));
    }
    None
}

fn shadows(field: &Field<'_>, name: &str, view: &View<'_>) -> Option<Hit> {
    let (service, namespace) = host::service(name)?;
    let found = view.named(Kind::Service, namespace, service)?;
    let message =
        format!("{} is the name of a Service of the cluster; the ServiceEntry may take its traffic", quote(name));
    let hit =
        Hit::new(rule::SE_SHADOWS, field.path(), message).with(found.related(found.name().path(), "has the name"));
    Some(hit.suggest("give the ServiceEntry a name outside the cluster").hosts("failing", name))
}

/// A TCP port without an address listens on all of them, and HTTP requests of others to the port come there.
fn tcp_on_http(entry: &Entry, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    if !spec.get("addresses").items().is_empty() {
        return None;
    }
    let ports = spec.get("ports").items();
    let is_plain = |port: &&Field<'_>| {
        ["TCP", "MONGO", "REDIS", "MYSQL"].contains(&port.get("protocol").text().to_ascii_uppercase().as_str())
    };
    for port in ports.iter().filter(is_plain) {
        let number = port.get("number").integer()?;
        let services = view.all(Kind::Service);
        let http = |service: &&Entry| {
            service.spec().get("ports").items().iter().any(|port| {
                port.get("port").integer() == Some(number)
                    && protocol(port)
                        .is_some_and(|name| name.starts_with("http") && name != "https" || name.starts_with("grpc"))
            })
        };
        if let Some(other) = services.into_iter().find(http) {
            let message = format!(
                "TCP port {number} without addresses listens everywhere, and {} has HTTP on that port",
                quote(&other.full_name())
            );
            let hit = Hit::new(rule::SE_TCP_ON_HTTP, port.path(), message)
                .with(other.related(other.spec().get("ports").path(), "has HTTP on the port"));
            return Some(
                hit.suggest("name the addresses of the host")
                    .hosts("failing", host::full(&other.head.name, other.namespace())),
            );
        }
    }
    None
}
