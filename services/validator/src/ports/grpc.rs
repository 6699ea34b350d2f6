//! mesh-gateway over gRPC.

use std::time::Duration;

use meshward_chassis::{
    client::{self, EndpointError, PeerChannel},
    problem::reason_of,
};
use meshward_proto::gateway::v1::{DryRunApplyRequest, mesh_gateway_service_client::MeshGatewayServiceClient};
use tonic::{Code, Request, Status};

use super::{Admission, Bearer, Gateway};
use crate::error::Error;

/// The other service. Connects at first use.
#[derive(Debug, Clone)]
pub struct GrpcGateway {
    client: MeshGatewayServiceClient<PeerChannel>,
    timeout: Duration,
}

impl GrpcGateway {
    /// The gateway at `endpoint` (`http://host:port`); each call takes at most `timeout`.
    ///
    /// # Errors
    /// If the endpoint is no URL.
    pub fn new(endpoint: &str, timeout: Duration) -> Result<Self, EndpointError> {
        Ok(Self { client: MeshGatewayServiceClient::new(client::connect_lazy(endpoint)?), timeout })
    }
}

impl Gateway for GrpcGateway {
    async fn dry_run(&self, cluster: &str, object_json: &str, bearer: &Bearer) -> Result<Admission, Error> {
        let message = DryRunApplyRequest { cluster: cluster.to_owned(), object_json: object_json.to_owned() };
        let mut request = client::with_deadline(Request::new(message), self.timeout);
        client::bearer(&mut request, &bearer.0).map_err(|problem| Error::GatewayRefused(Box::new(problem.into())))?;
        let reply = self.client.clone().dry_run_apply(request).await.map_err(refused)?.into_inner();
        Ok(Admission {
            admitted: reply.admitted,
            refused_by: reply.refused_by,
            message: reply.message,
            warnings: reply.warnings,
        })
    }
}

/// A status with one of our reasons is an answer of the gateway (CLUSTER_UNKNOWN, ROLE_MISSING…), which the caller can act
/// on. Anything else, and its defects, are a gateway that does not work.
fn refused(status: Status) -> Error {
    if reason_of(&status).is_some() && status.code() != Code::Internal {
        Error::GatewayRefused(Box::new(status))
    } else {
        Error::GatewayDown(status.message().to_owned())
    }
}
