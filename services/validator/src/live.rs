//! What is around: live in a cluster, read through mesh-gateway, and held by policy-registry; kept for some seconds.
//!
//! Everything is bounded: the time of all reading together, the objects, the views that are kept. What could not be read is a
//! gap, which the answer tells: a rule then knows less, and no call fails for it. A view belongs to the namespaces that it was
//! read for, so that a caller never sees through one what the gateway and the registry would not show him.

pub mod definitions;
mod held;
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
    app::{Known, Warm},
    error::Error,
    ports::{Bearer, Gateway, ObjectPage, Peers, Wanted},
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
    /// The objects.
    pub known: Arc<Known>,
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

/// Cluster, namespaces, and what was asked for.
type Key = (String, Scope, Asked);

/// What of all that is around is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// What is live in the cluster.
    pub live: bool,
    /// What the registry holds.
    pub registry: bool,
    /// What is not there does not exist, if all could be read.
    pub complete: bool,
}

impl Live {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self { clock, limits, kept: Mutex::default() }
    }

    /// What is around in the namespaces of a scope. A view with gaps is not kept.
    pub async fn view<G: Gateway>(
        &self,
        peers: &Peers<G>,
        cluster: &str,
        scope: &Scope,
        asked: Asked,
        bearer: &Bearer,
    ) -> View {
        let key = (cluster.to_owned(), scope.clone(), asked);
        if let Some(view) = self.young(&key) {
            return view;
        }
        let begun = self.clock.now();
        let live = async {
            if asked.live { self.read(&peers.gateway, cluster, scope, bearer).await } else { Default::default() }
        };
        let held = async {
            if asked.registry {
                held::read(peers.registry.as_deref(), cluster, self.limits.within, bearer).await
            } else {
                Default::default()
            }
        };
        let ((live, mut gaps), (held, gap)) = tokio::join!(live, held);
        gaps.extend(gap);
        let complete = asked.complete && gaps.is_empty() && scope.is_none();
        let known = Arc::new(Known::new(live, held.active, held.approved));
        let of_worker = Arc::clone(&known);
        let warm = tokio::task::spawn_blocking(move || Warm::among(&of_worker, &[], complete)).await;
        let warm = warm.unwrap_or_else(|_| {
            gaps.push(format!("context: what {} holds cannot be judged", named(cluster)));
            Warm::new(false)
        });
        let view = View { known, warm: Arc::new(Mutex::new(warm)), complete, gaps: Arc::new(gaps) };
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
            let asked = namespaces.iter().filter(|namespace| source.is_in(**namespace));
            asked.map(move |namespace| (source, source.only_in.or(*namespace)))
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
