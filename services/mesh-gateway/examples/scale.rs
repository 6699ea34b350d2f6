//! How fast the gateway is on a large cluster: 5,000 pods on 50 nodes and 2,000 policies on a real kube-apiserver, asked
//! over gRPC as its callers ask it.
//!
//! ```sh
//! deploy/local/install stack        # once
//! cargo run -p meshward-mesh-gateway --release --example scale
//! ```

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use meshward_chassis::{
    auth::Role,
    client::{PeerChannel, bearer, connect_lazy},
    server::Server,
    testing::{self, Grant, TestIssuer},
};
use meshward_local::{stack::ApiServer, tools::Tools};
use meshward_mesh_gateway::{
    Args, build,
    cluster::{Cluster as _, KubeCluster, KubeOptions, Selection},
};
use meshward_proto::{
    gateway::v1::{self as pb, mesh_gateway_service_client::MeshGatewayServiceClient},
    types::v1 as types,
};
use serde_json::{Value, json};
use tonic::Request;

const PODS: usize = 5000;
const NODES: usize = 50;
const VIRTUAL_SERVICES: usize = 1000;
const DESTINATION_RULES: usize = 500;
const AUTHORIZATION_POLICIES: usize = 500;
/// Objects that are made at once.
const AT_ONCE: usize = 32;
/// Calls that are measured.
const CALLS: usize = 300;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let server = ApiServer::start(dir.path(), &Tools::locate()?).await?;
    let began = Instant::now();
    fill(&server).await?;
    println!(
        "{PODS} pods on {NODES} nodes, {} policies: made in {:.0} s",
        VIRTUAL_SERVICES + DESTINATION_RULES + AUTHORIZATION_POLICIES,
        began.elapsed().as_secs_f64()
    );
    let direct = direct(&server).await?;

    let issuer = TestIssuer::new(dir.path())?;
    let empty = memory()?;
    let began = Instant::now();
    let gateway = Gateway::start(&issuer, &server).await?;
    gateway.plan().await?;
    let first_plan = began.elapsed();
    let began = Instant::now();
    gateway.instances(50, "").await?;
    let first_page = began.elapsed();

    println!("\n{:<58}{:>10}{:>10}{:>10}", "", "p50 ms", "p99 ms", "calls");
    row("LIST of all pods past the caches, for comparison", direct.0);
    row("LIST of all VirtualServices past the caches", direct.1);
    row("plan, warm: 1,000 neighbours listed and held against it", measure(CALLS, || gateway.plan()).await?);
    row("ListInstances, warm: a page of 50", measure(CALLS, || gateway.instances(50, "")).await?);
    row("ListInstances, warm: a page of 500", measure(CALLS, || gateway.instances(500, "")).await?);
    row("ListInstances, warm: all 5,000 in pages of 500", measure(20, || gateway.all_instances()).await?);
    let at_once =
        measure(20, || async { futures::future::try_join_all((0..16).map(|_| gateway.plan())).await.map(drop) });
    row("16 plans at once, warm", at_once.await?);
    println!(
        "cold start to the first plan: {:.0} ms; then to the first page: {:.0} ms",
        millis(first_plan),
        millis(first_page)
    );
    println!("memory of the process: {empty} MB before the gateway, {} MB after all of this", memory()?);
    gateway.stop().await?;
    server.stop().await;
    Ok(())
}

/// A gateway in this process, and its client.
struct Gateway {
    running: testing::Running,
    client: MeshGatewayServiceClient<PeerChannel>,
    token: String,
}

impl Gateway {
    async fn start(issuer: &TestIssuer, server: &ApiServer) -> anyhow::Result<Self> {
        let mut args = Args::parse_from(["gateway", "--jwks", "-", "--jwt-issuer", testing::ISSUER]);
        args.server = issuer.server_args();
        args.kubeconfig = Some(server.kubeconfig().to_owned());
        let running = testing::spawn(build(&args, Server::new("gateway", &args.server).await?).await?);
        // Every object of a plan comes back in it: more than tonic's usual 4 MB may come.
        let client = MeshGatewayServiceClient::new(connect_lazy(&running.url())?);
        Ok(Self { running, client, token: issuer.mint(&Grant::new("scale", [Role::Service])) })
    }

    async fn stop(self) -> anyhow::Result<()> {
        Ok(self.running.stop().await?)
    }

    fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        bearer(&mut request, &self.token)?;
        Ok(request)
    }

    async fn plan(&self) -> anyhow::Result<()> {
        let request = pb::PlanExposureRequest {
            target: Some(types::Target {
                cluster: String::new(),
                mesh: types::Mesh::Istio.into(),
                api_version: "networking.istio.io/v1".to_owned(),
                kind: "VirtualService".to_owned(),
                namespace: "shop".to_owned(),
                name: "vs-0".to_owned(),
            }),
            canary_json: virtual_service(0, "2s").to_string(),
            weights_bp: vec![1000, 3000, 5000, 10_000],
            ..pb::PlanExposureRequest::default()
        };
        let reply = self.client.clone().plan_exposure(self.request(request)?).await?.into_inner();
        ensure!(reply.plan.is_some_and(|plan| plan.steps.len() == 4), "a plan of four steps");
        Ok(())
    }

    async fn instances(&self, size: i32, token: &str) -> anyhow::Result<pb::ListInstancesResponse> {
        let request = pb::ListInstancesRequest {
            namespace: "shop".to_owned(),
            service: "app".to_owned(),
            page_size: size,
            page_token: token.to_owned(),
            ..pb::ListInstancesRequest::default()
        };
        Ok(self.client.clone().list_instances(self.request(request)?).await?.into_inner())
    }

    async fn all_instances(&self) -> anyhow::Result<()> {
        let (mut count, mut token) = (0, String::new());
        loop {
            let page = self.instances(500, &token).await?;
            count += page.instances.len();
            token = page.next_page_token;
            if token.is_empty() {
                ensure!(count == PODS, "{count} instances");
                return Ok(());
            }
        }
    }
}

