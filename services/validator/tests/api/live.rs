//! What is live in a cluster as context.

use meshward_chassis::{auth::Role, client, testing::Grant};
use meshward_proto::{
    gateway::v1::ListObjectsRequest,
    types::v1::ObjectRef,
    validator::v1::{
        AnalyzeImpactRequest, Context, DetectConflictsRequest, DryRunRequest, ExplainPolicyRequest, TrafficEdge,
        ValidateBatchRequest, ValidateRequest, ValidateStreamRequest,
    },
};
use serde_json::{Value, json};
use tonic::{Code, Request};

use super::{DryRunApplyResponse, FakeGateway, GOOD, World, every, ids};

const DEFINITION: &str = "CustomResourceDefinition";
const UNREAD: &str =
    "schema: the definitions of the cluster west were not read, so those of the catalogue are used: mesh-gateway did";

fn live(complete: bool) -> Option<Context> {
    Some(Context { live: true, complete, ..Context::default() })
}

fn service(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": {"ports": [{"port": 80, "name": "http"}]}})
}

fn virtual_service(name: &str) -> Value {
    let route = json!([{"route": [{"destination": {"host": "checkout"}}]}]);
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": "shop"}, "spec": {"hosts": ["checkout"], "http": route}})
}

impl FakeGateway {
    fn holds(&self, objects: impl IntoIterator<Item = Value>) {
        *self.live.lock().unwrap() = Some(objects.into_iter().collect());
    }
}

