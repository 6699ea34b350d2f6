//! New pods where the gateway cannot have the admission policy see to them: its own watch labels them, on a real API server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::Method;
use meshward_chassis::clock::SystemClock;
use meshward_local::stack::ApiServer;
use meshward_mesh_gateway::{
    app,
    cluster::{Cluster as _, MemoryCluster, Mode},
    clusters::{Clusters, Member},
    newcomers::admission,
    object,
    proof::{Expected, Look, Patience, Plane},
};
use meshward_model::{AppliedObject, ExposureIntent, Mechanism, PropagationState, Target, Weight};
use meshward_proto::types::v1::{ErrorReason as Reason, Mechanism as WireMechanism};
use serde_json::{Value, json};

use super::{
    alone::{Alone, account, allow, apply_as, ask, eventually, kubeconfig},
    contract::target_of,
    world::{Gateway, intent, refused},
};

const PODS: &str = "/api/v1/namespaces/shop/pods";
const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";
const BINDINGS: &str = "mutatingadmissionpolicybindings";
const ACCOUNT: &str = "watching";

fn policy(app: &str, path: &str) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": app, "namespace": "shop"},
           "spec": {"selector": {"matchLabels": {"app": app}}, "action": "ALLOW",
                    "rules": [{"to": [{"operation": {"paths": [path]}}]}]}})
}

fn pod(name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
           "spec": {"containers": [{"name": "app", "image": "none"}]}})
}

async fn create(server: &ApiServer, name: &str, app: &str) -> Value {
    apply_as(server, "kubectl", &format!("{PODS}/{name}"), &pod(name, app)).await
}

async fn label_of(server: &ApiServer, name: &str, key: &str) -> Value {
    ask(server, Method::GET, &format!("{PODS}/{name}"), &Value::Null).await["metadata"]["labels"][key].clone()
}

/// Makes a pod and waits for its label; how long that took.
async fn labelled(server: &ApiServer, name: &str, app: &str, key: &str) -> Duration {
    let start = Instant::now();
    let created = create(server, name, app).await;
    assert_eq!(created["metadata"]["labels"][key], Value::Null, "no admission policy labels it");
    until_labelled(server, name, key).await;
    start.elapsed()
}

async fn until_labelled(server: &ApiServer, name: &str, key: &str) {
    let is_labelled = || async { (label_of(server, name, key).await == "stable").then_some(()) };
    eventually(&format!("{name} gets its label"), is_labelled).await;
}

