//! The admission policy that gives new pods the stable label, and what it is told. Pure.
//!
//! The policy is one for the whole cluster and never changes: it is installed with the service (`admission.yaml`). What
//! it does follows from ConfigMaps with a label of Meshward's in the namespace of the pod, one for each deployment that
//! divides pods there: which label, and which pods. They are immutable, so that nobody can make them say something else.

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::dialect::{Newcomers, STABLE};

/// Name of the policy and of its binding.
pub const NAME: &str = "meshward-newcomers";
/// The API of both.
pub const API_VERSION: &str = "admissionregistration.k8s.io/v1";
/// Kind of what binds the policy to its parameters.
pub const BINDING: &str = "MutatingAdmissionPolicyBinding";
/// The label by which the binding finds its parameters.
pub const PARAMETER: &str = "meshward.io/newcomers";

/// The policy and its binding, as they are installed.
///
/// # Panics
/// If the file that is built in is no YAML, which a test would tell.
#[must_use]
pub fn manifests() -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(include_str!("../../admission.yaml"));
    documents.map(|document| Value::deserialize(document).expect("the manifests are YAML")).collect()
}

/// What tells the policy of a deployment's pods.
#[must_use]
pub fn parameter(newcomers: &Newcomers) -> Value {
    let terms: Vec<_> = newcomers.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name(newcomers),
            "namespace": newcomers.namespace,
            "labels": {PARAMETER: STABLE},
        },
        "data": {"key": newcomers.key, "selector": terms.join(",")},
        "immutable": true,
    })
}

/// "meshward-cohort-0123456789" of "meshward.io/cohort-0123456789".
#[must_use]
pub fn name(newcomers: &Newcomers) -> String {
    newcomers.key.replace(".io/", "-")
}
