//! The RPCs: each parses, calls a use case, encodes.

mod convert;
mod watch;

use meshward_chassis::{auth::Identity, problem::Problem};
use meshward_proto::metrics::v1 as metrics;
use meshward_proto::rollout::v1::{
    AbortDeploymentRequest, AbortDeploymentResponse, CreateDeploymentRequest, CreateDeploymentResponse,
    ExplainVerdictRequest, ExplainVerdictResponse, GetDeploymentRequest, GetDeploymentResponse,
    ListDeploymentEventsRequest, ListDeploymentEventsResponse, ListDeploymentsRequest, ListDeploymentsResponse,
    PauseDeploymentRequest, PauseDeploymentResponse, PromoteDeploymentRequest, PromoteDeploymentResponse,
    ResumeDeploymentRequest, ResumeDeploymentResponse, RollbackDeploymentRequest, RollbackDeploymentResponse,
    WatchDeploymentRequest, rollout_orchestrator_service_server::RolloutOrchestratorService,
};
use meshward_store::{Repeat, page};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    app::{App, Create},
    decide::Command,
    deployment::Deployment,
    worker::Ports,
};

/// The service over gRPC.
#[derive(Clone)]
pub struct Grpc {
    app: App,
    ports: Ports,
    stop: CancellationToken,
}

impl Grpc {
    /// On the use cases; streams end when `stop` fires.
    #[must_use]
    pub fn new(app: App, ports: Ports, stop: CancellationToken) -> Self {
        Self { app, ports, stop }
    }

    async fn command<T>(
        &self,
        request: &Request<T>,
        (id, what, etag, reason): (&str, Command, &str, &str),
    ) -> Result<Deployment, Status> {
        let caller = Identity::of(request)?;
        Ok(self.app.command(caller, id, what, etag, reason).await?)
    }
}

fn page_size(asked: i32) -> Result<u32, Problem> {
    page::size(asked).map_err(|error| Problem::invalid_argument("page_size", error.to_string()))
}

fn cursor<C: serde::de::DeserializeOwned>(list: &str, token: &str) -> Result<Option<C>, Problem> {
    page::cursor(list, token).map_err(|error| Problem::invalid_argument("page_token", error.to_string()))
}

#[tonic::async_trait]
impl RolloutOrchestratorService for Grpc {
    async fn create_deployment(
        &self,
        request: Request<CreateDeploymentRequest>,
    ) -> Result<Response<CreateDeploymentResponse>, Status> {
        let caller = Identity::of(&request)?;
        let message = request.get_ref();
        let strategy = convert::strategy(message.strategy.clone())?;
        if message.policy_id.is_empty() {
            return Err(Problem::invalid_argument("policy_id", "is required").into());
        }
        if message.version < 0 {
            return Err(Problem::invalid_argument("version", "is 0 (the newest) or more").into());
        }
        let repeat = Repeat::new(&message.request_id, &caller.subject, "CreateDeployment", &message.encode_to_vec());
        let create = Create {
            policy_id: message.policy_id.clone(),
            version: message.version,
            strategy,
            validate_only: message.validate_only,
            repeat,
        };
        let deployment = self.app.create(caller, create).await?;
        Ok(Response::new(CreateDeploymentResponse { deployment: Some(convert::deployment(&deployment)) }))
    }

    async fn get_deployment(
        &self,
        request: Request<GetDeploymentRequest>,
    ) -> Result<Response<GetDeploymentResponse>, Status> {
        let deployment = self.app.get(Identity::of(&request)?, &request.get_ref().id).await?;
        Ok(Response::new(GetDeploymentResponse { deployment: Some(convert::deployment(&deployment)) }))
    }

    async fn list_deployments(
        &self,
        request: Request<ListDeploymentsRequest>,
    ) -> Result<Response<ListDeploymentsResponse>, Status> {
        let ListDeploymentsRequest { policy_id, page_token, .. } = request.get_ref();
        let size = page_size(request.get_ref().page_size)?;
        let list = format!("deployments/policy={policy_id}");
        let before: String = cursor(&list, page_token)?.unwrap_or_default();
        let rows = self.app.list(Identity::of(&request)?, policy_id, &before, size + 1).await?;
        let (rows, next_page_token) = page::cut(rows, size, &list, |deployment| deployment.id.clone());
        let deployments = rows.iter().map(convert::summary).collect();
        Ok(Response::new(ListDeploymentsResponse { deployments, next_page_token }))
    }

