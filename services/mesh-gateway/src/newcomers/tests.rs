use std::sync::Arc;

use meshward_chassis::clock::SystemClock;
use serde_json::json;

use super::*;
use crate::cluster::{MemoryCluster, Mode};

const KEY: &str = "meshward.io/cohort-0123456789";

fn policy(is_marked: bool, matched: &Value) -> Value {
    let marks = json!({"meshward.io/deployment": "d1", "meshward.io/generation": "1", "meshward.io/spec-digest": "x"});
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": "ledger", "namespace": "shop", "annotations": if is_marked { marks } else { json!({}) }},
           "spec": {"selector": {"matchLabels": matched}}})
}

fn target_of(object: &Value) -> Target {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    Target { cluster: String::new(), mesh: Mesh::Istio, api_version, kind, namespace, name }
}

fn newcomers() -> Newcomers {
    Newcomers { namespace: "shop".into(), labels: [("app".to_owned(), "a".to_owned())].into(), key: KEY.into() }
}

#[test]
fn the_live_object_says_what_it_demands() {
    let narrowed = json!({"app": "a", KEY: "stable"});
    let mut route = policy(true, &narrowed);
    route["kind"] = "VirtualService".into();
    route["apiVersion"] = "networking.istio.io/v1".into();
    let mut sidecar = policy(true, &json!({}));
    sidecar["kind"] = "Sidecar".into();
    sidecar["apiVersion"] = "networking.istio.io/v1".into();
    sidecar["spec"] = json!({"workloadSelector": {"labels": narrowed}});
    let mut gateway = policy(true, &json!({}));
    gateway["kind"] = "Gateway".into();
    gateway["apiVersion"] = "networking.istio.io/v1".into();
    gateway["spec"] = json!({"selector": narrowed});
    for (name, live, expected) in [
        ("narrowed to the stable pods", policy(true, &narrowed), Some(newcomers())),
        ("a Sidecar", sidecar, Some(newcomers())),
        ("a Gateway", gateway, Some(newcomers())),
        ("nobody's", policy(false, &narrowed), None),
        ("the canary's", policy(true, &json!({"app": "a", KEY: "canary"})), None),
        ("not narrowed", policy(true, &json!({"app": "a"})), None),
        ("somebody's own label", policy(true, &json!({"team.io/cohort-1": "stable"})), None),
        ("a kind without pods", route, None),
    ] {
        assert_eq!(demanded(&target_of(&live), &live), expected, "{name}");
    }
    let all = Newcomers { labels: BTreeMap::new(), ..newcomers() };
    assert_eq!(demanded(&target_of(&policy(true, &json!({}))), &policy(true, &json!({KEY: "stable"}))), Some(all));
}

#[test]
fn every_kind_that_is_divided_by_pods_is_followed() {
    let kinds = dialect::of(Mesh::Istio).labelling_kinds();
    let by_pods = dialect::of(Mesh::Istio).capabilities().into_iter();
    // What callers read is divided by the canary's label alone.
    let is_read_by_callers = |kind: &str| ["VirtualService", "DestinationRule"].contains(&kind);
    let by_pods = by_pods.filter(|row| row.mechanisms.contains(&meshward_model::Mechanism::Instance));
    let by_pods = by_pods.filter(|row| !is_read_by_callers(row.kind));
    for row in by_pods {
        let fits = |need: &&Need| need.kind == row.kind && need.api_version.split('/').next() == Some(row.group);
        assert!(kinds.iter().any(|need| fits(&need)), "{}", row.kind);
    }
    assert_eq!(kinds.len(), 9);
}

#[test]
fn only_pods_without_the_label_are_watched() {
    let selection = unlabelled(&newcomers());
    assert_eq!(selection.labels, format!("app=a,!{KEY}"));
    assert_eq!(selection.namespace.as_deref(), Some("shop"));
    assert_eq!(unlabelled(&Newcomers { labels: BTreeMap::new(), ..newcomers() }).labels, format!("!{KEY}"));
}

async fn put(cluster: &MemoryCluster, object: &Value) -> Value {
    cluster.apply(&target_of(object), object, Mode::Store).await.unwrap().object
}

fn pod(name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
           "spec": {"nodeName": "n"}})
}

async fn label_of(cluster: &MemoryCluster, name: &str) -> Value {
    cluster.get(&target_of(&pod(name, "a"))).await.unwrap().unwrap()["metadata"]["labels"][KEY].clone()
}

/// Waits for the label.
async fn until_labelled(cluster: &MemoryCluster, name: &str) {
    let labelled = async {
        while label_of(cluster, name).await != "stable" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), labelled).await.unwrap_or_else(|_| panic!("{name} gets no label"));
}

#[tokio::test]
async fn new_pods_are_labelled_while_the_object_demands_it() {
    let cluster = MemoryCluster::new(Arc::new(SystemClock));
    put(&cluster, &pod("before", "a")).await;
    put(&cluster, &policy(true, &json!({"app": "a", KEY: "stable"}))).await;
    let shared: Arc<dyn Cluster> = Arc::new(cluster.clone());
    let two = (Labelling::start(&shared, &shared), Labelling::start(&shared, &shared));
    until_labelled(&cluster, "before").await;
    put(&cluster, &pod("other", "b")).await;
    put(&cluster, &pod("new", "a")).await;
    until_labelled(&cluster, "new").await;
    assert_eq!(label_of(&cluster, "other").await, Value::Null);

    // A gateway that comes later finds it by itself.
    drop(two);
    put(&cluster, &pod("meanwhile", "a")).await;
    let _labelling = Labelling::start(&shared, &shared);
    until_labelled(&cluster, "meanwhile").await;
}

#[tokio::test]
async fn what_the_object_does_not_demand_any_more_is_not_written() {
    let cluster = MemoryCluster::new(Arc::new(SystemClock));
    let narrowed = policy(true, &json!({"app": "a", KEY: "stable"}));
    put(&cluster, &narrowed).await;
    let seen = put(&cluster, &pod("new", "a")).await;
    put(&cluster, &policy(false, &json!({"app": "a"}))).await;
    let pods = [Arc::new(seen)];
    assert_eq!(label(&cluster, &target_of(&narrowed), &newcomers(), &pods).await, Ok(false));
    assert_eq!(label_of(&cluster, "new").await, Value::Null);

    put(&cluster, &narrowed).await;
    let mut moved_on = pod("new", "a");
    moved_on["spec"]["nodeName"] = "m".into();
    put(&cluster, &moved_on).await;
    assert_eq!(label(&cluster, &target_of(&narrowed), &newcomers(), &pods).await, Ok(true));
    assert_eq!(label_of(&cluster, "new").await, Value::Null, "a write on what was seen before");
}
