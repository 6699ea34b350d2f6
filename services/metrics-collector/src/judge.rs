//! The judge: is the canary worse than the control that runs beside it?
//!
//! Pure code: it takes the counter increases of each tick and answers with a [`Judgement`]. The rules, in their order:
//!
//! 1. **REGRESSION** as soon as, at any tick since the canary got its first weight, the evidence reached 1 / alpha
//!    with at least [`MIN_ERRORS`] canary errors, or the catastrophe guard ([`guard`]) fired. The first tick that
//!    decides is final: the sum of looks is what Ville's inequality covers, so asking more often, or again after a
//!    restart, changes nothing.
//! 2. **WATCHING** while no whole tick of the current step is over, while the step gives everything to the canary
//!    (there is no control then, and a historical window would blame every incident on the change) or nothing, without
//!    control traffic, when the share that was measured is far from the weight that was asked, and when the evidence
//!    is past the square root of its bound: too little to roll back, too much to go on.
//! 3. **NO_TRAFFIC** if the canary had no request in the current step.
//! 4. **NOT_COMPARABLE** if the same groups differed before the change already ([`before`]): a canary that is no
//!    worse than that is not rolled back, and a person says whether it may go on.
//! 5. **HEALTHY** once the current step has the sample that the detectable effect needs ([`sample`]); WATCHING until
//!    then.
//!
//! [`evidence`] accumulates over ticks of all steps, because the share of each tick is part of its own null
//! hypothesis; the other rules look at the current step alone. Ticks at weight 0 before the first step are the time
//! before the change: they are learnt from ([`control`], [`before`]) and are no evidence. Where histograms of
//! latencies come with the ticks, [`latency`] puts them to the same test and has a quarter of the money; what else is
//! counted ([`counts`]) has an eighth. Limits that hold whatever the control does ([`objective`]) are a rule beside it
//! all, with its own bound. NO_DATA and PROVIDER_ERROR are said by the caller, who knows what the source did.
//!
//! [`Judge`] takes one tick after the other; [`judge()`] gives it all of them at once.

pub mod before;
pub mod control;
pub mod counts;
pub mod evidence;
pub mod guard;
pub mod latency;
pub mod objective;
pub mod sample;
mod sentence;
mod state;
pub mod stream;

use jiff::Timestamp;
use meshward_model::{JudgeOptions, TickSample, Verdict, Weight, WeightPeriod};

use counts::Count;
use latency::SlowTick;
pub use state::Judge;

/// Canary errors below which nothing is called a regression, whatever the evidence.
pub const MIN_ERRORS: u64 = 3;
/// Share of slow requests that is allowed where only the latency is promised.
pub const MAX_SLOW_RATE: f64 = 0.01;
/// The largest evidence that is reported; beyond it the number says nothing more, and it must stay finite.
pub const MAX_EVIDENCE: f64 = 1e300;

/// Increases of one tick and when it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// First moment of the tick.
    pub start: Timestamp,
    /// Its end and what was counted.
    pub sample: TickSample,
}

/// What is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// All ticks, ascending: those before the change, and those since the deployment began.
    pub ticks: &'a [Tick],
    /// How many of them are of the time before the change.
    pub before: usize,
    /// Latencies of the ticks; empty, or as many as there are ticks.
    pub slow: &'a [Option<SlowTick>],
    /// What else was counted in the ticks; empty, or as many as there are ticks.
    pub counts: &'a [Vec<Count>],
    /// Weights since then, ascending; the last is the current step.
    pub periods: &'a [WeightPeriod],
    /// How it is judged.
    pub options: JudgeOptions,
    /// The weight is a share of requests (it is not with a cohort chosen by header or namespace, nor with pods, which are few), so it can be
    /// compared with the share measured.
    pub weight_is_share: bool,
}

/// What the judge says.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence with the numbers.
    pub explanation: String,
    /// Natural logarithm of the evidence.
    pub log_evidence: f64,
    /// Canary requests that the current step needs before HEALTHY is said.
    pub required_requests: u64,
}

impl Judgement {
    /// The evidence as an e-value, finite: capped at [`MAX_EVIDENCE`].
    #[must_use]
    pub fn evidence(&self) -> f64 {
        finite(self.log_evidence)
    }
}

