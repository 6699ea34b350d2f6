//! What is read of a cluster.

/// A kind, with the versions in which it may be served, the best one first.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) api_versions: &'static [&'static str],
    pub(super) kind: &'static str,
    /// Its objects have no namespace, so only who may see all of the cluster sees them.
    pub(super) is_cluster_wide: bool,
}

const fn source(api_versions: &'static [&'static str], kind: &'static str) -> Source {
    Source { api_versions, kind, is_cluster_wide: false }
}

const fn cluster_wide(api_versions: &'static [&'static str], kind: &'static str) -> Source {
    Source { api_versions, kind, is_cluster_wide: true }
}

const CORE: &[&str] = &["v1"];
const NETWORKING: &[&str] = &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
const SECURITY: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];
const GATEWAY_API: &[&str] = &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"];
const LINKERD: &[&str] = &["policy.linkerd.io/v1alpha1"];

/// Workloads are read as their Pods.
pub(super) const KINDS: [Source; 36] = [
    cluster_wide(CORE, "Namespace"),
    cluster_wide(CORE, "Node"),
    source(CORE, "Service"),
    source(CORE, "ServiceAccount"),
    source(CORE, "Secret"),
    source(CORE, "Pod"),
    source(NETWORKING, "VirtualService"),
    source(NETWORKING, "DestinationRule"),
    source(NETWORKING, "Gateway"),
    source(NETWORKING, "ServiceEntry"),
    source(NETWORKING, "Sidecar"),
    source(NETWORKING, "WorkloadEntry"),
    source(NETWORKING, "WorkloadGroup"),
    source(&["networking.istio.io/v1alpha3"], "EnvoyFilter"),
    source(&["networking.istio.io/v1beta1"], "ProxyConfig"),
    source(SECURITY, "AuthorizationPolicy"),
    source(SECURITY, "RequestAuthentication"),
    source(SECURITY, "PeerAuthentication"),
    source(&["telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"], "Telemetry"),
    source(&["extensions.istio.io/v1alpha1"], "WasmPlugin"),
    source(&["extensions.istio.io/v1alpha1"], "TrafficExtension"),
    source(GATEWAY_API, "Gateway"),
    cluster_wide(GATEWAY_API, "GatewayClass"),
    source(GATEWAY_API, "HTTPRoute"),
    source(GATEWAY_API, "GRPCRoute"),
    source(GATEWAY_API, "TLSRoute"),
    source(GATEWAY_API, "TCPRoute"),
    source(&["policy.linkerd.io/v1beta3", "policy.linkerd.io/v1beta2"], "HTTPRoute"),
    source(&["policy.linkerd.io/v1beta3", "policy.linkerd.io/v1beta2", "policy.linkerd.io/v1beta1"], "Server"),
    source(&["policy.linkerd.io/v1beta1"], "ServerAuthorization"),
    source(LINKERD, "AuthorizationPolicy"),
    source(LINKERD, "MeshTLSAuthentication"),
    source(LINKERD, "NetworkAuthentication"),
    source(LINKERD, "EgressNetwork"),
    source(LINKERD, "HTTPLocalRateLimitPolicy"),
    source(&["linkerd.io/v1alpha2"], "ServiceProfile"),
];
