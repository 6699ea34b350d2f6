//! Sidecar: what a proxy takes in, and which hosts it may reach.

use std::collections::{HashMap, HashSet};

use super::{
    common,
    listener::{self, Protocol, Side, UNIX},
    selector, server_tls, traffic_policy, virtual_service,
};
use crate::{
    path::Path,
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// TLS settings of a Gateway that a Sidecar does not have.
const NOT_HERE: [&str; 4] = ["subjectAltNames", "credentialName", "credentialNames", "tlsCertificates"];

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = selector::by_labels(&spec.get("workloadSelector"), "labels");
    let (ingress, egress) = (spec.get("ingress").items(), spec.get("egress").items());
    let (outbound, pool) = (spec.get("outboundTrafficPolicy"), spec.get("inboundConnectionPool"));
    if ingress.is_empty() && egress.is_empty() && !outbound.is_set() && !pool.is_set() {
        let message =
            "the Sidecar says nothing: neither ingress, egress, outboundTrafficPolicy nor inboundConnectionPool";
        hits.push(Hit::new(rule::SC_EMPTY, spec.path(), message));
        return hits;
    }
    hits.extend(ingress.iter().flat_map(incoming));
    hits.extend(unique_ports(&ingress));
    hits.extend(traffic_policy::connection_pool(&pool));
    let last = egress.len().saturating_sub(1);
    for (index, listener) in egress.iter().enumerate() {
        hits.extend(outgoing(listener, index == last));
        hits.extend(hosts(&listener.get("hosts"), &object.head.namespace));
    }
    hits.extend(unique_ports(&egress));
    hits.extend(unique_sockets(&egress));
    hits.extend(egress_proxy(&outbound));
    hits
}

fn incoming(listener: &Field<'_>) -> Vec<Hit> {
    let (port, pool) = (listener.get("port"), listener.get("connectionPool"));
    if !port.is_set() {
        return vec![Hit::new(rule::SC_LISTENER, port.path(), "an ingress listener needs a port")];
    }
    let mut hits = port_basics(&port);
    hits.extend(listener::port_number(&port.get("number"), &port));
    hits.extend(listener::bind_to_ip(&listener.get("bind")));
    hits.extend(default_endpoint(&listener.get("defaultEndpoint")));
    hits.extend(ingress_tls(&listener.get("tls")));
    hits.extend(traffic_policy::connection_pool(&pool));
    let protocol = port.get("protocol").text();
    if pool.get("http").is_set() && Protocol::named(protocol) != Some(Protocol::Http) {
        let message = format!("the protocol {} is not HTTP, so only the tcp settings apply", quote(protocol));
        hits.push(Hit::new(rule::SC_REDUNDANT, pool.get("http").path(), message).at_key());
    }
    hits
}

/// What the ports of both directions have in common.
fn port_basics(port: &Field<'_>) -> Vec<Hit> {
    let (name, protocol, target) = (port.get("name"), port.get("protocol"), port.get("targetPort"));
    let mut hits = Vec::new();
    if !name.text().is_empty() {
        hits.extend(listener::port_name(name.text(), &name));
    }
    if !protocol.text().is_empty() {
        hits.extend(listener::protocol(&protocol));
    }
    if target.integer().is_some_and(|number| number > 0) {
        let message = "targetPort has no effect on a Sidecar";
        hits.push(Hit::new(rule::SC_LISTENER, target.path(), message).at_key().suggest("remove targetPort"));
    }
    hits
}

/// `HOST:PORT` with one of five hosts, or a unix socket.
fn default_endpoint(field: &Field<'_>) -> Option<Hit> {
    let text = field.text();
    let problem = match text.strip_prefix(UNIX) {
        _ if text.is_empty() => None,
        Some(path) => listener::unix_path(path).err(),
        None => host_and_port(text).err(),
    };
    let advice = "write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, :PORT or unix:///PATH";
    let message = format!("the default endpoint {} cannot be used: {}", quote(text), problem?);
    Some(Hit::new(rule::SC_LISTENER, field.path(), message).suggest(advice))
}

fn host_and_port(text: &str) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
    if !["", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"].contains(&host) {
        return Err(format!("the host {} is not the workload itself", quote(host)));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("the port {} is not a number within 1 to 65535", quote(port))),
    }
}

fn ingress_tls(tls: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut unsupported = |name: &str| {
        let message = format!("a Sidecar does not support {name}");
        hits.push(Hit::new(rule::SC_TLS, tls.get(name).path(), message).at_key().suggest(format!("remove {name}")));
    };
    server_tls::filled(tls, &NOT_HERE).into_iter().for_each(&mut unsupported);
    if tls.get("httpsRedirect").is_true() {
        unsupported("httpsRedirect");
    }
    let mode = server_tls::mode(tls);
    if ["ISTIO_MUTUAL", "AUTO_PASSTHROUGH"].contains(&mode) {
        let message = format!("a Sidecar does not support the mode {mode}");
        hits.push(Hit::new(rule::SC_TLS, tls.get("mode").path(), message).suggest("use SIMPLE or MUTUAL"));
    }
    hits.extend(server_tls::check(tls));
    hits
}

