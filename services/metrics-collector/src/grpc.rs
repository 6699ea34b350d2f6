//! The RPCs: parse and check, ask [`Collector`], encode. What the contract has and nobody built yet says so.

mod convert;

use std::sync::Arc;

use futures::stream::BoxStream;
use meshward_chassis::{
    auth::{Identity, Role},
    clock::Clock,
    problem::Problem,
};
use meshward_model::MetricsTarget;
use meshward_proto::metrics::v1 as proto;
use proto::metrics_collector_service_server::MetricsCollectorService;
use tonic::{Request, Response, Status};

use crate::app::Collector;

type Answer<T> = Result<Response<T>, Status>;

/// The service's RPCs.
pub struct Api {
    collector: Collector,
    clock: Arc<dyn Clock>,
}

impl Api {
    /// Answers with `collector`; `clock` says what "now" is when a request does not name an end.
    pub fn new(collector: Collector, clock: Arc<dyn Clock>) -> Self {
        Self { collector, clock }
    }
}

/// Metrics may be read by who may view the namespaces of the hosts. A host that is none of the cluster's (a
/// gateway's) belongs to no namespace, so it takes all of them.
fn authorize(identity: &Identity, target: &MetricsTarget) -> Result<(), Problem> {
    if target.hosts.is_empty() {
        return identity.require(Role::Viewer, "*");
    }
    target.hosts.iter().try_for_each(|host| identity.require(Role::Viewer, namespace(host)))
}

/// "shop" of "checkout.shop.svc.cluster.local".
fn namespace(host: &str) -> &str {
    let mut parts = host.split('.').skip(1);
    match (parts.next(), parts.next()) {
        (Some(namespace), Some("svc")) => namespace,
        _ => "*",
    }
}

fn unimplemented<T>(method: &str) -> Answer<T> {
    Err(Problem::unimplemented(method).into())
}

#[tonic::async_trait]
impl MetricsCollectorService for Api {
    async fn get_traffic_metrics(
        &self,
        request: Request<proto::GetTrafficMetricsRequest>,
    ) -> Answer<proto::GetTrafficMetricsResponse> {
        let identity = Identity::of(&request)?.clone();
        let wanted = convert::traffic_request(request.into_inner(), self.clock.now())?;
        authorize(&identity, &wanted.target)?;
        let report = self.collector.traffic(&wanted.target, wanted.end, wanted.window).await.map_err(Problem::from)?;
        Ok(Response::new(convert::traffic_response(report)))
    }

    async fn run_analysis(&self, request: Request<proto::RunAnalysisRequest>) -> Answer<proto::RunAnalysisResponse> {
        let identity = Identity::of(&request)?.clone();
        let now = self.clock.now();
        let wanted = convert::analysis_request(request.into_inner(), now)?;
        authorize(&identity, &wanted.target)?;
        let analysis = self.collector.analyse(&wanted, now).await.map_err(Problem::from)?;
        tracing::info!(verdict = ?analysis.verdict, evidence = analysis.evidence, "{}", analysis.explanation);
        Ok(Response::new(proto::RunAnalysisResponse { analysis: Some(analysis.into()) }))
    }

    async fn check_queries(&self, _: Request<proto::CheckQueriesRequest>) -> Answer<proto::CheckQueriesResponse> {
        unimplemented("CheckQueries")
    }

    async fn compare_metrics(&self, _: Request<proto::CompareMetricsRequest>) -> Answer<proto::CompareMetricsResponse> {
        unimplemented("CompareMetrics")
    }

    async fn explain_verdict(&self, _: Request<proto::ExplainVerdictRequest>) -> Answer<proto::ExplainVerdictResponse> {
        unimplemented("ExplainVerdict")
    }

    type WatchTrafficMetricsStream = BoxStream<'static, Result<proto::WatchTrafficMetricsResponse, Status>>;

    async fn watch_traffic_metrics(
        &self,
        _: Request<proto::WatchTrafficMetricsRequest>,
    ) -> Answer<Self::WatchTrafficMetricsStream> {
        unimplemented("WatchTrafficMetrics")
    }

    async fn replay_analysis(&self, _: Request<proto::ReplayAnalysisRequest>) -> Answer<proto::ReplayAnalysisResponse> {
        unimplemented("ReplayAnalysis")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_belongs_to_the_namespace_in_its_name() {
        for (host, expected) in [
            ("checkout.shop.svc.cluster.local", "shop"),
            ("checkout.shop.svc", "shop"),
            ("shop.example.com", "*"),
            ("*.shop.svc.cluster.local", "shop"),
            ("checkout", "*"),
        ] {
            assert_eq!(namespace(host), expected, "{host}");
        }
    }
}
