//! A Gateway pod by pod of the gateway, with requests through the Envoy of each.

use std::time::Instant;

use meshward_chassis::clock::{Clock as _, SystemClock};
use meshward_local::{
    load::{Load, LoadPlan},
    stack::{NAMESPACE, SERVICE_PORT, Server},
};
use meshward_proto::{gateway::v1::PropagationState as State, types::v1::Mechanism};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, object, without_counters};

const APP: &str = "edge";
/// What both versions serve.
const BOTH: &str = "shop.example.com";
/// What the first version serves alone.
const OLD: &str = "old.example.com";
/// What the second version serves alone.
const NEW: &str = "new.example.com";
/// Requests a second to each pod.
const RATE: f64 = 25.0;

/// A version of the Gateway that serves these hosts.
fn serving(hosts: [&str; 2]) -> Value {
    let port = json!({"number": SERVICE_PORT, "name": "http", "protocol": "HTTP"});
    let mut gateway = object(
        APP,
        json!({"selector": {"app": APP}, "servers": [{"port": port, "bind": "127.0.0.1", "hosts": hosts}]}),
    );
    gateway["kind"] = "Gateway".into();
    gateway
}

fn pod(server: &Server) -> Value {
    let name = server.proxy.split('.').next().expect("a name");
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}})
}

/// Which hosts a pod serves, of those that only one version has.
async fn served(server: &Server) -> Vec<&'static str> {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let mut served = Vec::new();
    for host in [OLD, NEW] {
        let answer = http.get(format!("http://{}/", server.ingress)).header("host", host).send().await;
        match answer.expect("Envoy answers").status() {
            StatusCode::OK => served.push(host),
            StatusCode::NOT_FOUND => {}
            other => panic!("{} {host}: {other}", server.proxy),
        }
    }
    served
}

async fn all_serve(servers: &[Server], host: &str) {
    for server in servers {
        assert_eq!(served(server).await, [host], "{}", server.proxy);
    }
}

/// Half of the pods, all of them, and back: each has the version of its label, and what both versions serve is served by
/// all of them all the time.
pub async fn each_pod_serves_one_version(world: &World) {
    let before = world.apply_as("kubectl", &serving([BOTH, OLD])).await;
    let routes = json!({"hosts": [BOTH, OLD, NEW], "gateways": [APP],
                        "http": [{"route": [{"destination": {"host": "checkout"}}]}]});
    let routes = world.apply_as("kubectl", &object(APP, routes)).await;
    let servers = world.stack.start_gateways(APP, 0..4).await.expect("their proxies");
    let start = Instant::now();
    for server in &servers {
        while served(server).await != [OLD] {
            assert!(start.elapsed() < PATIENCE, "{} never serves the first version", server.proxy);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let loads: Vec<_> = servers
        .iter()
        .map(|server| {
            let plan = LoadPlan { rate: RATE, ..LoadPlan::new(format!("http://{}", server.ingress), BOTH) };
            Load::start(plan, || SystemClock.now()).expect("a load")
        })
        .collect();
    released(world, &servers, [&before, &routes]).await;
    for (load, server) in loads.into_iter().zip(&servers) {
        let total = load.stop().await.total;
        println!(
            "{}: {} requests, {} lost, {} failed",
            server.proxy,
            total.completed,
            total.lost.total(),
            total.failed
        );
        assert_eq!((total.lost.total(), total.failed), (0, 0), "{:?}", total.failures);
        assert!(total.completed > 0, "a measurement of nothing would be one of no loss as well");
    }
    for server in servers {
        server.stop().await;
    }
    world.remove(&routes).await;
    world.remove(&before).await;
}

async fn released(world: &World, servers: &[Server], were: [&Value; 2]) {
    let gateway = &world.gateway;
    let canary = serving([BOTH, NEW]);
    let planned = gateway.plan_by(Mechanism::Unspecified, &canary, &[5000, 10_000]).await;
    let (plan, baseline) = planned.expect("a plan");
    assert_eq!((plan.mechanism(), baseline.related.len()), (Mechanism::Instance, 1), "{plan:?}");
    let key = plan.steps[0].cohorts[0].label_key.clone();
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);

    for (generation, weight) in [(1, 5000), (2, 10_000)] {
        let (applied, proof) = gateway.expose(&format!("gateway at {weight}"), &at(generation, weight)).await;
        assert_eq!((proof.state(), proof.concerned), (State::Live, 4), "{proof:?}");
        println!("gateway at {weight}: {} writes, {} labels", applied.writes, applied.pods_moved);
        if weight == 5000 {
            assert_eq!(canaries(world, servers, &key).await, 2, "of four");
        }
    }
    all_serve(servers, NEW).await;
    is_undivided(world, servers, &key).await;
    let live = world.live_object(&canary).await.expect("it is there");
    assert_eq!((&live["spec"], &live["metadata"]["annotations"]), (&canary["spec"], &Value::Null));

    let (_, proof) = gateway.undo("gateway", &at(3, 0)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    all_serve(servers, OLD).await;
    is_undivided(world, servers, &key).await;
    for was in were {
        let live = world.live_object(was).await.expect("it is there");
        assert_eq!(without_counters(&live), without_counters(was), "managed fields included");
    }
}

/// Checks that each pod serves the version of its label; how many are the canary's.
async fn canaries(world: &World, servers: &[Server], key: &str) -> usize {
    let mut canaries = 0;
    for server in servers {
        let live = world.live_object(&pod(server)).await.expect("a pod");
        let host = match live["metadata"]["labels"][key].as_str() {
            Some("canary") => NEW,
            Some("stable") => OLD,
            other => panic!("{} is {other:?}", server.proxy),
        };
        assert_eq!(served(server).await, [host], "{}", server.proxy);
        canaries += usize::from(host == NEW);
    }
    canaries
}

/// No pod carries a label of the rollout, and there is no second Gateway.
async fn is_undivided(world: &World, servers: &[Server], key: &str) {
    for server in servers {
        let live = world.live_object(&pod(server)).await.expect("a pod");
        assert_eq!(live["metadata"]["labels"][key], Value::Null, "{}", server.proxy);
    }
    let mut second = serving([BOTH, NEW]);
    second["metadata"]["name"] = "edge-meshward-canary".into();
    assert_eq!(world.live_object(&second).await, None);
}
