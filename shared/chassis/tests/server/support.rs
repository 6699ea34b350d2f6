//! A small service of the contract whose answers the tests steer by the deployment id.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use meshward_chassis::{
    auth::{Identity, Role},
    client::{self, PeerChannel},
    problem::Problem,
    server::{Server, ServerArgs},
    telemetry::{self, TelemetryArgs},
    testing::{Grant, Running, TestIssuer, spawn},
};
use meshward_proto::rollout::v1::{
    rollout_orchestrator_service_client::RolloutOrchestratorServiceClient as Client,
    rollout_orchestrator_service_server::{RolloutOrchestratorService, RolloutOrchestratorServiceServer},
    *,
};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Behaves as the id in the request says.
#[derive(Default, Clone)]
pub struct Steered {
    pub entered: Arc<Notify>,
    pub release: Arc<Notify>,
    pub peer: Option<PeerChannel>,
}

fn deployment(id: &str, reason: &str) -> Option<Deployment> {
    Some(Deployment { id: id.to_owned(), reason: reason.to_owned(), version: 7, ..Default::default() })
}

fn event(sequence: i64) -> Result<WatchDeploymentResponse, Status> {
    let event = DeploymentEvent { sequence, r#type: "step.live".to_owned(), ..Default::default() };
    Ok(WatchDeploymentResponse { event: Some(event), deployment: None })
}

impl Steered {
    async fn relay(&self, request: Request<GetDeploymentRequest>) -> Result<Option<Deployment>, Status> {
        let peer = self.peer.clone().expect("this server has a peer");
        let mut onward = client::with_deadline(Request::new(GetDeploymentRequest { id: "trace".to_owned() }), PATIENCE);
        client::forward_bearer(&request, &mut onward);
        Ok(Client::new(peer).get_deployment(onward).await?.into_inner().deployment)
    }
}

#[tonic::async_trait]
impl RolloutOrchestratorService for Steered {
    type WatchDeploymentStream = Pin<Box<dyn Stream<Item = Result<WatchDeploymentResponse, Status>> + Send>>;

    async fn get_deployment(
        &self,
        request: Request<GetDeploymentRequest>,
    ) -> Result<Response<GetDeploymentResponse>, Status> {
        let id = request.get_ref().id.clone();
        let deployment = match id.as_str() {
            "missing" => return Err(Problem::not_found("deployment", &id).into()),
            "panic" => panic!("a secret detail"),
            "never" => std::future::pending().await,
            "hold" => {
                self.entered.notify_one();
                self.release.notified().await;
                deployment(&id, "released")
            }
            "whoami" => deployment(&id, &Identity::of(&request)?.subject),
            "trace" => deployment(&id, &telemetry::current_traceparent().unwrap_or_default()),
            "relay" => self.relay(request).await?,
            _ => deployment(&id, ""),
        };
        Ok(Response::new(GetDeploymentResponse { deployment }))
    }

    async fn list_deployments(
        &self,
        request: Request<ListDeploymentsRequest>,
    ) -> Result<Response<ListDeploymentsResponse>, Status> {
        let asked = request.into_inner();
        let next_page_token = format!("{} {} {}", asked.policy_id, asked.page_size, asked.page_token);
        Ok(Response::new(ListDeploymentsResponse { deployments: Vec::new(), next_page_token }))
    }

    async fn create_deployment(
        &self,
        request: Request<CreateDeploymentRequest>,
    ) -> Result<Response<CreateDeploymentResponse>, Status> {
        let asked = request.into_inner();
        let reason = format!("{} {} {}", asked.policy_id, asked.version, asked.validate_only);
        Ok(Response::new(CreateDeploymentResponse { deployment: deployment("new", &reason) }))
    }

    async fn promote_deployment(
        &self,
        request: Request<PromoteDeploymentRequest>,
    ) -> Result<Response<PromoteDeploymentResponse>, Status> {
        Identity::of(&request)?.require(Role::Admin, "shop")?;
        let asked = request.into_inner();
        Ok(Response::new(PromoteDeploymentResponse { deployment: deployment(&asked.id, &asked.reason) }))
    }

    async fn watch_deployment(
        &self,
        request: Request<WatchDeploymentRequest>,
    ) -> Result<Response<Self::WatchDeploymentStream>, Status> {
        let events = stream::iter([event(1), event(2)]);
        Ok(Response::new(match request.get_ref().id.as_str() {
            "breaks" => events.chain(stream::iter([Err(Problem::aborted("late").into())])).boxed(),
            "endless" => events.chain(stream::pending()).boxed(),
            _ => events.boxed(),
        }))
    }

    async fn explain_verdict(
        &self,
        _: Request<ExplainVerdictRequest>,
    ) -> Result<Response<ExplainVerdictResponse>, Status> {
        Err(Problem::unimplemented("ExplainVerdict").into())
    }

    async fn rollback_deployment(
        &self,
        _: Request<RollbackDeploymentRequest>,
    ) -> Result<Response<RollbackDeploymentResponse>, Status> {
        Err(Problem::unimplemented("RollbackDeployment").into())
    }

    async fn pause_deployment(
        &self,
        _: Request<PauseDeploymentRequest>,
    ) -> Result<Response<PauseDeploymentResponse>, Status> {
        Err(Problem::unimplemented("PauseDeployment").into())
    }

    async fn resume_deployment(
        &self,
        _: Request<ResumeDeploymentRequest>,
    ) -> Result<Response<ResumeDeploymentResponse>, Status> {
        Err(Problem::unimplemented("ResumeDeployment").into())
    }

    async fn abort_deployment(
        &self,
        _: Request<AbortDeploymentRequest>,
    ) -> Result<Response<AbortDeploymentResponse>, Status> {
        Err(Problem::unimplemented("AbortDeployment").into())
    }

    async fn list_deployment_events(
        &self,
        _: Request<ListDeploymentEventsRequest>,
    ) -> Result<Response<ListDeploymentEventsResponse>, Status> {
        Err(Problem::unimplemented("ListDeploymentEvents").into())
    }
}

/// A running server with its issuer.
pub struct World {
    pub issuer: TestIssuer,
    pub server: Running,
    pub service: Steered,
    _dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}, Steered::default()).await
    }

    pub async fn with(change: impl FnOnce(&mut ServerArgs), service: Steered) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let issuer = TestIssuer::new(dir.path()).expect("an issuer");
        Self { server: serve(&issuer, change, service.clone()).await, issuer, service, _dir: dir }
    }

    pub fn token(&self) -> String {
        self.issuer.mint(&Grant::new("alice", [Role::Viewer]))
    }

    pub fn client(&self) -> Client<PeerChannel> {
        Client::new(client::connect_lazy(&self.server.url()).expect("an endpoint"))
    }

    /// A request with the viewer's token.
    pub fn get(&self, id: &str) -> Request<GetDeploymentRequest> {
        self.authorized(GetDeploymentRequest { id: id.to_owned() })
    }

    pub fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        client::bearer(&mut request, &self.token()).expect("a token fits into a header");
        request
    }

    /// The body of a GET on the admin listener, with its status.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let addr = self.server.admin_addr.expect("an admin listener");
        let reply = reqwest::get(format!("http://{addr}{path}")).await.expect("an answer");
        (reply.status().as_u16(), reply.text().await.expect("text"))
    }

    /// Waits until /metrics counts one call of the method that ended so.
    pub async fn counted_once(&self, method: &str, code: &str) {
        let service = "meshward.rollout.v1.RolloutOrchestratorService";
        let labels = format!("service=\"{service}\",method=\"{method}\",code=\"{code}\"");
        let line = format!("meshward_rpc_requests_total{{{labels}}} 1");
        let found = async {
            while !self.admin("/metrics").await.1.lines().any(|found| found == line) {
                tokio::task::yield_now().await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, found).await;
        assert!(outcome.is_ok(), "{line} is not in\n{}", self.admin("/metrics").await.1);
    }
}

/// Serves `service`, trusting `issuer`.
pub async fn serve(issuer: &TestIssuer, change: impl FnOnce(&mut ServerArgs), service: Steered) -> Running {
    let telemetry = telemetry::init("test", &TelemetryArgs { log: "off".to_owned(), otlp_endpoint: None });
    let _spans_stay_in_this_process = telemetry.expect("telemetry");
    let mut args = issuer.server_args();
    change(&mut args);
    let server = Server::new("test", &args).await.expect("a server");
    let limit = server.max_message_bytes();
    spawn(server.add_service(RolloutOrchestratorServiceServer::new(service).max_decoding_message_size(limit)))
}