async fn direct(server: &ApiServer) -> anyhow::Result<((f64, f64, usize), (f64, f64, usize))> {
    let options = KubeOptions { kubeconfig: Some(server.kubeconfig().to_owned()), timeout: Duration::from_secs(30) };
    let cluster = KubeCluster::new(&options).await?;
    let pods = Selection::of("v1", "pods").within("shop");
    let services = Selection::of("networking.istio.io/v1", "virtualservices");
    let pods = measure(5, || async { Ok(cluster.select(&pods).await?) }).await?;
    Ok((pods, measure(5, || async { Ok(cluster.select(&services).await?) }).await?))
}

/// p50 and p99 in milliseconds, of so many calls one after the other.
async fn measure<T, F, Fut>(calls: usize, call: F) -> anyhow::Result<(f64, f64, usize)>
where
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let began = Instant::now();
        call().await?;
        times.push(millis(began.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok((times[calls / 2], times[(calls * 99 / 100).min(calls - 1)], calls))
}

fn row(what: &str, (p50, p99, calls): (f64, f64, usize)) {
    println!("{what:<58}{p50:>10.1}{p99:>10.1}{calls:>10}");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What this process has in memory, in MB.
fn memory() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes / 1024)
}

async fn fill(server: &ApiServer) -> anyhow::Result<()> {
    let istio = |group: &str, plural: &str| format!("/apis/{group}.istio.io/v1/namespaces/shop/{plural}");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
                         "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]}});
    post(server, "/api/v1/namespaces/shop/services", service).await?;
    all(NODES, |number| post(server, "/api/v1/nodes", node(number))).await?;
    all(PODS, |number| make_pod(server, number)).await?;
    let path = istio("networking", "virtualservices");
    all(VIRTUAL_SERVICES, |number| post(server, &path, virtual_service(number, "1s"))).await?;
    let path = istio("networking", "destinationrules");
    all(DESTINATION_RULES, |number| post(server, &path, destination_rule(number))).await?;
    let path = istio("security", "authorizationpolicies");
    all(AUTHORIZATION_POLICIES, |number| post(server, &path, authorization_policy(number))).await
}

async fn all<Fut: Future<Output = anyhow::Result<()>>>(
    count: usize,
    make: impl Fn(usize) -> Fut,
) -> anyhow::Result<()> {
    stream::iter((0..count).map(make)).buffer_unordered(AT_ONCE).try_collect().await
}

async fn send(server: &ApiServer, method: Method, path: &str, kind: &str, body: Value) -> anyhow::Result<()> {
    let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
    server.client().request::<Value>(request.body(body.to_string().into_bytes())?).await?;
    Ok(())
}

async fn post(server: &ApiServer, path: &str, body: Value) -> anyhow::Result<()> {
    send(server, Method::POST, path, "application/json", body).await
}

fn node(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
           "metadata": {"name": format!("node-{number}"),
                        "labels": {"topology.kubernetes.io/zone": format!("zone-{}", number % 3)}}})
}

/// As an injected pod is: two containers with variables, probes and volumes, and a status.
async fn make_pod(server: &ApiServer, number: usize) -> anyhow::Result<()> {
    let variables: Vec<_> = (0..20)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("the value of variable {n}")}))
        .collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    let container = |name: &str, image: &str| {
        json!({"name": name, "image": image, "env": variables, "readinessProbe": probe, "livenessProbe": probe,
               "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
               "volumeMounts": [{"name": "data", "mountPath": "/data"}]})
    };
    let name = format!("app-{number:04}");
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "app", "meshward.io/cohort": if number.is_multiple_of(10) { "canary" } else { "stable" }}},
        "spec": {"nodeName": format!("node-{}", number % NODES), "volumes": [{"name": "data", "emptyDir": {}}],
                 "containers": [container("app", "app:1"), container("istio-proxy", "istio/proxyv2:1.27.1")]}});
    post(server, "/api/v1/namespaces/shop/pods", pod).await?;
    let status = json!({"status": {"phase": "Running", "podIP": format!("10.{}.{}.1", number / 250, number % 250),
                                   "conditions": [{"type": "Ready", "status": "True"}]}});
    let path = format!("/api/v1/namespaces/shop/pods/{name}/status");
    send(server, Method::PATCH, &path, "application/merge-patch+json", status).await
}

fn virtual_service(number: usize, timeout: &str) -> Value {
    let host = format!("host-{number}.example.com");
    let route = |prefix: &str| {
        json!({"match": [{"uri": {"prefix": prefix}}], "timeout": timeout,
               "route": [{"destination": {"host": "app", "port": {"number": 80}}}]})
    };
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": format!("vs-{number}"), "namespace": "shop"},
           "spec": {"hosts": [host], "gateways": ["edge"], "http": [route("/a"), route("/b"), route("/")]}})
}

fn destination_rule(number: usize) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
           "metadata": {"name": format!("dr-{number}"), "namespace": "shop"},
           "spec": {"host": format!("host-{number}"), "subsets": [{"name": "v1", "labels": {"version": "1"}}],
                    "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 100}}}}})
}

fn authorization_policy(number: usize) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": format!("ap-{number}"), "namespace": "shop"},
           "spec": {"selector": {"matchLabels": {"app": format!("app-{number}")}},
                    "rules": [{"from": [{"source": {"namespaces": ["shop"]}}], "to": [{"operation": {"methods": ["GET"]}}]}]}})
}
