//! The watch stream: reads events from the store from where the watcher is, then waits for news. A watcher that is slow
//! reads later, from the same place; nothing is queued for it beyond one page.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures::Stream;
use meshward_proto::registry::v1::WatchPoliciesResponse;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{app::App, audit::Sealed, error::Error, news::Subscription, store::Scope};

/// Events that are read at once.
const PAGE: u32 = 100;
/// Without news, the store is asked this often: another replica may have written to the same database.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a watcher gets.
pub(super) type EventStream = Pin<Box<dyn Stream<Item = Result<WatchPoliciesResponse, Status>> + Send>>;

/// One watcher.
pub(super) struct Watcher {
    app: App,
    scope: Scope,
    policy_id: String,
    after: i64,
    ready: VecDeque<Sealed>,
    news: Subscription,
    shutdown: CancellationToken,
}

impl Watcher {
    pub(super) fn new(app: App, scope: Scope, policy_id: String, after: i64, shutdown: CancellationToken) -> Self {
        let news = app.news.subscribe();
        Self { app, scope, policy_id, after, ready: VecDeque::new(), news, shutdown }
    }

    /// Ends when the server shuts down; an error of the store ends it too, and the watcher comes again with its last
    /// sequence.
    pub(super) fn into_stream(self) -> EventStream {
        let stream = futures::stream::try_unfold(self, |mut watcher| async move {
            let next = watcher.next().await.map_err(Status::from)?;
            Ok(next.map(|event| (WatchPoliciesResponse { event: Some(event.into()) }, watcher)))
        });
        Box::pin(stream)
    }

    async fn next(&mut self) -> Result<Option<Sealed>, Error> {
        loop {
            if self.shutdown.is_cancelled() {
                return Ok(None);
            }
            if let Some(event) = self.ready.pop_front() {
                self.after = event.sequence;
                return Ok(Some(event));
            }
            // Before the store is read, or what is stored in between would wait for the next news.
            self.news.mark_seen();
            self.ready = self.app.next_events(&self.scope, &self.policy_id, self.after, PAGE).await?.items.into();
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.news.changed() => {}
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
