//! What became of deployments. The orchestrator tells it, perhaps several times; a version's state follows it once.

use jiff::Timestamp;
use meshward_chassis::auth::Role;
use meshward_store::StoreError;

use super::{
    Answer, App, At, Call,
    change::{Decided, Decision, event},
    check,
    review::after,
    version_name,
};
use crate::{
    audit::Action,
    error::Error,
    lifecycle::{Move, VersionState},
    policy::{DeploymentRecord, Outcome, Policy, Version},
};

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which deployment.
    pub deployment_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as people are told.
    pub reason: String,
}

impl App {
    /// Takes the outcome of a deployment into the version's state.
    ///
    /// # Errors
    /// If the caller is no service, another outcome was told of this deployment, or the state of the version does not
    /// allow it.
    pub async fn record(&self, call: &Call, id: &str, version: i64, report: &Report) -> Result<Answer, Error> {
        check::version_said(version)?;
        check::Fields::default().foreign_id("deployment_id", &report.deployment_id).done()?;
        let report = &Report { reason: check::shortened(&report.reason), ..report.clone() };
        let (policy, found) = self.find(&call.who, Role::Service, id, version).await?;
        let record = DeploymentRecord {
            deployment_id: report.deployment_id.clone(),
            policy_id: id.to_owned(),
            version,
            outcome: report.outcome,
        };
        if self.is_recorded(&record).await? {
            return Ok(self.answer(policy, found));
        }
        match self.record_new(call, &record, report).await {
            // Told twice at the same time: the other one was first.
            Err(Error::Store(StoreError::AlreadyExists { .. })) if self.is_recorded(&record).await? => {
                let (policy, found) = self.find(&call.who, Role::Service, id, version).await?;
                Ok(self.answer(policy, found))
            }
            done => done,
        }
    }

    /// Whether this was told before.
    async fn is_recorded(&self, record: &DeploymentRecord) -> Result<bool, Error> {
        match self.store.deployment(&record.deployment_id).await? {
            None => Ok(false),
            Some(known) if known == *record => Ok(true),
            Some(known) => {
                let version = version_name(&known.policy_id, known.version);
                Err(Error::contradicts(&record.deployment_id, known.outcome, version))
            }
        }
    }

    async fn record_new(&self, call: &Call, record: &DeploymentRecord, report: &Report) -> Result<Answer, Error> {
        let at = At { id: &record.policy_id, version: record.version, etag: "" };
        // The version that a promotion displaces is read before; the compare-and-set on the policy notices if it is not
        // the one.
        let (policy, _) = self.find(&call.who, Role::Service, at.id, 0).await?;
        let active = match policy.active_version {
            0 => None,
            active => Some(self.find(&call.who, Role::Service, at.id, active).await?.1),
        };
        let decide = |policy: &Policy, version: &Version, now: Timestamp| {
            let before = active.as_ref().map_or(0, |active| active.number);
            if policy.active_version != before {
                return Err(Error::Store(StoreError::Conflict));
            }
            let mut decided = ended(call, policy, version, active.as_ref(), report, now)?;
            decided.record = Some(record.clone());
            Ok(Decision::Change(Box::new(decided)))
        };
        self.change(call, Role::Service, at, decide).await
    }
}

/// The pure part: what an outcome makes of policy, version and the active version.
fn ended(
    call: &Call,
    policy: &Policy,
    version: &Version,
    active: Option<&Version>,
    report: &Report,
    now: Timestamp,
) -> Result<Decided, Error> {
    let (by, action) = match report.outcome {
        Outcome::Promoted => (Move::Promote, Action::VersionPromoted),
        Outcome::RolledBack => (Move::Quarantine, Action::VersionRolledBack),
        Outcome::Aborted => (Move::Abort, Action::VersionAborted),
    };
    let (mut policy, mut version) = (policy.clone(), version.clone());
    version.state = after(&version, by)?;
    match version.state {
        VersionState::Active => version.state_reason.clear(),
        VersionState::Quarantined if report.reason.is_empty() => {
            version.state_reason = format!("deployment {}", report.deployment_id);
        }
        VersionState::Quarantined => version.state_reason.clone_from(&report.reason),
        _ => {}
    }
    let comment = format!("deployment {}: {}", report.deployment_id, report.reason);
    let mut events = vec![event(call, &policy, &version, action, comment.trim_end_matches(": "), now)];
    let mut displaced = None;
    match report.outcome {
        Outcome::Promoted => {
            policy.active_version = version.number;
            if let Some(active) = active.filter(|active| active.number != version.number) {
                let old = Version { state: after(active, Move::Supersede)?, ..active.clone() };
                let comment = format!("by version {}", version.number);
                events.push(event(call, &policy, &old, Action::VersionSuperseded, &comment, now));
                displaced = Some(old);
            }
        }
        Outcome::RolledBack if policy.active_version == version.number => policy.active_version = 0,
        Outcome::RolledBack | Outcome::Aborted => {}
    }
    Ok(Decided { policy, version, displaced, record: None, events })
}
