//! The same over HTTP/JSON.

use meshward_chassis::{auth::Role, testing::Grant};
use meshward_proto::rollout::v1::DeploymentState;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Service;

async fn send(service: &Service, method: Method, path: &str, body: Option<Value>) -> reqwest::Response {
    let token = service.token(&Grant::new("alice", [Role::Developer]).within(["shop"]));
    let request = reqwest::Client::new().request(method, format!("{}{path}", service.server.url())).bearer_auth(token);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn a_deployment_over_http() {
    let service = Service::new().await;
    let strategy = json!({
        "kind": "STRATEGY_KIND_CANARY",
        "steps": [{"weightBp": 2500, "bakeTime": "5s"}, {"weightBp": 10000}],
        "analysisInterval": "1s",
    });
    let body = json!({"policyId": "p1", "strategy": strategy, "requestId": "5c1a"});
    let reply = send(&service, Method::POST, "/api/v1/deployments", Some(body)).await;
    assert_eq!(reply.status(), 200);
    let created: Value = reply.json().await.expect("JSON");
    let id = created["deployment"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(created["deployment"]["state"], "DEPLOYMENT_STATE_PENDING");

    service.until(&id, DeploymentState::Promoted).await;
    let one: Value =
        send(&service, Method::GET, &format!("/api/v1/deployments/{id}"), None).await.json().await.expect("JSON");
    assert_eq!(one["deployment"]["state"], "DEPLOYMENT_STATE_PROMOTED");
    assert_eq!(one["deployment"]["steps"][0]["observedShare"], json!(0.25));
    assert_eq!(one["deployment"]["steps"][1]["observedShare"], "NaN", "not judged");

    let reply = send(&service, Method::GET, &format!("/api/v1/deployments/{id}/watch?afterSequence=4"), None).await;
    assert_eq!(reply.headers()["content-type"], "application/x-ndjson");
    let text = reply.text().await.expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["event"]["type"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["step.live", "deployment.promoted"]);

    let events = send(&service, Method::GET, &format!("/api/v1/deployments/{id}/events?pageSize=2"), None).await;
    let events: Value = events.json().await.expect("JSON");
    assert_eq!(events["events"].as_array().map(Vec::len), Some(2));
    let why = send(&service, Method::GET, &format!("/api/v1/deployments/{id}/verdict?step=0"), None).await;
    let why: Value = why.json().await.expect("JSON");
    assert_eq!(
        (&why["explanation"]["deploymentId"], &why["kept"][0]["verdict"]),
        (&json!(id), &json!("VERDICT_HEALTHY"))
    );
    let refused = send(&service, Method::POST, &format!("/api/v1/deployments/{id}/abort"), Some(json!({}))).await;
    assert_eq!(refused.status(), 400, "FAILED_PRECONDITION: it has ended");
}
