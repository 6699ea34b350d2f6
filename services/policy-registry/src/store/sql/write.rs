//! The statements of one change, within its transaction.

use meshward_store::{StoreError, Transaction, time::millis};
use sqlx::Row as _;

use crate::{
    audit::{Event, Head, Sealed},
    policy::{Approval, DeploymentRecord, Policy, Version},
    store::{Change, Write},
};

pub(super) async fn change(tx: &mut Transaction, change: &Change) -> Result<(), StoreError> {
    match change.write {
        Write::Create => insert_policy(tx, &change.policy).await?,
        Write::Update => update_policy(tx, &change.policy).await?,
        Write::Delete => delete_policy(tx, &change.policy).await?,
    }
    for version in &change.versions {
        put_version(tx, version).await?;
        put_approvals(tx, version).await?;
    }
    if let Some(record) = &change.record {
        insert_record(tx, record).await?;
    }
    append(tx, &change.events).await
}

async fn insert_policy(tx: &mut Transaction, policy: &Policy) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO policies (id, namespace, name, description, cluster, api_version, kind, object_name, target_key,
             latest_version, active_version, revision, creator, created_ms, updated_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(&policy.id)
    .bind(&policy.namespace)
    .bind(&policy.name)
    .bind(&policy.description)
    .bind(&policy.target.cluster)
    .bind(&policy.target.api_version)
    .bind(&policy.target.kind)
    .bind(&policy.target.name)
    .bind(policy.target.key())
    .bind(policy.latest_version)
    .bind(policy.active_version)
    .bind(policy.revision)
    .bind(&policy.creator)
    .bind(millis(policy.created))
    .bind(millis(policy.updated))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Compare-and-set on the revision before.
async fn update_policy(tx: &mut Transaction, policy: &Policy) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE policies SET description = $1, api_version = $2, latest_version = $3, active_version = $4,
             revision = $5, updated_ms = $6
         WHERE id = $7 AND revision = $8",
    )
    .bind(&policy.description)
    .bind(&policy.target.api_version)
    .bind(policy.latest_version)
    .bind(policy.active_version)
    .bind(policy.revision)
    .bind(millis(policy.updated))
    .bind(&policy.id)
    .bind(policy.revision - 1)
    .execute(&mut **tx)
    .await?;
    one(done.rows_affected())
}

async fn delete_policy(tx: &mut Transaction, policy: &Policy) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM policies WHERE id = $1 AND revision = $2")
        .bind(&policy.id)
        .bind(policy.revision)
        .execute(&mut **tx)
        .await?;
    one(done.rows_affected())
}

fn one(rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Inserts a new version. Of a known one only what may change is written; its content is not even looked at.
async fn put_version(tx: &mut Transaction, version: &Version) -> Result<(), StoreError> {
    let findings = serde_json::to_string(&version.findings).map_err(|error| StoreError::Corrupt(error.into()))?;
    sqlx::query(
        "INSERT INTO versions (policy_id, number, digest, yaml, canonical_json, state, author, change_note, findings,
             state_reason, created_ms, updated_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (policy_id, number) DO UPDATE SET state = excluded.state, findings = excluded.findings,
             state_reason = excluded.state_reason, updated_ms = excluded.updated_ms",
    )
    .bind(&version.policy_id)
    .bind(version.number)
    .bind(version.digest.as_str())
    .bind(&version.yaml)
    .bind(&version.canonical_json)
    .bind(version.state.name())
    .bind(&version.author)
    .bind(&version.change_note)
    .bind(findings)
    .bind(&version.state_reason)
    .bind(millis(version.created))
    .bind(millis(version.updated))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Approvals are added and renewed, never taken away.
async fn put_approvals(tx: &mut Transaction, version: &Version) -> Result<(), StoreError> {
    for Approval { approver, comment, digest, time } in &version.approvals {
        sqlx::query(
            "INSERT INTO approvals (policy_id, version, approver, comment, digest, time_ms)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (policy_id, version, approver) DO UPDATE SET comment = excluded.comment,
                 digest = excluded.digest, time_ms = excluded.time_ms",
        )
        .bind(&version.policy_id)
        .bind(version.number)
        .bind(approver)
        .bind(comment)
        .bind(digest.as_str())
        .bind(millis(*time))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn insert_record(tx: &mut Transaction, record: &DeploymentRecord) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO deployment_records (deployment_id, policy_id, version, outcome) VALUES ($1, $2, $3, $4)")
        .bind(&record.deployment_id)
        .bind(&record.policy_id)
        .bind(record.version)
        .bind(record.outcome.name())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Seals the events to the end of the trail. Safe because write transactions take turns.
async fn append(tx: &mut Transaction, events: &[Event]) -> Result<(), StoreError> {
    let last = sqlx::query("SELECT sequence, hash FROM audit_events ORDER BY sequence DESC LIMIT 1");
    let mut head = match last.fetch_optional(&mut **tx).await? {
        Some(row) => Head { sequence: row.try_get("sequence")?, hash: row.try_get("hash")? },
        None => Head::default(),
    };
    for event in events {
        let sealed = head.seal(event.clone());
        insert_event(tx, &sealed).await?;
        head = sealed.head();
    }
    Ok(())
}

async fn insert_event(tx: &mut Transaction, sealed: &Sealed) -> Result<(), StoreError> {
    let event = &sealed.event;
    sqlx::query(
        "INSERT INTO audit_events
             (sequence, policy_id, namespace, version, action, actor, digest, comment, time_ms, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(sealed.sequence)
    .bind(&event.policy_id)
    .bind(&event.namespace)
    .bind(event.version)
    .bind(&event.action)
    .bind(&event.actor)
    .bind(&event.digest)
    .bind(&event.comment)
    .bind(millis(event.time))
    .bind(&sealed.hash)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
