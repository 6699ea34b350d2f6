//! Proof that a write is live on the proxies, or the honest answer that it is not, or that nobody can tell.
//!
//! A fixed sleep proves nothing, and neither does a control plane that has merely *read* an object. What counts is what
//! each proxy acknowledged. How a mesh's control plane is asked is behind [`Plane`]; what its answers mean is decided
//! here, purely ([`judge`]), and [`wait`] asks until the answer is final or the time is over.

mod istiod;
mod judge;
mod linkerd;
mod wait;

use std::time::Duration;

use async_trait::async_trait;
use meshward_model::{AppliedObject, Mesh, Target, Weight};
use serde_json::Value;

use crate::dialect::{Readers, STABLE};
pub use istiod::Istiod;
pub use linkerd::Linkerd;
pub use wait::wait;
pub(crate) use wait::{answer, unknown};

/// Where the kinds of Istio have the labels that a pod must have.
const SELECTORS: [&str; 3] = ["/selector/matchLabels", "/workloadSelector/labels", "/workloadSelector/matchLabels"];

/// What was written and shall be live.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The object.
    pub target: Target,
    /// As it stands in the cluster; `None` = it is gone.
    pub object: Option<Value>,
    /// Specs that proxies may still have: those of the baseline and of the canary, as far as they differ from what was
    /// written.
    pub others: Vec<Value>,
    /// The write can have changed which proxies the object concerns: it was made, removed, or its hosts or gateways
    /// changed.
    pub rebinds: bool,
    /// Other objects in whose name proxies are configured with the content of this one.
    pub through: Vec<Target>,
    /// The pods whose labels decide which of several objects governs them; `None` = labels are not what decides.
    pub cohorts: Option<Cohorts>,
    /// The objects that were written with this one: a view of the cluster from before them is too old.
    pub beside: Vec<AppliedObject>,
    /// Whose proxies it concerns at most.
    pub readers: Readers,
}

impl Expected {
    /// The objects choose their pods by labels. An older object with the same content for other pods is then no other
    /// one: who shows it tells.
    pub fn decided_by_labels(&mut self, cohorts: Cohorts) {
        let content = |spec: &Value| {
            let mut spec = spec.clone();
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|field, _| field != "selector" && field != "workloadSelector");
            }
            spec
        };
        if let Some(written) = self.object.as_ref().map(|object| content(&object["spec"])) {
            self.others.retain(|other| content(other) != written);
        }
        self.rebinds = true;
        self.cohorts = Some(cohorts);
    }
}

/// Pods that a label divides.
#[derive(Clone, Debug, Default)]
pub struct Cohorts {
    /// The label.
    pub key: String,
    /// As they stand in the cluster.
    pub pods: Vec<CohortPod>,
}

impl Cohorts {
    /// The proxies of Ready pods that no version governs: the object is narrowed to the stable cohort's label, and they
    /// have none.
    #[must_use]
    pub fn ungoverned(&self, object: Option<&Value>) -> Vec<String> {
        let narrowed = |path: &&str| object.and_then(|object| object["spec"].pointer(path)?.get(&self.key));
        // A Gateway's selector is the labels themselves.
        if !SELECTORS.iter().chain(&["/selector"]).filter_map(narrowed).any(|cohort| cohort == STABLE) {
            return Vec::new();
        }
        let without = self.pods.iter().filter(|pod| pod.ready && pod.cohort.is_empty());
        without.map(|pod| pod.proxy.clone()).collect()
    }
}

/// A pod of [`Cohorts`].
#[derive(Clone, Debug)]
pub struct CohortPod {
    /// The name of its proxy, e.g. "checkout-0.shop".
    pub proxy: String,
    /// The value of the label; empty = none.
    pub cohort: String,
    /// It takes requests.
    pub ready: bool,
}

/// What a proxy would be given now, compared with what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is what was written, and nothing else that it could be.
    Shows,
    /// It is something older.
    Older,
    /// What was written and something older look alike there.
    Unclear,
    /// The proxy serves a host of the object without using the object.
    Unused,
    /// The proxy could not be asked yet.
    Unread,
}

/// One proxy at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyLook {
    /// Its name, e.g. "checkout-0.shop".
    pub name: String,
    /// What the control plane would generate for it.
    pub content: Content,
    /// The last push of the kind of configuration that the object is part of was made from this state or a newer one.
    pub pushed: bool,
    /// That push; changes with each.
    pub nonce: String,
    /// It was acknowledged.
    pub acknowledged: bool,
    /// The proxy's words if it refused it.
    pub error: Option<String>,
}

/// One look at the whole mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Replicas of the control plane that have not read the write yet.
    pub not_taken_in: Vec<String>,
    /// The proxies that the object concerns, of all replicas.
    pub proxies: Vec<ProxyLook>,
    /// Proxies of pods that are not Ready, whose labels the control plane does not look at before they are. They are
    /// governed by the version of their cohort before.
    pub held_back: Vec<String>,
}

/// A mesh's control plane.
#[async_trait]
pub trait Plane: Send + Sync {
    /// Looks once at all replicas.
    ///
    /// # Errors
    /// If one of them cannot be asked: why, for people.
    async fn look(&self, expected: &Expected) -> Result<Look, String>;

    /// How the proxies stand before a write to an object, as far as the looks after it want to know.
    async fn mark(&self, _target: &Target) -> Mark {
        Mark::default()
    }

    /// The write came after the mark.
    fn wrote(&self, _objects: &[AppliedObject], _mark: Mark) {}
}

/// What a plane keeps of the moment before a write.
#[derive(Debug, Default)]
pub struct Mark(istiod::Marks);

/// The planes of one cluster, by the mesh of what is proven.
pub struct Planes {
    /// Istio's.
    pub istio: Istiod,
    /// Linkerd's.
    pub linkerd: Linkerd,
}

#[async_trait]
impl Plane for Planes {
    async fn look(&self, expected: &Expected) -> Result<Look, String> {
        match expected.target.mesh {
            Mesh::Istio => self.istio.look(expected).await,
            Mesh::Linkerd => self.linkerd.look(expected).await,
        }
    }

    async fn mark(&self, target: &Target) -> Mark {
        match target.mesh {
            Mesh::Istio => self.istio.mark(target).await,
            Mesh::Linkerd => Mark::default(),
        }
    }

    fn wrote(&self, objects: &[AppliedObject], mark: Mark) {
        self.istio.wrote(objects, mark);
    }
}

/// How long to wait, and how often to ask.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until when to wait for an answer that is final; zero = one look.
    pub timeout: Duration,
    /// The share of the concerned proxies that is enough; zero = all of them. One that refuses is never enough.
    pub quorum: Weight,
}
