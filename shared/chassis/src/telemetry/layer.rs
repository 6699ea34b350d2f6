//! One span and one count per RPC.

use std::{collections::HashSet, sync::Arc, time::Instant};

use axum::{body::Body, extract::State, middleware::Next, response::Response};
use tonic::Code;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Headers, Metrics, Observed, adopt};

/// What the layer needs to know.
#[derive(Debug)]
pub(crate) struct Observer {
    /// Where to count.
    pub metrics: Metrics,
    /// `package.Service/Method` of every RPC that is served: other paths are counted under one name, so that a scanner
    /// cannot fill the memory with label sets.
    pub known: HashSet<String>,
}

/// The server layer: continues the caller's trace, names the span by the RPC, and records status and duration when the
/// response really ends.
pub(crate) async fn observe(
    State(observer): State<Arc<Observer>>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let rpc = if observer.known.contains(path) { path.to_owned() } else { "unknown/unknown".to_owned() };
    let span = server_span(&rpc);
    adopt(&span, &Headers(request.headers()));
    // Until the response is there, this future being dropped means that the caller went away.
    let call = Call { observer, rpc, span: span.clone(), started: Instant::now(), code: Code::Cancelled };
    let response = next.run(request).instrument(span).await;
    let (parts, body) = response.into_parts();
    let body = Observed::new(body, &parts.headers, move |code| call.end(code));
    Response::from_parts(parts, Body::new(body))
}

fn server_span(rpc: &str) -> tracing::Span {
    let (service, method) = rpc.split_once('/').unwrap_or((rpc, ""));
    tracing::info_span!(
        "rpc",
        otel.name = rpc,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = tracing::field::Empty,
        enduser.id = tracing::field::Empty,
    )
}

/// One running call; counted when it is dropped.
struct Call {
    observer: Arc<Observer>,
    rpc: String,
    span: tracing::Span,
    started: Instant,
    code: Code,
}

impl Call {
    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        mark(&self.span, self.code);
        let (service, method) = self.rpc.split_once('/').unwrap_or((&self.rpc, ""));
        self.observer.metrics.record(service, method, code_label(self.code), self.started.elapsed());
        let took_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.span.in_scope(|| tracing::debug!(rpc = self.rpc, code = code_label(self.code), took_ms, "rpc ended"));
    }
}

/// Writes the final status on a span. Only faults of the server make a server span an error.
pub(crate) fn mark(span: &tracing::Span, code: Code) {
    span.record("rpc.grpc.status_code", code as i32);
    let faults =
        [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable, Code::DataLoss];
    if faults.contains(&code) {
        span.set_status(opentelemetry::trace::Status::error(code_label(code)));
    }
}

/// The label of a status in metrics and JSON: its name in the gRPC specification, e.g. `NOT_FOUND`.
pub(crate) fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
