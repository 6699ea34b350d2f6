//! Pods are divided rightly behind a cache that is behind, also by two gateways in turn.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use meshward_chassis::clock::SystemClock;
use meshward_mesh_gateway::{
    app::Gateway,
    apply::Outcome,
    cluster::{Cluster as _, MemoryCluster, Mode, Selection},
    clusters::{Clusters, Member},
    dialect::CANARY,
    proof::{Expected, Look, Mark, Patience, Plane},
};
use meshward_model::{AppliedObject, Baseline, ExposureIntent, Mechanism, PropagationState, Target, Weight};
use serde_json::{Value, json};

use super::{contract::target_of, losing::Losing};

const PODS: usize = 4;

/// A gateway. If it is deaf, its cache of pods keeps what it listed first.
struct Replica {
    cluster: Arc<Losing>,
    gateway: Gateway,
    told: Arc<Told>,
}

/// A control plane that says which pods it was asked for as canaries, and keeps what it was told of writes.
struct Told {
    memory: MemoryCluster,
    /// How many pods were the canary before a write, and whether it was made.
    writes: Mutex<Vec<(usize, bool)>>,
}

#[async_trait]
impl Plane for Told {
    async fn look(&self, expected: &Expected) -> Result<Look, String> {
        let pods = expected.cohorts.iter().flat_map(|cohorts| &cohorts.pods);
        Err(format!("{} canaries", pods.filter(|pod| pod.cohort == CANARY).count()))
    }

    async fn mark(&self, _: &Target) -> Mark {
        let canaries = labelled(&self.memory).await.0;
        self.writes.lock().expect("no panic").push((canaries, false));
        Mark::default()
    }

    fn wrote(&self, objects: &[AppliedObject], _: Mark) {
        let mut writes = self.writes.lock().expect("no panic");
        writes.last_mut().expect("a mark before it").1 = !objects.is_empty();
    }
}

impl Replica {
    /// It has planned, so its caches are filled.
    async fn new(memory: &MemoryCluster, is_deaf: bool) -> (Self, Baseline) {
        let cluster = Arc::new(Losing { is_deaf, ..Losing::new(Arc::new(memory.clone()), usize::MAX) });
        let clusters = Clusters::new("");
        let told = Arc::new(Told { memory: memory.clone(), writes: Mutex::default() });
        clusters.put(Member::new("", Arc::clone(&cluster) as _, Arc::clone(&told) as _));
        let gateway = Gateway::new(Arc::new(clusters), Arc::new(SystemClock));
        let canary = server("HTTP/2");
        let half = Weight::from_basis_points(5000).expect("a weight");
        let planned = gateway.plan(&target_of(&canary), &canary, &[half], Some(Mechanism::Instance)).await;
        (Self { cluster, gateway, told }, planned.expect("a plan").1)
    }

    /// To the last phase.
    async fn expose(&self, intent: &ExposureIntent) -> Outcome {
        self.gateway.expose(intent, 9).await.expect("it is exposed")
    }

    /// What the proof takes for the canaries.
    async fn canaries(&self, intent: &ExposureIntent, outcome: &Outcome) -> String {
        let patience = Patience { timeout: Duration::ZERO, quorum: Weight::ZERO };
        let proof = self.gateway.verify(intent, &outcome.objects[..1], patience).await.expect("an answer");
        assert_eq!(proof.state, PropagationState::Unknown, "{proof:?}");
        proof.message.rsplit(": ").next().unwrap_or_default().to_owned()
    }
}

pub fn server(protocol: &str) -> Value {
    json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
           "metadata": {"name": "cart", "namespace": "shop"},
           "spec": {"podSelector": {"matchLabels": {"app": "cart"}}, "port": 80, "proxyProtocol": protocol,
                    "accessPolicy": "all-unauthenticated"}})
}

fn pod(index: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "app", "image": "none"}]},
           "metadata": {"name": format!("cart-{index}"), "namespace": "shop", "labels": {"app": "cart"}}})
}

