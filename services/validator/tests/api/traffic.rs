//! AnalyzeImpact on the traffic that metrics-collector tells of.

use std::sync::{Arc, Mutex};

use meshward_chassis::problem::reason_of;
use meshward_proto::{
    metrics::v1::{
        self as metrics, ObservedEdge,
        metrics_collector_service_server::{MetricsCollectorService, MetricsCollectorServiceServer},
    },
    types::v1::ErrorReason,
    validator::v1::{AnalyzeImpactRequest, AnalyzeImpactResponse, Context, ObservedTraffic, TrafficEffect},
};
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status};

use super::{
    NO_CATALOGUE, World,
    gateway::{Unused, heard, serve, unused},
};

/// A metrics-collector that gives one answer and remembers what it was asked, and with which token.
#[derive(Clone, Default)]
struct FakeCollector {
    answer: Arc<Mutex<Option<metrics::ListTrafficEdgesResponse>>>,
    asked: Arc<Mutex<Vec<(metrics::ListTrafficEdgesRequest, String)>>>,
}

#[tonic::async_trait]
impl MetricsCollectorService for FakeCollector {
    type WatchTrafficMetricsStream = tokio_stream::Empty<Result<metrics::WatchTrafficMetricsResponse, Status>>;

    async fn list_traffic_edges(
        &self,
        request: Request<metrics::ListTrafficEdgesRequest>,
    ) -> Unused<metrics::ListTrafficEdgesResponse> {
        self.asked.lock().unwrap().push(heard(request));
        let answer = self.answer.lock().unwrap().clone();
        answer.map(Response::new).ok_or_else(|| Status::unavailable("no Prometheus"))
    }

    async fn get_traffic_metrics(
        &self,
        _: Request<metrics::GetTrafficMetricsRequest>,
    ) -> Unused<metrics::GetTrafficMetricsResponse> {
        unused()
    }

    async fn run_analysis(&self, _: Request<metrics::RunAnalysisRequest>) -> Unused<metrics::RunAnalysisResponse> {
        unused()
    }

    async fn check_queries(&self, _: Request<metrics::CheckQueriesRequest>) -> Unused<metrics::CheckQueriesResponse> {
        unused()
    }

    async fn compare_metrics(
        &self,
        _: Request<metrics::CompareMetricsRequest>,
    ) -> Unused<metrics::CompareMetricsResponse> {
        unused()
    }

    async fn explain_verdict(
        &self,
        _: Request<metrics::ExplainVerdictRequest>,
    ) -> Unused<metrics::ExplainVerdictResponse> {
        unused()
    }

    async fn watch_traffic_metrics(
        &self,
        _: Request<metrics::WatchTrafficMetricsRequest>,
    ) -> Unused<Self::WatchTrafficMetricsStream> {
        unused()
    }

    async fn replay_analysis(
        &self,
        _: Request<metrics::ReplayAnalysisRequest>,
    ) -> Unused<metrics::ReplayAnalysisResponse> {
        unused()
    }
}

/// A validator with this metrics-collector beside it.
async fn world(collector: &FakeCollector) -> World {
    let service = MetricsCollectorServiceServer::new(collector.clone());
    let addr = serve(tonic::transport::Server::builder().add_service(service)).await;
    World::observing(None, Some(format!("http://{addr}"))).await
}

fn edge(from: &str, requests_per_second: f64) -> ObservedEdge {
    ObservedEdge {
        source_principal: format!("cluster.local/ns/{from}/sa/default"),
        source_namespace: from.to_owned(),
        source_workload: "front".to_owned(),
        destination_service: "cart.shop.svc.cluster.local".to_owned(),
        destination_namespace: "shop".to_owned(),
        protocol: "http".to_owned(),
        requests_per_second,
        ..Default::default()
    }
}

fn ask(yaml: &Value, context: &[Value]) -> AnalyzeImpactRequest {
    let window = Some(meshward_proto::Duration { seconds: 600, nanos: 0 });
    let yaml_of = |object: &Value| object.to_string();
    AnalyzeImpactRequest {
        yaml: yaml.to_string(),
        cluster: "west".to_owned(),
        context: Some(Context { yaml: context.iter().map(yaml_of).collect(), ..Default::default() }),
        observed: Some(ObservedTraffic { namespaces: vec!["shop".to_owned()], window }),
        ..Default::default()
    }
}

