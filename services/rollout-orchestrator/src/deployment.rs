//! A deployment: one attempt to release one version of a policy, with everything that is needed to go on after a crash.
//!
//! [`State`] says where it is; [`Deployment::desired`] says what the mesh must look like there. The worker makes it so at every
//! tick, so a crash anywhere is repaired by the next one.

use std::time::Duration;

use jiff::Timestamp;
use meshward_model::{
    Analysis, AppliedObject, Baseline, Digest, ExposureIntent, ExposurePlan, PropagationProof, Target, Verdict, Weight,
    WeightPeriod,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::strategy::Strategy;

/// The judge learns from this much of the time before the change, at most.
pub const HISTORY: Duration = Duration::from_secs(15 * 60);

/// One attempt to release one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// UUID v7: sorts by time of creation.
    pub id: String,
    /// Policy in the registry.
    pub policy_id: String,
    /// Version of the policy.
    pub version: i64,
    /// Digest of the version: what was approved is what is deployed.
    pub digest: Digest,
    /// Object that the policy governs.
    pub target: Target,
    /// The canary: the version's object; null = the version is that it is gone.
    pub canary: Value,
    /// What stood in the cluster before.
    pub baseline: Baseline,
    /// How it is released.
    pub strategy: Strategy,
    /// How each step is exposed.
    pub plan: ExposurePlan,
    /// Where it is.
    pub state: State,
    /// Fencing number: grows whenever what is desired changes.
    pub generation: u64,
    /// The objects as they stood when the current weight was proven live.
    pub objects: Vec<AppliedObject>,
    /// What became of the steps that were begun.
    pub steps: Vec<StepReport>,
    /// What the judge said last.
    pub analysis: Option<Analysis>,
    /// Why it is where it is, in one sentence.
    pub reason: String,
    /// What keeps it from its end although the decision has fallen; empty = nothing.
    pub obstacle: String,
    /// How a rollback came back: "back on 1/1 proxies after 0.2 s"; empty = there was none, or not yet.
    pub rollback_report: String,
    /// When the deployments before it that had to do with the same hosts were over; the judge may learn from the time since. `None` = it is not
    /// known.
    #[serde(default)]
    pub quiet_since: Option<Timestamp>,
    /// Trace context of the request that created it; every tick continues that trace.
    pub traceparent: Option<String>,
    /// Subject that created it.
    pub creator: String,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it was changed last.
    pub update_time: Timestamp,
    /// Grows with every commit; the store refuses a commit on another one.
    pub revision: i64,
}

/// Where a deployment is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Stored; nothing was written to the cluster.
    Pending,
    /// The weight of a step is being written and proven.
    Exposing {
        /// Index of the step.
        step: usize,
        /// Since when.
        since: Timestamp,
    },
    /// A step is live and judged.
    Baking {
        /// Index of the step.
        step: usize,
        /// Since when it is live.
        since: Timestamp,
        /// What keeps it from going on, if something does.
        hold: Option<Hold>,
    },
    /// A step has passed and waits for a person.
    Waiting {
        /// Index of the step.
        step: usize,
        /// Since when.
        since: Timestamp,
    },
    /// Held at its weight until a person resumes it.
    Paused {
        /// Index of the step.
        step: usize,
        /// Since when.
        since: Timestamp,
    },
    /// The version alone is being written and proven, then reported to the registry.
    Promoting {
        /// Since when.
        since: Timestamp,
        /// Proven live; what is left is to tell the registry.
        proven: bool,
    },
    /// The end: the version is live for all.
    Promoted {
        /// Since when.
        at: Timestamp,
    },
    /// What stood there before is being put back and proven, then reported to the registry.
    RollingBack {
        /// Step from which it was taken back.
        step: usize,
        /// Since when.
        since: Timestamp,
        /// Why.
        cause: Cause,
        /// Proven live; what is left is to tell the registry.
        proven: bool,
    },
    /// The end: everything is as it was before.
    RolledBack {
        /// Step from which it was taken back.
        step: usize,
        /// Since when.
        at: Timestamp,
        /// Why.
        cause: Cause,
    },
}

/// Why a step does not go on although its time is over, or before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What is missing.
    pub kind: HoldKind,
    /// Since when.
    pub since: Timestamp,
}

/// What a step is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// The judge has too few requests, or the observed share is off.
    Evidence,
    /// The judge has no data: no traffic, no series, or the source does not answer.
    Data,
}

/// Why a version is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The judge's verdict.
    Regression,
    /// A proxy or the API server refused it.
    Refused,
    /// No data for too long, and the strategy says to roll back then.
    NoData,
    /// A person said that the version is bad.
    Rollback,
    /// A person ended the deployment; the version is not to blame.
    Abort,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// What was asked.
    pub weight: Weight,
    /// When its write began.
    pub start: Timestamp,
    /// When it was proven live.
    pub live: Option<Timestamp>,
    /// From the write to the proof.
    pub time_to_live: Option<Duration>,
    /// Share that the metrics showed.
    pub observed_share: Option<f64>,
    /// Last verdict at this step.
    pub verdict: Option<Verdict>,
    /// The judge's sentence.
    pub explanation: String,
    /// Canary requests of the step.
    pub canary_requests: u64,
    /// Control requests of the step.
    pub control_requests: u64,
    /// Who has the weight, as it was seen last; `None` = nobody was asked yet.
    #[serde(default)]
    pub propagation: Option<Propagation>,
}

/// On which proxies a write is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagation {
    /// Proxies that the write concerns.
    pub concerned: u32,
    /// Of those, how many acknowledged it.
    pub acknowledged: u32,
    /// Names of those that did not, at most 20.
    pub laggards: Vec<String>,
}

