//! Domain to wire and back.

use meshward_proto::{
    registry::v1::{self as proto, DeploymentOutcome},
    timestamp, types,
};

use crate::{
    app::{Answer, OutcomeReport},
    audit::Sealed,
    error::Error,
    lifecycle::VersionState,
    policy::{Approval, Effective, Outcome, Policy, Version},
};

/// An answer in its parts: policy, version, findings.
pub(super) fn answer(answer: Answer) -> (proto::Policy, proto::PolicyVersion, Vec<types::v1::Finding>) {
    let findings = answer.findings.into_iter().map(Into::into).collect();
    (answer.policy.into(), version(answer.version, answer.obstacles), findings)
}

/// What the orchestrator tells.
pub(super) fn outcome_report(message: &proto::RecordDeploymentRequest) -> Result<OutcomeReport, Error> {
    let outcome = match message.outcome() {
        DeploymentOutcome::Promoted => Outcome::Promoted,
        DeploymentOutcome::RolledBack => Outcome::RolledBack,
        DeploymentOutcome::Aborted => Outcome::Aborted,
        DeploymentOutcome::Unspecified => return Err(Error::field("outcome", "is required")),
    };
    let (deployment_id, reason) = (message.deployment_id.clone(), message.reason.clone());
    Ok(OutcomeReport { deployment_id, outcome, reason })
}

impl From<Policy> for proto::Policy {
    fn from(policy: Policy) -> Self {
        let etag = policy.etag();
        Self {
            id: policy.id,
            namespace: policy.namespace,
            name: policy.name,
            description: policy.description,
            target: Some(policy.target.into()),
            latest_version: policy.latest_version,
            active_version: policy.active_version,
            etag,
            create_time: Some(timestamp(policy.created)),
            update_time: Some(timestamp(policy.updated)),
            creator: policy.creator,
        }
    }
}

fn version(version: Version, deploy_obstacles: Vec<String>) -> proto::PolicyVersion {
    proto::PolicyVersion {
        deletion: version.is_deletion(),
        policy_id: version.policy_id,
        version: version.number,
        digest: version.digest.into(),
        yaml: version.yaml,
        canonical_json: version.canonical_json,
        state: proto::VersionState::from(version.state).into(),
        author: version.author,
        change_note: version.change_note,
        approvals: version.approvals.into_iter().map(Into::into).collect(),
        findings: version.findings.into_iter().map(Into::into).collect(),
        state_reason: version.state_reason,
        create_time: Some(timestamp(version.created)),
        update_time: Some(timestamp(version.updated)),
        deploy_obstacles,
    }
}

impl From<Effective> for proto::EffectiveVersion {
    fn from(version: Effective) -> Self {
        Self {
            policy_id: version.policy_id,
            version: version.number,
            state: proto::VersionState::from(version.state).into(),
            canonical_json: version.canonical_json,
        }
    }
}

impl From<VersionState> for proto::VersionState {
    fn from(state: VersionState) -> Self {
        match state {
            VersionState::Draft => Self::Draft,
            VersionState::Submitted => Self::Submitted,
            VersionState::Approved => Self::Approved,
            VersionState::Active => Self::Active,
            VersionState::Superseded => Self::Superseded,
            VersionState::Rejected => Self::Rejected,
            VersionState::Quarantined => Self::Quarantined,
            VersionState::Archived => Self::Archived,
        }
    }
}

impl From<Approval> for proto::Approval {
    fn from(approval: Approval) -> Self {
        Self {
            approver: approval.approver,
            comment: approval.comment,
            digest: approval.digest.into(),
            create_time: Some(timestamp(approval.time)),
        }
    }
}

impl From<Sealed> for proto::AuditEvent {
    fn from(sealed: Sealed) -> Self {
        let Sealed { sequence, event, hash } = sealed;
        Self {
            sequence,
            policy_id: event.policy_id,
            version: event.version,
            action: event.action,
            actor: event.actor,
            digest: event.digest,
            comment: event.comment,
            time: Some(timestamp(event.time)),
            hash,
        }
    }
}
