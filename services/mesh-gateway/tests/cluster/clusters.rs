//! Several clusters by name, on real API servers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use meshward_local::stack::ApiServer;
use meshward_proto::{gateway::v1 as pb, types::v1::ErrorReason as Reason};
use serde_json::{Value, json};
use tonic::Status;

use super::{
    alone::{Alone, Log, account, allow, apply_as, ask, eventually, kubeconfig},
    world::{Gateway, object, refused, target},
};

const SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";

async fn get(gateway: &Gateway, cluster: &str) -> Result<Value, Status> {
    let mut target = target(&object("same-name", Value::Null));
    target.cluster = cluster.to_owned();
    let request = gateway.request(pb::GetObjectRequest { target: Some(target) });
    let reply = gateway.client.clone().get_object(request).await?.into_inner();
    Ok(serde_json::from_str(&reply.object_json).expect("JSON"))
}

async fn state(gateway: &Gateway, cluster: &str) -> Option<pb::Cluster> {
    let request = gateway.request(pb::ListClustersRequest {});
    let clusters = gateway.client.clone().list_clusters(request).await.expect("an answer").into_inner().clusters;
    clusters.into_iter().find(|state| state.name == cluster)
}

fn secret(name: &str, cluster: &str, kubeconfig: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret",
           "metadata": {"name": name, "labels": {"meshward.io/cluster": cluster}},
           "data": {"kubeconfig": STANDARD.encode(kubeconfig.to_string())}})
}

async fn put_secret(home: &ApiServer, secret: &Value) {
    let name = secret["metadata"]["name"].as_str().expect("a name");
    apply_as(home, "kubectl", &format!("{SECRETS}/{name}"), secret).await;
}

pub async fn each_name_is_a_cluster_of_its_own(world: &Alone, log: &Log, a: &ApiServer, b: &ApiServer) {
    for (server, host) in [(a, "in-a"), (b, "in-b")] {
        let path = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/same-name";
        apply_as(server, "kubectl", path, &object("same-name", json!({"hosts": [host]}))).await;
    }
    let down = world.file("down.kubeconfig", &kubeconfig(a, Some("https://127.0.0.1:9"), None).to_string());
    let secret_of_south = json!({"namespace": "istio-system", "name": "south"});
    let gateway = world
        .gateway_of_file(&json!({
            "clusters": [{"name": "east", "kubeconfig": {"file": a.kubeconfig(), "context": "local"}},
                         {"name": "down", "kubeconfig": {"file": down}},
                         {"name": "south", "secret": secret_of_south}],
            "secretsIn": "istio-system",
        }))
        .await;
    let east = state(&gateway, "east").await.expect("it is in the file");
    assert!(east.reachable && east.version.starts_with('v') && east.problem.is_empty(), "{east:?}");
    let dead = state(&gateway, "down").await.expect("it is in the file");
    assert!(!dead.reachable && dead.version.is_empty() && !dead.problem.is_empty(), "{dead:?}");
    refused(get(&gateway, "down").await, Reason::ClusterUnreachable);
    let default = get(&gateway, "").await.expect("the first one is the default one");
    assert_eq!(default["spec"]["hosts"], json!(["in-a"]));
    let (_, message) = refused(get(&gateway, "west").await, Reason::ClusterUnknown);
    assert!(message.contains("known: down, east, south"), "{message}");
    eventually("south lacks its Secret", || async {
        state(&gateway, "south").await.filter(|south| south.problem == "its Secret does not exist")
    })
    .await;

    come_change_and_go(&gateway, a, b).await;
    foreign_secrets(&gateway, a, b).await;

    let token = kubeconfig(b, None, None)["users"][0]["user"]["token"].as_str().expect("a token").to_owned();
    let text = log.text();
    assert!(text.contains("the cluster is as its Secret says"), "the log is captured");
    assert!(!text.contains(&token) && !text.contains("hush"), "a credential is in the log");
    gateway.stop().await;
}

/// Secrets make a cluster, give it other rights, and take it away, while the gateway runs.
async fn come_change_and_go(gateway: &Gateway, a: &ApiServer, b: &ApiServer) {
    put_secret(a, &secret("b-admin", "west", &kubeconfig(b, None, None))).await;
    let west = eventually("west is known", || async { get(gateway, "west").await.ok() }).await;
    assert_eq!(west["spec"]["hosts"], json!(["in-b"]));
    let mut south = secret("south", "unlabelled", &kubeconfig(b, None, None));
    south["metadata"]["labels"] = Value::Null;
    put_secret(a, &south).await;
    eventually("south is reached", || async { get(gateway, "south").await.ok() }).await;

    let token = account(b, "limited").await;
    put_secret(a, &secret("b-admin", "west", &kubeconfig(b, None, Some(&token)))).await;
    let (metadata, _) = eventually("west has lost its rights", || async {
        get(gateway, "west").await.err().map(|status| refused::<()>(Err(status), Reason::ClusterForbidden))
    })
    .await;
    assert_eq!(&*metadata["verb"], "get");
    let rule = json!([{"apiGroups": ["networking.istio.io"], "resources": ["virtualservices"], "verbs": ["get"]}]);
    allow(b, "limited", &rule).await;
    eventually("west may read", || async { get(gateway, "west").await.ok() }).await;
    get(gateway, "east").await.expect("the others are as before");

    for name in ["b-admin", "south"] {
        ask(a, Method::DELETE, &format!("{SECRETS}/{name}"), &Value::Null).await;
    }
    eventually("west is gone", || async { state(gateway, "west").await.is_none().then_some(()) }).await;
    refused(get(gateway, "west").await, Reason::ClusterUnknown);
    eventually("south is known, but lost", || async { get(gateway, "south").await.err() }).await;
}

/// Names that are taken, kubeconfigs that would run a program here, and what is none.
async fn foreign_secrets(gateway: &Gateway, a: &ApiServer, b: &ApiServer) {
    let mut runs = kubeconfig(b, None, Some("hush"));
    runs["users"][0]["user"] = json!({"exec": {"command": "hush", "apiVersion": "client.authentication.k8s.io/v1"}});
    put_secret(a, &secret("runs", "runs", &runs)).await;
    put_secret(a, &secret("none", "none", &json!("hush"))).await;
    put_secret(a, &secret("taken", "east", &kubeconfig(b, None, None))).await;
    // Each is read after the one before: when the last is known, so are the others.
    put_secret(a, &secret("z-last", "last", &kubeconfig(b, None, None))).await;
    eventually("the last one is known", || async { state(gateway, "last").await }).await;
    let problem = state(gateway, "runs").await.expect("it is known").problem;
    assert!(problem.contains("\"exec\"") && !problem.contains("hush"), "{problem}");
    let problem = state(gateway, "none").await.expect("it is known").problem;
    assert!(problem.contains("no kubeconfig") && !problem.contains("hush"), "{problem}");
    assert_eq!(get(gateway, "east").await.expect("it is the file's")["spec"]["hosts"], json!(["in-a"]));
}
