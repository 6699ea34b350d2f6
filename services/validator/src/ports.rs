//! What the validator asks of others.

pub mod grpc;

use std::{fmt, future::Future};

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

/// mesh-gateway, as far as a dry run needs it.
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
}
