//! The labels and annotations of an object to which a mesh gives a meaning, kind by kind: pure.
//!
//! A label can put an object out of force as well as its spec can, and counts in no `metadata.generation`. All others
//! belong to who manages the object, and change nothing.
//!
//! | kind | label or annotation | what it does (istio/istio at 2026-08, linkerd2 at 2026-08) |
//! |---|---|---|
//! | every one of Istio's | label `istio.io/rev` | an istiod of another revision does not read the object: `crdclient/client.go:inRevision` |
//! | AuthorizationPolicy | `istio.io/dry-run` | counts instead of deciding: `authz/builder/builder.go` |
//! | VirtualService, DestinationRule, Gateway | `internal.istio.io/*` | read like a route, subset or listener of the Gateway API: `model/virtualservice.go`, `destination_rule.go`, `gateway.go`, `push_context.go` |
//! | EnvoyFilter | `envoyfilter.istio.io/referenced-services` | services that a gateway keeps for it: `model/envoyfilter.go` |
//! | ServiceEntry | labels and annotations of Istio's: waypoints, address allocation, traffic distribution, canonical service | `serviceentry/conversion.go`, `networking/serviceentry/ip_autoallocation.go`, `ambient/waypoints.go` |
//! | WorkloadEntry | every label | it is chosen by them, and they are stronger than those of its spec: `serviceentry/conversion.go` |
//! | WorkloadEntry | `istio.io/autoRegistrationGroup`, `proxy.istio.io/health-checks-enabled` | it counts as healthy only once it is told so: `serviceentry/conversion.go` |
//! | Server | every label | ServerAuthorizations choose Servers by them: `k8s/index/src/inbound/server_authorization.rs` |
//! | HTTPRoute, GRPCRoute, EgressNetwork | `timeout.linkerd.io/*`, `retry.linkerd.io/*` | `k8s/index/src/outbound/index.rs` |
//! | EgressNetwork | `balancer.linkerd.io/*` | failure accrual: `k8s/index/src/outbound/index.rs` |
//! | TrafficSplit | `failover.linkerd.io/*` | linkerd-failover writes its weights |
//!
//! Where every label counts those do not by which tools keep their books: nobody selects by them.

use std::collections::BTreeMap;

use meshward_model::{Mesh, Target};
use serde_json::Value;

use crate::object;

/// "labels" or "annotations", and the key.
pub(crate) type Place = (&'static str, String);

const LABELS: &str = "labels";
const ANNOTATIONS: &str = "annotations";
/// How the keys begin by which tools know their own: Argo CD, Flux, Helm, kubectl, and Meshward.
const BOOKS: [&str; 8] = [
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
    "helm.sh/",
    "meta.helm.sh/",
    "kubectl.kubernetes.io/",
    "app.kubernetes.io/managed-by",
    "meshward.io/",
];

/// What the mesh reads of the object's labels and annotations.
pub(crate) fn of(target: &Target, object: &Value) -> BTreeMap<Place, Value> {
    let of_field = |field: &'static str| {
        let map = object::metadata_map(object, field).into_iter().flatten();
        let read = map.filter(move |(key, _)| is_read(target, field, key));
        read.map(move |(key, value)| ((field, key.clone()), value.clone()))
    };
    of_field(LABELS).chain(of_field(ANNOTATIONS)).collect()
}

