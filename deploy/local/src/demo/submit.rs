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
    let (policy, version) = stored(services, yaml, note).await?;
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
    Ok((policy, version))
}

async fn stored(services: &Services, yaml: &str, note: &str) -> anyhow::Result<(Policy, PolicyVersion)> {
    let object: Value = serde_yaml::from_str(yaml).context("the object is YAML")?;
    let is_about = |policy: &Policy| {
        let target = policy.target.as_ref();
        target.is_some_and(|target| object["kind"] == *target.kind && object["metadata"]["name"] == *target.name)
    };
    let mut registry = services.registry()?;
    let list = registry.list_policies(ask(&services.developer, ListPoliciesRequest::default())?).await?.into_inner();
    let (yaml, change_note) = (yaml.to_owned(), note.to_owned());
    let (policy, version) = match list.policies.into_iter().find(is_about) {
        None => {
            let request = CreatePolicyRequest { yaml, change_note, ..Default::default() };
            let answer = registry.create_policy(ask(&services.developer, request)?).await?.into_inner();
            (answer.policy, answer.version)
        }
        Some(Policy { id, etag, .. }) => {
            let request = UpdatePolicyRequest { id, etag, yaml, change_note, ..Default::default() };
            let answer = registry.update_policy(ask(&services.developer, request)?).await?.into_inner();
            (answer.policy, answer.version)
        }
    };
    Ok((policy.context("no policy in the answer")?, version.context("no version in the answer")?))
}
