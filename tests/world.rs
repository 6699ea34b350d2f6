//! A validator and a mesh-gateway in this process, before a real API server.

use std::path::Path;

use clap::Parser as _;
use meshward_chassis::{
    auth::Role,
    client::{PeerChannel, bearer, connect_lazy},
    server::Server,
    testing::{self, Grant, Running, TestIssuer},
};
use meshward_local::{stack::ApiServer, tools::Tools};
use meshward_proto::validator::v1::validator_service_client::ValidatorServiceClient;
use tonic::Request;

pub struct World {
    gateway: Running,
    validator: Running,
    pub client: ValidatorServiceClient<PeerChannel>,
    token: String,
}

impl World {
    pub async fn start(dir: &Path, cluster: &ApiServer, tools: &Tools) -> anyhow::Result<Self> {
        let issuer = TestIssuer::new(dir)?;
        let kubeconfig = cluster.kubeconfig().display().to_string();
        let flags = ["gateway", "--jwks=unused", "--jwt-issuer=unused", "--kubeconfig", &kubeconfig];
        let mut arguments = meshward_mesh_gateway::Args::try_parse_from(flags)?;
        arguments.server = issuer.server_args();
        let gateway = meshward_mesh_gateway::build(&arguments, Server::new("mesh-gateway", &arguments.server).await?);
        let gateway = testing::spawn(gateway.await?);
        let (address, crds) = (gateway.url(), tools.crds.display().to_string());
        let flags = ["validator", "--jwks=unused", "--jwt-issuer=unused", "--crds", &crds, "--mesh-gateway", &address];
        let mut config = meshward_validator::config::Config::try_parse_from(flags)?;
        config.server = issuer.server_args();
        let validator = meshward_validator::build(&config, Server::new("validator", &config.server).await?)?;
        let validator = testing::spawn(validator);
        let client = ValidatorServiceClient::new(connect_lazy(&validator.url())?);
        let token = issuer.mint(&Grant::new("test", [Role::Viewer]).within(["*"]));
        Ok(Self { gateway, validator, client, token })
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.validator.stop().await?;
        self.gateway.stop().await?;
        Ok(())
    }

    /// A request of who may see all of the cluster.
    pub fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        bearer(&mut request, &self.token).expect("a token fits into a header");
        request
    }
}
