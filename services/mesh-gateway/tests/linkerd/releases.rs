//! Whole releases on a real API server: planned, written phase by phase, each proven on the policy stream, and undone.

use linkerd2_proxy_api::inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient};
use meshward_mesh_gateway::object;
use meshward_model::Mechanism;
use serde_json::{Value, json};

use super::{
    release::Release,
    world::{NAMESPACE, World, named, target},
};

const PODS: usize = 10;
const STEPS: [i64; 4] = [1000, 3000, 5000, 10_000];

/// The object that a release is about, as it stands.
async fn live(world: &World, release: &Release) -> Option<Value> {
    world.cluster.get(&target(&release.canary)).await.expect("an answer")
}

/// An object without what only the API server counts up.
fn without_counters(object: Option<Value>) -> Option<Value> {
    object.map(|mut object| {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.remove("resourceVersion");
        metadata.remove("generation");
        object
    })
}

fn server(access: &str, protocol: &str) -> Value {
    let spec = json!({"podSelector": {"matchLabels": {"app": "cart"}}, "port": 8080, "proxyProtocol": protocol,
                      "accessPolicy": access});
    named("policy.linkerd.io/v1beta3", "Server", "cart", &spec)
}

fn callers(account: &str) -> Value {
    let spec = json!({"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "cart"},
                      "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": account}]});
    named("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", "cart-callers", &spec)
}

/// What the stream tells each pod: how many are told this text.
async fn told(world: &World, text: &str) -> usize {
    let client = InboundServerPoliciesClient::connect(world.stack.controller.url()).await.expect("a connection");
    let mut count = 0;
    for index in 0..PODS {
        let spec = PortSpec { workload: format!("{NAMESPACE}:cart-{index}"), port: 8080 };
        let policy = client.clone().get_port(spec).await.expect("a policy").into_inner();
        count += usize::from(format!("{policy:?}").contains(text));
    }
    count
}

async fn helpers(world: &World) -> usize {
    let mut count = 0;
    for (api_version, kind) in
        [("policy.linkerd.io/v1beta3", "Server"), ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy")]
    {
        let all = world.cluster.list(api_version, kind, Some(NAMESPACE)).await.expect("a list");
        count += all.iter().filter(|one| object::full_name(one).ends_with("-meshward")).count();
    }
    count
}

async fn given(world: &World) {
    for index in 0..PODS {
        let address = format!("10.1.7.{index}");
        world.stack.pod(NAMESPACE, &format!("cart-{index}"), &json!({"app": "cart"}), &address).await.expect("a pod");
    }
    for object in [callers("front"), server("deny", "HTTP/1")] {
        world.stack.apply(&object).await.expect("it is taken");
    }
}

/// A step that exposes, or the last one, or the way back; after it so many pods are told the new version.
async fn shared(world: &World, canary: Value, text: &str) {
    let mut release = Release::plan(world, &canary, &STEPS).await;
    assert_eq!(release.plan.mechanism, Mechanism::Instance);
    let before = live(world, &release).await;
    for (share, expected) in [(1000, 1), (3000, 3), (5000, 5)] {
        let writes = release.expose(share).await;
        assert_eq!(told(world, text).await, expected, "{share}: {writes:?} writes");
    }
    release.restore().await;
    assert_eq!((told(world, text).await, helpers(world).await), (0, 0));
    assert_eq!(without_counters(live(world, &release).await), without_counters(before.clone()), "byte for byte");

    let mut release = Release::plan(world, &release.canary, &STEPS).await;
    release.expose(5000).await;
    release.expose(10_000).await;
    assert_eq!((told(world, text).await, helpers(world).await), (PODS, 0));
    assert_eq!(object::spec(&live(world, &release).await.expect("it is there")), object::spec(&release.canary));
    release.restore().await;
    assert_eq!((told(world, text).await, helpers(world).await), (0, 0));
    assert_eq!(
        without_counters(live(world, &release).await),
        without_counters(before),
        "byte for byte, also after the end"
    );
}

pub async fn a_server_and_a_policy_pod_by_pod(world: &World) {
    given(world).await;
    shared(world, server("deny", "HTTP/2"), "Http2").await;
    shared(world, callers("back"), "back.shop.serviceaccount").await;
}

pub async fn a_route_by_weight(world: &World) {
    let route = |name: &str| {
        let parent = json!({"group": "", "kind": "Service", "name": "till", "port": 80});
        let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": [{"name": name, "port": 80}]}]});
        named("gateway.networking.k8s.io/v1", "HTTPRoute", "till-shares", &spec)
    };
    world.stack.apply(&route("till")).await.expect("it is taken");
    let mut release = Release::plan(world, &route("till-next"), &STEPS).await;
    assert_eq!(release.plan.mechanism, Mechanism::Weight);
    let before = live(world, &release).await;
    for share in STEPS {
        assert_eq!(release.expose(share).await, [1], "one write a step");
        let live = live(world, &release).await.expect("it is there");
        let backends = object::spec(&live)["rules"][0]["backendRefs"].as_array().cloned().unwrap_or_default();
        let weight = backends.iter().find(|one| one["name"] == "till-next").map(|one| one["weight"].clone());
        assert_eq!(weight, Some(json!(if share == 10_000 { 1 } else { share })));
    }
    assert_eq!(release.restore().await, [2]);
    assert_eq!(without_counters(live(world, &release).await), without_counters(before), "byte for byte");
    world.remove(&route("till")).await;
}
