//! The one test of the whole stack: it needs what `deploy/local/install stack` installs, and about ten seconds.

use std::time::Instant;

use axum::Router;
use axum::routing::any;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const HOST: &str = "checkout.shop.svc.cluster.local";

#[tokio::test]
async fn a_virtual_service_changes_what_real_requests_get() {
    let dir = tempfile::tempdir().expect("temp folder");
    let tools = Tools::locate().expect("the tools");
    let [checkout, checkout_next, catalog] =
        [upstream("checkout").await, upstream("checkout-next").await, upstream("catalog").await];
    let upstreams = Upstreams { checkout, checkout_next, catalog };
    let stack = Stack::start(StackOptions { dir: dir.path().to_owned(), tools, upstreams }).await.expect("a stack");

    let mesh = Mesh { http: http_client().expect("client"), stack: &stack };
    requests_reach_their_service(&mesh).await;
    an_accepted_change_is_acknowledged_and_seen(&mesh).await;
    a_change_that_envoy_refuses_is_told_and_harmless(&mesh).await;
    stack.alive().expect("every process runs");
    assert!(error::read(stack.audit_log()).expect("audit log").contains("virtualservices"), "writes are audited");

    let pids: Vec<_> = stack.processes().iter().map(Process::pid).collect();
    assert_eq!(pids.len(), 6, "etcd, kube-apiserver, istiod, Prometheus, two Envoys");
    stack.stop().await;
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is still there");
    }
}

async fn requests_reach_their_service(mesh: &Mesh<'_>) {
    mesh.until("checkout answers", || async { mesh.get(HOST).await.body == "checkout" }).await;
    mesh.until("catalog answers", || async { mesh.get("catalog").await.body == "catalog" }).await;
}

async fn an_accepted_change_is_acknowledged_and_seen(mesh: &Mesh<'_>) {
    let (storefront, search) = (mesh.routes("storefront-0.shop").await, mesh.routes("search-0.shop").await);
    mesh.apply(virtual_service(&json!([{
        "name": "marked",
        "match": [{"statPrefix": "canary"}],
        "headers": {"response": {"set": {"x-policy": "v2"}}},
        "route": [{"destination": {"host": "checkout"}}],
    }])))
    .await;

    mesh.until("the change is on responses", || async { mesh.get(HOST).await.policy == "v2" }).await;

    mesh.until("Envoy has acknowledged", || async {
        let now = mesh.routes("storefront-0.shop").await;
        now.acked == now.sent && now.sent != storefront.sent
    })
    .await;
    assert_eq!(mesh.routes("search-0.shop").await, search, "the caller that the change does not concern got nothing");
    mesh.until("Prometheus has the route's series", || async { mesh.has_series().await }).await;
}

async fn a_change_that_envoy_refuses_is_told_and_harmless(mesh: &Mesh<'_>) {
    mesh.apply(virtual_service(&json!([{
        "match": [{"headers": {"x-name": {"regex": REGEX_THAT_ENVOY_REFUSES}}}],
        "route": [{"destination": {"host": "checkout-next"}}],
    }])))
    .await;

    mesh.until("Envoy's words", || async { mesh.routes("storefront-0.shop").await.last_error.contains(ENVOY_REFUSAL) })
        .await;

    let answer = mesh.get(HOST).await;
    assert_eq!((answer.body.as_str(), answer.policy.as_str()), ("checkout", "v2"), "the last good route serves");
}

fn virtual_service(http: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "checkout", "namespace": NAMESPACE},
        "spec": {"hosts": ["checkout"], "http": http},
    })
}

/// A server that answers with its name.
async fn upstream(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let server = axum::serve(listener, Router::new().fallback(any(move || async move { name })));
    tokio::spawn(async move { server.await.expect("serve") });
    address
}

struct Answer {
    body: String,
    policy: String,
}

/// The state of one proxy's routes, as `/debug/syncz` has it.
#[derive(Debug, Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Routes {
    sent: String,
    acked: String,
    last_error: String,
}

struct Mesh<'a> {
    stack: &'a Stack,
    http: reqwest::Client,
}

impl Mesh<'_> {
    async fn apply(&self, object: Value) {
        objects::apply(self.stack.client(), &object).await.expect("apply");
    }

    async fn get(&self, host: &str) -> Answer {
        let url = format!("http://{}/", self.stack.storefront().egress);
        let reply = self.http.get(url).header("host", host).send().await.expect("an answer from Envoy");
        let policy = reply.headers().get("x-policy").map_or("", |value| value.to_str().expect("text")).to_owned();
        Answer { body: reply.text().await.expect("a body"), policy }
    }

    /// What istiod says about one proxy's routes.
    async fn routes(&self, proxy: &str) -> Routes {
        let url = format!("{}/debug/syncz", self.stack.istiod_debug_url());
        let all: Value = self.http.get(url).send().await.expect("syncz").json().await.expect("JSON");
        let this = all.as_array().expect("a list of proxies").iter().find(|item| item["proxy"] == proxy);
        let resources = &this.expect("the proxy is connected")["resources"];
        serde_json::from_value(resources[ROUTES].clone()).expect("the state of routes")
    }

    async fn has_series(&self) -> bool {
        let url = format!("{}/api/v1/query", self.stack.prometheus_url());
        let query =
            [("query", r#"{__name__=~"envoy_vhost_.*_route_canary_upstream_rq_completed",pod="storefront-0"}"#)];
        let answer: Value =
            self.http.get(url).query(&query).send().await.expect("Prometheus").json().await.expect("JSON");
        answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty())
    }

    async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let started = Instant::now();
        while !condition().await {
            assert!(started.elapsed() < PATIENCE, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
