//! Clusters whose kubeconfigs are Secrets of the home cluster, followed while the gateway runs.
//!
//! A labelled Secret (`meshward.io/cluster: NAME`) *is* the cluster NAME: it comes, changes and goes with it. Its
//! annotations `meshward.io/istiod`, `meshward.io/linkerd-policy` and `meshward.io/linkerd-destination` say where the
//! control planes answer, separated by commas. A Secret that the file of clusters names only holds that cluster's kubeconfig: without it the cluster is
//! known but cannot be reached. Of two Secrets for one name the first by its own name counts; a name of the file
//! belongs to the file.
//!
//! The gateway needs `list` and `watch` on Secrets in those namespaces of the home cluster. What is in a Secret reaches
//! no log and no answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Addresses, Clusters, Member,
    file::{SecretKey, USUAL_KEY, is_name},
    kubeconfig,
};
use crate::{
    cluster::{
        Change, Cluster, Selection,
        follow::{Follow, News, QUIET},
    },
    object::metadata_map,
};

/// The label that makes a Secret a cluster.
pub const LABEL: &str = "meshward.io/cluster";
const ISTIOD: &str = "meshward.io/istiod";
const LINKERD_POLICY: &str = "meshward.io/linkerd-policy";
const LINKERD_DESTINATION: &str = "meshward.io/linkerd-destination";

/// Which Secrets, and what they mean.
pub enum Source {
    /// Each labelled Secret of the namespace is a cluster, but for these names, which others have.
    Labelled {
        /// The namespace.
        namespace: String,
        /// Names of the file.
        taken: BTreeSet<String>,
    },
    /// One Secret holds the kubeconfig of one cluster.
    One {
        /// The cluster.
        name: String,
        /// The Secret.
        secret: SecretKey,
        /// The control planes of the cluster.
        addresses: Addresses,
    },
}

/// What a Secret says of a cluster. No `Debug`: it holds credentials.
#[derive(Clone, PartialEq, Eq)]
struct Found {
    cluster: String,
    kubeconfig: Option<Vec<u8>>,
    addresses: Addresses,
}

/// Follows Secrets, and keeps the clusters as they say.
pub struct Follower {
    /// Where the Secrets are.
    pub home: Arc<dyn Cluster>,
    /// Which.
    pub source: Source,
    /// What is kept.
    pub clusters: Arc<Clusters>,
    /// [`crate::cluster::KubeOptions::timeout`] of the clusters.
    pub timeout: Duration,
}

impl Source {
    fn selection(&self) -> Selection {
        let secrets = Selection::of("v1", "secrets");
        match self {
            Self::Labelled { namespace, .. } => Selection { labels: LABEL.to_owned(), ..secrets.within(namespace) },
            Self::One { secret, .. } => {
                Selection { fields: format!("metadata.name={}", secret.name), ..secrets.within(&secret.namespace) }
            }
        }
    }

    fn read(&self, secret: &Value) -> Option<Found> {
        let value = |key: &str| STANDARD.decode(secret["data"][key].as_str()?).ok();
        match self {
            Self::One { name, secret, addresses } => {
                Some(Found { cluster: name.clone(), kubeconfig: value(&secret.key), addresses: addresses.clone() })
            }
            Self::Labelled { taken, .. } => {
                let cluster = metadata_map(secret, "labels")?.get(LABEL)?.as_str()?;
                if taken.contains(cluster) || !is_name(cluster) {
                    let secret = crate::object::full_name(secret);
                    tracing::warn!(secret, cluster, "the name is in the file of clusters, or no name; ignored");
                    return None;
                }
                let annotations = metadata_map(secret, "annotations");
                let list = |key: &str| {
                    let text = annotations.and_then(|map| map.get(key)).and_then(Value::as_str).unwrap_or_default();
                    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                    parts.map(str::to_owned).collect()
                };
                let addresses = Addresses {
                    istiod: list(ISTIOD),
                    linkerd_policy: list(LINKERD_POLICY),
                    linkerd_destination: list(LINKERD_DESTINATION),
                };
                Some(Found { cluster: cluster.to_owned(), kubeconfig: value(USUAL_KEY), addresses })
            }
        }
    }
}

/// The clusters that Secrets, by name, stand for.
fn wanted(secrets: &BTreeMap<String, Found>) -> BTreeMap<String, (String, Found)> {
    let mut wanted = BTreeMap::new();
    for (secret, found) in secrets {
        wanted.entry(found.cluster.clone()).or_insert_with(|| (secret.clone(), found.clone()));
    }
    wanted
}

