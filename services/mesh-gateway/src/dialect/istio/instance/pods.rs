//! The pods that a plan is about.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    dialect::{Question, Unsupported, istio::neighbours_of, steps::ALL_AT_ONCE},
    object,
};

/// The pods that an object selects, and the services in front of them.
pub(super) struct Pods {
    count: usize,
    hosts: Vec<String>,
}

impl Pods {
    /// Refuses what cannot be divided by labels of pods.
    pub(super) fn of(question: &Question<'_>, labels: &BTreeMap<String, String>) -> Result<Self, Unsupported> {
        check_entries(question, labels)?;
        let pods = dividable(question, &question.target.namespace, labels)?;
        // Without a selector an object is for gateways of the Gateway API, too; with one it is not for waypoints.
        let is_gateway =
            |pod: &&&Value| pod["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"].is_string();
        if let Some(pod) = pods.iter().find(is_gateway).filter(|_| labels.is_empty()) {
            let why = "is a gateway of the Gateway API, which an object with a selector may leave out";
            return Err(Unsupported::new(format!("pod {} {why}", object::full_name(pod)), ALL_AT_ONCE));
        }
        if pods.len() < 2 {
            let selector = if labels.is_empty() { String::new() } else { format!(" by {labels:?}") };
            return Err(Unsupported::new(
                format!(
                    "{} pods are selected in namespace {}{selector}, and two at least are needed to share the traffic",
                    pods.len(),
                    question.target.namespace
                ),
                format!("run more pods, or {ALL_AT_ONCE}"),
            ));
        }
        let mut hosts: Vec<_> = neighbours_of(question, "Service")
            .filter(|service| pods.iter().any(|pod| serves(service, pod)))
            .filter_map(|service| service["metadata"]["name"].as_str())
            .map(|name| format!("{name}.{}.svc.cluster.local", question.target.namespace))
            .collect();
        hosts.sort();
        Ok(Self { count: pods.len(), hosts })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The hosts of the services that send requests to the pods.
    pub(super) fn hosts(&self) -> Vec<String> {
        self.hosts.clone()
    }
}

/// Labels of a virtual machine are read when it connects, and nobody labels a new one.
fn check_entries(question: &Question<'_>, labels: &BTreeMap<String, String>) -> Result<(), Unsupported> {
    let mut entries = neighbours_of(question, "WorkloadEntry");
    match entries.find(|entry| has(&entry["spec"]["labels"], labels)) {
        None => Ok(()),
        Some(entry) => Err(Unsupported::new(
            format!(
                "WorkloadEntry {} is selected too, and a workload outside of Kubernetes would be governed by neither \
                 version",
                object::full_name(entry)
            ),
            format!("let the object select pods only, or {ALL_AT_ONCE}"),
        )),
    }
}

fn has(found: &Value, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| found[key] == value.as_str())
}

fn has_ended(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed"
}

fn serves(service: &Value, pod: &Value) -> bool {
    let selector = service["spec"]["selector"].as_object();
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
    })
}

/// The pods of a namespace that carry some labels. One that nothing can prove of what governs it is refused.
pub(in crate::dialect::istio) fn dividable<'a>(
    question: &Question<'a>,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Result<Vec<&'a Value>, Unsupported> {
    let is_one = |pod: &&Value| {
        pod["metadata"]["namespace"] == namespace && has(&pod["metadata"]["labels"], labels) && !has_ended(pod)
    };
    let pods: Vec<_> = neighbours_of(question, "Pod").filter(is_one).collect();
    let is_ambient = |pod: &&&Value| pod["metadata"]["annotations"]["ambient.istio.io/redirection"] == "enabled";
    match pods.iter().find(is_ambient) {
        None => Ok(pods),
        Some(pod) => Err(Unsupported::new(
            format!(
                "pod {} has no proxy of its own (ambient mode), so nothing can prove what governs it",
                object::full_name(pod)
            ),
            ALL_AT_ONCE,
        )),
    }
}
