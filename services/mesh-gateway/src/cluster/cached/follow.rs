//! Filling a cache and following its watch, until nobody asks for it any more.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use futures::StreamExt as _;
use tokio::time::Instant;

use super::{
    super::{Change, Changes, Cluster, ClusterError, Selection},
    Cache, CacheOptions, Caches, State, lock,
    store::Store,
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Keeps one cache.
pub(super) struct Follower {
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) cache: Arc<Cache>,
    pub(super) selection: Selection,
    pub(super) options: CacheOptions,
}

/// Why a watch is not followed any more.
enum End {
    /// The connection ended; go on where it was.
    Broken(String),
    /// What happened since is not known: list again.
    Expired,
    /// Nobody asks.
    Idle,
    /// It will not work for a while.
    Blind(String),
}

/// "pods of shop", for people.
pub(super) fn name(selection: &Selection) -> String {
    let place = selection.namespace.as_ref().map_or_else(String::new, |namespace| format!(" of {namespace}"));
    format!("{} {}{place}", selection.api_version, selection.plural)
}

impl Follower {
    /// Runs until the cache is of no use, then takes it away.
    pub(super) async fn run(self, caches: Weak<Caches>) {
        self.keep().await;
        let Some(caches) = caches.upgrade() else { return };
        let mut caches = lock(&caches);
        if caches.get(&self.selection).is_some_and(|running| Arc::ptr_eq(&running.cache, &self.cache)) {
            caches.remove(&self.selection);
        }
    }

    async fn keep(&self) {
        loop {
            let listed = match self.cluster.select(&self.selection).await {
                Ok(listed) => listed,
                Err(error) => {
                    self.tell(State::Failed(error));
                    return;
                }
            };
            if listed.objects.len() > self.options.most_objects {
                return self.blind(&format!("there are {} objects", listed.objects.len())).await;
            }
            let store = Store::of(&self.selection.plural, listed);
            let version = store.version();
            *self.cache.store.write().unwrap_or_else(PoisonError::into_inner) = store;
            self.tell(State::Live(version));
            match self.follow().await {
                End::Expired | End::Broken(_) => tracing::debug!(kind = name(&self.selection), "listed anew"),
                End::Idle => return tracing::debug!(kind = name(&self.selection), "nobody asks; no longer watched"),
                End::Blind(why) => return self.blind(&why).await,
            }
        }
    }

    /// Follows watches, one after the other, from where the store is.
    async fn follow(&self) -> End {
        let mut pause = FIRST_PAUSE;
        loop {
            let end = match self.cluster.watch(&self.selection, &self.version().to_string()).await {
                Ok(changes) => {
                    self.tell(State::Live(self.version()));
                    self.take(changes, &mut pause).await
                }
                Err(ClusterError::Expired(_)) => End::Expired,
                Err(ClusterError::Unreachable(why)) => End::Broken(why),
                Err(error) => End::Blind(error.to_string()),
            };
            let End::Broken(why) = end else { return end };
            tracing::debug!(kind = name(&self.selection), why, "the watch is opened again");
            self.tell(State::Broken(Instant::now(), self.version()));
            if self.is_idle() {
                return End::Idle;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes in the changes of one watch until it ends.
    async fn take(&self, mut changes: Changes, pause: &mut Duration) -> End {
        let mut look = tokio::time::interval((self.options.idle / 4).max(Duration::from_millis(10)));
        let mut last_heard = Instant::now();
        loop {
            let change = tokio::select! {
                change = tokio::time::timeout_at(last_heard + self.options.quiet, changes.next()) => change,
                _ = look.tick() => {
                    if self.is_idle() {
                        return End::Idle;
                    }
                    continue;
                }
            };
            last_heard = Instant::now();
            let change = match change {
                Ok(Some(Ok(change))) => change,
                Ok(Some(Err(ClusterError::Expired(_)))) => return End::Expired,
                Ok(Some(Err(error))) => return End::Broken(error.to_string()),
                Ok(None) => return End::Broken("it ended".to_owned()),
                Err(_) => return End::Broken("it tells nothing".to_owned()),
            };
            *pause = FIRST_PAUSE;
            if let Some(too_many) = self.store(change) {
                return End::Blind(too_many);
            }
        }
    }

    /// Takes a change in; says why the cache cannot go on, if so.
    fn store(&self, change: Change) -> Option<String> {
        let mut store = self.cache.store.write().unwrap_or_else(PoisonError::into_inner);
        store.take(&self.selection.plural, change);
        let (count, version) = (store.len(), store.version());
        drop(store);
        self.tell(State::Live(version));
        (count > self.options.most_objects).then(|| format!("there are {count} objects"))
    }

    /// Every question is a LIST from now on, for a while.
    async fn blind(&self, why: &str) {
        tracing::warn!(kind = name(&self.selection), why, "cannot be kept in memory; it is listed for each question");
        self.tell(State::Blind);
        *self.cache.store.write().unwrap_or_else(PoisonError::into_inner) = Store::default();
        tokio::time::sleep(self.options.blind).await;
    }

    fn version(&self) -> u64 {
        self.cache.store.read().unwrap_or_else(PoisonError::into_inner).version()
    }

    fn tell(&self, state: State) {
        self.cache.state.send_replace(state);
    }

    fn is_idle(&self) -> bool {
        lock(&self.cache.last_used).elapsed() >= self.options.idle
    }
}
