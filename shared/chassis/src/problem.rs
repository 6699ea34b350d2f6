//! Errors that a caller can act on: a gRPC status with `google.rpc` details.
//!
//! Every problem carries an `ErrorInfo` whose reason is a value of the proto enum `ErrorReason`, so that programs
//! branch on names that the contract guards and people read the message. A service maps its own error enum to a
//! [`Problem`] in one place. INTERNAL is special: the cause goes to the log, the client learns only that it is our
//! fault.

use std::{collections::HashMap, error::Error, time::Duration};

use meshward_proto::types::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every ErrorInfo.
pub const DOMAIN: &str = "meshward";

/// An error on its way to the caller. Build it with [`Problem::new`] or a shortcut, then convert it into a
/// [`tonic::Status`].
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    // Boxed, so that a Result<_, Problem> stays small.
    details: Box<ErrorDetails>,
}

impl Problem {
    /// A problem with this status code, machine-readable reason and one sentence for people.
    pub fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), metadata: HashMap::new(), details: Box::new(ErrorDetails::new()) }
    }

    /// INVALID_ARGUMENT because of one field (`canary.yaml`); `description` says what is wrong with it. More fields can
    /// follow with [`Problem::field`].
    pub fn invalid_argument(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let message = format!("{field}: {description}");
        Self::new(Code::InvalidArgument, ErrorReason::FieldInvalid, message).field(field, description)
    }

    /// NOT_FOUND with a ResourceInfo.
    pub fn not_found(resource_type: &str, name: &str) -> Self {
        let message = format!("{resource_type} {name:?} does not exist");
        Self::new(Code::NotFound, ErrorReason::ResourceNotFound, message).resource(resource_type, name)
    }

    /// ALREADY_EXISTS with a ResourceInfo.
    pub fn already_exists(resource_type: &str, name: &str) -> Self {
        let message = format!("{resource_type} {name:?} exists already");
        Self::new(Code::AlreadyExists, ErrorReason::ResourceExists, message).resource(resource_type, name)
    }

    /// FAILED_PRECONDITION: the system's state must change before a retry makes sense. Add each missing thing with
    /// [`Problem::violation`].
    pub fn failed_precondition(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, reason, message)
    }

    /// ABORTED: somebody else wrote in between; read again and repeat.
    pub fn aborted(message: impl Into<String>) -> Self {
        Self::new(Code::Aborted, ErrorReason::EtagMismatch, message)
    }

    /// UNAUTHENTICATED: who the caller is could not be shown.
    pub fn unauthenticated(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, reason, message)
    }

    /// PERMISSION_DENIED: the caller is known and may not do this.
    pub fn permission_denied(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, reason, message)
    }

    /// UNAVAILABLE: a dependency does not answer; the same call may work later.
    pub fn unavailable(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, reason, message)
    }

    /// UNIMPLEMENTED: `what` is part of the contract and not built yet.
    pub fn unimplemented(what: &str) -> Self {
        Self::new(Code::Unimplemented, ErrorReason::NotImplemented, format!("{what} is not implemented yet"))
    }

    /// INTERNAL. The cause and its sources are logged here, and nothing of them reaches the client.
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "internal error");
        Self::new(Code::Internal, ErrorReason::Internal, "internal error; the service's log has the cause")
    }

    /// Adds a BadRequest violation: field path as in the request, and what is wrong, with line and column for texts.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, description: impl Into<String>) -> Self {
        self.details.add_bad_request_violation(path, description);
        self
    }

    /// Adds a key and value to the ErrorInfo.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds a PreconditionFailure violation: its type (`APPROVAL`), the subject and what is missing.
    #[must_use]
    pub fn violation(
        mut self,
        kind: impl Into<String>,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.details.add_precondition_failure_violation(kind, subject, description);
        self
    }

    /// Names the resource that the problem is about.
    #[must_use]
    pub fn resource(mut self, resource_type: impl Into<String>, name: impl Into<String>) -> Self {
        self.details.set_resource_info(resource_type, name, "", self.message.clone());
        self
    }

    /// Says how long to wait before the call is worth repeating.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self
    }

    /// The status code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", reason_name(self.reason), self.message)
    }
}

impl Error for Problem {}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let Problem { code, reason, message, metadata, mut details } = problem;
        details.set_error_info(reason_name(reason), DOMAIN, metadata);
        Status::with_error_details(code, message, *details)
    }
}

/// The reason as it stands in an ErrorInfo: the enum value's name without its prefix, e.g. `STALE_GENERATION`.
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The reason of a status that came back from a peer, if it is one of ours.
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_details_error_info()?;
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason)).filter(|_| info.domain == DOMAIN)
}

/// An error and its sources on one line, outermost first.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_detail_arrives() {
        let problem = Problem::failed_precondition(ErrorReason::VersionNotApproved, "version 3 is not approved")
            .violation("APPROVAL", "policy/p", "one approval is missing")
            .resource("policy", "p")
            .metadata("version", "3")
            .retry_after(Duration::from_secs(2));
        let status = Status::from(problem);
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("VERSION_NOT_APPROVED", "meshward"));
        assert_eq!(info.metadata["version"], "3");
        assert_eq!(details.precondition_failure().expect("a failure").violations[0].subject, "policy/p");
        assert_eq!(details.resource_info().expect("a resource").resource_name, "p");
        assert_eq!(details.retry_info().expect("a delay").retry_delay, Some(Duration::from_secs(2)));
        assert_eq!(reason_of(&status), Some(ErrorReason::VersionNotApproved));
    }

    #[test]
    fn fields_add_up() {
        let problem =
            Problem::invalid_argument("canary.yaml", "line 3, column 5: expected a key").field("name", "too long");
        let status = Status::from(problem);
        let violations = status.get_error_details().bad_request().expect("a BadRequest").field_violations.clone();
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["canary.yaml", "name"]);
    }

    #[test]
    fn internal_errors_tell_the_client_nothing() {
        let cause = std::io::Error::other(std::io::Error::other("password in a path"));
        let status = Status::from(Problem::internal(&cause));
        assert!(!format!("{status:?}").contains("password"));
        assert_eq!(chain(&ConnectFailed(cause)), "cannot connect: password in a path");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct ConnectFailed(#[source] std::io::Error);
}
