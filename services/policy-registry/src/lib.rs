//! policy-registry: stores policies and their versions, and says which of them may be deployed.
//!
//! A policy is a named rule set for one object of one mesh. Its versions never change; editing makes a new one. Each
//! goes through a life ([`lifecycle`]): written, submitted (after a dry run on the cluster), approved by people other
//! than its author ([`approval`]), then deployed by the rollout-orchestrator, which tells how that ended. Every step is
//! an event in a hash-chained trail ([`audit`]), stored in the same transaction as what it tells of.
//!
//! ```text
//! grpc ─ parse, encode ──► app ─ who may, in which order ──► lifecycle, approval, policy, audit   (pure)
//!                           ├──► ports: validator (gRPC)
//!                           └──► store (SQL): compare-and-set on the policy's revision
//! ```
//!
//! Texts are checked by the validator before they are stored; if it does not answer, nothing is stored.

pub mod app;
pub mod approval;
pub mod audit;
pub mod config;
pub mod error;
pub mod grpc;
pub mod lifecycle;
pub mod metrics;
pub mod news;
pub mod policy;
pub mod ports;
pub mod store;

use std::sync::Arc;

use meshward_chassis::{
    client,
    clock::{Clock, SystemClock},
    ids::RandomIds,
    problem,
    server::{ConfigError, Server},
};

use app::App;
use config::Config;
use grpc::Registry;
use metrics::Metrics;
use news::News;
use ports::grpc::GrpcValidator;
use store::{Store, sql::SqlStore};

/// Name of the process in logs, traces and its default database file.
pub const NAME: &str = "policy-registry";

/// Opens the database, connects to the validator, and adds the service to a server.
///
/// # Errors
/// If the database cannot be opened or the validator's address is no URL.
pub async fn build(config: &Config, server: Server) -> anyhow::Result<Server> {
    build_with(config, server, Arc::new(SystemClock)).await
}

/// [`build`] with another clock.
///
/// # Errors
/// As [`build`].
pub async fn build_with(config: &Config, server: Server, clock: Arc<dyn Clock>) -> anyhow::Result<Server> {
    let channel =
        client::connect_lazy(&config.validator).map_err(|error| ConfigError(format!("--validator: {error}")))?;
    let store = SqlStore::open(&config.store.url(NAME))
        .await
        .map_err(|error| ConfigError(format!("--database-url: {}", problem::chain(&error))))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let app = App {
        store: Arc::clone(&store),
        validator: Arc::new(GrpcValidator::new(channel)),
        clock,
        ids: Arc::new(RandomIds),
        rules: config.rules(),
        news: News::default(),
        metrics: Metrics::registered(server.metrics()),
    };
    let service = Registry::new(app, server.shutdown_token()).into_server(server.max_message_bytes());
    let ready = move || {
        let store = Arc::clone(&store);
        async move { store.ping().await.map_err(|error| error.to_string()) }
    };
    Ok(server.add_service(service).ready_check("database", ready))
}