async fn analyze(world: &World, request: AnalyzeImpactRequest) -> Result<AnalyzeImpactResponse, Status> {
    world.client().analyze_impact(world.signed(request)).await.map(Response::into_inner)
}

fn object(api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traffic_that_the_mesh_counted_is_read_and_told_by_the_edge() {
    let collector = FakeCollector::default();
    let world = world(&collector).await;
    let edges = vec![edge("web", 9.0), edge("jobs", 1.0)];
    let found = metrics::ListTrafficEdgesResponse { edges, omitted: 3, ..Default::default() };
    *collector.answer.lock().unwrap() = Some(found);

    // A policy for the server's pods: their labels come from the Service and the Pod.
    let rules = json!([{"from": [{"source": {"namespaces": ["web"]}}]}]);
    let spec = json!({"selector": {"matchLabels": {"app": "cart", "tier": "back"}}, "rules": rules});
    let policy = object("security.istio.io/v1", "AuthorizationPolicy", "web-only", spec);
    let service = object("v1", "Service", "cart", json!({"selector": {"app": "cart"}, "ports": [{"port": 80}]}));
    let mut pod = object("v1", "Pod", "cart-0", json!({}));
    pod["metadata"]["labels"] = json!({"app": "cart", "tier": "back"});
    let request = world.signed(ask(&policy, &[service, pod]));
    let own_token = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
    let told = world.client().analyze_impact(request).await.unwrap().into_inner();
    assert_eq!(told.summary, "1 of 2 edges would be denied, 10.0 % of requests.");
    let denied = told.affected[0].edge.as_ref().unwrap();
    assert_eq!((denied.source_namespace.as_str(), denied.destination_labels["tier"].as_str()), ("jobs", "back"));
    assert!(told.skipped.iter().any(|why| why.starts_with("traffic: 3 more edges")), "{:?}", told.skipped);
    let asked = collector.asked.lock().unwrap().clone();
    let (request, token) = &asked[0];
    assert_eq!((request.cluster.as_str(), &request.namespaces[..]), ("west", &["shop".to_owned()][..]));
    assert_eq!(request.window.map(|window| window.seconds), Some(600));
    assert_eq!(*token, own_token, "the caller's own");

    // Without them nobody knows whether the policy is for those pods.
    let told = analyze(&world, ask(&policy, &[])).await.unwrap();
    assert_eq!((told.denied, told.undecided), (0, 1), "who comes from web is let in either way");

    let http = json!([{"match": [{"sourceNamespace": "web"}], "route": [{"destination": {"host": "cart"}}]},
                      {"match": [{"uri": {"prefix": "/none"}}], "route": [{"destination": {"host": "cart"}}]}]);
    let routes = object("networking.istio.io/v1", "VirtualService", "cart", json!({"hosts": ["cart"], "http": http}));
    let told = analyze(&world, ask(&routes, &[])).await.unwrap();
    let routes = told.routes.unwrap();
    let affected: Vec<_> =
        routes.affected.iter().map(|one| (one.effect(), one.edge.clone().unwrap().source_namespace)).collect();
    assert_eq!(affected, [(TrafficEffect::Undecided, "jobs".to_owned())], "its path is not known");
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_that_is_not_there_is_never_a_silent_nothing() {
    let policy = object("security.istio.io/v1", "AuthorizationPolicy", "none", json!({}));
    let none = World::new(None).await;
    let status = analyze(&none, ask(&policy, &[])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("--metrics-collector"), "{status}");

    let collector = FakeCollector::default();
    let world = world(&collector).await;
    let status = analyze(&world, ask(&policy, &[])).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::PeerUnavailable)));
    let problem = "no request to services in shop was counted in this time".to_owned();
    let empty = metrics::ListTrafficEdgesResponse { problem, ..Default::default() };
    *collector.answer.lock().unwrap() = Some(empty);
    let told = analyze(&world, ask(&policy, &[])).await.unwrap();
    assert_eq!(told.summary, "No traffic was given.");
    assert_eq!(told.skipped[..2], ["traffic: no request to services in shop was counted in this time", NO_CATALOGUE]);

    let mut nowhere = ask(&policy, &[]);
    nowhere.observed = Some(ObservedTraffic::default());
    let status = analyze(&world, nowhere).await.unwrap_err();
    assert!(status.message().contains("observed.namespaces"), "{status}");
}
