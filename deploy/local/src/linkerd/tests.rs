//! The controller on a real API server: what it says on its stream follows from the objects.

use std::time::{Duration, Instant};

use linkerd2_proxy_api::{
    inbound::{PortSpec, Server, inbound_server_policies_client::InboundServerPoliciesClient},
    meta::{Metadata, Resource, metadata},
    outbound::{
        HttpRoute, OutboundPolicy, TrafficSpec, http_route::distribution,
        outbound_policies_client::OutboundPoliciesClient, proxy_protocol, traffic_spec::Target,
    },
};
use serde_json::{Value, json};
use tonic::{Streaming, transport::Channel};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    linkerd: Linkerd,
    inbound: InboundServerPoliciesClient<Channel>,
    outbound: OutboundPoliciesClient<Channel>,
}

fn server(name: &str, operator: &str, access: &str) -> Value {
    json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": name, "namespace": "shop"},
           "spec": {"port": "http", "accessPolicy": access, "podSelector": {
               "matchLabels": {"app": "web"},
               "matchExpressions": [{"key": "cohort", "operator": operator, "values": ["canary"]}]}}})
}

fn route(api_version: &str, canary: u32, filters: &Value) -> Value {
    let to = |name: &str, weight: u32| json!({"name": name, "port": 80, "weight": weight});
    json!({"apiVersion": api_version, "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
           "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 80}],
                    "rules": [{"filters": filters, "backendRefs": [to("web", 100 - canary), to("web-v2", canary)]}]}})
}

fn metadata_of(name: &str) -> Metadata {
    let resource = Resource {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: "HTTPRoute".to_owned(),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        ..Resource::default()
    };
    Metadata { kind: Some(metadata::Kind::Resource(resource)) }
}

fn name(server: &Server) -> &str {
    &server.labels["name"]
}

fn routes(policy: &OutboundPolicy) -> Vec<HttpRoute> {
    match policy.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref()) {
        Some(proxy_protocol::Kind::Detect(detect)) => detect.http1.clone().unwrap_or_default().routes,
        other => panic!("{other:?}"),
    }
}

/// Where the route `web` sends, with weights.
fn weights(routes: &[HttpRoute]) -> Vec<(String, u32)> {
    let is_it = |route: &&HttpRoute| route.metadata == Some(metadata_of("web"));
    let Some(route) = routes.iter().find(is_it) else { return Vec::new() };
    let kind = route.rules[0].backends.clone().and_then(|backends| backends.kind);
    let Some(distribution::Kind::RandomAvailable(random)) = kind else { return Vec::new() };
    let name = |meta: Option<Metadata>| match meta.and_then(|meta| meta.kind) {
        Some(metadata::Kind::Resource(resource)) => resource.name,
        other => panic!("{other:?}"),
    };
    let backend = |one: &linkerd2_proxy_api::outbound::http_route::WeightedRouteBackend| {
        let backend = one.backend.clone().and_then(|backend| backend.backend).expect("a backend");
        (name(backend.metadata), one.weight)
    };
    random.backends.iter().map(backend).collect()
}

impl World {
    async fn start(dir: &Path) -> Self {
        let tools = Tools::locate().expect("the tools");
        let linkerd = Linkerd::start(dir, &tools).await.expect("it starts");
        let url = linkerd.controller.url();
        let inbound = InboundServerPoliciesClient::connect(url.clone()).await.expect("a connection");
        let outbound = OutboundPoliciesClient::connect(url).await.expect("a connection");
        linkerd.namespaces(&["shop", "other"]).await.expect("namespaces");
        for (name, cohort) in [("web-0", "stable"), ("web-1", "canary")] {
            let labels = json!({"app": "web", "cohort": cohort});
            linkerd.pod("shop", name, &labels, "10.1.0.1").await.expect("a pod");
        }
        Self { linkerd, inbound, outbound }
    }

    async fn apply(&self, object: &Value) {
        self.linkerd.apply(object).await.expect("it is taken");
    }

