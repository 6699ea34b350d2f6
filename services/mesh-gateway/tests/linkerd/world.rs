//! An API server with Linkerd's kinds, a policy stream, pods, and the gateway's proof over both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use meshward_chassis::clock::{Clock as _, SystemClock};
use meshward_local::{linkerd::Linkerd as Stack, tools::Tools};
use meshward_mesh_gateway::{
    cluster::{Cluster, KubeCluster, KubeOptions, Mode},
    object,
    proof::{self, Expected, Linkerd, Patience},
};
use meshward_model::{Mesh, PropagationProof, PropagationState, Target, Weight};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const NAMESPACE: &str = "shop";
/// Far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub stack: Stack,
    pub cluster: Arc<dyn Cluster>,
    _dir: TempDir,
}

impl World {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let stack = Stack::start(dir.path(), &Tools::locate().expect("the tools")).await.expect("it starts");
        let options = KubeOptions { kubeconfig: Some(stack.kubeconfig().to_owned()), timeout: PATIENCE };
        let cluster = Arc::new(KubeCluster::new(&options).await.expect("a client"));
        stack.namespaces(&[NAMESPACE, "web", "linkerd-egress"]).await.expect("namespaces");
        for (namespace, name, app, cohort) in [
            (NAMESPACE, "till-0", "till", "stable"),
            (NAMESPACE, "till-1", "till", "canary"),
            (NAMESPACE, "books-0", "books", "stable"),
            ("web", "front-0", "front", "stable"),
        ] {
            let labels = json!({"app": app, "cohort": cohort});
            stack.pod(namespace, name, &labels, "10.1.0.1").await.expect("a pod");
        }
        for (name, address) in [("till", "10.96.7.1"), ("till-next", "10.96.7.2")] {
            let spec = json!({"clusterIP": address, "selector": {"app": "till"}, "ports": [{"port": 80}]});
            stack.apply(&named("v1", "Service", name, &spec)).await.expect("a service");
        }
        Self { stack, cluster, _dir: dir }
    }

    /// The proof over the running controller.
    pub fn plane(&self) -> Linkerd {
        self.plane_at(&[self.stack.controller.url()])
    }

    pub fn plane_at(&self, urls: &[String]) -> Linkerd {
        Linkerd::new(urls, &[], Arc::clone(&self.cluster)).expect("URLs")
    }

    /// Writes an object and proves it; `before` is what stood there.
    pub async fn write(&self, object: &Value, before: Option<&Value>) -> (Value, PropagationProof) {
        let live = self.apply(object).await;
        let proof = self.prove(&self.plane(), &target(object), Some(&live), before, PATIENCE).await;
        println!("{}: {}", target(object), proof.message);
        (live, proof)
    }

    pub async fn apply(&self, object: &Value) -> Value {
        self.cluster.apply(&target(object), object, Mode::Store).await.expect("it is taken").object
    }

    pub async fn prove(
        &self,
        plane: &Linkerd,
        target: &Target,
        live: Option<&Value>,
        before: Option<&Value>,
        timeout: Duration,
    ) -> PropagationProof {
        let spec = live.map(object::spec);
        let others = before.into_iter().map(object::spec).filter(|other| Some(*other) != spec).cloned().collect();
        let rebinds = before.is_none();
        let expected = Expected {
            target: target.clone(),
            object: live.cloned(),
            others,
            rebinds,
            through: Vec::new(),
            cohorts: None,
            beside: Vec::new(),
            readers: meshward_mesh_gateway::dialect::Readers::default(),
        };
        let patience = Patience { timeout, quorum: Weight::ZERO };
        proof::wait(plane, &expected, patience, Instant::now(), || SystemClock.now()).await
    }

    /// Removes an object and proves that it is gone.
    pub async fn remove(&self, object: &Value) -> PropagationProof {
        let target = target(object);
        let live = self.cluster.get(&target).await.expect("an answer").expect("it is there");
        let (uid, version) = (object::uid(&live), object::resource_version(&live));
        self.cluster.delete(&target, uid, version).await.expect("it is removed");
        self.prove(&self.plane(), &target, None, Some(&live), PATIENCE).await
    }

    pub async fn stop(self) {
        self.stack.stop().await;
    }
}

/// An object of the namespace.
pub fn named(api_version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

/// Routes of the Gateway API included, which are of no mesh by their name.
pub fn target(object: &Value) -> Target {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    Target {
        cluster: String::new(),
        mesh: Mesh::Linkerd,
        api_version: text(&object["apiVersion"]),
        kind: text(&object["kind"]),
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
    }
}

/// Live on so many.
pub fn assert_live(proof: &PropagationProof, concerned: u32) {
    assert_eq!((proof.state, proof.concerned), (PropagationState::Live, concerned), "{proof:?}");
}

/// Not live yet on these.
pub fn assert_pending(proof: &PropagationProof, laggards: &[&str]) {
    assert_eq!(
        (proof.state, &proof.laggards[..]),
        (PropagationState::Pending, &laggards.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..]),
        "{proof:?}"
    );
}
