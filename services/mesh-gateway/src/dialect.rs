//! How a mesh is told to give a canary to a part of its traffic: pure functions from two versions and a share to
//! objects.
//!
//! A dialect decides everything about *what* is written and nothing about *how*: it reads no cluster, has no clock and
//! no state, so that the plan that a person approves and the objects that are written later come from one function.

mod capabilities;
mod istio;

use meshward_model::{Baseline, ExposureIntent, ExposurePlan, Mechanism, Mesh, Target, Weight};
use serde_json::Value;

pub use capabilities::{Capability, capabilities, table};
pub use istio::Istio;
pub(crate) use istio::qualified;

/// What a plan is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The object.
    pub target: &'a Target,
    /// What stands there now.
    pub baseline: &'a Baseline,
    /// The canary version.
    pub canary: &'a Value,
    /// The weights of the steps, rising.
    pub weights: &'a [Weight],
    /// The mechanism that was asked for; `None` = the best one.
    pub wanted: Option<Mechanism>,
    /// The other objects of the kind in the whole cluster, if [`Dialect::needs_neighbours`] said so.
    pub neighbours: &'a [Value],
}

/// Why a change cannot be exposed exactly, and what would work instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {would_work}")]
pub struct Unsupported {
    /// One sentence without the full stop.
    pub reason: String,
    /// One sentence without the full stop: what to do instead.
    pub would_work: String,
}

impl Unsupported {
    /// Both halves.
    pub fn new(reason: impl Into<String>, would_work: impl Into<String>) -> Self {
        Self { reason: reason.into(), would_work: would_work.into() }
    }
}

/// An object as a step wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Which.
    pub target: Target,
    /// `apiVersion`, `kind`, `spec` and of `metadata` the name, the namespace and, at the end of a deployment, the
    /// labels and annotations that the approved version brings.
    pub object: Value,
    /// The deployment ends here: the object is the approved version and carries no mark of Meshward's.
    pub is_final: bool,
}

/// A mesh's way to expose its kinds.
pub trait Dialect: Send + Sync {
    /// The kinds, each with the mechanisms that [`Dialect::plan`] knows for it.
    fn capabilities(&self) -> Vec<Capability>;

    /// Whether a plan for this object needs the other objects of its kind.
    fn needs_neighbours(&self, question: &Question<'_>) -> bool;

    /// The plan.
    ///
    /// # Errors
    /// If no mechanism, or not the one that was asked for, can expose the change exactly.
    fn plan(&self, question: &Question<'_>) -> Result<ExposurePlan, Unsupported>;

    /// The objects of one step, in the order of writing.
    ///
    /// # Errors
    /// If the mechanism cannot do it; never for what [`Dialect::plan`] returned.
    fn render(&self, intent: &ExposureIntent) -> Result<Vec<Desired>, Unsupported>;
}

/// The dialect of a mesh.
///
/// # Errors
/// If there is none yet.
pub fn of(mesh: Mesh) -> Result<&'static dyn Dialect, Unsupported> {
    match mesh {
        Mesh::Istio => Ok(&Istio),
        Mesh::Linkerd => Err(Unsupported::new(
            "objects of Linkerd cannot be exposed yet",
            "objects of Istio can; apply this one with the usual tools",
        )),
    }
}
