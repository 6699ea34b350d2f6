//! A cluster whose lists are answered from memory: at most one LIST per kind, and a watch after it.
//!
//! A cache of a kind (in one namespace or in all) begins when it is first asked for, by one LIST that all who ask then
//! wait for, and ends when nobody has asked for [`CacheOptions::idle`]. Single objects are always read from the API
//! server: a write is decided on them.
//!
//! **How far an answer may be behind.** While the watch is well: what the API server needs to tell it, milliseconds. A
//! watch that broke is opened again where it was; until then the cache answers for [`CacheOptions::stale`] and after
//! that every question is a LIST. A connection that died without a word is noticed by the bookmarks that stay away
//! ([`CacheOptions::quiet`]). Who must see a certain write says so: [`Selection::not_before`].
//!
//! **Falls back to LIST**, and says so in the log: if the gateway may list but not watch, if the cluster has more
//! objects of the kind than [`CacheOptions::most_objects`], if there are more caches than [`CacheOptions::most_caches`],
//! and for selectors that only the API server understands.
//!
//! **What is kept**: objects without `managedFields`, and of pods only what tells who they are and how they are
//! ([`store`]), because a pod is mostly volumes and probes.

mod follow;
mod store;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use meshward_model::Target;
use serde_json::Value;
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{
    Changes, Cluster, ClusterError, Divisions, Mode, Selected, Selection, Written,
    follow::{Follow, QUIET},
    selector::Selector,
};
use store::Store;

/// The bounds of a cluster's caches.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// A cache that nobody asks for this long ends.
    pub idle: Duration,
    /// A cache whose watch is broken answers for this long.
    pub stale: Duration,
    /// A watch that tells nothing for this long is opened anew.
    pub quiet: Duration,
    /// What cannot be watched is tried again after this time.
    pub blind: Duration,
    /// Longest wait for [`Selection::not_before`].
    pub wait: Duration,
    /// Most kinds, each in one namespace or in all.
    pub most_caches: usize,
    /// Most objects of one cache.
    pub most_objects: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(600),
            stale: Duration::from_secs(10),
            quiet: QUIET,
            blind: Duration::from_secs(300),
            wait: Duration::from_secs(2),
            most_caches: 64,
            most_objects: 50_000,
        }
    }
}

/// A cluster with caches.
pub struct Cached {
    cluster: Arc<dyn Cluster>,
    options: CacheOptions,
    caches: Arc<Caches>,
    divisions: Divisions,
}

type Caches = Mutex<HashMap<Selection, Running>>;

struct Running {
    cache: Arc<Cache>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One kind in one namespace or in all.
struct Cache {
    store: RwLock<Store>,
    state: watch::Sender<State>,
    last_used: Mutex<Instant>,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// The LIST is under way.
    Filling,
    /// The watch is well, and has told everything up to this version.
    Live(u64),
    /// The watch broke then, after it told everything up to this version.
    Broken(Instant, u64),
    /// It can be listed, but not kept.
    Blind,
    /// It cannot even be listed.
    Failed(ClusterError),
}

impl Cached {
    /// Caches in front of a cluster.
    pub fn new(cluster: Arc<dyn Cluster>, options: CacheOptions) -> Self {
        Self { cluster, options, caches: Arc::default(), divisions: Divisions::default() }
    }

    /// What is being watched, for people and tests.
    pub fn watched(&self) -> Vec<String> {
        let mut names: Vec<_> = lock(&self.caches).keys().map(follow::name).collect();
        names.sort();
        names
    }

    /// What a cache says; `None` if the API server must be asked.
    async fn answer<T>(
        &self,
        selection: &Selection,
        read: impl FnOnce(&Store) -> T + Send,
    ) -> Result<Option<T>, ClusterError> {
        let Some(cache) = self.cache(selection) else { return Ok(None) };
        let mut state = cache.state.subscribe();
        let filled = state.wait_for(|state| *state != State::Filling).await.map(|state| state.clone());
        let known = match filled {
            Ok(State::Failed(error)) => return Err(error),
            Ok(State::Live(version)) => Some(version),
            Ok(State::Broken(since, version)) if since.elapsed() < self.options.stale => Some(version),
            _ => None,
        };
        let Some(version) = known else { return Ok(None) };
        if let Some(wanted) = version_of(&selection.not_before)
            && version < wanted
        {
            let told = state.wait_for(|state| matches!(state, State::Live(version) if *version >= wanted));
            if !matches!(tokio::time::timeout(self.options.wait, told).await, Ok(Ok(_))) {
                return Ok(None);
            }
        }
        let store = cache.store.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(read(&store)))
    }

