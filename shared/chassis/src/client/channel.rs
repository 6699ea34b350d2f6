//! A channel that connects lazily and makes one client span per call.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::{
    Code,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;
use tracing::Instrument as _;

use crate::telemetry::{self, Observed};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The address of a peer cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint:?} is not an endpoint such as http://127.0.0.1:8080")]
pub struct EndpointError {
    endpoint: String,
    #[source]
    source: tonic::transport::Error,
}

/// A connection to one peer, to be used as `FooClient::new(channel)`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerChannel {
    channel: Channel,
}

/// A channel to `endpoint` (`http://host:port`), connected at first use. A peer that is down gives UNAVAILABLE.
///
/// # Errors
/// If the endpoint is not a URL.
pub fn connect_lazy(endpoint: &str) -> Result<PeerChannel, EndpointError> {
    let parsed = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|source| EndpointError { endpoint: endpoint.to_owned(), source })?;
    let channel = parsed
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .tcp_nodelay(true)
        .connect_lazy();
    Ok(PeerChannel { channel })
}

impl Service<Request<Body>> for PeerChannel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let span = client_span(request.uri().path());
        telemetry::inject(&span, request.headers_mut());
        let reply = self.channel.call(request);
        Box::pin(async move {
            let reply = reply.instrument(span.clone()).await;
            let reply = reply.inspect_err(|_| telemetry::mark(&span, Code::Unavailable))?;
            let (parts, body) = reply.into_parts();
            let body = Observed::new(body, &parts.headers, move |code| telemetry::mark(&span, code));
            Ok(Response::from_parts(parts, Body::new(body)))
        })
    }
}

fn client_span(path: &str) -> tracing::Span {
    let rpc = path.trim_start_matches('/');
    let (service, method) = rpc.split_once('/').unwrap_or((rpc, ""));
    tracing::info_span!(
        "call",
        otel.name = rpc,
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = tracing::field::Empty,
    )
}
