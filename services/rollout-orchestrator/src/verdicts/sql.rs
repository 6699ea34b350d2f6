//! Verdicts in SQL, beside the deployments.

use std::time::Duration;

use async_trait::async_trait;
use meshward_store::{
    Database, StoreError,
    time::{millis, timestamp},
};
use sqlx::Row as _;

use super::{Kept, MAX_OF_STEP, Verdicts};

/// Verdicts in the orchestrator's database.
#[derive(Debug, Clone)]
pub struct SqlVerdicts {
    database: Database,
    retention: Duration,
}

impl SqlVerdicts {
    /// On an open database that has the store's migrations. A verdict is kept for `retention` at most.
    #[must_use]
    pub fn new(database: Database, retention: Duration) -> Self {
        Self { database, retention }
    }
}

#[async_trait]
impl Verdicts for SqlVerdicts {
    async fn keep(&self, deployment_id: &str, kept: &Kept, told: &[u8]) -> Result<(), StoreError> {
        let step = i64::try_from(kept.step).unwrap_or(i64::MAX);
        let verdict = serde_json::to_string(&kept.verdict).map_err(|error| StoreError::Corrupt(error.into()))?;
        let retention = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let mut tx = self.database.begin().await?;
        sqlx::query("DELETE FROM verdicts WHERE time_ms < $1")
            .bind(millis(kept.time).saturating_sub(retention))
            .execute(&mut *tx)
            .await?;
        // The newest of the step, if it says the same.
        sqlx::query(
            "DELETE FROM verdicts WHERE deployment_id = $1 AND step = $2 AND verdict = $3 AND sequence =
                 (SELECT MAX(sequence) FROM verdicts WHERE deployment_id = $1 AND step = $2)",
        )
        .bind(deployment_id)
        .bind(step)
        .bind(&verdict)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO verdicts (deployment_id, sequence, analysis_id, step, verdict, time_ms, explanation, told)
             SELECT $1, COALESCE(MAX(sequence), 0) + 1, $2, $3, $4, $5, $6, $7 FROM verdicts WHERE deployment_id = $1",
        )
        .bind(deployment_id)
        .bind(&kept.analysis_id)
        .bind(step)
        .bind(&verdict)
        .bind(millis(kept.time))
        .bind(&kept.explanation)
        .bind(told)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM verdicts WHERE deployment_id = $1 AND step = $2 AND sequence NOT IN
                 (SELECT sequence FROM verdicts WHERE deployment_id = $1 AND step = $2 ORDER BY sequence DESC LIMIT $3)",
        )
        .bind(deployment_id)
        .bind(step)
        .bind(i64::from(MAX_OF_STEP))
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    async fn all(&self, deployment_id: &str) -> Result<Vec<Kept>, StoreError> {
        let rows = sqlx::query(
            "SELECT analysis_id, step, verdict, time_ms, explanation FROM verdicts WHERE deployment_id = $1
             ORDER BY sequence",
        )
        .bind(deployment_id)
        .fetch_all(self.database.read())
        .await?;
        let kept = |row: &sqlx::sqlite::SqliteRow| {
            let verdict: &str = row.try_get("verdict")?;
            Ok(Kept {
                analysis_id: row.try_get("analysis_id")?,
                step: usize::try_from(row.try_get::<i64, _>("step")?).unwrap_or(0),
                verdict: serde_json::from_str(verdict).map_err(|error| StoreError::Corrupt(error.into()))?,
                time: timestamp(row.try_get("time_ms")?)?,
                explanation: row.try_get("explanation")?,
            })
        };
        rows.iter().map(kept).collect()
    }

    async fn told(&self, deployment_id: &str, analysis_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT told FROM verdicts WHERE deployment_id = $1 AND analysis_id = $2")
            .bind(deployment_id)
            .bind(analysis_id)
            .fetch_optional(self.database.read())
            .await?;
        Ok(row.map(|row| row.try_get("told")).transpose()?)
    }
}