    /// The cache for a selection, begun if need be; `None` if there are too many.
    fn cache(&self, selection: &Selection) -> Option<Arc<Cache>> {
        let everywhere = Selection {
            only_metadata: selection.only_metadata,
            ..Selection::of(selection.api_version.clone(), selection.plural.clone())
        };
        let here = Selection { namespace: selection.namespace.clone(), ..everywhere.clone() };
        let mut caches = lock(&self.caches);
        let known = [&here, &everywhere].into_iter().find_map(|key| caches.get(key));
        if let Some(running) = known {
            *lock(&running.cache.last_used) = Instant::now();
            return Some(Arc::clone(&running.cache));
        }
        if caches.len() >= self.options.most_caches {
            tracing::warn!(kind = follow::name(&here), "too many kinds are cached; this one is listed");
            return None;
        }
        let cache = Arc::new(Cache {
            store: RwLock::default(),
            state: watch::Sender::new(State::Filling),
            last_used: Mutex::new(Instant::now()),
        });
        let follow = Follow::new(Arc::clone(&self.cluster), here.clone(), self.options.quiet);
        let (cache_of_task, options) = (Arc::clone(&cache), self.options.clone());
        let follower = follow::Follower { cache: cache_of_task, selection: here.clone(), options };
        let task = tokio::spawn(follower.run(follow, Arc::downgrade(&self.caches))).abort_handle();
        caches.insert(here, Running { cache: Arc::clone(&cache), task });
        Some(cache)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resource versions of one kind can be compared as numbers (Kubernetes promises it since 1.35, and it was so before).
fn version_of(text: &str) -> Option<u64> {
    text.parse().ok()
}

#[async_trait]
impl Cluster for Cached {
    async fn get(&self, target: &Target) -> Result<Option<Value>, ClusterError> {
        self.cluster.get(target).await
    }

    async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Selection, ClusterError> {
        self.cluster.kind_of(api_version, kind).await
    }

    async fn select(&self, selection: &Selection) -> Result<Selected, ClusterError> {
        if selection.exact {
            return self.cluster.select(selection).await;
        }
        // A page that the API server began, only it can go on with.
        let is_theirs = !selection.from.is_empty() && !store::is_ours(&selection.from);
        if let Some(selector) = Selector::parse(&selection.labels, &selection.fields).filter(|_| !is_theirs)
            && let Some(selected) = self.answer(selection, |store| store.page(selection, &selector)).await?
        {
            return Ok(selected);
        }
        if !store::is_ours(&selection.from) {
            return self.cluster.select(selection).await;
        }
        let whole = Selection { limit: 0, from: String::new(), ..selection.clone() };
        let listed = self.cluster.select(&whole).await?;
        Ok(Store::of(&selection.plural, listed).page(selection, &Selector::default()))
    }

    async fn now(&self, selection: &Selection) -> Result<Vec<Arc<Value>>, ClusterError> {
        self.cluster.now(selection).await
    }

    async fn watch(&self, selection: &Selection, after: &str) -> Result<Changes, ClusterError> {
        self.cluster.watch(selection, after).await
    }

    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ClusterError> {
        self.cluster.create(target, object).await
    }

    async fn apply(&self, target: &Target, object: &Value, mode: Mode) -> Result<Written, ClusterError> {
        self.cluster.apply(target, object, mode).await
    }

    async fn patch(&self, target: &Target, operations: &Value) -> Result<Value, ClusterError> {
        self.cluster.patch(target, operations).await
    }

    async fn delete(&self, target: &Target, uid: &str, resource_version: &str) -> Result<(), ClusterError> {
        self.cluster.delete(target, uid, resource_version).await
    }

    fn divisions(&self) -> Option<&Divisions> {
        Some(&self.divisions)
    }

    async fn version(&self) -> Result<String, ClusterError> {
        self.cluster.version().await
    }
}

#[cfg(test)]
mod tests {
    use meshward_chassis::clock::SystemClock;
    use serde_json::json;

    use super::*;
    use crate::cluster::MemoryCluster;

    #[tokio::test]
    async fn what_is_listed_is_shared_and_not_copied() {
        let cluster = MemoryCluster::new(Arc::new(SystemClock));
        let target = Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "a").unwrap();
        let object = json!({"apiVersion": target.api_version, "kind": target.kind, "spec": {"hosts": ["a"]},
                            "metadata": {"name": "a", "namespace": "shop"}});
        cluster.create(&target, &object).await.unwrap();
        let cached = Cached::new(Arc::new(cluster), CacheOptions::default());
        let list = |namespace| cached.list(&target.api_version, &target.kind, namespace);
        let (all, here) = (list(None).await.unwrap(), list(Some("shop")).await.unwrap());
        assert!(all.len() == 1 && Arc::ptr_eq(&all[0], &here[0]));
        assert_eq!((&all[0]["spec"], &all[0]["kind"]), (&object["spec"], &object["kind"]));
        assert!(list(Some("other")).await.unwrap().is_empty());
    }
}
