//! How a mesh is told to give a canary to a part of its traffic: pure functions from two versions and a share to
//! objects.
//!
//! A dialect decides everything about *what* is written and nothing about *how*: it reads no cluster, has no clock and
//! no state, so that the plan that a person approves and the objects that are written later come from one function.

mod audience;
mod callers;
mod capabilities;
mod direct;
mod istio;
mod linkerd;
pub(crate) mod meaning;
pub(crate) mod parts;
mod steps;

use std::{collections::BTreeMap, sync::Arc};

pub use meshward_model::{Audience, HeaderMatch, HeaderValue};
use meshward_model::{Baseline, ExposureIntent, ExposurePlan, Mechanism, Mesh, RelatedBaseline, Target, Weight};
use serde_json::Value;

pub use capabilities::{Capability, capabilities, table};
pub use istio::Istio;
pub(crate) use istio::{effective_policy, qualified};
pub use linkerd::Linkerd;
pub use parts::MOST_WRITES;

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
    /// To whom the canary is given, if that was said.
    pub audience: &'a Audience,
    /// The other objects of the cluster that [`Dialect::needs`] asked for, each with `apiVersion` and `kind`.
    pub neighbours: Neighbours<'a>,
}

/// Objects of a cluster. There can be thousands, so that those that caches have are not copied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Neighbours<'a> {
    /// As a list told them.
    pub listed: &'a [Arc<Value>],
    /// As they were read one by one, since the list was behind.
    pub read: &'a [Value],
}

impl<'a> Neighbours<'a> {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &'a Value> + Clone + use<'a> {
        self.listed.iter().map(AsRef::as_ref).chain(self.read)
    }
}

impl<'a> From<&'a [Value]> for Neighbours<'a> {
    fn from(read: &'a [Value]) -> Self {
        Self { read, ..Self::default() }
    }
}

impl<'a> From<&'a Vec<Value>> for Neighbours<'a> {
    fn from(read: &'a Vec<Value>) -> Self {
        read.as_slice().into()
    }
}

/// Objects that a plan must know besides the one that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// "v1", "networking.istio.io/v1".
    pub api_version: String,
    /// What to ask for where the cluster does not serve that, the newest first.
    pub older: Vec<String>,
    /// "VirtualService".
    pub kind: String,
    /// `None` = of the whole cluster.
    pub namespace: Option<String>,
}

impl Need {
    /// All objects of a kind.
    #[must_use]
    pub fn all(api_version: &str, kind: &str) -> Self {
        Self { api_version: api_version.to_owned(), older: Vec::new(), kind: kind.to_owned(), namespace: None }
    }

    /// The objects of a kind in one namespace.
    #[must_use]
    pub fn within(api_version: &str, kind: &str, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::all(api_version, kind) }
    }
}

/// A plan, and what its caller must keep to be able to put everything back.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: ExposurePlan,
    /// The objects that it changes besides the target, as they stand now.
    pub related: Vec<RelatedBaseline>,
    /// What [`Dialect::render`] must know besides, since it reads no cluster: comes back as [`Baseline::facts`].
    pub facts: Value,
}

impl From<ExposurePlan> for Planned {
    fn from(plan: ExposurePlan) -> Self {
        Self { plan, related: Vec::new(), facts: Value::Null }
    }
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

/// What a deployment wants of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// An object that was there is changed, or made, and carries the deployment's marks. `apiVersion`, `kind`, `spec`
    /// and of `metadata` the name and the namespace.
    Step(Value),
    /// The deployment ends here: the approved version with the labels and annotations that it brings, without marks.
    Final(Value),
    /// The deployment ends here: the approved version is that the object is gone.
    Removed,
    /// An object of Meshward's own, which exists only while the deployment does.
    Helper(Value),
    /// The helper is taken away.
    Gone,
    /// What stood there before, byte for byte.
    Baseline,
}

/// An object as a phase wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Which.
    pub target: Target,
    /// How.
    pub wanted: Wanted,
}

impl Desired {
    /// The object that is written; null if it is not given.
    #[must_use]
    pub fn object(&self) -> &Value {
        match &self.wanted {
            Wanted::Step(object) | Wanted::Final(object) | Wanted::Helper(object) => object,
            Wanted::Removed | Wanted::Gone | Wanted::Baseline => &Value::Null,
        }
    }

    /// It is the approved version, without marks.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.wanted, Wanted::Final(_))
    }

    /// It is the end of the deployment for this object: the approved version, or that it is gone.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.is_final() || self.wanted == Wanted::Removed
    }
}