impl World {
    /// Signed by who may see all of the cluster.
    fn signed_by_all<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = self.issuer.mint(&Grant::new("otto", [Role::Viewer]).within(["*"]));
        client::bearer(&mut request, &token).unwrap();
        request
    }

    /// What each RPC says.
    async fn every(&self, yaml: &str, cluster: &str) -> Vec<every::Said> {
        every::ask(self.client(), self.signed(()).metadata(), yaml, cluster).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_judged_among_what_is_live() {
    let world = World::new(None).await;
    world.gateway.holds([service("checkout", "shop"), virtual_service("older"), service("other", "web")]);
    let broken = GOOD.replace("host: checkout", "host: checkuot");
    let ask = |complete| ValidateRequest { yaml: broken.clone(), context: live(complete), ..Default::default() };

    let answer = world.client().validate(world.signed_by_all(ask(true))).await.unwrap().into_inner();
    let missing = answer.findings.iter().find(|finding| finding.id == "MW4102").unwrap();
    assert_eq!(
        (missing.confidence().as_str_name(), missing.suggestion.as_str()),
        ("CONFIDENCE_DEFINITE", "did you mean checkout?")
    );
    let conflict = answer.findings.iter().find(|finding| finding.id == "MW5101" && finding.source.is_empty()).unwrap();
    assert_eq!(conflict.related[0].source, "cluster");
    assert!(answer.findings.iter().any(|finding| finding.id == "MW5101" && finding.source == "cluster"), "{answer:?}");

    // Whoever has one namespace is judged by what lies in it, and by nothing that was read for others.
    world.gateway.listed.lock().unwrap().clear();
    let answer = world.client().validate(world.signed(ask(true))).await.unwrap().into_inner();
    let missing = answer.findings.iter().find(|finding| finding.id == "MW4102").unwrap();
    assert_eq!(missing.confidence().as_str_name(), "CONFIDENCE_POSSIBLE", "another namespace may have it");
    let listed = world.gateway.listed.lock().unwrap().clone();
    let is_of_shop = |asked: &ListObjectsRequest| asked.namespace == "shop" || asked.kind == DEFINITION;
    assert!(!listed.is_empty() && listed.iter().all(is_of_shop), "{listed:?}");

    // A second call soon after asks nobody.
    world.gateway.listed.lock().unwrap().clear();
    world.client().validate(world.signed(ask(true))).await.unwrap();
    assert_eq!(world.gateway.listed.lock().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_dry_runs_and_impact_see_what_is_live_too() {
    let world = World::new(None).await;
    let policy = |namespace: &str| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "a", "namespace": "shop"},
               "spec": {"rules": [{"from": [{"source": {"namespaces": [namespace]}}]}]}})
    };
    world.gateway.holds([
        service("checkout", "shop"),
        service("cart", "shop"),
        virtual_service("older"),
        policy("web"),
    ]);
    let ask = DetectConflictsRequest { yaml: GOOD.to_owned(), context: live(false), ..Default::default() };
    let answer = world.client().detect_conflicts(world.signed(ask)).await.unwrap().into_inner();
    assert!(ids(&answer.findings).contains(&"MW5101"), "{answer:?}");

    // Without the service the route leads nowhere; what was wrong before is not told again.
    let service = ObjectRef {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        namespace: "shop".to_owned(),
        name: "checkout".to_owned(),
    };
    let nobody = ObjectRef { name: "nobody".to_owned(), ..service.clone() };
    for (removed, expected) in
        [(vec![service.clone()], &["MW4102"][..]), (vec![nobody], &[]), (vec![service], &["MW4102"])]
    {
        let ask = DetectConflictsRequest { removed, context: live(true), ..Default::default() };
        let answer = world.client().detect_conflicts(world.signed(ask)).await.unwrap().into_inner();
        assert_eq!(ids(&answer.findings), expected, "{answer:?}");
        assert!(answer.findings.iter().all(|finding| finding.source == "cluster"), "{answer:?}");
    }

    world.answers(Ok(DryRunApplyResponse { admitted: true, ..Default::default() }));
    let ask = DryRunRequest { yaml: GOOD.to_owned(), context: live(false), ..Default::default() };
    let answer = world.client().dry_run(world.signed(ask)).await.unwrap().into_inner();
    assert!(answer.valid && ids(&answer.findings).contains(&"MW5101"), "{answer:?}");

    let edge = TrafficEdge {
        source_principal: "cluster.local/ns/web/sa/default".to_owned(),
        destination_namespace: "shop".to_owned(),
        requests_per_second: 5.0,
        ..Default::default()
    };
    let ask = AnalyzeImpactRequest {
        yaml: policy("edge").to_string(),
        context: live(false),
        edges: vec![edge],
        ..Default::default()
    };
    let answer = world.client().analyze_impact(world.signed(ask)).await.unwrap().into_inner();
    assert_eq!(answer.summary, "1 of 1 edges would be denied, 100.0 % of requests.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_is_told_and_fails_no_call() {
    let world = World::new(None).await;
    let ask = ValidateRequest {
        yaml: GOOD.to_owned(),
        cluster: "west".to_owned(),
        context: live(true),
        ..Default::default()
    };
    let answer = world.client().validate(world.signed(ask)).await.unwrap().into_inner();
    assert!(answer.valid && answer.findings.is_empty(), "nothing is known to be missing: {answer:?}");
    let told = |why: &&String| why.starts_with("context: the cluster west was not read: mesh-gateway did not answer");
    assert_eq!(answer.skipped.iter().filter(told).count(), 1, "{:?}", answer.skipped);

    world.answers(Ok(DryRunApplyResponse { admitted: true, ..Default::default() }));
    for (cluster, expected) in [("west", 1), ("", 0)] {
        for said in world.every(GOOD, cluster).await {
            let expected = if said.rpc == every::WITHOUT_SCHEMA { 0 } else { expected };
            assert_eq!(said.skipped.iter().filter(|why| why.starts_with(UNREAD)).count(), expected, "{said:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_those_of_the_cluster_that_is_meant() {
    let world = World::new(None).await;
    let definition = |group: &str, kind: &str, fields: Value| {
        let spec = json!({"type": "object", "properties": fields});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        let versions = json!([{"name": "v1", "served": true, "schema": schema}]);
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": DEFINITION, "metadata": {"uid": kind, "generation": 1},
               "spec": {"group": group, "names": {"kind": kind}, "versions": versions}})
    };
    let hosts = json!({"hosts": {"type": "array", "items": {"type": "string"}}});
    let other = definition("networking.istio.io", "Sidecar", json!({}));
    world.gateway.holds([definition("networking.istio.io", "VirtualService", hosts), other]);
    // Live context of the default cluster means that cluster, with its name or without.
    for (context, is_theirs) in [(None, false), (live(false), true), (Some(Context::default()), false)] {
        let ask = ValidateRequest { yaml: GOOD.to_owned(), context: context.clone(), ..Default::default() };
        let answer = world.client().validate(world.signed(ask)).await.unwrap().into_inner();
        assert_eq!((ids(&answer.findings).contains(&"MW2004"), answer.valid), (is_theirs, !is_theirs), "{answer:?}");
        let ask = AnalyzeImpactRequest { yaml: GOOD.to_owned(), context, ..Default::default() };
        let answer = world.client().analyze_impact(world.signed(ask)).await.unwrap().into_inner();
        assert_eq!(ids(&answer.findings).contains(&"MW2004"), is_theirs, "{answer:?}");
    }
    world.answers(Ok(DryRunApplyResponse { admitted: true, ..Default::default() }));
    for (cluster, is_theirs) in [("", false), ("west", true)] {
        for said in world.every(GOOD, cluster).await {
            let is_theirs = is_theirs && said.rpc != every::WITHOUT_SCHEMA;
            assert_eq!(said.told.contains("MW2004"), is_theirs, "{cluster:?}: {said:?}");
        }
    }
    // References and conflicts need no schema.
    world.gateway.listed.lock().unwrap().clear();
    let ask = DetectConflictsRequest {
        yaml: GOOD.to_owned(),
        cluster: "north".to_owned(),
        context: live(false),
        ..Default::default()
    };
    world.client().detect_conflicts(world.signed(ask)).await.unwrap();
    let listed = world.gateway.listed.lock().unwrap().clone();
    assert!(!listed.is_empty() && listed.iter().all(|asked| asked.kind != DEFINITION), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definitions_are_read_once_in_a_call() {
    let world = World::new(None).await;
    world.gateway.holds([]);
    let text = |number: usize| GOOD.replace("checkout", &format!("checkout-{number}"));
    let reads = || {
        let mut listed = world.gateway.listed.lock().unwrap();
        listed.drain(..).filter(|asked| asked.kind == DEFINITION).count()
    };
    let yaml: Vec<String> = (0..20).map(text).collect();
    let texts = yaml.iter().map(|yaml| {
        // Only the first message says it: a cluster that comes later is not asked.
        let cluster = if yaml.contains("checkout-0") { "west" } else { "east" }.to_owned();
        ValidateStreamRequest { yaml: yaml.clone(), cluster, ..Default::default() }
    });
    let texts = tokio_stream::iter(texts.collect::<Vec<_>>());
    let mut answers = world.client().validate_stream(world.signed(texts)).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    assert_eq!(reads(), 1);
    let ask = ValidateBatchRequest { yaml, cluster: "north".to_owned(), ..Default::default() };
    world.client().validate_batch(world.signed(ask)).await.unwrap();
    assert_eq!(reads(), 1);

    let wrong = "a b".to_owned();
    let ask = ValidateBatchRequest { cluster: wrong.clone(), ..Default::default() };
    assert_eq!(world.client().validate_batch(world.signed(ask)).await.unwrap_err().code(), Code::InvalidArgument);
    let ask = ExplainPolicyRequest { yaml: GOOD.to_owned(), cluster: wrong.clone() };
    assert_eq!(world.client().explain_policy(world.signed(ask)).await.unwrap_err().code(), Code::InvalidArgument);
    let first = ValidateStreamRequest { cluster: wrong, ..Default::default() };
    let mut answers =
        world.client().validate_stream(world.signed(tokio_stream::iter([first]))).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(reads(), 0);
}