fn outgoing(listener: &Field<'_>, is_last: bool) -> Vec<Hit> {
    let (port, bind, mode) = (listener.get("port"), listener.get("bind"), listener.get("captureMode"));
    if !port.is_set() {
        let message = "only the last egress listener may be without a port, because it takes the rest";
        return if is_last { Vec::new() } else { vec![Hit::new(rule::SC_LISTENER, listener.path(), message)] };
    }
    let mut hits = port_basics(&port);
    let number = port.get("number");
    if number.integer().unwrap_or_default() != 0 {
        hits.extend(common::port(&number));
        hits.extend(listener::bind_to_ip(&bind));
        return hits;
    }
    if !bind.text().starts_with(UNIX) {
        let message = "a listener on port 0 needs a unix socket";
        let hit = Hit::new(rule::SC_LISTENER, bind.path(), message);
        hits.push(hit.suggest("write bind: unix:///PATH, or a port number"));
    }
    hits.extend(listener::bind_to_socket(&bind));
    if !["", "DEFAULT", "NONE"].contains(&mode.text()) {
        let message = format!("captureMode {} is not for a unix socket", mode.text());
        hits.push(Hit::new(rule::SC_LISTENER, mode.path(), message).suggest("use DEFAULT or NONE"));
    }
    hits
}

fn unique_ports(listeners: &[Field<'_>]) -> Vec<Hit> {
    let mut seen: HashMap<i64, String> = HashMap::new();
    let mut hits = Vec::new();
    for listener in listeners {
        let field = listener.get("port").get("number");
        let Some(number) = field.integer().filter(|number| *number != 0) else { continue };
        if let Some(first) = seen.get(&number) {
            let message = format!("the port {number} is there already, at {first}");
            hits.push(Hit::new(rule::SC_LISTENER, field.path(), message));
        } else {
            seen.insert(number, field.path().to_string());
        }
    }
    hits
}

fn unique_sockets(listeners: &[Field<'_>]) -> Vec<Hit> {
    let mut seen = HashSet::new();
    let on_socket = |listener: &&Field<'_>| {
        let port = listener.get("port");
        port.is_set() && port.get("number").integer().unwrap_or_default() == 0
    };
    let mut hits = Vec::new();
    for listener in listeners.iter().filter(on_socket) {
        let bind = listener.get("bind");
        if !seen.insert(bind.text()) {
            let message = format!("another listener is on {} already", quote(bind.text()));
            hits.push(Hit::new(rule::SC_LISTENER, bind.path(), message));
        }
    }
    hits
}

/// The services of one namespace that a listener names.
#[derive(Default)]
struct Named<'a> {
    services: HashSet<&'a str>,
    all: bool,
}

fn hosts(hosts: &Field<'_>, namespace: &str) -> Vec<Hit> {
    let items = hosts.items();
    if items.is_empty() {
        let message = "an egress listener needs at least one host";
        return vec![Hit::new(rule::SC_HOST, hosts.path(), message).suggest("e.g. \"./*\"")];
    }
    let mut hits = Vec::new();
    let mut named: HashMap<&str, Named<'_>> = HashMap::new();
    for item in &items {
        if let Err(problem) = listener::scoped_host(item.text(), Side::Sidecar) {
            let message = format!("the host {} cannot be used: {problem}", quote(item.text()));
            hits.push(Hit::new(rule::SC_HOST, item.path(), message));
            continue;
        }
        let (scope, service) = item.text().split_once('/').unwrap_or_default();
        if scope.starts_with('~') {
            continue;
        }
        let of = named.entry(if scope == "." { namespace } else { scope }).or_default();
        let covered = if service == "*" { of.all || !of.services.is_empty() } else { of.all };
        let known = if service == "*" { std::mem::replace(&mut of.all, true) } else { !of.services.insert(service) };
        if covered || known {
            let message = format!("{} covers, or is covered by, a host before it", quote(item.text()));
            hits.push(Hit::new(rule::SC_REDUNDANT, item.path(), message).suggest("keep the wider one"));
        }
    }
    if named.len() > 1 && named.get("*").is_some_and(|of| of.all) {
        let message = "\"*/*\" covers every host, so no other host has an effect";
        hits.push(Hit::new(rule::SC_REDUNDANT, hosts.path(), message).suggest("keep \"*/*\" or the others"));
    }
    hits
}

fn egress_proxy(policy: &Field<'_>) -> Vec<Hit> {
    let proxy = policy.get("egressProxy");
    if !proxy.is_set() {
        return Vec::new();
    }
    let old = Hit::new(rule::DEPRECATED, proxy.path(), "Istio ignores egressProxy").at_key().suggest("remove it");
    let hit = |path: &Path, message: String| Hit::new(rule::SC_EGRESS_PROXY, path, message);
    // Nothing said is REGISTRY_ONLY.
    if policy.get("mode").text() != "ALLOW_ANY" {
        let message = "an egressProxy takes unknown hosts, which only the mode ALLOW_ANY lets out".to_owned();
        return vec![old, hit(proxy.path(), message).at_key().suggest("set mode: ALLOW_ANY, or remove egressProxy")];
    }
    let host = proxy.get("host");
    if let Err(problem) = common::dns_name(host.text()) {
        let message = format!("the host {} cannot be used: {problem}", quote(host.text()));
        return vec![old, hit(host.path(), message)];
    }
    if !proxy.get("port").is_set() {
        return vec![old, hit(proxy.get("port").path(), "the egressProxy needs a port".to_owned())];
    }
    virtual_service::destination(&proxy).into_iter().chain([old]).collect()
}
