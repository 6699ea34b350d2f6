//! What canary and control did in each tick, from the series that a target's queries bring; for people, and for the judge.

use std::{collections::BTreeMap, ops::Range};

use meshward_model::{CohortTraffic, TickSample};

use crate::{
    histogram::Histogram,
    judge::{Tick, counts::Kind, latency::SlowTick},
    queries::{ARM_LABEL, Arm, Queries},
    window::{Counter, Grid, Series, counters, increases},
};

/// One arm, tick by tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArmCounts {
    /// Requests in each tick.
    pub requests: Vec<u64>,
    /// Errors in each tick, never more than its requests.
    pub errors: Vec<u64>,
}

/// Reads the answers to a target's queries.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    /// What was asked.
    pub queries: &'a Queries,
    /// At which moments.
    pub grid: &'a Grid,
    /// In how many of the first ticks the birth of a series is no increase.
    pub quiet: usize,
}

impl Reader<'_> {
    /// Requests and errors of one arm, from the answer to [`Queries::traffic`].
    #[must_use]
    pub fn counts(&self, arm: Arm, series: &[Series]) -> ArmCounts {
        let queries = self.queries;
        let counters = self.counters(series);
        let of = |of_requests: bool| {
            let is_of = |one: &Series| queries.arm(one) == Some(arm) && queries.counts_requests(one) == of_requests;
            self.whole(counters.iter().filter(|one| is_of(one.series)))
        };
        let requests = of(true);
        let errors = of(false).into_iter().zip(&requests).map(|(errors, requests)| errors.min(*requests)).collect();
        ArmCounts { requests, errors }
    }

    /// What else was counted in one arm, tick by tick, from the answer to [`Queries::failures`]: as many as there are
    /// ticks, for each kind that the target's mesh counts. No series is no failure.
    #[must_use]
    pub fn failures(&self, arm: Arm, series: &[Series]) -> Vec<(Kind, Vec<u64>)> {
        let counters = self.counters(series);
        let of_kind = |kind: &Kind| {
            let is_of = |one: &Series| self.queries.failure(one) == Some((arm, *kind));
            (*kind, self.whole(counters.iter().filter(|one| is_of(one.series))))
        };
        self.queries.kinds.iter().map(of_kind).collect()
    }

    /// Latencies of one arm, from the answer to [`Queries::latency`].
    #[must_use]
    pub fn latencies(&self, arm: Arm, series: &[Series]) -> ArmLatencies {
        // Edges are 0 or more, so their bits are in their order; "10" and "10.0" are one.
        let mut by_edge: BTreeMap<u64, Vec<&Counter<'_>>> = BTreeMap::new();
        let mut first_ms: Option<i64> = None;
        let counters = self.counters(series);
        for one in counters.iter().filter(|one| self.queries.arm(one.series) == Some(arm)) {
            let Some(edge) = one.series.label("le").parse().ok().filter(|edge: &f64| *edge >= 0.0) else { continue };
            by_edge.entry(edge.to_bits()).or_default().push(one);
            let begin = one.series.points.iter().find(|(_, value)| value.is_finite()).map(|(time, _)| *time);
            first_ms = first_ms.into_iter().chain(begin).min();
        }
        let bucket = |(edge, counters)| {
            (f64::from_bits(edge) * self.queries.latency_unit_ms, increases(counters, self.grid, self.quiet))
        };
        let buckets = by_edge.into_iter().map(bucket).collect();
        let since =
            first_ms.and_then(|first| (0..self.grid.ticks).find(|tick| self.grid.boundary_ms(tick + 1) >= first));
        ArmLatencies { buckets, since }
    }

    fn counters<'s>(&self, series: &'s [Series]) -> Vec<Counter<'s>> {
        counters(series, ARM_LABEL, self.queries.cohort_label.as_deref(), self.grid)
    }

    /// A float beyond the range of u64 becomes its maximum.
    fn whole<'c, 'a: 'c>(&self, counters: impl Iterator<Item = &'c Counter<'a>>) -> Vec<u64> {
        increases(counters, self.grid, self.quiet).into_iter().map(|count| count.round() as u64).collect()
    }
}