/// Pods that are divided into cohorts by a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCohorts {
    /// Their namespace.
    pub namespace: String,
    /// Labels that all of them carry; empty = all pods of the namespace.
    pub labels: BTreeMap<String, String>,
    /// The label that tells the cohorts apart; one per deployment.
    pub key: String,
    /// The share that is the canary; `None` = the label is taken away from all.
    pub share: Option<Weight>,
    /// The others carry the label too, and so do pods that come later, from their creation: where a policy can select
    /// only what carries a label (Istio). Otherwise no label is the stable cohort (Linkerd).
    pub label_stable: bool,
}

/// Pods that must carry the label of the stable cohort as soon as they appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomers {
    /// Their namespace.
    pub namespace: String,
    /// Labels that all of them carry; empty = all pods of the namespace.
    pub labels: BTreeMap<String, String>,
    /// The label that tells the cohorts apart.
    pub key: String,
}

/// By whom an object is read, by their namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// Only by those of this one.
    pub within: Option<String>,
    /// Not by those of these.
    pub except: Vec<String>,
}

impl Readers {
    /// Whether those of a namespace are among them.
    #[must_use]
    pub fn are_in(&self, namespace: &str) -> bool {
        self.within.as_ref().is_none_or(|within| within == namespace)
            && !self.except.iter().any(|except| except == namespace)
    }
}

/// Value of a cohort's label.
pub const CANARY: &str = "canary";
/// Value of a cohort's label.
pub const STABLE: &str = "stable";

/// What may be written in one go, though it is written a few objects at a time ([`parts`]). It is proven live before the
/// next phase is begun.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Objects, in the order of writing.
    Objects(Vec<Desired>),
    /// Labels of pods.
    Pods(PodCohorts),
}

/// A mesh's way to expose its kinds.
pub trait Dialect: Send + Sync {
    /// The kinds, each with the mechanisms that [`Dialect::plan`] knows for it.
    fn capabilities(&self) -> Vec<Capability>;

    /// The objects that a plan must know.
    fn needs(&self, question: &Question<'_>) -> Vec<Need>;

    /// The plan.
    ///
    /// # Errors
    /// If no mechanism, or not the one that was asked for, can expose the change exactly.
    fn plan(&self, question: &Question<'_>) -> Result<Planned, Unsupported>;

    /// The phases of one step.
    ///
    /// # Errors
    /// If the mechanism cannot do it; never for what [`Dialect::plan`] returned.
    fn render(&self, intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported>;

    /// The phases of the way back, from any step.
    ///
    /// # Errors
    /// As [`Dialect::render`].
    fn undo(&self, intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported>;

    /// Other objects in whose name the control plane configures proxies with the target's content.
    fn through(&self, _: &ExposureIntent) -> Vec<Target> {
        Vec::new()
    }

    /// An object as the API server stores it: with what the definition of its kind fills in. Everything else here is
    /// asked and answered in that form.
    fn stored(&self, _target: &Target, object: &Value) -> Value {
        object.clone()
    }

    /// What to do in a cluster that does not serve the kind of an object, if something else does the same.
    fn instead(&self, _target: &Target, _canary: &Value) -> Option<Unsupported> {
        None
    }

    /// The kinds whose objects can demand a label of every pod that they are about, in all namespaces.
    fn labelling_kinds(&self) -> Vec<Need> {
        Vec::new()
    }

    /// What an object of such a kind demands of new pods, as it stands in the cluster; `None` = nothing.
    fn newcomers(&self, _: &Target, _live: &Value) -> Option<Newcomers> {
        None
    }

    /// The pods whose labels decide at this step which version governs them; of each of them it is then asked whether it
    /// has the version of its label. `None` = no labels decide.
    fn divided(&self, _: &ExposureIntent) -> Option<PodCohorts> {
        None
    }

    /// Who reads an object at this step, for a proof that cannot tell what proxies have it from.
    fn readers(&self, _: &ExposureIntent, _: &Target) -> Readers {
        Readers::default()
    }

    /// Specs that an object can have had at other phases or steps, for a proof that must tell it from them. Not those
    /// from before and at the end, nor what differs by the weight alone and shows it.
    fn older(&self, _: &ExposureIntent, _: &Target) -> Vec<Value> {
        Vec::new()
    }
}

/// The dialect of a mesh.
#[must_use]
pub fn of(mesh: Mesh) -> &'static dyn Dialect {
    match mesh {
        Mesh::Istio => &Istio,
        Mesh::Linkerd => &Linkerd,
    }
}

/// The object of a step that is one phase with one object.
#[cfg(test)]
fn only_object(phases: Result<Vec<Phase>, Unsupported>) -> Value {
    match phases.as_deref() {
        Ok([Phase::Objects(objects)]) if objects.len() == 1 => objects[0].object().clone(),
        other => panic!("not one object: {other:?}"),
    }
}
