//! What the mesh shall look like at a step of a deployment, and how far that has come.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Mesh, Target, Weight};

/// How a mesh is told to give the canary to a part of its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// A cohort of request ids.
    Request,
    /// Blended destination weights.
    Weight,
    /// Twin DestinationRule subsets.
    Subset,
    /// Pods by cohort label.
    Instance,
    /// Consumer namespaces.
    Namespace,
    /// Header or cookie match.
    Header,
    /// Dry-run or audit.
    Shadow,
    /// All at once.
    None,
}

/// What stood in the cluster before a deployment touched it: all that is needed to put it back byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The live object with managed fields, uid and resourceVersion; `None` = it did not exist.
    pub object: Option<Value>,
    /// The other objects that the deployment changes on the way, e.g. the VirtualService that shares the traffic
    /// between two subsets.
    #[serde(default)]
    pub related: Vec<RelatedBaseline>,
    /// What the plan found out about the cluster and its steps rest on, e.g. the ports of a service; of a shape that
    /// only the adapter knows. Null = nothing.
    #[serde(default)]
    pub facts: Value,
}

impl Baseline {
    /// What stood there if the deployment changes but one object.
    #[must_use]
    pub fn of(object: Option<Value>) -> Self {
        Self { object, related: Vec::new(), facts: Value::Null }
    }
}

/// What stood in the cluster of another object than the deployment's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelatedBaseline {
    /// Which.
    pub target: Target,
    /// The live object with managed fields, uid and resourceVersion; `None` = it did not exist.
    pub object: Option<Value>,
}

/// What the mesh shall look like now: a function of a deployment's saved state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExposureIntent {
    /// Whose deployment.
    pub deployment_id: String,
    /// Fencing number; a writer with a lower one than the object carries is refused.
    pub generation: u64,
    /// Which object.
    pub target: Target,
    /// What was there before.
    pub baseline: Baseline,
    /// The canary version of the object; null = it shall be gone.
    pub canary: Value,
    /// How it is exposed.
    pub mechanism: Mechanism,
    /// To how many; [`Weight::FULL`] = the canary version alone, as it was approved.
    pub weight: Weight,
}

impl ExposureIntent {
    /// What stood there before of the target, or of another object that the deployment changes; `None` = nothing.
    #[must_use]
    pub fn before(&self, target: &Target) -> Option<&Value> {
        if self.is_about(target) {
            return self.baseline.object.as_ref();
        }
        let related = self.baseline.related.iter().find(|related| related.target.key() == target.key());
        related.and_then(|related| related.object.as_ref())
    }

    /// Whether this is the object that the deployment is about.
    #[must_use]
    pub fn is_about(&self, target: &Target) -> bool {
        self.target.key() == target.key()
    }
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Change an object that is there.
    Apply,
    /// Make one.
    Create,
    /// Remove one.
    Delete,
}

/// One write of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedWrite {
    /// Which object.
    pub target: Target,
    /// What is done.
    pub operation: Operation,
    /// The whole object as it will be written; of one that is removed, only its name.
    pub object: Value,
    /// Which phase of the step it belongs to, from 0. A phase is proven live before the next one is begun.
    #[serde(default)]
    pub phase: u32,
}

/// Pods that are moved between the cohorts at a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCohort {
    /// Which phase of the step it belongs to, from 0.
    pub phase: u32,
    /// Namespace of the pods.
    pub namespace: String,
    /// Label selector of the pods, as Kubernetes writes it; empty = all of the namespace.
    pub selector: String,
    /// The label that tells the cohorts apart.
    pub label_key: String,
    /// The share of the pods that shall be the canary; `None` = the label is taken away.
    pub share: Option<Weight>,
}

/// What a phase of a step is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// What the step needs is made; nobody gets the canary by it.
    Prepare,
    /// The step's share gets the canary.
    Expose,
    /// The canary is taken away from everybody.
    Withdraw,
    /// Everybody gets the canary, which stands there as it was approved.
    Promote,
    /// What was only for the deployment is taken away.
    Cleanup,
}

