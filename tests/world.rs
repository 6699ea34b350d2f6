//! A validator, a mesh-gateway and a policy-registry in this process, before a real API server.

use std::{path::Path, time::Duration};

use clap::Parser as _;
use meshward_chassis::{
    auth::Role,
    client::{PeerChannel, bearer, connect_lazy},
    server::Server,
    testing::{self, Grant, Running, TestIssuer},
};
use meshward_local::tools::Tools;
use meshward_proto::validator::v1::validator_service_client::ValidatorServiceClient;
use tonic::Request;

pub struct World {
    gateway: Running,
    validator: Running,
    pub registry: Running,
    issuer: TestIssuer,
    pub client: ValidatorServiceClient<PeerChannel>,
}

impl World {
    /// With what the gateway's account may do in the cluster, and its files in a folder of its own.
    pub async fn start(dir: &Path, kubeconfig: &Path, tools: &Tools) -> anyhow::Result<Self> {
        let issuer = TestIssuer::new(dir)?;
        let kubeconfig = kubeconfig.display().to_string();
        let flags = ["gateway", "--jwks=unused", "--jwt-issuer=unused", "--kubeconfig", &kubeconfig];
        let mut arguments = meshward_mesh_gateway::Args::try_parse_from(flags)?;
        arguments.server = issuer.server_args();
        let gateway = meshward_mesh_gateway::build(&arguments, Server::new("mesh-gateway", &arguments.server).await?);
        let gateway = testing::spawn(gateway.await?);
        // The validator and the registry call one another: both places are known before either is built.
        let registry = Server::new("policy-registry", &issuer.server_args()).await?;
        let of_registry = format!("http://{}", registry.bound_addr());
        let (address, crds) = (gateway.url(), tools.crds.display().to_string());
        let flags = ["validator", "--jwks=unused", "--jwt-issuer=unused", "--crds", &crds, "--mesh-gateway", &address];
        let flags = flags.into_iter().chain(["--policy-registry", &of_registry]);
        let mut config = meshward_validator::config::Config::try_parse_from(flags)?;
        config.server = issuer.server_args();
        // What was stored a moment ago counts at once, and a busy machine may take its time.
        (config.context_max_age, config.context_timeout) = (Duration::ZERO, Duration::from_secs(60));
        let validator = meshward_validator::build(&config, Server::new("validator", &config.server).await?)?;
        let validator = testing::spawn(validator);
        let client = ValidatorServiceClient::new(connect_lazy(&validator.url())?);
        let database = format!("sqlite:{}", dir.join("registry.db").display());
        let flags =
            ["registry", "--jwks=unused", "--jwt-issuer=unused", "--validator", &validator.url(), "--database-url"];
        let flags = flags.into_iter().chain([database.as_str()]);
        let config = meshward_policy_registry::config::Config::try_parse_from(flags)?;
        let registry = testing::spawn(meshward_policy_registry::build(&config, registry).await?);
        Ok(Self { gateway, validator, registry, issuer, client })
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.registry.stop().await?;
        self.validator.stop().await?;
        self.gateway.stop().await?;
        Ok(())
    }

    /// A request of who may see all of the cluster.
    pub fn signed<T>(&self, message: T) -> Request<T> {
        self.signed_by("test", Role::Viewer, message)
    }

    /// A request of somebody with a role everywhere.
    pub fn signed_by<T>(&self, who: &str, role: Role, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = self.issuer.mint(&Grant::new(who, [role]).within(["*"]));
        bearer(&mut request, &token).expect("a token fits into a header");
        request
    }
}
