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
pub mod replay;
pub mod source;
pub mod traffic;
pub mod window;

use std::{sync::Arc, time::Duration};

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
pub use config::{Args, SourceArgs};
use grpc::Api;
use queries::Catalog;
use source::{
    breaker::Breaker,
    cache::Cached,
    clusters::{Address, Sources},
    meters::{Meter, Meters},
    prometheus::{Access, IdentityFiles, Prometheus, ScopedFile, Tls, file_of},
};

/// Adds the service to a server. Prometheus is not asked before the first call: a collector without it is ready,
/// because PROVIDER_ERROR is an answer.
///
/// # Errors
/// If the address of Prometheus or the file with query templates cannot be used.
pub fn build(args: &Args, clock: Arc<dyn Clock>, server: Server) -> Result<Server, ConfigError> {
    let collector = Collector::new(
        sources(&args.source, args.query_cache, &clock, &Meters::registered(server.metrics()))?,
        catalog(&args.source)?,
        args.source.query_timeout,
    )
    .scraped_every(args.source.scrape_interval)
    .discovering_within(args.source.discovery_delay);
    let kept = Kept::new(Retention { most: args.kept_verdicts, age: args.kept_for });
    let api = Api::new(collector, kept, clock, Arc::new(RandomIds), server.shutdown_token());
    let limit = server.max_message_bytes();
    Ok(server.add_service(MetricsCollectorServiceServer::new(api).max_decoding_message_size(limit)))
}

fn sources(args: &SourceArgs, keep: Duration, clock: &Arc<dyn Clock>, meters: &Meters) -> Result<Sources, ConfigError> {
    let mut sources = Sources::default();
    for address in &args.prometheus {
        let meter = meters.of(address.cluster.as_deref());
        let prometheus = prometheus(args, address, meter.clone())?;
        let source = Breaker::new(prometheus, clock.clone(), meter.clone());
        let source = Cached::new(source, keep, meter);
        let added = sources.add(address.cluster.as_deref(), Arc::new(source));
        added.map_err(|why| ConfigError(format!("--prometheus: {why}")))?;
    }
    Ok(sources)
}

fn prometheus(args: &SourceArgs, address: &Address, meter: Meter) -> Result<Prometheus, ConfigError> {
    let access = access(args, address.cluster.as_deref())?;
    Prometheus::new(&address.url, access, meter).map_err(|why| ConfigError(format!("--prometheus: {why}")))
}

/// How one cluster's Prometheus lets us in.
fn access(args: &SourceArgs, cluster: Option<&str>) -> Result<Access, ConfigError> {
    let of = |files: &[ScopedFile]| file_of(files, cluster);
    let (bearer_file, basic_auth_file) = (of(&args.prometheus_bearer_file), of(&args.prometheus_basic_auth_file));
    let whose = cluster.map_or_else(String::new, |name| format!(" for the cluster {name:?}"));
    if bearer_file.is_some() && basic_auth_file.is_some() {
        let both = "--prometheus-bearer-file and --prometheus-basic-auth-file";
        return Err(ConfigError(format!("{both} are both given{whose}")));
    }
    let identity = match (of(&args.prometheus_cert_file), of(&args.prometheus_key_file)) {
        (Some(cert_file), Some(key_file)) => Some(IdentityFiles { cert_file, key_file }),
        (None, None) => None,
        _ => {
            let both = "--prometheus-cert-file and --prometheus-key-file";
            return Err(ConfigError(format!("{both} belong together, and only one is given{whose}")));
        }
    };
    let tls = Tls { ca_file: of(&args.prometheus_ca_file), identity };
    Ok(Access { bearer_file, basic_auth_file, headers: args.prometheus_header.clone(), tls })
}

fn catalog(args: &SourceArgs) -> Result<Catalog, ConfigError> {
    let Some(file) = &args.queries else { return Ok(Catalog::built_in()) };
    let unusable = |why: &dyn std::fmt::Display| ConfigError(format!("--queries {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unusable(&error))?;
    Catalog::with(&text).map_err(|error| unusable(&error))
}
