//! VirtualServices that share a host, delegate to each other, or shall be gone.

use std::collections::BTreeMap;

use meshward_chassis::clock::{Clock as _, SystemClock};
use meshward_local::{
    load::{Load, LoadPlan},
    upstream::UPSTREAM_HEADER,
};
use meshward_proto::{
    gateway::v1::PropagationState as State,
    types::v1::{ErrorReason as Reason, Mechanism},
};
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, object, refused, without_counters};

const HOST: &str = "checkout.shop.svc.cluster.local";
const STEPS: [i32; 4] = [1000, 3000, 5000, 10_000];

fn to(host: &str) -> Value {
    json!([{"route": [{"destination": {"host": host}}]}])
}

pub async fn a_gateway_host_that_is_shared_is_refused(world: &World) {
    let spec = |upstream: &str| json!({"hosts": ["shop.example.com"], "gateways": ["edge"], "http": to(upstream)});
    world.apply_as("kubectl", &object("edge-a", spec("checkout"))).await;
    let mut canary = object("edge-a", spec("checkout-next"));
    // More than destinations, so that blended weights are no way out.
    canary["spec"]["http"][0]["timeout"] = "3s".into();
    world.gateway.plan(&canary, &STEPS).await.expect("nobody else serves the host");
    world.apply_as("kubectl", &object("edge-b", spec("catalog"))).await;
    // Neighbours are known by a watch, which is told of edge-b within moments.
    let deadline = std::time::Instant::now() + PATIENCE;
    let refusal = loop {
        match world.gateway.plan(&canary, &STEPS).await {
            Ok(_) => assert!(std::time::Instant::now() < deadline, "edge-b is never seen"),
            refusal => break refusal,
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let (metadata, message) = refused(refusal, Reason::ExposureUnsupported);
    assert!(message.contains("shop/edge-b also serves shop.example.com"), "{message}");
    assert!(metadata["would_work"].contains("one VirtualService"), "{metadata:?}");
    world.delete("edge-a").await;
    world.delete("edge-b").await;
}

pub async fn a_delegate_is_exposed_through_its_root(world: &World) {
    let gateway = &world.gateway;
    let root = object("root", json!({"hosts": ["checkout"], "http": [{"delegate": {"name": "leaf"}}]}));
    world.apply_as("kubectl", &root).await;
    let before = world.apply_as("kubectl", &object("leaf", json!({"http": to("checkout")}))).await;
    let mut canary = object("leaf", json!({"http": to("checkout-next")}));
    canary["spec"]["http"][0]["timeout"] = "3s".into();
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    assert_eq!(plan.metrics_target.as_ref().expect("a target").hosts, ["checkout.shop.svc.cluster.local"]);
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let (_, proof) = gateway.expose("a delegate at 30 %", &at(1, 3000)).await;
    assert_eq!((proof.state(), proof.concerned), (State::Live, 1), "{proof:?}");
    let routes = world.routes_in_envoy().await;
    assert_eq!(routes.matches("(?i).*(?:[0-9a-f][0-3]|[0-9a-c]4)").count(), 2, "the cohort and everybody else");
    let (_, proof) = gateway.undo("a delegate", &at(2, 0)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    let after = world.live("leaf").await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");
    world.delete("root").await;
    world.delete("leaf").await;
}

/// The servers that answer the storefront, for one id of each of the 256 that a cohort tells apart.
async fn by_server(world: &World) -> BTreeMap<String, usize> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut counts = BTreeMap::new();
    for end in 0..=u8::MAX {
        let request = client.get(format!("http://{}/", world.stack.storefront().egress)).header("host", HOST);
        let request = request.header("x-request-id", format!("6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b{end:02x}"));
        let reply = request.send().await.expect("Envoy answers");
        let server = reply.headers().get(UPSTREAM_HEADER).expect("a server answers").to_str().expect("a text");
        *counts.entry(server.to_owned()).or_default() += 1;
    }
    counts
}

/// Ids of cohorts of 10 and of 50 % are governed by the absence of the object, then it goes, and it comes back byte for
/// byte; no request is lost.
pub async fn a_deletion_is_released_like_a_change(world: &World) {
    let http = json!([{"match": [{"uri": {"prefix": "/"}}], "timeout": "9s",
                       "route": [{"destination": {"host": "checkout-next"}}]}]);
    let before = world.apply_as("kubectl", &object("leaving", json!({"hosts": ["checkout"], "http": http}))).await;
    let start = std::time::Instant::now();
    while by_server(world).await != BTreeMap::from([("checkout-next".to_owned(), 256)]) {
        assert!(start.elapsed() < PATIENCE, "the routes never come");
    }
    let gone = object("leaving", Value::Null);
    let (plan, baseline) = world.gateway.plan(&gone, &STEPS).await.expect("a plan");
    assert_eq!(plan.mechanism(), Mechanism::Request);
    let at = |generation, weight| intent(&gone, &plan, &baseline, generation, weight);
    let url = format!("http://{}", world.stack.storefront().egress);
    let load = Load::start(LoadPlan { rate: 50.0, ..LoadPlan::new(url, HOST) }, || SystemClock.now()).expect("a load");
    for (generation, weight, without) in [(1, 1000, 26), (2, 5000, 128), (3, 10_000, 256)] {
        let (applied, proof) = world.gateway.expose(&format!("a deletion at {weight}"), &at(generation, weight)).await;
        assert_eq!((applied.writes, proof.state(), proof.concerned), (1, State::Live, 1), "{proof:?}");
        let found = by_server(world).await;
        println!("a deletion at {weight}: {found:?}");
        assert_eq!(found.get("checkout"), Some(&without), "{found:?}");
        assert_eq!(found.values().sum::<usize>(), 256, "{found:?}");
    }
    assert_eq!(world.live("leaving").await, None);
    assert!(!world.routes_in_envoy().await.contains("virtual-service/leaving"), "Envoy has what was called live");
    let (_, proof) = world.gateway.undo("a deletion", &at(4, 0)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    assert_eq!(by_server(world).await, BTreeMap::from([("checkout-next".to_owned(), 256)]));
    let mut after = world.live("leaving").await.expect("it is there");
    // It is another object now, made at another time.
    for field in ["uid", "creationTimestamp"] {
        after["metadata"][field] = before["metadata"][field].clone();
    }
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");
    let total = load.stop().await.total;
    println!("a deletion: {} requests, {} lost", total.completed, total.lost.total());
    assert_eq!((total.lost.total(), total.failed), (0, 0), "{:?}", total.failures);
    assert!(total.completed > 0, "a measurement of nothing would be one of no loss as well");
    world.delete("leaving").await;
}
