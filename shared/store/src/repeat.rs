//! Repeated requests: a client that lost the answer to a mutation sends it again under the same `request_id` and gets
//! the first answer, instead of doing it twice.
//!
//! The answer is stored in the same transaction as what it tells of, so one is there exactly if the other is. Ids
//! belong to the caller who made them: nobody gets another's answer by guessing an id.
//!
//! ```no_run
//! # use meshward_store::*;
//! # async fn example(db: &Database, now: jiff::Timestamp) -> Result<Vec<u8>, StoreError> {
//! let repeat = Repeat::new("5c1a…", "alice", "CreatePolicy", b"the request as it was encoded");
//! let mut tx = db.begin().await?;
//! match repeat.recall(&mut tx, now).await? {
//!     Earlier::Nothing => {}
//!     Earlier::SameRequest(answer) => return Ok(answer),
//!     Earlier::OtherRequest => return Err(StoreError::Conflict), // answer REQUEST_ID_REUSED
//! }
//! let answer = b"what was done, encoded".to_vec();
//! repeat.remember(&mut tx, &answer, now).await?;
//! tx.commit().await?;
//! # Ok(answer)
//! # }
//! ```

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use crate::{StoreError, Transaction, time::millis};

/// How long an answer is kept.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

pub(crate) const TABLE: &str = "
CREATE TABLE repeated_requests (
    actor TEXT NOT NULL,
    request_id TEXT NOT NULL,
    method TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    response BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (actor, request_id)
) STRICT;
CREATE INDEX repeated_requests_by_age ON repeated_requests (created_ms);
";

/// One request under its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    request_id: String,
    actor: String,
    method: &'static str,
    digest: Vec<u8>,
}

/// What is known about a request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Earlier {
    /// It is new, or there is none: do it.
    Nothing,
    /// The same request was answered with this.
    SameRequest(Vec<u8>),
    /// It was used for another request: refuse.
    OtherRequest,
}

impl Repeat {
    /// A request of `actor`; `request` is its encoded form, of which a digest is kept. Without a request id (empty)
    /// nothing is recalled or remembered.
    #[must_use]
    pub fn new(request_id: &str, actor: &str, method: &'static str, request: &[u8]) -> Self {
        Self {
            request_id: request_id.to_owned(),
            actor: actor.to_owned(),
            method,
            digest: Sha256::digest(request).to_vec(),
        }
    }

    /// Whether there is an id, so that there may be an earlier answer.
    #[must_use]
    pub fn has_id(&self) -> bool {
        !self.request_id.is_empty()
    }

    /// Looks the id up, and forgets whatever is older than [`REMEMBERED`].
    ///
    /// # Errors
    /// As the database says.
    pub async fn recall(&self, tx: &mut Transaction, now: Timestamp) -> Result<Earlier, StoreError> {
        if !self.has_id() {
            return Ok(Earlier::Nothing);
        }
        let oldest = now.checked_sub(REMEMBERED).map_or(i64::MIN, millis);
        sqlx::query("DELETE FROM repeated_requests WHERE created_ms <= $1").bind(oldest).execute(&mut **tx).await?;
        let row = sqlx::query(
            "SELECT method, request_digest, response FROM repeated_requests WHERE actor = $1 AND request_id = $2",
        )
        .bind(&self.actor)
        .bind(&self.request_id)
        .fetch_optional(&mut **tx)
        .await?;
        let Some(row) = row else { return Ok(Earlier::Nothing) };
        let same = row.try_get::<&str, _>("method")? == self.method
            && row.try_get::<&[u8], _>("request_digest")? == self.digest;
        Ok(if same { Earlier::SameRequest(row.try_get("response")?) } else { Earlier::OtherRequest })
    }

    /// Stores the answer, to be committed with what it tells of.
    ///
    /// # Errors
    /// As the database says.
    pub async fn remember(&self, tx: &mut Transaction, response: &[u8], now: Timestamp) -> Result<(), StoreError> {
        if !self.has_id() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO repeated_requests (actor, request_id, method, request_digest, response, created_ms)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&self.actor)
        .bind(&self.request_id)
        .bind(self.method)
        .bind(&self.digest)
        .bind(response)
        .bind(millis(now))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}
