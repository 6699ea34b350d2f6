//! What is remembered from tick to tick, and the rules in their order.

use std::collections::VecDeque;

use jiff::Timestamp;
use meshward_model::{JudgeOptions, Verdict, Weight};

use super::{
    Judgement, MIN_ERRORS, Sum, Tick, before,
    guard::{self, Window},
    latency::{Latencies, SlowTick},
    sample, seconds_of, sentence,
    stream::Stream,
};

/// Standard errors and percentage points by which the measured share must miss the weight before the step is held.
const SHARE_SIGMAS: f64 = 4.0;
const SHARE_POINTS: f64 = 0.03;

/// A judge at work. Feed it a step's weight, then the step's ticks, ascending; ask whenever you like.
#[derive(Clone, Debug)]
pub struct Judge {
    options: JudgeOptions,
    weight_is_share: bool,
    /// `None` before the first step: such ticks are judged, whatever their weight was.
    weight: Option<Weight>,
    step: Sum,
    step_seconds: f64,
    errors: Stream,
    /// The same groups before the change, put to the test.
    rehearsal: Stream,
    latencies: Latencies,
    seen: Sum,
    /// When the canary got its first weight.
    begin: Option<Timestamp>,
    /// When the time before the change began.
    rehearsal_begin: Option<Timestamp>,
    /// What the guard may look at.
    recent: VecDeque<Tick>,
    decided: Option<Decision>,
}

/// Why it is a regression. Final.
#[derive(Clone, Debug)]
enum Decision {
    Errors(Sum),
    Slow(String),
    Catastrophe(Window),
}

impl Judge {
    /// A judge that has seen nothing. See [`Question`](super::Question) for `weight_is_share`.
    #[must_use]
    pub fn new(options: JudgeOptions, weight_is_share: bool) -> Self {
        Self {
            options,
            weight_is_share,
            weight: None,
            step: Sum::default(),
            step_seconds: 0.0,
            errors: Stream::new(options),
            rehearsal: before::stream(&options),
            latencies: Latencies::new(options),
            seen: Sum::default(),
            begin: None,
            rehearsal_begin: None,
            recent: VecDeque::new(),
            decided: None,
        }
    }

    /// The ticks from here on have this weight.
    pub fn begin_step(&mut self, weight: Weight) {
        self.weight = Some(weight);
        self.step = Sum::default();
        self.step_seconds = 0.0;
    }

    /// Takes the next tick, with its latencies if they were measured.
    pub fn observe(&mut self, tick: &Tick, slow: Option<&SlowTick>) {
        self.step.add(&tick.sample);
        self.step_seconds += seconds_of(tick);
        if self.decided.is_some() {
            return;
        }
        match self.weight {
            // No control by plan: stragglers of the old weight are none.
            Some(Weight::FULL) => self.recent.clear(),
            Some(Weight::ZERO) => self.learn(tick, slow),
            _ => self.weigh(tick, slow),
        }
    }

    fn learn(&mut self, tick: &Tick, slow: Option<&SlowTick>) {
        if self.begin.is_none() {
            let begin = *self.rehearsal_begin.get_or_insert(tick.start);
            self.rehearsal.weigh(&tick.sample, minutes_between(begin, tick.start));
        }
        self.errors.learn(&tick.sample, self.rehearsal.log_value());
        if let Some(slow) = slow {
            self.latencies.learn(slow);
        }
    }

    fn weigh(&mut self, tick: &Tick, slow: Option<&SlowTick>) {
        let minutes = minutes_between(*self.begin.get_or_insert(tick.start), tick.start);
        self.errors.weigh(&tick.sample, minutes);
        self.latencies.weigh(slow, minutes);
        self.seen.add(&tick.sample);
        self.remember(tick);
        self.decided = self.decide();
    }

    fn decide(&self) -> Option<Decision> {
        if self.log_evidence() >= -self.options.alpha.ln() {
            if let Some(sentence) = self.latencies.blame(self.errors.log_value()) {
                return Some(Decision::Slow(sentence));
            }
            if self.seen.canary_errors >= MIN_ERRORS {
                return Some(Decision::Errors(self.seen));
            }
        }
        guard::catastrophe(self.recent.iter().rev()).map(Decision::Catastrophe)
    }

    /// Keeps what is not too old for the guard.
    fn remember(&mut self, tick: &Tick) {
        self.recent.push_back(*tick);
        let too_old = |old: &Tick| tick.sample.end.duration_since(old.sample.end).as_secs_f64() > guard::MAX_SECONDS;
        while self.recent.front().is_some_and(too_old) {
            self.recent.pop_front();
        }
    }

    /// Natural logarithm of the evidence.
    #[must_use]
    pub fn log_evidence(&self) -> f64 {
        self.latencies.combined(self.errors.log_value())
    }

    /// Whether the verdict is REGRESSION.
    #[must_use]
    pub fn is_regression(&self) -> bool {
        self.decided.is_some() && self.weight != Some(Weight::FULL)
    }

    /// What is to be said now.
    #[must_use]
    pub fn judgement(&self) -> Judgement {
        let weight = self.weight.unwrap_or(Weight::ZERO);
        let share = match self.step.share() {
            Some(share) if self.step.canary_requests >= 30 && self.step.control_requests >= 30 => share,
            _ => weight.fraction(),
        };
        let ratio = self.errors.tolerated_ratio();
        let required = sample::required_requests(share, self.errors.control(), ratio, &self.options);
        let log_evidence = self.log_evidence();
        let (verdict, explanation) = match &self.decided {
            Some(decision) if weight != Weight::FULL => (Verdict::Regression, self.reason(decision, log_evidence)),
            _ => self.judge_step(weight, required, log_evidence),
        };
        Judgement { verdict, explanation, log_evidence, required_requests: required }
    }

    fn reason(&self, decision: &Decision, log_evidence: f64) -> String {
        match decision {
            Decision::Errors(seen) => sentence::regression(seen, log_evidence, &self.options),
            Decision::Slow(slow) => sentence::slow(slow, log_evidence, &self.options),
            Decision::Catastrophe(window) => sentence::catastrophe(window),
        }
    }

    /// The rules that look at the current step alone.
    fn judge_step(&self, weight: Weight, required: u64, log_evidence: f64) -> (Verdict, String) {
        let (step, options) = (&self.step, &self.options);
        if self.step_seconds <= 0.0 {
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
        let differed = self.errors.differed();
        if weight == Weight::ZERO && !differed {
            return (Verdict::Watching, sentence::nothing_exposed(step));
        }
        if weight != Weight::ZERO && self.weight_is_share && share_is_off(step, weight) {
            return (Verdict::Watching, sentence::share_is_off(step, weight));
        }
        if log_evidence >= -options.alpha.ln() / 2.0 {
            return (Verdict::Watching, sentence::suspicious(step, log_evidence, options));
        }
        if differed {
            return (Verdict::NotComparable, sentence::not_comparable(&self.errors));
        }
        if step.canary_requests < required {
            return (Verdict::Watching, sentence::sample_too_small(step, self.step_seconds, required, options));
        }
        (Verdict::Healthy, sentence::healthy(step, log_evidence, required, options))
    }
}

fn minutes_between(begin: Timestamp, at: Timestamp) -> f64 {
    at.duration_since(begin).as_secs_f64() / 60.0
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
