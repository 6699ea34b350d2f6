//! The stream of drifts, until its caller's deadline or the end of the server.

use std::{pin::Pin, time::Duration};

use meshward_proto::gateway::v1::WatchDriftResponse;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status;
use crate::drift::{Drift, Drifts};

/// What WatchDrift returns.
pub type Stream = Pin<Box<dyn tokio_stream::Stream<Item = Result<WatchDriftResponse, Status>> + Send>>;

/// As long as a caller without a deadline may listen before it must come again.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Streams drifts for at most `limit`.
pub fn stream(mut drifts: Drifts, limit: Option<Duration>, stop: CancellationToken) -> Stream {
    let (sender, receiver) = mpsc::channel(1);
    let deadline = Instant::now() + limit.unwrap_or(LONGEST).min(LONGEST);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => Err(Status::unavailable("the server is shutting down; watch again")),
                () = tokio::time::sleep_until(deadline) => Err(Status::deadline_exceeded("the time is over; watch again")),
                () = sender.closed() => return,
                drift = drifts.next() => drift.map(message).map_err(status),
            };
            let is_end = next.is_err();
            if sender.send(next).await.is_err() || is_end {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

fn message(drift: Drift) -> WatchDriftResponse {
    let Drift { target, manager, deployment, deleted, resource_version } = drift;
    WatchDriftResponse { target: Some(target.into()), manager, deployment_id: deployment, deleted, resource_version }
}
