//! The questions that are answered: what traffic there was, what the judge says of it, whether the queries return data
//! ([`preflight`]), and what the judge says of numbers that the caller brings ([`recorded`]).
//!
//! Nothing is remembered. An analysis asks the source for everything since the deployment began and goes through all
//! ticks again, so a restart loses nothing and two replicas agree. The price is one range query with all ticks (at
//! most [`MAX_TICKS`]; an hour of 15 s ticks has 240) for each series, a few per calling proxy, one for the latency
//! histograms, and well under a millisecond of judging. Ticks begin at the deployment's start whenever it is asked,
//! so past ticks stay what they are; only the newest may still grow by a scrape that was on its way.

pub mod preflight;
pub mod recorded;

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use meshward_model::{
    Analysis, CohortTraffic, JudgeOptions, Mechanism, MetricsTarget, TickSample, Verdict, Weight, WeightPeriod,
};

use crate::{
    error::Error,
    judge::{self, Judgement, Question, Tick},
    queries::{Arm, Catalog, Queries},
    source::{Answer, MetricsSource, SourceError, clusters::Sources},
    traffic::{self, ArmCounts},
    window::Grid,
};

/// Most ticks that one analysis goes through.
pub const MAX_TICKS: usize = 5000;
/// Most ticks that are returned.
const MAX_SAMPLES: usize = 240;
/// Readings from which latencies and traffic windows are summed.
const MAX_READINGS: usize = 60;

/// What shall be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalysisRequest {
    /// Where it is counted.
    pub target: MetricsTarget,
    /// When the canary got its first traffic.
    pub start: Timestamp,
    /// Up to when, not before `start`.
    pub end: Timestamp,
    /// Length of a tick.
    pub tick: Duration,
    /// Ascending and not empty; the last is the current step.
    pub periods: Vec<WeightPeriod>,
    /// How it is judged.
    pub options: JudgeOptions,
}

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
}

impl Collector {
    /// A collector that asks with the queries of `catalog` and gives a source `timeout` for each answer.
    pub fn new(sources: Sources, catalog: Catalog, timeout: Duration) -> Self {
        Self { sources, catalog: Arc::new(catalog), timeout }
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
        let (counters, buckets) = futures::try_join!(
            source.range(&queries.traffic, &grid, deadline),
            source.range(&queries.latency, &grid, deadline),
        )?;
        let arm = |arm| {
            let counts = ArmCounts::read(&queries, arm, &counters, &grid);
            let mut traffic = counts.total(0..grid.ticks, grid.seconds());
            traffic::add_latencies(&mut traffic, &queries, arm, &buckets, &grid);
            traffic
        };
        let (canary, control) = (arm(Arm::Canary), arm(Arm::Control));
        let observed_share = judge::share(canary.requests, control.requests);
        Ok(TrafficReport { canary, control, observed_share, queries: vec![queries.traffic, queries.latency] })
    }

    /// Judges a canary. A source that fails is the verdict PROVIDER_ERROR.
    ///
    /// # Errors
    /// If the target cannot be asked for, or there are too many ticks.
    pub async fn analyse(&self, request: &AnalysisRequest, now: Timestamp) -> Result<Analysis, Error> {
        if request.target.canary_series.is_empty() && request.target.control_series.is_empty() {
            return Ok(not_measured(request, now));
        }
        let (queries, source) = self.plan(&request.target)?;
        let grid = tick_grid(request)?;
        let step = current_step(&grid, &request.periods);
        let latency_grid = readings(grid.end_ms(), grid.end_ms() - grid.boundary_ms(step.start));
        let deadline = Instant::now() + self.timeout;
        let (counters, buckets) = futures::join!(
            source.range(&queries.traffic, &grid, deadline),
            source.range(&queries.latency, &latency_grid, deadline),
        );
        let counters = match counters {
            Ok(counters) => counters,
            Err(error) => return Ok(provider_error(request, &queries, &error, now)),
        };
        // Latencies are for people: without them the verdict stands.
        let buckets = buckets.unwrap_or_else(|error| {
            tracing::warn!(%error, "no latencies");
            Answer::default()
        });
        Ok(assemble(request, &queries, &Readings { grid, step, counters, buckets, latency_grid }, now))
    }
}

/// What the source said.
struct Readings {
    grid: Grid,
    /// Ticks of the current step.
    step: Range<usize>,
    counters: Answer,
    buckets: Answer,
    latency_grid: Grid,
}

/// At most 60 equal intervals, of a second or more, that end at `end_ms` and cover `length_ms`.
fn readings(end_ms: i64, length_ms: i64) -> Grid {
    let count = (length_ms / 1000).clamp(1, MAX_READINGS as i64);
    let step_ms = (length_ms / count).max(1);
    Grid { start_ms: end_ms - step_ms * count, step_ms, ticks: usize::try_from(count).unwrap_or(1) }
}

fn tick_grid(request: &AnalysisRequest) -> Result<Grid, Error> {
    let (start, end) = (request.start.as_millisecond(), request.end.as_millisecond());
    let grid = Grid::between(start, end, milliseconds(request.tick));
    if grid.ticks > MAX_TICKS {
        let needed = Duration::from_millis((end - start).unsigned_abs() / MAX_TICKS as u64 + 1);
        return Err(Error::TooManyTicks { ticks: grid.ticks, needed });
    }
    Ok(grid)
}

