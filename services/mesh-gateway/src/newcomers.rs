//! Pods that come later carry the stable label as soon as they appear, also where no admission policy can see to it.
//!
//! While a deployment shares out a policy pod by pod, the live object says so itself: it carries the deployment's marks,
//! and its selector asks for the stable cohort's label. So nothing must be remembered: each replica of the gateway lists
//! and watches the kinds that can be like that, watches the pods without the label for each object that is, and labels
//! what comes. Several may do the same write, since it is fenced by the pod's resourceVersion; what one has labelled
//! leaves the selection of all. Where the admission policy does it first ([`admission`]), there is never anything to do.
//!
//! Before it writes, the API server itself must say that the object still demands the label. A pod whose label was taken
//! away at the end of a deployment appears here after the object went back, so it is left alone.
//!
//! What this cannot do: for the moment between a pod's creation and its label, and as long as no gateway runs, no
//! version governs the pod. It harms nobody before the pod is Ready; a Ready one is named by the proof, which is then not
//! live. Pods from before the object demands the label are not left to this watch: who narrows an object labels them
//! itself, right before and right after ([`catch_up`]).

pub mod admission;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use meshward_model::{Mesh, Target};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    apply::{self, Marks},
    cluster::{
        Change, Cluster, ClusterError, Selection,
        follow::{Follow, News, QUIET},
    },
    dialect::{self, Need, Newcomers, STABLE},
    instances::NOT_ENDED,
    object,
};

/// Most objects of a kind whose pods are watched at once. Pods of further ones are labelled by the next step.
const MOST: usize = 256;
/// Labels written at once for one object.
const PARALLEL: usize = 8;
/// How often those that came meanwhile are looked for.
const ROUNDS: u32 = 10;
/// Until a kind that the cluster does not serve, or that may not be watched, is looked for again.
const NOT_THERE: Duration = Duration::from_secs(60);
/// Until pods that could not be labelled are listed again.
const PAUSE: Duration = Duration::from_secs(1);

/// Labels new pods of a cluster until it is dropped.
pub struct Labelling {
    _tasks: JoinSet<()>,
}

impl Labelling {
    /// Begins; finds by itself what there is to do. What `caches` of the cluster know of pods is not listed again.
    pub fn start(cluster: &Arc<dyn Cluster>, caches: &Arc<dyn Cluster>) -> Self {
        let mut tasks = JoinSet::new();
        for need in dialect::of(Mesh::Istio).labelling_kinds() {
            tasks.spawn(follow_kind(Arc::clone(cluster), Arc::clone(caches), need));
        }
        Self { _tasks: tasks }
    }
}

/// The pods that have no label yet.
#[must_use]
pub fn unlabelled(newcomers: &Newcomers) -> Selection {
    let equal = newcomers.labels.iter().map(|(key, value)| format!("{key}={value}"));
    Selection {
        labels: equal.chain([format!("!{}", newcomers.key)]).collect::<Vec<_>>().join(","),
        fields: NOT_ENDED.to_owned(),
        only_metadata: true,
        ..Selection::of("v1", "pods").within(&newcomers.namespace)
    }
}

/// The same as caches have it, of which a plan has one of whole pods.
pub(crate) fn of_caches(pods: Selection) -> Selection {
    Selection { only_metadata: false, ..pods }
}

/// What a live object demands of new pods; `None` if no deployment has it, or it demands nothing.
fn demanded(target: &Target, live: &Value) -> Option<Newcomers> {
    Marks::of(live)?;
    dialect::of(target.mesh).newcomers(target, live)
}

/// Never ends.
async fn follow_kind(cluster: Arc<dyn Cluster>, caches: Arc<dyn Cluster>, need: Need) {
    loop {
        let error = match served(&*cluster, &need).await {
            Ok((api_version, selection)) => {
                let follow = Follow::new(Arc::clone(&cluster), selection, QUIET);
                let (cluster, caches, kind) = (Arc::clone(&cluster), Arc::clone(&caches), need.kind.clone());
                Kind { cluster, caches, api_version, kind, found: BTreeMap::new() }.run(follow).await
            }
            Err(error) => error,
        };
        tracing::info!(kind = need.kind, %error, "new pods are not labelled for this kind now");
        tokio::time::sleep(NOT_THERE).await;
    }
}

/// The newest version of a kind that the cluster serves, and the selection of all its objects.
async fn served(cluster: &dyn Cluster, need: &Need) -> Result<(String, Selection), ClusterError> {
    let mut last = None;
    for api_version in std::iter::once(&need.api_version).chain(&need.older) {
        match cluster.kind_of(api_version, &need.kind).await {
            Err(error @ ClusterError::KindNotServed { .. }) => last = last.or(Some(error)),
            selection => return Ok((api_version.clone(), selection?)),
        }
    }
    let none = || ClusterError::KindNotServed { api_version: need.api_version.clone(), kind: need.kind.clone() };
    Err(last.unwrap_or_else(none))
}

/// The objects of one kind.
struct Kind {
    cluster: Arc<dyn Cluster>,
    caches: Arc<dyn Cluster>,
    api_version: String,
    kind: String,
    /// Those that demand a label, by namespace and name, and who sees to it.
    found: BTreeMap<String, (Newcomers, AbortOnDropHandle<()>)>,
}

