//! What the caches ask of a real API server, by its audit log.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use http::Method;
use meshward_local::stack::ApiServer;
use meshward_mesh_gateway::cluster::{CacheOptions, Cached, Cluster, KubeCluster, KubeOptions, Selection};
use meshward_proto::{duration, gateway::v1 as pb, types::v1::Mechanism};
use serde_json::{Value, json};

use super::{
    alone::{Alone, account, allow, apply_as, ask, eventually, kubeconfig},
    world::{Gateway, PATIENCE, intent, object},
};

const PODS: &str = "/api/v1/namespaces/shop/pods";
pub const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies";
const VIRTUAL_SERVICES: &str = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices";

/// What an account did, as the audit log of an API server tells it.
fn events(log: &Path, account: &str) -> Vec<Value> {
    let user = format!("system:serviceaccount:shop:{account}");
    let text = std::fs::read_to_string(log).expect("an audit log");
    // The last line may be half written.
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_ours = |event: &Value| event["user"]["username"] == user.as_str() && event["stage"] == "ResponseComplete";
    events.filter(is_ours).collect()
}

/// How often an account did what, by verb and kind.
fn audit(log: &Path, account: &str) -> BTreeMap<String, usize> {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let what = |event: &Value| format!("{} {}", part(&event["verb"]), part(&event["objectRef"]["resource"]));
    counted(events(log, account).iter().map(what))
}

/// How often an account listed what, by kind and namespace.
fn lists(log: &Path, account: &str) -> BTreeMap<String, usize> {
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let what =
        |event: &Value| format!("{}/{}", part(&event["objectRef"]["namespace"]), part(&event["objectRef"]["resource"]));
    let is_list = |event: &&Value| event["verb"] == "list" && event["responseStatus"]["code"] == 200;
    counted(events(log, account).iter().filter(is_list).map(what))
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

pub fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "ledger"}},
           "spec": {"nodeName": node, "containers": [{"name": "app", "image": "none"}]}})
}

fn edge(upstream: &str) -> Value {
    let http = json!([{"route": [{"destination": {"host": upstream}}], "timeout": "3s"}]);
    object("edge", json!({"hosts": ["shop.example.com"], "gateways": ["edge"], "http": http}))
}

pub async fn one_list_per_kind_however_many_plans_and_pages(world: &Alone, server: &ApiServer) {
    let token = account(server, "frugal").await;
    allow(server, "frugal", &json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])).await;
    let mut stable = edge("checkout");
    stable["spec"]["http"][0].as_object_mut().expect("a route").remove("timeout");
    apply_as(server, "kubectl", &format!("{VIRTUAL_SERVICES}/edge"), &stable).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger"},
                         "spec": {"selector": {"app": "ledger"}, "ports": [{"port": 80}]}});
    apply_as(server, "kubectl", "/api/v1/namespaces/shop/services/ledger", &service).await;
    for number in 0..5 {
        apply_as(server, "kubectl", &format!("{PODS}/ledger-{number}"), &pod(&format!("ledger-{number}"), "n")).await;
    }
    let file = world.file("frugal.kubeconfig", &kubeconfig(server, None, Some(&token)).to_string());
    let gateway = world.gateway(&file).await;

    let canary = edge("checkout-next");
    let plan = || gateway.plan(&canary, &[1000, 3000, 10_000]);
    eventually("the account has its rights", || async { plan().await.ok() }).await;
    let before = audit(&server.audit_log(), "frugal");
    let plans = futures::future::join_all((0..20).map(|_| plan())).await;
    assert!(plans.iter().all(Result::is_ok), "{plans:?}");
    let (plan, baseline) = plans.into_iter().next().expect("a plan").expect("a plan");
    for generation in 1..=6 {
        let weight = i32::try_from(generation).expect("a number") * 1000;
        gateway.apply(&intent(&canary, &plan, &baseline, generation, weight)).await.expect("a step");
    }
    gateway.restore(&intent(&canary, &plan, &baseline, 7, 0)).await.expect("it is restored");
    for size in [1, 2, 50, 50] {
        assert_eq!(instances(&gateway, size).await, ["ledger-0", "ledger-1", "ledger-2", "ledger-3", "ledger-4"]);
    }
    // What others do is seen without asking.
    ask(server, Method::DELETE, &format!("{PODS}/ledger-4?gracePeriodSeconds=0"), &Value::Null).await;
    eventually("the pod is gone", || async { (instances(&gateway, 50).await.len() == 4).then_some(()) }).await;

    let counts = audit(&server.audit_log(), "frugal");
    println!("what 21 plans, 6 steps, a restore and 12 pages asked of the API server: {counts:?}");
    let count = |what: &str| counts.get(what).copied().unwrap_or(0);
    for kind in ["virtualservices", "services", "pods", "nodes", "workloadentries"] {
        // LISTs that came before the account had its rights were refused, and are none.
        let refused =
            if kind == "virtualservices" { before.get("list virtualservices").map_or(0, |n| n - 1) } else { 0 };
        assert_eq!(count(&format!("list {kind}")) - refused, 1, "{kind}: {counts:?}");
    }
    assert_eq!(count("patch virtualservices"), 6 + 2, "a write a step, two to restore: {counts:?}");
    assert_eq!(count("create virtualservices") + count("update virtualservices"), 0, "{counts:?}");
    gateway.stop().await;
}

