//! Pods with their labels, as Prometheus discovers them in a cluster.
//!
//! The Prometheus that the stack has is built without discovery by Kubernetes, so this part of it is done here: a watch on the
//! API server's pods, each of them written as a target with the `__meta_kubernetes_pod_…` labels that Prometheus itself
//! would give it. What becomes of them is the business of Prometheus' configuration, which is that of Istio's sample.

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::task::JoinSet;

use super::prometheus::{Target, write_targets};

/// The watch; it ends with this value.
pub(super) struct Discovery(#[expect(dead_code, reason = "ends its task when it is dropped")] JoinSet<()>);

/// Keeps the file as the pods are.
pub(super) fn start(client: &kube::Client, file: PathBuf) -> Discovery {
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(Api::all(client.clone()), file));
    Discovery(tasks)
}

async fn follow(pods: Api<Pod>, file: PathBuf) {
    let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
    let (mut listed, mut targets) = (BTreeMap::new(), BTreeMap::new());
    let mut written = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => listed.extend(target(&pod)),
            Ok(Event::InitDone) => targets = std::mem::take(&mut listed),
            Ok(Event::Apply(pod)) => {
                targets.remove(&name(&pod));
                targets.extend(target(&pod));
            }
            Ok(Event::Delete(pod)) => drop(targets.remove(&name(&pod))),
            // It is asked again by itself.
            Err(error) => tracing::debug!(%error, "the watch of pods"),
        }
        let all: Vec<Target> = targets.values().cloned().collect();
        if all != written {
            match write_targets(&file, &all) {
                Ok(()) => written = all,
                Err(error) => tracing::warn!(%error, "Prometheus is not told of a pod"),
            }
        }
    }
}

/// Namespace and name.
fn name(pod: &Pod) -> (String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// What Prometheus would say of a pod; nothing of one without an address.
fn target(pod: &Pod) -> Option<((String, String), Target)> {
    let status = pod.status.as_ref()?;
    let (address, name) = (status.pod_ip.clone()?, name(pod));
    let mut labels = BTreeMap::from([
        ("__meta_kubernetes_namespace".to_owned(), name.0.clone()),
        ("__meta_kubernetes_pod_name".to_owned(), name.1.clone()),
        ("__meta_kubernetes_pod_ip".to_owned(), address.clone()),
        ("__meta_kubernetes_pod_phase".to_owned(), status.phase.clone().unwrap_or_default()),
    ]);
    let of = |kind: &str, all: &Option<BTreeMap<String, String>>| -> BTreeMap<String, String> {
        let prefixed = |(key, value): (&String, &String)| {
            (format!("__meta_kubernetes_pod_{kind}_{}", sanitized(key)), value.clone())
        };
        all.iter().flatten().map(prefixed).collect()
    };
    labels.extend(of("label", &pod.metadata.labels));
    labels.extend(of("annotation", &pod.metadata.annotations));
    Some((name, Target::at(address, labels)))
}

/// As Prometheus makes a label's name of a key.
fn sanitized(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_told_as_prometheus_would_tell_it() {
        let pod = |status| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "a-0", "namespace": "shop", "labels": {"app": "a", "x.y/cohort-1": "canary"},
                             "annotations": {"prometheus.io/port": "15000"}},
                "status": status,
            }))
            .expect("a pod")
        };
        let (name, found) = target(&pod(json!({"podIP": "127.1.2.3", "phase": "Running"}))).expect("it has an address");
        assert_eq!(name, ("shop".to_owned(), "a-0".to_owned()));
        let labels = [
            ("__meta_kubernetes_namespace", "shop"),
            ("__meta_kubernetes_pod_annotation_prometheus_io_port", "15000"),
            ("__meta_kubernetes_pod_ip", "127.1.2.3"),
            ("__meta_kubernetes_pod_label_app", "a"),
            ("__meta_kubernetes_pod_label_x_y_cohort_1", "canary"),
            ("__meta_kubernetes_pod_name", "a-0"),
            ("__meta_kubernetes_pod_phase", "Running"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, Target::at("127.1.2.3".to_owned(), labels.into()));
        assert!(target(&pod(json!({"phase": "Pending"}))).is_none());
    }
}