impl Kind {
    /// Until the kind cannot be watched any more.
    async fn run(mut self, mut follow: Follow) -> ClusterError {
        loop {
            match follow.next().await {
                Ok(News::Watching | News::Changed(Change::Bookmark(_))) => {}
                Ok(News::Changed(Change::Stored(live))) => self.see(&live),
                Ok(News::Changed(Change::Deleted(live))) => {
                    self.found.remove(&object::full_name(&live));
                }
                Ok(News::Listed(all, _)) => {
                    let present: BTreeSet<_> = all.iter().map(|live| object::full_name(live)).collect();
                    self.found.retain(|name, _| present.contains(name));
                    all.iter().for_each(|live| self.see(live));
                }
                Err(error @ (ClusterError::KindNotServed { .. } | ClusterError::Forbidden { .. })) => return error,
                // Asked again after a pause. Who labels pods goes on meanwhile.
                Err(error) => tracing::warn!(kind = self.kind, %error, "the objects cannot be watched"),
            }
        }
    }

    fn see(&mut self, live: &Value) {
        let target = self.target(live);
        let name = object::full_name(live);
        let Some(newcomers) = demanded(&target, live) else {
            self.found.remove(&name);
            return;
        };
        if self.found.get(&name).is_some_and(|(known, task)| *known == newcomers && !task.is_finished()) {
            return;
        }
        if self.found.len() >= MOST && !self.found.contains_key(&name) {
            tracing::warn!(%target, "its new pods are not labelled: {MOST} objects have them labelled already");
            return;
        }
        tracing::info!(%target, key = newcomers.key, "new pods are labelled");
        let (cluster, caches) = (Arc::clone(&self.cluster), Arc::clone(&self.caches));
        let task = tokio::spawn(label_all(cluster, caches, target, newcomers.clone()));
        self.found.insert(name, (newcomers, AbortOnDropHandle::new(task)));
    }

    fn target(&self, live: &Value) -> Target {
        let part = |field: &str| live["metadata"][field].as_str().unwrap_or_default().to_owned();
        Target {
            cluster: String::new(),
            mesh: Mesh::Istio,
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            namespace: part("namespace"),
            name: part("name"),
        }
    }
}

/// Labels the pods of an object until it demands it no more.
async fn label_all(cluster: Arc<dyn Cluster>, caches: Arc<dyn Cluster>, target: Target, newcomers: Newcomers) {
    let mut follow = Follow::new(Arc::clone(&cluster), unlabelled(&newcomers), QUIET);
    // A view that is behind is as good to begin with: the watch tells what came after it.
    if let Ok(known) = caches.select(&of_caches(unlabelled(&newcomers))).await {
        follow = follow.after(known);
    }
    loop {
        let pods = match follow.next().await {
            Ok(News::Listed(pods, _)) => pods,
            Ok(News::Changed(Change::Stored(pod))) => vec![Arc::new(pod)],
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%target, %error, "new pods cannot be watched");
                continue;
            }
        };
        match label(&*cluster, &target, &newcomers, &pods).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%target, %error, "new pods cannot be labelled");
                tokio::time::sleep(PAUSE).await;
                follow = Follow::new(Arc::clone(&cluster), unlabelled(&newcomers), QUIET);
            }
        }
    }
}

/// Labels these pods; false if the object does not demand it any more. One that has moved on since comes again, if it
/// still has no label.
async fn label(
    cluster: &dyn Cluster,
    target: &Target,
    newcomers: &Newcomers,
    pods: &[Arc<Value>],
) -> Result<bool, ClusterError> {
    if pods.is_empty() {
        return Ok(true);
    }
    let live = cluster.get(target).await?;
    if live.and_then(|live| demanded(target, &live)).as_ref() != Some(newcomers) {
        return Ok(false);
    }
    make_stable(cluster, target, newcomers, pods).await.map(|_| true)
}

/// Labels the pods of an object that have no label, until there is none at one moment after this call began. The pods that
/// it has labelled.
///
/// # Errors
/// What the cluster says; [`ClusterError::Conflict`] if they change faster than they can be labelled.
pub async fn catch_up(
    cluster: &dyn Cluster,
    target: &Target,
    newcomers: &Newcomers,
) -> Result<Vec<Value>, ClusterError> {
    let mut labelled = Vec::new();
    for _ in 0..ROUNDS {
        let pods = cluster.now(&unlabelled(newcomers)).await?;
        if pods.is_empty() {
            return Ok(labelled);
        }
        labelled.extend(make_stable(cluster, target, newcomers, &pods).await?);
    }
    let why = format!("new pods of namespace {} come faster than they can be labelled", newcomers.namespace);
    Err(ClusterError::Conflict(why))
}

/// Gives pods the label; those that got it. Who has moved on since is left out.
async fn make_stable(
    cluster: &dyn Cluster,
    target: &Target,
    newcomers: &Newcomers,
    pods: &[Arc<Value>],
) -> Result<Vec<Value>, ClusterError> {
    let writes = pods.iter().filter_map(|pod| {
        let patch = apply::relabel(pod, &newcomers.key, Some(STABLE))?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let pod = apply::pod(target, &newcomers.namespace, name);
        Some(async move { cluster.patch(&pod, &patch).await })
    });
    let mut answers = stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(PARALLEL);
    let mut labelled = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(pod) => labelled.push(pod),
            Err(ClusterError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    tracing::info!(%target, key = newcomers.key, labelled = labelled.len(), "new pods were labelled");
    Ok(labelled)
}

#[cfg(test)]
mod tests;
