//! Policies pod by pod, with requests through the Envoy of each pod.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use meshward_local::{
    stack::{NAMESPACE, Server},
    upstream::{Upstream, UpstreamConfig},
};
use meshward_proto::{gateway::v1::PropagationState as State, types::v1::Mechanism};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, without_counters};

const APP: &str = "vault";
const PLURAL: &str = "authorizationpolicies";

fn policy(action: &str, paths: &[&str]) -> Value {
    let rule = |path: &&str| json!({"to": [{"operation": {"methods": ["GET"], "paths": [path]}}]});
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": APP, "namespace": NAMESPACE},
           "spec": {"selector": {"matchLabels": {"app": APP}}, "action": action,
                    "rules": paths.iter().map(rule).collect::<Vec<_>>()}})
}

fn named(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}})
}

/// Requests to one pod, each on a connection of its own.
#[derive(Clone)]
struct Caller {
    http: reqwest::Client,
    ingress: String,
    pod: String,
}

impl Caller {
    fn new(server: &Server) -> Self {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        let pod = server.proxy.split('.').next().expect("a name").to_owned();
        Self { http, ingress: server.ingress.to_string(), pod }
    }

    async fn is_let_in(&self, path: &str) -> bool {
        let answer = self.http.get(format!("http://{}{path}", self.ingress)).send().await;
        match answer.expect("Envoy answers").status() {
            StatusCode::OK => true,
            StatusCode::FORBIDDEN => false,
            other => panic!("{} {path}: {other}", self.pod),
        }
    }

    /// Whether the pod enforces the new version; it must enforce exactly one.
    async fn is_canary(&self) -> bool {
        let let_in = (self.is_let_in("/old").await, self.is_let_in("/new").await);
        match let_in {
            (true, false) => false,
            (false, true) => true,
            both_or_none => panic!("{} lets in {both_or_none:?}", self.pod),
        }
    }
}

/// Asks every pod, all the time, for what both versions let in and for what neither does.
struct Guard {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Guard {
    fn start(callers: &[Caller]) -> Self {
        let mut guard = Self { stop: Arc::default(), asked: Arc::default(), tasks: Vec::new() };
        callers.iter().for_each(|caller| guard.watch(caller));
        guard
    }

