//! Who called whom, out of a real Prometheus.

use meshward_chassis::{auth::Role, problem::reason_of, testing::Grant};
use meshward_proto::{metrics::v1 as proto, types::v1::ErrorReason};
use tonic::{Code, Status};

use super::{
    history::at,
    meshes::steady,
    world::{Source, World},
};
use crate::PATIENCE;

/// `reporter`, caller, its identity, service and namespace, code, more labels, requests in each tick of 15 s.
type Line = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, i64);

const LINES: [Line; 11] = [
    // Both ends count; the server denied some that the caller's proxy saw too.
    ("source", "front", "unknown", "cart shop", "200", "", 90),
    ("source", "front", "unknown", "cart shop", "403", "", 10),
    ("destination", "front", "spiffe://cluster.local/ns/web/sa/front", "cart shop", "200", "", 90),
    ("destination", "front", "spiffe://cluster.local/ns/web/sa/front", "cart shop", "403", "", 9),
    // What never arrived is counted by the caller alone, and a caller without a proxy by the server alone.
    ("source", "jobs", "spiffe://cluster.local/ns/web/sa/jobs", "cart shop", "503", "", 2),
    ("source", "jobs", "spiffe://cluster.local/ns/web/sa/jobs", "cart shop", "404", "", 1),
    ("destination", "unknown", "unknown", "cart shop", "200", ",connection_security_policy=\"none\"", 30),
    ("source", "front", "unknown", "pay shop", "200", ",request_method=\"GET\",request_url_path=\"/a?b=c\"", 6),
    ("source", "front", "unknown", "pay shop", "200", ",request_method=\"PUT\",request_url_path=\"/a\"", 4),
    ("source", "front", "unknown", "bank bank", "200", "", 50),
    ("source", "front", "unknown", "idle quiet", "200", "", 0),
];

fn history() -> String {
    let mut text = String::new();
    for (index, (reporter, workload, principal, service, code, more, per_tick)) in LINES.into_iter().enumerate() {
        let (name, namespace) = service.split_once(' ').expect("two words");
        let from = if workload == "unknown" { "unknown" } else { "web" };
        let labels = format!(
            "reporter=\"{reporter}\",source_workload=\"{workload}\",source_workload_namespace=\"{from}\",\
             source_principal=\"{principal}\",destination_service=\"{name}.{namespace}.svc.cluster.local\",\
             destination_service_name=\"{name}\",destination_service_namespace=\"{namespace}\",\
             request_protocol=\"http\",response_code=\"{code}\",pod=\"p{index}\"{more}"
        );
        steady(&mut text, &format!("istio_requests_total{{{labels}}}"), per_tick);
    }
    text.push_str("# EOF\n");
    text
}

fn ask(namespace: &str) -> proto::ListTrafficEdgesRequest {
    proto::ListTrafficEdgesRequest {
        namespaces: vec![namespace.to_owned()],
        end_time: Some(at(20)),
        window: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
        ..Default::default()
    }
}

async fn edges_as(
    world: &World,
    grant: &Grant,
    request: proto::ListTrafficEdgesRequest,
) -> Result<proto::ListTrafficEdgesResponse, Status> {
    let (mut client, request) = (world.client(), world.request_of(grant, request));
    let reply = tokio::time::timeout(PATIENCE, client.list_traffic_edges(request)).await.expect("no RPC hangs")?;
    Ok(reply.into_inner())
}

async fn edges(
    world: &World,
    request: proto::ListTrafficEdgesRequest,
) -> Result<proto::ListTrafficEdgesResponse, Status> {
    edges_as(world, &Grant::new("vera", [Role::Viewer]), request).await
}

#[tokio::test]
async fn edges_are_told_once_however_many_proxies_count_them() {
    let world = World::with(Source::Prometheus(history())).await;
    let told = edges(&world, ask("shop")).await.expect("edges");
    let short = |edge: &proto::ObservedEdge| {
        let service = edge.destination_service.split('.').next().unwrap_or_default().to_owned();
        let from =
            [edge.source_workload.as_str(), &edge.source_principal, &service, &edge.method, &edge.path].join(" ");
        (from, edge.requests, edge.denied, edge.not_found, edge.errors)
    };
    let front = "front cluster.local/ns/web/sa/front cart  ".to_owned();
    let jobs = "jobs cluster.local/ns/web/sa/jobs cart  ".to_owned();
    assert_eq!(
        told.edges.iter().map(short).collect::<Vec<_>>(),
        [
            (front, 2000, 200, 0, 0),
            (" - cart  ".to_owned(), 600, 0, 0, 0),
            ("front  pay GET /a".to_owned(), 120, 0, 0, 0),
            ("front  pay PUT /a".to_owned(), 80, 0, 0, 0),
            (jobs, 60, 0, 20, 40),
        ]
    );
    let first = &told.edges[0];
    assert!((first.requests_per_second - 2000.0 / 300.0).abs() < 1e-9, "{first:?}");
    assert_eq!((first.protocol.as_str(), first.destination_namespace.as_str()), ("http", "shop"));
    assert_eq!((told.omitted, told.problem.as_str()), (0, ""));

    let few = edges(&world, proto::ListTrafficEdgesRequest { max_edges: 2, ..ask("shop") }).await.expect("edges");
    assert_eq!((few.edges.len(), few.omitted, few.omitted_requests_per_second), (2, 3, 260.0 / 300.0));
    let pay = proto::ListTrafficEdgesRequest { services: vec!["pay".to_owned()], ..ask("shop") };
    assert_eq!(edges(&world, pay).await.expect("edges").edges.len(), 2);
    assert_eq!(edges(&world, ask("*")).await.expect("edges").edges.len(), 6);

    for (namespace, problem) in [
        ("quiet", "no request to services in quiet was counted in this time"),
        ("empty", "has no series of requests to services in empty"),
    ] {
        let told = edges(&world, ask(namespace)).await.expect("an answer");
        assert!(told.edges.is_empty() && told.problem.contains(problem), "{told:?}");
    }
}

#[tokio::test]
async fn edges_are_for_who_may_view_them_and_a_source_that_fails_says_so() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    let status = edges(&world, ask("shop")).await.expect_err("nobody is there");
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::PeerUnavailable)));
    let shop = Grant::new("sue", [Role::Viewer]).within(["shop"]);
    for (namespace, code) in
        [("shop", Code::Unavailable), ("bank", Code::PermissionDenied), ("*", Code::PermissionDenied)]
    {
        assert_eq!(edges_as(&world, &shop, ask(namespace)).await.expect_err(namespace).code(), code, "{namespace}");
    }
    let none = |change: &dyn Fn(&mut proto::ListTrafficEdgesRequest)| {
        let mut request = ask("shop");
        change(&mut request);
        request
    };
    for (field, request) in [
        ("namespaces", none(&|request| request.namespaces.clear())),
        ("namespaces", none(&|request| request.namespaces = vec!["a\"}".to_owned()])),
        ("namespaces", none(&|request| request.namespaces.push("*".to_owned()))),
        ("services", none(&|request| request.services = vec!["a|b".to_owned()])),
        ("window", none(&|request| request.window = Some(prost_types::Duration { seconds: 90_000, nanos: 0 }))),
        ("max_edges", none(&|request| request.max_edges = 10_001)),
    ] {
        let status = edges(&world, request).await.expect_err(field);
        assert_eq!(
            (status.code(), World::fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{status}"
        );
    }
}
