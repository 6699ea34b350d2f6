//! Rows to domain types. What does not parse was not written by us: [`StoreError::Corrupt`].

use jiff::Timestamp;
use meshward_model::{Digest, Target};
use meshward_store::{StoreError, time};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    audit::{Event, Sealed},
    lifecycle::VersionState,
    policy::{Approval, DeploymentRecord, Effective, Outcome, Policy, Version},
};

pub(super) fn policy(row: &SqliteRow) -> Result<Policy, StoreError> {
    let namespace: String = row.try_get("namespace")?;
    let target = Target::new(
        row.try_get("cluster")?,
        row.try_get("api_version")?,
        row.try_get("kind")?,
        &namespace,
        row.try_get("object_name")?,
    );
    Ok(Policy {
        id: row.try_get("id")?,
        namespace,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        target: target.map_err(|error| StoreError::Corrupt(error.into()))?,
        latest_version: row.try_get("latest_version")?,
        active_version: row.try_get("active_version")?,
        revision: row.try_get("revision")?,
        creator: row.try_get("creator")?,
        created: moment(row, "created_ms")?,
        updated: moment(row, "updated_ms")?,
    })
}

/// Without its approvals, which are rows of their own.
pub(super) fn version(row: &SqliteRow) -> Result<Version, StoreError> {
    let findings = serde_json::from_str(row.try_get("findings")?);
    Ok(Version {
        policy_id: row.try_get("policy_id")?,
        number: row.try_get("number")?,
        digest: digest(row)?,
        yaml: row.try_get("yaml")?,
        canonical_json: row.try_get("canonical_json")?,
        state: state(row)?,
        author: row.try_get("author")?,
        change_note: row.try_get("change_note")?,
        approvals: Vec::new(),
        findings: findings.map_err(|error| StoreError::Corrupt(error.into()))?,
        state_reason: row.try_get("state_reason")?,
        created: moment(row, "created_ms")?,
        updated: moment(row, "updated_ms")?,
    })
}

pub(super) fn effective(row: &SqliteRow) -> Result<Effective, StoreError> {
    Ok(Effective {
        policy_id: row.try_get("policy_id")?,
        number: row.try_get("number")?,
        state: state(row)?,
        canonical_json: row.try_get("canonical_json")?,
    })
}

pub(super) fn approval(row: &SqliteRow) -> Result<Approval, StoreError> {
    Ok(Approval {
        approver: row.try_get("approver")?,
        comment: row.try_get("comment")?,
        digest: digest(row)?,
        time: moment(row, "time_ms")?,
    })
}

pub(super) fn event(row: &SqliteRow) -> Result<Sealed, StoreError> {
    let event = Event {
        policy_id: row.try_get("policy_id")?,
        namespace: row.try_get("namespace")?,
        version: row.try_get("version")?,
        action: row.try_get("action")?,
        actor: row.try_get("actor")?,
        digest: row.try_get("digest")?,
        comment: row.try_get("comment")?,
        time: moment(row, "time_ms")?,
    };
    Ok(Sealed { sequence: row.try_get("sequence")?, event, hash: row.try_get("hash")? })
}

pub(super) fn deployment(row: &SqliteRow) -> Result<DeploymentRecord, StoreError> {
    let outcome: &str = row.try_get("outcome")?;
    Ok(DeploymentRecord {
        deployment_id: row.try_get("deployment_id")?,
        policy_id: row.try_get("policy_id")?,
        version: row.try_get("version")?,
        outcome: Outcome::from_name(outcome).ok_or_else(|| unknown("outcome", outcome))?,
    })
}

fn state(row: &SqliteRow) -> Result<VersionState, StoreError> {
    let state: &str = row.try_get("state")?;
    VersionState::from_name(state).ok_or_else(|| unknown("state", state))
}

fn digest(row: &SqliteRow) -> Result<Digest, StoreError> {
    Digest::try_from(row.try_get::<String, _>("digest")?).map_err(|error| StoreError::Corrupt(error.into()))
}

fn moment(row: &SqliteRow, column: &str) -> Result<Timestamp, StoreError> {
    time::timestamp(row.try_get(column)?)
}

fn unknown(what: &str, value: &str) -> StoreError {
    StoreError::corrupt(format!("{value:?} is no {what}"))
}
