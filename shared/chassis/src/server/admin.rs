//! The admin listener: `/metrics`, `/healthz`, `/readyz`.

use std::time::Duration;

use axum::{Json, Router, extract, response::IntoResponse, routing::get};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::Check;
use crate::telemetry::Metrics;

const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// What the probes look at.
#[derive(Clone)]
pub(super) struct State {
    pub(super) metrics: Metrics,
    pub(super) checks: Vec<(String, Check)>,
    pub(super) stopping: CancellationToken,
}

pub(super) fn spawn(listener: TcpListener, state: State) -> JoinHandle<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/readyz", get(ready))
        .with_state(state);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin listener failed");
        }
    })
}

async fn metrics(extract::State(state): extract::State<State>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], state.metrics.encode())
}

/// 200 with `{"status":"ready"}`, or 503 that names the failing checks and why.
async fn ready(extract::State(state): extract::State<State>) -> impl IntoResponse {
    let results = state.checks.iter().map(|(name, check)| async move {
        let result = tokio::time::timeout(CHECK_DEADLINE, check()).await;
        (name.clone(), result.unwrap_or_else(|_| Err(format!("no answer within {CHECK_DEADLINE:?}"))))
    });
    let results = futures::future::join_all(results).await;
    let mut failing: Map<String, Value> =
        results.into_iter().filter_map(|(name, result)| Some((name, result.err()?.into()))).collect();
    if state.stopping.is_cancelled() {
        failing.insert("shutdown".to_owned(), "the server is draining".into());
    }
    if failing.is_empty() {
        return (StatusCode::OK, Json(json!({"status": "ready"})));
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "failing": failing})))
}