/// The sum of ticks, and how many of its errors an equal canary would have had.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    pub canary_requests: u64,
    pub canary_errors: u64,
    pub control_requests: u64,
    pub control_errors: u64,
    pub expected_errors: f64,
}

impl Sum {
    fn add(&mut self, tick: &TickSample) {
        self.canary_requests = self.canary_requests.saturating_add(tick.canary_requests);
        self.canary_errors = self.canary_errors.saturating_add(tick.canary_errors);
        self.control_requests = self.control_requests.saturating_add(tick.control_requests);
        self.control_errors = self.control_errors.saturating_add(tick.control_errors);
        let errors = tick.canary_errors as f64 + tick.control_errors as f64;
        self.expected_errors += errors * share(tick.canary_requests, tick.control_requests).unwrap_or(0.0);
    }

    /// The canary's share of the requests; `None` without any.
    pub(crate) fn share(&self) -> Option<f64> {
        share(self.canary_requests, self.control_requests)
    }
}

/// canary / (canary + control), 0 to 1; `None` without requests.
#[must_use]
pub fn share(canary: u64, control: u64) -> Option<f64> {
    let all = canary as f64 + control as f64;
    (all > 0.0).then(|| canary as f64 / all)
}

/// The period in which a tick begins, as an index; `None` before the first. A tick that straddles a change belongs to
/// the step that it leaves, so the current step holds only traffic of its own weight.
#[must_use]
pub fn period_of(tick_start: Timestamp, periods: &[WeightPeriod]) -> Option<usize> {
    periods.partition_point(|period| period.start <= tick_start).checked_sub(1)
}

/// Judges. See the module for the rules.
///
/// # Panics
/// If `periods` is empty.
#[must_use]
pub fn judge(question: &Question<'_>) -> Judgement {
    trace(question).judgement
}

/// What the judge says, and how it came to that.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What it says.
    pub judgement: Judgement,
    /// The evidence after each tick.
    pub evidence: Vec<f64>,
    /// The latencies at which the arms were compared, milliseconds.
    pub edges_ms: Vec<f64>,
    /// How many times as often as the control a canary may fail that is still called equal.
    pub tolerated_ratio: f64,
}

/// The same, with the way to it.
///
/// # Panics
/// If `periods` is empty.
#[must_use]
pub fn trace(question: &Question<'_>) -> Trace {
    let Question { ticks, before, periods, options, weight_is_share, .. } = *question;
    let current = periods.last().expect("a deployment has a current step");
    let mut judge = Judge::new(options, weight_is_share);
    let mut at = None;
    let mut evidence = Vec::with_capacity(ticks.len());
    if before > 0 {
        judge.begin_step(Weight::ZERO);
    }
    for (index, tick) in ticks.iter().enumerate() {
        if index == before && before > 0 {
            // What comes before the first period was exposed already, and belongs to it.
            judge.begin_step(periods[0].weight);
        }
        let period = period_of(tick.start, periods).filter(|_| index >= before);
        if let Some(index) = period.filter(|_| period != at) {
            judge.begin_step(periods[index].weight);
            at = period;
        }
        let slow = question.slow.get(index).and_then(Option::as_ref);
        judge.observe_all(tick, slow, question.counts.get(index).map_or(&[], Vec::as_slice));
        evidence.push(finite(judge.log_evidence()));
    }
    if at != periods.len().checked_sub(1) {
        judge.begin_step(current.weight);
    }
    let (edges_ms, tolerated_ratio) = (judge.edges_ms(), judge.tolerated_ratio());
    Trace { judgement: judge.judgement(), evidence, edges_ms, tolerated_ratio }
}

/// An e-value from its logarithm, capped at [`MAX_EVIDENCE`].
fn finite(log_evidence: f64) -> f64 {
    log_evidence.min(MAX_EVIDENCE.ln()).exp().min(MAX_EVIDENCE)
}

fn seconds_of(tick: &Tick) -> f64 {
    tick.sample.end.duration_since(tick.start).as_secs_f64()
}

#[cfg(test)]
mod tests;
