//! The judge: is the canary worse than the control that runs beside it?
//!
//! Pure code: it takes the counter increases of each tick and answers with a [`Judgement`]. The rules, in their order:
//!
//! 1. **REGRESSION** as soon as, at any tick since the deployment began, the evidence reached 1 / alpha with at least
//!    [`MIN_ERRORS`] canary errors, or the catastrophe guard ([`guard`]) fired. The first tick that decides is final:
//!    the sum of looks is what Ville's inequality covers, so asking more often, or again after a restart, changes
//!    nothing.
//! 2. **WATCHING** while no whole tick of the current step is over, while the step gives everything to the canary
//!    (there is no control then, and a historical window would blame every incident on the change), without control
//!    traffic, when the share that was measured is far from the weight that was asked, and when the evidence is past
//!    the square root of its bound: too little to roll back, too much to go on.
//! 3. **NO_TRAFFIC** if the canary had no request in the current step.
//! 4. **HEALTHY** once the current step has the sample that the detectable effect needs ([`sample`]); WATCHING until
//!    then.
//!
//! [`evidence`] accumulates over ticks of all steps, because the share of each tick is part of its own null
//! hypothesis; the other rules look at the current step alone. NOT_COMPARABLE is not produced yet: it needs a
//! comparison of the same groups before the change. NO_DATA and PROVIDER_ERROR are said by the caller, who knows what
//! the source did.

pub mod control;
pub mod evidence;
pub mod guard;
pub mod sample;
mod sentence;

use jiff::Timestamp;
use meshward_model::{JudgeOptions, TickSample, Verdict, Weight, WeightPeriod};

use control::Control;
use evidence::{Evidence, Tolerated};

/// Canary errors below which nothing is called a regression, whatever the evidence.
pub const MIN_ERRORS: u64 = 3;
/// The largest evidence that is reported; beyond it the number says nothing more, and it must stay finite.
pub const MAX_EVIDENCE: f64 = 1e300;
/// Standard errors and percentage points by which the measured share must miss the weight before the step is held.
const SHARE_SIGMAS: f64 = 4.0;
const SHARE_POINTS: f64 = 0.03;

/// Increases of one tick and when it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// First moment of the tick.
    pub start: Timestamp,
    /// Its end and what was counted.
    pub sample: TickSample,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// All ticks since the deployment began, ascending.
    pub ticks: &'a [Tick],
    /// Weights since then, ascending; the last is the current step.
    pub periods: &'a [WeightPeriod],
    /// How it is judged.
    pub options: JudgeOptions,
    /// The weight is a share of requests (it is not with a cohort chosen by header or namespace), so it can be
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
        self.log_evidence.min(MAX_EVIDENCE.ln()).exp().min(MAX_EVIDENCE)
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
    let Question { ticks, periods, options, .. } = *question;
    let weight = periods.last().expect("a deployment has a current step").weight;
    let state = weigh(question);
    let step = sum_of_step(ticks, periods);
    let seconds = ticks.iter().filter(|tick| in_current_step(tick, periods)).map(seconds_of).sum();
    let share = match step.share() {
        Some(share) if step.canary_requests >= 30 && step.control_requests >= 30 => share,
        _ => weight.fraction(),
    };
    let required = sample::required_requests(share, &state.control, &options);
    let (verdict, explanation) = match state.decided {
        Some(sentence) if weight != Weight::FULL => (Verdict::Regression, sentence),
        _ => judge_step(question, weight, &step, seconds, required, state.log_evidence),
    };
    Judgement { verdict, explanation, log_evidence: state.log_evidence, required_requests: required }
}

struct Weighed {
    log_evidence: f64,
    control: Control,
    /// Why it is a regression, if it is one.
    decided: Option<String>,
}

