//! The store in SQL.

mod rows;
mod write;

use async_trait::async_trait;
use futures::{Stream, TryStreamExt as _};
use jiff::Timestamp;
use meshward_store::{Database, Earlier, Migration, Repeat, StoreError};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Change, Page, Scope, Store};
use crate::{
    audit::Sealed,
    policy::{Approval, DeploymentRecord, Effective, Policy, Version},
};

const MIGRATIONS: &[Migration] = &[
    (1, "policies", include_str!("../../migrations/0001_policies.sql")),
    (2, "effective_versions", include_str!("../../migrations/0002_effective_versions.sql")),
];

/// A page of versions ends when it holds this much text, so that it fits into a message.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

const POLICY: &str = "SELECT id, namespace, name, description, cluster, api_version, kind, object_name, latest_version,
    active_version, revision, creator, created_ms, updated_ms FROM policies";
const VERSION: &str = "SELECT policy_id, number, digest, yaml, canonical_json, state, author, change_note, findings,
    state_reason, created_ms, updated_ms FROM versions";
const EFFECTIVE: &str =
    "SELECT policy_id, number, state, canonical_json FROM policies JOIN versions AS own ON policy_id = id
    WHERE canonical_json <> '' AND state IN ('ACTIVE', 'APPROVED') AND (state = 'ACTIVE' OR (number > active_version AND number =
        (SELECT max(number) FROM versions WHERE policy_id = own.policy_id AND state IN ('ACTIVE', 'APPROVED'))))";
const EVENT: &str =
    "SELECT sequence, policy_id, namespace, version, action, actor, digest, comment, time_ms, hash FROM audit_events";

/// Policies in a SQL database.
#[derive(Debug, Clone)]
pub struct SqlStore {
    db: Database,
}

impl SqlStore {
    /// Opens the database and brings its tables up to date.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { db: Database::open(url, MIGRATIONS).await? })
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn recall(&self, repeat: &Repeat, now: Timestamp) -> Result<Earlier, StoreError> {
        let mut tx = self.db.begin().await?;
        let earlier = repeat.recall(&mut tx, now).await?;
        tx.commit().await?;
        Ok(earlier)
    }

    async fn commit(
        &self,
        change: &Change,
        repeat: &Repeat,
        answer: &[u8],
        now: Timestamp,
    ) -> Result<Earlier, StoreError> {
        let mut tx = self.db.begin().await?;
        let earlier = repeat.recall(&mut tx, now).await?;
        if earlier != Earlier::Nothing {
            return Ok(earlier);
        }
        write::change(&mut tx, change).await?;
        repeat.remember(&mut tx, answer, now).await?;
        tx.commit().await?;
        Ok(Earlier::Nothing)
    }

    async fn find(&self, id: &str, version: i64) -> Result<Option<(Policy, Version)>, StoreError> {
        // One transaction, so that policy, version and approvals are of one moment.
        let mut tx = self.db.read().begin().await?;
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{POLICY} WHERE id = $1")));
        let Some(row) = query.bind(id).fetch_optional(&mut *tx).await? else { return Ok(None) };
        let policy = rows::policy(&row)?;
        let number = if version == 0 { policy.latest_version } else { version };
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{VERSION} WHERE policy_id = $1 AND number = $2")));
        let Some(row) = query.bind(id).bind(number).fetch_optional(&mut *tx).await? else { return Ok(None) };
        let mut version = rows::version(&row)?;
        version.approvals = approvals(&mut tx, id, number, number).await?.into_iter().map(|(_, a)| a).collect();
        Ok(Some((policy, version)))
    }