async fn instances(gateway: &super::world::Gateway, size: i32) -> Vec<String> {
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListInstancesRequest {
            namespace: "shop".to_owned(),
            service: "ledger".to_owned(),
            page_size: size,
            page_token: token,
            cluster: String::new(),
        };
        let page = gateway.client.clone().list_instances(gateway.request(request)).await.expect("a page").into_inner();
        names.extend(page.instances.into_iter().map(|instance| instance.pod));
        token = page.next_page_token;
        if token.is_empty() {
            return names;
        }
    }
}

fn cached(cluster: KubeCluster, change: impl FnOnce(&mut CacheOptions)) -> Cached {
    let mut options = CacheOptions::default();
    change(&mut options);
    Cached::new(Arc::new(cluster), options)
}

async fn connect(file: &Path) -> KubeCluster {
    let options = KubeOptions { kubeconfig: Some(file.to_owned()), timeout: PATIENCE };
    KubeCluster::new(&options).await.expect("a cluster")
}

pub async fn a_write_is_seen_by_who_names_its_version(server: &ApiServer) {
    let cached = cached(connect(server.kubeconfig()).await, |_| {});
    let pods = Selection { labels: "app=fresh".to_owned(), ..Selection::of("v1", "pods").within("shop") };
    assert!(cached.select(&pods).await.expect("a list").objects.is_empty());
    for number in 0..20 {
        let mut pod = pod(&format!("fresh-{number}"), "n");
        pod["metadata"]["labels"]["app"] = "fresh".into();
        let stored = apply_as(server, "kubectl", &format!("{PODS}/fresh-{number}"), &pod).await;
        let version = stored["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
        let seen = cached.select(&Selection { not_before: version, ..pods.clone() }).await.expect("a list");
        assert_eq!(seen.objects.len(), number + 1);
    }
    assert_eq!(cached.watched(), ["v1 pods of shop"]);
    for number in 0..20 {
        ask(server, Method::DELETE, &format!("{PODS}/fresh-{number}?gracePeriodSeconds=0"), &Value::Null).await;
    }
}

pub async fn an_unused_watch_ends_and_begins_anew(server: &ApiServer) {
    let cached = cached(connect(server.kubeconfig()).await, |options| options.idle = Duration::from_millis(200));
    let nodes = Selection { only_metadata: true, ..Selection::of("v1", "nodes") };
    cached.select(&nodes).await.expect("a list");
    assert_eq!(cached.watched(), ["v1 nodes"]);
    eventually("nobody asks", || async { cached.watched().is_empty().then_some(()) }).await;
    cached.select(&nodes).await.expect("a list");
    assert_eq!(cached.watched(), ["v1 nodes"]);
}

pub async fn what_cannot_be_kept_is_listed_each_time(world: &Alone, server: &ApiServer) {
    let token = account(server, "no-watch").await;
    allow(server, "no-watch", &json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}])).await;
    let file = world.file("no-watch.kubeconfig", &kubeconfig(server, None, Some(&token)).to_string());
    let services = Selection::of("v1", "services").within("shop");
    let blind = cached(connect(&file).await, |_| {});
    eventually("the account may list", || async { blind.select(&services).await.ok() }).await;
    let listed = || audit(&server.audit_log(), "no-watch").get("list services").copied().unwrap_or(0);
    // The refusal of the watch comes after the first answer.
    let watches = || audit(&server.audit_log(), "no-watch").get("watch services").copied().unwrap_or(0);
    eventually("the watch is refused", || async { (watches() > 0).then_some(()) }).await;
    eventually("each question is a LIST", || async {
        let before = listed();
        for _ in 0..3 {
            blind.select(&services).await.expect("a list");
        }
        (listed() == before + 3).then_some(())
    })
    .await;

    let few = cached(connect(server.kubeconfig()).await, |options| options.most_caches = 1);
    few.select(&services).await.expect("a list");
    few.select(&Selection::of("v1", "configmaps").within("shop")).await.expect("a list");
    let tiny = cached(connect(server.kubeconfig()).await, |options| options.most_objects = 0);
    assert!(!tiny.select(&services).await.expect("a list").objects.is_empty(), "more than may be kept");
    assert_eq!(few.watched(), ["v1 services of shop"]);
}

