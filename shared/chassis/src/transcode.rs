//! The HTTP/JSON API, driven by the `google.api.http` options of the protos.
//!
//! A request is matched to a template ([`routes`]), its path, query and body become one message ([`message`]), and the
//! message goes as a gRPC frame through the same layered service that gRPC callers reach, in process. The answer comes
//! back as ProtoJSON ([`reply`]): lowerCamelCase names, zero values shown, 64-bit integers as strings. Server streams
//! are NDJSON, or server-sent events if the caller accepts `text/event-stream`.
//!
//! Templates that cannot be served (`{name=projects/*}`, client streaming) stop the process at start, not a caller
//! later.

mod message;
mod reply;
mod routes;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, extract::State, response::Response};
use http::{HeaderMap, HeaderValue, Method, header};
use meshward_proto::types::v1::ErrorReason;
use prost_reflect::DescriptorPool;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use self::routes::{Match, Routes};
use crate::problem::Problem;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(meshward_proto::FILE_DESCRIPTOR_SET).expect("the contract is well formed");
    // Without these, the details of an error could not be shown.
    pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("google.rpc is well formed");
    pool
});

/// Headers that go from the HTTP request to the RPC.
const PASSED_ON: [&str; 5] = ["authorization", "traceparent", "tracestate", "baggage", "grpc-timeout"];

/// Descriptors of the whole contract and of the error details.
pub fn pool() -> DescriptorPool {
    POOL.clone()
}

/// Maps HTTP/JSON to RPCs.
#[derive(Debug)]
pub struct Transcoder {
    routes: Routes,
    max_body_bytes: usize,
    body_timeout: Duration,
}

impl Transcoder {
    /// The routes of these services (full proto names). A request body may have `max_body_bytes` and must arrive within
    /// `body_timeout`.
    ///
    /// # Errors
    /// A sentence that names the RPC and the template that cannot be served.
    pub fn new(services: &[&str], max_body_bytes: usize, body_timeout: Duration) -> Result<Self, String> {
        Ok(Self { routes: Routes::of(&POOL, services)?, max_body_bytes, body_timeout })
    }

    /// One router for both protocols: gRPC requests go to `grpc` as they are, all others are mapped.
    pub(crate) fn into_router(self, grpc: Router) -> Router {
        Router::new().fallback(dispatch).with_state(Arc::new(App { transcoder: self, grpc }))
    }

    /// The RPC and the message that a request stands for.
    async fn understand(&self, request: Request) -> Result<(Match<'_>, HeaderMap, Vec<u8>), Response> {
        let (parts, body) = request.into_parts();
        let found = self.routes.find(&parts.method, parts.uri.path());
        let found = found.map_err(|refusal| reply::refused(&refusal, &parts.method, parts.uri.path()))?;
        let body = self.read(&parts.headers, body).await?;
        let message = message::build(&found, parts.uri.query().unwrap_or_default(), &body).map_err(reply::problem)?;
        Ok((found, parts.headers, message))
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Response> {
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if kind.is_some_and(|kind| !kind.to_ascii_lowercase().starts_with(b"application/json")) {
            let problem = Problem::invalid_argument("body", "send it as content-type: application/json");
            return Err(reply::with_status(problem, http::StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let reading = axum::body::to_bytes(body, self.max_body_bytes);
        match tokio::time::timeout(self.body_timeout, reading).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => {
                let message = format!("the body is larger than {} bytes or broke off", self.max_body_bytes);
                let problem = Problem::new(Code::ResourceExhausted, ErrorReason::TooLarge, message);
                Err(reply::with_status(problem, http::StatusCode::PAYLOAD_TOO_LARGE))
            }
            Err(_) => {
                let message = format!("the body did not arrive within {:?}", self.body_timeout);
                let problem = Problem::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded, message);
                Err(reply::with_status(problem, http::StatusCode::REQUEST_TIMEOUT))
            }
        }
    }
}

struct App {
    transcoder: Transcoder,
    grpc: Router,
}

async fn dispatch(State(app): State<Arc<App>>, request: Request) -> Response {
    if is_grpc(request.headers()) {
        return call(app.grpc.clone(), request).await;
    }
    let (found, headers, message) = match app.transcoder.understand(request).await {
        Ok(understood) => understood,
        Err(refusal) => return refusal,
    };
    let rpc = rpc_request(&found, &headers, message);
    let answer = call(app.grpc.clone(), rpc).await;
    if let Some(status) = Status::from_header_map(answer.headers()).filter(|status| status.code() != Code::Ok) {
        return reply::status(&status, answer.headers());
    }
    let output = found.method.output();
    if found.method.is_server_streaming() {
        reply::stream(answer, output, accepts_events(&headers))
    } else {
        reply::unary(answer, output).await
    }
}

async fn call(grpc: Router, request: Request) -> Response {
    match grpc.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn rpc_request(found: &Match<'_>, headers: &HeaderMap, message: Vec<u8>) -> Request {
    let path = format!("/{}/{}", found.method.parent_service().full_name(), found.method.name());
    let mut request = Request::new(Body::from(message::frame(&message)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().expect("proto names make a valid path");
    *request.version_mut() = http::Version::HTTP_2;
    let to = request.headers_mut();
    to.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    to.insert(header::TE, HeaderValue::from_static("trailers"));
    for name in PASSED_ON {
        if let Some(value) = headers.get(name) {
            to.insert(name, value.clone());
        }
    }
    request
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/event-stream")
}
