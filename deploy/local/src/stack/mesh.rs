//! The demo mesh: what the API server holds about the shop.
//!
//! A Service with a selector and a WorkloadEntry with its labels give Istio an endpoint. EndpointSlices would be the usual
//! way, but Kubernetes refuses loopback addresses in them; WorkloadEntries may name them.
//! Two callers, each a pod with a Sidecar object of its own: `storefront` sees every service of the namespace, `search`
//! only `catalog`, so that a policy for `checkout` does not concern it.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{StackError, istiod, objects};

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

/// A pod that serves requests through a sidecar, and calls nobody. It is not part of every stack.
pub(super) const SERVER: Caller = Caller { app: "ledger", pod: "ledger-0", host: 1, egress: "~/*" };

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
    /// Its address in the stack's network.
    pub(super) fn address(&self, network: Ipv4Addr) -> Ipv4Addr {
        let [a, b, c, _] = network.octets();
        Ipv4Addr::new(a, b, c, self.host)
    }
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
    for caller in &CALLERS {
        all.extend([pod(caller), sidecar(caller, network)]);
    }
    objects::apply_all(client, &all).await?;
    for caller in &CALLERS {
        objects::apply_status(client, &pod_status(caller, network)).await?;
    }
    Ok(())
}

/// Creates the server's pod, and a sidecar that hands on to `upstream` what it lets in.
pub(super) async fn create_server(
    client: &kube::Client,
    upstream: SocketAddr,
    network: Ipv4Addr,
) -> Result<(), StackError> {
    let mut with_ingress = sidecar(&SERVER, network);
    with_ingress["spec"]["ingress"] = json!([{
        "port": {"number": SERVICE_PORT, "protocol": "HTTP", "name": "http"},
        "bind": SERVER.address(network).to_string(),
        "captureMode": "NONE",
        "defaultEndpoint": upstream.to_string(),
    }]);
    // None of its own: whom it calls is of no interest, and the listener would have the same port.
    with_ingress["spec"]["egress"] = json!([{"hosts": [SERVER.egress]}]);
    objects::apply_all(client, &[service(SERVER.app), pod(&SERVER), with_ingress]).await?;
    objects::apply_status(client, &pod_status(&SERVER, network)).await
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

fn pod(caller: &Caller) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": caller.pod, "namespace": NAMESPACE, "labels": {"app": caller.app}},
        // Never pulled: nothing here runs containers.
        "spec": {"containers": [{"name": "app", "image": "none"}]},
    })
}

fn pod_status(caller: &Caller, network: Ipv4Addr) -> Value {
    let address = caller.address(network).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": caller.pod, "namespace": NAMESPACE},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// No traffic is captured: the caller sends its requests to the listener by itself.
fn sidecar(caller: &Caller, network: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": caller.app, "namespace": NAMESPACE},
        "spec": {
            "workloadSelector": {"labels": {"app": caller.app}},
            "egress": [{
                "port": {"number": SERVICE_PORT, "protocol": "HTTP", "name": "http"},
                "bind": caller.address(network).to_string(),
                "captureMode": "NONE",
                "hosts": [caller.egress],
            }],
        },
    })
}
