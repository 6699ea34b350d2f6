//! What the orchestrator needs of the other four services.
//!
//! Three of these ports are asked in the background and answer "unknown" rather than fail; a request that a person waits for gets the
//! peer's own refusal.

pub mod grpc;

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use meshward_model::{
    AppliedObject, Baseline, Digest, ExposureIntent, ExposurePlan, Finding, JudgeOptions, MetricsTarget,
    PropagationProof, Target, Weight, WeightPeriod,
};
use serde_json::Value;

use crate::{decide::WriteOutcome, strategy::Strategy, verdicts::Judged};

/// Changes by others, as they happen; the stream ends when its time is over, or with the reason.
pub type Drifts = BoxStream<'static, Result<Drift, PeerError>>;

/// Somebody else's change to an object while a deployment has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Which object.
    pub target: Target,
    /// Field manager that changed it.
    pub manager: String,
}

/// A peer gave no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It did not answer, or not in time, or has a defect. The same call may work later.
    #[error("{peer} does not answer: {message}")]
    Unavailable {
        /// Which service.
        peer: &'static str,
        /// Its words, or the transport's.
        message: String,
    },
    /// It understood and said no. The status is for the caller, details and all.
    #[error("{peer}: {}", .status.message())]
    Refused {
        /// Which service.
        peer: &'static str,
        /// What it said.
        status: Box<tonic::Status>,
    },
}

/// A version as the registry has it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyVersion {
    /// Policy.
    pub policy_id: String,
    /// Number.
    pub version: i64,
    /// Digest that was approved.
    pub digest: Digest,
    /// Object that it governs.
    pub target: Target,
    /// The object as it was sent; empty if it shall be gone.
    pub yaml: String,
    /// The object; null = the version is that it is gone.
    pub object: Value,
    /// Why it may not be deployed; empty = it may.
    pub obstacles: Vec<String>,
}

/// What became of a deployment, as the registry is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The version is live for all.
    Promoted,
    /// It was bad.
    RolledBack,
    /// A person ended it.
    Aborted,
}

/// What the validator says of a version at the moment of deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Every finding.
    pub findings: Vec<Finding>,
}

/// The policy-registry.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Reads a version (0 = the newest).
    async fn version(&self, policy_id: &str, version: i64) -> Result<PolicyVersion, PeerError>;
    /// Tells what became of a deployment; a repeat changes nothing.
    async fn record(
        &self,
        policy_id: &str,
        version: i64,
        deployment_id: &str,
        outcome: Outcome,
        reason: &str,
    ) -> Result<(), PeerError>;
}

/// The validator.
#[async_trait]
pub trait Validator: Send + Sync + 'static {
    /// Rules and a dry run on the cluster.
    async fn dry_run(&self, yaml: &str, cluster: &str) -> Result<Checked, PeerError>;
}

/// The mesh-gateway.
#[async_trait]
pub trait Mesh: Send + Sync + 'static {
    /// How the strategy would expose the canary, and what stands there now.
    async fn plan(
        &self,
        target: &Target,
        canary: &Value,
        strategy: &Strategy,
    ) -> Result<(ExposurePlan, Baseline), PeerError>;
    /// Makes the mesh look like the intent, up to a phase (from 0) whose predecessors were proven live. An answer that
    /// is a refusal is an outcome, not an error.
    async fn apply(&self, intent: &ExposureIntent, phase: u32) -> Result<WriteOutcome, PeerError>;
    /// Puts back what stood there before, up to a phase.
    async fn restore(&self, intent: &ExposureIntent, phase: u32) -> Result<WriteOutcome, PeerError>;
    /// How far it has come.
    async fn verify(
        &self,
        intent: &ExposureIntent,
        objects: &[AppliedObject],
        patience: Patience,
    ) -> Result<PropagationProof, PeerError>;
    /// Follows what others do to these objects while a deployment has them: what was done before and still stands, then what comes.
    async fn watch_drift(&self, objects: &[Target]) -> Result<Drifts, PeerError>;
}

/// How long a proof is waited for, and how much of one is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Zero = say how it stands now.
    pub wait: Duration,
    /// Share of the concerned proxies whose acknowledgement is enough.
    pub quorum: Weight,
}

/// The metrics-collector.
#[async_trait]
pub trait Judge: Send + Sync + 'static {
    /// Judges the canary from `start` to now.
    async fn analyze(&self, question: &Question) -> Result<Judged, PeerError>;
    /// Queries of a target that give no data now, each with the reason.
    async fn preflight(&self, target: &MetricsTarget) -> Result<Vec<String>, PeerError>;
}

/// What the judge is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Whose traffic.
    pub target: MetricsTarget,
    /// When the canary got its first traffic.
    pub start: Timestamp,
    /// Length of a tick.
    pub tick: Duration,
    /// The weights since then.
    pub periods: Vec<WeightPeriod>,
    /// How to weigh.
    pub options: JudgeOptions,
    /// How long before `start` nobody had changed anything.
    pub history: Duration,
    /// Whose step it is.
    pub deployment_id: String,
    /// Which step, from 0.
    pub step: usize,
}
