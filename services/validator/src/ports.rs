//! What the validator asks of others.

pub mod grpc;
pub mod registry;
pub mod traffic;

use std::{fmt, future::Future, sync::Arc};

use futures::future::BoxFuture;
use serde_json::Value;

use crate::error::Error;

/// The caller's token, sent on so that the gateway judges the caller. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(pub String);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// What a cluster says to an object that it is asked to accept without storing it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// It would accept it.
    pub admitted: bool,
    /// Who refused: "schema", "admission", "rbac"; empty if admitted.
    pub refused_by: String,
    /// The refusal in the API server's words.
    pub message: String,
    /// Warnings, also of an admitted object.
    pub warnings: Vec<String>,
}

/// Which objects of a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Empty = the default one.
    pub cluster: &'a str,
    /// E.g. "networking.istio.io/v1".
    pub api_version: &'a str,
    /// E.g. "VirtualService".
    pub kind: &'a str,
    /// `None` = all.
    pub namespace: Option<&'a str>,
    /// Of the page before; empty = the first page.
    pub token: &'a str,
}

/// A page of objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ObjectPage {
    /// Each with apiVersion and kind.
    pub objects: Vec<Value>,
    /// Token of the next page; empty = none.
    pub next: String,
    /// The cluster serves the kind in this version.
    pub served: bool,
}

/// mesh-gateway, as far as the validator needs it.
pub trait Gateway: Send + Sync + 'static {
    /// Asks the API server of a cluster (empty = the default one), its webhooks included, to accept an object (JSON).
    ///
    /// # Errors
    /// [`Error::GatewayDown`] or [`Error::GatewayRefused`]. A refused object is an answer.
    fn dry_run(
        &self,
        cluster: &str,
        object_json: &str,
        bearer: &Bearer,
    ) -> impl Future<Output = Result<Admission, Error>> + Send;

    /// A page of the live objects of a kind.
    ///
    /// # Errors
    /// [`Error::GatewayDown`] or [`Error::GatewayRefused`].
    fn list(&self, wanted: Wanted<'_>, bearer: &Bearer) -> impl Future<Output = Result<ObjectPage, Error>> + Send;
}

/// A version of a policy that the registry holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// What it says.
    pub object: Value,
    /// It is in force; if not, it is approved and takes the place of the one that is, now or later.
    pub is_active: bool,
}

/// A page of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeldPage {
    /// By policy.
    pub versions: Vec<Held>,
    /// Token of the next page; empty = none.
    pub next: String,
}

/// policy-registry, as far as the validator needs it. It calls the validator too, but never to answer this: a question
/// cannot come back to where it was asked.
pub trait Registry: Send + Sync + 'static {
    /// A page of the versions that are in force in a cluster (empty = the default one) or may soon be. The error is a
    /// sentence for the caller: nothing fails for want of them.
    fn effective<'a>(
        &'a self,
        cluster: &'a str,
        token: &'a str,
        bearer: &'a Bearer,
    ) -> BoxFuture<'a, Result<HeldPage, String>>;
}

/// The other services.
#[derive(Clone)]
pub struct Peers<G> {
    /// mesh-gateway.
    pub gateway: G,
    /// policy-registry; `None`: nobody has said where it is.
    pub registry: Option<Arc<dyn Registry>>,
}
