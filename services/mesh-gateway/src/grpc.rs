//! The wire: parse, check the caller, call, encode.

mod convert;
mod drift;

use std::time::Duration;

use meshward_chassis::{
    auth::{Identity, Role},
    problem::Problem,
};
use meshward_model::ExposureIntent;
use meshward_proto::{ConvertError, gateway::v1 as pb, types::v1::ErrorReason};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{app::Gateway, apply::Outcome, error::Error, objects, proof::Patience};

/// Longest time that a verification may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A verification answers this long before its call would be cut off.
const ANSWER_MARGIN: Duration = Duration::from_millis(1500);

/// The namespace of a token that is good for all.
const EVERYWHERE: &str = "*";

/// The gRPC service.
pub struct Service {
    gateway: Gateway,
    request_timeout: Duration,
    stop: CancellationToken,
}

impl Service {
    /// `request_timeout` is when the server cuts a call off; verifications answer before. Streams end with `stop`.
    #[must_use]
    pub fn new(gateway: Gateway, request_timeout: Duration, stop: CancellationToken) -> Self {
        Self { gateway, request_timeout, stop }
    }
}

type Reply<T> = Result<Response<T>, Status>;

fn status(error: impl Into<Error>) -> Status {
    Problem::from(error.into()).into()
}

/// Demands a role in the namespace.
fn require<T>(request: &Request<T>, role: Role, namespace: &str) -> Result<(), Status> {
    Ok(Identity::of(request)?.require(role, namespace)?)
}

/// Demands a role in some namespace.
fn require_anywhere<T>(request: &Request<T>, role: Role) -> Result<(), Status> {
    let identity = Identity::of(request)?;
    if identity.roles.iter().any(|held| held.includes(role)) {
        return Ok(());
    }
    let message = format!("{} lacks the role {:?}", identity.subject, role.name());
    Err(Problem::permission_denied(ErrorReason::RoleMissing, message).metadata("role", role.name()).into())
}

/// The intent of a write, after the caller was checked.
fn intent<T>(request: &Request<T>, intent: Option<&pb::ExposureIntent>) -> Result<ExposureIntent, Status> {
    let intent = convert::intent(intent).map_err(status)?;
    require(request, Role::Service, &intent.target.namespace)?;
    Ok(intent)
}

fn phase(number: i32) -> Result<u32, Status> {
    u32::try_from(number).map_err(|_| status(ConvertError::new("phase", "is 0 or more")))
}

#[tonic::async_trait]
impl pb::mesh_gateway_service_server::MeshGatewayService for Service {
    async fn plan_exposure(&self, request: Request<pb::PlanExposureRequest>) -> Reply<pb::PlanExposureResponse> {
        let plan = convert::plan(request.get_ref()).map_err(status)?;
        let convert::Plan { target, canary, weights, wanted, audience } = plan;
        require(&request, Role::Viewer, &target.namespace)?;
        let (plan, baseline) =
            self.gateway.plan_for(&audience, &target, &canary, &weights, wanted).await.map_err(status)?;
        Ok(Response::new(pb::PlanExposureResponse { plan: Some(plan.into()), baseline: Some(baseline.into()) }))
    }

    async fn apply_exposure(&self, request: Request<pb::ApplyExposureRequest>) -> Reply<pb::ApplyExposureResponse> {
        let intent = intent(&request, request.get_ref().intent.as_ref())?;
        let outcome = self.gateway.expose(&intent, phase(request.get_ref().phase)?).await.map_err(status)?;
        let Outcome { objects, writes, pods_moved, more } = outcome;
        let objects = objects.into_iter().map(Into::into).collect();
        let (writes, pods_moved) = (convert::count(writes), convert::count(pods_moved));
        Ok(Response::new(pb::ApplyExposureResponse { objects, writes, more, pods_moved }))
    }

    async fn verify_exposure(&self, request: Request<pb::VerifyExposureRequest>) -> Reply<pb::VerifyExposureResponse> {
        let intent = intent(&request, request.get_ref().intent.as_ref())?;
        let (objects, patience) = convert::verification(request.get_ref()).map_err(status)?;
        let cut_off = convert::deadline(request.metadata()).unwrap_or(self.request_timeout).min(self.request_timeout);
        let timeout = patience.timeout.min(LONGEST_WAIT).min(cut_off.saturating_sub(ANSWER_MARGIN));
        let patience = Patience { timeout, ..patience };
        let proof = self.gateway.verify(&intent, &objects, patience).await.map_err(status)?;
        Ok(Response::new(pb::VerifyExposureResponse { proof: Some(proof.into()) }))
    }

