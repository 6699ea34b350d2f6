//! What this service needs of others.

pub mod grpc;

use async_trait::async_trait;
use meshward_chassis::problem::Problem;
use meshward_model::{Digest, Finding, Target};

/// Finds what is wrong with a text. Bad text is a report with findings, never an error.
#[async_trait]
pub trait Validator: Send + Sync + 'static {
    /// Syntax, schema and semantic rules, without a cluster.
    async fn validate(&self, text: &Text, caller: &Bearer) -> Result<Report, PeerError>;

    /// The same, then a dry run on the target cluster.
    async fn dry_run(&self, text: &Text, caller: &Bearer) -> Result<Report, PeerError>;

    /// What other objects in the cluster would lack without this one.
    async fn removal(&self, target: &Target, caller: &Bearer) -> Result<Vec<Finding>, PeerError>;
}

/// A text to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// YAML.
    pub yaml: String,
    /// Cluster that it is for; empty = the default one.
    pub cluster: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of their position.
    pub findings: Vec<Finding>,
    /// The objects that could be read, in order.
    pub objects: Vec<CheckedObject>,
}

/// One object of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedObject {
    /// What it is.
    pub target: Target,
    /// Canonical JSON.
    pub canonical_json: String,
    /// Over the canonical JSON.
    pub digest: Digest,
}

/// The caller's token, to be sent on. It shows in no log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bearer(Option<String>);

impl Bearer {
    /// The token of an `authorization: Bearer …` header's value.
    #[must_use]
    pub fn of_header(value: Option<&str>) -> Self {
        Self(value.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim().to_owned()))
    }

    /// The token itself.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(…)" } else { "Bearer(none)" })
    }
}

/// A peer gave no report.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// It did not answer, or failed: the same call may work later.
    #[error("{peer} does not answer: {message}")]
    Unavailable {
        /// Which.
        peer: &'static str,
        /// What the transport or the peer said.
        message: String,
    },
    /// It refused the caller or the request; the caller must know why.
    #[error("{0}")]
    Refused(Problem),
    /// Its answer contradicts itself or the contract.
    #[error("{peer} answered what cannot be: {message}")]
    Broken {
        /// Which.
        peer: &'static str,
        /// What.
        message: String,
    },
}
