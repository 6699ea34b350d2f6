//! The stack, a gateway to it, and shorthands.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser as _;
use kube::{
    api::{Api, DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use meshward_chassis::{
    auth::Role,
    client::{PeerChannel, bearer, connect_lazy},
    problem::reason_name,
    server::Server,
    testing::{self, Grant, Running, TestIssuer},
};
use meshward_local::{
    stack::{NAMESPACE, Stack, StackOptions, Upstreams},
    tools::Tools,
};
use meshward_mesh_gateway::{Args, build, newcomers::admission};
use meshward_proto::{
    duration,
    gateway::v1::{self as pb, mesh_gateway_service_client::MeshGatewayServiceClient},
    types::v1 as types,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Request, Status};

pub type Client = MeshGatewayServiceClient<PeerChannel>;

/// Far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Until when a proof is waited for: within the deadline of every RPC.
const PROOF: Duration = Duration::from_secs(20);

pub struct World {
    pub stack: Stack,
    pub gateway: Gateway,
    issuer: TestIssuer,
    dir: TempDir,
}

/// A gateway server in this process.
pub struct Gateway {
    running: Running,
    pub client: Client,
    service_token: String,
}

impl World {
    /// With services that nobody can call.
    pub async fn start() -> Self {
        // Nothing listens there: no request is sent.
        let nowhere = "127.0.0.1:9".parse().expect("an address");
        Self::start_before(Upstreams { checkout: nowhere, checkout_next: nowhere, catalog: nowhere }).await
    }

    pub async fn start_before(upstreams: Upstreams) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let tools = Tools::locate().expect("the tools");
        let options = StackOptions { dir: dir.path().to_owned(), tools, upstreams };
        let stack = Stack::start(options).await.expect("the stack starts");
        let issuer = TestIssuer::new(dir.path()).expect("an issuer");
        let gateway = Gateway::start(&issuer, stack.kubeconfig(), &[&stack.istiod_debug_url()]).await;
        let world = Self { stack, gateway, issuer, dir };
        for object in admission::manifests() {
            world.apply_as("kubectl", &object).await;
        }
        world
    }

    pub async fn stop(self) {
        self.gateway.stop().await;
        self.stack.stop().await;
    }

    /// Another gateway, with this kubeconfig and these replicas of istiod.
    pub async fn gateway(&self, kubeconfig: &Path, istiod: &[&str]) -> Gateway {
        Gateway::start(&self.issuer, kubeconfig, istiod).await
    }

    pub fn token(&self, role: Role) -> String {
        self.issuer.mint(&Grant::new("test", [role]))
    }

    /// A token that is good for these namespaces only.
    pub fn token_within(&self, role: Role, namespace: &str) -> String {
        self.issuer.mint(&Grant::new("test", [role]).within([namespace]))
    }

    pub fn file(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content.to_string()).expect("a file");
        path
    }

    fn api(&self) -> Api<DynamicObject> {
        self.api_of(&object("", Value::Null))
    }

    /// The API for the kind of an object, which may be of any group, with or without a namespace.
    fn api_of(&self, object: &Value) -> Api<DynamicObject> {
        let (api_version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        let (api_version, kind) = api_version.zip(kind).expect("an apiVersion and a kind");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let client = self.stack.client().clone();
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }

    /// Applies an object as somebody else.
    pub async fn apply_as(&self, manager: &str, object: &Value) -> Value {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let parameters = PatchParams::apply(manager).force();
        let stored = self.api_of(object).patch(name, &parameters, &Patch::Apply(object)).await;
        serde_json::to_value(stored.expect("it is applied")).expect("an object is JSON")
    }

    /// Writes the status of an object that is there.
    pub async fn apply_status(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let parameters = PatchParams::apply("kubelet").force();
        self.api_of(object).patch_status(name, &parameters, &Patch::Apply(object)).await.expect("it has a status");
    }

    /// Removes an object at once.
    pub async fn remove(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let at_once = kube::api::DeleteParams::default().grace_period(0);
        self.api_of(object).delete(name, &at_once).await.expect("it is deleted");
    }

    pub async fn live(&self, name: &str) -> Option<Value> {
        self.live_object(&object(name, Value::Null)).await
    }

    /// The live object of the kind and name of this one.
    pub async fn live_object(&self, object: &Value) -> Option<Value> {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let live = self.api_of(object).get_opt(name).await.expect("it can be read");
        live.map(|object| serde_json::to_value(object).expect("an object is JSON"))
    }

    /// What the caller's Envoy itself says that its routes are.
    pub async fn routes_in_envoy(&self) -> String {
        let url = format!("{}/config_dump?resource=dynamic_route_configs", self.stack.storefront().admin_url);
        let reply = reqwest::Client::builder().no_proxy().build().expect("a client").get(url).send().await;
        reply.expect("Envoy answers").text().await.expect("a text")
    }

    /// How often Meshward has written an object of a kind ("virtualservices"), as the API server's audit log tells it.
    pub fn writes_in_audit(&self, plural: &str, name: &str) -> usize {
        let log = std::fs::read_to_string(self.stack.audit_log()).expect("an audit log");
        // Go writes an ampersand in JSON as an escape.
        let is_it =
            |line: &&str| line.contains(&format!("{plural}/{name}?")) && line.contains(r"fieldManager=meshward\u0026");
        log.lines().filter(is_it).filter(|line| line.contains("\"verb\":\"patch\"")).count()
    }

    pub async fn delete(&self, name: &str) {
        self.api().delete(name, &kube::api::DeleteParams::default()).await.expect("it is deleted");
    }
}

impl Gateway {
    pub async fn start(issuer: &TestIssuer, kubeconfig: &Path, istiod: &[&str]) -> Self {
        Self::start_with(issuer, |args| {
            args.kubeconfig = Some(kubeconfig.to_owned());
            args.istiod = istiod.iter().map(|url| (*url).to_owned()).collect();
        })
        .await
    }

    pub async fn start_with(issuer: &TestIssuer, change: impl FnOnce(&mut Args)) -> Self {
        let server = issuer.server_args();
        let flags = ["gateway", "--jwks", &server.jwks, "--jwt-issuer", &server.jwt_issuer].map(str::to_owned);
        let mut args = Args::parse_from(flags);
        args.server = server;
        args.cluster_timeout = Duration::from_secs(5);
        change(&mut args);
        let server = Server::new("gateway", &args.server).await.expect("it listens");
        let running = testing::spawn(build(&args, server).await.expect("a gateway"));
        let client = MeshGatewayServiceClient::new(connect_lazy(&running.url()).expect("a URL"));
        Self { running, client, service_token: issuer.mint(&Grant::new("orchestrator", [Role::Service])) }
    }

    pub async fn stop(self) {
        self.running.stop().await.expect("the gateway stops");
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.running.url())
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        authorized(message, &self.service_token)
    }

    pub async fn plan(&self, canary: &Value, weights: &[i32]) -> Result<(pb::ExposurePlan, pb::Baseline), Status> {
        self.plan_by(types::Mechanism::Unspecified, canary, weights).await
    }

    pub async fn plan_by(
        &self,
        mechanism: types::Mechanism,
        canary: &Value,
        weights: &[i32],
    ) -> Result<(pb::ExposurePlan, pb::Baseline), Status> {
        self.plan_for(None, mechanism, canary, weights).await
    }

    pub async fn plan_for(
        &self,
        audience: Option<pb::Audience>,
        mechanism: types::Mechanism,
        canary: &Value,
        weights: &[i32],
    ) -> Result<(pb::ExposurePlan, pb::Baseline), Status> {
        let request = self.request(pb::PlanExposureRequest {
            audience,
            target: Some(target(canary)),
            canary_json: if is_removal(canary) { String::new() } else { canary.to_string() },
            canary_absent: is_removal(canary),
            weights_bp: weights.to_vec(),
            mechanism: mechanism.into(),
        });
        let reply = self.client.clone().plan_exposure(request).await?.into_inner();
        Ok((reply.plan.expect("a plan"), reply.baseline.expect("a baseline")))
    }

    pub async fn apply(&self, intent: &pb::ExposureIntent) -> Result<pb::ApplyExposureResponse, Status> {
        self.apply_phase(intent, 0).await
    }

    pub async fn apply_phase(
        &self,
        intent: &pb::ExposureIntent,
        phase: i32,
    ) -> Result<pb::ApplyExposureResponse, Status> {
        let request = self.request(pb::ApplyExposureRequest { intent: Some(intent.clone()), phase });
        Ok(self.client.clone().apply_exposure(request).await?.into_inner())
    }

    pub async fn restore(&self, intent: &pb::ExposureIntent) -> Result<pb::RestoreBaselineResponse, Status> {
        self.restore_phase(intent, 0).await
    }

    pub async fn restore_phase(
        &self,
        intent: &pb::ExposureIntent,
        phase: i32,
    ) -> Result<pb::RestoreBaselineResponse, Status> {
        let request = self.request(pb::RestoreBaselineRequest { intent: Some(intent.clone()), phase });
        Ok(self.client.clone().restore_baseline(request).await?.into_inner())
    }

    pub async fn verify(&self, intent: &pb::ExposureIntent, objects: &[pb::AppliedObject]) -> pb::PropagationProof {
        let request = self.request(pb::VerifyExposureRequest {
            intent: Some(intent.clone()),
            objects: objects.to_vec(),
            timeout: Some(duration(PROOF)),
            quorum_bp: 0,
        });
        let reply = self.client.clone().verify_exposure(request).await.expect("a proof is an answer");
        reply.into_inner().proof.expect("a proof")
    }

    /// Applies phase by phase and waits for each proof; prints how long it took. The writes are those of all phases.
    pub async fn expose(
        &self,
        what: &str,
        intent: &pb::ExposureIntent,
    ) -> (pb::ApplyExposureResponse, pb::PropagationProof) {
        let start = std::time::Instant::now();
        let (mut writes, mut pods_moved) = (0, 0);
        for phase in 0.. {
            let applied = self.apply_phase(intent, phase).await.expect("it is applied");
            (writes, pods_moved) = (writes + applied.writes, pods_moved + applied.pods_moved);
            let written = start.elapsed();
            let proof = self.verify(intent, &applied.objects).await;
            println!("{what}, phase {phase}: written after {written:?}, {} ({:?})", proof.message, start.elapsed());
            if !applied.more || proof.state() != pb::PropagationState::Live {
                return (pb::ApplyExposureResponse { writes, pods_moved, ..applied }, proof);
            }
        }
        unreachable!("there is a last phase")
    }

    /// The way back, phase by phase, each proven live.
    pub async fn undo(
        &self,
        what: &str,
        intent: &pb::ExposureIntent,
    ) -> (pb::RestoreBaselineResponse, pb::PropagationProof) {
        let start = std::time::Instant::now();
        let (mut writes, mut pods_moved) = (0, 0);
        for phase in 0.. {
            let restored = self.restore_phase(intent, phase).await.expect("it is restored");
            (writes, pods_moved) = (writes + restored.writes, pods_moved + restored.pods_moved);
            let proof = self.verify(intent, &restored.objects).await;
            println!("{what}, phase {phase} of the way back: {} ({:?})", proof.message, start.elapsed());
            if !restored.more || proof.state() != pb::PropagationState::Live {
                return (pb::RestoreBaselineResponse { writes, pods_moved, ..restored }, proof);
            }
        }
        unreachable!("there is a last phase")
    }
}