impl ArmCounts {
    /// The sums over a range of ticks. Latencies are left empty.
    #[must_use]
    pub fn total(&self, ticks: Range<usize>, seconds: f64) -> CohortTraffic {
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

/// Fills in what else was counted in some ticks.
pub fn add_failures(traffic: &mut CohortTraffic, failures: &[(Kind, Vec<u64>)], ticks: Range<usize>) {
    for (kind, counts) in failures {
        let sum = counts[ticks.clone()].iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        add_failure(traffic, *kind, sum);
    }
}

/// Adds to what was counted of a kind.
pub fn add_failure(traffic: &mut CohortTraffic, kind: Kind, count: u64) {
    let sum = match kind {
        Kind::ConnectionFailures => &mut traffic.connection_failures,
        Kind::CircuitBreakerTrips => &mut traffic.circuit_breaker_trips,
        Kind::Denials => &mut traffic.denials,
    };
    *sum = Some(sum.unwrap_or_default().saturating_add(count));
}

/// One arm's latency buckets, tick by tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmLatencies {
    /// Upper edges in milliseconds, ascending, and what was counted at or below each in each tick.
    buckets: Vec<(f64, Vec<f64>)>,
    /// The first tick at whose end there was a series.
    since: Option<usize>,
}

impl ArmLatencies {
    /// Fills in the latencies of some ticks.
    pub fn add_to(&self, traffic: &mut CohortTraffic, ticks: Range<usize>) {
        let sum = |(edge, counts): &(f64, Vec<f64>)| (*edge, counts[ticks.clone()].iter().sum());
        let histogram = Histogram::new(self.buckets.iter().map(sum).collect());
        traffic.latency_p50_ms = histogram.quantile(0.50);
        traffic.latency_p95_ms = histogram.quantile(0.95);
        traffic.latency_p99_ms = histogram.quantile(0.99);
    }

    /// Requests in a tick that were timed.
    fn timed(&self, tick: usize) -> f64 {
        self.buckets.last().filter(|(edge, _)| *edge == f64::INFINITY).map_or(0.0, |(_, counts)| counts[tick])
    }

    /// Requests in a tick that took longer than an edge; `None` if this arm has no such bucket.
    fn beyond(&self, edge_ms: f64, tick: usize) -> Option<u64> {
        let (_, counts) = self.buckets.iter().find(|(edge, _)| *edge == edge_ms)?;
        Some((self.timed(tick) - counts[tick]).max(0.0).round() as u64)
    }
}

/// What the judge needs of the latencies of each tick. `None` for ticks before the first histogram, whichever arm it is
/// of: whether there is one in a tick does not change when it is asked for again later.
#[must_use]
pub fn slow_ticks(ticks: &[Tick], canary: &ArmLatencies, control: &ArmLatencies) -> Vec<Option<SlowTick>> {
    let since = canary.since.into_iter().chain(control.since).min();
    // An arm without any histogram has no edges of its own.
    let edges: Vec<f64> = match (canary.buckets.is_empty(), control.buckets.is_empty()) {
        (true, _) => finite(control).collect(),
        (false, true) => finite(canary).collect(),
        (false, false) => finite(control).filter(|edge| finite(canary).any(|other| other == *edge)).collect(),
    };
    let slow = |index: usize, tick: &Tick| SlowTick {
        requests: TickSample {
            canary_requests: canary.timed(index).round() as u64,
            control_requests: control.timed(index).round() as u64,
            ..tick.sample
        },
        canary: edges.iter().map(|edge| canary.beyond(*edge, index).unwrap_or(0)).collect(),
        control: edges.iter().map(|edge| control.beyond(*edge, index).unwrap_or(0)).collect(),
        edges_ms: edges.clone(),
    };
    let of_tick = |(index, tick): (usize, &Tick)| since.filter(|since| *since <= index).map(|_| slow(index, tick));
    ticks.iter().enumerate().map(of_tick).collect()
}

fn finite(latencies: &ArmLatencies) -> impl Iterator<Item = f64> {
    latencies.buckets.iter().map(|(edge, _)| *edge).filter(|edge| edge.is_finite())
}

/// Latencies that were not told although they are measured: the judge keeps their stake and learns nothing from it.
#[must_use]
pub fn unknown_latencies(ticks: &[Tick]) -> Vec<Option<SlowTick>> {
    let nothing =
        |tick: &Tick| SlowTick { requests: tick.sample, edges_ms: Vec::new(), canary: Vec::new(), control: Vec::new() };
    ticks.iter().map(|tick| Some(nothing(tick))).collect()
}
