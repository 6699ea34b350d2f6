//! Calls to the other services: channels that carry the trace, deadlines, and tokens.
//!
//! A [`PeerChannel`] connects when it is first used and reconnects by itself. Interactive calls forward the caller's
//! token ([`forward_bearer`]), so the peer judges the person; background work uses the service's own
//! ([`ServiceToken`]).

mod channel;
mod token;

use std::time::{Duration, Instant};

use tonic::{Request, metadata::MetadataValue};

use crate::problem::Problem;

pub use channel::{EndpointError, PeerChannel, connect_lazy};
pub use token::{ServiceToken, ServiceTokenArgs};

tokio::task_local! {
    /// When the incoming request that this task works on must be answered.
    pub(crate) static DEADLINE: Instant;
}

/// Gives a call a deadline: `at_most`, or what is left of the incoming request's if that is less.
pub fn with_deadline<T>(mut request: Request<T>, at_most: Duration) -> Request<T> {
    let left = DEADLINE.try_with(|at| at.saturating_duration_since(Instant::now())).unwrap_or(Duration::MAX);
    request.set_timeout(at_most.min(left));
    request
}

/// Sends `token` along.
///
/// # Errors
/// INTERNAL if the token has characters that no header can carry.
pub fn bearer<T>(request: &mut Request<T>, token: &str) -> Result<(), Problem> {
    let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|error| Problem::internal(&error))?;
    value.set_sensitive(true);
    request.metadata_mut().insert("authorization", value);
    Ok(())
}

/// Sends the caller's own token along, so that the peer judges the caller and not us.
pub fn forward_bearer<A, B>(from: &Request<A>, to: &mut Request<B>) {
    if let Some(value) = from.metadata().get("authorization") {
        let mut value = value.clone();
        value.set_sensitive(true);
        to.metadata_mut().insert("authorization", value);
    }
}
