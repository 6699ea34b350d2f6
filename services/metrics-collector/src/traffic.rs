//! What canary and control did in a window, from the series that a target's queries bring.

use std::collections::BTreeMap;

use meshward_model::CohortTraffic;

use crate::{
    histogram::Histogram,
    queries::{Arm, Queries},
    window::{Grid, Series, increases},
};

/// One arm, tick by tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmCounts {
    /// Requests in each tick.
    pub requests: Vec<u64>,
    /// Errors in each tick, never more than its requests.
    pub errors: Vec<u64>,
}

impl ArmCounts {
    /// Reads one arm from the answer to [`Queries::traffic`].
    #[must_use]
    pub fn read(queries: &Queries, arm: Arm, series: &[Series], grid: &Grid) -> Self {
        let counts = |of_requests: bool| {
            let picked = series
                .iter()
                .filter(|one| queries.arm(one) == Some(arm) && queries.counts_requests(one) == of_requests);
            // A float beyond the range of u64 becomes its maximum.
            increases(picked, grid).into_iter().map(|count| count.round() as u64)
        };
        let requests: Vec<u64> = counts(true).collect();
        let errors = counts(false).zip(&requests).map(|(errors, requests)| errors.min(*requests)).collect();
        Self { requests, errors }
    }

    /// The sums over a range of ticks. Latencies are left empty.
    #[must_use]
    pub fn total(&self, ticks: std::ops::Range<usize>, seconds: f64) -> CohortTraffic {
        let sum = |counts: &[u64]| counts[ticks.clone()].iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let requests = sum(&self.requests);
        CohortTraffic {
            requests,
            errors: sum(&self.errors),
            requests_per_second: if seconds > 0.0 { requests as f64 / seconds } else { 0.0 },
            ..CohortTraffic::default()
        }
    }
}

/// Whether the source has a requests series of this arm with a point after a moment.
#[must_use]
pub fn has_data(queries: &Queries, arm: Arm, series: &[Series], after_ms: i64) -> bool {
    series
        .iter()
        .filter(|one| queries.arm(one) == Some(arm) && queries.counts_requests(one))
        .any(|one| one.points.iter().any(|(time, value)| *time > after_ms && value.is_finite()))
}

/// Fills in the latencies of one arm from the answer to [`Queries::latency`].
pub fn add_latencies(traffic: &mut CohortTraffic, queries: &Queries, arm: Arm, series: &[Series], grid: &Grid) {
    let histogram = latencies(queries, arm, series, grid);
    traffic.latency_p50_ms = histogram.quantile(0.50);
    traffic.latency_p95_ms = histogram.quantile(0.95);
    traffic.latency_p99_ms = histogram.quantile(0.99);
}

/// The buckets of one arm's latencies in the whole window, in milliseconds.
fn latencies(queries: &Queries, arm: Arm, series: &[Series], grid: &Grid) -> Histogram {
    let mut by_edge: BTreeMap<&str, Vec<&Series>> = BTreeMap::new();
    for one in series.iter().filter(|one| queries.arm(one) == Some(arm)) {
        by_edge.entry(one.label("le")).or_default().push(one);
    }
    let bucket = |(edge, series): (&str, Vec<&Series>)| {
        let edge: f64 = edge.parse().ok()?;
        Some((edge * queries.latency_unit_ms, increases(series, grid).into_iter().sum()))
    };
    Histogram::new(by_edge.into_iter().filter_map(bucket).collect())
}
