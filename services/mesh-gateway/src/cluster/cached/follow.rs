//! Filling a cache and keeping it, until nobody asks for it any more.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{
        ClusterError, Selected, Selection,
        follow::{Follow, News},
    },
    Cache, CacheOptions, Caches, State, lock,
    store::Store,
};

/// Keeps one cache.
pub(super) struct Follower {
    pub(super) cache: Arc<Cache>,
    pub(super) selection: Selection,
    pub(super) options: CacheOptions,
}

/// "v1 pods of shop", for people.
pub(super) fn name(selection: &Selection) -> String {
    let place = selection.namespace.as_ref().map_or_else(String::new, |namespace| format!(" of {namespace}"));
    format!("{} {}{place}", selection.api_version, selection.plural)
}

/// Why a cache ends.
enum End {
    /// It could not be filled.
    Failed,
    /// It cannot be kept.
    Blind(String),
}

/// Lets nobody wait for a cache whose task is gone.
struct Ended(Arc<Cache>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            let was_awaited = *state == State::Filling;
            if was_awaited {
                *state = State::Blind;
            }
            was_awaited
        });
    }
}

impl Follower {
    /// Runs until the cache is of no use, then takes it away.
    pub(super) async fn run(self, mut follow: Follow, caches: Weak<Caches>) {
        let _ended = Ended(Arc::clone(&self.cache));
        let pause = (self.options.idle / 4).max(Duration::from_millis(10));
        let mut look = tokio::time::interval_at(Instant::now() + pause, pause);
        loop {
            let news = tokio::select! {
                news = follow.next() => news,
                // What somebody waits for is not idle.
                _ = look.tick(), if *self.cache.state.borrow() != State::Filling => {
                    if self.is_idle() {
                        tracing::debug!(kind = name(&self.selection), "nobody asks; no longer watched");
                        break;
                    }
                    continue;
                }
            };
            let end = match news {
                Ok(news) => self.take(news),
                Err(error) => self.survive(error),
            };
            match end {
                None => {}
                Some(End::Failed) => break,
                Some(End::Blind(why)) => {
                    self.blind(&why).await;
                    break;
                }
            }
        }
        let Some(caches) = caches.upgrade() else { return };
        let mut caches = lock(&caches);
        if caches.get(&self.selection).is_some_and(|running| Arc::ptr_eq(&running.cache, &self.cache)) {
            caches.remove(&self.selection);
        }
    }

    fn take(&self, news: News) -> Option<End> {
        let plural = &self.selection.plural;
        let mut store = self.cache.store.write().unwrap_or_else(PoisonError::into_inner);
        match news {
            News::Listed(objects, resource_version) => {
                *store = Store::of(plural, Selected { objects, next: String::new(), resource_version });
            }
            News::Changed(change) => store.take(plural, change),
            News::Watching => {}
        }
        let (count, version) = (store.len(), store.version());
        drop(store);
        if count > self.options.most_objects {
            return Some(End::Blind(format!("there are {count} objects")));
        }
        self.tell(State::Live(version));
        None
    }

    /// Whether to go on after an error.
    fn survive(&self, error: ClusterError) -> Option<End> {
        let state = self.cache.state.borrow().clone();
        match (error, state) {
            // Who asks is told, and the next one begins anew.
            (error, State::Filling) => {
                self.tell(State::Failed(error));
                Some(End::Failed)
            }
            (ClusterError::Unreachable(why), State::Live(version)) => {
                tracing::debug!(kind = name(&self.selection), why, "the watch is opened again");
                self.tell(State::Broken(Instant::now(), version));
                None
            }
            (ClusterError::Unreachable(_), _) => None,
            (error, _) => Some(End::Blind(error.to_string())),
        }
    }

    /// Every question is a LIST from now on, for a while.
    async fn blind(&self, why: &str) {
        let kind = name(&self.selection);
        tracing::warn!(kind, why, "cannot be kept in memory; it is listed for each question");
        self.tell(State::Blind);
        *self.cache.store.write().unwrap_or_else(PoisonError::into_inner) = Store::default();
        tokio::time::sleep(self.options.blind).await;
    }

    fn tell(&self, state: State) {
        self.cache.state.send_replace(state);
    }

    fn is_idle(&self) -> bool {
        lock(&self.cache.last_used).elapsed() >= self.options.idle
    }
}
