//! A channel that connects lazily and makes one client span per call.

use std::{
    error::Error,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use meshward_proto::types::v1::ErrorReason;
use tonic::{
    Code, Status, TimeoutExpired,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::Service;
use tracing::Instrument as _;

use crate::{
    problem::{Problem, chain},
    telemetry::{self, Observed},
};

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
            let reply = match reply.instrument(span.clone()).await {
                Ok(reply) => reply,
                Err(error) => span.in_scope(|| Status::from(failed(&error)).into_http()),
            };
            let (parts, body) = reply.into_parts();
            let body = Observed::new(body, &parts.headers, move |code| telemetry::mark(&span, code));
            Ok(Response::from_parts(parts, Body::new(body)))
        })
    }
}

/// A call without an answer: past its deadline, or the peer is not there. (tonic itself would say CANCELLED for the
/// first.)
fn failed(error: &(dyn Error + 'static)) -> Problem {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if current.is::<TimeoutExpired>() {
            let message = "a peer service did not answer in time";
            return Problem::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message);
        }
        cause = current.source();
    }
    tracing::warn!(error = %chain(error), "a peer service cannot be reached");
    Problem::unavailable(ErrorReason::PeerUnavailable, "a peer service cannot be reached")
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
