//! Sends one request over a kept-alive HTTP/1.1 connection and says how it went.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::outcome::{Loss, Outcome};
use super::{LoadError, LoadPlan, header_name, header_value, request_uri};

/// The largest response body that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// What every request of one load has in common.
///
/// The pool of hyper-util sends a request again on another connection only if not a byte of it had been written, as any
/// keep-alive client does when the server closes an idle connection. No other request is ever sent twice.
pub(super) struct Sender {
    client: Client<HttpConnector, Empty<Bytes>>,
    uris: Vec<Uri>,
    host: HeaderValue,
    header: Option<(HeaderName, HeaderValue)>,
    version: HeaderName,
    upstream: HeaderName,
    timeout: Duration,
}

impl Sender {
    pub(super) fn new(plan: &LoadPlan) -> Result<Self, LoadError> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let header = plan.header.as_ref();
        let header = header.map(|(name, value)| Ok::<_, LoadError>((header_name(name)?, header_value(value)?)));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(plan.max_in_flight).build(connector),
            uris: plan.paths.iter().map(|path| request_uri(&plan.url, path)).collect::<Result<_, _>>()?,
            host: header_value(&plan.host)?,
            header: header.transpose()?,
            version: header_name(&plan.version_header)?,
            upstream: header_name(&plan.upstream_header)?,
            timeout: plan.timeout,
        })
    }

    /// Sends the request of this number, which picks the path, and reads the whole response.
    pub(super) async fn send(&self, number: u64) -> Outcome {
        let answer = tokio::time::timeout(self.timeout, self.exchange(number)).await;
        answer.unwrap_or(Ok(Outcome::Lost(Loss::Timeout))).unwrap_or_else(Outcome::Lost)
    }

    async fn exchange(&self, number: u64) -> Result<Outcome, Loss> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uris[(number % self.uris.len() as u64) as usize].clone();
        request.headers_mut().insert(header::HOST, self.host.clone());
        if let Some((name, value)) = &self.header {
            request.headers_mut().insert(name, value.clone());
        }
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| if error.is_connect() { Loss::Connect(innermost(&error)) } else { broken(&error) })?;
        let (head, body) = response.into_parts();
        // A body that breaks off is a lost answer, whatever the status line said.
        Limited::new(body, MAX_BODY).collect().await.map_err(|error| broken(error.as_ref()))?;
        Ok(Outcome::of_response(head.status, &head.headers, &self.version, &self.upstream))
    }
}

/// Tells a closed connection from bytes that make no sense.
fn broken(error: &(dyn StdError + 'static)) -> Loss {
    let closed = chain(error).any(|cause| {
        let by_hyper = cause.downcast_ref::<hyper::Error>();
        by_hyper.is_some_and(|e| e.is_incomplete_message() || e.is_canceled() || e.is_closed())
            || cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() != io::ErrorKind::InvalidData)
    });
    if closed { Loss::Closed(innermost(error)) } else { Loss::Protocol(innermost(error)) }
}

/// The innermost cause says what happened; the outer ones only where.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
