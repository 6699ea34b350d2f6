//! The five services as processes of their own, as they would run anywhere: flags by environment, tokens from an issuer of the demo.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use meshward_chassis::{
    auth::Role,
    client::{PeerChannel, bearer, connect_lazy},
    clock::{Clock as _, SystemClock},
    testing::{AUDIENCE, Grant, ISSUER, TestIssuer},
};
use meshward_proto::{
    registry::v1::policy_registry_service_client::PolicyRegistryServiceClient,
    rollout::v1::rollout_orchestrator_service_client::RolloutOrchestratorServiceClient,
};
use tonic::Request;

use super::{Mesh, Options, SERVICES};
use crate::{
    ports,
    process::{Process, Program},
    tools::Tools,
};

const ORCHESTRATOR: &str = "rollout-orchestrator";
const READY: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(15);

/// The running services, and who may talk to them.
pub struct Services {
    running: Vec<Service>,
    logs: PathBuf,
    /// Reads.
    pub viewer: String,
    /// Writes and deploys.
    pub developer: String,
    /// Approves.
    pub admin: String,
}

struct Service {
    name: &'static str,
    program: Program,
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Services {
    /// Starts all five and waits until each is ready.
    ///
    /// # Errors
    /// If a program is missing (it must be built first), ends by itself, or does not get ready.
    pub async fn start(options: &Options, mesh: &Mesh, otlp: &str, tools: &Tools) -> anyhow::Result<Self> {
        let issuer = TestIssuer::new(&options.dir)?;
        let token =
            |subject: &str, role| issuer.mint(&Grant::new(subject, [role]).valid_for(Duration::from_secs(12 * 3600)));
        let token_file = options.dir.join("service-token");
        std::fs::write(&token_file, token("system:rollout-orchestrator", Role::Service))?;
        let ports = ports::free(Ipv4Addr::LOCALHOST.into(), SERVICES.len() * 2)?;
        let addresses: Vec<_> = ports.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).collect();
        let logs = options.dir.join("logs");
        let mut running = Vec::new();
        for (index, name) in SERVICES.into_iter().enumerate() {
            let (address, admin) = (addresses[2 * index], addresses[2 * index + 1]);
            let path = options.programs.join(format!("meshward-{name}"));
            let program = Program::new(name, path)
                .directory(&options.dir)
                .env("MESHWARD_LISTEN", address.to_string())
                .env("MESHWARD_ADMIN_LISTEN", admin.to_string())
                .env("MESHWARD_JWKS", issuer.jwks_path())
                .env("MESHWARD_JWT_ISSUER", ISSUER)
                .env("MESHWARD_JWT_AUDIENCE", AUDIENCE)
                .env("MESHWARD_OTLP_ENDPOINT", otlp)
                .env("MESHWARD_SERVICE_TOKEN_FILE", &token_file)
                .env("MESHWARD_KUBECONFIG", &mesh.place().kubeconfig)
                .env("MESHWARD_ISTIOD", &mesh.place().istiod)
                .env("MESHWARD_PROMETHEUS", &mesh.place().prometheus)
                .env("MESHWARD_SCRAPE_INTERVAL", "1s")
                .env("MESHWARD_DISCOVERY_DELAY", format!("{}s", mesh.place().discovery_delay.as_secs()))
                .env("MESHWARD_CRDS", &tools.crds)
                .env("MESHWARD_DATABASE_URL", format!("sqlite:{name}.db"));
            let program = SERVICES.iter().enumerate().fold(program, |program, (peer, name)| {
                let variable = format!("MESHWARD_{}", name.to_uppercase().replace('-', "_"));
                program.env(variable, format!("http://{}", addresses[2 * peer]))
            });
            let process = Process::start(program.clone(), &logs)
                .await
                .with_context(|| format!("{name}: is the workspace built?"))?;
            running.push(Service { name, program, process, address, admin });
        }
        let services = Self {
            running,
            logs,
            viewer: token("carol", Role::Viewer),
            developer: token("alice", Role::Developer),
            admin: token("bob", Role::Admin),
        };
        for service in &services.running {
            service.ready().await?;
        }
        Ok(services)
    }

    /// Kills the orchestrator as a crash would, starts it again, and waits until it is ready.
    ///
    /// # Errors
    /// If it does not come back.
    pub async fn crash_orchestrator(&mut self) -> anyhow::Result<()> {
        let service =
            self.running.iter_mut().find(|service| service.name == ORCHESTRATOR).context("it is one of the five")?;
        service.process.kill();
        service.process = Process::start(service.program.clone(), &self.logs).await?;
        service.ready().await
    }

    /// Where each serves gRPC and HTTP/JSON.
    #[must_use]
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.running.iter().map(|service| (service.name, service.address)).collect()
    }

    /// Where each serves its metrics and probes.
    #[must_use]
    pub fn admin_addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        self.running.iter().map(|service| (service.name, service.admin)).collect()
    }

    /// A client of the policy-registry.
    ///
    /// # Errors
    /// None that can come about: the address is a URL.
    pub fn registry(&self) -> anyhow::Result<PolicyRegistryServiceClient<PeerChannel>> {
        Ok(PolicyRegistryServiceClient::new(self.channel("policy-registry")?))
    }

    /// A client of the rollout-orchestrator.
    ///
    /// # Errors
    /// None that can come about: the address is a URL.
    pub fn orchestrator(&self) -> anyhow::Result<RolloutOrchestratorServiceClient<PeerChannel>> {
        Ok(RolloutOrchestratorServiceClient::new(self.channel(ORCHESTRATOR)?))
    }

    fn channel(&self, name: &str) -> anyhow::Result<PeerChannel> {
        let service = self.running.iter().find(|service| service.name == name).context("it is one of the five")?;
        Ok(connect_lazy(&format!("http://{}", service.address))?)
    }

    /// Ends them in reverse order.
    pub async fn stop(&self) {
        for service in self.running.iter().rev() {
            service.process.stop(GRACE).await;
        }
    }
}

impl Service {
    async fn ready(&self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.admin);
        let check = || async {
            let answer = reqwest::get(&url).await.map_err(|error| error.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
        };
        Ok(self.process.ready(READY, check).await?)
    }
}

/// A request with a token and a deadline.
///
/// # Errors
/// None that can come about: the token is text.
pub fn ask<T>(token: &str, message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    bearer(&mut request, token)?;
    request.set_timeout(Duration::from_secs(30));
    Ok(request)
}

/// Seconds between two moments.
#[must_use]
pub fn seconds(from: jiff::Timestamp, to: jiff::Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// Now.
#[must_use]
pub fn now() -> jiff::Timestamp {
    SystemClock.now()
}
