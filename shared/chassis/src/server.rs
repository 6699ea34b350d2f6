//! One server process: a listener for gRPC and HTTP/JSON, an admin listener, limits and an orderly end.
//!
//! ```no_run
//! # use meshward_chassis::server::{self, ServerArgs};
//! # use clap::Parser;
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     server: ServerArgs,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let args = Args::parse();
//!     server::run("meshward-example", &args.server, |server| async move {
//!         // let service = FooServiceServer::new(Foo::new()).max_decoding_message_size(server.max_message_bytes());
//!         // Ok(server.add_service(service))
//!         Ok(server)
//!     })
//! }
//! ```
//!
//! Shutdown: `/readyz` and grpc.health say no, [`Server::shutdown_token`] fires for workers and streams, open calls get
//! `--drain-timeout` to end, then connections are cut. A silent TCP connection holds nothing up.

mod accept;
mod admin;
mod args;
mod guard;
mod run;

use std::{collections::HashSet, convert::Infallible, future::Future, net::SocketAddr, sync::Arc};

use axum::{Router, middleware};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    auth::{self, Verifier, jwks::KeySet},
    clock::SystemClock,
    telemetry::{self, Metrics},
    transcode::Transcoder,
};

pub use args::{ServerArgs, parse_duration};
pub use run::{install_crypto, run};

/// A flag, a file or an address that cannot be used: one sentence for the operator. [`run`] exits with code 2 on it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// A server being put together. Its port is bound from the start, so the address is known before it serves.
pub struct Server {
    name: String,
    args: ServerArgs,
    listener: TcpListener,
    admin: Option<TcpListener>,
    routes: RoutesBuilder,
    services: Vec<&'static str>,
    health: HealthReporter,
    verifier: Arc<Verifier>,
    metrics: Metrics,
    checks: Vec<(String, Check)>,
    shutdown: CancellationToken,
    workers: TaskTracker,
}

impl Server {
    /// Binds the listeners and reads the key set's location.
    ///
    /// # Errors
    /// If an address cannot be bound or the key set's location is malformed. A key set that cannot be read yet is no
    /// error: `/readyz` says so until it can.
    pub async fn new(name: &str, args: &ServerArgs) -> Result<Self, ConfigError> {
        install_crypto();
        let keys = KeySet::at(&args.jwks).map_err(|why| ConfigError(format!("--jwks: {why}")))?;
        let verifier = Verifier::new(keys, &args.jwt_issuer, &args.jwt_audience, Arc::new(SystemClock));
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut routes = RoutesBuilder::default();
        routes.add_service(health_service);
        Ok(Self {
            name: name.to_owned(),
            listener: bind("--listen", args.listen).await?,
            admin: match args.admin_listen {
                Some(addr) => Some(bind("--admin-listen", addr).await?),
                None => None,
            },
            args: args.clone(),
            routes,
            services: Vec::new(),
            health,
            verifier: Arc::new(verifier),
            metrics: Metrics::default(),
            checks: Vec::new(),
            shutdown: CancellationToken::new(),
            workers: TaskTracker::new(),
        })
    }

