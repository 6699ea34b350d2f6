//! A cluster on a bad line.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt as _, future::BoxFuture, stream};
use meshward_mesh_gateway::cluster::{Changes, Cluster, ClusterError, Mode, Selected, Selection, Written};
use meshward_model::Target;
use serde_json::Value;

/// A cluster that does the n-th write, and loses the answer.
pub struct Losing {
    pub cluster: Arc<dyn Cluster>,
    pub writes: AtomicUsize,
    pub lost: usize,
    /// Its watches of pods tell nothing.
    pub is_deaf: bool,
    /// How often pods were listed.
    pub pods_listed: AtomicUsize,
    /// What happens right before the first object is made.
    pub meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Losing {
    pub fn new(cluster: Arc<dyn Cluster>, lost: usize) -> Self {
        let (writes, pods_listed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { cluster, writes, lost, is_deaf: false, pods_listed, meanwhile: Mutex::default() }
    }

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
        self.pods_listed.fetch_add(usize::from(selection.plural == "pods"), Ordering::Relaxed);
        self.cluster.select(selection).await
    }
    async fn watch(&self, selection: &Selection, after: &str) -> Result<Changes, ClusterError> {
        if self.is_deaf && selection.plural == "pods" {
            return Ok(stream::pending().boxed());
        }
        self.cluster.watch(selection, after).await
    }
    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ClusterError> {
        let meanwhile = self.meanwhile.lock().expect("nobody panicked").take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        self.after(self.cluster.create(target, object).await)
    }
    async fn apply(&self, target: &Target, object: &Value, mode: Mode) -> Result<Written, ClusterError> {
        let answer = self.cluster.apply(target, object, mode).await;
        if mode == Mode::DryRun { answer } else { self.after(answer) }
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