    async fn restore_baseline(
        &self,
        request: Request<pb::RestoreBaselineRequest>,
    ) -> Reply<pb::RestoreBaselineResponse> {
        let intent = intent(&request, request.get_ref().intent.as_ref())?;
        let outcome = self.gateway.restore(&intent, phase(request.get_ref().phase)?).await.map_err(status)?;
        let Outcome { objects, writes, pods_moved, more } = outcome;
        let objects = objects.into_iter().map(Into::into).collect();
        let (writes, pods_moved) = (convert::count(writes), convert::count(pods_moved));
        Ok(Response::new(pb::RestoreBaselineResponse { objects, writes, more, pods_moved }))
    }

    async fn dry_run_apply(&self, request: Request<pb::DryRunApplyRequest>) -> Reply<pb::DryRunApplyResponse> {
        let (target, object) = convert::dry_run(request.get_ref()).map_err(status)?;
        require(&request, Role::Viewer, &target.namespace)?;
        let answer = self.gateway.dry_run(&target, &object).await.map_err(status)?;
        let admitted = answer.refusal.is_none();
        let (refused_by, message) = answer.refusal.unwrap_or_default();
        let (refused_by, warnings) = (refused_by.to_owned(), answer.warnings);
        Ok(Response::new(pb::DryRunApplyResponse { admitted, refused_by, message, warnings }))
    }

    async fn get_object(&self, request: Request<pb::GetObjectRequest>) -> Reply<pb::GetObjectResponse> {
        let target = convert::target(request.get_ref().target.as_ref()).map_err(status)?;
        require(&request, Role::Viewer, &target.namespace)?;
        let object = self.gateway.get(&target).await.map_err(status)?;
        Ok(Response::new(pb::GetObjectResponse { object_json: object.to_string() }))
    }

    async fn list_objects(&self, request: Request<pb::ListObjectsRequest>) -> Reply<pb::ListObjectsResponse> {
        let wanted = convert::objects(request.get_ref()).map_err(status)?;
        if objects::is_definition(wanted.api_version, wanted.kind) {
            require_anywhere(&request, Role::Viewer)?;
        } else {
            require(&request, Role::Viewer, wanted.namespace.unwrap_or(EVERYWHERE))?;
        }
        let page = self.gateway.objects(&request.get_ref().cluster, wanted).await.map_err(status)?;
        let objects::Page { objects, next: next_page_token, served } = page;
        let objects_json = objects.iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::ListObjectsResponse { objects_json, next_page_token, served }))
    }

    async fn list_instances(&self, request: Request<pb::ListInstancesRequest>) -> Reply<pb::ListInstancesResponse> {
        let wanted = convert::instances(request.get_ref()).map_err(status)?;
        require(&request, Role::Viewer, wanted.namespace)?;
        let page = self.gateway.instances(&request.get_ref().cluster, wanted).await;
        let (instances, next_page_token) = page.map_err(status)?;
        let instances = instances.into_iter().map(convert::instance).collect();
        Ok(Response::new(pb::ListInstancesResponse { instances, next_page_token }))
    }

    type WatchDriftStream = drift::Stream;

    async fn watch_drift(&self, request: Request<pb::WatchDriftRequest>) -> Reply<Self::WatchDriftStream> {
        let targets = convert::drift(request.get_ref()).map_err(status)?;
        for target in &targets {
            require(&request, Role::Viewer, &target.namespace)?;
        }
        let limit = convert::deadline(request.metadata());
        let drifts = self.gateway.watch_drift(targets).await.map_err(status)?;
        Ok(Response::new(drift::stream(drifts, limit, self.stop.clone())))
    }

    async fn list_clusters(&self, request: Request<pb::ListClustersRequest>) -> Reply<pb::ListClustersResponse> {
        require_anywhere(&request, Role::Viewer)?;
        let clusters = self.gateway.clusters().await.into_iter().map(|cluster| pb::Cluster {
            name: cluster.name,
            reachable: cluster.version.is_ok(),
            problem: cluster.version.as_ref().err().cloned().unwrap_or_default(),
            version: cluster.version.unwrap_or_default(),
        });
        Ok(Response::new(pb::ListClustersResponse { clusters: clusters.collect() }))
    }
}
