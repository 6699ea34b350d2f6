//! The service over gRPC, with real tokens, and with a mesh-gateway that says what the test wants.

#[path = "api/certificates.rs"]
mod certificates;
#[path = "api/every.rs"]
mod every;
#[path = "api/gateway.rs"]
mod gateway;
#[path = "api/impact.rs"]
mod impact;
#[path = "api/live.rs"]
mod live;
#[path = "api/traffic.rs"]
mod traffic;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser as _;
use meshward_chassis::{
    auth::Role,
    client::{self, PeerChannel},
    problem::{Problem, reason_of},
    server::Server,
    testing::{self, Grant, Running, TestIssuer},
};
use meshward_proto::{
    gateway::v1::{DryRunApplyResponse, mesh_gateway_service_server::MeshGatewayServiceServer},
    types::v1::{ErrorReason, Finding, ObjectRef, Severity},
    validator::v1::{
        AcceptedFinding, AnalyzeImpactRequest, Context, DetectConflictsRequest, DryRunRequest, DryRunResponse,
        ExplainPolicyRequest, TrafficEdge, ValidateBatchRequest, ValidateRequest, ValidateResponse,
        ValidateStreamRequest, WhatIfRequest, validator_service_client::ValidatorServiceClient,
    },
};
use meshward_validator::config::Config;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status};

use gateway::FakeGateway;

const GOOD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: checkout
  namespace: shop
spec:
  hosts:
  - checkout
  http:
  - route:
    - destination:
        host: checkout
      weight: 100
";

const NO_CATALOGUE: &str = "schema: no CRD catalogue is configured; set --crds";

/// The validator in this process, and everything around it.
struct World {
    running: Running,
    issuer: TestIssuer,
    gateway: FakeGateway,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(crds: Option<PathBuf>) -> Self {
        Self::observing(crds, None).await
    }

    /// With a metrics-collector.
    async fn observing(crds: Option<PathBuf>, metrics_collector: Option<String>) -> Self {
        let gateway = FakeGateway::default();
        let service = MeshGatewayServiceServer::new(gateway.clone());
        let addr = gateway::serve(tonic::transport::Server::builder().add_service(service)).await;
        Self::with_peers(addr, gateway, crds, metrics_collector).await
    }

    async fn with_gateway(addr: SocketAddr, gateway: FakeGateway, crds: Option<PathBuf>) -> Self {
        Self::with_peers(addr, gateway, crds, None).await
    }

    async fn with_peers(
        addr: SocketAddr,
        gateway: FakeGateway,
        crds: Option<PathBuf>,
        metrics_collector: Option<String>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = TestIssuer::new(folder.path()).unwrap();
        let args = issuer.server_args();
        let mut config = Config::parse_from(["validator", "--jwks=unused", "--jwt-issuer=unused"]);
        config.mesh_gateway = format!("http://{addr}");
        config.metrics_collector = metrics_collector;
        config.traffic_timeout = Duration::from_secs(5);
        config.crds = crds.into_iter().collect();
        config.dry_run_timeout = Duration::from_secs(5);
        let server = Server::new("validator-test", &args).await.unwrap();
        let server = meshward_validator::build(&config, server).unwrap();
        Self { running: testing::spawn(server), issuer, gateway, _folder: folder }
    }

    fn client(&self) -> ValidatorServiceClient<PeerChannel> {
        ValidatorServiceClient::new(client::connect_lazy(&self.running.url()).unwrap())
    }

    fn token(&self) -> String {
        self.issuer.mint(&Grant::new("vera", [Role::Viewer]).within(["shop"]))
    }

    fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        client::bearer(&mut request, &self.token()).unwrap();
        request
    }

    async fn validate(&self, yaml: &str) -> ValidateResponse {
        let request = self.signed(ValidateRequest { yaml: yaml.to_owned(), ..Default::default() });
        self.client().validate(request).await.unwrap().into_inner()
    }

    async fn dry_run(&self, yaml: &str) -> Result<DryRunResponse, Status> {
        self.dry_run_of(yaml, false).await
    }

    async fn dry_run_of(&self, yaml: &str, despite_errors: bool) -> Result<DryRunResponse, Status> {
        let message =
            DryRunRequest { yaml: yaml.to_owned(), cluster: "west".to_owned(), despite_errors, context: None };
        let request = self.signed(message);
        self.client().dry_run(request).await.map(Response::into_inner)
    }

    fn answers(&self, answer: Result<DryRunApplyResponse, Status>) {
        *self.gateway.answer.lock().unwrap() = Some(answer);
    }
}

/// Istio's own definitions, from where the install program puts them.
fn istio_crds() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let meshward =
        variable("MESHWARD_CACHE").or_else(|| cache().map(|cache| cache.join("meshward"))).unwrap_or_default();
    let path = variable("MESHWARD_CRDS").unwrap_or_else(|| meshward.join("crds/crd-all.gen.yaml"));
    assert!(path.exists(), "{} is absent: run tests/run or deploy/local/install first", path.display());
    path
}

