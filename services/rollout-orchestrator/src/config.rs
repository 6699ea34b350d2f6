//! Flags and environment.

use std::time::Duration;

use clap::Parser;
use meshward_chassis::{
    client::ServiceTokenArgs,
    server::{ServerArgs, parse_duration},
};
use meshward_store::StoreArgs;

/// Releases approved policy versions step by step, and takes them back by itself when they are worse than what they replace.
#[derive(Debug, Parser)]
#[command(name = "meshward-rollout-orchestrator", version)]
pub struct Config {
    /// What every server has.
    #[command(flatten)]
    pub server: ServerArgs,

    /// Where deployments are kept.
    #[command(flatten)]
    pub store: StoreArgs,

    /// The token with which the other services are called.
    #[command(flatten)]
    pub token: ServiceTokenArgs,

    /// The policy-registry, e.g. http://policy-registry:8080.
    #[arg(long, env = "MESHWARD_POLICY_REGISTRY")]
    pub policy_registry: String,

    /// The validator, e.g. http://validator:8080.
    #[arg(long, env = "MESHWARD_VALIDATOR")]
    pub validator: String,

    /// The mesh-gateway, e.g. http://mesh-gateway:8080.
    #[arg(long, env = "MESHWARD_MESH_GATEWAY")]
    pub mesh_gateway: String,

    /// The metrics-collector, e.g. http://metrics-collector:8080.
    #[arg(long, env = "MESHWARD_METRICS_COLLECTOR")]
    pub metrics_collector: String,

    /// How long it can be asked what led to a verdict; the newest of each step, and its changes of mind.
    #[arg(long, env = "MESHWARD_VERDICTS_FOR", default_value = "720h", value_parser = parse_duration)]
    pub verdicts_for: Duration,

    /// Name of this replica, the same after a restart: its claims of before are then taken up at once instead of after their lease. In
    /// Kubernetes the pod's name.
    #[arg(long, env = "MESHWARD_INSTANCE", default_value = "rollout-orchestrator-0")]
    pub instance: String,

    /// Deployments that this replica works on at once.
    #[arg(long, env = "MESHWARD_WORKERS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: u16,
}
