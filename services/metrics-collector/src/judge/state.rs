//! What is remembered from tick to tick, and the rules in their order.

use std::collections::VecDeque;

use jiff::Timestamp;
use meshward_model::{JudgeOptions, Verdict, Weight};

use super::{
    Judgement, MIN_ERRORS, Sum, Tick,
    before::{self, Likely},
    counts::{Count, Counts, Kind},
    guard::{self, Window},
    latency::{Latencies, SlowTick},
    objective::Objective,
    sample::{self, UNREACHABLE},
    seconds_of, sentence,
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
    counts: Counts,
    /// Limits on errors and on slow requests.
    error_limit: Option<Objective>,
    slow_limit: Option<Objective>,
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
    /// Latencies, other counts or an objective, in a sentence.
    Other(String),
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
            counts: Counts::new(options),
            error_limit: options.objectives.max_error_rate.map(Objective::new),
            slow_limit: options
                .objectives
                .latency_ms
                .map(|_| Objective::new(options.objectives.max_slow_rate.unwrap_or(super::MAX_SLOW_RATE))),
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
        self.error_limit.iter_mut().chain(&mut self.slow_limit).for_each(Objective::reset);
    }

    /// Takes the next tick, with its latencies if they were measured.
    pub fn observe(&mut self, tick: &Tick, slow: Option<&SlowTick>) {
        self.observe_all(tick, slow, &[]);
    }

    /// Takes the next tick, with its latencies and whatever else was counted. Each kind is counted in all ticks or in none.
    pub fn observe_all(&mut self, tick: &Tick, slow: Option<&SlowTick>, counts: &[Count]) {
        self.step.add(&tick.sample);
        self.step_seconds += seconds_of(tick);
        if self.decided.is_some() {
            return;
        }
        match self.weight {
            // No control by plan: stragglers of the old weight are none.
            Some(Weight::FULL) => self.recent.clear(),
            Some(Weight::ZERO) => self.learn(tick, slow, counts),
            _ => self.weigh(tick, slow, counts),
        }
    }

    fn learn(&mut self, tick: &Tick, slow: Option<&SlowTick>, counts: &[Count]) {
        if self.begin.is_none() {
            let begin = *self.rehearsal_begin.get_or_insert(tick.start);
            self.rehearsal.weigh(&tick.sample, minutes_between(begin, tick.start));
        }
        self.errors.learn(&tick.sample, self.rehearsal.log_value());
        if let Some(slow) = slow {
            self.latencies.learn(slow);
        }
        let counts = self.judged(counts);
        self.counts.learn(&tick.sample, counts);
    }

    fn weigh(&mut self, tick: &Tick, slow: Option<&SlowTick>, counts: &[Count]) {
        let minutes = minutes_between(*self.begin.get_or_insert(tick.start), tick.start);
        self.hold_to_objectives(tick, slow);
        self.errors.weigh(&tick.sample, minutes);
        self.latencies.weigh(slow, minutes);
        let counts = self.judged(counts);
        self.counts.weigh(&tick.sample, counts, minutes);
        self.seen.add(&tick.sample);
        self.remember(tick, counts);
        self.decided = self.decide();
    }

    /// Denials that are meant are no matter of the judge.
    fn judged<'a>(&self, counts: &'a [Count]) -> &'a [Count] {
        let end =
            counts.iter().position(|count| count.kind == Kind::Denials && self.options.objectives.denials_are_meant);
        // Kinds are told in their order, denials last.
        &counts[..end.unwrap_or(counts.len())]
    }

    fn hold_to_objectives(&mut self, tick: &Tick, slow: Option<&SlowTick>) {
        let caution = self.errors.control().caution();
        if let Some(limit) = &mut self.error_limit {
            limit.add(&tick.sample, caution);
        }
        let promised = self.options.objectives.latency_ms;
        let slow = promised.zip(slow).and_then(|(latency_ms, slow)| slow.beyond(latency_ms));
        if let (Some(limit), Some(sample)) = (&mut self.slow_limit, slow) {
            limit.add(&sample, caution);
        }
    }

    fn decide(&self) -> Option<Decision> {
        if self.log_decisive() >= -self.options.alpha.ln() {
            let errors = self.log_errors();
            let blamed = self.counts.blame(self.latencies.combined(errors)).or_else(|| self.latencies.blame(errors));
            if let Some(sentence) = blamed {
                return Some(Decision::Other(sentence));
            }
            if self.seen.canary_errors >= MIN_ERRORS {
                return Some(Decision::Errors(self.seen));
            }
        }
        if let Some(sentence) = self.broken_objective() {
            return Some(Decision::Other(sentence));
        }
        guard::catastrophe(self.recent.iter().rev()).map(Decision::Catastrophe)
    }

    fn broken_objective(&self) -> Option<String> {
        let latency_ms = self.options.objectives.latency_ms;
        let limits = [(&self.error_limit, None), (&self.slow_limit, latency_ms)];
        let broken = |(limit, slower_ms): (&Option<Objective>, Option<f64>)| {
            let limit = limit.as_ref().filter(|limit| limit.is_broken(self.options.alpha))?;
            Some(sentence::objective_broken(limit, slower_ms))
        };
        limits.into_iter().find_map(broken)
    }

    /// Keeps what is not too old for the guard, to which a denial is as bad as an error.
    fn remember(&mut self, tick: &Tick, counts: &[Count]) {
        let mut tick = *tick;
        if let Some(denials) = counts.iter().find(|count| count.kind == Kind::Denials) {
            let sample = &mut tick.sample;
            sample.canary_errors = sample.canary_errors.saturating_add(denials.canary).min(sample.canary_requests);
            sample.control_errors = sample.control_errors.saturating_add(denials.control).min(sample.control_requests);
        }
        self.recent.push_back(tick);
        let too_old = |old: &Tick| tick.sample.end.duration_since(old.sample.end).as_secs_f64() > guard::MAX_SECONDS;
        while self.recent.front().is_some_and(too_old) {
            self.recent.pop_front();
        }
    }

    /// Natural logarithm of the evidence.
    #[must_use]
    pub fn log_evidence(&self) -> f64 {
        self.counts.combined(self.latencies.combined(self.errors.log_value()))
    }

    /// The evidence that may decide: errors so few that they are called negligible do not speak against the canary.
    fn log_decisive(&self) -> f64 {
        self.counts.combined(self.latencies.combined(self.log_errors()))
    }

    fn log_errors(&self) -> f64 {
        if self.negligible().is_some() { self.errors.log_value().min(0.0) } else { self.errors.log_value() }
    }

    /// The limit up to which errors are negligible, if they are in this step.
    fn negligible(&self) -> Option<f64> {
        let limit = self.options.objectives.negligible_error_rate?;
        (self.step.canary_errors as f64 <= limit * self.step.canary_requests as f64).then_some(limit)
    }

    /// The latencies at which the arms are compared, milliseconds.
    #[must_use]
    pub fn edges_ms(&self) -> Vec<f64> {
        self.latencies.edges_ms()
    }

    /// How many times as often as the control a canary may fail that is still called equal.
    #[must_use]
    pub fn tolerated_ratio(&self) -> f64 {
        self.errors.tolerated_ratio()
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
        let required = self.required_requests(share);
        let log_evidence = self.log_evidence();
        let (verdict, explanation) = match &self.decided {
            Some(decision) if weight != Weight::FULL => (Verdict::Regression, self.reason(decision, log_evidence)),
            _ => self.judge_step(weight, required, log_evidence),
        };
        Judgement { verdict, explanation, log_evidence, required_requests: required }
    }

    /// The sample with which each null would be refuted: the more likely it is, the more evidence that takes.
    fn required_requests(&self, share: f64) -> u64 {
        let needed = |likely: Likely| {
            let options = JudgeOptions { alpha: self.options.alpha / likely.probability, ..self.options };
            sample::required_requests(share, self.errors.control(), likely.ratio, &options)
        };
        let ratios = self.errors.ratios().into_iter();
        ratios.filter(|likely| likely.probability > self.options.alpha).map(needed).max().unwrap_or(UNREACHABLE)
    }

    fn reason(&self, decision: &Decision, log_evidence: f64) -> String {
        match decision {
            Decision::Errors(seen) => sentence::regression(seen, log_evidence, &self.options),
            Decision::Other(what) => sentence::other(what, log_evidence, &self.options),
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
        if self.log_decisive() >= -options.alpha.ln() / 2.0 {
            return (Verdict::Watching, sentence::suspicious(step, log_evidence, options));
        }
        if differed {
            return (Verdict::NotComparable, sentence::not_comparable(&self.errors));
        }
        if step.canary_requests < required {
            return (Verdict::Watching, sentence::sample_too_small(step, self.step_seconds, required, options));
        }
        if let Some(limit) = self.negligible().filter(|_| log_evidence >= -options.alpha.ln() / 2.0) {
            return (Verdict::Healthy, sentence::negligible(step, limit));
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
