//! The mesh-gateway of these tests, and what their other peers share with it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use meshward_proto::gateway::v1::{
    self as gateway, DryRunApplyRequest, DryRunApplyResponse, mesh_gateway_service_server::MeshGatewayService,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::server::{Router, TcpIncoming},
};

/// A mesh-gateway that gives one answer and remembers what it was asked, and with which token.
#[derive(Clone, Default)]
pub struct FakeGateway {
    pub answer: Arc<Mutex<Option<Result<DryRunApplyResponse, Status>>>>,
    pub asked: Arc<Mutex<Vec<(DryRunApplyRequest, String)>>>,
    /// What is live in its cluster; none: it cannot be reached.
    pub live: Arc<Mutex<Option<Vec<Value>>>>,
    /// What it was asked to list.
    pub listed: Arc<Mutex<Vec<gateway::ListObjectsRequest>>>,
}

/// The answer to what the validator asks of nobody.
pub type Unused<T> = Result<Response<T>, Status>;

pub fn unused<T>() -> Unused<T> {
    Err(Status::unimplemented("the validator does not ask for this"))
}

/// What was asked, and with which token.
pub fn heard<T>(request: Request<T>) -> (T, String) {
    let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = token.to_owned();
    (request.into_inner(), token)
}

/// Serves a peer on a port of its own.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    addr
}

#[tonic::async_trait]
impl MeshGatewayService for FakeGateway {
    type WatchDriftStream = tokio_stream::Empty<Result<gateway::WatchDriftResponse, Status>>;

    async fn dry_run_apply(&self, request: Request<DryRunApplyRequest>) -> Unused<DryRunApplyResponse> {
        self.asked.lock().unwrap().push(heard(request));
        let answer = self.answer.lock().unwrap().clone();
        answer.expect("the test sets an answer").map(Response::new)
    }

    async fn plan_exposure(&self, _: Request<gateway::PlanExposureRequest>) -> Unused<gateway::PlanExposureResponse> {
        unused()
    }

    async fn apply_exposure(
        &self,
        _: Request<gateway::ApplyExposureRequest>,
    ) -> Unused<gateway::ApplyExposureResponse> {
        unused()
    }

    async fn verify_exposure(
        &self,
        _: Request<gateway::VerifyExposureRequest>,
    ) -> Unused<gateway::VerifyExposureResponse> {
        unused()
    }

    async fn restore_baseline(
        &self,
        _: Request<gateway::RestoreBaselineRequest>,
    ) -> Unused<gateway::RestoreBaselineResponse> {
        unused()
    }

    async fn list_objects(
        &self,
        request: Request<gateway::ListObjectsRequest>,
    ) -> Unused<gateway::ListObjectsResponse> {
        let request = request.into_inner();
        self.listed.lock().unwrap().push(request.clone());
        let mut live = self.live.lock().unwrap().clone().ok_or_else(|| Status::unavailable("no cluster is set"))?;
        let is_here =
            |object: &Value| request.namespace.is_empty() || object["metadata"]["namespace"] == *request.namespace;
        live.retain(|object| {
            object["kind"] == *request.kind && object["apiVersion"] == *request.api_version && is_here(object)
        });
        let served = !live.is_empty();
        let from: usize = request.page_token.parse().unwrap_or_default();
        let next = if from + 1 < live.len() { (from + 1).to_string() } else { String::new() };
        // Pages of one object.
        let objects_json = live.get(from).into_iter().map(ToString::to_string).collect();
        Ok(Response::new(gateway::ListObjectsResponse { objects_json, next_page_token: next, served }))
    }

    async fn get_object(&self, _: Request<gateway::GetObjectRequest>) -> Unused<gateway::GetObjectResponse> {
        unused()
    }

    async fn list_instances(
        &self,
        _: Request<gateway::ListInstancesRequest>,
    ) -> Unused<gateway::ListInstancesResponse> {
        unused()
    }

    async fn watch_drift(&self, _: Request<gateway::WatchDriftRequest>) -> Unused<Self::WatchDriftStream> {
        unused()
    }

    async fn list_clusters(&self, _: Request<gateway::ListClustersRequest>) -> Unused<gateway::ListClustersResponse> {
        unused()
    }
}