fn current_step(grid: &Grid, periods: &[WeightPeriod]) -> Range<usize> {
    let begin = periods.last().map_or(grid.start_ms, |period| period.start.as_millisecond());
    // The first boundary that is not before the step's first moment, at millisecond resolution.
    let first = (0..grid.ticks).find(|index| grid.boundary_ms(*index) >= begin).unwrap_or(grid.ticks);
    first..grid.ticks
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

/// The rules of the step's boundary are at millisecond resolution on both sides.
fn whole_milliseconds(periods: &[WeightPeriod]) -> Vec<WeightPeriod> {
    periods.iter().map(|period| WeightPeriod { start: moment(period.start.as_millisecond()), ..*period }).collect()
}

fn assemble(request: &AnalysisRequest, queries: &Queries, readings: &Readings, now: Timestamp) -> Analysis {
    let Readings { grid, step, counters, buckets, latency_grid } = readings;
    let canary = ArmCounts::read(queries, Arm::Canary, counters, grid);
    let control = ArmCounts::read(queries, Arm::Control, counters, grid);
    let ticks = ticks(grid, &canary, &control);
    let mut judgement = judge::judge(&Question {
        ticks: &ticks,
        periods: &whole_milliseconds(&request.periods),
        options: request.options,
        weight_is_share: request.target.mechanism != Mechanism::Header,
    });
    if let Some(explanation) = missing(request, queries, readings).filter(|_| may_be_missing(&judgement)) {
        judgement = Judgement { verdict: Verdict::NoData, explanation, ..judgement };
    }
    let total = |counts: &ArmCounts, arm| {
        let seconds = (step.len() as f64) * grid.step_ms as f64 / 1000.0;
        let mut traffic = counts.total(step.clone(), seconds);
        if !step.is_empty() {
            traffic::add_latencies(&mut traffic, queries, arm, buckets, latency_grid);
        }
        traffic
    };
    let (canary, control) = (total(&canary, Arm::Canary), total(&control, Arm::Control));
    Analysis {
        evidence: judgement.evidence(),
        evidence_bound: request.options.alpha.recip(),
        observed_share: judge::share(canary.requests, control.requests),
        samples: ticks.iter().skip(ticks.len().saturating_sub(MAX_SAMPLES)).map(|tick| tick.sample).collect(),
        canary,
        control,
        required_requests: judgement.required_requests,
        ..blank(request, &queries.texts(), judgement.verdict, judgement.explanation, now)
    }
}

fn ticks(grid: &Grid, canary: &ArmCounts, control: &ArmCounts) -> Vec<Tick> {
    let tick = |index: usize| Tick {
        start: moment(grid.boundary_ms(index)),
        sample: TickSample {
            end: moment(grid.boundary_ms(index + 1)),
            canary_requests: canary.requests[index],
            canary_errors: canary.errors[index],
            control_requests: control.requests[index],
            control_errors: control.errors[index],
        },
    };
    (0..grid.ticks).map(tick).collect()
}

/// A regression was seen in data that is there.
fn may_be_missing(judgement: &Judgement) -> bool {
    judgement.verdict != Verdict::Regression
}

/// Which arm has no series in the current step, in a sentence. "Nothing was counted" and "nobody counted" differ.
fn missing(request: &AnalysisRequest, queries: &Queries, readings: &Readings) -> Option<String> {
    let Readings { grid, step, counters, .. } = readings;
    if step.is_empty() {
        return None;
    }
    let needs_control = request.periods.last().is_none_or(|period| period.weight != Weight::FULL);
    let has = |arm| traffic::has_data(queries, arm, counters, grid.boundary_ms(step.start));
    let (canary, control) = (&request.target.canary_series, &request.target.control_series);
    let hosts = request.target.hosts.join(", ");
    match (has(Arm::Canary), has(Arm::Control) || !needs_control) {
        (true, true) => None,
        (false, true) => Some(format!("the source has no series {canary:?} (canary) for {hosts} in this step")),
        (true, false) => Some(format!("the source has no series {control:?} (control) for {hosts} in this step")),
        (false, false) => {
            Some(format!("the source has no series for {hosts} in this step, neither canary nor control"))
        }
    }
}

fn provider_error(request: &AnalysisRequest, queries: &Queries, error: &SourceError, now: Timestamp) -> Analysis {
    blank(request, &queries.texts(), Verdict::ProviderError, error.to_string(), now)
}

/// The plan says that nothing counts the versions apart: that is known before anybody is asked.
fn not_measured(request: &AnalysisRequest, now: Timestamp) -> Analysis {
    blank(request, &[], Verdict::NoData, nothing_counts(request.target.mechanism), now)
}

fn nothing_counts(mechanism: Mechanism) -> String {
    format!("with the mechanism {mechanism:?} nothing counts canary and control apart, so nothing can be judged")
}

/// An analysis without numbers: an evidence of 1 speaks neither way.
fn blank(
    request: &AnalysisRequest,
    queries: &[&str],
    verdict: Verdict,
    explanation: String,
    time: Timestamp,
) -> Analysis {
    Analysis {
        id: String::new(),
        verdict,
        explanation,
        evidence: 1.0,
        evidence_bound: request.options.alpha.recip(),
        canary: CohortTraffic::default(),
        control: CohortTraffic::default(),
        observed_share: None,
        required_requests: 0,
        samples: Vec::new(),
        queries: queries.iter().map(ToString::to_string).collect(),
        time,
    }
}
