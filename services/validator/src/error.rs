//! What can go wrong with a call; never what is wrong with a policy.

use std::time::Duration;

use meshward_chassis::problem::Problem;
use meshward_proto::types::v1::ErrorReason;
use tonic::{Code, Status};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name of the cluster cannot be one.
    #[error("cluster: at most 253 letters, digits, '-', '_' and '.'")]
    InvalidCluster,
    /// As many texts as allowed are being validated.
    #[error("as many texts as allowed are being validated")]
    Busy,
    /// The text took too long.
    #[error("the validation did not end within {0:?}")]
    TooSlow(Duration),
    /// The validation panicked, which is a defect.
    #[error("the validation panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// mesh-gateway did not answer, or not as it should.
    #[error("mesh-gateway did not answer: {0}")]
    GatewayDown(String),
    /// mesh-gateway refused the call; its answer goes to the caller as it is.
    #[error("mesh-gateway refused: {}", .0.message())]
    GatewayRefused(Box<Status>),
}

const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let said = error.to_string();
        match error {
            Error::InvalidCluster => {
                Problem::invalid_argument("cluster", said.trim_start_matches("cluster: ").to_owned()).into()
            }
            Error::Busy => {
                Problem::new(Code::ResourceExhausted, ErrorReason::Overloaded, said).retry_after(RETRY_AFTER).into()
            }
            Error::TooSlow(_) => Problem::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, said).into(),
            Error::Panicked(ref cause) => Problem::internal(cause).into(),
            Error::GatewayDown(_) => {
                Problem::unavailable(ErrorReason::PeerUnavailable, said).retry_after(RETRY_AFTER).into()
            }
            Error::GatewayRefused(status) => *status,
        }
    }
}
