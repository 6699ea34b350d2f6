//! The service in this process, and what the tests ask of it.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use meshward_chassis::{
    auth::Role,
    client::{PeerChannel, bearer, connect_lazy},
    clock::ManualClock,
    problem::{reason_name, reason_of},
    server::Server,
    testing::{Grant, Running, TestIssuer, spawn},
};
use meshward_proto::{
    duration,
    rollout::v1::{rollout_orchestrator_service_client::RolloutOrchestratorServiceClient, *},
};
use meshward_rollout_orchestrator::{
    serve,
    store::{MIGRATIONS, SqlStore},
    verdicts::SqlVerdicts,
    worker::{Changes, Ports, Worker},
};
use meshward_store::Database;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::world::World;

pub type Client = RolloutOrchestratorServiceClient<PeerChannel>;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running service whose deployments move only when the test calls [`Service::tick`].
pub struct Service {
    pub world: World,
    pub clock: ManualClock,
    pub ports: Ports,
    pub worker: Worker,
    pub server: Running,
    pub client: Client,
    issuer: TestIssuer,
    _dir: tempfile::TempDir,
}

/// Ports on the world and a database at a URL.
pub async fn ports(world: &World, url: &str) -> Ports {
    let database = Database::open(url, MIGRATIONS).await.expect("a database");
    Ports {
        store: Arc::new(SqlStore::new(database.clone())),
        verdicts: Arc::new(SqlVerdicts::new(database, Duration::from_secs(3600))),
        registry: Arc::new(world.clone()),
        validator: Arc::new(world.clone()),
        mesh: Arc::new(world.clone()),
        judge: Arc::new(world.clone()),
        clock: Arc::new(world.clock.clone()),
        changes: Changes::default(),
    }
}

impl Service {
    pub async fn new() -> Self {
        // The server's own worker takes nothing, the test's takes all.
        Self::with_background(0).await
    }

    /// With a worker in the background that works on so many deployments at once.
    pub async fn with_background(at_once: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let issuer = TestIssuer::new(dir.path()).expect("an issuer");
        let world = World::new();
        let ports = ports(&world, &format!("sqlite:{}", dir.path().join("rollout.db").display())).await;
        let server = Server::new("rollout-orchestrator", &issuer.server_args()).await.expect("a server");
        let background = Worker::new(ports.clone(), "background".to_owned(), at_once);
        let server = spawn(serve(server, ports.clone(), background, || async { Ok(()) }));
        Self {
            clock: world.clock.clone(),
            worker: Worker::new(ports.clone(), "test".to_owned(), 16),
            client: Client::new(connect_lazy(&server.url()).expect("an endpoint")),
            world,
            ports,
            server,
            issuer,
            _dir: dir,
        }
    }

    /// A request of alice, a developer of the namespace shop.
    pub fn ask<T>(&self, message: T) -> Request<T> {
        self.ask_as(&Grant::new("alice", [Role::Developer]).within(["shop"]), message)
    }

    pub fn ask_as<T>(&self, who: &Grant, message: T) -> Request<T> {
        let mut request = Request::new(message);
        bearer(&mut request, &self.token(who)).expect("a token fits into a header");
        request
    }

    pub fn token(&self, who: &Grant) -> String {
        self.issuer.mint(who)
    }

    pub async fn try_create(&self, request: CreateDeploymentRequest) -> Result<Deployment, Status> {
        let reply = self.client.clone().create_deployment(self.ask(request)).await?;
        Ok(reply.into_inner().deployment.expect("a deployment"))
    }

    /// A deployment of p1 with the short strategy.
    pub async fn create(&self) -> Deployment {
        self.try_create(request("p1")).await.expect("a deployment")
    }

    pub async fn get(&self, id: &str) -> Deployment {
        let reply = self.client.clone().get_deployment(self.ask(GetDeploymentRequest { id: id.to_owned() })).await;
        reply.expect("an answer").into_inner().deployment.expect("a deployment")
    }

    /// Kinds and states of all events, "step.live BAKING".
    pub async fn story(&self, id: &str) -> Vec<String> {
        let events = self.ports.store.events(id, 0, 1_000).await.expect("events");
        events.iter().map(|event| format!("{} {}", event.kind, event.state)).collect()
    }

    /// Lets time pass, then works once on what is due.
    pub async fn tick(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
        self.worker.round().await;
    }

    /// Lets time pass second by second until the deployment is in a state.
    pub async fn until(&self, id: &str, state: DeploymentState) -> Deployment {
        for _ in 0..400 {
            let deployment = self.get(id).await;
            if deployment.state() == state {
                return deployment;
            }
            self.tick(1).await;
        }
        panic!("it does not come to {state:?} but stays\n{:#?}", self.get(id).await);
    }
}

/// 10 %, 50 %, 100 %, each 30 s; looked at every 5 s; proofs may take 20 s, holds 60 s.
pub fn strategy() -> Strategy {
    let step = |weight_bp| Step { weight_bp, ..Step::default() };
    let seconds = |seconds| Some(duration(Duration::from_secs(seconds)));
    Strategy {
        steps: vec![step(1_000), step(5_000), step(10_000)],
        bake_time: seconds(30),
        analysis_interval: seconds(5),
        propagation_timeout: seconds(20),
        hold_timeout: seconds(60),
        ..Strategy::default()
    }
}

/// Asks for a deployment of a policy's newest version with the short strategy.
pub fn request(policy: &str) -> CreateDeploymentRequest {
    CreateDeploymentRequest {
        policy_id: policy.to_owned(),
        strategy: Some(strategy()),
        ..CreateDeploymentRequest::default()
    }
}

/// The machine-readable reason of a refusal.
pub fn reason(status: &Status) -> &'static str {
    reason_of(status).map_or("(none)", reason_name)
}

/// Fields of the BadRequest in a refusal.
pub fn fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    bad.into_iter().map(|violation| violation.field).collect()
}
