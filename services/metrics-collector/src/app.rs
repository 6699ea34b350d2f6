//! The questions that are answered: what traffic there was, what the judge says of it ([`analyse`]), whether the queries
//! return data ([`preflight`]), what the judge says of numbers that the caller brings ([`recorded`]), and why it said what
//! it said ([`explain`]; [`kept`] verdicts only).
//!
//! No verdict depends on what is remembered. An analysis asks the source for everything since the deployment began and
//! goes through all ticks again, so a restart loses nothing and two replicas agree. The price is a range query with all
//! ticks (at most [`MAX_TICKS`]; an hour of 15 s ticks has 240, and the time before the change 60) for the counters, a
//! few series per calling proxy, one for the latency histograms, one for other failures, and well under a millisecond
//! of judging. Ticks begin at the deployment's start whenever it is asked, so past ticks stay what they are; only the
//! newest may still grow by a scrape that was on its way.

pub mod analyse;
pub mod edges;
pub mod explain;
pub mod kept;
pub mod preflight;
pub mod recorded;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use meshward_model::{CohortTraffic, Mechanism, MetricsTarget};

pub use analyse::AnalysisRequest;

use crate::{
    error::Error,
    judge,
    queries::{Arm, Catalog, Queries},
    source::{Answer, MetricsSource, SourceError, clusters::Sources},
    traffic::{self, Reader},
    window::Grid,
};

/// Most ticks of a deployment that one analysis goes through.
pub const MAX_TICKS: usize = 5000;
/// Readings from which latencies and traffic windows are summed.
const MAX_READINGS: usize = 60;

/// What both arms did in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficReport {
    /// The version on trial.
    pub canary: CohortTraffic,
    /// The version beside it.
    pub control: CohortTraffic,
    /// canary / (canary + control); `None` without requests.
    pub observed_share: Option<f64>,
    /// The queries that were sent.
    pub queries: Vec<String>,
}

/// Asks the source and judges.
#[derive(Clone)]
pub struct Collector {
    sources: Sources,
    catalog: Arc<Catalog>,
    /// How long the source may take for one answer, repetitions included.
    timeout: Duration,
    /// How old what the source knows may be.
    scrape_interval: Duration,
    /// How long it may take to know a pod's new label.
    discovery_delay: Duration,
}

impl Collector {
    /// A collector that asks with the queries of `catalog` and gives a source `timeout` for each answer.
    pub fn new(sources: Sources, catalog: Catalog, timeout: Duration) -> Self {
        Self {
            sources,
            catalog: Arc::new(catalog),
            timeout,
            scrape_interval: Duration::ZERO,
            discovery_delay: Duration::ZERO,
        }
    }

    /// The same for sources that look at the proxies this often.
    #[must_use]
    pub fn scraped_every(self, scrape_interval: Duration) -> Self {
        Self { scrape_interval, ..self }
    }

    /// The same for sources that know a pod's new label after so long, and look at the pod then.
    #[must_use]
    pub fn discovering_within(self, discovery_delay: Duration) -> Self {
        Self { discovery_delay, ..self }
    }

    /// What to ask for a target, and whom.
    fn plan(&self, target: &MetricsTarget) -> Result<(Queries, &Arc<dyn MetricsSource>), Error> {
        Ok((self.catalog.queries(target)?, self.sources.of(&target.cluster)?))
    }

    /// Whether a target can be asked for at all; nobody is asked.
    ///
    /// # Errors
    /// If it cannot.
    pub fn accepts(&self, target: &MetricsTarget) -> Result<(), Error> {
        self.plan(target).map(drop)
    }

    /// Traffic in the `window` before `end`.
    ///
    /// # Errors
    /// If the target cannot be asked for, or the source fails.
    pub async fn traffic(
        &self,
        target: &MetricsTarget,
        end: Timestamp,
        window: Duration,
    ) -> Result<TrafficReport, Error> {
        let (queries, source) = self.plan(target)?;
        let grid = readings(end.as_millisecond(), milliseconds(window));
        let deadline = Instant::now() + self.timeout;
        let (counters, buckets, failures) = futures::try_join!(
            source.range(&queries.traffic, &grid, deadline),
            source.range(&queries.latency, &grid, deadline),
            other_failures(&queries, source.as_ref(), &grid, deadline),
        )?;
        let queries = queries.where_counted(&counters);
        let reader = Reader { queries: &queries, grid: &grid, quiet: 0 };
        let arm = |arm| {
            let mut traffic = reader.counts(arm, &counters).total(0..grid.ticks, grid.seconds());
            reader.latencies(arm, &buckets).add_to(&mut traffic, 0..grid.ticks);
            traffic::add_failures(&mut traffic, &reader.failures(arm, &failures), 0..grid.ticks);
            traffic
        };
        let (canary, control) = (arm(Arm::Canary), arm(Arm::Control));
        let observed_share = judge::share(canary.requests, control.requests);
        let queries = queries.texts().into_iter().map(str::to_owned).collect();
        Ok(TrafficReport { canary, control, observed_share, queries })
    }
}

/// Nothing, where nothing else is counted.
async fn other_failures(
    queries: &Queries,
    source: &dyn MetricsSource,
    grid: &Grid,
    deadline: Instant,
) -> Result<Answer, SourceError> {
    match &queries.failures {
        Some(query) => source.range(query, grid, deadline).await,
        None => Ok(Answer::default()),
    }
}

/// At most 60 equal intervals, of a second or more, that end at `end_ms` and cover `length_ms`.
fn readings(end_ms: i64, length_ms: i64) -> Grid {
    let count = (length_ms / 1000).clamp(1, MAX_READINGS as i64);
    let step_ms = (length_ms / count).max(1);
    Grid { start_ms: end_ms - step_ms * count, step_ms, ticks: usize::try_from(count).unwrap_or(1) }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

fn nothing_counts(mechanism: Mechanism) -> String {
    format!("with the mechanism {mechanism:?} nothing counts canary and control apart, so nothing can be judged")
}
