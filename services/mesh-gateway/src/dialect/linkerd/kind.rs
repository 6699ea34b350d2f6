//! The kinds that Linkerd reads, and how each can be exposed.

use meshward_model::{Mechanism, Target};

/// The group of Linkerd's policies.
pub(super) const POLICY: &str = "policy.linkerd.io";
/// The group of the Gateway API.
pub(super) const GATEWAY: &str = "gateway.networking.k8s.io";

/// A kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    MeshTls,
    Network,
    PolicyRoute,
    HttpRoute,
    GrpcRoute,
    AuthorizationPolicy,
    ServerAuthorization,
    RateLimit,
    Server,
    TlsRoute,
    TcpRoute,
    Egress,
    Profile,
    Split,
}

/// A row of the table of kinds.
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    /// The versions that a cluster may serve, the newest first: an object is read in the first that is there.
    pub(super) versions: &'static [&'static str],
    /// Best first; besides all at once.
    pub(super) mechanisms: &'static [Mechanism],
}

const ALPHA: &[&str] = &["v1alpha1"];
const BY_PODS: &[Mechanism] = &[Mechanism::Instance];
const OF_ROUTES: &[Mechanism] = &[Mechanism::Weight, Mechanism::Header, Mechanism::Namespace, Mechanism::Instance];

/// Every kind.
pub(super) const KINDS: [Row; 14] = [
    row(
        Kind::Server,
        POLICY,
        "Server",
        &["v1beta3", "v1beta2", "v1beta1", "v1alpha1"],
        &[Mechanism::Instance, Mechanism::Shadow],
    ),
    row(Kind::ServerAuthorization, POLICY, "ServerAuthorization", &["v1beta1", "v1alpha1"], BY_PODS),
    row(
        Kind::AuthorizationPolicy,
        POLICY,
        "AuthorizationPolicy",
        ALPHA,
        &[Mechanism::Instance, Mechanism::Header, Mechanism::Weight, Mechanism::Shadow],
    ),
    row(Kind::MeshTls, POLICY, "MeshTLSAuthentication", ALPHA, BY_PODS),
    row(Kind::Network, POLICY, "NetworkAuthentication", ALPHA, BY_PODS),
    row(Kind::PolicyRoute, POLICY, "HTTPRoute", &["v1beta3", "v1beta2", "v1beta1", "v1alpha1"], OF_ROUTES),
    row(Kind::RateLimit, POLICY, "HTTPLocalRateLimitPolicy", ALPHA, BY_PODS),
    row(Kind::Egress, POLICY, "EgressNetwork", ALPHA, &[Mechanism::Namespace]),
    row(Kind::HttpRoute, GATEWAY, "HTTPRoute", &["v1", "v1beta1"], OF_ROUTES),
    row(Kind::GrpcRoute, GATEWAY, "GRPCRoute", &["v1", "v1alpha2"], OF_ROUTES),
    row(Kind::TlsRoute, GATEWAY, "TLSRoute", &["v1alpha2"], &[Mechanism::Weight]),
    row(Kind::TcpRoute, GATEWAY, "TCPRoute", &["v1alpha2"], &[Mechanism::Weight]),
    row(
        Kind::Profile,
        "linkerd.io",
        "ServiceProfile",
        &["v1alpha2", "v1alpha1"],
        &[Mechanism::Weight, Mechanism::Namespace],
    ),
    row(Kind::Split, "split.smi-spec.io", "TrafficSplit", &["v1alpha2", "v1alpha1"], &[Mechanism::Weight]),
];

const fn row(
    kind: Kind,
    group: &'static str,
    name: &'static str,
    versions: &'static [&'static str],
    mechanisms: &'static [Mechanism],
) -> Row {
    Row { kind, group, name, versions, mechanisms }
}

impl Kind {
    pub(super) fn of(group: &str, kind: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.group == group && row.name == kind).map(|row| row.kind)
    }

    pub(super) fn of_target(target: &Target) -> Option<Self> {
        Self::of(target.group(), &target.kind)
    }

    pub(super) fn row(self) -> &'static Row {
        let row = KINDS.iter().find(|row| row.kind == self);
        row.expect("every kind has its row: a test asks for each")
    }

    /// Requests or connections are routed by it.
    pub(super) fn is_route(self) -> bool {
        self.is_http_route() || matches!(self, Self::TlsRoute | Self::TcpRoute)
    }

    /// It may be about a Server as well as about a Service.
    pub(super) fn is_http_route(self) -> bool {
        matches!(self, Self::PolicyRoute | Self::HttpRoute | Self::GrpcRoute)
    }

    /// It says who a client is.
    pub(super) fn is_authentication(self) -> bool {
        matches!(self, Self::MeshTls | Self::Network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row() {
        for row in &KINDS {
            assert_eq!(row.kind.row().name, row.name);
            assert_eq!(Kind::of(row.group, row.name), Some(row.kind));
        }
        assert_eq!(Kind::of("", "Server"), None);
    }
}
