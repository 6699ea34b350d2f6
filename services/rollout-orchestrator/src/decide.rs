//! The decisions of a deployment, pure and total: what was seen at one moment leads to one next state.
//!
//! Nothing here waits, asks or writes. The worker observes, calls [`decide`], commits the answer, and at the next tick makes the mesh look
//! like [`Deployment::desired`]. A person's command goes through [`command`] in the same way.
//!
//! `Unknown` in an observation holds the deployment where it is. It is never an error, and never a pass.

mod baking;
mod commands;
mod ending;
mod exposing;

use std::time::Duration;

use jiff::Timestamp;
use meshward_model::{Analysis, AppliedObject, PropagationProof};

pub use commands::{Command, Illegal, command};

use crate::deployment::{Cause, Deployment, Event, State, StepReport};

/// What was seen at one tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// When the write began; `None` = nothing was to be written.
    pub write_began: Option<Timestamp>,
    /// What came of making the mesh look as desired.
    pub write: Seen<WriteOutcome>,
    /// How far it has come.
    pub proof: Seen<PropagationProof>,
    /// What the judge says.
    pub analysis: Seen<Analysis>,
    /// Whether the registry took the outcome.
    pub recorded: Seen<Recorded>,
}

/// A value that may not be known.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Seen<T> {
    /// It was not asked for.
    #[default]
    NotAsked,
    /// Here it is.
    Known(T),
    /// It was asked for, and there was no answer; the sentence says why.
    Unknown(String),
}

/// What the registry said of an outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// It has it.
    Taken,
    /// It will not have it, now or later: the version was rejected meanwhile, say.
    Refused(String),
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteOutcome {
    /// The object is as desired.
    Done {
        /// Writes that were needed.
        writes: u32,
        /// The objects as they stand now.
        objects: Vec<AppliedObject>,
        /// Something is left to write once these objects are live.
        more: bool,
    },
    /// Somebody else changed the object; the sentence names who.
    Drifted(String),
    /// It cannot be written, and the version is not to blame: a later writer was there before, or rights are missing.
    Blocked(String),
    /// The API server's admission will not have the version.
    Refused(String),
}

/// The next state, what is to be told, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The deployment as it is from now on.
    pub next: Deployment,
    /// Events, in order.
    pub events: Vec<Event>,
    /// When to look again; `None` = it has ended.
    pub wake_at: Option<Timestamp>,
}

/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What follows from an observation.
#[must_use]
pub fn decide(deployment: &Deployment, seen: &Observation, now: Timestamp) -> Decision {
    let mut draft = Draft::new(deployment, now);
    draft.take_propagation(seen);
    match draft.next.state.clone() {
        State::Pending => draft.expose(0, "the first step begins"),
        State::Exposing { step, since } => exposing::decide(&mut draft, seen, step, since),
        State::Baking { step, since, hold } => baking::decide(&mut draft, seen, step, since, hold),
        State::Waiting { step, .. } | State::Paused { step, .. } => baking::watch(&mut draft, seen, step),
        State::Promoting { since, proven: false } => exposing::promote(&mut draft, seen, since),
        State::Promoting { proven: true, .. } => ending::promoted(&mut draft, seen),
        State::RollingBack { step, since, cause, proven: false } => {
            ending::restore(&mut draft, seen, step, since, cause);
        }
        State::RollingBack { step, cause, proven: true, .. } => ending::rolled_back(&mut draft, seen, step, cause),
        State::Promoted { .. } | State::RolledBack { .. } => draft.wake_at = None,
    }
    draft.finish()
}

/// A decision in the making.
struct Draft {
    next: Deployment,
    events: Vec<Event>,
    wake_at: Option<Timestamp>,
    now: Timestamp,
    actor: String,
}

impl Draft {
    fn new(deployment: &Deployment, now: Timestamp) -> Self {
        let wake_at = Some(later(now, deployment.strategy.analysis_interval));
        let next = Deployment { state: deployment.state.clone().begun_by(now), ..deployment.clone() };
        Self { next, events: Vec::new(), wake_at, now, actor: "meshward".into() }
    }

    /// Says what happened, as an event after the state that is set.
    fn tell(&mut self, kind: &str, message: impl Into<String>) {
        let message = message.into();
        self.next.reason.clone_from(&message);
        self.next.obstacle.clear();
        self.events.push(Event {
            sequence: 0,
            time: self.now,
            kind: kind.to_owned(),
            message,
            state: self.next.state.name().to_owned(),
            step: self.next.step(),
            weight: self.next.weight(),
            actor: self.actor.clone(),
        });
    }

    /// Looks again at once: what is desired has changed.
    fn hurry(&mut self) {
        self.wake_at = Some(self.now);
    }

    fn retry(&mut self) {
        self.wake_at = Some(later(self.now, RETRY));
    }

    /// Goes to a step, or to promotion if it is the last one.
    fn expose(&mut self, step: usize, why: &str) {
        let weight = self.next.strategy.steps[step].weight;
        self.next.generation += 1;
        self.next.steps.truncate(step);
        self.next.steps.push(StepReport {
            weight,
            start: self.now,
            live: None,
            time_to_live: None,
            observed_share: None,
            verdict: None,
            explanation: String::new(),
            canary_requests: 0,
            control_requests: 0,
            propagation: None,
        });
        if step + 1 == self.next.strategy.steps.len() {
            self.next.state = State::Promoting { since: self.now, proven: false };
            self.tell("deployment.promoting", format!("the version alone is written: {why}"));
        } else {
            self.next.state = State::Exposing { step, since: self.now };
            self.tell(
                "step.exposing",
                format!("{weight} of the traffic is given to version {}: {why}", self.next.version),
            );
        }
        self.hurry();
    }

    fn pause(&mut self, why: impl Into<String>) {
        self.next.state = State::Paused { step: self.next.step(), since: self.now };
        self.tell("deployment.paused", why);
    }

    fn roll_back(&mut self, cause: Cause, why: impl Into<String>) {
        self.next.state = State::RollingBack { step: self.next.step(), since: self.now, cause, proven: false };
        self.next.generation += 1;
        self.tell("deployment.rolling_back", why);
        self.hurry();
    }

    /// Takes over what the judge said into the deployment and its current step.
    fn take(&mut self, analysis: &Analysis, step: usize) {
        if let Some(report) = self.next.steps.get_mut(step) {
            report.observed_share = analysis.observed_share;
            report.verdict = Some(analysis.verdict);
            report.explanation.clone_from(&analysis.explanation);
            report.canary_requests = analysis.canary.requests;
            report.control_requests = analysis.control.requests;
        }
        self.next.analysis = Some(analysis.clone());
    }

    /// Takes over who has the current weight. A proof of the way back, or that counted nobody, says nothing of it.
    fn take_propagation(&mut self, seen: &Observation) {
        let Seen::Known(proof) = &seen.proof else { return };
        let step = self.next.step();
        if let Some(report) = self.next.steps.get_mut(step)
            && !matches!(self.next.state, State::RollingBack { .. })
            && (proof.concerned > 0 || !proof.laggards.is_empty())
        {
            report.propagation = Some(proof.into());
        }
    }

    fn finish(mut self) -> Decision {
        self.next.update_time = self.now;
        Decision { next: self.next, events: self.events, wake_at: self.wake_at }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// Time from one moment to another; zero if the clock went back.
fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
