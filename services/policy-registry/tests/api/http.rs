//! A few calls over HTTP/JSON: the same methods on the same port.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{PATIENCE, World, route};

async fn send(world: &World, who: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = reqwest::Client::new().request(method, format!("{}{path}", world.registry.url()));
    let answer = request.bearer_auth(world.token(who)).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_policy_is_made_approved_and_read_with_curl() {
    let world = World::new().await;
    let body = json!({"yaml": route("checkout", 1), "changeNote": "first"});
    let (status, made) = send(&world, "alice", Method::POST, "/api/v1/policies", body.clone()).await;
    assert_eq!((status, &made["version"]["state"]), (200, &json!("VERSION_STATE_DRAFT")), "{made}");
    let id = made["policy"]["id"].as_str().unwrap();

    let (status, error) = send(&world, "alice", Method::POST, "/api/v1/policies", body).await;
    assert_eq!((status, &error["status"]), (409, &json!("ALREADY_EXISTS")), "{error}");
    let path = format!("/api/v1/policies/{id}");
    let (status, _) = send(&world, "alice", Method::POST, &format!("{path}/submit"), json!({})).await;
    assert_eq!(status, 200);
    let approve = json!({"digest": made["version"]["digest"]});
    let (status, approved) = send(&world, "bob", Method::POST, &format!("{path}/approve"), approve).await;
    assert_eq!((status, &approved["version"]["state"]), (200, &json!("VERSION_STATE_APPROVED")), "{approved}");
    let answer = reqwest::Client::new().get(format!("{}{path}/versions/1", world.registry.url()));
    let read: Value = answer.bearer_auth(world.token("vera")).send().await.unwrap().json().await.unwrap();
    assert_eq!(read["version"], approved["version"]);
    assert_eq!(read["version"]["approvals"][0]["approver"], json!("bob"));
    let answer = reqwest::Client::new().get(format!("{}/api/v1/policies/effective", world.registry.url()));
    let listed: Value = answer.bearer_auth(world.token("vera")).send().await.unwrap().json().await.unwrap();
    assert_eq!(listed["versions"][0]["policyId"], json!(id), "\"effective\" is not taken for an id: {listed}");
}

#[tokio::test]
async fn the_trail_can_be_watched_with_curl() {
    let world = World::new().await;
    world.created("checkout").await;
    let answer = reqwest::Client::new().get(format!("{}/api/v1/policies/watch?afterSequence=1", world.registry.url()));
    let mut answer = answer.bearer_auth(world.token("vera")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "\"watch\" is not taken for an id");
    let first = timeout(PATIENCE, answer.chunk()).await.expect("in time").unwrap().expect("an event");
    let first = String::from_utf8(first.to_vec()).unwrap();
    assert!(first.contains("version.created"), "{first}");
}

#[tokio::test]
async fn what_was_stored_is_counted() {
    let world = World::with(&["--admin-listen=127.0.0.1:0"]).await;
    let (policy, draft) = world.created("checkout").await;
    world.approved(&draft).await;
    world.updated(&policy, route("checkout", 2)).await;
    let url = format!("http://{}/metrics", world.registry.admin_addr.unwrap());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    for (metric, count) in [
        ("meshward_policies_created_total", 1),
        ("meshward_policy_versions_created_total", 2),
        ("meshward_policy_versions_submitted_total", 1),
        ("meshward_policy_approvals_total", 1),
        ("meshward_policy_versions_rejected_total", 0),
    ] {
        assert!(text.contains(&format!("\n{metric} {count}\n")), "{metric}: {text}");
    }
}
