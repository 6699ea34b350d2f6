//! A cluster as the gateway needs it: a few calls on objects that are plain JSON.
//!
//! Every write can be fenced by the resourceVersion that the caller has read: an object that carries one is refused
//! with [`ClusterError::Conflict`] if somebody wrote in between. So a write whose answer was lost can be repeated.

mod cached;
mod divisions;
pub mod follow;
mod kube;
mod memory;
mod selector;

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use meshward_model::Target;
use serde_json::Value;

pub use cached::{CacheOptions, Cached};
pub use divisions::{Division, Divisions};
pub use kube::{KubeCluster, KubeOptions, MOST_AT_ONCE};
pub use memory::MemoryCluster;

/// An object as the API server stored it, or would store it, and what it warned of.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The object.
    pub object: Value,
    /// In the API server's words.
    pub warnings: Vec<String>,
}

/// How an object is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For real.
    Store,
    /// Everything but storing it: schema, admission webhooks, rights.
    DryRun,
}

/// Which objects of a kind to list, a page at a time. Also of kinds that no mesh owns, e.g. pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// "v1", "networking.istio.io/v1".
    pub api_version: Cow<'static, str>,
    /// "pods".
    pub plural: Cow<'static, str>,
    /// `None` = the kind has no namespaces.
    pub namespace: Option<String>,
    /// Field selector; empty = any.
    pub fields: String,
    /// Label selector; empty = any.
    pub labels: String,
    /// Most objects of the page; 0 = all.
    pub limit: u32,
    /// [`Selected::next`] of the page before; empty = the first page.
    pub from: String,
    /// Metadata is all that is wanted.
    pub only_metadata: bool,
    /// The resourceVersion of an object of the kind (of one that was just written, say) that the answer must know of.
    /// Empty = a cache may be asked as it is: see [`Cached`] for how far it may be behind.
    pub not_before: String,
    /// Only the API server itself may answer, as of now.
    pub exact: bool,
}

impl Selection {
    /// All objects of a kind in all namespaces.
    pub fn of(api_version: impl Into<Cow<'static, str>>, plural: impl Into<Cow<'static, str>>) -> Self {
        Self { api_version: api_version.into(), plural: plural.into(), ..Self::default() }
    }

    /// The same in one namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }
}

/// One page of a [`Selection`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selected {
    /// The objects, shared with the cache if there is one.
    pub objects: Vec<Arc<Value>>,
    /// Where the next page begins; empty = this is the last one.
    pub next: String,
    /// From here on a watch of the same selection misses nothing.
    pub resource_version: String,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object was made or changed, or entered the selection; as it is now.
    Stored(Value),
    /// The object was removed, or left the selection; as it was last.
    Deleted(Value),
    /// Nothing, up to this resourceVersion.
    Bookmark(String),
}

/// The changes of a [`Selection`], one after the other. Ends when the server ends it; after an error nothing more comes.
pub type Changes = BoxStream<'static, Result<Change, ClusterError>>;

/// Why a cluster did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Somebody wrote in between, or the object exists already: read again.
    #[error("the object was changed in between: {0}")]
    Conflict(String),
    /// The schema refused the object.
    #[error("{0}")]
    Schema(String),
    /// An admission webhook or policy refused the object.
    #[error("{0}")]
    Admission(String),
    /// The cluster does not serve the kind.
    #[error("the cluster does not serve {kind} of {api_version}")]
    KindNotServed {
        /// API group and version.
        api_version: String,
        /// Kind.
        kind: String,
    },
    /// The gateway's own rights do not suffice.
    #[error("the gateway may not {verb} {resource}: {message}")]
    Forbidden {
        /// Kubernetes' verb, e.g. "patch".
        verb: &'static str,
        /// Resource and group, e.g. "virtualservices.networking.istio.io".
        resource: String,
        /// In the API server's words.
        message: String,
    },
    /// What happened since that resourceVersion is not known any more: list again.
    #[error("the cluster has forgotten what happened since then: {0}")]
    Expired(String),
    /// No answer, or only failures, within the time.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
}

/// A cluster.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// The live object; `None` if there is none.
    async fn get(&self, target: &Target) -> Result<Option<Value>, ClusterError>;

    /// All objects of a kind ("v1", "Pod"), of one namespace or of all; shared with the cache, if there is one.
    async fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<Vec<Arc<Value>>, ClusterError> {
        let namespace = namespace.map(str::to_owned);
        let selection = Selection { namespace, ..self.kind_of(api_version, kind).await? };
        Ok(self.select(&selection).await?.objects)
    }

    /// The selection of all objects of a kind ("v1", "Pod") in all namespaces.
    async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Selection, ClusterError>;

    /// Objects of a kind, a page at a time. A kind that is not served has none. A page that begins where no page can is
    /// [`ClusterError::Schema`].
    async fn select(&self, selection: &Selection) -> Result<Selected, ClusterError>;

    /// The objects of a selection as they are now, past every cache; no pages. Without a LIST where the API server can do
    /// that: for what is asked in the course of a deployment, and is mostly nothing.
    async fn now(&self, selection: &Selection) -> Result<Vec<Arc<Value>>, ClusterError> {
        let exact = Selection { exact: true, ..selection.clone() };
        Ok(self.select(&exact).await?.objects)
    }

    /// What happens to the objects of a selection after a resourceVersion ([`Selected::resource_version`], that of an
    /// object, or of a bookmark). Pages and [`Selection::not_before`] have no meaning here. [`ClusterError::Expired`],
    /// here or in the stream, if that version is too old.
    async fn watch(&self, selection: &Selection, after: &str) -> Result<Changes, ClusterError>;

    /// Makes an object; [`ClusterError::Conflict`] if there is one.
    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ClusterError>;

    /// Server-side apply, with force and strict validation. A `metadata.resourceVersion` in the object fences it.
    async fn apply(&self, target: &Target, object: &Value, mode: Mode) -> Result<Written, ClusterError>;

    /// A JSON patch (RFC 6902). Replace `/metadata/resourceVersion` by the one read to fence it.
    async fn patch(&self, target: &Target, operations: &Value) -> Result<Value, ClusterError>;

    /// Removes the object if it still has this uid and resourceVersion. One that is gone already is removed.
    async fn delete(&self, target: &Target, uid: &str, resource_version: &str) -> Result<(), ClusterError>;

    /// What this process itself did to pods, where lists are answered from memory; `None` if each is as of now.
    fn divisions(&self) -> Option<&Divisions> {
        None
    }

    /// The API server's version.
    async fn version(&self) -> Result<String, ClusterError>;
}
