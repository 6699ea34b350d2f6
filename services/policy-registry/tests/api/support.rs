//! The world of a test: an issuer of tokens, a scripted validator, a registry on a file, people with roles.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Parser as _;
use jiff::Timestamp;
use meshward_chassis::{
    auth::{Identity, Role},
    client::{self, PeerChannel},
    clock::ManualClock,
    problem::{Problem, reason_of},
    server::Server,
    testing::{Grant, ISSUER, Running, TestIssuer, spawn},
};
use meshward_model::{Digest, canonical_json};
use meshward_policy_registry::{build_with, config::Config};
use meshward_proto::{
    registry::v1::{policy_registry_service_client::PolicyRegistryServiceClient, *},
    types::v1::{ErrorReason, Finding, Severity, SourceRange, Target},
    validator::v1::{
        validator_service_server::{ValidatorService, ValidatorServiceServer},
        *,
    },
};
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status};

pub type Client = PolicyRegistryServiceClient<PeerChannel>;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the validator shall say, and what it was asked.
#[derive(Debug, Default)]
pub struct Script {
    pub findings: Vec<Finding>,
    pub dry_run_findings: Vec<Finding>,
    pub removal_findings: Vec<Finding>,
    pub skipped: Vec<String>,
    pub refuse_with: Option<Code>,
    /// Kind and name of each object that was asked away.
    pub removed: Vec<String>,
    /// (method, subject) of each call.
    pub asked: Vec<(&'static str, String)>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    /// JSON is YAML: the tests write their texts in it, documents parted by "---".
    fn look(&self, method: &'static str, who: &Identity, text: &str) -> Result<ValidateResponse, Status> {
        let mut script = self.0.lock().unwrap();
        script.asked.push((method, who.subject.clone()));
        if let Some(code) = script.refuse_with {
            return Err(Problem::new(code, ErrorReason::PeerUnavailable, "as scripted").into());
        }
        let objects = text.split("---").map(|document| {
            let value: Value = serde_json::from_str(document).expect("the tests write JSON");
            let target = Target {
                api_version: text_of(&value["apiVersion"]),
                kind: text_of(&value["kind"]),
                namespace: text_of(&value["metadata"]["namespace"]),
                name: text_of(&value["metadata"]["name"]),
                ..Target::default()
            };
            let digest = Digest::of(&value).to_string();
            ValidatedObject { target: Some(target), canonical_json: canonical_json(&value), digest }
        });
        let mut findings = script.findings.clone();
        if method == "dry-run" {
            findings.extend(script.dry_run_findings.clone());
        }
        let valid = findings.iter().all(|finding| finding.severity() != Severity::Error);
        Ok(ValidateResponse { valid, findings, objects: objects.collect(), skipped: script.skipped.clone() })
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tonic::async_trait]
impl ValidatorService for Scripted {
    async fn validate(&self, request: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
        let answer = self.look("validate", Identity::of(&request)?, &request.get_ref().yaml)?;
        Ok(Response::new(answer))
    }

    async fn dry_run(&self, request: Request<DryRunRequest>) -> Result<Response<DryRunResponse>, Status> {
        let ValidateResponse { valid, findings, objects, skipped } =
            self.look("dry-run", Identity::of(&request)?, &request.get_ref().yaml)?;
        assert!(request.get_ref().context.as_ref().is_some_and(|context| context.live && context.registry));
        Ok(Response::new(DryRunResponse { valid, findings, objects, skipped }))
    }

    /// Of what is removed; what stays is judged by dry runs.
    async fn detect_conflicts(
        &self,
        request: Request<DetectConflictsRequest>,
    ) -> Result<Response<DetectConflictsResponse>, Status> {
        let who = Identity::of(&request)?.subject.clone();
        let DetectConflictsRequest { removed, context, yaml, .. } = request.into_inner();
        assert!(context.is_some_and(|context| context.live) && yaml.is_empty(), "among what is live");
        let mut script = self.0.lock().unwrap();
        script.asked.push(("removal", who));
        script.removed.extend(removed.into_iter().map(|object| format!("{} {}", object.kind, object.name)));
        let (findings, skipped) = (script.removal_findings.clone(), script.skipped.clone());
        Ok(Response::new(DetectConflictsResponse { findings, skipped }))
    }

    async fn analyze_impact(
        &self,
        _: Request<AnalyzeImpactRequest>,
    ) -> Result<Response<AnalyzeImpactResponse>, Status> {
        Err(Problem::unimplemented("AnalyzeImpact").into())
    }

    async fn explain_policy(
        &self,
        _: Request<ExplainPolicyRequest>,
    ) -> Result<Response<ExplainPolicyResponse>, Status> {
        Err(Problem::unimplemented("ExplainPolicy").into())
    }

    async fn validate_batch(
        &self,
        _: Request<ValidateBatchRequest>,
    ) -> Result<Response<ValidateBatchResponse>, Status> {
        Err(Problem::unimplemented("ValidateBatch").into())
    }

    type ValidateStreamStream = tonic::codegen::BoxStream<ValidateStreamResponse>;

    async fn validate_stream(
        &self,
        _: Request<tonic::Streaming<ValidateStreamRequest>>,
    ) -> Result<Response<Self::ValidateStreamStream>, Status> {
        Err(Problem::unimplemented("ValidateStream").into())
    }

    async fn what_if(&self, _: Request<WhatIfRequest>) -> Result<Response<WhatIfResponse>, Status> {
        Err(Problem::unimplemented("WhatIf").into())
    }
}

/// A registry with all that it needs.
pub struct World {
    pub dir: tempfile::TempDir,
    pub issuer: TestIssuer,
    pub clock: ManualClock,
    pub registry: Running,
    pub validator: Option<Running>,
    script: Scripted,
    config: Config,
}

impl World {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With further flags.
    pub async fn with(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = TestIssuer::new(dir.path()).unwrap();
        let script = Scripted::default();
        let validator = Server::new("validator", &issuer.server_args()).await.unwrap();
        let validator = spawn(validator.add_service(ValidatorServiceServer::new(script.clone())));
        let database = format!("--database-url=sqlite:{}", dir.path().join("registry.db").display());
        let validator_url = format!("--validator={}", validator.url());
        let jwks = issuer.jwks_path().to_string_lossy().into_owned();
        let own =
            ["registry", &database, &validator_url, "--jwks", &jwks, "--jwt-issuer", ISSUER, "--listen=127.0.0.1:0"];
        let config = Config::parse_from(own.iter().chain(flags));
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        let registry = start(&config, &clock).await;
        Self { dir, issuer, clock, registry, validator: Some(validator), script, config }
    }

    /// Stops the registry and starts another one on the same file.
    pub async fn restart(self) -> Self {
        self.registry.stop().await.unwrap();
        let registry = start(&self.config, &self.clock).await;
        Self { registry, ..self }
    }

    pub fn client(&self) -> Client {
        Client::new(client::connect_lazy(&self.registry.url()).unwrap())
    }

    /// Changes what the validator says from now on.
    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.0.lock().unwrap());
    }

