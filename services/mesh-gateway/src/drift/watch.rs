//! Following the named objects: one LIST and one watch per cluster, kind and namespace, past the caches, which leave
//! out who wrote what.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use meshward_model::Target;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{Drift, judge};
use crate::{
    cluster::{
        Change, Cluster, ClusterError,
        follow::{Follow, News, QUIET},
    },
    clusters::Clusters,
    error::Error,
};

/// Drifts that wait for a slow reader; the watches then wait too.
const BUFFER: usize = 64;
/// A watch that cannot be opened again for this long ends the stream with the reason.
const PATIENCE: Duration = Duration::from_secs(30);

/// Drifts as they happen. Ends only with an error.
pub struct Drifts {
    receiver: mpsc::Receiver<Result<Drift, ClusterError>>,
    /// Dropped with the stream, and the tasks with it.
    _tasks: JoinSet<()>,
}

impl Drifts {
    /// The next one. A future that is dropped loses nothing.
    ///
    /// # Errors
    /// What ended the watch.
    pub async fn next(&mut self) -> Result<Drift, ClusterError> {
        let ended = || Err(ClusterError::Unreachable("the watch ended".to_owned()));
        self.receiver.recv().await.unwrap_or_else(ended)
    }
}

/// Objects of one kind in one namespace of one cluster.
struct Group {
    targets: BTreeMap<String, Target>,
    follow: Follow,
    /// As they were last.
    known: BTreeMap<String, Value>,
}

/// Follows these objects. When it returns, no change from then on is missed.
///
/// # Errors
/// If a cluster is not known or cannot be asked.
pub async fn follow(clusters: &Clusters, targets: Vec<Target>) -> Result<Drifts, Error> {
    let mut groups: BTreeMap<_, BTreeMap<String, Target>> = BTreeMap::new();
    for target in targets {
        let Target { cluster, api_version, kind, namespace, .. } = target.clone();
        groups.entry((cluster, api_version, kind, namespace)).or_default().insert(target.name.clone(), target);
    }
    let begun = groups.into_values().map(|targets| Group::begin(clusters, targets));
    let (sender, receiver) = mpsc::channel(BUFFER);
    let mut tasks = JoinSet::new();
    for (group, drifts) in futures::future::try_join_all(begun).await? {
        tasks.spawn(group.run(drifts, sender.clone()));
    }
    Ok(Drifts { receiver, _tasks: tasks })
}

impl Group {
    /// Looks at the objects once; what drifted before is the first news.
    async fn begin(clusters: &Clusters, targets: BTreeMap<String, Target>) -> Result<(Self, Vec<Drift>), Error> {
        let first = targets.values().next().cloned();
        let first = first.ok_or_else(|| ClusterError::Schema("no object is named".to_owned()))?;
        let member = clusters.get(&first.cluster).map_err(Error::ClusterUnknown)?;
        let cluster: Arc<dyn Cluster> = Arc::clone(member.direct()?);
        let mut selection = cluster.kind_of(&first.api_version, &first.kind).await?.within(&first.namespace);
        if targets.len() == 1 {
            selection.fields = format!("metadata.name={}", first.name);
        }
        let follow = Follow::new(cluster, selection, QUIET);
        let mut group = Self { targets, follow, known: BTreeMap::new() };
        let news = group.follow.next().await?;
        let drifts = group.take(news);
        Ok((group, drifts))
    }

    async fn run(mut self, first: Vec<Drift>, sender: mpsc::Sender<Result<Drift, ClusterError>>) {
        let mut drifts = first;
        let mut failing_since = None;
        loop {
            for drift in drifts.drain(..) {
                if sender.send(Ok(drift)).await.is_err() {
                    return;
                }
            }
            match self.follow.next().await {
                Ok(news) => {
                    failing_since = None;
                    drifts = self.take(news);
                }
                Err(error) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if !matches!(error, ClusterError::Unreachable(_)) || since.elapsed() >= PATIENCE {
                        // Nobody listens: then nobody needs to know.
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, news: News) -> Vec<Drift> {
        match news {
            News::Watching | News::Changed(Change::Bookmark(_)) => Vec::new(),
            News::Changed(Change::Stored(object)) => self.see(&name(&object), Some(object)).into_iter().collect(),
            News::Changed(Change::Deleted(object)) => self.see(&name(&object), None).into_iter().collect(),
            News::Listed(objects, _) => {
                let present: BTreeSet<_> = objects.iter().map(|object| name(object)).collect();
                let gone: Vec<_> = self.known.keys().filter(|name| !present.contains(*name)).cloned().collect();
                let now = objects.into_iter().map(|object| (name(&object), Some(Arc::unwrap_or_clone(object))));
                let all: Vec<_> = now.chain(gone.into_iter().map(|name| (name, None))).collect();
                all.into_iter().filter_map(|(name, object)| self.see(&name, object)).collect()
            }
        }
    }

    fn see(&mut self, name: &str, now: Option<Value>) -> Option<Drift> {
        let target = self.targets.get(name)?;
        let drift = judge(target, self.known.get(name), now.as_ref());
        match now {
            Some(object) => self.known.insert(name.to_owned(), object),
            None => self.known.remove(name),
        };
        drift
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
