//! What is read of a pod and of a WorkloadEntry, and what a token is good for.

use serde_json::json;

use super::*;

fn pod(spec: &Value, annotations: &Value, ready: &str) -> Value {
    json!({
        "metadata": {"name": "a-0", "namespace": "shop", "annotations": annotations,
                     "labels": {"app": "a", COHORT_LABEL: "canary"}},
        "spec": spec,
        "status": {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}]},
    })
}

#[test]
fn a_pod_is_read() {
    let zones = BTreeMap::from([("n1".to_owned(), "z1".to_owned())]);
    let app = json!({"name": "app", "image": "shop/app:7"});
    let istio = json!({"name": "istio-proxy", "image": "registry:5000/istio/proxyv2:1.27.1@sha256:00"});
    let untagged = json!({"name": "linkerd-proxy", "image": "registry:5000/proxy@sha256:00"});
    for (spec, annotations, version, meshed) in [
        (json!({"containers": [app, istio]}), json!({}), "1.27.1", true),
        (json!({"containers": [app], "initContainers": [istio]}), json!({}), "1.27.1", true),
        (json!({"containers": [app, untagged]}), json!({}), "", true),
        (json!({"containers": [app, untagged]}), json!({"linkerd.io/proxy-version": "v2.300"}), "v2.300", true),
        (json!({"containers": [app]}), json!({"ambient.istio.io/redirection": "enabled"}), "", true),
        (json!({"containers": [app]}), json!({"ambient.istio.io/redirection": "disabled"}), "", false),
        (json!({"containers": [app]}), json!({}), "", false),
    ] {
        let instance = of_pod(&pod(&spec, &annotations, "True"), &zones);
        assert_eq!((&*instance.proxy_version, instance.meshed), (version, meshed), "{spec} {annotations}");
    }
    let mut object = pod(&json!({"nodeName": "n1"}), &json!({}), "True");
    let instance = of_pod(&object, &zones);
    assert_eq!((&*instance.node, &*instance.zone, &*instance.cohort), ("n1", "z1", "canary"));
    assert!(instance.ready);
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(!of_pod(&object, &zones).ready, "it is going");
    let elsewhere = of_pod(&pod(&json!({"nodeName": "n2"}), &json!({}), "False"), &zones);
    assert_eq!((&*elsewhere.zone, elsewhere.ready), ("", false));
}

#[test]
fn a_workload_entry_is_read() {
    let mut entry = json!({"metadata": {"name": "vm", "namespace": "shop"},
        "spec": {"labels": {"security.istio.io/tlsMode": "istio"}, "locality": "r/z/s"}});
    let instance = of_entry(&entry);
    assert_eq!((&*instance.zone, instance.ready, instance.meshed), ("z", true, true));
    entry["status"] = json!({"conditions": [{"type": "Healthy", "status": "False"}]});
    assert!(!of_entry(&entry).ready);
}

#[test]
fn a_token_is_good_for_its_list_only() {
    let wanted = |service: &'static str, token: &'static str| Wanted { namespace: "shop", service, size: 1, token };
    let made = token(wanted("a", ""), &Place::Pods("x/y".to_owned()));
    assert_eq!(made, "pods/shop/a/x/y");
    assert_eq!(place(wanted("a", "pods/shop/a/x/y")), Ok(Place::Pods("x/y".to_owned())));
    assert_eq!(place(wanted("a", "entries/shop/a/e")), Ok(Place::Entries("e".to_owned())));
    for (service, token) in [("b", "pods/shop/a/x/y"), ("a", "nodes/shop/a/x"), ("a", "pods"), ("a", "%")] {
        assert_eq!(place(wanted(service, token)), Err(NoPage::Token), "{service} {token}");
    }
}