    fn watch(&mut self, caller: &Caller) {
        let (stop, asked, caller) = (Arc::clone(&self.stop), Arc::clone(&self.asked), caller.clone());
        self.tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert!(!caller.is_let_in("/nobody").await, "{} is governed by neither version", caller.pod);
                assert!(caller.is_let_in("/both").await, "{} refuses what both versions let in", caller.pod);
                asked.fetch_add(2, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no pod was without a policy");
        }
        println!("{} requests in between, every one decided", self.asked.load(Ordering::Relaxed));
    }
}

/// The value of the rollout's label on each pod of the app.
async fn labels(world: &World, callers: &[Caller], key: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for Caller { pod, .. } in callers {
        let live = world.live_object(&named("Pod", pod)).await.expect("a pod");
        found.insert(pod.clone(), live["metadata"]["labels"][key].as_str().unwrap_or_default().to_owned());
    }
    found
}

/// Checks that exactly the labelled pods enforce the new version; how many they are.
async fn check_cohorts(world: &World, callers: &[Caller], key: &str) -> usize {
    let labels = labels(world, callers, key).await;
    for caller in callers {
        let label = &labels[&caller.pod];
        assert!(!label.is_empty(), "{} has no label", caller.pod);
        assert_eq!(caller.is_canary().await, label == "canary", "{} is {label}", caller.pod);
    }
    labels.values().filter(|label| *label == "canary").count()
}

pub async fn each_pod_is_governed_by_one_version(world: &World) {
    let upstream = Upstream::start(UpstreamConfig::new("vault")).await.expect("a server");
    let mut servers = world.stack.start_servers(APP, 0..10, upstream.address()).await.expect("their sidecars");
    let mut callers: Vec<_> = servers.iter().map(Caller::new).collect();
    let gateway = &world.gateway;
    let before = world.apply_as("kubectl", &policy("ALLOW", &["/both", "/old"])).await;
    let canary = policy("ALLOW", &["/both", "/new"]);
    let planned = gateway.plan_by(Mechanism::Instance, &canary, &[1000, 3000, 5000, 10_000]).await;
    let (plan, baseline) = planned.expect("a plan");
    assert_eq!(plan.mechanism(), Mechanism::Instance);
    assert_eq!(plan.metrics_target.as_ref().expect("a target").hosts, ["vault.shop.svc.cluster.local"]);
    let key = plan.steps[0].cohorts[0].label_key.clone();
    assert_eq!(plan.metrics_target.as_ref().expect("a target").cohort_label, key);
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    await_first_version(&callers).await;
    let mut guard = Guard::start(&callers);

    let mut canaries = Vec::new();
    for (generation, weight, expected) in [(1, 1000, 1), (2, 3000, 3)] {
        let (applied, proof) = gateway.expose(&format!("pods at {weight}"), &at(generation, weight)).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        println!("pods at {weight}: {} writes, {} labels", applied.writes, applied.pods_moved);
        assert!(applied.writes <= 3, "{} writes", applied.writes);
        assert_eq!(check_cohorts(world, &callers, &key).await, expected);
        let now = labels(world, &callers, &key).await;
        let now: Vec<_> = now.into_iter().filter(|(_, label)| label == "canary").map(|(pod, _)| pod).collect();
        assert!(canaries.iter().all(|pod| now.contains(pod)), "{canaries:?} {now:?}");
        canaries = now;
        let again = gateway.apply_phase(&at(generation, weight), 2).await.expect("again");
        assert_eq!((again.writes, again.pods_moved), (0, 0), "a repeated call writes nothing");
    }

    // A pod that appears now is stable from its creation.
    let mut newcomer = named("Pod", "vault-99");
    newcomer["metadata"]["labels"] = json!({"app": APP});
    newcomer["spec"] = json!({"containers": [{"name": "app", "image": "none"}]});
    let created = world.apply_as("kubectl", &newcomer).await;
    assert_eq!(created["metadata"]["labels"][&key], "stable");
    world.remove(&newcomer).await;
    let late = world.stack.start_servers(APP, 10..11, upstream.address()).await.expect("one more").remove(0);
    let caller = Caller::new(&late);
    assert!(!caller.is_canary().await, "a new pod has the first version from its first request on");
    guard.watch(&caller);
    callers.push(caller);
    servers.push(late);

    let (applied, proof) = gateway.expose("pods at 5000", &at(3, 5000)).await;
    assert_eq!((proof.state(), applied.pods_moved), (State::Live, 3), "{proof:?}");
    assert_eq!(check_cohorts(world, &callers, &key).await, 6, "of eleven");
    flips(world, &callers, &key).await;
    assert_eq!(gateway.apply_phase(&at(3, 5000), 2).await.expect("again").writes, 0);

    let (applied, proof) = gateway.undo("back", &at(4, 0)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    println!("back: {} writes, {} labels", applied.writes, applied.pods_moved);
    assert!(applied.writes <= 3, "{} writes", applied.writes);
    for caller in &callers {
        assert!(!caller.is_canary().await, "{}", caller.pod);
    }
    nothing_is_left(world, &callers, &key).await;
    let after = world.live_object(&before).await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");
    let again = gateway.undo("back again", &at(4, 0)).await.0;
    assert_eq!((again.writes, again.pods_moved), (0, 0), "a repeated undo writes nothing and moves no pod");
    println!(
        "writes to the policy: {}, its helper: {}",
        world.writes_in_audit(PLURAL, APP),
        world.writes_in_audit(PLURAL, "vault-meshward-canary")
    );

    promoted(world, &callers, &canary).await;
    guard.end().await;
    world.remove(&canary).await;
    for server in servers {
        server.stop().await;
    }
    upstream.stop().await;
}

async fn await_first_version(callers: &[Caller]) {
    let start = Instant::now();
    for caller in callers {
        while caller.is_let_in("/new").await {
            assert!(start.elapsed() < PATIENCE, "{} never gets the first version", caller.pod);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// From a label to what the pod enforces, as somebody else changes labels; each is put back.
async fn flips(world: &World, callers: &[Caller], key: &str) {
    let mut times = Vec::new();
    for (index, caller) in callers.iter().cycle().take(20).enumerate() {
        let label = labels(world, std::slice::from_ref(caller), key).await[&caller.pod].clone();
        let other = if label == "canary" { "stable" } else { "canary" };
        for (value, is_canary) in [(other, other == "canary"), (&*label, label == "canary")] {
            let start = Instant::now();
            let mut pod = named("Pod", &caller.pod);
            pod["metadata"]["labels"] = json!({key: value});
            world.apply_as("meshward-test", &pod).await;
            let written = start.elapsed();
            while caller.is_let_in("/new").await != is_canary || caller.is_let_in("/old").await == is_canary {
                assert!(start.elapsed() < PATIENCE, "{} never follows flip {index}", caller.pod);
            }
            times.push((start.elapsed(), written));
        }
    }
    times.sort();
    let (median, written) = times[times.len() / 2];
    println!(
        "label to effect, {} flips: min {:?}, median {median:?} (of it the write {written:?}), max {:?}",
        times.len(),
        times[0].0,
        times[times.len() - 1].0
    );
}

async fn nothing_is_left(world: &World, callers: &[Caller], key: &str) {
    for Caller { pod, .. } in callers {
        let live = world.live_object(&named("Pod", pod)).await.expect("a pod");
        assert_eq!(live["metadata"]["labels"][key], Value::Null, "{pod}");
        let managers = live["metadata"]["managedFields"].as_array().expect("a list");
        assert!(managers.iter().all(|entry| entry["manager"] != "meshward"), "{managers:?}");
    }
    assert_eq!(world.live_object(&named("ConfigMap", &key.replace(".io/", "-"))).await, None);
    let mut helper = policy("ALLOW", &[]);
    helper["metadata"]["name"] = "vault-meshward-canary".into();
    assert_eq!(world.live_object(&helper).await, None);
}

async fn promoted(world: &World, callers: &[Caller], canary: &Value) {
    let gateway = &world.gateway;
    let (plan, baseline) = gateway.plan_by(Mechanism::Instance, canary, &[5000, 10_000]).await.expect("a plan");
    let key = plan.steps[0].cohorts[0].label_key.clone();
    let at = |generation, weight| intent(canary, &plan, &baseline, generation, weight);
    for (generation, weight) in [(1, 5000), (2, 10_000)] {
        let (applied, proof) = gateway.expose(&format!("promotion at {weight}"), &at(generation, weight)).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        println!("promotion at {weight}: {} writes, {} labels", applied.writes, applied.pods_moved);
        assert!(applied.writes <= 3, "{} writes", applied.writes);
    }
    for caller in callers {
        assert!(caller.is_canary().await, "{}", caller.pod);
    }
    nothing_is_left(world, callers, &key).await;
    let live = world.live_object(canary).await.expect("it is there");
    assert_eq!((&live["spec"], &live["metadata"]["annotations"]), (&canary["spec"], &Value::Null));

    let (applied, proof) = gateway.undo("back after the promotion", &at(3, 0)).await;
    assert_eq!((proof.state(), applied.pods_moved), (State::Live, 0), "{proof:?}");
    for caller in callers {
        assert!(!caller.is_canary().await, "{}", caller.pod);
    }
}
