//! What can go wrong in this service, by what a caller can do about it, and how it is told.

use meshward_chassis::problem::Problem;
use meshward_proto::types::v1::ErrorReason;
use meshward_store::StoreError;
use tonic::Code;

use crate::{decide::Illegal, peers::PeerError, strategy::Violation};

/// A use case that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such deployment.
    #[error("deployment {0:?} does not exist")]
    NotFound(String),
    /// The deployment has no such verdict.
    #[error("no such verdict of deployment {deployment:?} is kept; {kept} others are")]
    VerdictNotKept {
        /// Of which.
        deployment: String,
        /// How many are.
        kept: usize,
    },
    /// Fields of the request are wrong.
    #[error("the strategy cannot be run")]
    InvalidStrategy(Vec<Violation>),
    /// The version may not be deployed now.
    #[error("version {version} may not be deployed")]
    NotDeployable {
        /// Which.
        version: i64,
        /// What is missing.
        obstacles: Vec<String>,
    },
    /// The validator has errors at the moment of deployment.
    #[error("version {version} is not valid on the cluster as it is now")]
    Invalid {
        /// Which.
        version: i64,
        /// Findings, one line each.
        findings: Vec<String>,
    },
    /// Another deployment is active on the target.
    #[error("deployment {active} is active on {target}; wait for its end, roll it back or abort it")]
    TargetBusy {
        /// The active one.
        active: String,
        /// The object.
        target: String,
    },
    /// The request id was used for something else.
    #[error("request_id was used for another request; make a new one")]
    RequestIdReused,
    /// The etag is not the current one.
    #[error("the deployment has changed; read it again and repeat")]
    EtagMismatch,
    /// The state does not allow the command.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The caller may not.
    #[error(transparent)]
    Denied(Problem),
    /// Another service said no, or nothing.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let precondition = |reason| Self::new(Code::FailedPrecondition, reason, message.clone());
        match error {
            Error::NotFound(id) => Self::not_found("deployment", &id),
            Error::VerdictNotKept { deployment, .. } => {
                Self::new(Code::NotFound, ErrorReason::ResourceNotFound, message).resource("deployment", &deployment)
            }
            Error::InvalidStrategy(violations) => {
                let text =
                    violations.iter().map(|v| format!("strategy.{}: {}", v.field, v.problem)).collect::<Vec<_>>();
                let problem = Self::new(Code::InvalidArgument, ErrorReason::FieldInvalid, text.join("; "));
                violations
                    .into_iter()
                    .fold(problem, |problem, v| problem.field(format!("strategy.{}", v.field), v.problem))
            }
            Error::NotDeployable { version, obstacles } => {
                let message = format!("{message}: {}", obstacles.join("; "));
                let problem = Self::new(Code::FailedPrecondition, ErrorReason::VersionNotApproved, message);
                let subject = format!("version {version}");
                obstacles.into_iter().fold(problem, |problem, missing| problem.violation("APPROVAL", &subject, missing))
            }
            Error::Invalid { version, findings } => {
                let problem = precondition(ErrorReason::PolicyInvalid);
                let subject = format!("version {version}");
                findings
                    .into_iter()
                    .fold(problem, |problem, finding| problem.violation("VALIDATION", &subject, finding))
            }
            Error::TargetBusy { active, target } => precondition(ErrorReason::TargetBusy)
                .metadata("deployment", &active)
                .violation("ACTIVE_DEPLOYMENT", target, format!("deployment {active} has not ended")),
            Error::RequestIdReused => Self::new(Code::AlreadyExists, ErrorReason::RequestIdReused, message),
            Error::EtagMismatch => Self::aborted(message),
            Error::Illegal(_) => precondition(ErrorReason::StateInvalid),
            Error::Denied(problem) => problem,
            Error::Peer(error) => error.into(),
            Error::Store(StoreError::Unavailable(cause)) => {
                tracing::warn!(error = %cause, "the database is not available");
                Self::unavailable(ErrorReason::StoreUnavailable, "the database is not available; try again later")
            }
            Error::Store(error) => Self::internal(&error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}