fn place(finding: &Finding) -> (&str, i32, i32) {
    let at = finding.at.unwrap_or_default();
    (&finding.id, at.line, at.column)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_policy_is_valid_and_comes_back_as_the_api_server_reads_it() {
    let world = World::new(Some(istio_crds())).await;
    let answer = world.validate(GOOD).await;
    assert!(answer.valid, "{:?}", answer.findings);
    assert!(answer.findings.is_empty() && answer.skipped.is_empty(), "{answer:?}");
    let object = &answer.objects[0];
    let target = object.target.clone().unwrap();
    assert_eq!(
        (target.kind.as_str(), target.namespace.as_str(), target.name.as_str()),
        ("VirtualService", "shop", "checkout")
    );
    assert!(object.canonical_json.starts_with(r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService""#));
    let parsed = serde_json::from_str(&object.canonical_json).unwrap();
    assert_eq!(object.digest, meshward_model::Digest::of(&parsed).as_str());
    assert!(world.gateway.asked.lock().unwrap().is_empty(), "Validate asks no cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_policies_are_answered_with_findings_and_never_with_an_error() {
    let world = World::new(Some(istio_crds())).await;
    let duplicate = format!("{GOOD}      weight: 1\n");
    let cases = [
        (GOOD.replace("weight: 100", "wieght: 100"), ("MW2004", 13, 7)),
        (GOOD.replace("weight: 100", "weight: '100'"), ("MW2006", 13, 15)),
        (GOOD.replace("weight: 100", "weight: -1"), ("MW3109", 13, 15)),
        (GOOD.replace("        host: checkout\n", "        hots: checkout\n"), ("MW2005", 11, 7)),
        (GOOD.replace("  namespace: shop\n", ""), ("MW3003", 3, 1)),
        (GOOD.replace("kind: VirtualService", "kind: Deployment"), ("MW2002", 2, 7)),
        (GOOD.replace("networking.istio.io/v1", "v1"), ("MW2001", 2, 7)),
        (duplicate, ("MW1010", 14, 7)),
        ("a: [".to_owned(), ("MW1009", 1, 4)),
        (String::new(), ("MW1008", 1, 1)),
    ];
    for (yaml, expected) in cases {
        let answer = world.validate(&yaml).await;
        assert!(!answer.valid, "{yaml}");
        let first = answer.findings.iter().find(|finding| finding.severity() == Severity::Error).unwrap();
        assert_eq!(place(first), expected, "{yaml}: {:?}", answer.findings);
    }
    let answer = world.validate(&"x".repeat(1024 * 1024 + 1)).await;
    assert_eq!(answer.findings[0].id, "MW1001");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_definitions_every_answer_says_so() {
    let world = World::new(None).await;
    let answer = world.validate(&GOOD.replace("weight: 100", "wieght: 100")).await;
    assert!(answer.valid);
    assert_eq!(answer.skipped, [NO_CATALOGUE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_asks_the_cluster_as_the_caller() {
    let world = World::new(None).await;
    world.answers(Ok(DryRunApplyResponse {
        admitted: true,
        warnings: vec!["spec.http[0].route is odd".into()],
        ..Default::default()
    }));
    let answer = world.dry_run(GOOD).await.unwrap();
    assert!(answer.valid, "a warning is no refusal");
    assert_eq!(answer.findings.iter().map(place).collect::<Vec<_>>(), [("MW3002", 10, 5)]);
    let asked = world.gateway.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].0.cluster, "west");
    assert_eq!(asked[0].0.object_json, answer.objects[0].canonical_json);
    assert!(asked[0].1.starts_with("Bearer ey"), "the caller's own token is sent on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_cluster_is_a_finding_in_its_words() {
    let world = World::new(None).await;
    world.answers(Ok(DryRunApplyResponse {
        refused_by: "admission".into(),
        message: "admission webhook \"validation.istio.io\" denied the request: total destination weight = 0".into(),
        ..Default::default()
    }));
    let answer = world.dry_run(GOOD).await.unwrap();
    assert!(!answer.valid);
    assert_eq!(place(&answer.findings[0]), ("MW3001", 1, 1));
    assert!(answer.findings[0].message.contains("total destination weight = 0"), "{:?}", answer.findings[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_with_errors_is_not_sent_to_the_cluster() {
    let world = World::new(None).await;
    let answer = world.dry_run(&GOOD.replace("weight: 100", "weight: -1")).await.unwrap();
    assert!(!answer.valid);
    assert!(answer.skipped.iter().any(|reason| reason.starts_with("admission:")), "{:?}", answer.skipped);
    assert!(world.gateway.asked.lock().unwrap().is_empty());

    let refusal = DryRunApplyResponse { refused_by: "admission".to_owned(), ..DryRunApplyResponse::default() };
    world.answers(Ok(refusal));
    let answer = world.dry_run_of(&GOOD.replace("weight: 100", "weight: -1"), true).await.unwrap();
    let mut found = ids(&answer.findings);
    found.sort_unstable();
    assert_eq!(found, ["MW3001", "MW3109"], "both have their say");
    assert!(answer.skipped.iter().all(|reason| !reason.starts_with("admission:")), "{:?}", answer.skipped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_refuses_or_fails_is_told_apart() {
    let world = World::new(None).await;
    let unknown = Problem::new(Code::NotFound, ErrorReason::ClusterUnknown, "the cluster \"west\" is unknown");
    world.answers(Err(unknown.into()));
    let status = world.dry_run(GOOD).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::NotFound, Some(ErrorReason::ClusterUnknown)));

    world.answers(Err(Status::internal("boom")));
    let status = world.dry_run(GOOD).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::PeerUnavailable)));

    // A port that was free a moment ago: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::with_gateway(closed, FakeGateway::default(), None).await;
    let status = world.dry_run(GOOD).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::PeerUnavailable)));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_cannot_be_answered_say_why() {
    let world = World::new(None).await;
    let mut client = world.client();
    let yaml = GOOD.to_owned();

    let nobody = client.validate(ValidateRequest { yaml: yaml.clone(), ..Default::default() }).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);

    let bad = world.signed(ValidateRequest { yaml: yaml.clone(), cluster: "a b".to_owned(), ..Default::default() });
    assert_eq!(client.validate(bad).await.unwrap_err().code(), Code::InvalidArgument);

    for edge in [
        TrafficEdge { destination_port: 65_536, ..Default::default() },
        TrafficEdge { requests_per_second: f64::NAN, ..Default::default() },
    ] {
        let request = AnalyzeImpactRequest { edges: vec![edge], ..Default::default() };
        let status = client.analyze_impact(world.signed(request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }

    let context = Context { yaml: vec![String::new(); 101], ..Context::default() };
    let many = DetectConflictsRequest { context: Some(context), ..Default::default() };
    assert_eq!(client.detect_conflicts(world.signed(many)).await.unwrap_err().code(), Code::InvalidArgument);
    for (yaml, count) in [(yaml.clone(), 1), (String::new(), 101)] {
        let removed = vec![ObjectRef::default(); count];
        let status =
            client.detect_conflicts(world.signed(DetectConflictsRequest { yaml, removed, ..Default::default() }));
        assert_eq!(status.await.unwrap_err().code(), Code::InvalidArgument, "{count}");
    }
    let unknown = WhatIfRequest { session: "sha256:0".to_owned(), yaml };
    let status = client.what_if(world.signed(unknown)).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::NotFound, Some(ErrorReason::SessionUnknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_explained_and_unreadable_ones_refused_with_line_and_column() {
    let world = World::new(Some(istio_crds())).await;
    let mut client = world.client();
    let policy = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec: {}
";
    let yaml = format!("{policy}---\n{GOOD}");
    let answer = client
        .explain_policy(world.signed(ExplainPolicyRequest { yaml, ..Default::default() }))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.sentences.len(), 2);
    assert!(answer.sentences[0].starts_with("Istio AuthorizationPolicy shop/closed: ALLOW nothing"), "{answer:?}");
    assert!(answer.sentences[1].starts_with("VirtualService shop/checkout: not explained"), "{answer:?}");

    for (yaml, place) in [
        (policy.replace("{}", "{rule: []}"), "line 4, column 8: MW2004"),
        (policy.replace("{}", "{"), "line 4, column 7: MW1009"),
        (String::new(), "line 1, column 1: MW1008"),
    ] {
        let status =
            client.explain_policy(world.signed(ExplainPolicyRequest { yaml, ..Default::default() })).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::InvalidArgument, Some(ErrorReason::PolicyInvalid)));
        assert!(status.message().starts_with(place), "{}", status.message());
    }
    let nobody = client.explain_policy(ExplainPolicyRequest::default()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
}

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {ports: [{port: 80, name: http}]}
";

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_judged_among_what_is_sent_with_it() {
    let world = World::new(None).await;
    let mut client = world.client();
    let other = GOOD.replace("name: checkout\n  namespace", "name: older\n  namespace");
    let context = |yaml: &[&str], complete| {
        let yaml = yaml.iter().map(ToString::to_string).collect();
        Some(Context { yaml, complete, ..Context::default() })
    };
    let broken = GOOD.replace("host: checkout", "host: checkuot");
    let ask = |yaml: &str, context| ValidateRequest { yaml: yaml.to_owned(), context, ..Default::default() };

    let answer = client.validate(world.signed(ask(&broken, context(&[SERVICE], true)))).await.unwrap().into_inner();
    assert!(answer.valid, "references are advice");
    assert_eq!(ids(&answer.findings), ["MW4102"]);
    assert_eq!(answer.findings[0].severity(), Severity::Error);
    assert_eq!(answer.findings[0].suggestion, "did you mean checkout?");
    let answer = client.validate(world.signed(ask(&broken, context(&[SERVICE], false)))).await.unwrap().into_inner();
    assert_eq!(answer.findings[0].severity(), Severity::Warning, "more may be there than was sent");
    let answer = client.validate(world.signed(ask(&broken, context(&[], false)))).await.unwrap().into_inner();
    assert!(
        answer.findings.is_empty() && answer.skipped.iter().any(|why| why.contains("hosts")),
        "{:?}",
        answer.skipped
    );

    let until = |until: &str| AcceptedFinding {
        id: "MW5101".into(),
        reason: "both are the same".into(),
        until: until.into(),
        ..Default::default()
    };
    for (accepted, suppressed) in
        [(vec![], false), (vec![until("9999-12-31")], true), (vec![until("2020-01-01")], false)]
    {
        let expired = !accepted.is_empty() && !suppressed;
        let ask = DetectConflictsRequest {
            yaml: GOOD.to_owned(),
            context: context(&[SERVICE, &other], true),
            accepted,
            ..Default::default()
        };
        let answer = client.detect_conflicts(world.signed(ask)).await.unwrap().into_inner();
        let own = answer.findings.iter().find(|finding| finding.id == "MW5101" && finding.source.is_empty()).unwrap();
        assert_eq!(own.suppressed.is_some(), suppressed, "{own:?}");
        assert_eq!(own.related[0].source, "context[1]");
        assert_eq!(own.aliases, ["IST0109", "KIA1106"]);
        assert_eq!(answer.findings.iter().any(|finding| finding.id == "MW3005"), expired);
        let broken = answer.findings.iter().find(|finding| finding.id == "MW5101" && finding.source == "context[1]");
        assert_eq!(broken.and_then(|finding| finding.at).map(|at| at.line), Some(8), "the other one breaks too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_are_judged_in_a_batch_or_a_stream_and_stay_warm_for_their_sender() {
    let world = World::new(Some(istio_crds())).await;
    let mut client = world.client();
    let text = |number: usize| {
        let rename = |text: &str| text.replace("checkout", &format!("checkout-{number}"));
        format!("{}---\n{}", rename(GOOD), rename(SERVICE))
    };
    let mut yaml: Vec<String> = (0..200).map(text).collect();
    yaml[7] = yaml[7].replace("host: checkout-7", "host: gone").replace("weight: 100", "weight: -1");
    let request = ValidateBatchRequest { yaml: yaml.clone(), complete: true, keep: true, ..Default::default() };
    let batch = client.validate_batch(world.signed(request)).await.unwrap().into_inner();
    assert_eq!((batch.valid, batch.objects), (false, 400));
    let found: Vec<_> = batch.findings.iter().map(|finding| (finding.id.as_str(), finding.source.as_str())).collect();
    assert_eq!(found, [("MW4102", "yaml[7]"), ("MW3109", "yaml[7]")]);

    let texts = yaml.iter().map(|yaml| ValidateStreamRequest {
        yaml: yaml.clone(),
        complete: true,
        keep: true,
        ..Default::default()
    });
    let texts = tokio_stream::iter(texts.collect::<Vec<_>>());
    let mut answers = client.validate_stream(world.signed(texts)).await.unwrap().into_inner();
    let (mut streamed, mut summary) = (Vec::new(), None);
    while let Some(answer) = answers.message().await.unwrap() {
        streamed.extend(answer.findings);
        summary = answer.summary.or(summary);
    }
    let summary = summary.expect("a summary ends the stream");
    assert_eq!(ids(&streamed), ["MW3109", "MW4102"], "first what is wrong with single objects");
    assert_eq!((summary.valid, summary.objects, &summary.session), (false, 400, &batch.session));

    let what_if = |yaml: String| WhatIfRequest { session: batch.session.clone(), yaml };
    let mended = what_if(text(7));
    let change = client.what_if(world.signed(mended)).await.unwrap().into_inner();
    assert!(change.findings.is_empty(), "{:?}", change.findings);
    assert!(change.judged < 5, "{} were judged", change.judged);
    let change =
        client.what_if(world.signed(what_if(text(7).replace("host: checkout-7", "host: nowhere")))).await.unwrap();
    assert_eq!(ids(&change.into_inner().findings), ["MW4102"], "the set is as it was before the first change");

    let other = world.issuer.mint(&Grant::new("otto", [Role::Viewer]).within(["shop"]));
    let mut request = Request::new(what_if(text(7)));
    client::bearer(&mut request, &other).unwrap();
    let status = client.what_if(request).await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::SessionUnknown), "a set belongs to its sender");
}
