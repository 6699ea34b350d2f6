//! What is kept, as a port: reads, and one way to write.
//!
//! Use cases read a policy with a version, decide with pure code what shall become of them, and [`Store::commit`] the
//! whole [`Change`] (rows, audit events, answer for repeats) in one transaction. The policy's revision is compared and
//! set, so a decision on stale facts is never stored: it fails with [`StoreError::Conflict`] and is made again.

pub mod sql;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use meshward_store::{Earlier, Repeat, StoreError};

use crate::{
    audit::{Event, Sealed},
    policy::{DeploymentRecord, Effective, Policy, Version},
};

/// Which namespaces a reader may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every one.
    All,
    /// These.
    Only(BTreeSet<String>),
}

/// What is written together.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The policy as it shall be, with the revision that it shall have.
    pub policy: Policy,
    /// What is done with the row of the policy.
    pub write: Write,
    /// New and changed versions. A new one has the next number; of a known one, state, reason, findings and approvals
    /// are written, never the content. The order counts: what gives up the ACTIVE state goes first.
    pub versions: Vec<Version>,
    /// An outcome that was told.
    pub record: Option<DeploymentRecord>,
    /// What the trail shall say, in order. At least one.
    pub events: Vec<Event>,
}

/// What is done with the row of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It is new.
    Create,
    /// It is there, with the revision before this one.
    Update,
    /// It is there, with this revision, and goes with all its versions.
    Delete,
}

/// Rows of a page, and whether there are more.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// More rows follow.
    pub more: bool,
}

/// Policies, versions, audit trail. Every method is one transaction.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What was answered to a request before.
    async fn recall(&self, repeat: &Repeat, now: Timestamp) -> Result<Earlier, StoreError>;

    /// Stores a change, and the answer to give to repeats. Anything but [`Earlier::Nothing`] means that the request was
    /// done or its id used in the meantime, and nothing was stored.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the policy's revision is another one, or it is gone; [`StoreError::AlreadyExists`]
    /// if its name, its target or the deployment's record is there already.
    async fn commit(
        &self,
        change: &Change,
        repeat: &Repeat,
        answer: &[u8],
        now: Timestamp,
    ) -> Result<Earlier, StoreError>;

    /// A policy with one of its versions, as of one moment. Number 0 = the newest. `None` if either is missing.
    async fn find(&self, id: &str, version: i64) -> Result<Option<(Policy, Version)>, StoreError>;

    /// The policy that holds the target or the name that another one wants; the target's holder if both are held.
    async fn holder(&self, wanted: &Policy) -> Result<Option<Policy>, StoreError>;

    /// Policies in a scope by id, after one (empty = from the start).
    async fn policies(&self, scope: &Scope, after: &str, limit: u32) -> Result<Page<Policy>, StoreError>;

    /// Versions of a policy, newest first, below a number. A page also ends at about 2 MiB of text.
    async fn versions(&self, id: &str, below: i64, limit: u32) -> Result<Page<Version>, StoreError>;

    /// In a scope and a cluster, of each policy the ACTIVE version and the newest APPROVED one after it; by policy and
    /// number, after one of these. A page also ends at about 2 MiB of text.
    async fn effective(
        &self,
        scope: &Scope,
        cluster: &str,
        after: (&str, i64),
        limit: u32,
    ) -> Result<Page<Effective>, StoreError>;

    /// Audit events in a scope by sequence, after one; of one policy unless `policy_id` is empty.
    async fn events(&self, scope: &Scope, policy_id: &str, after: i64, limit: u32) -> Result<Page<Sealed>, StoreError>;

    /// What was told of a deployment.
    async fn deployment(&self, deployment_id: &str) -> Result<Option<DeploymentRecord>, StoreError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
