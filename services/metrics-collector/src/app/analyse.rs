//! One analysis: asks for counters, latencies and other failures of all ticks, gives them to the judge, and keeps what
//! led to the verdict together.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use meshward_model::{
    Analysis, CohortTraffic, JudgeOptions, Mechanism, MetricsTarget, TickSample, Verdict, Weight, WeightPeriod,
};

use super::{
    Collector, MAX_TICKS,
    explain::{Explanation, Known, TickExplanation},
    milliseconds, moment, nothing_counts, other_failures, readings,
};
use crate::{
    error::Error,
    judge::{self, Question, Tick, Trace, counts::Count, latency::SlowTick},
    queries::{Arm, Queries},
    source::{Answer, MetricsSource, SourceError},
    traffic::{self, ArmCounts, ArmLatencies, Reader},
    window::Grid,
};

/// Most ticks of the time before the change.
const MAX_TICKS_BEFORE: usize = 1000;
/// Most ticks that are returned.
const MAX_SAMPLES: usize = 240;

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
    /// How long before `start` the judge may learn from.
    pub history: Duration,
    /// Whose step it is; may be empty.
    pub deployment_id: String,
    /// Which step, from 0.
    pub step: i32,
}

impl Collector {
    /// Judges a canary. A source that fails is the verdict PROVIDER_ERROR.
    ///
    /// # Errors
    /// If the target cannot be asked for, or there are too many ticks.
    pub async fn analyse(&self, request: &AnalysisRequest, now: Timestamp) -> Result<Explanation, Error> {
        if request.target.canary_series.is_empty() && request.target.control_series.is_empty() {
            let why = nothing_counts(request.target.mechanism);
            return Ok(without_numbers(request, &[], Verdict::NoData, why, now));
        }
        let (queries, source) = self.plan(&request.target)?;
        let by_label = queries.cohort_label.as_ref().map_or(Duration::ZERO, |_| self.discovery_delay);
        let request = &as_counted(request, self.scrape_interval.saturating_add(by_label));
        let times = Times::of(request)?;
        let deadline = Instant::now() + self.timeout;
        let (counters, buckets, failures) = futures::join!(
            source.range(&queries.traffic, &times.grid, deadline),
            source.range(&queries.latency, &times.grid, deadline),
            other_failures(&queries, source.as_ref(), &times.grid, deadline),
        );
        let counters = match counters {
            Ok(counters) => counters,
            Err(error) => {
                let why = error.to_string();
                return Ok(without_numbers(request, &queries.texts(), Verdict::ProviderError, why, now));
            }
        };
        let queries = queries.where_counted(&counters);
        let failures = failures.inspect_err(|error| tracing::warn!(%error, "other failures are not known")).ok();
        let latencies = self.latencies(&queries, source.as_ref(), &times, buckets, deadline).await;
        Ok(Work { request, queries: &queries, times: &times, counters: &counters, failures }.judge(&latencies, now))
    }

    /// Without latencies of each tick the judge learns nothing from them, and people may still have them in sum.
    async fn latencies(
        &self,
        queries: &Queries,
        source: &dyn MetricsSource,
        times: &Times,
        buckets: Result<Answer, SourceError>,
        deadline: Instant,
    ) -> Latencies {
        let read = |series: &Answer, grid: &Grid, quiet: usize| {
            let reader = Reader { queries, grid, quiet };
            (reader.latencies(Arm::Canary, series), reader.latencies(Arm::Control, series))
        };
        match buckets {
            Ok(series) => Latencies::OfTicks(read(&series, &times.grid, times.before)),
            Err(error @ SourceError::TooLarge { .. }) => {
                tracing::warn!(%error, "latencies are read for people alone");
                let end_ms = times.grid.end_ms();
                let grid = readings(end_ms, end_ms - times.grid.boundary_ms(times.step.start));
                let series = source.range(&queries.latency, &grid, deadline).await.unwrap_or_default();
                Latencies::InSum(read(&series, &grid, 0), grid.ticks)
            }
            Err(error) => {
                tracing::warn!(%error, "no latencies");
                Latencies::InSum(Default::default(), 0)
            }
        }
    }
}

