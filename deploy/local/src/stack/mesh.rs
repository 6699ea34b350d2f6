//! The demo mesh: what the API server holds about the shop.
//!
//! A Service with a selector and a WorkloadEntry with its labels give Istio an endpoint. EndpointSlices would be the usual
//! way, but Kubernetes refuses loopback addresses in them; WorkloadEntries may name them.
//! Two callers, each a pod with a Sidecar object of its own: `storefront` sees every service of the namespace, `search`
//! only `catalog`, so that a policy for `checkout` does not concern it.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{StackError, envoy, istiod, objects};

/// The label by which each pod has a Sidecar object of its own.
const POD_LABEL: &str = "pod";

/// The namespace of the demo mesh.
pub const NAMESPACE: &str = "shop";

/// The port of every Service. A caller's sidecar listens on the same number: that is how Istio finds the services that
/// belong to a listener.
pub const SERVICE_PORT: u16 = 8080;

/// The callers; the first one calls the policy's host.
pub const CALLERS: [Caller; 2] = [
    Caller { app: "storefront", pod: "storefront-0", host: 1, egress: "./*" },
    Caller { app: "search", pod: "search-0", host: 2, egress: "./catalog.shop.svc.cluster.local" },
];

/// Where a pod that only serves may call: nowhere.
const NOBODY: &str = "~/*";

/// A pod that calls services through a sidecar.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its `app` label.
    pub app: &'static str,
    /// The pod's name.
    pub pod: &'static str,
    /// The last number of its address.
    host: u8,
    /// Which hosts it may call, as its Sidecar object says it.
    egress: &'static str,
}

impl Caller {
    /// Its pod in the stack's network.
    pub(super) fn workload(&self, network: Ipv4Addr) -> Workload {
        Workload {
            app: self.app.to_owned(),
            pod: self.pod.to_owned(),
            address: in_network(network, self.host),
            gateway_port: None,
        }
    }
}

/// A pod and its proxy.
pub(super) struct Workload {
    /// Its `app` label.
    pub app: String,
    /// The pod's name.
    pub pod: String,
    pub address: Ipv4Addr,
    /// The proxy is a gateway and listens here for what the Service has on its port: all gateways are on one machine,
    /// and what they bind to is the same for each. Otherwise it is a sidecar.
    pub gateway_port: Option<u16>,
}

impl Workload {
    /// A pod of an app with a sidecar; `host` is the last number of its address.
    pub(super) fn numbered(app: &str, number: u8, network: Ipv4Addr, host: u8) -> Self {
        let address = in_network(network, host);
        Self { app: app.to_owned(), pod: format!("{app}-{number}"), address, gateway_port: None }
    }

    /// Where its proxy takes requests.
    pub(super) fn listener(&self) -> SocketAddr {
        let sidecar = SocketAddr::from((self.address, SERVICE_PORT));
        self.gateway_port.map_or(sidecar, |port| (Ipv4Addr::LOCALHOST, port).into())
    }
}

fn in_network(network: Ipv4Addr, host: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, host)
}

/// Where the services of the demo mesh really listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstreams {
    /// `checkout`, the host of the policies under test.
    pub checkout: SocketAddr,
    /// `checkout-next`, where a bad version of the policy sends requests: failing or slow on demand.
    pub checkout_next: SocketAddr,
    /// `catalog`, a host that no policy under test concerns.
    pub catalog: SocketAddr,
}

impl Upstreams {
    fn by_name(&self) -> [(&'static str, SocketAddr); 3] {
        [("checkout", self.checkout), ("checkout-next", self.checkout_next), ("catalog", self.catalog)]
    }
}

/// Creates every object of the demo mesh.
pub(super) async fn create(client: &kube::Client, upstreams: &Upstreams, network: Ipv4Addr) -> Result<(), StackError> {
    let mut all = vec![no_mutual_tls()];
    for (name, address) in upstreams.by_name() {
        all.extend([service(name), workload_entry(name, address)]);
    }
    let workloads = CALLERS.each_ref().map(|caller| caller.workload(network));
    for (workload, caller) in workloads.iter().zip(&CALLERS) {
        all.extend([pod(workload), sidecar(workload, caller.egress)]);
    }
    objects::apply_all(client, &all).await?;
    for workload in &workloads {
        objects::apply_status(client, &pod_status(workload)).await?;
    }
    Ok(())
}

/// Creates the service of an app and a serving pod of it, with a sidecar that hands on to `upstream` what it lets in.
pub(super) async fn create_server(
    client: &kube::Client,
    upstream: SocketAddr,
    workload: &Workload,
) -> Result<(), StackError> {
    let mut with_ingress = sidecar(workload, NOBODY);
    with_ingress["spec"]["ingress"] = json!([{
        "port": {"number": SERVICE_PORT, "protocol": "HTTP", "name": "http"},
        "bind": workload.address.to_string(),
        "captureMode": "NONE",
        "defaultEndpoint": upstream.to_string(),
    }]);
    // None of its own: whom it calls is of no interest, and the listener would have the same port.
    with_ingress["spec"]["egress"] = json!([{"hosts": [NOBODY]}]);
    create_pod(client, workload, vec![with_ingress]).await
}

/// Creates the service of an app and a pod of it, whose proxy is a gateway.
pub(super) async fn create_gateway(client: &kube::Client, workload: &Workload) -> Result<(), StackError> {
    create_pod(client, workload, Vec::new()).await
}

/// Creates a pod and its service, after what it needs.
async fn create_pod(client: &kube::Client, workload: &Workload, mut needed: Vec<Value>) -> Result<(), StackError> {
    needed.extend([service(&workload.app), pod(workload)]);
    objects::apply_all(client, &needed).await?;
    objects::apply_status(client, &pod_status(workload)).await
}

fn no_mutual_tls() -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": istiod::NAMESPACE},
        "spec": {"mtls": {"mode": "DISABLE"}},
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    })
}

fn workload_entry(name: &str, address: SocketAddr) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "address": address.ip().to_string(),
            "ports": {"http": address.port()},
            "labels": {"app": name},
        },
    })
}

fn pod(workload: &Workload) -> Value {
    // What the Service's port is called there; a sidecar has a WorkloadEntry or a listener of its own instead.
    let ports: Vec<_> =
        workload.gateway_port.iter().map(|port| json!({"name": "http", "containerPort": port})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": workload.pod,
            "namespace": NAMESPACE,
            "labels": {"app": workload.app, POD_LABEL: workload.pod},
            // As Istio's injection writes them.
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": envoy::ADMIN_PORT.to_string(),
                "prometheus.io/path": envoy::METRICS_PATH,
            },
        },
        // Never pulled: nothing here runs containers.
        "spec": {"containers": [{"name": "app", "image": "none", "ports": ports}]},
    })
}

fn pod_status(workload: &Workload) -> Value {
    let address = workload.address.to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": workload.pod, "namespace": NAMESPACE},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// No traffic is captured: the caller sends its requests to the listener by itself.
fn sidecar(workload: &Workload, may_call: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": workload.pod, "namespace": NAMESPACE},
        "spec": {
            "workloadSelector": {"labels": {POD_LABEL: workload.pod}},
            "egress": [{
                "port": {"number": SERVICE_PORT, "protocol": "HTTP", "name": "http"},
                "bind": workload.address.to_string(),
                "captureMode": "NONE",
                "hosts": [may_call],
            }],
        },
    })
}
