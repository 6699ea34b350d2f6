//! What looks at a rollout and says what to do: the judge, and the others of [`super::peers`].

use jiff::Timestamp;
use meshward_model::{JudgeOptions, TickSample, Verdict, Weight};

use super::simulation::{Arm, EDGES_MS, Seen, TICK_S};
use crate::judge::{Judge, Tick, latency::SlowTick};

/// What to do after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Stay at this weight.
    Hold,
    /// The next step may begin, if this one's time is over.
    Advance,
    /// Everything back.
    RollBack,
}

/// Somebody who watches one rollout.
pub trait Rule {
    /// Takes a tick of the time before the change.
    fn learn(&mut self, _index: i64, _seen: &Seen) {}
    /// A step begins.
    fn begin_step(&mut self, _weight: u16) {}
    /// Takes a tick and says what to do. `step_over`: the step has lasted as long as it must.
    fn tick(&mut self, index: i64, seen: &Seen, step_over: bool) -> Say;
}

/// The judge, asked at each tick: it rolls back at REGRESSION, goes on at HEALTHY, holds otherwise.
#[derive(Clone, Debug)]
pub struct Ours {
    judge: Judge,
    /// Counted while Prometheus did not answer; its counters bring it afterwards.
    missed: Option<Missed>,
}

#[derive(Clone, Debug)]
struct Missed {
    since: i64,
    seen: Seen,
}

impl Ours {
    /// With these options.
    #[must_use]
    pub fn new(options: JudgeOptions) -> Self {
        Self { judge: Judge::new(options, true), missed: None }
    }

    /// Feeds the judge, unless nobody answers.
    fn take(&mut self, index: i64, seen: &Seen) {
        let (since, seen) = match self.missed.take() {
            Some(missed) => (missed.since, sum(missed.seen, seen)),
            None => (index, seen.clone()),
        };
        if seen.outage {
            self.missed = Some(Missed { since, seen });
            return;
        }
        let sample = TickSample {
            end: moment(index + 1),
            canary_requests: seen.canary.requests,
            canary_errors: seen.canary.errors,
            control_requests: seen.control.requests,
            control_errors: seen.control.errors,
        };
        let timed = !seen.canary.slow.is_empty() && !seen.control.slow.is_empty();
        let slow = timed.then(|| SlowTick {
            requests: sample,
            edges_ms: EDGES_MS.to_vec(),
            canary: seen.canary.slow,
            control: seen.control.slow,
        });
        self.judge.observe(&Tick { start: moment(since), sample }, slow.as_ref());
    }
}

impl Rule for Ours {
    fn learn(&mut self, index: i64, seen: &Seen) {
        self.take(index, seen);
    }

    fn begin_step(&mut self, weight: u16) {
        self.judge.begin_step(Weight::from_basis_points(weight.into()).unwrap_or(Weight::FULL));
    }

    fn tick(&mut self, index: i64, seen: &Seen, step_over: bool) -> Say {
        self.take(index, seen);
        if self.judge.is_regression() {
            return Say::RollBack;
        }
        let may = step_over && self.missed.is_none() && self.judge.judgement().verdict == Verdict::Healthy;
        if may { Say::Advance } else { Say::Hold }
    }
}

fn sum(missed: Seen, seen: &Seen) -> Seen {
    let arm = |one: Arm, two: &Arm| Arm {
        requests: one.requests + two.requests,
        errors: one.errors + two.errors,
        slow: one.slow.iter().zip(&two.slow).map(|(one, two)| one + two).collect(),
    };
    Seen { canary: arm(missed.canary, &seen.canary), control: arm(missed.control, &seen.control), ..*seen }
}

fn moment(index: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + index * TICK_S as i64).unwrap_or(Timestamp::MAX)
}
