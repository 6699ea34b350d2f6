//! Tells watchers that something was stored. What it was, they read from the store themselves, from where they are: so
//! a slow watcher misses nothing and holds nobody up, and there is no queue that could fill.

use std::sync::Arc;

use tokio::sync::watch;

/// Where commits are announced. Clones share the watchers.
#[derive(Debug, Clone)]
pub struct News(Arc<watch::Sender<()>>);

/// One watcher's ear.
#[derive(Debug)]
pub struct Subscription(watch::Receiver<()>);

impl Default for News {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

impl News {
    /// Something was stored.
    pub fn publish(&self) {
        self.0.send_replace(());
    }

    /// Listens from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

impl Subscription {
    /// What was announced so far is about to be read.
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Ends when something was announced since [`Subscription::mark_seen`]; never, if nobody can announce any more.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