pub async fn given() -> MemoryCluster {
    let memory = MemoryCluster::new(Arc::new(SystemClock));
    for object in (0..PODS).map(pod).chain([server("HTTP/1")]) {
        memory.as_manager("kubectl").apply(&target_of(&object), &object, Mode::Store).await.expect("it is stored");
    }
    memory
}

/// How many pods are the canary, and how many have a label of a deployment.
async fn labelled(memory: &MemoryCluster) -> (usize, usize) {
    let pods = memory.select(&Selection::of("v1", "pods")).await.expect("pods").objects;
    let labels = |pod: &Value| pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let ours =
        pods.iter().flat_map(|pod| labels(pod)).filter(|(key, _)| key.starts_with("meshward.io/")).collect::<Vec<_>>();
    (ours.iter().filter(|(_, value)| value == CANARY).count(), ours.len())
}

/// An intent of the deployment "d1".
pub fn at(baseline: &Baseline, generation: u64, bp: i64) -> ExposureIntent {
    ExposureIntent {
        deployment_id: "d1".to_owned(),
        generation,
        target: target_of(&server("HTTP/2")),
        baseline: baseline.clone(),
        canary: server("HTTP/2"),
        mechanism: Mechanism::Instance,
        weight: Weight::from_basis_points(bp).expect("a weight"),
    }
}

pub async fn who_was_not_told_of_a_label_takes_it_away_all_the_same() {
    let memory = given().await;
    let (one, baseline) = Replica::new(&memory, true).await;
    let (two, _) = Replica::new(&memory, true).await;
    let at = |generation, bp| at(&baseline, generation, bp);

    let half = one.expose(&at(1, 5000)).await;
    assert_eq!((labelled(&memory).await, half.pods_moved), ((2, 2), 2));
    for replica in [&one, &two] {
        assert_eq!(replica.canaries(&at(1, 5000), &half).await, "2 canaries", "the answer says how new a view must be");
    }
    assert_eq!(two.expose(&at(2, 0)).await.pods_moved, 2, "its cache shows no label");
    assert_eq!(labelled(&memory).await, (0, 0));
    // The first one did a step of this deployment itself, but not the last one.
    assert_eq!(one.expose(&at(3, 5000)).await.pods_moved, 2);
    assert_eq!(two.gateway.restore(&at(4, 0), 9).await.expect("it is restored").pods_moved, 2);
    assert_eq!(labelled(&memory).await, (0, 0));
}

pub async fn a_gateway_alone_lists_its_pods_once() {
    let memory = given().await;
    let (one, baseline) = Replica::new(&memory, false).await;
    let at = |generation, bp| at(&baseline, generation, bp);
    for (generation, bp, canaries, moved) in
        [(1, 2500, 1, 1), (2, 5000, 2, 1), (3, 5500, 2, 0), (4, 0, 0, 2), (5, 7500, 3, 3)]
    {
        let outcome = one.expose(&at(generation, bp)).await;
        assert_eq!((labelled(&memory).await.0, outcome.pods_moved), (canaries, moved), "{bp}");
        assert_eq!(one.canaries(&at(generation, bp), &outcome).await, format!("{canaries} canaries"));
        assert_eq!(one.expose(&at(generation, bp)).await.pods_moved, 0, "once more is nothing");
    }
    one.gateway.restore(&at(6, 0), 9).await.expect("it is restored");
    assert_eq!(labelled(&memory).await, (0, 0));
    assert_eq!(one.cluster.pods_listed.load(Ordering::Relaxed), 1);
    let before: Vec<_> = [0, 1, 1, 2, 2, 2, 2, 0, 0, 3, 3].map(|canaries| (canaries, true)).into();
    assert_eq!(
        *one.told.writes.lock().expect("no panic"),
        before,
        "the proof knows how things stood before each write"
    );
}
