//! mesh-gateway over gRPC, and what is asked of every service alike.

use std::time::Duration;

use meshward_chassis::{
    client::{self, EndpointError, PeerChannel},
    problem::{Problem, reason_of},
};
use meshward_proto::gateway::v1::{
    DryRunApplyRequest, ListObjectsRequest, mesh_gateway_service_client::MeshGatewayServiceClient,
};
use tonic::{Code, Request, Status};

use super::{Admission, Bearer, Gateway, ObjectPage, Wanted};
use crate::error::Error;

/// Objects that are asked for at once, and the largest answer: objects are some kilobytes as a rule.
const PAGE: i32 = 250;
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

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
        Ok(Self {
            client: MeshGatewayServiceClient::new(client::connect_lazy(endpoint)?)
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            timeout,
        })
    }

    fn ask<T>(&self, message: T, bearer: &Bearer) -> Result<Request<T>, Error> {
        ask(message, bearer, self.timeout).map_err(|problem| Error::GatewayRefused(Box::new(problem.into())))
    }
}

impl Gateway for GrpcGateway {
    async fn dry_run(&self, cluster: &str, object_json: &str, bearer: &Bearer) -> Result<Admission, Error> {
        let message = DryRunApplyRequest { cluster: cluster.to_owned(), object_json: object_json.to_owned() };
        let request = self.ask(message, bearer)?;
        let reply = self.client.clone().dry_run_apply(request).await.map_err(refused)?.into_inner();
        Ok(Admission {
            admitted: reply.admitted,
            refused_by: reply.refused_by,
            message: reply.message,
            warnings: reply.warnings,
        })
    }

    async fn list(&self, wanted: Wanted<'_>, bearer: &Bearer) -> Result<ObjectPage, Error> {
        let message = ListObjectsRequest {
            cluster: wanted.cluster.to_owned(),
            api_version: wanted.api_version.to_owned(),
            kind: wanted.kind.to_owned(),
            namespace: wanted.namespace.unwrap_or_default().to_owned(),
            page_size: PAGE,
            page_token: wanted.token.to_owned(),
        };
        let request = self.ask(message, bearer)?;
        let reply = self.client.clone().list_objects(request).await.map_err(refused)?.into_inner();
        let objects = reply.objects_json.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>();
        let objects = objects.map_err(|error| Error::GatewayDown(format!("an object is no JSON: {error}")))?;
        Ok(ObjectPage { objects, next: reply.next_page_token, served: reply.served })
    }
}

/// A question in the caller's name, with the time that its answer may take.
pub(super) fn ask<T>(message: T, bearer: &Bearer, within: Duration) -> Result<Request<T>, Problem> {
    let mut request = client::with_deadline(Request::new(message), within);
    client::bearer(&mut request, &bearer.0)?;
    Ok(request)
}

/// Whether a status is an answer of the other service, which the caller can act on: one of our reasons (CLUSTER_UNKNOWN,
/// ROLE_MISSING…). Anything else, and its defects, are a service that does not work.
pub(super) fn is_answer(status: &Status) -> bool {
    reason_of(status).is_some() && status.code() != Code::Internal
}

fn refused(status: Status) -> Error {
    if is_answer(&status) {
        Error::GatewayRefused(Box::new(status))
    } else {
        Error::GatewayDown(status.message().to_owned())
    }
}