    pub fn asked(&self) -> Vec<(&'static str, String)> {
        self.script.0.lock().unwrap().asked.clone()
    }

    pub fn token(&self, who: &str) -> String {
        let (role, namespaces): (_, &[&str]) = match who {
            "vera" => (Role::Viewer, &["shop"]),
            "alice" | "dan" => (Role::Developer, &["shop"]),
            "eve" => (Role::Developer, &["pay"]),
            "bob" | "carol" => (Role::Admin, &["shop"]),
            "root" => (Role::Admin, &["*"]),
            "orchestrator" => (Role::Service, &["*"]),
            other => panic!("who is {other}?"),
        };
        self.issuer.mint(&Grant::new(who, [role]).within(namespaces.iter().copied()))
    }

    /// A message from somebody.
    pub fn by<T>(&self, who: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        client::bearer(&mut request, &self.token(who)).unwrap();
        request
    }

    /// A policy for `name` that alice made.
    pub async fn created(&self, name: &str) -> (Policy, PolicyVersion) {
        let message = CreatePolicyRequest { yaml: route(name, 1), ..Default::default() };
        let made = self.client().create_policy(self.by("alice", message)).await.unwrap().into_inner();
        (made.policy.unwrap(), made.version.unwrap())
    }

    /// A further version of alice's.
    pub async fn updated(&self, policy: &Policy, yaml: String) -> (Policy, PolicyVersion) {
        let message = UpdatePolicyRequest { id: policy.id.clone(), yaml, ..Default::default() };
        let made = self.client().update_policy(self.by("alice", message)).await.unwrap().into_inner();
        (made.policy.unwrap(), made.version.unwrap())
    }

