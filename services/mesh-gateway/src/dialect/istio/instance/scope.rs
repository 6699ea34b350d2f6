//! The kinds of Istio that choose their pods by labels, and what they have of their own.

use std::collections::BTreeMap;

use serde_json::Value;

/// A kind that can be exposed pod by pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect::istio) enum Scope {
    AuthorizationPolicy,
    PeerAuthentication,
    RequestAuthentication,
    Telemetry,
    WasmPlugin,
    TrafficExtension,
    EnvoyFilter,
    Sidecar,
}

/// What two objects of a kind make of a pod that both select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    /// Each takes part, so that two of the same decide as one does.
    Same,
    /// Each takes part, and two of the same do things twice.
    Twice,
    /// Only the oldest one counts.
    Oldest,
    /// Which one counts depends on which pod istiod computed first.
    Random,
}

impl Scope {
    /// All of them: version, older versions, kind.
    pub(in crate::dialect::istio) const KINDS: [(&str, &[&str], &str); 8] = [
        ("security.istio.io/v1", &["security.istio.io/v1beta1"], "AuthorizationPolicy"),
        ("security.istio.io/v1", &["security.istio.io/v1beta1"], "PeerAuthentication"),
        ("security.istio.io/v1", &["security.istio.io/v1beta1"], "RequestAuthentication"),
        ("telemetry.istio.io/v1", &["telemetry.istio.io/v1alpha1"], "Telemetry"),
        ("extensions.istio.io/v1alpha1", &[], "WasmPlugin"),
        ("extensions.istio.io/v1alpha1", &[], "TrafficExtension"),
        ("networking.istio.io/v1alpha3", &[], "EnvoyFilter"),
        ("networking.istio.io/v1", &["networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"], "Sidecar"),
    ];

    pub(in crate::dialect::istio) fn of(group: &str, kind: &str) -> Option<Self> {
        Some(match (group, kind) {
            ("security.istio.io", "AuthorizationPolicy") => Self::AuthorizationPolicy,
            ("security.istio.io", "PeerAuthentication") => Self::PeerAuthentication,
            ("security.istio.io", "RequestAuthentication") => Self::RequestAuthentication,
            ("telemetry.istio.io", "Telemetry") => Self::Telemetry,
            ("extensions.istio.io", "WasmPlugin") => Self::WasmPlugin,
            ("extensions.istio.io", "TrafficExtension") => Self::TrafficExtension,
            ("networking.istio.io", "EnvoyFilter") => Self::EnvoyFilter,
            ("networking.istio.io", "Sidecar") => Self::Sidecar,
            _ => return None,
        })
    }

    pub(super) fn overlap(self) -> Overlap {
        match self {
            Self::AuthorizationPolicy => Overlap::Same,
            Self::RequestAuthentication | Self::WasmPlugin | Self::TrafficExtension | Self::EnvoyFilter => {
                Overlap::Twice
            }
            Self::PeerAuthentication | Self::Sidecar => Overlap::Oldest,
            Self::Telemetry => Overlap::Random,
        }
    }

    /// Where the labels are.
    fn path(self) -> [&'static str; 2] {
        match self {
            Self::EnvoyFilter | Self::Sidecar => ["workloadSelector", "labels"],
            _ => ["selector", "matchLabels"],
        }
    }

    /// The labels that a pod must have; none = all pods of the namespace.
    pub(in crate::dialect::istio) fn labels(self, spec: &Value) -> BTreeMap<String, String> {
        let [outer, inner] = self.path();
        let labels = spec[outer][inner].as_object().into_iter().flatten();
        labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The spec for the pods of one cohort.
    pub(super) fn narrowed(self, spec: &Value, key: &str, cohort: &str) -> Value {
        let [outer, inner] = self.path();
        // Indexing makes an object of what is null, and of nothing else.
        let mut spec = spec.clone();
        spec[outer][inner][key] = cohort.into();
        spec
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cohort_is_one_label_more() {
        let (policy, sidecar) = (Scope::AuthorizationPolicy, Scope::Sidecar);
        for (scope, spec, expected) in [
            (policy, json!({}), json!({"selector": {"matchLabels": {"k": "stable"}}})),
            (policy, Value::Null, json!({"selector": {"matchLabels": {"k": "stable"}}})),
            (policy, json!({"selector": {}}), json!({"selector": {"matchLabels": {"k": "stable"}}})),
            (
                policy,
                json!({"selector": {"matchLabels": {"app": "a"}}, "rules": [{}]}),
                json!({"selector": {"matchLabels": {"app": "a", "k": "stable"}}, "rules": [{}]}),
            ),
            (
                sidecar,
                json!({"workloadSelector": {"labels": {"app": "a"}}}),
                json!({"workloadSelector": {"labels": {"app": "a", "k": "stable"}}}),
            ),
        ] {
            assert_eq!(scope.narrowed(&spec, "k", "stable"), expected, "{scope:?} {spec}");
        }
        let labels = sidecar.labels(&json!({"workloadSelector": {"labels": {"app": "a"}}}));
        assert_eq!(labels, BTreeMap::from([("app".to_owned(), "a".to_owned())]));
    }
}
