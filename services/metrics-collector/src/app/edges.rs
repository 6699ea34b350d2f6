//! Who called whom in a window.
//!
//! A request may be counted by the proxies at both of its ends, or by one alone: what the server denied and what never
//! reached it are not the same. So the counts of one edge are those of the proxy that saw more, never their sum.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use meshward_model::Mesh;

use super::{Collector, milliseconds};
use crate::{
    error::Error,
    queries::edges::Labels,
    window::{Counter, Grid, Series, increases},
};

/// Readings of a window: a restart between two of them loses what was counted since the first.
const READINGS: i64 = 12;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgesRequest {
    /// Empty = the default one.
    pub cluster: String,
    /// Of the services that are called; "*" = all.
    pub namespaces: Vec<String>,
    /// None = all.
    pub services: Vec<String>,
    /// End of the window.
    pub end: Timestamp,
    /// Its length.
    pub window: Duration,
    /// Edges that are told at most.
    pub most: usize,
}

/// From whom to whom, as far as it is known; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// The caller's identity, or "-" for none.
    pub principal: String,
    /// The caller's workload.
    pub workload: String,
    /// The caller's namespace.
    pub namespace: String,
    /// The service that is called.
    pub service: String,
    /// Its namespace.
    pub service_namespace: String,
    /// "http" or "grpc".
    pub protocol: String,
    /// Method of the requests.
    pub method: String,
    /// Their path, without the query.
    pub path: String,
}

/// How many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// All.
    pub requests: f64,
    /// Answered with 403.
    pub denied: f64,
    /// Answered with 404.
    pub not_found: f64,
    /// Answered with 5xx.
    pub errors: f64,
}

/// What there was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgesReport {
    /// The busiest first.
    pub edges: Vec<(Ends, Counts)>,
    /// Edges that are left out, and their requests.
    pub omitted: (usize, f64),
    /// Why there are none.
    pub problem: String,
    /// The query that was sent.
    pub query: String,
}

impl Collector {
    /// Who called the services of some namespaces.
    ///
    /// # Errors
    /// If nothing can be asked, or the source fails.
    pub async fn edges(&self, wanted: &EdgesRequest) -> Result<EdgesReport, Error> {
        let (query, labels) = self.catalog.edges(Mesh::Istio, &wanted.namespaces, &wanted.services)?;
        let source = self.sources.of(&wanted.cluster)?;
        let step_ms = (milliseconds(wanted.window) / READINGS).max(1);
        let end_ms = wanted.end.as_millisecond();
        let grid = Grid { start_ms: end_ms - step_ms * READINGS, step_ms, ticks: READINGS as usize };
        let series = source.range(&query, &grid, Instant::now() + self.timeout).await?;
        let mut edges = told(&series, labels, &grid);
        edges.sort_by(|(a, more), (b, less)| less.requests.total_cmp(&more.requests).then_with(|| a.cmp(b)));
        let left = edges.split_off(edges.len().min(wanted.most));
        let problem = match (edges.is_empty(), series.is_empty()) {
            (false, _) => String::new(),
            (true, true) => format!(
                "{} has no series of requests to services in {}: no proxy there is scraped, or none tells its callers",
                source.address(),
                wanted.namespaces.join(", ")
            ),
            (true, false) => {
                format!("no request to services in {} was counted in this time", wanted.namespaces.join(", "))
            }
        };
        let omitted = (left.len(), left.iter().map(|(_, counts)| counts.requests).sum());
        Ok(EdgesReport { edges, omitted, problem, query })
    }
}

/// The edges of some series that had requests.
fn told(series: &[Series], labels: &Labels, grid: &Grid) -> Vec<(Ends, Counts)> {
    let mut by_ends: BTreeMap<Ends, (String, BTreeMap<&str, Counts>)> = BTreeMap::new();
    for one in series {
        let requests = increases(&[Counter::from(one)], grid, 0).iter().sum::<f64>();
        if requests <= 0.0 {
            continue;
        }
        let ends = ends(one, labels);
        // The proxies of both ends need not know the same of the caller; only where its workload is not known does its
        // identity tell callers apart.
        let principal = ends.principal.clone();
        let key = if ends.workload.is_empty() { ends } else { Ends { principal: String::new(), ..ends } };
        let (known, reporters) = by_ends.entry(key).or_default();
        if known.is_empty() || known == "-" && !principal.is_empty() {
            *known = principal;
        }
        let counts = reporters.entry(one.label(&labels.reporter)).or_default();
        counts.requests += requests;
        match one.label(&labels.response_code) {
            "403" => counts.denied += requests,
            "404" => counts.not_found += requests,
            code if code.starts_with('5') => counts.errors += requests,
            _ => {}
        }
    }
    let most = |reporters: BTreeMap<&str, Counts>| {
        reporters.into_values().max_by(|a, b| a.requests.total_cmp(&b.requests)).unwrap_or_default()
    };
    by_ends.into_iter().map(|(ends, (principal, reporters))| (Ends { principal, ..ends }, most(reporters))).collect()
}

fn ends(series: &Series, labels: &Labels) -> Ends {
    // Istio writes "unknown" for what it does not know.
    let known = |name: &str| match series.label(name) {
        "unknown" => String::new(),
        value => value.to_owned(),
    };
    let principal = known(&labels.source_principal);
    let principal = match principal.strip_prefix("spiffe://") {
        Some(identity) => identity.to_owned(),
        None if principal.is_empty() && series.label(&labels.security) == "none" => "-".to_owned(),
        None => principal,
    };
    let path = known(&labels.path);
    Ends {
        principal,
        workload: known(&labels.source_workload),
        namespace: known(&labels.source_namespace),
        service: known(&labels.destination_service),
        service_namespace: known(&labels.destination_namespace),
        protocol: known(&labels.protocol),
        method: known(&labels.method),
        path: path.split(['?', '#']).next().unwrap_or_default().to_owned(),
    }
}