    pub async fn submitted(&self, id: &str) -> SubmitPolicyResponse {
        let message = SubmitPolicyRequest { id: id.into(), ..Default::default() };
        self.client().submit_policy(self.by("alice", message)).await.unwrap().into_inner()
    }

    pub async fn approve(&self, who: &str, version: &PolicyVersion) -> Result<PolicyVersion, Status> {
        let message = ApprovePolicyRequest {
            id: version.policy_id.clone(),
            version: version.version,
            digest: version.digest.clone(),
            comment: "read".into(),
            ..Default::default()
        };
        Ok(self.client().approve_policy(self.by(who, message)).await?.into_inner().version.unwrap())
    }

    /// Submitted by alice, approved by bob.
    pub async fn approved(&self, version: &PolicyVersion) -> PolicyVersion {
        self.submitted(&version.policy_id).await;
        self.approve("bob", version).await.unwrap()
    }

    pub async fn record(
        &self,
        version: &PolicyVersion,
        deployment_id: &str,
        outcome: DeploymentOutcome,
    ) -> Result<RecordDeploymentResponse, Status> {
        let message = RecordDeploymentRequest {
            id: version.policy_id.clone(),
            version: version.version,
            deployment_id: deployment_id.into(),
            outcome: outcome.into(),
            reason: "as measured".into(),
        };
        Ok(self.client().record_deployment(self.by("orchestrator", message)).await?.into_inner())
    }

    pub async fn version(&self, id: &str, version: i64) -> PolicyVersion {
        let message = GetPolicyVersionRequest { id: id.into(), version };
        self.client().get_policy_version(self.by("vera", message)).await.unwrap().into_inner().version.unwrap()
    }

    pub async fn policy(&self, id: &str) -> Policy {
        let message = GetPolicyRequest { id: id.into() };
        self.client().get_policy(self.by("vera", message)).await.unwrap().into_inner().policy.unwrap()
    }

    /// Everything in the trail.
    pub async fn events(&self) -> Vec<AuditEvent> {
        let message = ListAuditEventsRequest { page_size: 500, ..Default::default() };
        self.client().list_audit_events(self.by("root", message)).await.unwrap().into_inner().events
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("registry.db")
    }
}

async fn start(config: &Config, clock: &ManualClock) -> Running {
    let server = Server::new("policy-registry", &config.server).await.unwrap();
    spawn(build_with(config, server, Arc::new(clock.clone())).await.unwrap())
}

/// A VirtualService in the namespace "shop" that sends everything to one weight.
pub fn route(name: &str, weight: i64) -> String {
    object("networking.istio.io/v1", "VirtualService", "shop", name, weight)
}

pub fn object(api_version: &str, kind: &str, namespace: &str, name: &str, weight: i64) -> String {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"weight": weight},
    })
    .to_string()
}

pub fn finding(id: &str, severity: Severity, line: i32) -> Finding {
    Finding {
        id: id.into(),
        severity: severity.into(),
        at: Some(SourceRange { line, column: 5, end_line: line, end_column: 9, document: 0 }),
        message: "the weight is 101".into(),
        suggestion: "use 0 to 100".into(),
        ..Default::default()
    }
}

/// What a refusal must be.
#[track_caller]
pub fn refused<T>(what: &str, answer: Result<T, Status>, code: Code, reason: ErrorReason) -> Status {
    let Err(status) = answer else { panic!("{what}: was not refused") };
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{what}: {status:?}");
    status
}
