//! The RPCs: each parses, calls one use case and encodes.

mod convert;
mod watch;

use meshward_chassis::{auth::Identity, problem::Problem};
use meshward_proto::registry::v1::{
    self as proto,
    policy_registry_service_server::{PolicyRegistryService, PolicyRegistryServiceServer},
};
use meshward_store::{Repeat, page};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    app::{App, At, Call, NewPolicy, NewVersion},
    error::Error,
    ports::Bearer,
    store::Page,
};

/// The service.
#[derive(Clone)]
pub struct Registry {
    app: App,
    shutdown: CancellationToken,
}

impl Registry {
    /// The RPCs of a registry; streams end when `shutdown` fires.
    #[must_use]
    pub fn new(app: App, shutdown: CancellationToken) -> Self {
        Self { app, shutdown }
    }

    /// As a tonic service that takes requests of at most `max_message_bytes`.
    #[must_use]
    pub fn into_server(self, max_message_bytes: usize) -> PolicyRegistryServiceServer<Self> {
        PolicyRegistryServiceServer::new(self).max_decoding_message_size(max_message_bytes)
    }
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PolicyRegistryService for Registry {
    async fn create_policy(
        &self,
        request: Request<proto::CreatePolicyRequest>,
    ) -> Answered<proto::CreatePolicyResponse> {
        let message = request.get_ref();
        let call = call(&request, "CreatePolicy", &message.request_id, message.validate_only)?;
        let proto::CreatePolicyRequest { name, description, yaml, cluster, change_note, .. } = request.into_inner();
        let new = NewPolicy { name, description, cluster, first: NewVersion { yaml, change_note, deletion: false } };
        let (policy, version, _) = convert::answer(self.app.create(&call, &new).await?);
        Ok(Response::new(proto::CreatePolicyResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn get_policy(&self, request: Request<proto::GetPolicyRequest>) -> Answered<proto::GetPolicyResponse> {
        let answer = self.app.get(Identity::of(&request)?, &request.get_ref().id, 0).await?;
        let (policy, version, _) = convert::answer(answer);
        Ok(Response::new(proto::GetPolicyResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn list_policies(
        &self,
        request: Request<proto::ListPoliciesRequest>,
    ) -> Answered<proto::ListPoliciesResponse> {
        let who = Identity::of(&request)?;
        let message = request.get_ref();
        let list = format!("policies/{}", message.namespace);
        let size = page_size(message.page_size)?;
        let after: Option<String> = cursor(&list, &message.page_token)?;
        let found = self.app.list(who, &message.namespace, &after.unwrap_or_default(), size).await?;
        let next_page_token = next(&list, &found, |policy| policy.id.clone());
        let policies = found.items.into_iter().map(proto::Policy::from).collect();
        Ok(Response::new(proto::ListPoliciesResponse { policies, next_page_token }))
    }

    async fn update_policy(
        &self,
        request: Request<proto::UpdatePolicyRequest>,
    ) -> Answered<proto::UpdatePolicyResponse> {
        let message = request.get_ref();
        let call = call(&request, "UpdatePolicy", &message.request_id, message.validate_only)?;
        let proto::UpdatePolicyRequest { id, yaml, change_note, etag, deletion, .. } = request.into_inner();
        let at = At { id: &id, version: 0, etag: &etag };
        let new = NewVersion { yaml, change_note, deletion };
        let (policy, version, _) = convert::answer(self.app.update(&call, at, &new).await?);
        Ok(Response::new(proto::UpdatePolicyResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn delete_policy(
        &self,
        request: Request<proto::DeletePolicyRequest>,
    ) -> Answered<proto::DeletePolicyResponse> {
        let call = call(&request, "DeletePolicy", "", false)?;
        let message = request.get_ref();
        self.app.delete(&call, At { id: &message.id, version: 0, etag: &message.etag }).await?;
        Ok(Response::new(proto::DeletePolicyResponse {}))
    }

    async fn submit_policy(
        &self,
        request: Request<proto::SubmitPolicyRequest>,
    ) -> Answered<proto::SubmitPolicyResponse> {
        let message = request.get_ref();
        let call = call(&request, "SubmitPolicy", &message.request_id, message.validate_only)?;
        let at = At { id: &message.id, version: message.version, etag: &message.etag };
        let (policy, version, findings) = convert::answer(self.app.submit(&call, at).await?);
        Ok(Response::new(proto::SubmitPolicyResponse { policy: Some(policy), version: Some(version), findings }))
    }

    async fn approve_policy(
        &self,
        request: Request<proto::ApprovePolicyRequest>,
    ) -> Answered<proto::ApprovePolicyResponse> {
        let message = request.get_ref();
        let call = call(&request, "ApprovePolicy", &message.request_id, message.validate_only)?;
        let at = At { id: &message.id, version: message.version, etag: &message.etag };
        let (policy, version, _) =
            convert::answer(self.app.approve(&call, at, &message.digest, &message.comment).await?);
        Ok(Response::new(proto::ApprovePolicyResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn reject_policy(
        &self,
        request: Request<proto::RejectPolicyRequest>,
    ) -> Answered<proto::RejectPolicyResponse> {
        let message = request.get_ref();
        let call = call(&request, "RejectPolicy", &message.request_id, message.validate_only)?;
        let at = At { id: &message.id, version: message.version, etag: &message.etag };
        let (policy, version, _) = convert::answer(self.app.reject(&call, at, &message.reason).await?);
        Ok(Response::new(proto::RejectPolicyResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn get_policy_version(
        &self,
        request: Request<proto::GetPolicyVersionRequest>,
    ) -> Answered<proto::GetPolicyVersionResponse> {
        let message = request.get_ref();
        let answer = self.app.get_version(Identity::of(&request)?, &message.id, message.version).await?;
        let (policy, version, _) = convert::answer(answer);
        Ok(Response::new(proto::GetPolicyVersionResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn list_policy_versions(
        &self,
        request: Request<proto::ListPolicyVersionsRequest>,
    ) -> Answered<proto::ListPolicyVersionsResponse> {
        let who = Identity::of(&request)?;
        let message = request.get_ref();
        let list = format!("versions/{}", message.id);
        let size = page_size(message.page_size)?;
        let below: Option<i64> = cursor(&list, &message.page_token)?;
        let found = self.app.versions(who, &message.id, below.unwrap_or(i64::MAX), size).await?;
        let next_page_token = next(&list, &found, |answer| answer.version.number);
        let versions = found.items.into_iter().map(|answer| convert::answer(answer).1).collect();
        Ok(Response::new(proto::ListPolicyVersionsResponse { versions, next_page_token }))
    }

    async fn list_effective_versions(
        &self,
        request: Request<proto::ListEffectiveVersionsRequest>,
    ) -> Answered<proto::ListEffectiveVersionsResponse> {
        let who = Identity::of(&request)?;
        let message = request.get_ref();
        let list = format!("effective/{}", message.cluster);
        let size = page_size(message.page_size)?;
        let after: Option<(String, i64)> = cursor(&list, &message.page_token)?;
        let (policy, number) = after.unwrap_or_default();
        let found = self.app.effective(who, &message.cluster, (&policy, number), size).await?;
        let next_page_token = next(&list, &found, |version| (version.policy_id.clone(), version.number));
        let versions = found.items.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListEffectiveVersionsResponse { versions, next_page_token }))
    }

    async fn record_deployment(
        &self,
        request: Request<proto::RecordDeploymentRequest>,
    ) -> Answered<proto::RecordDeploymentResponse> {
        let call = call(&request, "RecordDeployment", "", false)?;
        let message = request.into_inner();
        let report = convert::outcome_report(&message)?;
        let answer = self.app.record(&call, &message.id, message.version, &report).await?;
        let (policy, version, _) = convert::answer(answer);
        Ok(Response::new(proto::RecordDeploymentResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn release_version(
        &self,
        request: Request<proto::ReleaseVersionRequest>,
    ) -> Answered<proto::ReleaseVersionResponse> {
        let message = request.get_ref();
        let call = call(&request, "ReleaseVersion", &message.request_id, false)?;
        let at = At { id: &message.id, version: message.version, etag: &message.etag };
        let (policy, version, _) = convert::answer(self.app.release(&call, at, &message.reason).await?);
        Ok(Response::new(proto::ReleaseVersionResponse { policy: Some(policy), version: Some(version) }))
    }

    async fn list_audit_events(
        &self,
        request: Request<proto::ListAuditEventsRequest>,
    ) -> Answered<proto::ListAuditEventsResponse> {
        let who = Identity::of(&request)?;
        let message = request.get_ref();
        let list = format!("audit/{}", message.policy_id);
        let size = page_size(message.page_size)?;
        let after: Option<i64> = cursor(&list, &message.page_token)?;
        let found = self.app.events(who, &message.policy_id, after.unwrap_or(0), size).await?;
        let next_page_token = next(&list, &found, |event| event.sequence);
        let events = found.items.into_iter().map(proto::AuditEvent::from).collect();
        Ok(Response::new(proto::ListAuditEventsResponse { events, next_page_token }))
    }

    async fn verify_audit(&self, request: Request<proto::VerifyAuditRequest>) -> Answered<proto::VerifyAuditResponse> {
        let audit = self.app.verify(Identity::of(&request)?).await?;
        let (intact, broken_at) = (audit.broken_at.is_none(), audit.broken_at.unwrap_or(0));
        Ok(Response::new(proto::VerifyAuditResponse { checked: audit.checked, intact, broken_at }))
    }

    type WatchPoliciesStream = watch::EventStream;

    async fn watch_policies(
        &self,
        request: Request<proto::WatchPoliciesRequest>,
    ) -> Answered<Self::WatchPoliciesStream> {
        let who = Identity::of(&request)?;
        let proto::WatchPoliciesRequest { policy_id, after_sequence } = request.get_ref().clone();
        if after_sequence < 0 {
            return Err(Error::field("after_sequence", "must not be negative").into());
        }
        let scope = self.app.watch_scope(who, &policy_id).await?;
        let watcher = watch::Watcher::new(self.app.clone(), scope, policy_id, after_sequence, self.shutdown.clone());
        Ok(Response::new(watcher.into_stream()))
    }
}

/// Who calls, under which request id.
fn call<M: Message>(
    request: &Request<M>,
    method: &'static str,
    request_id: &str,
    validate_only: bool,
) -> Result<Call, Problem> {
    let who = Identity::of(request)?.clone();
    if !request_id.is_empty() && uuid::Uuid::try_parse(request_id).is_err() {
        return Err(Problem::invalid_argument("request_id", "must be a UUID, a new one for each request"));
    }
    let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let repeat = Repeat::new(request_id, &who.subject, method, &request.get_ref().encode_to_vec());
    Ok(Call { bearer: Bearer::of_header(header), repeat, validate_only, who })
}

fn page_size(asked: i32) -> Result<u32, Error> {
    page::size(asked).map_err(|error| Error::field("page_size", error.to_string()))
}

fn cursor<C: serde::de::DeserializeOwned>(list: &str, token: &str) -> Result<Option<C>, Error> {
    page::cursor(list, token).map_err(|error| Error::field("page_token", error.to_string()))
}

/// The token of the next page; empty = this is the last.
fn next<T, C: serde::Serialize>(list: &str, page: &Page<T>, cursor_of: impl Fn(&T) -> C) -> String {
    let last = page.items.last().filter(|_| page.more);
    last.map(|last| page::token(list, &cursor_of(last))).unwrap_or_default()
}
