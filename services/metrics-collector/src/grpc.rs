//! The RPCs: parse and check, ask [`Collector`], encode. Verdicts get their ids here, and are kept.

mod convert;
mod edges;
mod explain;
mod recorded;
mod watch;

use std::sync::Arc;

use meshward_chassis::{
    auth::{Identity, Role},
    clock::Clock,
    ids::Ids,
    problem::Problem,
};
use meshward_model::MetricsTarget;
use meshward_proto::metrics::v1 as proto;
use proto::metrics_collector_service_server::MetricsCollectorService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::app::{Collector, kept::Kept, recorded as judged};

type Answer<T> = Result<Response<T>, Status>;

/// The service's RPCs.
pub struct Api {
    collector: Collector,
    kept: Kept,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    shutdown: CancellationToken,
}

impl Api {
    /// Answers with `collector`; `clock` says what "now" is when a request does not name an end, `ids` names verdicts
    /// and `kept` keeps them. Streams end when `shutdown` fires.
    pub fn new(
        collector: Collector,
        kept: Kept,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { collector, kept, clock, ids, shutdown }
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

/// What the caller brings belongs to no namespace: a viewer of anything may have it judged.
fn authorize_anywhere(identity: &Identity) -> Result<(), Problem> {
    let namespace = identity.namespaces.first().map_or("*", String::as_str);
    identity.require(Role::Viewer, namespace)
}

/// "shop" of "checkout.shop.svc.cluster.local".
fn namespace(host: &str) -> &str {
    let mut parts = host.split('.').skip(1);
    match (parts.next(), parts.next()) {
        (Some(namespace), Some("svc")) => namespace,
        _ => "*",
    }
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
        let request = request.into_inner();
        let explain = request.explain;
        let wanted = convert::analysis_request(request, now)?;
        authorize(&identity, &wanted.target)?;
        let mut explanation = self.collector.analyse(&wanted, now).await.map_err(Problem::from)?;
        explanation.analysis.id = self.ids.uuid();
        let analysis = explanation.analysis.clone();
        let told = explain.then(|| proto::ExplainVerdictResponse { analysis: None, ..explain::response(&explanation) });
        self.kept.keep(explanation, now);
        tracing::info!(verdict = ?analysis.verdict, evidence = analysis.evidence, id = analysis.id, "{}", analysis.explanation);
        Ok(Response::new(proto::RunAnalysisResponse { analysis: Some(analysis.into()), explanation: told }))
    }

    async fn check_queries(&self, request: Request<proto::CheckQueriesRequest>) -> Answer<proto::CheckQueriesResponse> {
        let identity = Identity::of(&request)?.clone();
        let proto::CheckQueriesRequest { target, templates } = request.into_inner();
        let target = convert::target(target)?;
        authorize(&identity, &target)?;
        let now = self.clock.now();
        let preflight = if templates.is_empty() {
            self.collector.check(&target, now).await
        } else {
            // A query of the caller's own may ask for anything.
            identity.require(Role::Viewer, "*")?;
            self.collector.check_own(&templates, &target, now).await
        };
        let preflight = preflight.map_err(Problem::from)?;
        Ok(Response::new(convert::check_response(preflight)))
    }

    async fn compare_metrics(
        &self,
        request: Request<proto::CompareMetricsRequest>,
    ) -> Answer<proto::CompareMetricsResponse> {
        authorize_anywhere(Identity::of(&request)?)?;
        let wanted = convert::compare_request(request.into_inner())?;
        let judgement = judged::compare(&wanted.baseline, &wanted.current, wanted.options);
        Ok(Response::new(convert::compare_response(judgement, &wanted.options)))
    }

    async fn explain_verdict(
        &self,
        request: Request<proto::ExplainVerdictRequest>,
    ) -> Answer<proto::ExplainVerdictResponse> {
        let identity = Identity::of(&request)?.clone();
        authorize_anywhere(&identity)?;
        let which = explain::request(request.into_inner())?;
        let found = self.kept.find(&which, self.clock.now());
        let explanation = found.map_err(|why| explain::not_kept(&which, &why))?;
        authorize(&identity, &explanation.target)?;
        Ok(Response::new(explain::response(&explanation)))
    }

    type WatchTrafficMetricsStream = watch::TrafficStream;

    async fn watch_traffic_metrics(
        &self,
        request: Request<proto::WatchTrafficMetricsRequest>,
    ) -> Answer<Self::WatchTrafficMetricsStream> {
        let identity = Identity::of(&request)?.clone();
        let wanted = convert::watch_request(request.into_inner())?;
        authorize(&identity, &wanted.target)?;
        self.collector.accepts(&wanted.target).map_err(Problem::from)?;
        let watcher = watch::Watcher::new(self.collector.clone(), self.clock.clone(), wanted, self.shutdown.clone());
        Ok(Response::new(watcher.into_stream()))
    }

    async fn list_traffic_edges(
        &self,
        request: Request<proto::ListTrafficEdgesRequest>,
    ) -> Answer<proto::ListTrafficEdgesResponse> {
        let identity = Identity::of(&request)?.clone();
        let wanted = edges::request(request.into_inner(), self.clock.now())?;
        wanted.namespaces.iter().try_for_each(|namespace| identity.require(Role::Viewer, namespace))?;
        let report = self.collector.edges(&wanted).await.map_err(Problem::from)?;
        Ok(Response::new(edges::response(report, wanted.window)))
    }

    async fn replay_analysis(
        &self,
        request: Request<proto::ReplayAnalysisRequest>,
    ) -> Answer<proto::ReplayAnalysisResponse> {
        authorize_anywhere(Identity::of(&request)?)?;
        let wanted = recorded::request(request.into_inner())?;
        // A thousand ticks take long enough to hold up others on this thread.
        let work = move || judged::replay(&wanted.samples, &wanted.details, &wanted.periods, wanted.options);
        let analyses = tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))?;
        let analyses = analyses.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ReplayAnalysisResponse { analyses }))
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
