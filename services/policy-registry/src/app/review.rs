//! Submitting, approving, rejecting and releasing.

use jiff::Timestamp;
use meshward_chassis::auth::Role;

use super::{
    Answer, App, At, Call,
    change::{Decided, Decision, check_etag, event},
    check, version_name,
};
use crate::{
    audit::Action,
    error::Error,
    lifecycle::{Move, VersionState},
    policy::{Approval, Policy, Version, errors},
    ports::Text,
};

impl App {
    /// Offers a draft for approval, after a dry run on the cluster. A version that was submitted already stays as it
    /// is.
    ///
    /// # Errors
    /// If the caller is no developer there, an ERROR was found, the state does not allow it, the etag is not the
    /// current one, or the validator does not answer.
    pub async fn submit(&self, call: &Call, at: At<'_>) -> Result<Answer, Error> {
        if let Some(answer) = self.earlier(call).await? {
            return Ok(answer);
        }
        let (policy, version) = self.find(&call.who, Role::Developer, at.id, at.version).await?;
        check_etag(&policy, at.etag)?;
        if version.state == VersionState::Submitted {
            return Ok(self.answer(policy, version));
        }
        after(&version, Move::Submit)?;
        let findings = if version.is_deletion() {
            self.validator.removal(&policy.target, &call.bearer).await?
        } else {
            let text = Text { yaml: version.yaml.clone(), cluster: policy.target.cluster.clone() };
            self.validator.dry_run(&text, &call.bearer).await?.findings
        };
        if errors(&findings).next().is_some() {
            return Err(Error::VersionInvalid { version: version_name(at.id, version.number), findings });
        }
        // From here on it is this version, even if a newer one has been made during the dry run.
        let at = At { version: version.number, ..at };
        let decide = |policy: &Policy, version: &Version, now: Timestamp| {
            if version.state == VersionState::Submitted {
                return Ok(Decision::Nothing);
            }
            let state = after(version, Move::Submit)?;
            let version = Version { state, findings: findings.clone(), ..version.clone() };
            let submitted = event(call, policy, &version, Action::VersionSubmitted, "", now);
            Ok(Decided::of(policy.clone(), version, submitted))
        };
        self.change(call, Role::Developer, at, decide).await
    }

    /// Approves what the approver read. The version becomes APPROVED with the last approval that was needed.
    ///
    /// # Errors
    /// If the caller is no admin there, or the author; if the digest is another one, the state does not allow it, or
    /// the etag is not the current one.
    pub async fn approve(&self, call: &Call, at: At<'_>, digest: &str, comment: &str) -> Result<Answer, Error> {
        check::Fields::default().reason("digest", digest).text("comment", comment).done()?;
        if let Some(answer) = self.earlier(call).await? {
            return Ok(answer);
        }
        let decide = |policy: &Policy, version: &Version, now: Timestamp| {
            if version.digest.as_str() != digest {
                let name = version_name(&policy.id, version.number);
                return Err(Error::field("digest", format!("is not that of {name}: read that version again")));
            }
            if version.author == call.who.subject {
                return Err(Error::SelfApproval(call.who.subject.clone()));
            }
            let state = after(version, Move::Approve)?;
            let mut version = with_approval(version, &call.who.subject, comment, now);
            if self.rules.is_satisfied(&version, now) {
                version.state = state;
            }
            let approved = event(call, policy, &version, Action::VersionApproved, comment, now);
            Ok(Decided::of(policy.clone(), version, approved))
        };
        self.change(call, Role::Admin, at, decide).await
    }

    /// Ends the life of a version that was offered or approved.
    ///
    /// # Errors
    /// If the caller is no admin there, no reason is given, the state does not allow it, or the etag is not the current
    /// one.
    pub async fn reject(&self, call: &Call, at: At<'_>, reason: &str) -> Result<Answer, Error> {
        self.judge(call, at, Move::Reject, Action::VersionRejected, reason).await
    }

    /// Makes a version deployable again that was rolled back. Its approvals must still stand when it is deployed.
    ///
    /// # Errors
    /// If the caller is no admin there, no reason is given, the state does not allow it, or the etag is not the current
    /// one.
    pub async fn release(&self, call: &Call, at: At<'_>, reason: &str) -> Result<Answer, Error> {
        check::version_said(at.version)?;
        self.judge(call, at, Move::Release, Action::VersionReleased, reason).await
    }

    async fn judge(&self, call: &Call, at: At<'_>, by: Move, action: Action, reason: &str) -> Result<Answer, Error> {
        check::Fields::default().reason("reason", reason).done()?;
        if let Some(answer) = self.earlier(call).await? {
            return Ok(answer);
        }
        let decide = |policy: &Policy, version: &Version, now: Timestamp| {
            let state = after(version, by)?;
            // Only what is out of the game has a reason for its state; the trail keeps every one.
            let state_reason = if state == VersionState::Rejected { reason.to_owned() } else { String::new() };
            let version = Version { state, state_reason, ..version.clone() };
            let event = event(call, policy, &version, action, reason, now);
            Ok(Decided::of(policy.clone(), version, event))
        };
        self.change(call, Role::Admin, at, decide).await
    }
}

/// The state after a move, or which states would allow it.
pub(super) fn after(version: &Version, by: Move) -> Result<VersionState, Error> {
    let name = || version_name(&version.policy_id, version.number);
    version.state.after(by).map_err(|source| Error::State { version: name(), source })
}

/// The version with an approval added, or the same approver's renewed.
fn with_approval(version: &Version, approver: &str, comment: &str, now: Timestamp) -> Version {
    let mut version = version.clone();
    version.approvals.retain(|approval| approval.approver != approver);
    version.approvals.push(Approval {
        approver: approver.to_owned(),
        comment: comment.to_owned(),
        digest: version.digest.clone(),
        time: now,
    });
    version
}
