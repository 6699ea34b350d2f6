//! Whole releases on a real API server: planned, written phase by phase, each proven on the policy stream, and undone.

use std::{sync::Arc, time::Instant};

use linkerd2_proxy_api::inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient};
use meshward_chassis::clock::SystemClock;
use meshward_mesh_gateway::{
    app::Gateway,
    clusters::{Clusters, Member},
    object,
    proof::Patience,
};
use meshward_model::{Baseline, ExposureIntent, Mechanism, PropagationState, Weight};
use serde_json::{Value, json};

use super::world::{NAMESPACE, PATIENCE, World, named, target};

const PODS: usize = 10;

/// One deployment of one object.
struct Release<'a> {
    world: &'a World,
    gateway: Gateway,
    baseline: Baseline,
    canary: Value,
    mechanism: Mechanism,
    generation: u64,
}

impl<'a> Release<'a> {
    async fn plan(world: &'a World, canary: Value) -> Self {
        let clusters = Arc::new(Clusters::new(""));
        clusters.put(Member::new("", Arc::clone(&world.cluster), Arc::new(world.plane())));
        let gateway = Gateway::new(clusters, Arc::new(SystemClock));
        let weights = [1000, 3000, 5000, 10_000].map(|share| Weight::from_basis_points(share).expect("a share"));
        let (plan, baseline) = gateway.plan(&target(&canary), &canary, &weights, None).await.expect("a plan");
        println!("{}: {:?}: {}", target(&canary), plan.mechanism, plan.reason);
        Self { world, gateway, baseline, canary, mechanism: plan.mechanism, generation: 0 }
    }

    /// Does a step, phase by phase, each proven before the next, or the way back; how many writes it took.
    async fn walk(&mut self, share: i64, back: bool) -> u32 {
        self.generation += 1;
        let intent = ExposureIntent {
            deployment_id: "d1".to_owned(),
            generation: self.generation,
            target: target(&self.canary),
            baseline: self.baseline.clone(),
            canary: self.canary.clone(),
            mechanism: self.mechanism,
            weight: Weight::from_basis_points(share).expect("a share"),
        };
        let (start, mut writes) = (Instant::now(), 0);
        for phase in 0.. {
            let outcome = match back {
                true => self.gateway.restore(&intent, phase).await,
                false => self.gateway.expose(&intent, phase).await,
            };
            let outcome =
                outcome.unwrap_or_else(|error| panic!("{} at {share}, phase {phase}: {error}", intent.target));
            writes += outcome.writes;
            let written = start.elapsed();
            let patience = Patience { timeout: PATIENCE, quorum: Weight::ZERO };
            let proof = self.gateway.verify(&intent, &outcome.objects, patience).await.expect("an answer");
            assert_eq!(proof.state, PropagationState::Live, "{} at {share}, phase {phase}: {proof:?}", intent.target);
            println!(
                "{} {share}{}, phase {phase}: {} writes, {} pods, written {written:?}, proven {:?}",
                intent.target,
                if back { " back" } else { "" },
                outcome.writes,
                outcome.pods_moved,
                start.elapsed()
            );
            if !outcome.more {
                break;
            }
        }
        writes
    }

    async fn live(&self) -> Option<Value> {
        self.world.cluster.get(&target(&self.canary)).await.expect("an answer")
    }
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
    let mut release = Release::plan(world, canary).await;
    assert_eq!(release.mechanism, Mechanism::Instance);
    let before = release.live().await;
    for (share, expected) in [(1000, 1), (3000, 3), (5000, 5)] {
        let writes = release.walk(share, false).await;
        assert_eq!(told(world, text).await, expected, "{share}: {writes} writes");
    }
    release.walk(0, true).await;
    assert_eq!((told(world, text).await, helpers(world).await), (0, 0));
    assert_eq!(without_counters(release.live().await), without_counters(before.clone()), "byte for byte");

    let mut release = Release::plan(world, release.canary).await;
    release.walk(5000, false).await;
    release.walk(10_000, false).await;
    assert_eq!((told(world, text).await, helpers(world).await), (PODS, 0));
    assert_eq!(object::spec(&release.live().await.expect("it is there")), object::spec(&release.canary));
    release.walk(0, true).await;
    assert_eq!((told(world, text).await, helpers(world).await), (0, 0));
    assert_eq!(without_counters(release.live().await), without_counters(before), "byte for byte, also after the end");
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
    let mut release = Release::plan(world, route("till-next")).await;
    assert_eq!(release.mechanism, Mechanism::Weight);
    let before = release.live().await;
    for share in [1000, 3000, 5000, 10_000] {
        assert_eq!(release.walk(share, false).await, 1, "one write a step");
        let live = release.live().await.expect("it is there");
        let backends = object::spec(&live)["rules"][0]["backendRefs"].as_array().cloned().unwrap_or_default();
        let weight = backends.iter().find(|one| one["name"] == "till-next").map(|one| one["weight"].clone());
        assert_eq!(weight, Some(json!(if share == 10_000 { 1 } else { share })));
    }
    assert_eq!(release.walk(0, true).await, 2);
    assert_eq!(without_counters(release.live().await), without_counters(before), "byte for byte");
    world.remove(&route("till")).await;
}
