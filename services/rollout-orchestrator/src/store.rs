//! Where deployments are kept. Each method is one transaction; no driver type gets out.
//!
//! Safety comes from the compare-and-set on `revision` and from the unique active target. The lease only saves work: two workers on one
//! deployment would do the same, and one of them would lose at the commit.

mod sql;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use meshward_model::Target;
pub use meshward_store::{Repeat, StoreError};

use crate::deployment::{Deployment, Event};
pub use sql::{MIGRATIONS, SqlStore};

/// What came of storing a new deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It is stored.
    New,
    /// The same request was answered before with the deployment of this id.
    Repeated(String),
    /// The request id was used for another request.
    RequestIdReused,
    /// The deployment of this id is active on the same target.
    TargetBusy(String),
}

/// Who claims, and until when nobody else may.
#[derive(Clone, Debug)]
pub struct Lease<'a> {
    /// The worker's name; the same one after a restart takes its claims back at once.
    pub owner: &'a str,
    /// For how long.
    pub term: Duration,
}

/// Deployments and their events.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What became of the same request, or of another one under its id; `None` = the id is new.
    async fn recall(&self, repeat: &Repeat, now: Timestamp) -> Result<Option<Created>, StoreError>;

    /// Id of the deployment that is active on a target.
    async fn active_on(&self, target: &Target) -> Result<Option<String>, StoreError>;

    /// Stores a deployment with its first events, due at once. At most one that has not ended per target.
    async fn create(&self, deployment: &Deployment, events: &[Event], repeat: &Repeat) -> Result<Created, StoreError>;

    /// Reads one.
    async fn get(&self, id: &str) -> Result<Option<Deployment>, StoreError>;

    /// Newest first, before the id `before` (empty = from the newest), of one policy (empty = of all).
    async fn list(&self, policy_id: &str, before: &str, limit: u32) -> Result<Vec<Deployment>, StoreError>;

    /// Those that are active, or were changed after a time.
    async fn changed_since(&self, time: Timestamp) -> Result<Vec<Deployment>, StoreError>;

    /// A deployment's events after a sequence, oldest first.
    async fn events(&self, id: &str, after: i64, limit: u32) -> Result<Vec<Event>, StoreError>;

    /// Takes one deployment that is due and that nobody holds. Where the clock went back since that was said, it means nothing, and the
    /// deployment is due.
    async fn claim(&self, lease: &Lease<'_>, now: Timestamp) -> Result<Option<Deployment>, StoreError>;

    /// Replaces a deployment and appends events, if its revision is still `deployment.revision`; gives the claim back. The new revision is
    /// one more. [`StoreError::Conflict`] = somebody else was first: read again and decide again. That one gave the claim back, too; who has
    /// one since then is at work, perhaps under the same name.
    async fn commit(
        &self,
        deployment: &Deployment,
        events: &[Event],
        wake_at: Option<Timestamp>,
    ) -> Result<Deployment, StoreError>;

    /// Makes an active deployment due now. A tick that is under way does not undo it: what it saw may be older than the word.
    async fn wake(&self, id: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Forgets the claims of a worker: it has just been started again.
    async fn release_all(&self, owner: &str) -> Result<(), StoreError>;

    /// When the next deployment is due; `None` = none is active.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;
}
