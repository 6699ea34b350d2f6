//! AnalyzeImpact.

use meshward_proto::{
    types::v1::ObjectRef,
    validator::v1::{AnalyzeImpactRequest, AnalyzeImpactResponse, Context, TrafficEdge, TrafficEffect},
};
use serde_json::{Value, json};

use super::{NO_CATALOGUE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_policies_is_told_by_the_requests_that_it_affects() {
    let policy = |name: &str, namespace: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{rules: [{{from: [{{source: {{namespaces: [{namespace}]}}}}]}}]}}\n"
        )
    };
    let edge = |namespace: &str, requests_per_second: f64| TrafficEdge {
        source_principal: format!("cluster.local/ns/{namespace}/sa/default"),
        destination_namespace: "shop".to_owned(),
        destination_service: "cart".to_owned(),
        method: "GET".to_owned(),
        requests_per_second,
        ..Default::default()
    };
    let world = World::new(None).await;
    let context = Context { yaml: vec![policy("a", "web"), policy("b", "jobs")], complete: true, ..Context::default() };
    let removed = ObjectRef {
        kind: "AuthorizationPolicy".into(),
        namespace: "shop".into(),
        name: "b".into(),
        ..Default::default()
    };
    let request = AnalyzeImpactRequest {
        yaml: policy("a", "edge"),
        context: Some(context),
        removed: vec![removed],
        edges: vec![edge("web", 90.0), edge("jobs", 8.0), edge("edge", 2.0), edge("nobody", 0.0)],
        ..Default::default()
    };
    let impact = world.client().analyze_impact(world.signed(request)).await.unwrap().into_inner();
    assert_eq!(
        impact.summary,
        "2 of 4 edges would be denied, 98.0 % of requests; 1 of 4 edges would be let in, 2.0 % of requests."
    );
    assert_eq!((impact.denied, impact.allowed, impact.undecided), (2, 1, 0));
    let told: Vec<_> = impact.affected.iter().map(|one| (one.effect(), one.reason.as_str())).collect();
    let denied = |by: &str| format!("Now it is let in by shop/{by}; then it is denied, for no ALLOW policy meets it.");
    assert_eq!(told[0], (TrafficEffect::Denied, denied("a").as_str()));
    assert_eq!(told[1], (TrafficEffect::Denied, denied("b").as_str()));
    assert_eq!(told[2].0, TrafficEffect::Allowed);
    assert_eq!((impact.services, impact.namespaces), (vec!["shop/cart".to_owned()], vec!["shop".to_owned()]));
}

