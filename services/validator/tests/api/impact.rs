//! AnalyzeImpact.

use meshward_proto::{
    types::v1::ObjectRef,
    validator::v1::{AnalyzeImpactRequest, Context, TrafficEdge, TrafficEffect},
};

use super::World;

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
    let context = Context { yaml: vec![policy("a", "web"), policy("b", "jobs")], complete: true, live: false };
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
