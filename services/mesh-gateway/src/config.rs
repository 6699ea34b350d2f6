//! Flags of the service.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use meshward_chassis::server::{ServerArgs, parse_duration};

/// Everything that touches a cluster: plans, applies, proves and restores exposures of policies.
#[derive(Clone, Debug, Parser)]
#[command(name = "meshward-mesh-gateway", version)]
pub struct Args {
    /// Flags that every server has.
    #[command(flatten)]
    pub server: ServerArgs,

    /// A YAML file that names the clusters, each with its API server and control planes; its form is in the
    /// documentation of the module `clusters::file`. Instead of the flags for one cluster.
    #[arg(long, env = "MESHWARD_CLUSTERS", conflicts_with_all = ["kubeconfig", "cluster_name", "istiod", "linkerd_policy", "linkerd_destination"])]
    pub clusters: Option<PathBuf>,

    /// With one cluster: its kubeconfig file. Not set: as kubectl finds it, or the service account of the pod.
    #[arg(long, env = "MESHWARD_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// With one cluster: the name that requests call the cluster by.
    #[arg(long, env = "MESHWARD_CLUSTER_NAME", default_value = "default")]
    pub cluster_name: String,

    /// With one cluster: debug interface of each replica of istiod, e.g. http://10.0.0.5:15014; more than once, or separated by commas.
    /// Not set: nothing can be proven, and every proof says UNKNOWN.
    #[arg(long, env = "MESHWARD_ISTIOD", value_delimiter = ',')]
    pub istiod: Vec<String>,

    /// Policy stream of each replica of Linkerd's policy-controller, e.g. http://10.0.0.7:8090; likewise. Its proxies ask
    /// it too: in a mesh that lets nobody in without an identity, the gateway needs a proxy of its own for this.
    #[arg(long, env = "MESHWARD_LINKERD_POLICY", value_delimiter = ',')]
    pub linkerd_policy: Vec<String>,

    /// Each replica of Linkerd's destination controller, e.g. http://10.0.0.7:8086; needed for ServiceProfiles only.
    #[arg(long, env = "MESHWARD_LINKERD_DESTINATION", value_delimiter = ',')]
    pub linkerd_destination: Vec<String>,

    /// Longest time for one operation on the API server, with all its retries.
    #[arg(long, env = "MESHWARD_CLUSTER_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    pub cluster_timeout: Duration,
}
