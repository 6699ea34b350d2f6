//! The clusters that the gateway reaches, by name: each with its own API server and its own ways to prove that
//! something is live there.
//!
//! Which they are is said by flags (one cluster), by a file ([`file`]), and by Secrets of the home cluster
//! ([`secrets`]), which may come, change and go while the gateway runs. A cluster that cannot be used is still known,
//! with the reason; its failures are its own and hold up no other.

pub mod file;
mod kubeconfig;
pub mod secrets;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use meshward_chassis::server::{ConfigError, Server};
use secrets::{Follower, Source};

use crate::{
    cluster::{CacheOptions, Cached, Cluster, ClusterError, KubeCluster},
    newcomers::Labelling,
    proof::{Istiod, Linkerd, Plane, Planes},
};

/// Longest wait for the version of a cluster's API server.
const VERSION_WAIT: Duration = Duration::from_millis(1500);

/// Where the control planes of a cluster answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Debug interface of each replica of istiod: `http://istiod.istio-system:15014`.
    pub istiod: Vec<String>,
    /// Policy stream of each replica of Linkerd's policy-controller: `http://linkerd-policy.linkerd:8090`.
    pub linkerd_policy: Vec<String>,
    /// Each replica of Linkerd's destination controller: `http://linkerd-dst.linkerd:8086`.
    pub linkerd_destination: Vec<String>,
}

/// One cluster.
pub struct Member {
    /// Its name.
    pub name: String,
    link: Result<Link, String>,
}

/// How one cluster is asked.
struct Link {
    cached: Arc<dyn Cluster>,
    direct: Arc<dyn Cluster>,
    plane: Arc<dyn Plane>,
    /// Ends with the link.
    _labelling: Option<Labelling>,
}

/// No cluster of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The name asked for.
    pub name: String,
    /// Those that there are.
    pub known: Vec<String>,
}

/// A cluster, and whether it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// Its name.
    pub name: String,
    /// The version of its API server, or why that is not known.
    pub version: Result<String, String>,
}

/// All of them.
pub struct Clusters {
    members: RwLock<BTreeMap<String, Arc<Member>>>,
    default: String,
}

