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

    /// The kubeconfig file of the cluster. Not set: as kubectl finds it, or the service account of the pod.
    #[arg(long, env = "MESHWARD_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// The name that requests call the cluster by.
    #[arg(long, env = "MESHWARD_CLUSTER_NAME", default_value = "default")]
    pub cluster_name: String,

    /// Debug interface of each replica of istiod, e.g. http://10.0.0.5:15014; more than once, or separated by commas.
    /// Not set: nothing can be proven, and every proof says UNKNOWN.
    #[arg(long, env = "MESHWARD_ISTIOD", value_delimiter = ',')]
    pub istiod: Vec<String>,

    /// Longest time for one operation on the API server, with all its retries.
    #[arg(long, env = "MESHWARD_CLUSTER_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    pub cluster_timeout: Duration,
}
