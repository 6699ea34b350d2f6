//! The store on SQL. The body of a deployment is one JSON document; what is searched for stands in columns beside it.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use meshward_model::Target;
use meshward_store::{
    Database, Earlier, Migration, StoreError, Transaction,
    time::{millis, timestamp},
};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Created, Lease, Repeat, Store};
use crate::deployment::{Deployment, Event};

/// The tables of this service.
pub const MIGRATIONS: &[Migration] = &[
    (1, "deployments", include_str!("../../migrations/1_deployments.sql")),
    (2, "wake", include_str!("../../migrations/2_wake.sql")),
    (3, "verdicts", include_str!("../../migrations/3_verdicts.sql")),
    (4, "changed", include_str!("../../migrations/4_changed.sql")),
];

/// Clocks of replicas may differ by this much. A wake-up or lease that was set further ahead than that was set before the clock went back.
const SKEW: SignedDuration = SignedDuration::from_secs(10);

/// Deployments in SQL.
#[derive(Debug, Clone)]
pub struct SqlStore {
    database: Database,
}

impl SqlStore {
    /// On an open database that has [`MIGRATIONS`].
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

async fn earlier(repeat: &Repeat, tx: &mut Transaction, now: Timestamp) -> Result<Option<Created>, StoreError> {
    Ok(match repeat.recall(tx, now).await? {
        Earlier::Nothing => None,
        Earlier::SameRequest(id) => Some(Created::Repeated(String::from_utf8_lossy(&id).into_owned())),
        Earlier::OtherRequest => Some(Created::RequestIdReused),
    })
}

const ACTIVE_ON: &str = "SELECT id FROM deployments WHERE target_key = $1 AND active = 1";

#[async_trait]
impl Store for SqlStore {
    async fn recall(&self, repeat: &Repeat, now: Timestamp) -> Result<Option<Created>, StoreError> {
        let mut tx = self.database.begin().await?;
        let earlier = earlier(repeat, &mut tx, now).await?;
        tx.commit().await?;
        Ok(earlier)
    }

    async fn active_on(&self, target: &Target) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(ACTIVE_ON).bind(target.key()).fetch_optional(self.database.read()).await?;
        Ok(row.map(|row| row.try_get("id")).transpose()?)
    }

    async fn create(&self, deployment: &Deployment, events: &[Event], repeat: &Repeat) -> Result<Created, StoreError> {
        let mut tx = self.database.begin().await?;
        if let Some(earlier) = earlier(repeat, &mut tx, deployment.create_time).await? {
            return Ok(earlier);
        }
        let busy = sqlx::query(ACTIVE_ON).bind(deployment.target.key()).fetch_optional(&mut *tx).await?;
        if let Some(row) = busy {
            return Ok(Created::TargetBusy(row.try_get("id")?));
        }
        sqlx::query(
            "INSERT INTO deployments
                 (id, policy_id, target_key, active, wake_ms, set_ms, lease_owner, lease_ms, revision, body)
             VALUES ($1, $2, $3, 1, $4, $4, '', 0, $5, $6)",
        )
        .bind(&deployment.id)
        .bind(&deployment.policy_id)
        .bind(deployment.target.key())
        .bind(millis(deployment.create_time))
        .bind(deployment.revision)
        .bind(encode(deployment)?)
        .execute(&mut *tx)
        .await?;
        append(&mut tx, &deployment.id, events).await?;
        repeat.remember(&mut tx, deployment.id.as_bytes(), deployment.create_time).await?;
        tx.commit().await?;
        Ok(Created::New)
    }

    async fn get(&self, id: &str) -> Result<Option<Deployment>, StoreError> {
        let row = sqlx::query("SELECT body FROM deployments WHERE id = $1")
            .bind(id)
            .fetch_optional(self.database.read())
            .await?;
        row.as_ref().map(decode).transpose()
    }

    async fn list(&self, policy_id: &str, before: &str, limit: u32) -> Result<Vec<Deployment>, StoreError> {
        let rows = sqlx::query(
            "SELECT body FROM deployments WHERE ($1 = '' OR policy_id = $1) AND ($2 = '' OR id < $2)
             ORDER BY id DESC LIMIT $3",
        )
        .bind(policy_id)
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(self.database.read())
        .await?;
        rows.iter().map(decode).collect()
    }

