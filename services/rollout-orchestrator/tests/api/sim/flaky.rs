//! The real store, reached over a connection that can break, by a process that can die.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use meshward_model::Target;
use meshward_rollout_orchestrator::{
    deployment::{Deployment, Event},
    store::{Created, Lease, Repeat, Store, StoreError},
};

use crate::world::{Call, World};

pub struct FlakyStore {
    store: Arc<dyn Store>,
    world: World,
}

impl FlakyStore {
    pub fn new(store: Arc<dyn Store>, world: World) -> Self {
        Self { store, world }
    }

    async fn call<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let lost = || Err(StoreError::unavailable("the connection broke"));
        let fault = self.world.throw(call);
        if self.world.befalls(fault, false).await {
            return lost();
        }
        let answer = work.await;
        if self.world.befalls(fault, true).await { lost() } else { answer }
    }
}

#[async_trait]
impl Store for FlakyStore {
    async fn recall(&self, repeat: &Repeat, now: Timestamp) -> Result<Option<Created>, StoreError> {
        self.store.recall(repeat, now).await
    }

    async fn active_on(&self, target: &Target) -> Result<Option<String>, StoreError> {
        self.store.active_on(target).await
    }

    async fn create(&self, deployment: &Deployment, events: &[Event], repeat: &Repeat) -> Result<Created, StoreError> {
        self.store.create(deployment, events, repeat).await
    }

    async fn get(&self, id: &str) -> Result<Option<Deployment>, StoreError> {
        self.store.get(id).await
    }

    async fn list(&self, policy_id: &str, before: &str, limit: u32) -> Result<Vec<Deployment>, StoreError> {
        self.store.list(policy_id, before, limit).await
    }

    async fn changed_since(&self, time: Timestamp) -> Result<Vec<Deployment>, StoreError> {
        self.store.changed_since(time).await
    }

    async fn events(&self, id: &str, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.store.events(id, after, limit).await
    }

    async fn claim(&self, lease: &Lease<'_>, now: Timestamp) -> Result<Option<Deployment>, StoreError> {
        self.call(Call::Claim, self.store.claim(lease, now)).await
    }

    async fn commit(
        &self,
        deployment: &Deployment,
        events: &[Event],
        wake_at: Option<Timestamp>,
    ) -> Result<Deployment, StoreError> {
        self.call(Call::Commit, self.store.commit(deployment, events, wake_at)).await
    }

    async fn wake(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        self.store.wake(id, now).await
    }

    async fn release_all(&self, owner: &str) -> Result<(), StoreError> {
        self.store.release_all(owner).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.store.next_due().await
    }
}