    async fn watch(&self, pod: &str) -> Streaming<Server> {
        let start = Instant::now();
        loop {
            let spec = PortSpec { workload: format!("shop:{pod}"), port: 8080 };
            match self.inbound.clone().watch_port(spec).await {
                Ok(stream) => return stream.into_inner(),
                Err(status) => assert!(start.elapsed() < PATIENCE, "{status}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn outbound(&self, source: &str) -> OutboundPolicy {
        let address: std::net::SocketAddr = "10.96.7.1:80".parse().expect("an address");
        let spec = TrafficSpec { source_workload: format!("{source}:x"), target: Some(Target::Addr(address.into())) };
        let start = Instant::now();
        loop {
            match self.outbound.clone().get(spec.clone()).await {
                Ok(policy) => return policy.into_inner(),
                Err(status) => assert!(start.elapsed() < PATIENCE, "{status}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Looks until the routes are as they shall be.
    async fn until_routes(&self, what: &str, are: impl Fn(&[HttpRoute]) -> bool) {
        let start = Instant::now();
        loop {
            let routes = routes(&self.outbound("other").await);
            if are(&routes) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {routes:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn next(stream: &mut Streaming<Server>) -> Server {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    message.expect("in time").expect("no error").expect("it goes on")
}

/// Reads on until a message fits.
async fn until(stream: &mut Streaming<Server>, fits: impl Fn(&Server) -> bool) -> Server {
    loop {
        let message = next(stream).await;
        if fits(&message) {
            return message;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_says_what_the_objects_say() {
    let dir = tempfile::tempdir().expect("a folder");
    let world = World::start(dir.path()).await;
    servers_and_authorizations(&world).await;
    weights_and_what_cannot_be_read(&world).await;
    world.linkerd.stop().await;
}

async fn servers_and_authorizations(world: &World) {
    let (mut stable, mut canary) = (world.watch("web-0").await, world.watch("web-1").await);
    assert_eq!(name(&next(&mut stable).await), "all-unauthenticated", "no server speaks for it");
    assert_eq!(name(&next(&mut canary).await), "all-unauthenticated");

    world.apply(&server("v1", "NotIn", "deny")).await;
    let first = next(&mut stable).await;
    assert_eq!((name(&first), first.authorizations.len()), ("v1", 0));
    world.apply(&server("v2", "Exists", "deny")).await;
    assert_eq!(name(&next(&mut canary).await), "v2");

    let policy = json!({"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "callers", "namespace": "shop"},
        "spec": {"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "v1"},
                 "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": "front"}]}});
    world.apply(&policy).await;
    let authorized = until(&mut stable, |server| !server.authorizations.is_empty()).await;
    let text = format!("{:?}", authorized.authorizations);
    assert!(text.contains("front.shop.serviceaccount.identity.linkerd.cluster.local"), "{text}");
}

async fn weights_and_what_cannot_be_read(world: &World) {
    for (name, address) in [("web", "10.96.7.1"), ("web-v2", "10.96.7.2")] {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"clusterIP": address, "selector": {"app": "web"}, "ports": [{"port": 80}]}});
        world.apply(&service).await;
    }
    let of = |canary: u32| vec![("web".to_owned(), 100 - canary), ("web-v2".to_owned(), canary)];
    let api_version = "gateway.networking.k8s.io/v1";
    world.apply(&route(api_version, 30, &json!([]))).await;
    world.until_routes("30", |routes| weights(routes) == of(30)).await;

    // The API server takes it, the controller cannot: what was there stays, and a later good one comes through.
    let rewrite = json!([{"type": "URLRewrite", "urlRewrite": {"hostname": "elsewhere"}}]);
    world.apply(&route(api_version, 60, &rewrite)).await;
    // Of the same kind, so it is read after the other.
    let marker = json!({"apiVersion": api_version, "kind": "HTTPRoute",
        "metadata": {"name": "marker", "namespace": "other"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web", "namespace": "shop", "port": 80}]}});
    world.apply(&marker).await;
    world.until_routes("a consumer's route too", |routes| routes.len() == 2).await;
    assert_eq!(weights(&routes(&world.outbound("other").await)), of(30), "stale, and nobody is told");
    assert_eq!(routes(&world.outbound("shop").await).len(), 1, "a consumer's route is its own");

    world.linkerd.controller.hold();
    world.apply(&route(api_version, 60, &json!([]))).await;
    assert_eq!(weights(&routes(&world.outbound("shop").await)), of(30), "it is held");
    world.linkerd.controller.release();
    world.until_routes("60", |routes| weights(routes) == of(60)).await;
}