/// Two deployments of a policy of Istio's, pod by pod, in steps of three phases that are each asked for their proof. Each
/// kind is listed once in the namespace, by the first plan; whoever labels new pods.
pub async fn one_list_per_kind_however_often_pods_are_divided(world: &Alone, server: &ApiServer, account_name: &str) {
    let token = account(server, account_name).await;
    allow(server, account_name, &json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])).await;
    let policy = |path: &str| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
               "metadata": {"name": account_name, "namespace": "shop"},
               "spec": {"selector": {"matchLabels": {"app": account_name}}, "action": "ALLOW",
                        "rules": [{"to": [{"operation": {"paths": [path]}}]}]}})
    };
    for number in 0..4 {
        let name = format!("{account_name}-{number}");
        let mut pod = pod(&name, "n");
        pod["metadata"]["labels"]["app"] = account_name.into();
        apply_as(server, "kubectl", &format!("{PODS}/{name}"), &pod).await;
    }
    apply_as(server, "kubectl", &format!("{POLICIES}/{account_name}"), &policy("/old")).await;
    let file = world.file(&format!("{account_name}.kubeconfig"), &kubeconfig(server, None, Some(&token)).to_string());
    let gateway = world.gateway(&file).await;
    let canary = policy("/new");
    let plan = || async { gateway.plan_by(Mechanism::Instance, &canary, &[5000, 10_000]).await.ok() };
    eventually("the account has its rights", plan).await;
    for end in [None, Some(10_000)] {
        let (plan, baseline) = plan().await.expect("a plan");
        let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
        for (generation, weight) in [(1, 2500), (2, 5000), (3, 0), (4, 7500)].into_iter().chain(end.map(|all| (5, all)))
        {
            for phase in 0..4 {
                let applied = gateway.apply_phase(&at(generation, weight), phase).await.expect("a phase");
                look(&gateway, &at(generation, weight), applied.objects).await;
            }
        }
        let back = gateway.restore_phase(&at(6, 0), 9).await.expect("it is restored");
        look(&gateway, &at(6, 0), back.objects).await;
    }
    gateway.stop().await;
    let counts = lists(&server.audit_log(), account_name);
    println!("what two deployments pod by pod listed: {counts:?}");
    let (all, within): (Vec<_>, Vec<_>) = counts.iter().partition(|(name, _)| name.starts_with('/'));
    let expected = ["shop/pods", "shop/services", "shop/workloadentries"].map(|name| (name.to_owned(), 1));
    assert!(within.into_iter().eq(expected.iter().map(|(name, count)| (name, count))), "{counts:?}");
    // Kinds are followed in all namespaces as long as the gateway runs, and that this can be done is tried once.
    assert!(all.iter().all(|(name, count)| **count <= 2 && *name != "/pods"), "{counts:?}");
}

/// Asks for a proof, without patience for one.
pub async fn look(
    gateway: &Gateway,
    intent: &pb::ExposureIntent,
    objects: Vec<pb::AppliedObject>,
) -> pb::PropagationProof {
    let request = pb::VerifyExposureRequest {
        intent: Some(intent.clone()),
        objects,
        timeout: Some(duration(Duration::from_millis(1))),
        quorum_bp: 0,
    };
    let reply = gateway.client.clone().verify_exposure(gateway.request(request)).await.expect("an answer");
    reply.into_inner().proof.expect("a proof")
}