    async fn holder(&self, wanted: &Policy) -> Result<Option<Policy>, StoreError> {
        let sql = format!(
            "{POLICY} WHERE target_key = $1 OR (namespace = $2 AND name = $3)
             ORDER BY CASE WHEN target_key = $1 THEN 0 ELSE 1 END LIMIT 1"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql));
        let query = query.bind(wanted.target.key()).bind(&wanted.namespace).bind(&wanted.name);
        query.fetch_optional(self.db.read()).await?.as_ref().map(rows::policy).transpose()
    }

    async fn policies(&self, scope: &Scope, after: &str, limit: u32) -> Result<Page<Policy>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(POLICY);
        query.push(" WHERE id > ").push_bind(after);
        within(&mut query, scope);
        query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit) + 1);
        let rows = query.build().fetch_all(self.db.read()).await?;
        page(rows.iter().map(rows::policy), limit)
    }

    async fn versions(&self, id: &str, below: i64, limit: u32) -> Result<Page<Version>, StoreError> {
        let mut tx = self.db.read().begin().await?;
        let mut page = newest(&mut tx, id, below, limit).await?;
        let (Some(first), Some(last)) = (page.items.first(), page.items.last()) else { return Ok(page) };
        for (number, approval) in approvals(&mut tx, id, last.number, first.number).await? {
            if let Some(version) = page.items.iter_mut().find(|version| version.number == number) {
                version.approvals.push(approval);
            }
        }
        Ok(page)
    }

    async fn effective(
        &self,
        scope: &Scope,
        cluster: &str,
        after: (&str, i64),
        limit: u32,
    ) -> Result<Page<Effective>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(EFFECTIVE);
        query.push(" AND cluster = ").push_bind(cluster);
        query.push(" AND (policy_id, number) > (").push_bind(after.0).push(", ").push_bind(after.1).push(")");
        within(&mut query, scope);
        query.push(" ORDER BY policy_id, number");
        let rows = query.build().fetch(self.db.read());
        page_of_texts(rows, limit, rows::effective, |version| version.canonical_json.len()).await
    }

    async fn events(&self, scope: &Scope, policy_id: &str, after: i64, limit: u32) -> Result<Page<Sealed>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(EVENT);
        query.push(" WHERE sequence > ").push_bind(after);
        if !policy_id.is_empty() {
            query.push(" AND policy_id = ").push_bind(policy_id);
        }
        within(&mut query, scope);
        query.push(" ORDER BY sequence LIMIT ").push_bind(i64::from(limit) + 1);
        let rows = query.build().fetch_all(self.db.read()).await?;
        page(rows.iter().map(rows::event), limit)
    }

    async fn deployment(&self, deployment_id: &str) -> Result<Option<DeploymentRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT deployment_id, policy_id, version, outcome FROM deployment_records WHERE deployment_id = $1",
        )
        .bind(deployment_id)
        .fetch_optional(self.db.read())
        .await?;
        row.as_ref().map(rows::deployment).transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.db.ping().await
    }
}

fn within(query: &mut QueryBuilder<Sqlite>, scope: &Scope) {
    let Scope::Only(namespaces) = scope else { return };
    if namespaces.is_empty() {
        query.push(" AND 1 = 0");
        return;
    }
    let mut list = query.push(" AND namespace IN (").separated(", ");
    for namespace in namespaces {
        list.push_bind(namespace.clone());
    }
    query.push(")");
}

/// A page of rows that were read with one more than `limit`.
fn page<T>(rows: impl Iterator<Item = Result<T, StoreError>>, limit: u32) -> Result<Page<T>, StoreError> {
    let mut items = rows.collect::<Result<Vec<_>, _>>()?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    Ok(Page { items, more })
}

async fn newest(tx: &mut SqliteConnection, id: &str, below: i64, limit: u32) -> Result<Page<Version>, StoreError> {
    let sql = format!("{VERSION} WHERE policy_id = $1 AND number < $2 ORDER BY number DESC");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).bind(below).fetch(tx);
    page_of_texts(rows, limit, rows::version, |version| version.yaml.len() + version.canonical_json.len()).await
}

/// A page that ends at `limit` rows, or when it holds as much text as fits into a message.
async fn page_of_texts<T>(
    mut rows: impl Stream<Item = Result<SqliteRow, sqlx::Error>> + Unpin,
    limit: u32,
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    size: impl Fn(&T) -> usize,
) -> Result<Page<T>, StoreError> {
    let mut page = Page { items: Vec::new(), more: false };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let item = read(&row)?;
        bytes += size(&item);
        let full = page.items.len() == limit as usize || bytes > PAGE_BYTES;
        if full && !page.items.is_empty() {
            page.more = true;
            break;
        }
        page.items.push(item);
    }
    Ok(page)
}

/// Approvals of a range of versions with the version's number, oldest first.
async fn approvals(
    tx: &mut SqliteConnection,
    id: &str,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, Approval)>, StoreError> {
    let rows = sqlx::query(
        "SELECT version, approver, comment, digest, time_ms FROM approvals
         WHERE policy_id = $1 AND version BETWEEN $2 AND $3 ORDER BY version, time_ms, approver",
    )
    .bind(id)
    .bind(from)
    .bind(to)
    .fetch_all(tx)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("version")?, rows::approval(row)?))).collect()
}
