//! What can go wrong, and the one place where it becomes a status.

use meshward_chassis::problem::Problem;
use meshward_model::Finding;
use meshward_proto::types::v1::ErrorReason;
use meshward_store::StoreError;
use tonic::Code;

use crate::{
    lifecycle::IllegalMove,
    policy::{Outcome, errors, sentence},
    ports::PeerError,
};

/// Violations in one status. They travel in an HTTP/2 trailer, in base64, and clients refuse more than 16 KiB of those.
const MAX_VIOLATIONS: usize = 16;
/// Longest sentence of a violation, bytes.
const MAX_SENTENCE: usize = 300;

/// Why a call was refused, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller may not do this.
    #[error("{0}")]
    Denied(Problem),
    /// Request fields that are missing or malformed: path and what is wrong, at least one.
    #[error("request fields are wrong")]
    Fields(Vec<(&'static str, String)>),
    /// The text, or the object in it, is too long.
    #[error("the {what} has {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Text, with the place where it becomes too long, or object.
        what: String,
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// The text that was sent has ERROR findings.
    #[error("the policy is not valid")]
    TextInvalid(Vec<Finding>),
    /// The stored version has ERROR findings, so it cannot be submitted.
    #[error("the version is not valid")]
    VersionInvalid {
        /// "policies/…/versions/1".
        version: String,
        /// What was found.
        findings: Vec<Finding>,
    },
    /// There is none, or the caller may not see it.
    #[error("policy {0:?} does not exist")]
    NoPolicy(String),
    /// The policy has no such version.
    #[error("version {0:?} does not exist")]
    NoVersion(String),
    /// The name is taken in the namespace.
    #[error("policy {0:?} exists already")]
    NameTaken(String),
    /// Another policy governs the object.
    #[error("a policy for {0} exists already")]
    TargetTaken(String),
    /// Somebody else changed the policy.
    #[error("the policy was changed since it was read: read it again, look at the change and repeat")]
    EtagMismatch,
    /// The request id belongs to another request.
    #[error("this request_id was used for another request; make a new one for each request")]
    RequestIdReused,
    /// The approver is the author.
    #[error("{0} wrote this version; somebody else has to approve it")]
    SelfApproval(String),
    /// The version's state does not allow it.
    #[error("{source}")]
    State {
        /// "policies/…/versions/1".
        version: String,
        /// What would be allowed.
        source: IllegalMove,
    },
    /// A policy with an active version cannot be deleted.
    #[error("version {active} is active; the policy can be deleted once the mesh does not enforce it any more")]
    StillActive {
        /// Which policy.
        id: String,
        /// Its active version.
        active: i64,
    },
    /// Another outcome was told of the same deployment.
    #[error("deployment {deployment_id} was recorded as {recorded} of {version} already")]
    OutcomeContradicts {
        /// Which deployment.
        deployment_id: String,
        /// What it was recorded as.
        recorded: &'static str,
        /// Of which version: "policies/…/versions/1".
        version: String,
    },
    /// The validator gave no report.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// One wrong field.
    pub fn field(path: &'static str, what: impl Into<String>) -> Self {
        Self::Fields(vec![(path, what.into())])
    }

    /// A deployment that was recorded otherwise.
    pub fn contradicts(deployment_id: &str, recorded: Outcome, version: String) -> Self {
        Self::OutcomeContradicts { deployment_id: deployment_id.to_owned(), recorded: recorded.name(), version }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Denied(problem)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let precondition = |reason| Self::failed_precondition(reason, message.clone());
        match error {
            Error::Denied(problem) | Error::Peer(PeerError::Refused(problem)) => problem,
            Error::Fields(fields) => of_fields(fields),
            Error::TooLarge { .. } => {
                Self::new(Code::InvalidArgument, ErrorReason::TooLarge, message.clone()).field("yaml", message)
            }
            Error::TextInvalid(findings) => of_text(&findings),
            Error::VersionInvalid { version, findings } => of_version(&version, &findings),
            Error::NoPolicy(id) => Self::not_found("policy", &id),
            Error::NoVersion(name) => Self::not_found("version", &name),
            Error::NameTaken(name) => Self::already_exists("policy", &name),
            Error::TargetTaken(target) => {
                Self::new(Code::AlreadyExists, ErrorReason::ResourceExists, message).resource("target", target)
            }
            Error::EtagMismatch => Self::aborted(message),
            Error::RequestIdReused => Self::new(Code::AlreadyExists, ErrorReason::RequestIdReused, message),
            Error::SelfApproval(_) => Self::permission_denied(ErrorReason::SelfApproval, message),
            Error::State { version, source } => precondition(ErrorReason::StateInvalid)
                .metadata("state", source.from.name())
                .violation("STATE", version, message),
            Error::StillActive { id, .. } => {
                precondition(ErrorReason::StateInvalid).violation("STATE", format!("policies/{id}"), message)
            }
            Error::OutcomeContradicts { deployment_id, recorded, .. } => precondition(ErrorReason::StateInvalid)
                .metadata("outcome", recorded)
                .violation("OUTCOME", format!("deployments/{deployment_id}"), message),
            Error::Peer(PeerError::Unavailable { .. }) => Self::unavailable(ErrorReason::PeerUnavailable, message),
            Error::Peer(broken @ PeerError::Broken { .. }) => Self::internal(&broken),
            Error::Store(error) => of_store(&error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}

fn of_fields(fields: Vec<(&'static str, String)>) -> Problem {
    let message = fields.iter().map(|(path, what)| format!("{path}: {what}")).collect::<Vec<_>>().join("; ");
    let problem = Problem::new(Code::InvalidArgument, ErrorReason::FieldInvalid, message);
    fields.into_iter().fold(problem, |problem, (path, what)| problem.field(path, what))
}

fn of_text(findings: &[Finding]) -> Problem {
    let problem = Problem::new(Code::InvalidArgument, ErrorReason::PolicyInvalid, summary(findings));
    blocking(findings).fold(problem, |problem, finding| problem.field("yaml", finding))
}

fn of_version(version: &str, findings: &[Finding]) -> Problem {
    let problem = Problem::failed_precondition(ErrorReason::PolicyInvalid, summary(findings));
    blocking(findings).fold(problem, |problem, finding| problem.violation("FINDING", version, finding))
}

fn summary(findings: &[Finding]) -> String {
    let first = blocking(findings).next().unwrap_or_default();
    match errors(findings).count() {
        0 | 1 => first,
        count => format!("{first}; and {} more", count - 1),
    }
}

fn blocking(findings: &[Finding]) -> impl Iterator<Item = String> {
    errors(findings).take(MAX_VIOLATIONS).map(|finding| shorten(&sentence(finding)))
}

fn shorten(text: &str) -> String {
    if text.len() <= MAX_SENTENCE {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_SENTENCE)])
}

fn of_store(error: &StoreError) -> Problem {
    match error {
        StoreError::Conflict => Problem::aborted(Error::EtagMismatch.to_string()),
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the database is not available");
            Problem::unavailable(ErrorReason::StoreUnavailable, error.to_string())
        }
        // The use cases ask for what may be missing or taken; what is left is a defect.
        StoreError::NotFound | StoreError::AlreadyExists { .. } | StoreError::Corrupt(_) => Problem::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use meshward_model::{Confidence, ObjectRef, Severity};

    use super::*;

    #[test]
    fn many_long_findings_fit_into_a_trailer() {
        let finding = Finding {
            id: "MW2001".into(),
            slug: String::new(),
            aliases: vec![],
            severity: Severity::Error,
            confidence: Confidence::Definite,
            object: ObjectRef::default(),
            path: String::new(),
            at: None,
            message: "ü".repeat(5000),
            suggestion: String::new(),
            details: Box::default(),
        };
        let findings = vec![finding; 1000];
        for error in [
            Error::TextInvalid(findings.clone()),
            Error::VersionInvalid { version: "policies/p/versions/1".into(), findings },
        ] {
            let headers = tonic::Status::from(error).into_http::<()>().into_parts().0.headers;
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!((4_000..12_000).contains(&bytes), "{bytes}");
        }
    }
}