/// The same with each period from when on its own traffic alone is counted: a value that was read before that may be of
/// a scrape in the period before, or of a pod that the source does not know yet by its new label.
fn as_counted(request: &AnalysisRequest, lag: Duration) -> AnalysisRequest {
    let lag = SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX);
    let later = |period: &WeightPeriod| {
        let start = period.start.saturating_add(lag).unwrap_or(Timestamp::MAX);
        WeightPeriod { start, ..*period }
    };
    AnalysisRequest { periods: request.periods.iter().map(later).collect(), ..request.clone() }
}

/// Which ticks there are.
struct Times {
    grid: Grid,
    /// How many ticks come before the change.
    before: usize,
    /// Ticks of the current step.
    step: Range<usize>,
}

impl Times {
    fn of(request: &AnalysisRequest) -> Result<Self, Error> {
        let (start, end) = (request.start.as_millisecond(), request.end.as_millisecond());
        let since = Grid::between(start, end, milliseconds(request.tick));
        if since.ticks > MAX_TICKS {
            let needed = Duration::from_millis((end - start).unsigned_abs() / MAX_TICKS as u64 + 1);
            return Err(Error::TooManyTicks { ticks: since.ticks, needed });
        }
        let whole = milliseconds(request.history) / since.step_ms;
        let before = usize::try_from(whole).unwrap_or(usize::MAX).min(MAX_TICKS_BEFORE);
        let start_ms = start - since.step_ms * i64::try_from(before).unwrap_or(0);
        let grid = Grid { start_ms, ticks: since.ticks + before, ..since };
        let step = current_step(&grid, before, &request.periods);
        Ok(Self { grid, before, step })
    }
}

fn current_step(grid: &Grid, before: usize, periods: &[WeightPeriod]) -> Range<usize> {
    let begin = periods.last().map_or(grid.start_ms, |period| period.start.as_millisecond());
    // The first boundary that is not before the step's first moment, at millisecond resolution.
    let first = (before..grid.ticks).find(|index| grid.boundary_ms(*index) >= begin).unwrap_or(grid.ticks);
    first..grid.ticks
}

/// The rules of the step's boundary are at millisecond resolution on both sides.
fn whole_milliseconds(periods: &[WeightPeriod]) -> Vec<WeightPeriod> {
    periods.iter().map(|period| WeightPeriod { start: moment(period.start.as_millisecond()), ..*period }).collect()
}

/// Latencies of canary and control.
enum Latencies {
    OfTicks((ArmLatencies, ArmLatencies)),
    /// Of the current step, over so many intervals of their own.
    InSum((ArmLatencies, ArmLatencies), usize),
}

impl Latencies {
    fn of_ticks(&self, ticks: &[Tick]) -> Vec<Option<SlowTick>> {
        match self {
            Self::OfTicks((canary, control)) => traffic::slow_ticks(ticks, canary, control),
            Self::InSum(..) => traffic::unknown_latencies(ticks),
        }
    }

    fn add_to(&self, canary: &mut CohortTraffic, control: &mut CohortTraffic, step: &Range<usize>) {
        let (arms, ticks) = match self {
            Self::OfTicks(arms) => (arms, step.clone()),
            Self::InSum(arms, intervals) => (arms, 0..*intervals),
        };
        if !step.is_empty() {
            arms.0.add_to(canary, ticks.clone());
            arms.1.add_to(control, ticks);
        }
    }
}

/// What was asked, and what the source said.
struct Work<'a> {
    request: &'a AnalysisRequest,
    queries: &'a Queries,
    times: &'a Times,
    counters: &'a Answer,
    /// Unknown = the judge takes them for none, so they say nothing.
    failures: Option<Answer>,
}

