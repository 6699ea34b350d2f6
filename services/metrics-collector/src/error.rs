//! What can go wrong, by what a caller can do about it, and the one place where that becomes a status.

use std::time::Duration;

use meshward_chassis::problem::Problem;
use meshward_proto::types::v1::ErrorReason;

use crate::{
    queries::{QueryError, templates::InvalidTemplates},
    source::{SourceError, clusters::UnknownCluster},
};

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target cannot be asked for.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Templates that the caller brings cannot be used.
    #[error(transparent)]
    Templates(#[from] InvalidTemplates),
    /// No source knows the target's cluster.
    #[error(transparent)]
    Cluster(#[from] UnknownCluster),
    /// More ticks than one analysis goes through.
    #[error("{ticks} ticks between start_time and end_time, at most 5000 are judged")]
    TooManyTicks {
        /// How many there would be.
        ticks: usize,
        /// The shortest tick that would do.
        needed: Duration,
    },
    /// The metrics source failed. An analysis turns this into a verdict.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(QueryError::Target { field, problem }) => {
                Self::invalid_argument(format!("target.{field}"), problem)
            }
            Error::Query(unsupported @ QueryError::Unsupported { .. }) => Self::unimplemented(&unsupported.to_string()),
            Error::Query(filled @ QueryError::Filled { .. }) => Self::invalid_argument("target", filled.to_string()),
            Error::Templates(InvalidTemplates::Form(problem)) => Self::invalid_argument("templates", problem),
            Error::Templates(InvalidTemplates::Query { index, key, error }) => {
                Self::invalid_argument(format!("templates[{index}].{key}"), error.to_string())
            }
            Error::Cluster(unknown) => Self::invalid_argument("target.cluster", unknown.to_string()),
            Error::TooManyTicks { needed, .. } => {
                let mend = format!("{error}; use a tick of {:.3} s or more", needed.as_secs_f64());
                Self::invalid_argument("tick", mend)
            }
            Error::Source(error) => {
                let problem = Self::unavailable(ErrorReason::PeerUnavailable, error.to_string());
                if error.is_transient() { problem.retry_after(Duration::from_secs(5)) } else { problem }
            }
        }
    }
}
