//! metrics-collector: what the mesh counted, and whether the canary is worse than its control.
//!
//! An analysis goes through these modules, and all but the two at the ends are pure:
//!
//! 1. [`grpc`] checks the request and who asks;
//! 2. [`queries`] turns the target into PromQL: which series a mesh and a mechanism count in;
//! 3. [`source`] brings the series over a grid of ticks, within a deadline ([`source::prometheus`]);
//! 4. [`window`] turns counters into increases per tick: restarts, gaps, series that appear late;
//! 5. [`traffic`] and [`histogram`] sum them up for people: rates, shares, latencies;
//! 6. [`judge`] weighs the ticks: a verdict, its evidence, and one sentence that says why.
//!
//! [`app`] puts them in this order. No verdict depends on any state: it is computed from the source alone, so restarts
//! lose nothing and any number of replicas say the same. What led to a verdict is kept for a while, for those who ask
//! why ([`app::kept`]). What is not known stays unknown: no series is NO_DATA, a
//! source that fails is PROVIDER_ERROR, a sample that is too small is WATCHING, and none of them is a pass.

pub mod app;
pub mod bench;
mod config;
pub mod error;
pub mod grpc;
pub mod histogram;
pub mod judge;
pub mod queries;
pub mod source;
pub mod traffic;
pub mod window;

use std::sync::Arc;

use meshward_chassis::{
    clock::Clock,
    ids::RandomIds,
    server::{ConfigError, Server},
};
use meshward_proto::metrics::v1::metrics_collector_service_server::MetricsCollectorServiceServer;

use app::{
    Collector,
    kept::{Kept, Retention},
};
pub use config::Args;
use grpc::Api;
use queries::Catalog;
use source::{
    breaker::Breaker,
    cache::Cached,
    clusters::Sources,
    prometheus::{Access, Prometheus},
};

/// Adds the service to a server. Prometheus is not asked before the first call: a collector without it is ready,
/// because PROVIDER_ERROR is an answer.
///
/// # Errors
/// If the address of Prometheus or the file with query templates cannot be used.
pub fn build(args: &Args, clock: Arc<dyn Clock>, server: Server) -> Result<Server, ConfigError> {
    let collector = Collector::new(sources(args, &clock)?, catalog(args)?, args.query_timeout);
    let kept = Kept::new(Retention { most: args.kept_verdicts, age: args.kept_for });
    let api = Api::new(collector, kept, clock, Arc::new(RandomIds), server.shutdown_token());
    let limit = server.max_message_bytes();
    Ok(server.add_service(MetricsCollectorServiceServer::new(api).max_decoding_message_size(limit)))
}

fn sources(args: &Args, clock: &Arc<dyn Clock>) -> Result<Sources, ConfigError> {
    let access = Access {
        bearer_file: args.prometheus_bearer_file.clone(),
        basic_auth_file: args.prometheus_basic_auth_file.clone(),
        headers: args.prometheus_header.clone(),
    };
    let mut sources = Sources::default();
    for address in &args.prometheus {
        let prometheus =
            Prometheus::new(&address.url, access.clone()).map_err(|why| ConfigError(format!("--prometheus: {why}")))?;
        let source = Cached::new(Breaker::new(prometheus, clock.clone()), args.query_cache);
        let added = sources.add(address.cluster.as_deref(), Arc::new(source));
        added.map_err(|why| ConfigError(format!("--prometheus: {why}")))?;
    }
    Ok(sources)
}

fn catalog(args: &Args) -> Result<Catalog, ConfigError> {
    let Some(file) = &args.queries else { return Ok(Catalog::built_in()) };
    let unusable = |why: &dyn std::fmt::Display| ConfigError(format!("--queries {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unusable(&error))?;
    Catalog::with(&text).map_err(|error| unusable(&error))
}
