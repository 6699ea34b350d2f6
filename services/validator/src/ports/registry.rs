//! policy-registry over gRPC.

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use meshward_chassis::client::{self, EndpointError, PeerChannel};
use meshward_proto::registry::v1::{
    EffectiveVersion, ListEffectiveVersionsRequest, VersionState,
    policy_registry_service_client::PolicyRegistryServiceClient,
};

use super::{Bearer, Held, HeldPage, Registry, grpc::ask};

/// Versions that are asked for at once, and the largest answer: the registry ends a page at about 2 MiB of text, but for one long text.
const PAGE: i32 = 500;
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The other service. Connects at first use.
#[derive(Debug, Clone)]
pub struct GrpcRegistry {
    client: PolicyRegistryServiceClient<PeerChannel>,
    timeout: Duration,
}

impl GrpcRegistry {
    /// The registry at `endpoint` (`http://host:port`); each call takes at most `timeout`.
    ///
    /// # Errors
    /// If the endpoint is no URL.
    pub fn new(endpoint: &str, timeout: Duration) -> Result<Self, EndpointError> {
        let client = PolicyRegistryServiceClient::new(client::connect_lazy(endpoint)?);
        Ok(Self { client: client.max_decoding_message_size(MAX_ANSWER_BYTES), timeout })
    }
}

impl Registry for GrpcRegistry {
    fn effective<'a>(
        &'a self,
        cluster: &'a str,
        token: &'a str,
        bearer: &'a Bearer,
    ) -> BoxFuture<'a, Result<HeldPage, String>> {
        async move {
            let message = ListEffectiveVersionsRequest {
                cluster: cluster.to_owned(),
                page_size: PAGE,
                page_token: token.to_owned(),
            };
            let request = ask(message, bearer, self.timeout).map_err(|problem| problem.to_string())?;
            let answer = self.client.clone().list_effective_versions(request).await;
            let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
            let versions = answer.versions.iter().map(held).collect::<Result<_, _>>()?;
            Ok(HeldPage { versions, next: answer.next_page_token })
        }
        .boxed()
    }
}

fn held(version: &EffectiveVersion) -> Result<Held, String> {
    let object = serde_json::from_str(&version.canonical_json);
    let object =
        object.map_err(|error| format!("version {} of {} is no JSON: {error}", version.version, version.policy_id))?;
    Ok(Held { object, is_active: version.state() == VersionState::Active })
}
