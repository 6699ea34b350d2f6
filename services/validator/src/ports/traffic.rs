//! metrics-collector, as far as the validator needs it: who called whom.

use std::time::Duration;

use meshward_chassis::client::{self, EndpointError, PeerChannel};
use meshward_proto::{
    duration,
    metrics::v1::{
        ListTrafficEdgesRequest, ObservedEdge, metrics_collector_service_client::MetricsCollectorServiceClient,
    },
};
use tonic::Status;

use super::{
    Bearer,
    grpc::{ask, is_answer},
};
use crate::error::Error;

/// Edges that are asked for at once: as many as AnalyzeImpact takes.
const MOST_EDGES: i32 = 10_000;
/// The largest answer; an edge is some hundred bytes as a rule.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Whose traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Empty = the default cluster.
    pub cluster: String,
    /// Of the services that are called.
    pub namespaces: Vec<String>,
    /// How far back; `None` = as the other service has it.
    pub window: Option<Duration>,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The busiest first.
    pub edges: Vec<ObservedEdge>,
    /// What is missing, each in a sentence.
    pub gaps: Vec<String>,
}

/// metrics-collector. A trait object, for a validator may have none.
#[tonic::async_trait]
pub trait Traffic: Send + Sync + 'static {
    /// Who called the services of some namespaces.
    ///
    /// # Errors
    /// [`Error::TrafficDown`] or [`Error::PeerRefused`].
    async fn observed(&self, wanted: Observation, bearer: &Bearer) -> Result<Observed, Error>;
}

/// The other service. Connects at first use.
#[derive(Debug, Clone)]
pub struct GrpcTraffic {
    client: MetricsCollectorServiceClient<PeerChannel>,
    timeout: Duration,
}

impl GrpcTraffic {
    /// The metrics-collector at `endpoint` (`http://host:port`); each call takes at most `timeout`.
    ///
    /// # Errors
    /// If the endpoint is no URL.
    pub fn new(endpoint: &str, timeout: Duration) -> Result<Self, EndpointError> {
        let client = MetricsCollectorServiceClient::new(client::connect_lazy(endpoint)?);
        Ok(Self { client: client.max_decoding_message_size(MAX_ANSWER_BYTES), timeout })
    }
}

#[tonic::async_trait]
impl Traffic for GrpcTraffic {
    async fn observed(&self, wanted: Observation, bearer: &Bearer) -> Result<Observed, Error> {
        let message = ListTrafficEdgesRequest {
            cluster: wanted.cluster,
            namespaces: wanted.namespaces,
            window: wanted.window.map(duration),
            max_edges: MOST_EDGES,
            ..ListTrafficEdgesRequest::default()
        };
        let request =
            ask(message, bearer, self.timeout).map_err(|problem| Error::PeerRefused(Box::new(problem.into())))?;
        let reply = self.client.clone().list_traffic_edges(request).await.map_err(refused)?.into_inner();
        let mut gaps = Vec::new();
        if !reply.problem.is_empty() {
            gaps.push(format!("traffic: {}", reply.problem));
        }
        if reply.omitted > 0 {
            let (count, rate) = (reply.omitted, reply.omitted_requests_per_second);
            gaps.push(format!("traffic: {count} more edges, {rate:.3} requests per second in all, were not asked for"));
        }
        Ok(Observed { edges: reply.edges, gaps })
    }
}

fn refused(status: Status) -> Error {
    if is_answer(&status) {
        Error::PeerRefused(Box::new(status))
    } else {
        Error::TrafficDown(status.message().to_owned())
    }
}
