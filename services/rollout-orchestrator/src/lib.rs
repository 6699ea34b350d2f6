//! rollout-orchestrator: releases approved versions step by step, and takes them back by itself.
//!
//! A request goes `grpc` → `app` → `store`, and a person has the answer. From there on the [`worker`] drives: it claims what is due,
//! makes the mesh look as the stored state says ([`deployment::Deployment::desired`]), observes, asks the pure [`decide`] what follows, and commits that
//! with its events in one transaction. The next tick acts on what was committed. So a process that is killed anywhere loses nothing: the
//! next tick repeats the same path, and every write carries a generation that fences late writers.
//!
//! | module | what it holds |
//! |---|---|
//! | [`deployment`] | the aggregate: state, reports, what is desired |
//! | [`strategy`] | the steps, their defaults and bounds |
//! | [`decide`] | pure: observation → next state; command → next state |
//! | [`worker`] | the loop |
//! | [`drift`] | hears of others' changes, and wakes the loop |
//! | [`app`] | the use cases behind the RPCs |
//! | [`store`] | port and SQL |
//! | [`verdicts`] | what the judge said and what led to it: port and SQL |
//! | [`peers`] | ports to the other four services, and their gRPC form |
//! | [`grpc`] | the RPCs and the conversions |

pub mod app;
pub mod config;
pub mod decide;
pub mod deployment;
pub mod drift;
pub mod error;
pub mod grpc;
pub mod peers;
pub mod store;
pub mod strategy;
pub mod verdicts;
pub mod worker;

use std::sync::Arc;

use meshward_chassis::{
    client::ServiceToken,
    clock::SystemClock,
    ids::RandomIds,
    problem::chain,
    server::{ConfigError, Server},
};
use meshward_proto::rollout::v1::rollout_orchestrator_service_server::RolloutOrchestratorServiceServer;
use meshward_store::Database;

use crate::{
    app::App,
    config::Config,
    grpc::Grpc,
    peers::grpc::Peer,
    store::SqlStore,
    verdicts::SqlVerdicts,
    worker::{Changes, Ports, Worker},
};

/// Puts the service on a server: store, peers, RPCs, worker.
///
/// # Errors
/// [`ConfigError`] if the database or a peer's address cannot be used.
pub async fn build(server: Server, config: Config) -> anyhow::Result<Server> {
    let url = config.store.url("rollout-orchestrator");
    let database = Database::open(&url, store::MIGRATIONS)
        .await
        .map_err(|error| ConfigError(format!("--database-url: {}", chain(&error))))?;
    let store = Arc::new(SqlStore::new(database.clone()));
    let token = ServiceToken::from(&config.token);
    let peer = |name: &'static str, address: &str| {
        let peer = Peer::new(name, address, token.clone());
        peer.map(Arc::new).map_err(|error| ConfigError(format!("--{name}: {}", chain(&error))))
    };
    let ports = Ports {
        store: store.clone(),
        verdicts: Arc::new(SqlVerdicts::new(database, config.verdicts_for)),
        registry: peer("policy-registry", &config.policy_registry)?,
        validator: peer("validator", &config.validator)?,
        mesh: peer("mesh-gateway", &config.mesh_gateway)?,
        judge: peer("metrics-collector", &config.metrics_collector)?,
        clock: Arc::new(SystemClock),
        changes: Changes::default(),
    };
    let worker = Worker::new(ports.clone(), config.instance, config.workers.into());
    Ok(serve(server, ports, worker, move || {
        let store = store.clone();
        async move { store.ping().await.map_err(|error| chain(&error)) }
    }))
}

/// The same with ports that are given: what tests and [`build`] share.
pub fn serve<F, Fut>(server: Server, ports: Ports, worker: Worker, ready: F) -> Server
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    let stop = server.shutdown_token();
    server.spawn_worker(worker.run(stop.clone()));
    let grpc = Grpc::new(App::new(ports.clone(), Arc::new(RandomIds)), ports, stop);
    let limit = server.max_message_bytes();
    let service = RolloutOrchestratorServiceServer::new(grpc).max_decoding_message_size(limit);
    server.add_service(service).ready_check("database", ready)
}
