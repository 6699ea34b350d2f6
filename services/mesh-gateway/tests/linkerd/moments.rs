//! Every moment of a release, seen from the pods: each message of their policy streams is looked at, from before the
//! plan to after the way back. It is one version or the other, never none and never both.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use linkerd2_proxy_api::{
    inbound::{PortSpec, Server as Policy, inbound_server_policies_client::InboundServerPoliciesClient},
    meta::metadata,
};
use meshward_model::{Mechanism, PropagationState};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{
    release::Release,
    world::{NAMESPACE, PATIENCE, World, named, target},
};

const POLICY: &str = "policy.linkerd.io/v1alpha1";
/// The pods of the Server, of which a half is two.
pub const PODS: [&str; 4] = ["desk-0", "desk-1", "desk-2", "desk-3"];

/// All that the pods were ever told, and what they are told now.
pub struct Pods {
    told: Arc<Mutex<BTreeMap<String, Vec<Policy>>>>,
    streams: JoinSet<()>,
    client: InboundServerPoliciesClient<Channel>,
}

fn port_of(pod: &str) -> PortSpec {
    PortSpec { workload: format!("{NAMESPACE}:{pod}"), port: 8080 }
}

impl Pods {
    pub async fn watch(world: &World) -> Self {
        let told = Arc::new(Mutex::new(BTreeMap::<String, Vec<Policy>>::new()));
        let client = InboundServerPoliciesClient::connect(world.stack.controller.url()).await.expect("a connection");
        let mut streams = JoinSet::new();
        for pod in PODS {
            let mut stream = client.clone().watch_port(port_of(pod)).await.expect("a stream").into_inner();
            let told = Arc::clone(&told);
            streams.spawn(async move {
                while let Ok(Some(policy)) = stream.message().await {
                    told.lock().unwrap_or_else(PoisonError::into_inner).entry(pod.to_owned()).or_default().push(policy);
                }
            });
        }
        Self { told, streams, client }
    }

    /// The Server of each message, and who is let in by name.
    fn all(&self) -> Vec<(String, Vec<String>)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.values().flatten().map(says).collect()
    }

    /// Every message that any of them was sent.
    pub fn every_message(&self) -> Vec<Policy> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.values().flatten().cloned().collect()
    }

    /// What each is told now.
    pub async fn now(&self) -> Vec<Policy> {
        let ask = |pod| {
            let mut client = self.client.clone();
            async move { client.get_port(port_of(pod)).await.expect("a policy").into_inner() }
        };
        futures::future::join_all(PODS.map(ask)).await
    }

    /// How many pods are told this now.
    fn count(&self, fits: impl Fn(&str, &[String]) -> bool) -> usize {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = told.values().filter_map(|messages| messages.last()).map(says);
        last.filter(|(server, let_in)| fits(server, let_in)).count()
    }

    pub async fn stop(mut self) {
        self.streams.shutdown().await;
    }
}

fn says(policy: &Policy) -> (String, Vec<String>) {
    let name = |metadata: &Option<linkerd2_proxy_api::meta::Metadata>| match metadata.as_ref()?.kind.as_ref()? {
        metadata::Kind::Resource(resource) => Some(resource.name.clone()),
        metadata::Kind::Default(name) => Some(name.clone()),
    };
    let let_in = policy.authorizations.iter().filter_map(|one| name(&one.metadata)).collect();
    (policy.labels["name"].clone(), let_in)
}

pub fn server(access: &str) -> Value {
    let spec = json!({"port": 8080, "proxyProtocol": "HTTP/1", "accessPolicy": access,
                      "podSelector": {"matchLabels": {"app": "desk"}}});
    named("policy.linkerd.io/v1beta3", "Server", "desk", &spec)
}

/// Pods that wait for their Server, and know of it.
pub async fn given_a_server(world: &World, access: &str) -> Value {
    for (index, pod) in PODS.iter().enumerate() {
        let address = format!("10.1.1.{}", index + 1);
        world.stack.pod(NAMESPACE, pod, &json!({"app": "desk"}), &address).await.expect("a pod");
    }
    given(world, &server(access), 4).await
}

/// An object that somebody else has made, live on so many.
pub async fn given(world: &World, object: &Value, concerned: u32) -> Value {
    world.stack.apply(object).await.expect("it is taken");
    let live = world.cluster.get(&target(object)).await.expect("an answer").expect("it is there");
    let proof = world.prove(&world.plane(), &target(object), Some(&live), None, PATIENCE).await;
    assert_eq!((proof.state, proof.concerned), (PropagationState::Live, concerned), "{proof:?}");
    live
}

pub async fn a_server(world: &World) {
    let before = given_a_server(world, "all-unauthenticated").await;
    let pods = Pods::watch(world).await;
    let mut release = Release::plan(world, &server("all-authenticated"), &[2500, 5000, 10_000]).await;
    assert_eq!(release.plan.mechanism, Mechanism::Instance);
    for (basis_points, exposed) in [(2500, 1), (5000, 2)] {
        release.expose(basis_points).await;
        assert_eq!(pods.count(|_, let_in| let_in == ["all-authenticated"]), exposed, "at {basis_points}");
        assert_eq!(pods.count(|server, let_in| server == "desk" && let_in == ["all-unauthenticated"]), 4 - exposed);
    }
    release.restore().await;
    assert_eq!(pods.count(|server, let_in| server == "desk" && let_in == ["all-unauthenticated"]), 4);
    unchanged(world, &before).await;

    let mut release = Release::plan(world, &server("all-authenticated"), &[5000, 10_000]).await;
    release.expose(5000).await;
    release.expose(10_000).await;
    assert_eq!(pods.count(|server, let_in| server == "desk" && let_in == ["all-authenticated"]), 4);
    // Each by the old version or by the new one, whichever moment: never by none, which lets everybody in.
    for (server, let_in) in pods.all() {
        let is_one = let_in == ["all-unauthenticated"] || let_in == ["all-authenticated"];
        assert!(server.starts_with("desk") && is_one, "{server} {let_in:?}");
    }
    pods.stop().await;
}

pub async fn an_authorization(world: &World) {
    given_a_server(world, "deny").await;
    let policy = |account: &str| {
        let reference = json!({"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE});
        let target = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "desk"});
        let spec = json!({"targetRef": target, "requiredAuthenticationRefs": [reference]});
        named(POLICY, "AuthorizationPolicy", "desk", &spec)
    };
    let before = given(world, &policy("front"), 4).await;
    let pods = Pods::watch(world).await;
    let mut release = Release::plan(world, &policy("back"), &[5000, 10_000]).await;
    assert_eq!(release.plan.mechanism, Mechanism::Instance);
    release.expose(5000).await;
    assert_eq!(pods.count(|server, _| server == "desk"), 2);
    release.restore().await;
    assert_eq!(pods.count(|server, let_in| server == "desk" && let_in == ["desk"]), 4);
    unchanged(world, &before).await;
    for (server, let_in) in pods.all() {
        assert!(server.starts_with("desk") && let_in.len() == 1, "denied to all, or by both: {server} {let_in:?}");
    }
    pods.stop().await;
    world.remove(&before).await;
    world.remove(&server("deny")).await;
}

/// The object is as it was, but for what counts up.
pub async fn unchanged(world: &World, before: &Value) {
    let mut after = world.cluster.get(&target(before)).await.expect("an answer").expect("it is there");
    let mut before = before.clone();
    for object in [&mut before, &mut after] {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.remove("resourceVersion");
        metadata.remove("generation");
    }
    assert_eq!(after, before);
}
