//! The stream of a deployment's events: what is stored, then what comes, until the deployment has ended.

use std::{pin::Pin, time::Duration};

use meshward_proto::rollout::v1::WatchDeploymentResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert;
use crate::{error::Error, worker::Ports};

/// What WatchDeployment returns.
pub type Stream = Pin<Box<dyn futures::Stream<Item = Result<WatchDeploymentResponse, Status>> + Send>>;

/// Events that wait for a slow reader; it then holds back the reading from the store, nothing is lost.
const BUFFER: usize = 16;
const PAGE: u32 = 100;
/// Another replica may have committed.
const LOOK: Duration = Duration::from_secs(1);

/// Streams a deployment's events after a sequence.
pub fn stream(ports: Ports, id: String, after: i64, stop: CancellationToken) -> Stream {
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        let follow = follow(&ports, &id, after, &sender);
        tokio::select! {
            () = stop.cancelled() => {
                // Waits for a slow reader: a stream that ends without an error says that the deployment has ended.
                let status = Status::unavailable("the server is shutting down; watch again after the last sequence");
                let _ = sender.send(Err(status)).await;
            }
            outcome = follow => {
                if let Err(error) = outcome {
                    let _ = sender.send(Err(error.into())).await;
                }
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Sends until the deployment has ended or the reader is gone.
async fn follow(
    ports: &Ports,
    id: &str,
    mut after: i64,
    sender: &mpsc::Sender<Result<WatchDeploymentResponse, Status>>,
) -> Result<(), Error> {
    let mut changes = ports.changes.listen();
    loop {
        changes.mark_unchanged();
        let deployment = ports.store.get(id).await?.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        let events = ports.store.events(id, after, PAGE).await?;
        let more = events.len() == PAGE as usize;
        for event in events {
            after = event.sequence;
            let message = WatchDeploymentResponse {
                event: Some(convert::event(id, &event)),
                deployment: Some(convert::summary(&deployment)),
            };
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        // Read before its events, an ended deployment has no more of them.
        if deployment.ended() && !more {
            return Ok(());
        }
        if !more {
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = sender.closed() => return Ok(()),
            }
        }
    }
}