fn is_read(target: &Target, field: &str, key: &str) -> bool {
    let is_label = field == LABELS;
    let is_any = || is_label && !BOOKS.iter().any(|book| key.starts_with(book));
    let begins = |prefixes: &[&str]| !is_label && prefixes.iter().any(|prefix| key.starts_with(prefix));
    if target.mesh == Mesh::Istio && is_label && key == "istio.io/rev" {
        return true;
    }
    match (target.group(), &*target.kind) {
        ("security.istio.io", "AuthorizationPolicy") => begins(&["istio.io/dry-run"]),
        ("networking.istio.io", "VirtualService" | "DestinationRule" | "Gateway") => begins(&["internal.istio.io/"]),
        ("networking.istio.io", "EnvoyFilter") => begins(&["envoyfilter.istio.io/"]),
        ("networking.istio.io", "ServiceEntry") => super::istio::is_read_by_istio(key),
        ("networking.istio.io", "WorkloadEntry") => {
            is_any() || begins(&["istio.io/autoRegistrationGroup", "proxy.istio.io/health-checks-enabled"])
        }
        ("policy.linkerd.io", "Server") => is_any(),
        ("policy.linkerd.io", "EgressNetwork") => {
            begins(&["timeout.linkerd.io/", "retry.linkerd.io/", "balancer.linkerd.io/"])
        }
        ("policy.linkerd.io" | "gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute") => {
            begins(&["timeout.linkerd.io/", "retry.linkerd.io/"])
        }
        ("split.smi-spec.io", "TrafficSplit") => key.starts_with("failover.linkerd.io/"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const REV: &str = "labels/istio.io/rev";

    fn read(api_version: &str, kind: &str, labels: &Value, annotations: &Value) -> Vec<String> {
        let mesh = Mesh::of_api_version(api_version).unwrap();
        let target = Target { mesh, ..Target::new("", api_version, kind, "shop", "a").unwrap() };
        let object = json!({"metadata": {"labels": labels, "annotations": annotations}});
        of(&target, &object).into_keys().map(|(field, key)| format!("{field}/{key}")).collect()
    }

    #[test]
    fn what_a_mesh_reads_of_each_kind() {
        let labels = json!({
            "team": "a", "istio.io/rev": "b", "argocd.argoproj.io/instance": "x", "meshward.io/cohort-1": "stable",
            "app.kubernetes.io/managed-by": "Helm", "istio.io/use-waypoint": "w", "failover.linkerd.io/controlled-by": "f",
        });
        let annotations = json!({
            "note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{}", "meshward.io/generation": "1",
            "istio.io/dry-run": "true", "internal.istio.io/parents": "p", "retry.linkerd.io/http": "5xx",
            "timeout.linkerd.io/request": "1s", "balancer.linkerd.io/failure-accrual": "consecutive",
            "envoyfilter.istio.io/referenced-services": "s", "networking.istio.io/traffic-distribution": "PreferClose",
            "proxy.istio.io/health-checks-enabled": "true", "istio.io/connectedAt": "1",
        });
        let routes = ["annotations/retry.linkerd.io/http", "annotations/timeout.linkerd.io/request"];
        let istio =
            |kind: &str| format!("{}.istio.io/v1", if kind.contains("Auth") { "security" } else { "networking" });
        for (kind, expected) in [
            ("AuthorizationPolicy", &["annotations/istio.io/dry-run", REV][..]),
            ("PeerAuthentication", &[REV]),
            ("VirtualService", &["annotations/internal.istio.io/parents", REV]),
            ("DestinationRule", &["annotations/internal.istio.io/parents", REV]),
            ("Gateway", &["annotations/internal.istio.io/parents", REV]),
            ("Sidecar", &[REV]),
            ("EnvoyFilter", &["annotations/envoyfilter.istio.io/referenced-services", REV]),
            (
                "WorkloadEntry",
                &[
                    "annotations/proxy.istio.io/health-checks-enabled",
                    "labels/failover.linkerd.io/controlled-by",
                    REV,
                    "labels/istio.io/use-waypoint",
                    "labels/team",
                ],
            ),
        ] {
            assert_eq!(read(&istio(kind), kind, &labels, &annotations), expected, "{kind}");
        }
        let entry = read("networking.istio.io/v1", "ServiceEntry", &labels, &annotations);
        assert!(entry.contains(&"labels/istio.io/use-waypoint".to_owned()), "{entry:?}");
        assert!(entry.contains(&"annotations/networking.istio.io/traffic-distribution".to_owned()), "{entry:?}");
        assert!(!entry.iter().any(|key| key.contains("team") || key.contains("linkerd")), "{entry:?}");
        for (api_version, kind, expected) in [
            ("policy.linkerd.io/v1beta3", "HTTPRoute", &routes[..]),
            ("gateway.networking.k8s.io/v1", "HTTPRoute", &routes),
            ("gateway.networking.k8s.io/v1", "GRPCRoute", &routes),
            ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", &[]),
            (
                "policy.linkerd.io/v1alpha1",
                "EgressNetwork",
                &["annotations/balancer.linkerd.io/failure-accrual", routes[0], routes[1]],
            ),
            ("split.smi-spec.io/v1alpha2", "TrafficSplit", &["labels/failover.linkerd.io/controlled-by"]),
        ] {
            assert_eq!(read(api_version, kind, &labels, &annotations), expected, "{kind}");
        }
        let server = read("policy.linkerd.io/v1beta3", "Server", &labels, &annotations);
        assert!(
            server.contains(&"labels/team".to_owned()) && !server.iter().any(|key| key.contains("argocd")),
            "{server:?}"
        );
    }
}
