//! Flags.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use meshward_chassis::server::{ServerArgs, parse_duration};

/// Finds what is wrong with a mesh policy: syntax, schema, semantics, and the cluster's own admission.
#[derive(Debug, Clone, Parser)]
#[command(name = "meshward-validator", version)]
pub struct Config {
    /// What every server has.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Files or folders with the CustomResourceDefinitions of the meshes (YAML), separated by ':'. Not set: schemas are not
    /// checked, and every answer says so. Where a request names a cluster or asks for what is live, the cluster's own come first.
    #[arg(long, env = "MESHWARD_CRDS", value_delimiter = ':')]
    pub crds: Vec<PathBuf>,

    /// Where mesh-gateway serves, for dry runs and for what is live in a cluster.
    #[arg(long, env = "MESHWARD_MESH_GATEWAY", default_value = "http://127.0.0.1:8083")]
    pub mesh_gateway: String,

    /// Where policy-registry serves, for what it holds as context, e.g. http://policy-registry:8080. Not set: an answer that
    /// asks for it says so in `skipped`.
    #[arg(long, env = "MESHWARD_POLICY_REGISTRY", default_value = "")]
    pub policy_registry: String,

    /// Where metrics-collector serves, for the traffic on which AnalyzeImpact tells what a change would mean. Not set: such
    /// traffic comes with the request.
    #[arg(long, env = "MESHWARD_METRICS_COLLECTOR")]
    pub metrics_collector: Option<String>,

    /// Longest time that one call of metrics-collector may take.
    #[arg(long, env = "MESHWARD_TRAFFIC_TIMEOUT", default_value = "15s", value_parser = parse_duration)]
    pub traffic_timeout: Duration,

    /// Longest time that one text may take; it is far more than any text within the limits needs.
    #[arg(long, env = "MESHWARD_VALIDATION_TIMEOUT", default_value = "10s", value_parser = parse_duration)]
    pub validation_timeout: Duration,

    /// Longest time that one call of mesh-gateway may take.
    #[arg(long, env = "MESHWARD_DRY_RUN_TIMEOUT", default_value = "15s", value_parser = parse_duration)]
    pub dry_run_timeout: Duration,

    /// Longest time for reading what is live in a cluster and what the registry holds; what was not read then is listed as skipped.
    #[arg(long, env = "MESHWARD_CONTEXT_TIMEOUT", default_value = "5s", value_parser = parse_duration)]
    pub context_timeout: Duration,

    /// What is live in a cluster, and what the registry holds for it, is read anew when it was read longer ago.
    #[arg(long, env = "MESHWARD_CONTEXT_MAX_AGE", default_value = "5s", value_parser = parse_duration)]
    pub context_max_age: Duration,

    /// Most texts validated at once; further calls get RESOURCE_EXHAUSTED.
    #[arg(long, env = "MESHWARD_MAX_VALIDATIONS", default_value_t = 16)]
    pub max_validations: usize,

    /// Most sets of objects that are kept warm for WhatIf; each takes as much memory as its objects. 0: none is kept.
    #[arg(long, env = "MESHWARD_MAX_SESSIONS", default_value_t = 8)]
    pub max_sessions: usize,
}

impl Config {
    /// The places of the definitions; an empty one, as an empty variable gives, is left out.
    #[must_use]
    pub fn crd_paths(&self) -> Vec<PathBuf> {
        self.crds.iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect()
    }
}
