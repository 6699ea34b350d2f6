//! What can go wrong, by what a caller can do about it, and the one mapping to a status.

use meshward_chassis::problem::Problem;
use meshward_model::Target;
use meshward_proto::{ConvertError, types::v1::ErrorReason};
use tonic::Code;

use crate::{cluster::ClusterError, clusters::Unknown, dialect::Unsupported};

/// An error of the gateway.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request has no meaning.
    #[error("{0}")]
    Field(#[from] ConvertError),
    /// A newer writer was there, or the object left the deployment.
    #[error("{message}")]
    Stale {
        /// One sentence.
        message: String,
    },
    /// Another deployment has the object.
    #[error("{object} is under the deployment {deployment}")]
    Busy {
        /// The object, for people.
        object: String,
        /// The other deployment.
        deployment: String,
    },
    /// Somebody else changed the object.
    #[error("{message}")]
    Drift {
        /// Their field manager.
        manager: String,
        /// One sentence.
        message: String,
    },
    /// The change cannot be exposed like this.
    #[error("{0}")]
    Unsupported(#[from] Unsupported),
    /// The cluster did not do as asked.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// No cluster of that name.
    #[error("there is no cluster {:?}; known: {}", .0.name, .0.known.join(", "))]
    ClusterUnknown(Unknown),
    /// No such object.
    #[error("{0} does not exist")]
    NotFound(Box<Target>),
    /// No such service.
    #[error("there is no Service {0}")]
    NoService(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let precondition = |reason| Self::failed_precondition(reason, message.clone());
        match error {
            Error::Field(ConvertError { field, problem }) => Self::invalid_argument(field, problem),
            Error::Stale { .. } => precondition(ErrorReason::StaleGeneration),
            Error::Busy { deployment, .. } => precondition(ErrorReason::TargetBusy).metadata("deployment", deployment),
            Error::Drift { manager, .. } => precondition(ErrorReason::Drift).metadata("manager", manager),
            Error::Unsupported(Unsupported { would_work, .. }) => {
                precondition(ErrorReason::ExposureUnsupported).metadata("would_work", would_work)
            }
            Error::ClusterUnknown(Unknown { name, .. }) => {
                Self::new(Code::NotFound, ErrorReason::ClusterUnknown, message).resource("Cluster", name)
            }
            Error::NotFound(target) => Self::not_found(&target.kind, &format!("{}/{}", target.namespace, target.name)),
            Error::NoService(name) => Self::not_found("Service", &name),
            Error::Cluster(error) => cluster_problem(error, message),
        }
    }
}

fn cluster_problem(error: ClusterError, message: String) -> Problem {
    match error {
        ClusterError::Schema(_) => {
            Problem::failed_precondition(ErrorReason::AdmissionDenied, message).metadata("refused_by", "schema")
        }
        ClusterError::Admission(_) => {
            Problem::failed_precondition(ErrorReason::AdmissionDenied, message).metadata("refused_by", "admission")
        }
        ClusterError::KindNotServed { api_version, kind } => {
            Problem::failed_precondition(ErrorReason::KindNotServed, message)
                .metadata("api_version", api_version)
                .metadata("kind", kind)
        }
        ClusterError::Forbidden { verb, resource, .. } => {
            Problem::failed_precondition(ErrorReason::ClusterForbidden, message)
                .metadata("verb", verb)
                .metadata("resource", resource)
        }
        // It was decided again and again, and somebody wrote in between each time.
        ClusterError::Conflict(_) => Problem::aborted(message),
        ClusterError::Expired(_) | ClusterError::Unreachable(_) => {
            Problem::unavailable(ErrorReason::ClusterUnreachable, message)
        }
    }
}
