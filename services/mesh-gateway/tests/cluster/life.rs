//! The life of a deployment, the same over every adapter and every cluster: planned, exposed in rising steps, promoted
//! and put back, with the answer of each write lost once, with late writers and with somebody else's changes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use meshward_chassis::clock::SystemClock;
use meshward_mesh_gateway::{
    app::Gateway,
    apply::Outcome,
    cluster::{Changes, Cluster, ClusterError, Mode, Selected, Selection, Written},
    clusters::{Clusters, Member},
    error::Error,
    proof::{Expected, Look, Plane},
};
use meshward_model::{Baseline, ExposureIntent, Mechanism, Target, Weight};
use serde_json::{Value, json};

use super::{
    contract::{Backend, target_of},
    world::without_counters,
};

/// One way of an adapter: what stands there, what shall, and by which mechanism.
pub struct Way {
    pub adapter: &'static str,
    pub mechanism: Mechanism,
    pub before: Value,
    pub canary: Value,
}

fn object(kind: &str, group: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{group}.istio.io/v1"), "kind": kind, "spec": spec,
           "metadata": {"name": name, "namespace": "shop", "labels": {"team": "a"}, "annotations": {"note": "by hand"}}})
}

/// The ways that a deployment can go.
pub fn ways() -> Vec<Way> {
    let route = |host: &str, more: Value| {
        let mut route = json!({"route": [{"destination": {"host": host}}]});
        route.as_object_mut().expect("a route").extend(more.as_object().expect("a map").clone());
        json!({"hosts": ["life"], "http": [route]})
    };
    let service = |spec: Value| object("VirtualService", "networking", "life", spec);
    let policy = |methods: Value| {
        let spec = json!({"selector": {"matchLabels": {"app": "life"}}, "action": "ALLOW",
                          "rules": [{"to": [{"operation": {"methods": methods}}]}]});
        object("AuthorizationPolicy", "security", "life", spec)
    };
    let way = |mechanism, before, canary| Way { adapter: "Istio", mechanism, before, canary };
    vec![
        way(
            Mechanism::Request,
            service(route("a", json!({"timeout": "1s"}))),
            service(route("b", json!({"retries": {"attempts": 2}}))),
        ),
        way(Mechanism::Weight, service(route("a", json!({}))), service(route("b", json!({})))),
        way(Mechanism::Request, policy(json!(["GET"])), policy(json!(["GET", "POST"]))),
    ]
}

/// A cluster that does the n-th write, and loses the answer.
struct Losing {
    cluster: Arc<dyn Cluster>,
    writes: AtomicUsize,
    lost: usize,
}

impl Losing {
    fn after<T>(&self, answer: Result<T, ClusterError>) -> Result<T, ClusterError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let lost = || ClusterError::Unreachable("the answer was lost".to_owned());
        if number == self.lost { Err(lost()) } else { answer }
    }
}

#[async_trait]
impl Cluster for Losing {
    async fn get(&self, target: &Target) -> Result<Option<Value>, ClusterError> {
        self.cluster.get(target).await
    }
    async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Selection, ClusterError> {
        self.cluster.kind_of(api_version, kind).await
    }
    async fn select(&self, selection: &Selection) -> Result<Selected, ClusterError> {
        self.cluster.select(selection).await
    }
    async fn watch(&self, selection: &Selection, after: &str) -> Result<Changes, ClusterError> {
        self.cluster.watch(selection, after).await
    }
    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ClusterError> {
        self.after(self.cluster.create(target, object).await)
    }
    async fn apply(&self, target: &Target, object: &Value, mode: Mode) -> Result<Written, ClusterError> {
        self.after(self.cluster.apply(target, object, mode).await)
    }
    async fn patch(&self, target: &Target, operations: &Value) -> Result<Value, ClusterError> {
        self.after(self.cluster.patch(target, operations).await)
    }
    async fn delete(&self, target: &Target, uid: &str, resource_version: &str) -> Result<(), ClusterError> {
        self.after(self.cluster.delete(target, uid, resource_version).await)
    }
    async fn version(&self) -> Result<String, ClusterError> {
        self.cluster.version().await
    }
}

