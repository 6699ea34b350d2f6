//! Flags and environment.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use meshward_chassis::server::{ServerArgs, parse_duration};

/// Reads the mesh's metrics and judges a canary against the control that runs beside it.
#[derive(Debug, Clone, Parser)]
#[command(name = "meshward-metrics-collector", version)]
pub struct Args {
    /// Flags that every server has.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Address of Prometheus, or of what speaks its HTTP API; with its path if it has one, e.g.
    /// http://mimir:8080/prometheus.
    #[arg(long, env = "MESHWARD_PROMETHEUS", default_value = "http://127.0.0.1:9090")]
    pub prometheus: String,

    /// File with a bearer token for Prometheus; read again for each query.
    #[arg(long, env = "MESHWARD_PROMETHEUS_BEARER_FILE")]
    pub prometheus_bearer_file: Option<PathBuf>,

    /// How long Prometheus may take for one answer, repetitions included; after that the verdict is PROVIDER_ERROR.
    /// Keep it shorter than the callers' own deadlines.
    #[arg(long, env = "MESHWARD_QUERY_TIMEOUT", default_value = "5s", value_parser = parse_duration)]
    pub query_timeout: Duration,
}