    async fn changed_since(&self, time: Timestamp) -> Result<Vec<Deployment>, StoreError> {
        let rows = sqlx::query("SELECT body FROM deployments WHERE active = 1 OR set_ms >= $1")
            .bind(millis(time))
            .fetch_all(self.database.read())
            .await?;
        rows.iter().map(decode).collect()
    }

    async fn events(&self, id: &str, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        let rows = sqlx::query(
            "SELECT sequence, body FROM deployment_events WHERE deployment_id = $1 AND sequence > $2
             ORDER BY sequence LIMIT $3",
        )
        .bind(id)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(self.database.read())
        .await?;
        rows.iter().map(|row| Ok(Event { sequence: row.try_get("sequence")?, ..decode(row)? })).collect()
    }

    async fn claim(&self, lease: &Lease<'_>, now: Timestamp) -> Result<Option<Deployment>, StoreError> {
        let mut tx = self.database.begin().await?;
        let until = now.checked_add(lease.term).unwrap_or(Timestamp::MAX);
        let row = sqlx::query(
            "UPDATE deployments SET lease_owner = $1, lease_ms = $2, set_ms = $3, nudged = 0, wake_ms = MIN(wake_ms, $3)
             WHERE id = (SELECT id FROM deployments
                         WHERE active = 1 AND ((wake_ms <= $3 AND lease_ms <= $3) OR set_ms > $4)
                         ORDER BY wake_ms LIMIT 1)
             RETURNING body",
        )
        .bind(lease.owner)
        .bind(millis(until))
        .bind(millis(now))
        .bind(millis(now.saturating_add(SKEW).unwrap_or(Timestamp::MAX)))
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        row.as_ref().map(decode).transpose()
    }

    async fn commit(
        &self,
        deployment: &Deployment,
        events: &[Event],
        wake_at: Option<Timestamp>,
    ) -> Result<Deployment, StoreError> {
        let mut tx = self.database.begin().await?;
        let next = Deployment { revision: deployment.revision + 1, ..deployment.clone() };
        let done = sqlx::query(
            "UPDATE deployments
             SET active = $1, wake_ms = CASE nudged WHEN 1 THEN MIN(wake_ms, $2) ELSE $2 END, set_ms = $7,
                 lease_owner = '', lease_ms = 0, revision = $3, body = $4
             WHERE id = $5 AND revision = $6",
        )
        .bind(i64::from(!next.ended()))
        .bind(wake_at.map_or(0, millis))
        .bind(next.revision)
        .bind(encode(&next)?)
        .bind(&next.id)
        .bind(deployment.revision)
        .bind(millis(next.update_time))
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Conflict);
        }
        append(&mut tx, &next.id, events).await?;
        tx.commit().await?;
        Ok(next)
    }

    async fn wake(&self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        sqlx::query("UPDATE deployments SET wake_ms = MIN(wake_ms, $2), nudged = 1 WHERE id = $1 AND active = 1")
            .bind(id)
            .bind(millis(now))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn release_all(&self, owner: &str) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        sqlx::query("UPDATE deployments SET lease_owner = '', lease_ms = 0 WHERE lease_owner = $1")
            .bind(owner)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query("SELECT MIN(MAX(wake_ms, lease_ms)) AS due FROM deployments WHERE active = 1")
            .fetch_one(self.database.read())
            .await?;
        row.try_get::<Option<i64>, _>("due")?.map(timestamp).transpose()
    }
}

async fn append(tx: &mut Transaction, id: &str, events: &[Event]) -> Result<(), StoreError> {
    for event in events {
        sqlx::query(
            "INSERT INTO deployment_events (deployment_id, sequence, body)
             SELECT $1, COALESCE(MAX(sequence), 0) + 1, $2 FROM deployment_events WHERE deployment_id = $1",
        )
        .bind(id)
        .bind(encode(event)?)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.into()))
}

fn decode<T: serde::de::DeserializeOwned>(row: &SqliteRow) -> Result<T, StoreError> {
    let body: &str = row.try_get("body")?;
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt(error.into()))
}