/// One phase of a step: what is written, and then proven live before the next is begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPhase {
    /// Which, from 0.
    pub phase: u32,
    /// What for.
    pub purpose: Purpose,
    /// Writes to objects that it takes at most, other than labels of pods.
    pub most_writes: u32,
    /// Who gets the canary as soon as it is live, in one sentence.
    pub exposed: String,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What is asked.
    pub weight: Weight,
    /// What the mechanism's granularity makes of it.
    pub nominal_share: Weight,
    /// In the order of writing.
    pub writes: Vec<PlannedWrite>,
    /// Pods that change their cohort.
    #[serde(default)]
    pub cohorts: Vec<PlannedCohort>,
    /// In their order.
    #[serde(default)]
    pub phases: Vec<PlannedPhase>,
    /// Who gets the canary, in one sentence.
    pub exposed: String,
}

/// A mechanism that was not chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// Which.
    pub mechanism: Mechanism,
    /// Why not.
    pub reason: String,
}

/// Where the traffic of canary and control is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetricsTarget {
    /// Mesh whose metrics these are.
    pub mesh: Mesh,
    /// Mechanism, which decides what is counted.
    pub mechanism: Mechanism,
    /// Cluster; empty = the default one.
    pub cluster: String,
    /// Fully qualified hosts whose requests the policy governs.
    pub hosts: Vec<String>,
    /// Name that the canary's series carry.
    pub canary_series: String,
    /// Name that the control's series carry.
    pub control_series: String,
    /// Key of the pods' label whose values the two names are; empty = the series carry them otherwise.
    #[serde(default)]
    pub cohort_label: String,
    /// The canary's clusters of Envoy as `<subset>|<host>` or `<port>|<subset>|<host>`, where versions are destinations of
    /// their own.
    #[serde(default)]
    pub canary_clusters: Vec<String>,
    /// The control's.
    #[serde(default)]
    pub control_clusters: Vec<String>,
    /// Labels that the pods of both cohorts carry; none = all pods of the hosts' namespaces.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
}

impl MetricsTarget {
    /// Nothing tells the versions apart yet: no hosts, no names.
    #[must_use]
    pub fn uncounted(mesh: Mesh, mechanism: Mechanism, cluster: &str) -> Self {
        Self {
            mesh,
            mechanism,
            cluster: cluster.to_owned(),
            hosts: Vec::new(),
            canary_series: String::new(),
            control_series: String::new(),
            cohort_label: String::new(),
            canary_clusters: Vec::new(),
            control_clusters: Vec::new(),
            pod_labels: BTreeMap::new(),
        }
    }
}

/// How a version will be exposed; nothing is written by planning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExposurePlan {
    /// The mechanism chosen.
    pub mechanism: Mechanism,
    /// Why.
    pub reason: String,
    /// Step by step.
    pub steps: Vec<PlannedStep>,
    /// What is not covered, a sentence each.
    pub not_covered: Vec<String>,
    /// What was not chosen.
    pub alternatives: Vec<Alternative>,
    /// Where it is measured.
    pub metrics_target: MetricsTarget,
}

/// An object as it stands after a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedObject {
    /// Which.
    pub target: Target,
    /// Kubernetes' resourceVersion; empty if absent.
    pub resource_version: String,
    /// Kubernetes' metadata.generation; 0 if absent.
    pub object_generation: i64,
    /// It is gone.
    pub absent: bool,
    /// The resourceVersion of a pod: who looks at the pods that the deployment divides looks at nothing older. Empty =
    /// not known.
    #[serde(default)]
    pub pods_version: String,
}

/// How far a write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PropagationState {
    /// Every concerned proxy acknowledged it.
    Live,
    /// Not yet.
    Pending,
    /// A proxy refused it (NACK).
    Refused,
    /// The live object is not what was written.
    Drifted,
    /// The control plane cannot be asked. Never a pass.
    Unknown,
}

/// A proxy that refused a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which proxy.
    pub proxy: String,
    /// In its own words.
    pub message: String,
}

/// Proof that a write is, or is not, live on the proxies that it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropagationProof {
    /// How far.
    pub state: PropagationState,
    /// Proxies that the change concerns.
    pub concerned: u32,
    /// Of those, how many acknowledged it.
    pub acknowledged: u32,
    /// Names of those that did not yet, at most 20.
    pub laggards: Vec<String>,
    /// Proxies that refused.
    pub refusals: Vec<Refusal>,
    /// From the start of the question to the answer, milliseconds.
    pub elapsed_ms: u64,
    /// When the state was reached.
    pub time: Timestamp,
    /// One sentence for people.
    pub message: String,
    /// With [`PropagationState::Drifted`]: who changed the object.
    pub drift_manager: String,
}
