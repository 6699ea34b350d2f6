//! A receiver for OTLP/gRPC traces that keeps spans in memory: how the demo shows that one trace id covers a deployment
//! in all five services, with nothing to install.
//!
//! It holds a fixed number of spans. When that is full the oldest go, and they are counted, so a long run cannot grow
//! without bound and a tree with holes says why it has them.

mod store;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use store::SpanStore;
pub use store::{Span, SpanStatus};
pub use tree::render_trace;

/// How many spans are kept unless [`OtlpReceiver::start_with`] says otherwise.
pub const DEFAULT_MAX_SPANS: usize = 100_000;
/// How long a stop waits for exports under way before it cuts the connections.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// The longest time for one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a receiver does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for traces on {address}: {source}")]
pub struct OtlpError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A running receiver. Dropping it ends it at once.
#[derive(Debug)]
pub struct OtlpReceiver {
    address: SocketAddr,
    collected: Arc<Collected>,
    stopping: CancellationToken,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Collected {
    spans: Mutex<SpanStore>,
    /// Told after every export.
    changed: watch::Sender<()>,
}

impl OtlpReceiver {
    /// Listens on any free port of 127.0.0.1 and keeps [`DEFAULT_MAX_SPANS`].
    pub async fn start() -> Result<Self, OtlpError> {
        Self::start_with(SocketAddr::from(([127, 0, 0, 1], 0)), DEFAULT_MAX_SPANS).await
    }

    /// Listens on this address and keeps at most this many spans.
    pub async fn start_with(address: SocketAddr, max_spans: usize) -> Result<Self, OtlpError> {
        let failed = |source| OtlpError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let collected =
            Arc::new(Collected { spans: Mutex::new(SpanStore::new(max_spans)), changed: watch::Sender::new(()) });
        let service = TraceServiceServer::from_arc(collected.clone()).accept_compressed(CompressionEncoding::Gzip);
        let stopping = CancellationToken::new();
        let stopped = stopping.clone().cancelled_owned();
        let serving = Server::builder()
            .timeout(EXPORT_TIMEOUT)
            .add_service(service)
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stopped);
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::warn!(%error, "the trace receiver ended");
            }
        });
        Ok(Self { address, collected, stopping, server: Some(server) })
    }

    /// What an exporter is to be given, for example `http://127.0.0.1:4317`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Trace ids (32 lower-case hex digits) in the order in which their first spans came.
    pub fn trace_ids(&self) -> Vec<String> {
        self.collected.spans().trace_ids()
    }

    /// The spans of one trace, by start time. A span that was exported twice is there once.
    pub fn spans_of_trace(&self, trace_id: &str) -> Vec<Span> {
        self.collected.spans().of_trace(trace_id)
    }

    /// The `service.name` of every span in one trace.
    pub fn services_in_trace(&self, trace_id: &str) -> BTreeSet<String> {
        self.spans_of_trace(trace_id).into_iter().map(|span| span.service).collect()
    }

    /// Waits until all these services have a span in the trace, or the time is over; either way the services that have.
    /// Exporters send in batches, so the last spans come seconds after the work is done.
    pub async fn wait_for_services(&self, trace_id: &str, services: &[&str], timeout: Duration) -> BTreeSet<String> {
        let mut changes = self.collected.changed.subscribe();
        let complete = async {
            loop {
                let seen = self.services_in_trace(trace_id);
                if services.iter().all(|service| seen.contains(*service)) || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // In time or not, what is there now is the answer.
        let _ = tokio::time::timeout(timeout, complete).await;
        self.services_in_trace(trace_id)
    }

    /// How many spans were dropped because newer ones needed their room.
    pub fn dropped(&self) -> u64 {
        self.collected.spans().dropped()
    }

    /// One trace as an indented tree of at most `max_lines` lines; see [`render_trace`].
    pub fn render(&self, trace_id: &str, max_lines: usize) -> String {
        render_trace(&self.spans_of_trace(trace_id), max_lines)
    }

    /// Takes no more exports; those under way get two seconds to finish. What was collected can still be read.
    pub async fn stop(&mut self) {
        self.stopping.cancel();
        let Some(mut server) = self.server.take() else { return };
        if tokio::time::timeout(STOP_GRACE, &mut server).await.is_err() {
            server.abort();
        }
    }
}

impl Drop for OtlpReceiver {
    fn drop(&mut self) {
        self.stopping.cancel();
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Collected {
    fn spans(&self) -> MutexGuard<'_, SpanStore> {
        // The spans stay whole whatever a panicking task did.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Collected {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.spans().add(request.into_inner());
        self.changed.send_replace(());
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}