/// After a mesh was renamed its policies mean the same callers, by either name. Who does not know the name says so.
#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_renamed_mesh_are_known_by_its_configuration() {
    let object = |api_version: &str, kind: &str, namespace: &str, name: &str, rest: Value| {
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object.to_string()
    };
    // It counts for every namespace, for it lies in what the configuration names as the root.
    let rules = json!([{"from": [{"source": {"principals": ["cluster.local/ns/web/sa/front"]}}]}]);
    let policy =
        object("security.istio.io/v1", "AuthorizationPolicy", "mesh", "front-only", json!({"spec": {"rules": rules}}));
    let mesh = "rootNamespace: mesh\ntrustDomain: new.example\ntrustDomainAliases: [old.example]\n";
    let mesh = object("v1", "ConfigMap", "istio-system", "istio", json!({"data": {"mesh": mesh}}));
    let edge = |domain: &str, requests_per_second: f64| TrafficEdge {
        source_principal: format!("{domain}/ns/web/sa/front"),
        destination_namespace: "shop".to_owned(),
        destination_service: "cart".to_owned(),
        requests_per_second,
        ..Default::default()
    };
    let world = World::new(None).await;
    let ask = async |root: &str, context: &[&String]| {
        let request = AnalyzeImpactRequest {
            yaml: policy.clone(),
            context: Some(Context { yaml: context.iter().map(|text| (*text).clone()).collect(), ..Context::default() }),
            edges: vec![edge("new.example", 6.0), edge("old.example", 3.0), edge("cluster.local", 1.0)],
            root_namespace: root.to_owned(),
            ..Default::default()
        };
        world.client().analyze_impact(world.signed(request)).await.unwrap().into_inner()
    };
    let is_lacking = |impact: &AnalyzeImpactResponse| impact.skipped.iter().any(|why| why.starts_with("access:"));

    let impact = ask("", &[&mesh]).await;
    assert_eq!(impact.summary, "1 of 3 edges would be denied, 10.0 % of requests.");
    assert_eq!(impact.affected[0].edge, Some(edge("cluster.local", 1.0)));
    assert!(!is_lacking(&impact), "{:?}", impact.skipped);
    let impact = ask("mesh", &[]).await;
    assert_eq!(impact.summary, "2 of 3 edges would be denied, 90.0 % of requests.");
    assert!(is_lacking(&impact), "{:?}", impact.skipped);
    assert_eq!(ask("", &[]).await.denied, 0, "it is a namespace like any other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_routes_is_told_by_what_is_lost() {
    let service = |http: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: cart, namespace: shop}}\n\
             spec: {{hosts: [cart], http: [{http}]}}\n"
        )
    };
    let edge = |method: &str, requests_per_second: f64| TrafficEdge {
        destination_namespace: "shop".to_owned(),
        destination_service: "cart.shop.svc.cluster.local".to_owned(),
        host: "cart.shop:8080".to_owned(),
        method: method.to_owned(),
        requests_per_second,
        ..Default::default()
    };
    let world = World::new(None).await;
    let now = service("{route: [{destination: {host: cart}}]}");
    let gets = service("{match: [{method: {exact: GET}}], route: [{destination: {host: next}}]}");
    let request = AnalyzeImpactRequest {
        yaml: gets,
        context: Some(Context { yaml: vec![now], ..Default::default() }),
        edges: vec![edge("GET", 97.0), edge("PUT", 2.0), edge("", 1.0)],
        ..Default::default()
    };
    let impact = world.client().analyze_impact(world.signed(request)).await.unwrap().into_inner();
    assert_eq!(
        impact.summary,
        "2 of 3 edges change route, 99.0 % of requests: 1 get no route (404), 1 go elsewhere; \
         the route of 1 of 3 edges cannot be decided, 1.0 % of requests."
    );
    assert_eq!((impact.denied, impact.services.len()), (0, 1));
    assert_eq!(impact.skipped, [NO_CATALOGUE]);
    let routes = impact.routes.unwrap();
    let told: Vec<_> =
        routes.affected.iter().map(|one| (one.effect(), one.edge.as_ref().unwrap().method.as_str())).collect();
    let (lost, open, moved) = (TrafficEffect::NoRoute, TrafficEffect::Undecided, TrafficEffect::Moved);
    assert_eq!(told, [(lost, "PUT"), (open, ""), (moved, "GET")]);
    assert_eq!((routes.changed, routes.changed_requests_per_second), (2, 99.0));
    let sums: Vec<_> = routes.effects.iter().map(|sum| (sum.effect(), sum.edges, sum.requests_per_second)).collect();
    assert_eq!(sums, [(lost, 1, 2.0), (open, 1, 1.0), (moved, 1, 97.0)]);

    // A new object is the youngest, so the one that is there keeps the host; without the object there is no route to miss.
    let second = service("{route: [{destination: {host: next}}]}").replace("name: cart", "name: second");
    let now = service("{route: [{destination: {host: cart}}]}")
        .replace("name: cart", "name: cart, creationTimestamp: 2026-01-01T00:00:00Z");
    let removed = ObjectRef {
        kind: "VirtualService".into(),
        namespace: "shop".into(),
        name: "cart".into(),
        ..Default::default()
    };
    for (removed, summary) in [
        (vec![], "None of 1 edges changes route."),
        (vec![removed], "1 of 1 edges change route, 100.0 % of requests: 1 go elsewhere."),
    ] {
        let request = AnalyzeImpactRequest {
            yaml: second.clone(),
            context: Some(Context { yaml: vec![now.clone()], ..Default::default() }),
            removed,
            edges: vec![edge("GET", 1.0)],
            ..Default::default()
        };
        let impact = world.client().analyze_impact(world.signed(request)).await.unwrap().into_inner();
        assert_eq!(impact.summary, summary);
    }
    for (wrong, field) in [
        (TrafficEdge { service_port: 70_000, ..edge("", 1.0) }, "edges.service_port"),
        (TrafficEdge { gateway: "edge".into(), ..edge("", 1.0) }, "edges.gateway"),
        (TrafficEdge { protocol: 9, ..edge("", 1.0) }, "edges.protocol"),
    ] {
        let request = AnalyzeImpactRequest { edges: vec![wrong], ..Default::default() };
        let status = world.client().analyze_impact(world.signed(request)).await.unwrap_err();
        assert!(status.message().contains(field), "{status}");
    }
}