    async fn promote_deployment(
        &self,
        request: Request<PromoteDeploymentRequest>,
    ) -> Result<Response<PromoteDeploymentResponse>, Status> {
        let PromoteDeploymentRequest { id, etag, reason } = request.get_ref();
        let deployment = self.command(&request, (id, Command::Promote, etag, reason)).await?;
        Ok(Response::new(PromoteDeploymentResponse { deployment: Some(convert::deployment(&deployment)) }))
    }

    async fn rollback_deployment(
        &self,
        request: Request<RollbackDeploymentRequest>,
    ) -> Result<Response<RollbackDeploymentResponse>, Status> {
        let RollbackDeploymentRequest { id, etag, reason } = request.get_ref();
        let deployment = self.command(&request, (id, Command::Rollback, etag, reason)).await?;
        Ok(Response::new(RollbackDeploymentResponse { deployment: Some(convert::deployment(&deployment)) }))
    }

    async fn pause_deployment(
        &self,
        request: Request<PauseDeploymentRequest>,
    ) -> Result<Response<PauseDeploymentResponse>, Status> {
        let PauseDeploymentRequest { id, etag, reason } = request.get_ref();
        let deployment = self.command(&request, (id, Command::Pause, etag, reason)).await?;
        Ok(Response::new(PauseDeploymentResponse { deployment: Some(convert::deployment(&deployment)) }))
    }

    async fn resume_deployment(
        &self,
        request: Request<ResumeDeploymentRequest>,
    ) -> Result<Response<ResumeDeploymentResponse>, Status> {
        let ResumeDeploymentRequest { id, etag, reason } = request.get_ref();
        let deployment = self.command(&request, (id, Command::Resume, etag, reason)).await?;
        Ok(Response::new(ResumeDeploymentResponse { deployment: Some(convert::deployment(&deployment)) }))
    }

    async fn abort_deployment(
        &self,
        request: Request<AbortDeploymentRequest>,
    ) -> Result<Response<AbortDeploymentResponse>, Status> {
        let AbortDeploymentRequest { id, etag, reason } = request.get_ref();
        let deployment = self.command(&request, (id, Command::Abort, etag, reason)).await?;
        Ok(Response::new(AbortDeploymentResponse { deployment: Some(convert::deployment(&deployment)) }))
    }

    type WatchDeploymentStream = watch::Stream;

    async fn watch_deployment(
        &self,
        request: Request<WatchDeploymentRequest>,
    ) -> Result<Response<Self::WatchDeploymentStream>, Status> {
        let WatchDeploymentRequest { id, after_sequence } = request.get_ref();
        self.app.get(Identity::of(&request)?, id).await?;
        Ok(Response::new(watch::stream(self.ports.clone(), id.clone(), *after_sequence, self.stop.clone())))
    }

    async fn list_deployment_events(
        &self,
        request: Request<ListDeploymentEventsRequest>,
    ) -> Result<Response<ListDeploymentEventsResponse>, Status> {
        let ListDeploymentEventsRequest { id, page_token, .. } = request.get_ref();
        let size = page_size(request.get_ref().page_size)?;
        let list = format!("deployment-events/{id}");
        let after: i64 = cursor(&list, page_token)?.unwrap_or_default();
        let rows = self.app.events(Identity::of(&request)?, id, after, size + 1).await?;
        let (rows, next_page_token) = page::cut(rows, size, &list, |event| event.sequence);
        let events = rows.iter().map(|event| convert::event(id, event)).collect();
        Ok(Response::new(ListDeploymentEventsResponse { events, next_page_token }))
    }

    async fn explain_verdict(
        &self,
        request: Request<ExplainVerdictRequest>,
    ) -> Result<Response<ExplainVerdictResponse>, Status> {
        let caller = Identity::of(&request)?;
        let message = request.get_ref();
        let wanted = convert::wanted_verdict(message)?;
        let (told, kept) = self.app.explain(caller, &message.id, &wanted).await?;
        let explanation = told.as_slice();
        let explanation =
            metrics::ExplainVerdictResponse::decode(explanation).map_err(|error| Problem::internal(&error))?;
        let kept = kept.into_iter().map(convert::kept_verdict).collect();
        Ok(Response::new(ExplainVerdictResponse { explanation: Some(explanation), kept }))
    }
}
