//! How a version comes to be approved: stored by a developer, submitted, and approved by somebody else.

use anyhow::Context as _;
use meshward_proto::registry::v1::{
    ApprovePolicyRequest, CreatePolicyRequest, ListPoliciesRequest, Policy, PolicyVersion, SubmitPolicyRequest,
    UpdatePolicyRequest,
};
use serde_json::Value;

use super::services::{Services, ask};

/// Stores a version of the policy that is about the object in the text (of a new policy if there is none), and has it approved.
///
/// # Errors
/// If a service refuses what it should not.
pub async fn approved(services: &Services, yaml: &str, note: &str) -> anyhow::Result<(Policy, PolicyVersion)> {
    let object: Value = serde_yaml::from_str(yaml).context("the object is YAML")?;
    let (policy, version) = match policy_of(services, &object).await? {
        Some(Policy { id, etag, .. }) => {
            let (yaml, change_note) = (yaml.to_owned(), note.to_owned());
            update(services, UpdatePolicyRequest { id, etag, yaml, change_note, ..Default::default() }).await?
        }
        None => {
            let (yaml, change_note) = (yaml.to_owned(), note.to_owned());
            let request = CreatePolicyRequest { yaml, change_note, ..Default::default() };
            let answer = services.registry()?.create_policy(ask(&services.developer, request)?).await?.into_inner();
            (answer.policy.context("no policy in the answer")?, answer.version.context("no version in the answer")?)
        }
    };
    approve(services, &policy, &version).await?;
    Ok((policy, version))
}

/// Has it approved that the object is gone.
///
/// # Errors
/// If there is no policy about it, or a service refuses what it should not.
pub async fn approved_deletion(services: &Services, object: &Value) -> anyhow::Result<(Policy, PolicyVersion)> {
    let Policy { id, etag, .. } = policy_of(services, object).await?.context("no policy is about it")?;
    let change_note = "not needed any more".to_owned();
    let request = UpdatePolicyRequest { id, etag, deletion: true, change_note, ..Default::default() };
    let (policy, version) = update(services, request).await?;
    approve(services, &policy, &version).await?;
    Ok((policy, version))
}

async fn approve(services: &Services, policy: &Policy, version: &PolicyVersion) -> anyhow::Result<()> {
    let mut registry = services.registry()?;
    let submit = SubmitPolicyRequest { id: policy.id.clone(), version: version.version, ..Default::default() };
    registry.submit_policy(ask(&services.developer, submit)?).await?;
    let approve = ApprovePolicyRequest {
        id: policy.id.clone(),
        version: version.version,
        digest: version.digest.clone(),
        ..Default::default()
    };
    registry.approve_policy(ask(&services.admin, approve)?).await?;
    Ok(())
}

async fn update(services: &Services, request: UpdatePolicyRequest) -> anyhow::Result<(Policy, PolicyVersion)> {
    let answer = services.registry()?.update_policy(ask(&services.developer, request)?).await?.into_inner();
    Ok((answer.policy.context("no policy in the answer")?, answer.version.context("no version in the answer")?))
}

/// The policy that is about an object.
async fn policy_of(services: &Services, object: &Value) -> anyhow::Result<Option<Policy>> {
    let is_about = |policy: &Policy| {
        let target = policy.target.as_ref();
        target.is_some_and(|target| object["kind"] == *target.kind && object["metadata"]["name"] == *target.name)
    };
    let mut registry = services.registry()?;
    let list = registry.list_policies(ask(&services.developer, ListPoliciesRequest::default())?).await?.into_inner();
    Ok(list.policies.into_iter().find(is_about))
}