impl Work<'_> {
    fn judge(&self, latencies: &Latencies, now: Timestamp) -> Explanation {
        let (request, queries, Times { grid, before, step }) = (self.request, self.queries, self.times);
        let reader = Reader { queries, grid, quiet: *before };
        let arm = |arm| {
            let failures = self.failures.as_ref().map_or(&[][..], |series| series.as_slice());
            (reader.counts(arm, self.counters), reader.failures(arm, failures))
        };
        let ((canary, canary_failures), (control, control_failures)) = (arm(Arm::Canary), arm(Arm::Control));
        let ticks = ticks(grid, &canary, &control);
        let slow = latencies.of_ticks(&ticks);
        let counts: Vec<Vec<Count>> = (0..ticks.len())
            .map(|tick| {
                let pairs = canary_failures.iter().zip(&control_failures);
                pairs.map(|(a, b)| Count { kind: a.0, canary: a.1[tick], control: b.1[tick] }).collect()
            })
            .collect();
        let periods = whole_milliseconds(&request.periods);
        let trace = judge::trace(&Question {
            ticks: &ticks,
            before: *before,
            slow: &slow,
            counts: &counts,
            periods: &periods,
            options: request.options,
            weight_is_share: !matches!(
                request.target.mechanism,
                Mechanism::Header | Mechanism::Namespace | Mechanism::Instance
            ),
        });
        let missing = self.missing().filter(|_| trace.judgement.verdict != Verdict::Regression);
        let (verdict, explanation) = match missing {
            // A regression was seen in data that is there.
            Some(explanation) => (Verdict::NoData, explanation),
            None => (trace.judgement.verdict, trace.judgement.explanation.clone()),
        };
        let seconds = step.len() as f64 * grid.step_ms as f64 / 1000.0;
        let (mut canary, mut control) = (canary.total(step.clone(), seconds), control.total(step.clone(), seconds));
        latencies.add_to(&mut canary, &mut control, step);
        if self.failures.is_some() {
            traffic::add_failures(&mut canary, &canary_failures, step.clone());
            traffic::add_failures(&mut control, &control_failures, step.clone());
        }
        let since = &ticks[*before..];
        let analysis = Analysis {
            evidence: trace.judgement.evidence(),
            observed_share: judge::share(canary.requests, control.requests),
            samples: since.iter().skip(since.len().saturating_sub(MAX_SAMPLES)).map(|tick| tick.sample).collect(),
            canary,
            control,
            required_requests: trace.judgement.required_requests,
            ..blank(request, &queries.texts(), verdict, explanation, now)
        };
        let ticks = explained(&ticks, *before, &slow, &periods, &trace);
        let known = Known { tolerated_ratio: trace.tolerated_ratio, edges_ms: trace.edges_ms, ticks };
        Explanation::new(request, analysis, Some(known))
    }

    /// Which arm has no series in the current step, in a sentence. "Nothing was counted" and "nobody counted" differ.
    fn missing(&self) -> Option<String> {
        let (request, Times { grid, step, .. }) = (self.request, self.times);
        if step.is_empty() {
            return None;
        }
        let needs_control = request.periods.last().is_none_or(|period| period.weight != Weight::FULL);
        let has = |arm| traffic::has_data(self.queries, arm, self.counters, grid.boundary_ms(step.start));
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

fn explained(
    ticks: &[Tick],
    before: usize,
    slow: &[Option<SlowTick>],
    periods: &[WeightPeriod],
    trace: &Trace,
) -> Vec<TickExplanation> {
    let tick = |index: usize| {
        let Tick { start, sample } = ticks[index];
        let weight = judge::period_of(start, periods).filter(|_| index >= before).map(|at| periods[at].weight);
        let timed = slow[index].as_ref().filter(|slow| !slow.edges_ms.is_empty());
        let beyond = |edge_ms: &f64| {
            let slow = timed?;
            let at = slow.edges_ms.iter().position(|other| other == edge_ms)?;
            Some((*edge_ms, slow.canary[at], slow.control[at]))
        };
        TickExplanation {
            start,
            sample,
            weight: weight.unwrap_or(Weight::ZERO),
            before_change: index < before,
            evidence: trace.evidence[index],
            timed: timed.map_or((0, 0), |slow| (slow.requests.canary_requests, slow.requests.control_requests)),
            slow: trace.edges_ms.iter().filter_map(beyond).collect(),
        }
    };
    (0..ticks.len()).map(tick).collect()
}

fn without_numbers(
    request: &AnalysisRequest,
    queries: &[&str],
    verdict: Verdict,
    explanation: String,
    now: Timestamp,
) -> Explanation {
    Explanation::new(request, blank(request, queries, verdict, explanation, now), None)
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
