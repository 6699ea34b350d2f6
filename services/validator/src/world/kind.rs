//! The kinds of objects that rules look at.

use meshward_model::ObjectRef;

/// A kind, whatever its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Of Kubernetes.
    Service,
    /// Of Kubernetes.
    Namespace,
    /// A Pod, or what makes Pods from a template.
    Workload,
    /// Of Kubernetes.
    ServiceAccount,
    /// Of Kubernetes.
    Secret,
    /// Of Kubernetes.
    Node,
    /// A ConfigMap with Istio's MeshConfig.
    MeshConfig,
    /// Istio's.
    VirtualService,
    /// Istio's.
    DestinationRule,
    /// Istio's.
    Gateway,
    /// Istio's.
    ServiceEntry,
    /// Istio's.
    Sidecar,
    /// Istio's.
    WorkloadEntry,
    /// Istio's.
    WorkloadGroup,
    /// Istio's.
    EnvoyFilter,
    /// Istio's.
    ProxyConfig,
    /// Istio's.
    AuthorizationPolicy,
    /// Istio's.
    RequestAuthentication,
    /// Istio's.
    PeerAuthentication,
    /// Istio's.
    Telemetry,
    /// Istio's.
    WasmPlugin,
    /// Istio's.
    TrafficExtension,
    /// Of the Gateway API.
    KubernetesGateway,
    /// Of the Gateway API.
    GatewayClass,
    /// Of the Gateway API.
    HttpRoute,
    /// Of the Gateway API.
    GrpcRoute,
    /// Of the Gateway API.
    TlsRoute,
    /// Of the Gateway API.
    TcpRoute,
    /// Linkerd's.
    LinkerdHttpRoute,
    /// Linkerd's.
    Server,
    /// Linkerd's.
    ServerAuthorization,
    /// Linkerd's.
    LinkerdAuthorizationPolicy,
    /// Linkerd's.
    MeshTlsAuthentication,
    /// Linkerd's.
    NetworkAuthentication,
    /// Linkerd's.
    EgressNetwork,
    /// Linkerd's.
    RateLimit,
    /// Linkerd's.
    ServiceProfile,
}

/// Groups, kinds and what they are here.
const KINDS: [(&str, &str, Kind); 44] = [
    ("", "Service", Kind::Service),
    ("", "Namespace", Kind::Namespace),
    ("", "Pod", Kind::Workload),
    ("apps", "Deployment", Kind::Workload),
    ("apps", "StatefulSet", Kind::Workload),
    ("apps", "DaemonSet", Kind::Workload),
    ("apps", "ReplicaSet", Kind::Workload),
    ("", "ServiceAccount", Kind::ServiceAccount),
    ("", "Secret", Kind::Secret),
    ("", "Node", Kind::Node),
    ("", "ConfigMap", Kind::MeshConfig),
    ("networking.istio.io", "VirtualService", Kind::VirtualService),
    ("networking.istio.io", "DestinationRule", Kind::DestinationRule),
    ("networking.istio.io", "Gateway", Kind::Gateway),
    ("networking.istio.io", "ServiceEntry", Kind::ServiceEntry),
    ("networking.istio.io", "Sidecar", Kind::Sidecar),
    ("networking.istio.io", "WorkloadEntry", Kind::WorkloadEntry),
    ("networking.istio.io", "WorkloadGroup", Kind::WorkloadGroup),
    ("networking.istio.io", "EnvoyFilter", Kind::EnvoyFilter),
    ("networking.istio.io", "ProxyConfig", Kind::ProxyConfig),
    ("security.istio.io", "AuthorizationPolicy", Kind::AuthorizationPolicy),
    ("security.istio.io", "RequestAuthentication", Kind::RequestAuthentication),
    ("security.istio.io", "PeerAuthentication", Kind::PeerAuthentication),
    ("telemetry.istio.io", "Telemetry", Kind::Telemetry),
    ("extensions.istio.io", "WasmPlugin", Kind::WasmPlugin),
    ("extensions.istio.io", "TrafficExtension", Kind::TrafficExtension),
    ("gateway.networking.k8s.io", "Gateway", Kind::KubernetesGateway),
    ("gateway.networking.k8s.io", "GatewayClass", Kind::GatewayClass),
    ("gateway.networking.k8s.io", "HTTPRoute", Kind::HttpRoute),
    ("gateway.networking.k8s.io", "GRPCRoute", Kind::GrpcRoute),
    ("gateway.networking.k8s.io", "TLSRoute", Kind::TlsRoute),
    ("gateway.networking.k8s.io", "TCPRoute", Kind::TcpRoute),
    ("policy.linkerd.io", "HTTPRoute", Kind::LinkerdHttpRoute),
    ("policy.linkerd.io", "Server", Kind::Server),
    ("policy.linkerd.io", "ServerAuthorization", Kind::ServerAuthorization),
    ("policy.linkerd.io", "AuthorizationPolicy", Kind::LinkerdAuthorizationPolicy),
    ("policy.linkerd.io", "MeshTLSAuthentication", Kind::MeshTlsAuthentication),
    ("policy.linkerd.io", "NetworkAuthentication", Kind::NetworkAuthentication),
    ("policy.linkerd.io", "EgressNetwork", Kind::EgressNetwork),
    ("policy.linkerd.io", "HTTPLocalRateLimitPolicy", Kind::RateLimit),
    ("linkerd.io", "ServiceProfile", Kind::ServiceProfile),
    ("serviceprofile.linkerd.io", "ServiceProfile", Kind::ServiceProfile),
    ("apps.openshift.io", "DeploymentConfig", Kind::Workload),
    ("argoproj.io", "Rollout", Kind::Workload),
];

impl Kind {
    /// The kind of an object, if rules look at it.
    #[must_use]
    pub fn of(head: &ObjectRef) -> Option<Self> {
        let group = head.api_version.split_once('/').map_or("", |(group, _)| group);
        Self::named(group, &head.kind)
    }

    /// The kind of that group and name. The core group is "", and "core" to those who write it out.
    #[must_use]
    pub fn named(group: &str, kind: &str) -> Option<Self> {
        let group = if group.eq_ignore_ascii_case("core") { "" } else { group };
        let is =
            |(of, name, _): &&(&str, &str, Self)| of.eq_ignore_ascii_case(group) && name.eq_ignore_ascii_case(kind);
        KINDS.iter().find(is).map(|(_, _, kind)| *kind)
    }

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, _, kind)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// Whether it is a policy of a mesh, or a route: everything else is only referred to.
    #[must_use]
    pub fn is_policy(self) -> bool {
        self >= Self::VirtualService
    }

    /// Whether its objects have no namespace.
    #[must_use]
    pub fn is_cluster_wide(self) -> bool {
        matches!(self, Self::Namespace | Self::Node | Self::GatewayClass)
    }
}