    /// Adds a generated tonic service: its RPCs, its reflection, its health and its HTTP/JSON routes. Give it the
    /// message limit first: `FooServer::new(foo).max_decoding_message_size(server.max_message_bytes())`.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.services.push(S::NAME);
        self
    }

    /// Adds a check to `/readyz`. It is called on every probe, with a deadline of two seconds; its error is shown
    /// there.
    #[must_use]
    pub fn ready_check<F, Fut>(mut self, name: &str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push((name.to_owned(), Arc::new(move || Box::pin(check()))));
        self
    }

    /// Starts background work that ends by itself once [`Server::shutdown_token`] fires; the drain waits for it.
    pub fn spawn_worker(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.workers.spawn(work);
    }

    /// Fires when shutdown begins. Streams and workers watch it.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// The metric registry, for a service's own metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Largest request message, bytes (`--max-message-bytes`).
    pub fn max_message_bytes(&self) -> usize {
        self.args.max_message_bytes
    }

    /// Where gRPC and HTTP/JSON are served.
    pub fn bound_addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    /// Where metrics and probes are served, if anywhere.
    pub fn bound_admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.local_addr().expect("a bound socket has an address"))
    }

    /// Serves until `shutdown` ends, then drains.
    ///
    /// # Errors
    /// If an HTTP template of the protos cannot be served, before anything is.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ConfigError> {
        let transcoder = Transcoder::new(&self.services, self.args.max_message_bytes, self.args.request_timeout)
            .map_err(|why| ConfigError(format!("the HTTP/JSON mapping: {why}")))?;
        let verifier = Arc::clone(&self.verifier);
        let mut checks = self.checks;
        checks.push(("jwks".to_owned(), Arc::new(move || Box::pin(Arc::clone(&verifier).ready()))));
        for service in &self.services {
            self.health.set_service_status(service, ServingStatus::Serving).await;
        }
        let stack = stack(self.routes, &self.services, &self.args, self.verifier, self.metrics.clone())?;
        let app = transcoder.into_router(stack);
        let admin = self.admin.map(|listener| {
            let state = admin::State { metrics: self.metrics, checks, stopping: self.shutdown.clone() };
            admin::spawn(listener, state)
        });
        let acceptor = accept::Acceptor::new(&self.args, app);
        let accepting = tokio::spawn(acceptor.run(self.listener, self.shutdown.clone()));
        tracing::info!(server = self.name, "serving");
        shutdown.await;

        tracing::info!(server = self.name, "draining");
        self.health.set_service_status("", ServingStatus::NotServing).await;
        for service in &self.services {
            self.health.set_service_status(service, ServingStatus::NotServing).await;
        }
        self.shutdown.cancel();
        self.workers.close();
        let drained = async { tokio::join!(self.workers.wait(), accepting) };
        if tokio::time::timeout(self.args.drain_timeout + accept::HARD_STOP_MARGIN, drained).await.is_err() {
            tracing::warn!("background work did not end within --drain-timeout and is cut off");
        }
        if let Some(admin) = admin {
            admin.abort();
        }
        Ok(())
    }
}

async fn bind(flag: &str, addr: SocketAddr) -> Result<TcpListener, ConfigError> {
    TcpListener::bind(addr).await.map_err(|error| ConfigError(format!("{flag} {addr}: {error}")))
}

/// Wraps the services in the layers that the crate's documentation lists. The last one added is the outermost.
fn stack(
    mut routes: RoutesBuilder,
    services: &[&'static str],
    args: &ServerArgs,
    verifier: Arc<Verifier>,
    metrics: Metrics,
) -> Result<Router, ConfigError> {
    let broken = |error: tonic_reflection::server::Error| ConfigError(format!("reflection: {error}"));
    routes.add_service(reflection(services).build_v1().map_err(broken)?);
    routes.add_service(reflection(services).build_v1alpha().map_err(broken)?);
    let observer = telemetry::Observer { metrics, known: known_rpcs(services) };
    let limits = guard::Limits::new(args.max_concurrency, args.max_queue);
    Ok(routes
        .routes()
        .into_axum_router()
        .layer(middleware::from_fn_with_state(verifier, auth::authenticate))
        .layer(middleware::from_fn_with_state(Arc::new(limits), guard::shed_load))
        .layer(middleware::from_fn_with_state(args.request_timeout, guard::deadline))
        .layer(middleware::from_fn(guard::catch_panic))
        .layer(middleware::from_fn_with_state(Arc::new(observer), telemetry::observe)))
}

fn reflection(services: &[&'static str]) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(meshward_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
}

fn known_rpcs(services: &[&'static str]) -> HashSet<String> {
    let pool = crate::transcode::pool();
    let methods = services.iter().filter_map(|name| pool.get_service_by_name(name)).flat_map(|service| {
        let name = service.full_name().to_owned();
        service.methods().map(move |method| format!("{name}/{}", method.name())).collect::<Vec<_>>()
    });
    let health = ["Check", "Watch", "List"].map(|method| format!("grpc.health.v1.Health/{method}"));
    methods.chain(health).collect()
}
