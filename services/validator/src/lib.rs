//! The validator: finds what is wrong with a policy before any proxy sees it.
//!
//! A text goes through layers, each with findings that carry line and column:
//!
//! 1. [`text`]: YAML as Kubernetes tools read it, with every quantity bounded;
//! 2. [`schema`]: the CustomResourceDefinitions of the meshes, unknown fields included;
//! 3. [`rules`]: what a schema cannot say, one pure function per kind;
//! 4. DryRun only: the cluster's own admission, asked through mesh-gateway ([`ports`]).
//!
//! [`app`] runs 1 to 3 as one pure function from bytes to a [`report::Report`]; [`grpc`] is the service around it. Bad text is
//! never an error status: it is what this service is for. The service keeps no state.
//!
//! How far its verdicts are those of real clusters is measured by [`corpus`], which `meshward-validator-corpus` prints.

pub mod app;
pub mod config;
pub mod corpus;
pub mod dry_run;
pub mod error;
pub mod explain;
pub mod grpc;
pub mod path;
pub mod ports;
pub mod report;
pub mod rules;
pub mod schema;
pub mod text;
pub mod world;

use meshward_chassis::server::{ConfigError, Server};
use meshward_proto::validator::v1::validator_service_server::ValidatorServiceServer;

use crate::{config::Config, grpc::Validator, ports::grpc::GrpcGateway, schema::Catalogue};

/// Puts the service on a server: reads the definitions, prepares the way to mesh-gateway.
///
/// # Errors
/// If the definitions cannot be read or the gateway's address is no URL.
pub fn build(config: &Config, server: Server) -> anyhow::Result<Server> {
    let catalogue = Catalogue::read(&config.crd_paths()).map_err(|error| ConfigError(format!("--crds: {error}")))?;
    if catalogue.is_empty() {
        tracing::warn!("no CRD catalogue is configured, so schemas are not checked; set --crds");
    } else {
        tracing::info!(versions = catalogue.len(), "the CRD catalogue is read");
    }
    let gateway = GrpcGateway::new(&config.mesh_gateway, config.dry_run_timeout)
        .map_err(|error| ConfigError(format!("--mesh-gateway: {error}")))?;
    let validator = Validator::new(catalogue, gateway, config.max_validations, config.validation_timeout);
    let service = ValidatorServiceServer::new(validator).max_decoding_message_size(server.max_message_bytes());
    Ok(server.add_service(service))
}