pub fn authorized<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    bearer(&mut request, token).expect("a token is a header");
    request
}

/// A VirtualService in the namespace of the stack.
pub fn object(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

pub fn target(object: &Value) -> types::Target {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let is_istios = text(&object["apiVersion"]).contains("istio.io");
    let mesh = if is_istios { types::Mesh::Istio } else { types::Mesh::Linkerd };
    types::Target {
        cluster: String::new(),
        mesh: mesh.into(),
        api_version: text(&object["apiVersion"]),
        kind: text(&object["kind"]),
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
    }
}

/// A canary without a spec stands for "the object shall be gone".
fn is_removal(canary: &Value) -> bool {
    canary["spec"].is_null()
}

/// An intent of the deployment "d1".
pub fn intent(
    canary: &Value,
    plan: &pb::ExposurePlan,
    baseline: &pb::Baseline,
    generation: i64,
    weight_bp: i32,
) -> pb::ExposureIntent {
    pb::ExposureIntent {
        deployment_id: "d1".to_owned(),
        generation,
        target: Some(target(canary)),
        baseline: Some(baseline.clone()),
        canary_json: if is_removal(canary) { String::new() } else { canary.to_string() },
        canary_absent: is_removal(canary),
        mechanism: plan.mechanism,
        weight_bp,
    }
}

/// Checks the machine-readable reason of a refusal and gives its ErrorInfo's metadata and message.
pub fn refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    reason: types::ErrorReason,
) -> (std::collections::HashMap<String, String>, String) {
    use tonic_types::StatusExt as _;
    let status = result.expect_err("it is refused");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.reason, reason_name(reason), "{status:?}");
    (info.metadata, status.message().to_owned())
}

/// An object without what only the API server counts up.
pub fn without_counters(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.remove("resourceVersion");
    metadata.remove("generation");
    object
}
