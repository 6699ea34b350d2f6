//! The mesh-gateway of these tests.

use std::sync::{Arc, Mutex};

use meshward_proto::gateway::v1::{
    self as gateway, DryRunApplyRequest, DryRunApplyResponse, mesh_gateway_service_server::MeshGatewayService,
};
use serde_json::Value;
use tonic::{Request, Response, Status};

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

type Unused<T> = Result<Response<T>, Status>;

fn unused<T>() -> Unused<T> {
    Err(Status::unimplemented("the validator asks for dry runs and lists only"))
}

#[tonic::async_trait]
impl MeshGatewayService for FakeGateway {
    type WatchDriftStream = tokio_stream::Empty<Result<gateway::WatchDriftResponse, Status>>;

    async fn dry_run_apply(&self, request: Request<DryRunApplyRequest>) -> Unused<DryRunApplyResponse> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = token.to_owned();
        self.asked.lock().unwrap().push((request.into_inner(), token));
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
