//! Drift as it happens, on a real API server.

use std::path::Path;

use http::Method;
use meshward_chassis::auth::Role;
use meshward_local::stack::ApiServer;
use meshward_proto::{
    gateway::v1 as pb,
    types::v1::{ErrorReason as Reason, Mechanism},
};
use serde_json::{Value, json};
use tonic::{Code, Streaming};

use super::{
    alone::{Alone, apply_as, ask},
    caches::{POLICIES, look},
    world::{Gateway, PATIENCE, authorized, intent, object, refused, target, without_counters},
};

const VIRTUAL_SERVICES: &str = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices";

fn version(name: &str, upstream: &str) -> Value {
    let route = json!([{"route": [{"destination": {"host": upstream}}]}]);
    object(name, json!({"hosts": [name], "http": route}))
}

async fn put(server: &ApiServer, manager: &str, object: &Value) -> Value {
    let name = object["metadata"]["name"].as_str().expect("a name");
    apply_as(server, manager, &format!("{VIRTUAL_SERVICES}/{name}"), object).await
}

async fn watch(gateway: &Gateway, names: &[&str]) -> Streaming<pb::WatchDriftResponse> {
    let targets = names.iter().map(|name| target(&object(name, Value::Null))).collect();
    let request = gateway.request(pb::WatchDriftRequest { targets });
    gateway.client.clone().watch_drift(request).await.expect("a stream").into_inner()
}

async fn next(stream: &mut Streaming<pb::WatchDriftResponse>) -> pb::WatchDriftResponse {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("it is told in time");
    next.expect("no error").expect("no end")
}

fn row(drift: &pb::WatchDriftResponse) -> (String, String, bool) {
    let name = drift.target.as_ref().expect("a target").name.clone();
    assert_eq!(drift.deployment_id, "d1", "{drift:?}");
    (name, drift.manager.clone(), drift.deleted)
}

/// By a gateway with the rights of this file.
pub async fn what_others_do_is_told_and_what_we_do_is_not(world: &Alone, server: &ApiServer, kubeconfig: &Path) {
    let gateway = world.gateway(kubeconfig).await;
    for name in ["watched", "other"] {
        put(server, "kubectl", &version(name, "checkout")).await;
    }
    let canary = version("watched", "checkout-next");
    let (plan, baseline) = gateway.plan(&canary, &[1000, 3000, 10_000]).await.expect("a plan");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let mut stream = watch(&gateway, &["watched", "missing"]).await;
    put(server, "kubectl", &version("watched", "checkout")).await;
    for (generation, weight) in [(1, 1000), (2, 3000), (3, 0)] {
        gateway.apply(&at(generation, weight)).await.expect("a step");
    }
    gateway.restore(&at(4, 0)).await.expect("it is restored");
    put(server, "helm", &version("watched", "catalog")).await;
    put(server, "helm", &version("other", "catalog")).await;

    // None of that was drift: nobody's deployment had the object when others wrote. The next ones are.
    let (plan, baseline) = gateway.plan(&canary, &[1000, 10_000]).await.expect("a plan");
    let applied = gateway.apply(&intent(&canary, &plan, &baseline, 5, 1000)).await.expect("a step");
    let mut labelled = object("watched", json!({"hosts": ["watched"]}));
    labelled["metadata"]["labels"] = json!({"team": "a"});
    let stored = put(server, "argocd", &labelled).await;
    let drift = next(&mut stream).await;
    assert_eq!(row(&drift), ("watched".into(), "argocd".into(), false));
    assert_eq!(drift.resource_version, stored["metadata"]["resourceVersion"], "{drift:?}");
    assert_ne!(drift.resource_version, applied.objects[0].resource_version);
    put(server, "flux", &version("watched", "catalog")).await;
    assert_eq!(row(&next(&mut stream).await), ("watched".into(), "flux".into(), false));

    // Who comes later is told first what still stands.
    let mut late = watch(&gateway, &["watched"]).await;
    // Times of writes have seconds only, so who of this second was last cannot always be told any more.
    let (name, _, deleted) = row(&next(&mut late).await);
    assert_eq!((&*name, deleted), ("watched", false));
    ask(server, Method::DELETE, &format!("{VIRTUAL_SERVICES}/watched"), &Value::Null).await;
    for stream in [&mut stream, &mut late] {
        assert_eq!(row(&next(stream).await), ("watched".into(), "somebody".into(), true));
    }
    ends(world, gateway, server, stream).await;
}

