//! What can go wrong with a call; never what is wrong with a policy.

use std::time::Duration;

use meshward_chassis::problem::Problem;
use meshward_model::Finding;
use meshward_proto::types::v1::ErrorReason;
use tonic::{Code, Status};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name of the cluster cannot be one.
    #[error("cluster: at most 253 letters, digits, '-', '_' and '.'")]
    InvalidCluster,
    /// A field of the request has too many entries or a value that it cannot have.
    #[error("{field}: {problem}")]
    Request {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No such set of objects is kept for the caller.
    #[error("no such session is kept for you (any more); send the batch again with keep")]
    NoSession,
    /// As many texts as allowed are being validated.
    #[error("as many texts as allowed are being validated")]
    Busy,
    /// The text took too long.
    #[error("the validation did not end within {0:?}")]
    TooSlow(Duration),
    /// The validation panicked, which is a defect.
    #[error("the validation panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// The text of a call that explains it cannot be read: errors of syntax and schema, at least one.
    #[error("the text cannot be read as policies")]
    Unreadable(Vec<Finding>),
    /// mesh-gateway did not answer, or not as it should.
    #[error("mesh-gateway did not answer: {0}")]
    GatewayDown(String),
    /// Observed traffic is asked for, and no metrics-collector is configured.
    #[error("no metrics-collector is configured (--metrics-collector), so no traffic is observed; send edges instead")]
    NoTraffic,
    /// metrics-collector did not answer, or not as it should.
    #[error("metrics-collector did not answer: {0}")]
    TrafficDown(String),
    /// metrics-collector refused the call; its answer goes to the caller as it is.
    #[error("metrics-collector refused: {}", .0.message())]
    PeerRefused(Box<Status>),
    /// mesh-gateway refused the call; its answer goes to the caller as it is.
    #[error("mesh-gateway refused: {}", .0.message())]
    GatewayRefused(Box<Status>),
}

const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Findings that one refusal lists.
const MAX_VIOLATIONS: usize = 16;
/// Longest description of one, in bytes: a status travels in headers, which are small.
const MAX_SENTENCE: usize = 300;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let said = error.to_string();
        match error {
            Error::InvalidCluster => {
                Problem::invalid_argument("cluster", said.trim_start_matches("cluster: ").to_owned()).into()
            }
            Error::Request { field, ref problem } => Problem::invalid_argument(field, problem.clone()).into(),
            Error::NoSession => Problem::new(Code::NotFound, ErrorReason::SessionUnknown, said).into(),
            Error::Busy => {
                Problem::new(Code::ResourceExhausted, ErrorReason::Overloaded, said).retry_after(RETRY_AFTER).into()
            }
            Error::TooSlow(_) => Problem::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, said).into(),
            Error::Panicked(ref cause) => Problem::internal(cause).into(),
            Error::Unreadable(findings) => unreadable(&findings).into(),
            Error::NoTraffic => Problem::failed_precondition(ErrorReason::NotImplemented, said).into(),
            Error::GatewayDown(_) | Error::TrafficDown(_) => {
                Problem::unavailable(ErrorReason::PeerUnavailable, said).retry_after(RETRY_AFTER).into()
            }
            Error::GatewayRefused(status) | Error::PeerRefused(status) => *status,
        }
    }
}

/// INVALID_ARGUMENT with line and column of what keeps the text from being read.
fn unreadable(findings: &[Finding]) -> Problem {
    let sentences: Vec<String> = findings.iter().take(MAX_VIOLATIONS).map(sentence).collect();
    let first = sentences.first().cloned().unwrap_or_default();
    let summary = match findings.len() {
        0 | 1 => first,
        count => format!("{first}; and {} more", count - 1),
    };
    let problem = Problem::new(Code::InvalidArgument, ErrorReason::PolicyInvalid, summary);
    sentences.into_iter().fold(problem, |problem, sentence| problem.field("yaml", sentence))
}

/// "line 3, column 5: MW1009 message".
fn sentence(finding: &Finding) -> String {
    let place = finding.at.map(|at| format!("line {}, column {}: ", at.line, at.column)).unwrap_or_default();
    let mut text = format!("{place}{} {}", finding.id, finding.message);
    if text.len() > MAX_SENTENCE {
        text.truncate(text.floor_char_boundary(MAX_SENTENCE));
        text.push('…');
    }
    text
}
