//! An edge of a request: what it has no meaning with, and what it tells of requests.

use std::collections::{BTreeMap, HashMap};

use meshward_proto::{
    metrics::v1::ObservedEdge,
    validator::v1::{TrafficEdge, TrafficProtocol},
};
use serde_json::Value;

use crate::{
    access::{Call, Fact, Workload},
    error::Error,
    impact::{
        Edge,
        labels::{self, Open},
        routes::ANY_GATEWAY,
    },
    routing::{MESH, Protocol, Request},
    world::host,
};

const MOST_FIELDS: usize = 100;

/// Refuses what has no meaning.
pub(super) fn check(edge: &TrafficEdge) -> Result<(), Error> {
    let refused = |field, problem| Err(Error::Request { field, problem });
    for (field, port) in [("edges.destination_port", edge.destination_port), ("edges.service_port", edge.service_port)]
    {
        if u16::try_from(port).is_err() {
            return refused(field, format!("{port} is no port (1 to 65535; 0 = not known)"));
        }
    }
    let rate = edge.requests_per_second;
    if !rate.is_finite() || rate < 0.0 {
        return refused("edges.requests_per_second", format!("{rate} is no rate"));
    }
    for (field, count) in [("edges.headers", edge.headers.len()), ("edges.query_params", edge.query_params.len())] {
        if count > MOST_FIELDS {
            return refused(field, format!("{count}, and at most {MOST_FIELDS} are taken"));
        }
    }
    if !["", ANY_GATEWAY].contains(&edge.gateway.as_str())
        && edge.gateway.split('/').filter(|part| !part.is_empty()).count() != 2
    {
        return refused("edges.gateway", format!("{:?} is not \"namespace/name\"", edge.gateway));
    }
    if TrafficProtocol::try_from(edge.protocol).is_err() {
        return refused("edges.protocol", format!("{} is no protocol", edge.protocol));
    }
    Ok(())
}

/// What it tells.
pub(super) fn read(edge: &TrafficEdge) -> Edge {
    let request = request(edge);
    let call = Call {
        principal: if edge.source_principal == "-" { Fact::Absent } else { known(&edge.source_principal) },
        port: port(edge.destination_port),
        sni: known(&edge.sni),
        host: known(&edge.host),
        method: known(&edge.method),
        path: known(&edge.path),
        headers: request.headers.clone(),
        all_headers: edge.complete,
        ..Call::default()
    };
    Edge {
        workload: Workload {
            namespace: edge.destination_namespace.clone(),
            labels: edge.destination_labels.clone().into_iter().collect(),
        },
        open: Open::None,
        service: edge.destination_service.clone(),
        call,
        request,
        asked: !edge.host.is_empty(),
        rate: edge.requests_per_second,
    }
}

/// The labels of workloads, of which each is looked for once.
#[derive(Default)]
pub(super) struct Workloads(HashMap<String, (BTreeMap<String, String>, Open)>);

impl Workloads {
    fn of(&mut self, edge: &ObservedEdge, objects: &[Value]) -> (BTreeMap<String, String>, Open) {
        let look = || {
            let name = host::service(&edge.destination_service).map_or("", |(name, _)| name);
            labels::of_service(objects.iter(), &edge.destination_namespace, name)
        };
        self.0.entry(edge.destination_service.clone()).or_insert_with(look).clone()
    }
}

/// An edge that the mesh counted, and what it tells with the Services and Pods among these objects.
pub(super) fn seen(edge: ObservedEdge, workloads: &mut Workloads, objects: &[Value]) -> (TrafficEdge, Edge) {
    let (labels, open) = workloads.of(&edge, objects);
    let told = TrafficEdge {
        source_principal: edge.source_principal,
        source_namespace: edge.source_namespace,
        source_workload: edge.source_workload,
        destination_namespace: edge.destination_namespace,
        destination_service: edge.destination_service,
        destination_labels: labels.into_iter().collect(),
        method: edge.method,
        path: edge.path,
        gateway: ANY_GATEWAY.to_owned(),
        requests_per_second: edge.requests_per_second,
        ..TrafficEdge::default()
    };
    let read = Edge { open, ..read(&told) };
    (told, read)
}

fn known(text: &str) -> Fact<String> {
    if text.is_empty() { Fact::Unknown } else { Fact::Known(text.to_owned()) }
}

fn port(number: i32) -> Fact<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0).map_or(Fact::Unknown, Fact::Known)
}

fn request(edge: &TrafficEdge) -> Request {
    let of_principal = edge.source_principal.split_once("/ns/").and_then(|(_, rest)| rest.split_once('/'));
    let of_principal = of_principal.map_or("", |(namespace, _)| namespace);
    let namespace = if edge.source_namespace.is_empty() { of_principal } else { &edge.source_namespace };
    let labels = edge.source_labels.clone();
    let lower = |all: &HashMap<String, String>| {
        all.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    Request {
        host: asked_host(edge, namespace),
        gateway: if edge.gateway.is_empty() { MESH.to_owned() } else { edge.gateway.clone() },
        namespace: known(namespace),
        labels: if labels.is_empty() { Fact::Unknown } else { Fact::Known(labels.into_iter().collect()) },
        port: port(edge.service_port),
        protocol: match edge.protocol() {
            TrafficProtocol::Unspecified | TrafficProtocol::Http => Protocol::Http,
            TrafficProtocol::Tls => Protocol::Tls,
            TrafficProtocol::Tcp => Protocol::Tcp,
        },
        sni: known(&edge.sni),
        method: known(&edge.method),
        path: known(&edge.path),
        authority: known(&edge.host),
        scheme: Fact::Unknown,
        headers: lower(&edge.headers),
        query: edge.query_params.clone().into_iter().collect(),
        complete: edge.complete,
    }
}

/// The full name of the host that was asked for, or else of the service where the requests were seen.
fn asked_host(edge: &TrafficEdge, namespace: &str) -> String {
    let seen = host::full(&edge.destination_service, &edge.destination_namespace);
    if edge.host.is_empty() {
        return seen;
    }
    let (name, port) = edge.host.rsplit_once(':').unwrap_or((&edge.host, ""));
    let name = if port.bytes().all(|c| c.is_ascii_digit()) { name } else { &edge.host };
    // A service answers to parts of its whole name too, of which a proxy knows the namespace.
    let parts: Vec<_> = name.split('.').collect();
    let service = match parts[..] {
        [service] => {
            Some((service, if namespace.is_empty() { edge.destination_namespace.as_str() } else { namespace }))
        }
        [service, of] if of == edge.destination_namespace || of == namespace => Some((service, of)),
        [service, of, "svc"] => Some((service, of)),
        _ => None,
    };
    match service.filter(|_| edge.gateway.is_empty()) {
        Some((service, of)) => host::full(service, of),
        None => name.trim_end_matches('.').to_ascii_lowercase(),
    }
}
