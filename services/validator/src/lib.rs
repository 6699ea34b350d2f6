//! The validator: finds what is wrong with a policy before any proxy sees it.
//!
//! A text goes through layers, each with findings that carry line and column:
//!
//! 1. [`text`]: YAML as Kubernetes tools read it, with every quantity bounded;
//! 2. [`schema`]: the CustomResourceDefinitions of the meshes, the cluster's own if one is meant, unknown fields included;
//! 3. [`rules`]: what a schema cannot say, one pure function per kind;
//! 4. [`rules::cross`]: references and conflicts among all objects that are known, which are a [`world`];
//! 5. DryRun only: the cluster's own admission, asked through mesh-gateway ([`ports`]).
//!
//! [`app`] runs 1 to 4 as pure functions from bytes to a [`report::Report`]; [`grpc`] is the service around it. Bad text is
//! never an error status: it is what this service is for. The service keeps no state but a few sets of objects that are
//! judged already ([`sessions`]), so that the next change of one of them is judged in milliseconds.
//!
//! How far its verdicts are those of real clusters is measured by [`corpus`], which `meshward-validator-corpus` prints.

pub mod access;
pub mod app;
mod cel;
pub mod config;
pub mod corpus;
pub mod dry_run;
pub mod error;
pub mod explain;
pub mod grpc;
pub mod impact;
pub mod live;
mod parallel;
pub mod path;
pub mod ports;
pub mod report;
pub mod routing;
pub mod rules;
pub mod schema;
pub mod sessions;
pub mod text;
pub mod world;

use std::sync::Arc;

use meshward_chassis::{
    clock::SystemClock,
    server::{ConfigError, Server},
};
use meshward_proto::validator::v1::validator_service_server::ValidatorServiceServer;

use crate::{
    config::Config,
    grpc::Validator,
    ports::{Peers, Registry, grpc::GrpcGateway, registry::GrpcRegistry, traffic::GrpcTraffic},
    schema::Catalogue,
    sessions::Sessions,
};

/// Puts the service on a server: reads the definitions, prepares the ways to mesh-gateway and policy-registry.
///
/// # Errors
/// If the definitions cannot be read or an address is no URL.
pub fn build(config: &Config, server: Server) -> anyhow::Result<Server> {
    let catalogue = Catalogue::read(&config.crd_paths()).map_err(|error| ConfigError(format!("--crds: {error}")))?;
    catalogue.check().map_err(|error| ConfigError(format!("--crds: {error}")))?;
    if catalogue.is_empty() {
        tracing::warn!("no CRD catalogue is configured, so schemas are not checked; set --crds");
    } else {
        tracing::info!(versions = catalogue.len(), "the CRD catalogue is read");
    }
    let gateway = GrpcGateway::new(&config.mesh_gateway, config.dry_run_timeout)
        .map_err(|error| ConfigError(format!("--mesh-gateway: {error}")))?;
    let registry = match config.policy_registry.as_str() {
        "" => None,
        address => {
            let registry = GrpcRegistry::new(address, config.context_timeout);
            let registry = registry.map_err(|error| ConfigError(format!("--policy-registry: {error}")))?;
            Some(Arc::new(registry) as Arc<dyn Registry>)
        }
    };
    let sessions = Sessions::new(config.max_sessions);
    let clock = Arc::new(SystemClock);
    let live = live::Limits { within: config.context_timeout, max_age: config.context_max_age };
    let validator = Validator::new(
        catalogue,
        Peers { gateway, registry },
        sessions,
        live,
        clock,
        config.max_validations,
        config.validation_timeout,
    );
    // An empty variable is as good as none.
    let validator = match config.metrics_collector.as_deref().filter(|endpoint| !endpoint.is_empty()) {
        None => validator,
        Some(endpoint) => validator.observing(
            GrpcTraffic::new(endpoint, config.traffic_timeout)
                .map_err(|error| ConfigError(format!("--metrics-collector: {error}")))?,
        ),
    };
    let service = ValidatorServiceServer::new(validator).max_decoding_message_size(server.max_message_bytes());
    Ok(server.add_service(service))
}