/// Nobody is asked for a proof here.
struct Unasked;

#[async_trait]
impl Plane for Unasked {
    async fn look(&self, _: &Expected) -> Result<Look, String> {
        Err("not asked".to_owned())
    }
}

/// One deployment on one cluster.
struct Life<'a> {
    backend: &'a dyn Backend,
    losing: Arc<Losing>,
    gateway: Gateway,
    way: &'a Way,
}

impl<'a> Life<'a> {
    fn new(backend: &'a dyn Backend, way: &'a Way, lost: usize) -> Self {
        let losing = Arc::new(Losing { cluster: backend.cluster(), writes: AtomicUsize::new(0), lost });
        let clusters = Clusters::new("here");
        clusters.put(Member::new("here", Arc::clone(&losing) as _, Arc::new(Unasked)));
        Self { backend, losing, gateway: Gateway::new(Arc::new(clusters), Arc::new(SystemClock)), way }
    }

    fn target(&self) -> Target {
        target_of(&self.way.canary)
    }

    async fn live(&self) -> Option<Value> {
        self.backend.cluster().get(&self.target()).await.expect("it can be read")
    }

    async fn remove(&self) {
        if let Some(live) = self.live().await {
            let metadata = |field: &str| live["metadata"][field].as_str().expect("a text").to_owned();
            let (uid, version) = (metadata("uid"), metadata("resourceVersion"));
            self.backend.cluster().delete(&self.target(), &uid, &version).await.expect("it is deleted");
        }
    }

    async fn plan(&self, weights: &[i64]) -> Baseline {
        let weights: Vec<_> = weights.iter().map(|bp| Weight::from_basis_points(*bp).expect("a weight")).collect();
        let (target, mechanism) = (self.target(), self.way.mechanism);
        let (_, baseline) =
            self.gateway.plan(&target, &self.way.canary, &weights, Some(mechanism)).await.expect("a plan");
        baseline
    }

    fn intent(&self, baseline: &Baseline, generation: u64, bp: i64, mechanism: Mechanism) -> ExposureIntent {
        ExposureIntent {
            deployment_id: "life".to_owned(),
            generation,
            target: self.target(),
            baseline: baseline.clone(),
            canary: self.way.canary.clone(),
            mechanism,
            weight: Weight::from_basis_points(bp).expect("a weight"),
        }
    }

    /// All phases; what was lost is asked again, as a worker does after a crash.
    async fn expose(&self, intent: &ExposureIntent) -> Result<(), Error> {
        let mut phase = 0;
        loop {
            let answer = match self.gateway.expose(intent, phase).await {
                Err(Error::Cluster(ClusterError::Unreachable(_))) => self.gateway.expose(intent, phase).await,
                answer => answer,
            };
            let Outcome { more, .. } = answer?;
            if !more {
                return Ok(());
            }
            phase += 1;
        }
    }

    async fn restore(&self, intent: &ExposureIntent) -> Result<(), Error> {
        let mut phase = 0;
        loop {
            let answer = match self.gateway.restore(intent, phase).await {
                Err(Error::Cluster(ClusterError::Unreachable(_))) => self.gateway.restore(intent, phase).await,
                answer => answer,
            };
            let Outcome { more, .. } = answer?;
            if !more {
                return Ok(());
            }
            phase += 1;
        }
    }
}

/// Everything on one cluster.
pub async fn every_adapter_keeps_to_it(backend: &dyn Backend) {
    for way in ways() {
        let writes = whole(backend, &way, usize::MAX).await;
        for lost in 0..writes {
            whole(backend, &way, lost).await;
        }
        changed_by_others(backend, &way).await;
        let kind = way.canary["kind"].as_str().expect("a kind");
        println!(
            "life of a deployment: {} {kind} by {:?} on {}: holds, also with each of {writes} answers lost",
            way.adapter,
            way.mechanism,
            backend.name()
        );
    }
    from_nothing(backend).await;
}

