//! WorkloadEntry and WorkloadGroup: workloads that are no pods.

use super::{common, header, listener};
use crate::{
    report::{Hit, list, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const PROBES: [&str; 4] = ["httpGet", "tcpSocket", "exec", "grpc"];
const PROBE_NUMBERS: [&str; 5] =
    ["periodSeconds", "initialDelaySeconds", "timeoutSeconds", "successThreshold", "failureThreshold"];

/// One character fewer than a DNS label, because the definition of the kind says so.
const LONGEST_PORT_NAME: usize = 62;

/// All rules of a WorkloadEntry.
#[must_use]
pub fn check_entry(object: &Object<'_>) -> Vec<Hit> {
    entry(&object.root().get("spec"), Address::Any)
}

/// All rules of a WorkloadGroup.
#[must_use]
pub fn check_group(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let template = spec.get("template");
    let mut hits = Vec::new();
    if !template.is_set() {
        hits.push(Hit::new(rule::WL_ADDRESS, template.path(), "a WorkloadGroup needs a template"));
    }
    hits.extend(address_form(&template));
    hits.extend(ports(&template));
    hits.extend(common::label_map(&spec.get("metadata").get("labels")));
    hits.extend(probe(&spec.get("probe")));
    hits
}

/// What the address of a workload may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// IP address, DNS name or unix socket.
    Any,
    /// IP address or unix socket.
    NoName,
    /// IP address or DNS name.
    NameOrIp,
}

/// One workload: address, ports and labels.
pub(super) fn entry(workload: &Field<'_>, allowed: Address) -> Vec<Hit> {
    let address = workload.get("address");
    let mut hits = address_form(workload);
    if !address.text().is_empty() {
        hits.extend(address_kind(&address, allowed).filter(|_| hits.is_empty()));
    } else if workload.get("network").text().is_empty() || allowed == Address::NameOrIp {
        let message = "the workload has no address";
        hits.push(Hit::new(rule::WL_ADDRESS, address.path(), message).suggest("set address, or network"));
    }
    hits.extend(ports(workload));
    hits.extend(common::label_map(&workload.get("labels")));
    hits
}

fn ports(workload: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (name, port) in workload.get("ports").entries() {
        hits.extend(listener::port_name(name, &port).map(Hit::at_key));
        if name.len() == LONGEST_PORT_NAME + 1 {
            let message = format!("a port name of a workload has at most {LONGEST_PORT_NAME} characters");
            hits.push(Hit::new(rule::PORT_NAME, port.path(), message).at_key());
        }
        hits.extend(common::port(&port));
    }
    hits
}

/// A socket that cannot be, or that has ports.
fn address_form(workload: &Field<'_>) -> Vec<Hit> {
    let (address, ports) = (workload.get("address"), workload.get("ports"));
    if !address.text().starts_with(listener::UNIX) {
        return Vec::new();
    }
    let mut hits: Vec<Hit> = listener::bind_to_socket(&address).into_iter().collect();
    if ports.is_set() {
        let message = "a unix socket has no ports";
        hits.push(Hit::new(rule::WL_ADDRESS, ports.path(), message).at_key().suggest("remove ports"));
    }
    hits
}

fn address_kind(address: &Field<'_>, allowed: Address) -> Option<Hit> {
    let text = address.text();
    let is_socket = text.starts_with(listener::UNIX);
    let good = match allowed {
        _ if common::is_ip(text) => true,
        Address::Any => is_socket || common::dns_name(text).is_ok(),
        Address::NoName => is_socket,
        Address::NameOrIp => common::dns_name(text).is_ok(),
    };
    let kinds = match allowed {
        Address::Any => "IP address, DNS name or unix socket",
        Address::NoName => "IP address, which the resolution STATIC needs",
        Address::NameOrIp => "IP address or DNS name",
    };
    let message = format!("{} is no {kinds}", quote(text));
    (!good).then(|| Hit::new(rule::WL_ADDRESS, address.path(), message))
}

fn probe(probe: &Field<'_>) -> Vec<Hit> {
    if !probe.is_set() {
        return Vec::new();
    }
    let mut hits: Vec<Hit> =
        PROBE_NUMBERS.iter().filter_map(|name| common::non_negative(rule::WL_PROBE, &probe.get(name), name)).collect();
    if probe.set_among(&PROBES).is_empty() {
        let message = format!("the probe needs one of {}", list(&PROBES, " and "));
        hits.push(Hit::new(rule::WL_PROBE, probe.path(), message));
    }
    for name in ["httpGet", "tcpSocket", "grpc"] {
        let method = probe.get(name);
        let port = method.get("port");
        // The port of gRPC may be left out.
        if method.is_set() && (port.is_set() || name != "grpc") {
            hits.extend(listener::port_number(&port, &method));
        }
    }
    let (http, exec) = (probe.get("httpGet"), probe.get("exec"));
    if !["", "HTTP", "HTTPS"].contains(&http.get("scheme").text()) {
        let message = format!("the scheme {} is not HTTP or HTTPS", quote(http.get("scheme").text()));
        hits.push(Hit::new(rule::WL_PROBE, http.get("scheme").path(), message));
    }
    hits.extend(http.get("httpHeaders").items().iter().filter_map(|header| header::named(&header.get("name"))));
    if exec.is_set() && exec.get("command").items().is_empty() {
        hits.push(Hit::new(rule::WL_PROBE, exec.get("command").path(), "exec needs a command"));
    }
    hits
}
