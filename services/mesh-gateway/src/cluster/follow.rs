//! A selection as it is and then as it changes, for as long as one likes: one LIST, watches after it, and another LIST
//! only when the cluster has forgotten what happened in between.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use serde_json::Value;
use tokio::time::Instant;

use super::{Change, Changes, Cluster, ClusterError, Selected, Selection};
use crate::object;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A watch that tells nothing for this long is opened anew. The API server sends a bookmark a minute, so the connection
/// has died without a word.
pub const QUIET: Duration = Duration::from_secs(100);

/// Follows one selection.
pub struct Follow {
    cluster: Arc<dyn Cluster>,
    selection: Selection,
    /// What was listed already, and not told yet.
    listed: Option<Selected>,
    quiet: Duration,
    /// What has been told up to now; `None` = nothing.
    place: Option<String>,
    changes: Option<Changes>,
    /// When something was heard of the watch last.
    heard: Instant,
    failures: u32,
    not_before: Instant,
}

/// What following tells.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// These are all objects now, as of this resourceVersion.
    Listed(Vec<Arc<Value>>, String),
    /// The watch is open: from here on nothing is late.
    Watching,
    /// This happened.
    Changed(Change),
}

impl Follow {
    /// Begins with a LIST, at the first [`Follow::next`].
    pub fn new(cluster: Arc<dyn Cluster>, selection: Selection, quiet: Duration) -> Self {
        let now = Instant::now();
        let (listed, place, changes) = (None, None, None);
        Self { cluster, selection, listed, quiet, place, changes, heard: now, failures: 0, not_before: now }
    }

    /// Begins with what is known already of the selection, instead of a LIST.
    #[must_use]
    pub fn after(self, listed: Selected) -> Self {
        Self { listed: Some(listed), ..self }
    }

    /// What is new. Waits for it. A future that is dropped loses nothing. After an error the next call goes on where it
    /// was, after a pause that grows while it fails.
    ///
    /// # Errors
    /// What keeps it from knowing; [`ClusterError::Unreachable`] passes, the others rarely do.
    pub async fn next(&mut self) -> Result<News, ClusterError> {
        tokio::time::sleep_until(self.not_before).await;
        let news = self.try_next().await;
        match &news {
            Ok(News::Changed(_)) => self.failures = 0,
            Ok(_) => {}
            Err(_) => {
                self.failures += 1;
                self.not_before = Instant::now() + pause(self.failures);
            }
        }
        news
    }

    async fn try_next(&mut self) -> Result<News, ClusterError> {
        loop {
            let Some(place) = &self.place else {
                let listed = match self.listed.take() {
                    Some(listed) => listed,
                    None => self.cluster.select(&self.selection).await?,
                };
                self.place = Some(listed.resource_version.clone());
                return Ok(News::Listed(listed.objects, listed.resource_version));
            };
            let Some(changes) = &mut self.changes else {
                match self.cluster.watch(&self.selection, place).await {
                    Ok(changes) => {
                        self.changes = Some(changes);
                        self.heard = Instant::now();
                        return Ok(News::Watching);
                    }
                    Err(ClusterError::Expired(_)) => self.place = None,
                    Err(error) => return Err(error),
                }
                continue;
            };
            let broken = |why: &str| ClusterError::Unreachable(format!("a watch {why}"));
            let error = match tokio::time::timeout_at(self.heard + self.quiet, changes.next()).await {
                Ok(Some(Ok(change))) => {
                    self.heard = Instant::now();
                    self.place = Some(version(&change).to_owned());
                    return Ok(News::Changed(change));
                }
                Ok(Some(Err(error))) => error,
                Ok(None) => broken("ended"),
                Err(_) => broken("tells nothing"),
            };
            self.changes = None;
            match error {
                ClusterError::Expired(_) => self.place = None,
                error => return Err(error),
            }
        }
    }
}

fn version(change: &Change) -> &str {
    match change {
        Change::Stored(object) | Change::Deleted(object) => object::resource_version(object),
        Change::Bookmark(version) => version,
    }
}

fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}
