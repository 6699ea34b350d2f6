//! VirtualServices that share a host or delegate to each other.

use meshward_proto::{gateway::v1::PropagationState as State, types::v1::ErrorReason as Reason};
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, object, refused, without_counters};

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
