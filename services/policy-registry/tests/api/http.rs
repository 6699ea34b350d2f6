//! A few calls over HTTP/JSON: the same methods on the same port.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, route};

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
}
