//! Flags and environment.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use meshward_chassis::server::{ServerArgs, parse_duration};

use crate::source::{
    clusters::Address,
    prometheus::{Header, ScopedFile},
};

/// Reads the mesh's metrics and judges a canary against the control that runs beside it.
#[derive(Debug, Clone, Parser)]
#[command(name = "meshward-metrics-collector", version)]
pub struct Args {
    /// Flags that every server has.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Where the metrics are.
    #[command(flatten)]
    pub source: SourceArgs,

    /// How long an answer of Prometheus is given to others who ask the same question; 0s = only while it is out.
    #[arg(long, env = "MESHWARD_QUERY_CACHE", default_value = "1s", value_parser = parse_duration)]
    pub query_cache: Duration,

    /// How many verdicts ExplainVerdict can tell of, over all deployments; some 50 KB each.
    #[arg(long, env = "MESHWARD_KEPT_VERDICTS", default_value_t = 1000)]
    pub kept_verdicts: usize,

    /// How long a verdict can be told of.
    #[arg(long, env = "MESHWARD_KEPT_FOR", default_value = "24h", value_parser = parse_duration)]
    pub kept_for: Duration,
}

/// Which Prometheus is asked, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceArgs {
    /// Address of Prometheus, or of what speaks its HTTP API; with its path if it has one, e.g.
    /// http://mimir:8080/prometheus. NAME=URL is the one of the cluster NAME; can be repeated, or separated by commas.
    /// A plain URL is for targets without a cluster, and for all of them if no other is given.
    #[arg(long, env = "MESHWARD_PROMETHEUS", default_value = "http://127.0.0.1:9090", value_delimiter = ',')]
    pub prometheus: Vec<Address>,

    /// File with a bearer token for Prometheus; read again for each query, as all of these files are. NAME=FILE is for
    /// the Prometheus of the cluster NAME; a plain FILE for all that have none of their own; can be repeated.
    #[arg(long, env = "MESHWARD_PROMETHEUS_BEARER_FILE", value_delimiter = ',')]
    pub prometheus_bearer_file: Vec<ScopedFile>,

    /// File with user:password for Prometheus, likewise.
    #[arg(long, env = "MESHWARD_PROMETHEUS_BASIC_AUTH_FILE", value_delimiter = ',')]
    pub prometheus_basic_auth_file: Vec<ScopedFile>,

    /// PEM file with the authorities that the certificate of Prometheus must lead to, likewise; without it, those that
    /// the machine trusts.
    #[arg(long, env = "MESHWARD_PROMETHEUS_CA_FILE", value_delimiter = ',')]
    pub prometheus_ca_file: Vec<ScopedFile>,

    /// PEM file with our certificate for a Prometheus that asks for one, likewise.
    #[arg(long, env = "MESHWARD_PROMETHEUS_CERT_FILE", value_delimiter = ',')]
    pub prometheus_cert_file: Vec<ScopedFile>,

    /// PEM file with the certificate's private key, likewise.
    #[arg(long, env = "MESHWARD_PROMETHEUS_KEY_FILE", value_delimiter = ',')]
    pub prometheus_key_file: Vec<ScopedFile>,

    /// Header that each query carries, NAME=VALUE, e.g. X-Scope-OrgID=team-a (Mimir) or THANOS-TENANT=team-a; can be
    /// repeated.
    #[arg(long, env = "MESHWARD_PROMETHEUS_HEADER", value_delimiter = ',')]
    pub prometheus_header: Vec<Header>,

    /// YAML file with query templates; what it says of a mesh and a mechanism stands before what is built in. It is
    /// checked at the start: form, PromQL, types, placeholders. The form is that of src/queries/built_in.yaml.
    #[arg(long, env = "MESHWARD_QUERIES")]
    pub queries: Option<PathBuf>,

    /// How often Prometheus looks at the proxies. What it knows is as old as that, so a step's traffic is counted from the
    /// first tick that begins so long after the step was live: an earlier one may hold requests of the step before. The
    /// evidence misses nothing.
    #[arg(long, env = "MESHWARD_SCRAPE_INTERVAL", default_value = "15s", value_parser = parse_duration)]
    pub scrape_interval: Duration,

    /// How long Prometheus may take to see a pod by a new label; 10 s are what it takes at most as it comes (discovery and
    /// scraping each hand on every 5 s). A step whose cohorts are labels of pods is counted from so much later on. Until
    /// then a canary's requests may be among the control's.
    #[arg(long, env = "MESHWARD_DISCOVERY_DELAY", default_value = "10s", value_parser = parse_duration)]
    pub discovery_delay: Duration,

    /// How long Prometheus may take for one answer, repetitions included; after that the verdict is PROVIDER_ERROR.
    /// Keep it shorter than the callers' own deadlines.
    #[arg(long, env = "MESHWARD_QUERY_TIMEOUT", default_value = "5s", value_parser = parse_duration)]
    pub query_timeout: Duration,
}