/// Walks the ticks until one decides.
fn weigh(question: &Question<'_>) -> Weighed {
    let Question { ticks, periods, options, .. } = *question;
    let log_bound = -options.alpha.ln();
    let (mut evidence, mut control, mut seen) = (Evidence::new(), Control::default(), Sum::default());
    let begin = ticks.first().map_or(Timestamp::UNIX_EPOCH, |tick| tick.start);
    for (index, tick) in ticks.iter().enumerate() {
        if !has_control(tick, periods) {
            continue;
        }
        let minutes = tick.start.duration_since(begin).as_secs_f64() / 60.0;
        let burst_ratio = control.is_bursty().then(|| control.tolerated_ratio(options.tolerance));
        evidence.observe(&tick.sample, minutes, Tolerated::excess(options.tolerance), burst_ratio);
        control.push(tick.sample.control_requests, tick.sample.control_errors);
        seen.add(&tick.sample);
        let log_evidence = evidence.log_value();
        let decided = if log_evidence >= log_bound && seen.canary_errors >= MIN_ERRORS {
            Some(sentence::regression(&seen, log_evidence, &options))
        } else {
            guard::catastrophe(ticks[..=index].iter().rev().take_while(|tick| has_control(tick, periods)))
                .map(|window| sentence::catastrophe(&window))
        };
        if decided.is_some() {
            return Weighed { log_evidence, control, decided };
        }
    }
    Weighed { log_evidence: evidence.log_value(), control, decided: None }
}

/// Whether the tick's weight leaves anything to a control. Stragglers of the old weight are no control.
fn has_control(tick: &Tick, periods: &[WeightPeriod]) -> bool {
    period_of(tick.start, periods).is_none_or(|index| periods[index].weight != Weight::FULL)
}

fn in_current_step(tick: &Tick, periods: &[WeightPeriod]) -> bool {
    period_of(tick.start, periods) == periods.len().checked_sub(1)
}

fn sum_of_step(ticks: &[Tick], periods: &[WeightPeriod]) -> Sum {
    let mut sum = Sum::default();
    ticks.iter().filter(|tick| in_current_step(tick, periods)).for_each(|tick| sum.add(&tick.sample));
    sum
}

fn seconds_of(tick: &Tick) -> f64 {
    tick.sample.end.duration_since(tick.start).as_secs_f64()
}

/// The rules that look at the current step alone.
fn judge_step(
    question: &Question<'_>,
    weight: Weight,
    step: &Sum,
    seconds: f64,
    required: u64,
    log_evidence: f64,
) -> (Verdict, String) {
    let options = &question.options;
    if seconds <= 0.0 {
        return (Verdict::Watching, sentence::no_tick_yet());
    }
    if step.canary_requests == 0 {
        return (Verdict::NoTraffic, sentence::no_traffic(step, weight));
    }
    if weight == Weight::FULL {
        return (Verdict::Watching, sentence::no_control_by_plan(step));
    }
    if step.control_requests == 0 {
        return (Verdict::Watching, sentence::no_control(step));
    }
    if question.weight_is_share && share_is_off(step, weight) {
        return (Verdict::Watching, sentence::share_is_off(step, weight));
    }
    if log_evidence >= -options.alpha.ln() / 2.0 {
        return (Verdict::Watching, sentence::suspicious(step, log_evidence, options));
    }
    if step.canary_requests < required {
        return (Verdict::Watching, sentence::sample_too_small(step, seconds, required, options));
    }
    (Verdict::Healthy, sentence::healthy(step, log_evidence, required, options))
}

/// The measured share is far from the weight, beyond chance and by an amount that matters.
fn share_is_off(step: &Sum, weight: Weight) -> bool {
    let Some(share) = step.share() else { return false };
    let asked = weight.fraction();
    let requests = step.canary_requests as f64 + step.control_requests as f64;
    let sigma = (asked * (1.0 - asked) / requests).sqrt();
    let miss = (share - asked).abs();
    miss > SHARE_POINTS && miss > SHARE_SIGMAS * sigma
}

#[cfg(test)]
mod tests;