impl From<&PropagationProof> for Propagation {
    fn from(proof: &PropagationProof) -> Self {
        let PropagationProof { concerned, acknowledged, ref laggards, .. } = *proof;
        Self { concerned, acknowledged, laggards: laggards.clone() }
    }
}

/// What the mesh must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Desired {
    /// Nothing is to be written.
    Untouched,
    /// The canary at a weight.
    Exposed(ExposureIntent),
    /// What stood there before.
    Restored(ExposureIntent),
}

impl Deployment {
    /// What the mesh must look like now. While paused nothing is written: somebody else may be at the object.
    #[must_use]
    pub fn desired(&self) -> Desired {
        match &self.state {
            State::Exposing { step, .. } => Desired::Exposed(self.intent(self.strategy.steps[*step].weight)),
            State::Promoting { proven: false, .. } => Desired::Exposed(self.intent(Weight::FULL)),
            State::RollingBack { proven: false, .. } => Desired::Restored(self.intent(Weight::ZERO)),
            _ => Desired::Untouched,
        }
    }

    /// The intent at a weight, with the current generation.
    #[must_use]
    pub fn intent(&self, weight: Weight) -> ExposureIntent {
        ExposureIntent {
            deployment_id: self.id.clone(),
            generation: self.generation,
            target: self.target.clone(),
            baseline: self.baseline.clone(),
            canary: self.canary.clone(),
            mechanism: self.plan.mechanism,
            weight,
        }
    }

    /// Index of the step that it is at or was last at.
    #[must_use]
    pub fn step(&self) -> usize {
        match &self.state {
            State::Pending => 0,
            State::Exposing { step, .. }
            | State::Baking { step, .. }
            | State::Waiting { step, .. }
            | State::Paused { step, .. }
            | State::RollingBack { step, .. }
            | State::RolledBack { step, .. } => *step,
            State::Promoting { .. } | State::Promoted { .. } => self.strategy.steps.len() - 1,
        }
    }

    /// What is asked of the mesh now.
    #[must_use]
    pub fn weight(&self) -> Weight {
        match &self.state {
            State::Pending | State::RollingBack { .. } | State::RolledBack { .. } => Weight::ZERO,
            State::Promoting { .. } | State::Promoted { .. } => Weight::FULL,
            _ => self.strategy.steps[self.step()].weight,
        }
    }

    /// Changes with every decision, and not with every look: a person who reads and then commands is not overtaken by a tick that only
    /// measured.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("\"{}-{}-{}\"", self.generation, self.step(), self.state.name())
    }

    /// When it came to its end.
    #[must_use]
    pub fn end_time(&self) -> Option<Timestamp> {
        match self.state {
            State::Promoted { at } | State::RolledBack { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Whether the traffic of two deployments is counted in the same series, at least in part.
    #[must_use]
    pub fn shares_traffic(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.plan.metrics_target, &other.plan.metrics_target);
        let same_hosts = ours.cluster == theirs.cluster && ours.hosts.iter().any(|host| theirs.hosts.contains(host));
        same_hosts || self.policy_id == other.policy_id
    }

    /// How long before its start nobody had changed anything, at most [`HISTORY`].
    #[must_use]
    pub fn history(&self, start: Timestamp) -> Duration {
        let quiet = self.quiet_since.map(|since| start.duration_since(since));
        quiet.and_then(|quiet| Duration::try_from(quiet).ok()).unwrap_or_default().min(HISTORY)
    }

    /// It has come to one of its two ends.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Promoted { .. } | State::RolledBack { .. })
    }

    /// The weights so far, as the judge needs them: each since it was proven live, the current one at least since its write began.
    #[must_use]
    pub fn periods(&self) -> Vec<WeightPeriod> {
        let period = |step: &StepReport| WeightPeriod { start: step.live.unwrap_or(step.start), weight: step.weight };
        self.steps.iter().map(period).collect()
    }
}

/// One entry of a deployment's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps within the deployment; the store sets it.
    pub sequence: i64,
    /// When.
    pub time: Timestamp,
    /// What, e.g. "step.live".
    pub kind: String,
    /// One sentence for people.
    pub message: String,
    /// Name of the state after it.
    pub state: String,
    /// Step after it.
    pub step: usize,
    /// Weight after it.
    pub weight: Weight,
    /// Who: a subject, or "meshward" for the orchestrator itself.
    pub actor: String,
}

impl State {
    /// The same state, begun now at the latest: after the clock went back it would otherwise last that much longer.
    #[must_use]
    pub fn begun_by(mut self, now: Timestamp) -> Self {
        match &mut self {
            Self::Exposing { since, .. }
            | Self::Waiting { since, .. }
            | Self::Paused { since, .. }
            | Self::Promoting { since, .. }
            | Self::RollingBack { since, .. } => *since = now.min(*since),
            Self::Baking { since, hold, .. } => {
                *since = now.min(*since);
                if let Some(hold) = hold {
                    hold.since = now.min(hold.since);
                }
            }
            Self::Pending | Self::Promoted { .. } | Self::RolledBack { .. } => {}
        }
        self
    }

    /// Name as on the wire, without the prefix.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Exposing { .. } => "EXPOSING",
            Self::Baking { .. } => "BAKING",
            Self::Waiting { .. } => "WAITING",
            Self::Paused { .. } => "PAUSED",
            Self::Promoting { .. } => "PROMOTING",
            Self::Promoted { .. } => "PROMOTED",
            Self::RollingBack { .. } => "ROLLING_BACK",
            Self::RolledBack { .. } => "ROLLED_BACK",
        }
    }
}
