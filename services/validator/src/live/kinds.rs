//! What is read of a cluster.

/// A kind, with the versions in which it may be served, the best one first.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) api_versions: &'static [&'static str],
    pub(super) kind: &'static str,
    /// Its objects have no namespace, so only who may see all of the cluster sees them.
    pub(super) is_cluster_wide: bool,
    /// The one namespace in which it is looked for; `None` = all.
    pub(super) only_in: Option<&'static str>,
}

impl Source {
    /// Whether it is asked for in a namespace (`None` = in all) by who may see that one.
    pub(super) fn is_in(&self, namespace: Option<&str>) -> bool {
        match (self.only_in, namespace) {
            (_, None) => true,
            (Some(only), Some(namespace)) => only == namespace,
            (None, Some(_)) => !self.is_cluster_wide,
        }
    }
}

const fn source(api_versions: &'static [&'static str], kind: &'static str) -> Source {
    Source { api_versions, kind, is_cluster_wide: false, only_in: None }
}

const fn cluster_wide(api_versions: &'static [&'static str], kind: &'static str) -> Source {
    Source { api_versions, kind, is_cluster_wide: true, only_in: None }
}

const CORE: &[&str] = &["v1"];
const NETWORKING: &[&str] = &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];
const SECURITY: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];
const GATEWAY_API: &[&str] = &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"];
const LINKERD: &[&str] = &["policy.linkerd.io/v1alpha1"];

/// Where Istio's control plane and its configuration are, unless it was set up otherwise.
const ISTIO_SYSTEM: &str = "istio-system";

/// Workloads are read as their Pods.
pub(super) const KINDS: [Source; 37] = [
    Source { api_versions: CORE, kind: "ConfigMap", is_cluster_wide: false, only_in: Some(ISTIO_SYSTEM) },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_asked_for_where_its_objects_are_and_the_caller_may_see_them() {
        let of = |kind: &str| KINDS.iter().find(|source| source.kind == kind).expect("it is read");
        for (kind, namespace, expected) in [
            ("Service", None, true),
            ("Service", Some("shop"), true),
            ("Node", None, true),
            ("Node", Some("shop"), false),
            ("ConfigMap", None, true),
            ("ConfigMap", Some("shop"), false),
            ("ConfigMap", Some(ISTIO_SYSTEM), true),
        ] {
            assert_eq!(of(kind).is_in(namespace), expected, "{kind} in {namespace:?}");
        }
    }
}
