//! Pods that are made at the worst moment: right before an object is narrowed to the pods with a label, and behind the
//! back of the gateway's caches. On every cluster, with neither an admission policy nor a watch that would label them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt as _, future::ready};
use meshward_chassis::clock::SystemClock;
use meshward_mesh_gateway::{
    app::Gateway,
    cluster::{Change, Changes, Cluster, ClusterError, Mode, Selected, Selection, Written},
    clusters::{Clusters, Member},
    object,
};
use meshward_model::{Baseline, ExposureIntent, Mechanism, Target, Weight};
use serde_json::{Value, json};

use super::{
    contract::{Backend, target_of},
    newcomers::Silent,
};

const APP: &str = "between";
/// A pod of whose creation watches tell nothing.
const UNTOLD: &str = "between-untold";
/// The pod that is made right before the write.
const MEANWHILE: &str = "between-meanwhile";

fn policy(path: &str) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": APP, "namespace": "shop"},
           "spec": {"selector": {"matchLabels": {"app": APP}}, "action": "ALLOW",
                    "rules": [{"to": [{"operation": {"paths": [path]}}]}]}})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": APP}},
           "spec": {"containers": [{"name": "app", "image": "none"}]}})
}

/// A cluster in which somebody else makes a pod whenever the policy is about to be narrowed.
struct Meanwhile {
    cluster: Arc<dyn Cluster>,
    others: Arc<dyn Cluster>,
    /// The pod whose creation is not told has been told of since.
    is_told: Arc<AtomicBool>,
    /// The cohort of every pod there was when the policy was narrowed, each time.
    seen: Mutex<Vec<Vec<String>>>,
}

impl Meanwhile {
    async fn cohorts(&self) -> Vec<String> {
        let all = Selection { labels: format!("app={APP}"), ..Selection::of("v1", "pods") };
        let pods = self.others.select(&all).await.expect("pods").objects;
        pods.iter().map(|pod| cohort(pod)).collect()
    }
}

fn cohort(pod: &Value) -> String {
    let labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let ours = labels.into_iter().find(|(key, _)| key.starts_with("meshward.io/"));
    ours.map_or_else(String::new, |(_, value)| value.as_str().unwrap_or_default().to_owned())
}

#[async_trait]
impl Cluster for Meanwhile {
    async fn get(&self, target: &Target) -> Result<Option<Value>, ClusterError> {
        self.cluster.get(target).await
    }
    async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Selection, ClusterError> {
        self.cluster.kind_of(api_version, kind).await
    }
    async fn select(&self, selection: &Selection) -> Result<Selected, ClusterError> {
        self.cluster.select(selection).await
    }
    async fn now(&self, selection: &Selection) -> Result<Vec<Arc<Value>>, ClusterError> {
        self.cluster.now(selection).await
    }
    async fn watch(&self, selection: &Selection, after: &str) -> Result<Changes, ClusterError> {
        let changes = self.cluster.watch(selection, after).await?;
        // What comes after it is told: a watch may be late, but it leaves out nothing in between.
        let is_told = Arc::clone(&self.is_told);
        let is_untold = move |change: &Result<Change, _>| match change {
            Ok(Change::Stored(object)) if object["metadata"]["name"] == UNTOLD => {
                is_told.fetch_or(!cohort(object).is_empty(), Ordering::Relaxed);
                !is_told.load(Ordering::Relaxed)
            }
            _ => false,
        };
        Ok(changes.filter(move |change| ready(!is_untold(change))).boxed())
    }
    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ClusterError> {
        self.cluster.create(target, object).await
    }
    async fn apply(&self, target: &Target, object: &Value, mode: Mode) -> Result<Written, ClusterError> {
        let labels = &object["spec"]["selector"]["matchLabels"];
        let is_narrowed = labels.as_object().is_some_and(|labels| labels.values().any(|value| value == "stable"));
        if is_narrowed {
            let cohorts = self.cohorts().await;
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(cohorts);
            let pod = pod(MEANWHILE);
            self.others.create(&target_of(&pod), &pod).await.expect("a pod comes");
        }
        self.cluster.apply(target, object, mode).await
    }
    async fn patch(&self, target: &Target, operations: &Value) -> Result<Value, ClusterError> {
        self.cluster.patch(target, operations).await
    }
    async fn delete(&self, target: &Target, uid: &str, resource_version: &str) -> Result<(), ClusterError> {
        self.cluster.delete(target, uid, resource_version).await
    }
    async fn version(&self) -> Result<String, ClusterError> {
        self.cluster.version().await
    }
}

pub async fn every_pod_that_is_older_than_the_narrowing_is_labelled(backend: &dyn Backend) {
    let others = backend.by_others();
    for name in ["between-0", "between-1"] {
        backend.apply_as("kubectl", &pod(name)).await;
    }
    backend.apply_as("kubectl", &policy("/old")).await;
    let cluster = Arc::new(Meanwhile {
        cluster: backend.cluster(),
        others: Arc::clone(&others),
        is_told: Arc::default(),
        seen: Mutex::default(),
    });
    let clusters = Clusters::new("");
    clusters.put(Member::new("", Arc::clone(&cluster) as _, Arc::new(Silent)));
    let gateway = Gateway::new(Arc::new(clusters), Arc::new(SystemClock));
    let (target, half) = (target_of(&policy("")), Weight::from_basis_points(5000).expect("a weight"));
    let planned = gateway.plan(&target, &policy("/new"), &[half], Some(Mechanism::Instance)).await;
    let baseline = planned.expect("a plan").1;
    let at = |generation, weight| intent(&target, &baseline, generation, weight);

    gateway.expose(&at(1, half), 0).await.expect("the pods are stable");
    backend.apply_as("kubectl", &pod(UNTOLD)).await;
    let outcome = gateway.expose(&at(1, half), 1).await.expect("the policy is narrowed");
    assert_eq!(*cluster.seen.lock().expect("nobody panicked"), [["stable"; 3]], "{}: before it", backend.name());
    assert_eq!(cluster.cohorts().await, ["stable"; 4], "{}: when the call returns", backend.name());
    assert_eq!(outcome.pods_moved, 2, "{}", backend.name());
    let again = gateway.expose(&at(1, half), 1).await.expect("once more");
    assert_eq!((again.writes, again.pods_moved), (0, 0), "{}", backend.name());

    gateway.restore(&at(2, Weight::ZERO), 9).await.expect("it is restored");
    assert_eq!(cluster.cohorts().await, [""; 4], "{}: at the end", backend.name());
    let late = gateway.expose(&at(1, half), 1).await;
    assert!(late.is_err(), "{}: {late:?}", backend.name());
    assert_eq!(cluster.cohorts().await, [""; 4], "{}: a late writer labels nobody", backend.name());
    for object in ["between-0", "between-1", UNTOLD, MEANWHILE].map(pod).into_iter().chain([policy("")]) {
        let target = target_of(&object);
        let live = others.get(&target).await.expect("an answer").expect("it is there");
        let (uid, version) = (object::uid(&live), object::resource_version(&live));
        others.delete(&target, uid, version).await.expect("it is deleted");
    }
}

fn intent(target: &Target, baseline: &Baseline, generation: u64, weight: Weight) -> ExposureIntent {
    ExposureIntent {
        deployment_id: "between".to_owned(),
        generation,
        target: target.clone(),
        baseline: baseline.clone(),
        canary: policy("/new"),
        mechanism: Mechanism::Instance,
        weight,
    }
}