impl Follower {
    /// Runs until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        if let Source::One { name, .. } = &self.source {
            self.clusters.put(Member::broken(name, "its Secret has not been read yet".to_owned()));
        }
        let mut follow = Follow::new(Arc::clone(&self.home), self.source.selection(), QUIET);
        let (mut secrets, mut current) = (BTreeMap::new(), BTreeMap::new());
        loop {
            let news = tokio::select! {
                () = stop.cancelled() => return,
                news = follow.next() => news,
            };
            match news {
                Ok(news) => self.take(news, &mut secrets),
                Err(error) => {
                    tracing::warn!(%error, "the Secrets of clusters cannot be followed now; what is known stays");
                    continue;
                }
            }
            let wanted = wanted(&secrets);
            self.settle(&current, &wanted).await;
            current = wanted;
        }
    }

    fn take(&self, news: News, secrets: &mut BTreeMap<String, Found>) {
        let name = |secret: &Value| secret["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut put = |secret: &Value| match self.source.read(secret) {
            Some(found) => drop(secrets.insert(name(secret), found)),
            None => drop(secrets.remove(&name(secret))),
        };
        match news {
            News::Changed(Change::Stored(secret)) => put(&secret),
            News::Changed(Change::Deleted(secret)) => drop(secrets.remove(&name(&secret))),
            News::Changed(Change::Bookmark(_)) | News::Watching => {}
            News::Listed(all, _) => {
                secrets.clear();
                for secret in &all {
                    if let Some(found) = self.source.read(secret) {
                        secrets.insert(name(secret), found);
                    }
                }
            }
        }
    }

    async fn settle(&self, current: &BTreeMap<String, (String, Found)>, wanted: &BTreeMap<String, (String, Found)>) {
        for (cluster, entry) in wanted {
            if current.get(cluster) != Some(entry) {
                let member = self.member(&entry.0, &entry.1).await;
                tracing::info!(cluster, secret = entry.0, "the cluster is as its Secret says");
                self.clusters.put(member);
            }
        }
        for cluster in current.keys().filter(|cluster| !wanted.contains_key(*cluster)) {
            tracing::info!(cluster, "the Secret of the cluster is gone");
            match &self.source {
                Source::Labelled { .. } => self.clusters.remove(cluster),
                Source::One { .. } => self.clusters.put(self.missing(cluster)),
            }
        }
        if let Source::One { name, .. } = &self.source
            && !wanted.contains_key(name)
        {
            self.clusters.put(self.missing(name));
        }
    }

    fn missing(&self, cluster: &str) -> Member {
        Member::broken(cluster, "its Secret does not exist".to_owned())
    }

    async fn member(&self, secret: &str, found: &Found) -> Member {
        let Found { cluster, kubeconfig, addresses } = found;
        let broken = |why: &str| Member::broken(cluster, format!("Secret {secret}: {why}"));
        let Some(text) = kubeconfig else { return broken("it lacks the key of the kubeconfig") };
        match kubeconfig::of_secret(text).await {
            Ok(config) => Member::connect(cluster, config, self.timeout, addresses)
                .unwrap_or_else(|_| broken("its kubeconfig cannot be used")),
            Err(why) => broken(&why),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labelled() -> Source {
        Source::Labelled { namespace: "meshward".into(), taken: BTreeSet::from(["east".into()]) }
    }

    fn secret(cluster: &str) -> Value {
        json!({"metadata": {"name": "s", "labels": {LABEL: cluster}, "annotations": {ISTIOD: "http://a:1, http://b:1"}},
               "data": {"kubeconfig": STANDARD.encode("k")}})
    }

    #[test]
    fn a_label_names_the_cluster_and_annotations_its_control_planes() {
        let found = labelled().read(&secret("west")).expect("a cluster");
        assert_eq!((&*found.cluster, found.kubeconfig.as_deref()), ("west", Some(&b"k"[..])));
        assert_eq!(found.addresses.istiod, ["http://a:1", "http://b:1"]);
        for name in ["east", "No Name", ""] {
            assert!(labelled().read(&secret(name)).is_none(), "{name:?}");
        }
        let other_key = json!({"metadata": {"name": "s", "labels": {LABEL: "west"}}, "data": {"value": "aw=="}});
        assert!(labelled().read(&other_key).is_some_and(|found| found.kubeconfig.is_none()), "known, but broken");
    }

    #[test]
    fn of_two_secrets_the_first_by_name_counts() {
        let found = |kubeconfig: &[u8]| Found {
            cluster: "west".into(),
            kubeconfig: Some(kubeconfig.to_vec()),
            addresses: Addresses::default(),
        };
        let secrets = BTreeMap::from([("b".to_owned(), found(b"2")), ("a".to_owned(), found(b"1"))]);
        let wanted = wanted(&secrets);
        assert!(wanted.len() == 1 && wanted["west"] == ("a".to_owned(), found(b"1")));
    }
}