/// What a gateway needs that labels new pods by its own watch.
fn rules(verbs: &Value) -> Value {
    json!([
        {"apiGroups": ["security.istio.io"], "resources": ["*"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
        {"apiGroups": ["networking.istio.io"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
    ])
}

/// A deployment of one app's policy.
struct Release {
    key: String,
    intent: Box<dyn Fn(i64, i32) -> meshward_proto::gateway::v1::ExposureIntent>,
}

impl Release {
    async fn plan(server: &ApiServer, gateway: &Gateway, app: &str) -> Self {
        for number in 0..4 {
            create(server, &format!("{app}-{number}"), app).await;
        }
        apply_as(server, "kubectl", &format!("{POLICIES}/{app}"), &policy(app, "/old")).await;
        let canary = policy(app, "/new");
        let plan = || async { gateway.plan_by(WireMechanism::Instance, &canary, &[5000, 10_000]).await.ok() };
        let (plan, baseline) = eventually("the account has its rights", plan).await;
        let words = plan.not_covered.join("\n");
        assert!(words.contains("no version governs the pod"), "{words}");
        let key = plan.steps[0].cohorts[0].label_key.clone();
        Self { key, intent: Box::new(move |generation, weight| intent(&canary, &plan, &baseline, generation, weight)) }
    }

    async fn back(&self, gateway: &Gateway, generation: i64) {
        gateway.restore_phase(&(self.intent)(generation, 0), 9).await.expect("it is restored");
    }
}

pub async fn new_pods_are_labelled_where_the_admission_policy_cannot_be_told(world: &Alone, server: &ApiServer) {
    let token = account(server, ACCOUNT).await;
    allow(server, ACCOUNT, &rules(&json!(["get", "list", "patch"]))).await;
    let file = world.file("watching.kubeconfig", &kubeconfig(server, None, Some(&token)).to_string());
    let gateway = world.gateway(&file).await;
    let ledger = Release::plan(server, &gateway, "ledger").await;

    // It may watch no pods: then nobody would label new ones.
    let (metadata, _) = refused(gateway.apply_phase(&(ledger.intent)(1, 5000), 2).await, Reason::ClusterForbidden);
    assert_eq!((&*metadata["verb"], &*metadata["resource"]), ("watch", "pods"), "{metadata:?}");
    let live = ask(server, Method::GET, &format!("{POLICIES}/ledger"), &Value::Null).await;
    assert_eq!(live["spec"], policy("ledger", "/old")["spec"], "it is not narrowed");
    gateway.stop().await;

    // The admission policy is there, and the gateway may see it, but not tell it anything.
    for object in admission::manifests() {
        let (kind, name) =
            (object["kind"].as_str().expect("a kind"), object["metadata"]["name"].as_str().expect("a name"));
        let plural = if kind == admission::BINDING { BINDINGS } else { "mutatingadmissionpolicies" };
        apply_as(server, "kubectl", &format!("/apis/{}/{plural}/{name}", admission::API_VERSION), &object).await;
    }
    let mut more = rules(&json!(["get", "list", "watch", "patch"]));
    let seen = json!({"apiGroups": ["admissionregistration.k8s.io"], "resources": [BINDINGS], "verbs": ["get"]});
    more.as_array_mut().expect("a list").push(seen);
    allow(server, ACCOUNT, &more).await;
    let gateway = world.gateway(&file).await;
    let first = (ledger.intent)(2, 5000);
    let applied =
        eventually("the account has its rights", || async { gateway.apply_phase(&first, 2).await.ok() }).await;
    assert!(!applied.more, "{applied:?}");
    let mut times = Vec::new();
    for number in 0..10 {
        times.push(labelled(server, &format!("ledger-new-{number}"), "ledger", &ledger.key).await);
    }
    times.sort();
    println!("creation to label, {} pods: median {:?}, max {:?}", times.len(), times[5], times[9]);
    gateway.stop().await;

    // Who comes while no gateway runs is labelled when one does, and who comes then as well.
    let alone = create(server, "ledger-alone", "ledger").await;
    assert_eq!(alone["metadata"]["labels"][&ledger.key], Value::Null);
    let (one, two) = (world.gateway(&file).await, world.gateway(&file).await);
    until_labelled(server, "ledger-alone", &ledger.key).await;
    let time = labelled(server, "ledger-later", "ledger", &ledger.key).await;
    println!("after a restart, by one of two replicas: {time:?}");

    // After the end nothing is left and nothing comes back. The kind is watched in order, so who labels pods of the next
    // deployment knows that the first one has ended.
    ledger.back(&one, 3).await;
    create(server, "ledger-late", "ledger").await;
    let vault = Release::plan(server, &one, "vault").await;
    one.apply_phase(&(vault.intent)(1, 5000), 2).await.expect("the next deployment");
    labelled(server, "vault-new", "vault", &vault.key).await;
    for name in ["ledger-0", "ledger-new-0", "ledger-alone", "ledger-later", "ledger-late"] {
        assert_eq!(label_of(server, name, &ledger.key).await, Value::Null, "{name}");
    }
    vault.back(&one, 2).await;
    one.stop().await;
    two.stop().await;
}

/// A control plane that is never of use.
pub struct Silent;

#[async_trait]
impl Plane for Silent {
    async fn look(&self, _: &Expected) -> Result<Look, String> {
        Err("it was asked".to_owned())
    }
}

pub async fn a_ready_pod_without_a_label_is_pending_by_name() {
    let cluster = Arc::new(MemoryCluster::new(Arc::new(SystemClock)));
    let clusters = Arc::new(Clusters::new("default"));
    clusters.put(Member::new("default", Arc::clone(&cluster) as _, Arc::new(Silent)));
    let gateway = app::Gateway::new(clusters, Arc::new(SystemClock));
    let (stable, canary) = (policy("ledger", "/old"), policy("ledger", "/new"));
    let target = target_of(&stable);
    let put = async |object: &Value| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let target = Target { api_version, kind, name: text(&object["metadata"]["name"]), ..target.clone() };
        cluster.apply(&target, object, Mode::Store).await.expect("it is stored").object
    };
    for name in ["ledger-0", "ledger-1"] {
        put(&pod(name, "ledger")).await;
    }
    put(&stable).await;
    let half = Weight::from_basis_points(5000).expect("a weight");
    let planned = gateway.plan(&target, &canary, &[half], Some(Mechanism::Instance)).await;
    let (plan, baseline) = planned.expect("a plan");
    let key = plan.steps[0].cohorts[0].label_key.clone();
    let intent = ExposureIntent {
        deployment_id: "d1".to_owned(),
        generation: 1,
        target: target.clone(),
        baseline,
        canary,
        mechanism: Mechanism::Instance,
        weight: half,
    };
    let mut narrowed = stable;
    narrowed["spec"]["selector"]["matchLabels"][&key] = "stable".into();
    let live = put(&narrowed).await;
    let applied = AppliedObject {
        target: target.clone(),
        resource_version: object::resource_version(&live).to_owned(),
        object_generation: object::generation(&live),
        absent: false,
        pods_version: String::new(),
    };
    let patience = Patience { timeout: Duration::ZERO, quorum: Weight::ZERO };
    let verify = async || gateway.verify(&intent, std::slice::from_ref(&applied), patience).await.expect("an answer");

    let starting = verify().await;
    assert_eq!(starting.state, PropagationState::Unknown, "no pod is Ready, so it goes on and asks: {starting:?}");
    let mut ready = pod("ledger-1", "ledger");
    ready["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    put(&ready).await;
    let pending = verify().await;
    assert_eq!((pending.state, &*pending.laggards), (PropagationState::Pending, &["ledger-1.shop".to_owned()][..]));
    assert!(pending.message.contains("ledger-1.shop"), "{}", pending.message);
    ready["metadata"]["labels"][&key] = "stable".into();
    put(&ready).await;
    let asked = verify().await;
    assert_eq!(asked.state, PropagationState::Unknown, "it goes on and asks: {asked:?}");
}
