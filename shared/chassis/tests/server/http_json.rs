//! The HTTP/JSON API on the same port.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Steered, World};

async fn send(world: &World, method: Method, path: &str, body: Option<&str>) -> Response {
    let request =
        reqwest::Client::new().request(method, format!("{}{path}", world.server.url())).bearer_auth(world.token());
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_owned()),
        None => request,
    };
    request.send().await.expect("an answer")
}

async fn json_of(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn path_query_and_body_become_one_message() {
    let world = World::new().await;
    let (status, reply) = json_of(send(&world, Method::GET, "/api/v1/deployments/a%20b", None).await).await;
    assert_eq!((status, &reply["deployment"]["id"]), (200, &json!("a b")));
    assert_eq!(reply["deployment"]["weightBp"], json!(0), "zero values are shown");
    assert_eq!(reply["deployment"]["version"], json!("7"), "64-bit integers are strings");
    assert_eq!(reply["deployment"].get("strategy"), None, "messages that are not set are left out");

    let query = "/api/v1/deployments?policy_id=p&pageSize=3&page_token=a%26b";
    let (status, reply) = json_of(send(&world, Method::GET, query, None).await).await;
    assert_eq!((status, &reply["nextPageToken"]), (200, &json!("p 3 a&b")));

    let body = r#"{"policyId": "p", "version": "12", "validate_only": true}"#;
    let (status, reply) = json_of(send(&world, Method::POST, "/api/v1/deployments", Some(body)).await).await;
    assert_eq!((status, &reply["deployment"]["reason"]), (200, &json!("p 12 true")));
}

#[tokio::test]
async fn errors_are_json_with_details() {
    let world = World::new().await;
    let long = format!(r#"{{"policyId": "{}"}}"#, "x".repeat(5 << 20));
    let cases = [
        (Method::GET, "/api/v1/deployments/missing", None, 404, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        (Method::GET, "/api/v1/nothing", None, 404, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        (Method::GET, "/api/v1/deployments?nope=1", None, 400, "INVALID_ARGUMENT", "FIELD_INVALID"),
        (Method::GET, "/api/v1/deployments?pageSize=many", None, 400, "INVALID_ARGUMENT", "FIELD_INVALID"),
        (Method::POST, "/api/v1/deployments", Some("{"), 400, "INVALID_ARGUMENT", "FIELD_INVALID"),
        (Method::POST, "/api/v1/deployments", Some("[]"), 400, "INVALID_ARGUMENT", "FIELD_INVALID"),
        (Method::POST, "/api/v1/deployments", Some(r#"{"nope": 1}"#), 400, "INVALID_ARGUMENT", "FIELD_INVALID"),
        (Method::POST, "/api/v1/deployments", Some(long.as_str()), 413, "RESOURCE_EXHAUSTED", "TOO_LARGE"),
        (Method::POST, "/api/v1/deployments/d/promote", None, 403, "PERMISSION_DENIED", "ROLE_MISSING"),
        (Method::POST, "/api/v1/deployments/d/rollback", Some("{}"), 501, "UNIMPLEMENTED", "NOT_IMPLEMENTED"),
    ];
    for (method, path, body, status, code, reason) in cases {
        let (got, error) = json_of(send(&world, method, path, body).await).await;
        assert_eq!((got, error["status"].as_str()), (status, Some(code)), "{path}: {error}");
        let details = error["details"].as_array().expect("details");
        assert!(details.iter().any(|detail| detail["reason"] == json!(reason)), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let world = World::new().await;
    let reply = send(&world, Method::PATCH, "/api/v1/deployments", None).await;
    assert_eq!(reply.headers()["allow"], "GET, POST");
    assert_eq!(reply.status(), 405);
}

#[tokio::test]
async fn no_token_gets_a_challenge() {
    let world = World::new().await;
    let reply = reqwest::get(format!("{}/api/v1/deployments", world.server.url())).await.expect("an answer");
    assert_eq!(reply.headers()["www-authenticate"], "Bearer realm=\"meshward\"");
    assert_eq!(reply.status(), 401);
}

#[tokio::test]
async fn streams_are_lines() {
    let world = World::new().await;
    let reply = send(&world, Method::GET, "/api/v1/deployments/d/watch", None).await;
    assert_eq!(reply.headers()["content-type"], "application/x-ndjson");
    let text = reply.text().await.expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let sequences: Vec<&Value> = lines.iter().map(|line| &line["event"]["sequence"]).collect();
    assert_eq!(sequences, [&json!("1"), &json!("2")]);

    let reply = send(&world, Method::GET, "/api/v1/deployments/breaks/watch", None).await;
    let text = reply.text().await.expect("text");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["error"]["status"], json!("ABORTED"));
}

#[tokio::test]
async fn streams_can_be_events_and_arrive_while_they_happen() {
    let world = World::with(|_| {}, Steered::default()).await;
    let request = reqwest::Client::new().get(format!("{}/api/v1/deployments/endless/watch", world.server.url()));
    let mut reply =
        request.bearer_auth(world.token()).header("accept", "text/event-stream").send().await.expect("an answer");
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while text.matches("event: message\n").count() < 2 {
        let chunk =
            tokio::time::timeout(crate::support::PATIENCE, reply.chunk()).await.expect("in time").expect("no error");
        text.push_str(std::str::from_utf8(&chunk.expect("the stream goes on")).expect("UTF-8"));
    }
    assert!(text.starts_with("event: message\ndata: {"), "{text}");
    drop(reply);
    world.counted_once("WatchDeployment", "CANCELLED").await;
}
