//! ListTrafficEdges, on the wire.

use std::time::Duration;

use jiff::Timestamp;
use meshward_chassis::problem::Problem;
use meshward_proto::metrics::v1 as proto;

use super::convert;
use crate::app::edges::{EdgesReport, EdgesRequest};

const DEFAULT_WINDOW: Duration = Duration::from_secs(3600);
const MOST_NAMESPACES: usize = 20;
const MOST_SERVICES: usize = 100;
const DEFAULT_EDGES: usize = 1000;
const MOST_EDGES: i32 = 10_000;
/// Longest name of a namespace or a service.
const LONGEST_NAME: usize = 63;

pub(super) fn request(request: proto::ListTrafficEdgesRequest, now: Timestamp) -> Result<EdgesRequest, Problem> {
    let proto::ListTrafficEdgesRequest { cluster, namespaces, services, end_time, window, max_edges } = request;
    if !(1..=MOST_NAMESPACES).contains(&namespaces.len()) {
        return Err(Problem::invalid_argument("namespaces", format!("are 1 to {MOST_NAMESPACES}; \"*\" = all")));
    }
    if services.len() > MOST_SERVICES {
        return Err(Problem::invalid_argument("services", format!("are at most {MOST_SERVICES}; none = all")));
    }
    let is_all = namespaces == ["*"];
    for (field, names) in [("namespaces", &namespaces), ("services", &services)] {
        let is_good = |name: &str| is_name(name) || is_all && field == "namespaces";
        if let Some(name) = names.iter().find(|name| !is_good(name)) {
            return Err(Problem::invalid_argument(field, format!("{name:?} is no name")));
        }
    }
    let most = match max_edges {
        0 => DEFAULT_EDGES,
        1..=MOST_EDGES => usize::try_from(max_edges).unwrap_or(DEFAULT_EDGES),
        _ => return Err(Problem::invalid_argument("max_edges", format!("is 1 to {MOST_EDGES}, or 0"))),
    };
    let end = convert::end(end_time, now)?;
    let window = window.map(convert::length).transpose()?.unwrap_or(DEFAULT_WINDOW);
    Ok(EdgesRequest { cluster, namespaces, services, end, window, most })
}

fn is_name(name: &str) -> bool {
    let allowed = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    !name.is_empty() && name.len() <= LONGEST_NAME && allowed
}

pub(super) fn response(report: EdgesReport, window: Duration) -> proto::ListTrafficEdgesResponse {
    let per_second = |requests: f64| requests / window.as_secs_f64();
    let count = |requests: f64| requests.round() as i64;
    let edges = report.edges.into_iter().map(|(ends, counts)| proto::ObservedEdge {
        source_principal: ends.principal,
        source_workload: ends.workload,
        source_namespace: ends.namespace,
        destination_service: ends.service,
        destination_namespace: ends.service_namespace,
        protocol: ends.protocol,
        method: ends.method,
        path: ends.path,
        requests: count(counts.requests),
        requests_per_second: per_second(counts.requests),
        denied: count(counts.denied),
        not_found: count(counts.not_found),
        errors: count(counts.errors),
    });
    proto::ListTrafficEdgesResponse {
        edges: edges.collect(),
        omitted: i32::try_from(report.omitted.0).unwrap_or(i32::MAX),
        omitted_requests_per_second: per_second(report.omitted.1),
        problem: report.problem,
        query: report.query,
    }
}