/// How a stream ends: with its caller's deadline, and with the server.
async fn ends(world: &Alone, gateway: Gateway, server: &ApiServer, mut stream: Streaming<pb::WatchDriftResponse>) {
    let targets = vec![target(&object("watched", Value::Null))];
    let mut request = gateway.request(pb::WatchDriftRequest { targets: targets.clone() });
    request.metadata_mut().insert("grpc-timeout", "300m".parse().expect("a value"));
    let mut short = gateway.client.clone().watch_drift(request).await.expect("a stream").into_inner();
    let end = tokio::time::timeout(PATIENCE, short.message()).await.expect("it ends").expect_err("by the deadline");
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");

    let stranger = world.token_within(Role::Viewer, "elsewhere");
    let request = authorized(pb::WatchDriftRequest { targets: targets.clone() }, &stranger);
    refused(gateway.client.clone().watch_drift(request).await, Reason::RoleMissing);
    for targets in [Vec::new(), vec![targets[0].clone(); 101]] {
        let request = gateway.request(pb::WatchDriftRequest { targets });
        refused(gateway.client.clone().watch_drift(request).await, Reason::FieldInvalid);
    }
    over_http(world, &gateway, server).await;

    let stopping = tokio::spawn(gateway.stop());
    let end = tokio::time::timeout(PATIENCE, stream.message()).await.expect("it ends").expect_err("with the server");
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    tokio::time::timeout(PATIENCE, stopping).await.expect("the drain ends").expect("no panic");
}

/// The same as newline-delimited JSON.
async fn over_http(world: &Alone, gateway: &Gateway, server: &ApiServer) {
    put(server, "kubectl", &version("by-http", "checkout")).await;
    let canary = version("by-http", "checkout-next");
    let (plan, baseline) = gateway.plan(&canary, &[1000, 10_000]).await.expect("a plan");
    gateway.apply(&intent(&canary, &plan, &baseline, 1, 1000)).await.expect("a step");
    let wanted = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "namespace": "shop",
                        "name": "by-http", "mesh": "MESH_ISTIO"});
    let request =
        reqwest::Client::builder().no_proxy().build().expect("a client").post(gateway.url("/api/v1/drift/watch"));
    let request = request.bearer_auth(world.token(Role::Viewer)).json(&json!({"targets": [wanted]}));
    let mut reply = request.send().await.expect("an answer");
    assert!(reply.status().is_success(), "{reply:?}");
    put(server, "argocd", &version("by-http", "catalog")).await;
    let line = tokio::time::timeout(PATIENCE, reply.chunk()).await.expect("in time").expect("a line").expect("a line");
    let line: Value = serde_json::from_slice(&line).expect("JSON");
    let line = line.get("result").unwrap_or(&line);
    assert_eq!((&line["manager"], &line["deploymentId"]), (&json!("argocd"), &json!("d1")), "{line}");
}

/// A label or annotation by which a mesh goes is drift, with its field manager; any other is not.
pub async fn what_a_mesh_reads_of_annotations_is_drift(world: &Alone, server: &ApiServer) {
    let gateway = world.gateway(server.kubeconfig()).await;
    let policy = |path: &str| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
               "metadata": {"name": "enforced", "namespace": "shop"},
               "spec": {"selector": {"matchLabels": {"app": "enforced"}}, "action": "ALLOW",
                        "rules": [{"to": [{"operation": {"paths": [path]}}]}]}})
    };
    let path = format!("{POLICIES}/enforced");
    let before = apply_as(server, "kubectl", &path, &policy("/old")).await;
    let (canary, argocd) = (policy("/new"), |metadata: Value| {
        let mut object = policy("");
        object.as_object_mut().expect("an object").remove("spec");
        object["metadata"].as_object_mut().expect("metadata").extend(metadata.as_object().expect("a map").clone());
        object
    });
    let (plan, baseline) = gateway.plan_by(Mechanism::Request, &canary, &[1000, 10_000]).await.expect("a plan");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let applied = gateway.apply_phase(&at(1, 1000), 9).await.expect("a step");
    let mut books = json!({"labels": {"team": "a"}, "annotations": {"argocd.argoproj.io/tracking-id": "x"}});
    apply_as(server, "argocd", &path, &argocd(books.clone())).await;
    let proof = look(&gateway, &at(1, 1000), applied.objects.clone()).await;
    assert_ne!(proof.state(), pb::PropagationState::Drifted, "{proof:?}");

    books["annotations"]["istio.io/dry-run"] = "true".into();
    apply_as(server, "argocd", &path, &argocd(books)).await;
    let proof = look(&gateway, &at(1, 1000), applied.objects).await;
    assert_eq!((proof.state(), &*proof.drift_manager), (pb::PropagationState::Drifted, "argocd"), "{proof:?}");
    assert!(proof.message.contains("the annotation istio.io/dry-run"), "{}", proof.message);
    let (_, message) = refused(gateway.apply_phase(&at(2, 3000), 9).await, Reason::Drift);
    assert!(message.contains("istio.io/dry-run") && message.contains("argocd"), "{message}");
    gateway.restore_phase(&at(3, 0), 9).await.expect("the way back is open");
    let after = ask(server, Method::GET, &path, &Value::Null).await;
    assert_eq!(without_counters(&after), without_counters(&before));
    ask(server, Method::DELETE, &path, &Value::Null).await;
    gateway.stop().await;
}
