//! How often the API server is asked for lists, by its audit log.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use meshward_mesh_gateway::{
    cluster::{KubeCluster, KubeOptions},
    clusters::{Addresses, Member},
};
use meshward_model::Mechanism;
use serde_json::{Value, json};

use super::{
    release::{Release, gateway},
    world::{NAMESPACE, PATIENCE, World, named},
};

/// In whose name the gateway asks here, so that its requests are told from those of the controller and of the test.
const FRUGAL: &str = "frugal";

/// The same cluster, asked in that name.
async fn member(world: &World, folder: &Path) -> Member {
    let text = std::fs::read_to_string(world.stack.kubeconfig()).expect("a kubeconfig");
    let acts_as = |line: &str| match line.split_once("token:") {
        Some((indentation, _)) => {
            let indentation = indentation.replace('-', " ");
            format!("{line}\n{indentation}as: {FRUGAL}\n{indentation}as-groups: [\"system:masters\"]\n")
        }
        None => format!("{line}\n"),
    };
    let file = folder.join("frugal.kubeconfig");
    std::fs::write(&file, text.lines().map(acts_as).collect::<String>()).expect("a file");
    let options = KubeOptions { kubeconfig: Some(file), timeout: PATIENCE };
    let cluster = KubeCluster::new(&options).await.expect("a client");
    let addresses = Addresses { linkerd_policy: vec![world.stack.controller.url()], ..Addresses::default() };
    Member::real("", cluster, &addresses).expect("addresses")
}

/// Lists of Linkerd's kinds and of Kubernetes' own, each with how often it was asked.
fn lists(world: &World) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(world.stack.audit_log()).expect("an audit log");
    let mut counts = BTreeMap::new();
    // The last line may be half written.
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let is_ours = event["impersonatedUser"]["username"] == FRUGAL && event["stage"] == "ResponseComplete";
        // An API server that still reads a new kind for the first time says so (429) and is asked again.
        let is_answered = event["responseStatus"]["code"] == 200;
        let group = event["objectRef"]["apiGroup"].as_str().unwrap_or_default();
        if is_ours && is_answered && event["verb"] == "list" && !group.contains("istio.io") {
            let resource = event["objectRef"]["resource"].as_str().unwrap_or_default();
            *counts.entry(format!("{group}/{resource}")).or_default() += 1;
        }
    }
    counts
}

fn server(protocol: &str) -> Value {
    let spec = json!({"podSelector": {"matchLabels": {"app": "cart"}}, "port": "http", "proxyProtocol": protocol,
                      "accessPolicy": "all-unauthenticated"});
    named("policy.linkerd.io/v1beta3", "Server", "cart", &spec)
}

pub async fn one_list_per_kind_however_many_looks(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Arc::new(gateway(member(world, folder.path()).await));
    let route = |name: &str| {
        let parent = json!({"group": "", "kind": "Service", "name": "till", "port": 80});
        let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": [{"name": name, "port": 80}]}]});
        named("gateway.networking.k8s.io/v1", "HTTPRoute", "till-shares", &spec)
    };
    world.stack.apply(&route("till")).await.expect("it is taken");
    let mut release = Release::by(&gateway, &route("till-next"), &[1000, 3000, 10_000], None).await;
    for share in [1000, 3000, 5000, 10_000] {
        release.expose(share).await;
    }
    release.restore().await;
    let counts = lists(world);
    println!("what a plan, 4 steps and a way back of a route listed: {counts:?}");
    assert!(counts.len() > 5 && counts.values().all(|count| *count == 1), "{counts:?}");
    world.remove(&route("till")).await;

    world.stack.apply(&server("HTTP/1")).await.expect("it is taken");
    let mut release = Release::by(&gateway, &server("HTTP/2"), &[1000, 3000, 10_000], None).await;
    assert_eq!(release.plan.mechanism, Mechanism::Instance);
    for share in [1000, 3000, 5000, 10_000] {
        release.expose(share).await;
    }
    release.restore().await;
    let counts = lists(world);
    println!("and with one of a Server of {NAMESPACE}, pod by pod: {counts:?}");
    assert!(counts.contains_key("/pods") && counts.values().all(|count| *count == 1), "{counts:?}");
    world.remove(&server("HTTP/2")).await;
}