/// The clusters of a file. Those that are Secrets are followed until the server shuts down.
///
/// # Errors
/// If the file, or a kubeconfig that it names, cannot be used.
pub async fn from_file(path: &Path, timeout: Duration, server: &Server) -> anyhow::Result<Arc<Clusters>> {
    let wrong = |why: String| ConfigError(format!("--clusters {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file = file::parse(&text).map_err(wrong)?;
    let clusters = Arc::new(Clusters::new(&file.default));
    for entry in &file.clusters {
        let config = match &entry.kubeconfig {
            Some(file) => kubeconfig::of_file(&file.file, file.context.as_deref()).await,
            None if entry.in_cluster => kube::Config::incluster().map_err(anyhow::Error::from),
            None => continue,
        };
        let member = config.and_then(|config| Member::connect(&entry.name, config, timeout, &entry.addresses()));
        clusters.put(member.map_err(|error| wrong(format!("{}: {error:#}", entry.name)))?);
    }
    for source in sources(&file) {
        let home =
            Arc::clone(clusters.get(&file.home).map_err(|_| wrong(format!("no cluster {}", file.home)))?.direct()?);
        let follower = Follower { home, source, clusters: Arc::clone(&clusters), timeout };
        server.spawn_worker(follower.run(server.shutdown_token()));
    }
    Ok(clusters)
}

fn sources(file: &file::File) -> Vec<Source> {
    let taken = file.clusters.iter().map(|entry| entry.name.clone()).collect();
    let labelled = file.secrets_in.clone().map(|namespace| Source::Labelled { namespace, taken });
    let one = |entry: &file::Entry| {
        let secret = entry.secret.clone()?;
        Some(Source::One { name: entry.name.clone(), secret, addresses: entry.addresses() })
    };
    labelled.into_iter().chain(file.clusters.iter().filter_map(one)).collect()
}

impl Member {
    /// A cluster that can be asked; its lists are kept in memory.
    pub fn new(name: &str, direct: Arc<dyn Cluster>, plane: Arc<dyn Plane>) -> Self {
        let cached = Arc::new(Cached::new(Arc::clone(&direct), CacheOptions::default()));
        Self::of(name, cached, direct, plane, None)
    }

    fn of(
        name: &str,
        cached: Arc<dyn Cluster>,
        direct: Arc<dyn Cluster>,
        plane: Arc<dyn Plane>,
        labelling: Option<Labelling>,
    ) -> Self {
        Self { name: name.to_owned(), link: Ok(Link { cached, direct, plane, _labelling: labelling }) }
    }

    /// One that cannot, and why.
    pub fn broken(name: &str, why: String) -> Self {
        Self { name: name.to_owned(), link: Err(why) }
    }

    /// A real cluster with its control planes. Its new pods are labelled from now on, where a deployment needs it.
    ///
    /// # Errors
    /// If an address is none.
    pub fn real(name: &str, cluster: KubeCluster, addresses: &Addresses) -> anyhow::Result<Self> {
        let Addresses { istiod, linkerd_policy, linkerd_destination } = addresses;
        let direct: Arc<dyn Cluster> = Arc::new(cluster);
        let cached: Arc<dyn Cluster> = Arc::new(Cached::new(Arc::clone(&direct), CacheOptions::default()));
        let linkerd = Linkerd::new(linkerd_policy, linkerd_destination, Arc::clone(&cached));
        let plane = Planes { istio: Istiod::new(istiod)?, linkerd: linkerd.map_err(anyhow::Error::msg)? };
        let labelling = Labelling::start(&direct, &cached);
        Ok(Self::of(name, cached, direct, Arc::new(plane), Some(labelling)))
    }

    fn connect(name: &str, config: kube::Config, timeout: Duration, addresses: &Addresses) -> anyhow::Result<Self> {
        Self::real(name, KubeCluster::with_config(config, timeout)?, addresses)
    }

    /// The cluster.
    ///
    /// # Errors
    /// [`ClusterError::Unreachable`] if nobody knows how to reach it.
    pub fn cluster(&self) -> Result<&Arc<dyn Cluster>, ClusterError> {
        self.link().map(|link| &link.cached)
    }

    /// The cluster past its caches: whole objects, one request for each question.
    ///
    /// # Errors
    /// As [`Member::cluster`].
    pub fn direct(&self) -> Result<&Arc<dyn Cluster>, ClusterError> {
        self.link().map(|link| &link.direct)
    }

    fn link(&self) -> Result<&Link, ClusterError> {
        self.link.as_ref().map_err(|why| ClusterError::Unreachable(format!("cluster {}: {why}", self.name)))
    }

    /// Who proves that something is live there.
    ///
    /// # Errors
    /// As [`Member::cluster`].
    pub fn plane(&self) -> Result<&dyn Plane, ClusterError> {
        self.link().map(|link| &*link.plane)
    }

    async fn version(&self) -> Result<String, String> {
        let link = self.link.as_ref().map_err(Clone::clone)?;
        match tokio::time::timeout(VERSION_WAIT, link.direct.version()).await {
            Ok(version) => version.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the API server does not answer within {VERSION_WAIT:?}")),
        }
    }
}

impl Clusters {
    /// None yet; requests that name no cluster mean the default one.
    #[must_use]
    pub fn new(default: &str) -> Self {
        Self { members: RwLock::default(), default: default.to_owned() }
    }

    /// Adds a cluster, or puts it in the place of the one of its name.
    pub fn put(&self, member: Member) {
        self.write().insert(member.name.clone(), Arc::new(member));
    }

    /// Forgets a cluster. Calls that have it already come to their end.
    pub fn remove(&self, name: &str) {
        self.write().remove(name);
    }

    /// The cluster of a name; empty = the default one.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Member>, Unknown> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = if name.is_empty() { &self.default } else { name };
        let unknown = || Unknown { name: wanted.to_owned(), known: members.keys().cloned().collect() };
        members.get(wanted).cloned().ok_or_else(unknown)
    }

    /// All, each with what it says of itself now. One that does not answer holds up the others for a second and a half at most.
    pub async fn states(&self) -> Vec<ClusterState> {
        let members: Vec<_> = self.members.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let states = members
            .into_iter()
            .map(|member| async move { ClusterState { name: member.name.clone(), version: member.version().await } });
        futures::future::join_all(states).await
    }

    /// Whether the gateway is of use: the clusters fail each for itself, so one that answers is enough.
    ///
    /// # Errors
    /// Why none does.
    pub async fn ready(&self) -> Result<(), String> {
        let states = self.states().await;
        if states.iter().any(|state| state.version.is_ok()) {
            return Ok(());
        }
        let why = states.into_iter().filter_map(|state| Some(format!("{}: {}", state.name, state.version.err()?)));
        Err(why.collect::<Vec<_>>().join("; "))
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Member>>> {
        self.members.write().unwrap_or_else(PoisonError::into_inner)
    }
}