/// Rising steps, back, again to the end, promoted, and put back; how many writes that took.
async fn whole(backend: &dyn Backend, way: &Way, lost: usize) -> usize {
    let life = Life::new(backend, way, lost);
    life.remove().await;
    let before = backend.apply_as("kubectl", &way.before).await;
    let baseline = life.plan(&[1000, 5000, 10_000]).await;
    let at = |generation, bp| life.intent(&baseline, generation, bp, way.mechanism);
    for (generation, bp) in [(1, 1000), (2, 5000), (3, 0), (4, 5000)] {
        life.expose(&at(generation, bp)).await.expect("a step");
        let live = life.live().await.expect("it is there");
        assert_eq!(live["metadata"]["annotations"]["meshward.io/generation"], generation.to_string());
        life.expose(&at(generation, bp)).await.expect("the step again");
        assert_eq!(life.live().await.as_ref(), Some(&live), "a repeated step writes nothing");
        if generation > 1 {
            let late = life.expose(&at(generation - 1, 1000)).await;
            assert!(matches!(late, Err(Error::Stale { .. })), "{late:?}");
        }
    }
    let promoted = at(5, 10_000);
    life.expose(&promoted).await.expect("the promotion");
    let live = life.live().await.expect("it is there");
    assert_eq!(live["spec"], way.canary["spec"], "the version alone");
    assert!(!live["metadata"]["annotations"].to_string().contains("meshward.io"), "no mark is left: {live}");
    let undo = at(6, 0);
    life.restore(&undo).await.expect("it is restored");
    let after = life.live().await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "byte for byte, lost {lost}");
    life.restore(&undo).await.expect("again");
    for late in [at(4, 5000), at(7, 5000)] {
        let late = life.expose(&late).await;
        assert!(matches!(late, Err(Error::Stale { .. })), "{late:?}");
    }
    assert_eq!(life.live().await, Some(after), "nothing of ours is written any more");
    life.losing.writes.load(Ordering::Relaxed)
}

/// Another deployment, another manager, and a deletion.
async fn changed_by_others(backend: &dyn Backend, way: &Way) {
    let life = Life::new(backend, way, usize::MAX);
    life.remove().await;
    backend.apply_as("kubectl", &way.before).await;
    let baseline = life.plan(&[1000, 10_000]).await;
    let first = life.intent(&baseline, 1, 1000, way.mechanism);
    life.expose(&first).await.expect("a step");
    let other = ExposureIntent { deployment_id: "other".to_owned(), generation: 9, ..first.clone() };
    let busy = life.expose(&other).await;
    assert!(matches!(&busy, Err(Error::Busy { deployment, .. }) if deployment == "life"), "{busy:?}");
    backend.apply_as("argocd", &way.before).await;
    let theirs = life.live().await;
    for generation in [1, 2] {
        let answer = life.expose(&ExposureIntent { generation, ..first.clone() }).await;
        assert!(matches!(&answer, Err(Error::Drift { manager, .. }) if manager == "argocd"), "{answer:?}");
    }
    assert_eq!(life.live().await, theirs, "what others wrote stays");
    life.remove().await;
    let answer = life.expose(&ExposureIntent { generation: 3, ..first }).await;
    assert!(matches!(answer, Err(Error::Drift { .. })), "{answer:?}");
}

/// An object that did not exist is made, and its absence put back.
async fn from_nothing(backend: &dyn Backend) {
    for way in ways() {
        let way = Way { mechanism: Mechanism::None, ..way };
        for lost in [usize::MAX, 0, 1] {
            let life = Life::new(backend, &way, lost);
            life.remove().await;
            let baseline = life.plan(&[10_000]).await;
            life.expose(&life.intent(&baseline, 1, 10_000, Mechanism::None)).await.expect("it is made");
            assert_eq!(life.live().await.expect("it is there")["spec"], way.canary["spec"]);
            life.restore(&life.intent(&baseline, 2, 0, Mechanism::None)).await.expect("it is removed");
            assert_eq!(life.live().await, None);
        }
    }
}
