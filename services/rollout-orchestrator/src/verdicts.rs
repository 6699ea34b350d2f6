//! What the judge said of a deployment, kept with everything that led to it.
//!
//! The metrics-collector remembers in memory, each replica its own. Here a verdict outlasts restarts and is the same
//! whichever replica is asked. A verdict tells of *all* ticks since the deployment began, so one that says the same as the
//! one before it in its step takes that one's place, and nothing is lost but the moment at which it was said; a step keeps
//! its changes of mind, at most [`MAX_OF_STEP`]. What is older than the retention goes with the next verdict of anybody.

mod sql;

use async_trait::async_trait;
use jiff::Timestamp;
use meshward_model::{Analysis, Verdict};
use meshward_store::StoreError;

pub use sql::SqlVerdicts;

/// Verdicts of one step that are kept at most, the newest.
pub const MAX_OF_STEP: u32 = 20;

/// What the judge answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The verdict.
    pub analysis: Analysis,
    /// Everything that led to it, as the metrics-collector writes it. It is kept and given out, and not read here.
    pub told: Vec<u8>,
}

/// A verdict that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub analysis_id: String,
    /// Step that it is of, from 0.
    pub step: usize,
    /// What was said.
    pub verdict: Verdict,
    /// When.
    pub time: Timestamp,
    /// The judge's one sentence.
    pub explanation: String,
}

impl Kept {
    /// Of a step.
    #[must_use]
    pub fn of(analysis: &Analysis, step: usize) -> Self {
        Self {
            analysis_id: analysis.id.clone(),
            step,
            verdict: analysis.verdict,
            time: analysis.time,
            explanation: analysis.explanation.clone(),
        }
    }
}

/// Which of a deployment's verdicts is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest.
    Newest,
    /// The newest of a step.
    OfStep(usize),
    /// The one with this id.
    Id(String),
}

/// Where verdicts are kept. Each method is one transaction.
#[async_trait]
pub trait Verdicts: Send + Sync + 'static {
    /// Keeps one, and lets go what it takes the place of and what is too old by its time.
    async fn keep(&self, deployment_id: &str, kept: &Kept, told: &[u8]) -> Result<(), StoreError>;

    /// Those of a deployment, oldest first.
    async fn all(&self, deployment_id: &str) -> Result<Vec<Kept>, StoreError>;

    /// What led to one of them.
    async fn told(&self, deployment_id: &str, analysis_id: &str) -> Result<Option<Vec<u8>>, StoreError>;
}
