//! What is live in a cluster, read through mesh-gateway and kept for some seconds.
//!
//! Everything is bounded: the time of all reading together, the objects, the views that are kept. What could not be read is a
//! gap, which the answer tells: a rule then knows less, and no call fails for it. A view belongs to the namespaces that it was
//! read for, so that a caller never sees through one what the gateway would not show him.

mod kinds;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use jiff::Timestamp;
use meshward_chassis::clock::Clock;
use serde_json::Value;

use crate::{
    app::Warm,
    error::Error,
    ports::{Bearer, Gateway, ObjectPage, Wanted},
    sessions::Shared,
};
use kinds::{KINDS, Source};

/// Most objects of a view; what is more is a gap.
const MOST_OBJECTS: usize = 50_000;
/// Most views that are kept.
const MOST_VIEWS: usize = 16;
/// Most namespaces that are read one by one.
const MOST_NAMESPACES: usize = 20;
/// Kinds that are read at once.
const AT_ONCE: usize = 4;

/// The namespaces of a view; `None` = all.
pub type Scope = Option<BTreeSet<String>>;

/// One look at a cluster.
#[derive(Debug, Clone)]
pub struct View {
    /// The objects, each with apiVersion and kind.
    pub objects: Arc<Vec<Value>>,
    /// The same, judged among each other.
    pub warm: Shared,
    /// What is not in it does not exist.
    pub complete: bool,
    /// What could not be read, each with the reason.
    pub gaps: Arc<Vec<String>>,
}

/// How long reading may take, and how old a view may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For all kinds together.
    pub within: Duration,
    /// Older views are read anew.
    pub max_age: Duration,
}

/// The views that were read last.
pub struct Live {
    clock: Arc<dyn Clock>,
    limits: Limits,
    kept: Mutex<Vec<(Key, Timestamp, View)>>,
}

/// Cluster, namespaces, and whether what is not in it does not exist.
type Key = (String, Scope, bool);

impl Live {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self { clock, limits, kept: Mutex::default() }
    }

    /// What is live in the namespaces of a scope. A view with gaps is not kept.
    pub async fn view<G: Gateway>(
        &self,
        gateway: &G,
        cluster: &str,
        scope: &Scope,
        complete: bool,
        bearer: &Bearer,
    ) -> View {
        let key = (cluster.to_owned(), scope.clone(), complete);
        if let Some(view) = self.young(&key) {
            return view;
        }
        let begun = self.clock.now();
        let (objects, gaps) = self.read(gateway, cluster, scope, bearer).await;
        let complete = complete && gaps.is_empty() && scope.is_none();
        let objects = Arc::new(objects);
        let of_worker = Arc::clone(&objects);
        let warm = tokio::task::spawn_blocking(move || Warm::among(&of_worker, &[], complete)).await;
        let (warm, gaps) = match warm {
            Ok(warm) => (warm, gaps),
            Err(_) => (Warm::new(false), vec![format!("context: what {} holds cannot be judged", named(cluster))]),
        };
        let view = View { objects, warm: Arc::new(Mutex::new(warm)), complete, gaps: Arc::new(gaps) };
        if view.gaps.is_empty() {
            self.keep(key, begun, view.clone());
        }
        view
    }

    fn young(&self, key: &Key) -> Option<View> {
        let now = self.clock.now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, read, _)| now.duration_since(*read).unsigned_abs() <= self.limits.max_age);
        kept.iter().find(|(other, ..)| other == key).map(|(.., view)| view.clone())
    }

    fn keep(&self, key: Key, read: Timestamp, view: View) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(other, ..)| *other != key);
        kept.push((key, read, view));
        let over = kept.len().saturating_sub(MOST_VIEWS);
        kept.drain(..over);
    }

    /// All objects that can be read in time, and what could not.
    async fn read<G: Gateway>(
        &self,
        gateway: &G,
        cluster: &str,
        scope: &Scope,
        bearer: &Bearer,
    ) -> (Vec<Value>, Vec<String>) {
        let namespaces: Vec<Option<&str>> = match scope {
            None => vec![None],
            Some(names) => names.iter().take(MOST_NAMESPACES).map(|name| Some(name.as_str())).collect(),
        };
        let (mut objects, mut gaps) = (Vec::new(), BTreeSet::new());
        if scope.as_ref().is_some_and(|names| names.len() > MOST_NAMESPACES) {
            gaps.insert(format!("context: only {MOST_NAMESPACES} of the token's namespaces were read"));
        }
        let of = |source: &'static Source| {
            let everywhere = scope.is_none() || !source.is_cluster_wide;
            namespaces.iter().filter(move |_| everywhere).map(move |namespace| (source, *namespace))
        };
        let questions: Vec<_> = KINDS.iter().flat_map(of).collect();
        // Boxed, because a stream that makes them as it goes ties their lifetimes too tight for a service.
        let asked: Vec<BoxFuture<'_, _>> = questions
            .into_iter()
            .map(|(source, namespace)| {
                async move { (source, one_kind(gateway, cluster, source, namespace, bearer).await) }.boxed()
            })
            .collect();
        let mut answers = stream::iter(asked).buffered(AT_ONCE);
        let reading = async {
            while let Some((source, answer)) = answers.next().await {
                match answer {
                    Ok(found) if objects.len() + found.len() <= MOST_OBJECTS => objects.extend(found),
                    Ok(_) => {
                        gaps.insert(format!("context: {} has more than {MOST_OBJECTS} objects", named(cluster)));
                        break;
                    }
                    // A gateway that is away is away for every kind.
                    Err(error @ Error::GatewayDown(_)) => {
                        gaps.insert(format!("context: {} was not read: {error}", named(cluster)));
                        break;
                    }
                    Err(error) => {
                        gaps.insert(format!("context: {} of {} was not read: {error}", source.kind, named(cluster)));
                    }
                }
            }
        };
        if tokio::time::timeout(self.limits.within, reading).await.is_err() {
            gaps.insert(format!("context: {} was not read within {:?}", named(cluster), self.limits.within));
        }
        (objects, gaps.into_iter().collect())
    }
}

/// All objects of a kind, in the first of its versions that the cluster serves.
async fn one_kind<G: Gateway>(
    gateway: &G,
    cluster: &str,
    source: &Source,
    namespace: Option<&str>,
    bearer: &Bearer,
) -> Result<Vec<Value>, Error> {
    for api_version in source.api_versions {
        let (mut objects, mut token) = (Vec::new(), String::new());
        loop {
            let wanted = Wanted { cluster, api_version, kind: source.kind, namespace, token: &token };
            let ObjectPage { objects: page, next, served } = gateway.list(wanted, bearer).await?;
            if !served {
                break;
            }
            objects.extend(page);
            if next.is_empty() || objects.len() > MOST_OBJECTS {
                return Ok(objects);
            }
            token = next;
        }
    }
    Ok(Vec::new())
}

fn named(cluster: &str) -> String {
    if cluster.is_empty() { "the default cluster".to_owned() } else { format!("the cluster {cluster}") }
}

#[cfg(test)]
mod tests;
