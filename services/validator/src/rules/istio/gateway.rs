//! Gateway: servers with their hosts, ports and TLS.

use std::collections::HashMap;

use super::{
    common,
    listener::{self, Protocol, Side, UNIX},
    server_tls,
};
use crate::{
    report::{Hit, list, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// Set on what Istio makes of a Gateway of the Gateway API.
const SEMANTICS: &str = "internal.istio.io/gateway-semantics";

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let root = object.root();
    let servers = root.get("spec").get("servers");
    let mut hits = Vec::new();
    let name = object.head.name.as_str();
    let semantics = root.get("metadata").get("annotations").get(SEMANTICS);
    let side = if semantics.text() == "gateway" { Side::Unrouted } else { Side::Gateway };
    if !name.is_empty() && !common::is_label(name) && side == Side::Gateway {
        let message = format!("{} is no name of a Gateway, which is used in names of routes", quote(name));
        let at = root.get("metadata").get("name");
        hits.push(Hit::new(rule::GW_SERVER, at.path(), message).suggest("letters, digits and inner dashes"));
    }
    let items = servers.items();
    if items.is_empty() {
        hits.push(Hit::new(rule::GW_SERVER, servers.path(), "a Gateway needs at least one server"));
    }
    hits.extend(items.iter().flat_map(|item| server(item, side)));
    hits.extend(port_names(&items));
    hits
}

fn server(server: &Field<'_>, side: Side) -> Vec<Hit> {
    let hosts = server.get("hosts");
    let mut hits = Vec::new();
    if hosts.items().is_empty() {
        hits.push(Hit::new(rule::GW_SERVER, hosts.path(), "a server needs at least one host").suggest("e.g. \"*\""));
    }
    for host in hosts.items() {
        if let Err(problem) = listener::scoped_host(host.text(), side) {
            let message = format!("the host {} cannot be used: {problem}", quote(host.text()));
            hits.push(Hit::new(rule::GW_HOST, host.path(), message));
        }
    }
    let (port, bind, tls) = (server.get("port"), server.get("bind"), server.get("tls"));
    let port_hits = self::port(&port, &bind);
    let port_is_good = port_hits.is_empty();
    hits.extend(port_hits);
    hits.extend(self::bind(&port, &bind));
    hits.extend(server_tls::check(&tls));
    if port_is_good {
        hits.extend(tls_fits(server, &port, &tls));
    }
    hits
}

fn port(port: &Field<'_>, bind: &Field<'_>) -> Vec<Hit> {
    if !port.is_set() {
        return vec![Hit::new(rule::GW_PORT, port.path(), "a server needs a port")];
    }
    let number = port.get("number");
    let mut hits: Vec<Hit> = listener::protocol(&port.get("protocol")).into_iter().collect();
    if number.integer().unwrap_or_default() > 0 || !bind.text().starts_with(UNIX) {
        hits.extend(listener::port_number(&number, port));
    }
    let target = port.get("targetPort");
    if target.integer().is_some_and(|number| number > 0) {
        let message = "targetPort has no effect on a Gateway";
        hits.push(Hit::new(rule::GW_PORT, target.path(), message).at_key().suggest("remove targetPort"));
    }
    if port.get("name").text().is_empty() {
        hits.push(Hit::new(rule::GW_PORT, port.get("name").path(), "the port needs a name"));
    }
    hits
}

fn bind(port: &Field<'_>, bind: &Field<'_>) -> Vec<Hit> {
    if !bind.text().starts_with(UNIX) {
        return listener::bind_to_ip(bind).into_iter().collect();
    }
    let mut hits: Vec<Hit> = listener::bind_to_socket(bind).into_iter().collect();
    let number = port.get("number");
    if number.integer().is_some_and(|number| number != 0) {
        let message = "a unix socket has no port, so its number must be 0";
        hits.push(Hit::new(rule::GW_PORT, number.path(), message));
    }
    hits
}

/// TLS protocols need settings, others must have none, but for redirects of HTTP.
fn tls_fits(server: &Field<'_>, port: &Field<'_>, tls: &Field<'_>) -> Option<Hit> {
    let name = port.get("protocol").text();
    let protocol = Protocol::named(name)?;
    if protocol == Protocol::Tls {
        let message = format!("the protocol {name} needs tls settings");
        return (!tls.is_set()).then(|| Hit::new(rule::GW_TLS, server.path(), message).suggest("add tls: {mode: …}"));
    }
    if !tls.is_set() {
        return None;
    }
    if protocol == Protocol::Http {
        let used = server_tls::filled(tls, &["caCertificates", "privateKey", "serverCertificate"]);
        if server_tls::passes_through(tls) && used.is_empty() {
            return None;
        }
        let what = if used.is_empty() { format!("mode {}", server_tls::mode(tls)) } else { list(&used, " and ") };
        let message = format!("the protocol {name} is not encrypted, so tls must not have {what}");
        let advice = "use the protocol HTTPS, or only httpsRedirect";
        return Some(Hit::new(rule::GW_TLS, tls.path(), message).at_key().suggest(advice));
    }
    let message = format!("the protocol {name} must have no tls settings");
    Some(Hit::new(rule::GW_TLS, tls.path(), message).at_key().suggest("use the protocol TLS, or remove tls"))
}

/// Port names are unique within a Gateway. A redirect needs HTTP.
fn port_names(servers: &[Field<'_>]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut seen: HashMap<&str, String> = HashMap::new();
    for server in servers {
        let name = server.get("port").get("name");
        let redirect = server.get("tls").get("httpsRedirect");
        let protocol = Protocol::named(server.get("port").get("protocol").text());
        if redirect.is_true() && protocol != Some(Protocol::Http) {
            let message = "httpsRedirect is for servers that speak HTTP";
            hits.push(Hit::new(rule::SERVER_TLS_IGNORED, redirect.path(), message).at_key());
        }
        if name.text().is_empty() {
            continue;
        }
        if let Some(first) = seen.get(name.text()) {
            let message = format!("the port name {} is there already, at {first}", quote(name.text()));
            hits.push(Hit::new(rule::GW_PORT, name.path(), message).suggest("give each port its own name"));
        } else {
            seen.insert(name.text(), name.path().to_string());
        }
    }
    hits
}
