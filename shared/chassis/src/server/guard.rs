//! Layers that protect the server: panics, deadlines, load.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request, extract::State, middleware::Next, response::Response};
use futures::FutureExt as _;
use http::HeaderMap;
use meshward_proto::types::v1::ErrorReason;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::{auth::is_open, client::DEADLINE, problem::Problem};

/// No call takes longer, whatever the flags say; also keeps sums of instants in range.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const RETRY_AFTER: Duration = Duration::from_secs(1);

fn refuse(problem: Problem) -> Response {
    Status::from(problem).into_http::<Body>()
}

/// Turns a panic of a handler into INTERNAL, so that one bad request does not cut the connection of others.
pub(super) async fn catch_panic(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            refuse(Problem::internal(&Panicked(text)))
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);

/// Ends a call that has no response headers after the shorter of `--request-timeout` and the caller's `grpc-timeout`.
/// What the handler awaits sees the same deadline in [`crate::client::with_deadline`].
pub(super) async fn deadline(State(longest): State<Duration>, request: Request, next: Next) -> Response {
    let limit = asked_for(request.headers()).unwrap_or(LONGEST).min(longest).min(LONGEST);
    let call = DEADLINE.scope(Instant::now() + limit, next.run(request));
    match tokio::time::timeout(limit, call).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("no answer within {limit:?}");
            refuse(Problem::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message))
        }
    }
}

/// The `grpc-timeout` header: at most eight digits and a unit. A malformed one counts as absent.
pub(crate) fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// How many calls run and how many may wait.
#[derive(Debug)]
pub(super) struct Limits {
    admitted: Semaphore,
    running: Semaphore,
}

impl Limits {
    pub(super) fn new(concurrency: usize, queue: usize) -> Self {
        let most = Semaphore::MAX_PERMITS / 2;
        let (concurrency, queue) = (concurrency.min(most), queue.min(most));
        Self { admitted: Semaphore::new(concurrency + queue), running: Semaphore::new(concurrency) }
    }
}

/// Bounds the calls that are worked on until their response headers; open streams are bounded by the connections'
/// stream limit. Probes pass, so that an overloaded server is not restarted.
pub(super) async fn shed_load(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let Ok(_admitted) = limits.admitted.try_acquire() else {
        let problem =
            Problem::new(Code::ResourceExhausted, ErrorReason::Overloaded, "the server is at its limit of calls");
        return refuse(problem.retry_after(RETRY_AFTER));
    };
    let _running = limits.running.acquire().await.expect("the semaphore is never closed");
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read_as_the_protocol_says() {
        let cases = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("50m", Some(Duration::from_millis(50))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1.5S", None),
            ("1x", None),
        ];
        for (text, expected) in cases {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), text.parse().expect("a value"))]);
            assert_eq!(asked_for(&headers), expected, "{text:?}");
        }
    }
}
