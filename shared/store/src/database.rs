//! Opening, migrating, reading and writing.
//!
//! SQLite allows one writer at a time. Instead of letting connections fight for that place, there is exactly one writer
//! connection; whoever wants to write waits for it in fair order and begins with `BEGIN IMMEDIATE`, so that a
//! transaction which has read never fails when it goes on to write. Readers have a pool of their own and, thanks to the
//! write-ahead log, see the last committed state without waiting for the writer.
//!
//! `synchronous=FULL`: a commit is on the disk before it is answered, also if the power fails right after. With the
//! write-ahead log that costs one fsync per commit (measured on a container's disk: 0.65 ms instead of 0.05 ms), and
//! these services commit a few times per second at most; NORMAL would save that and could forget approvals that were
//! already answered.

use std::{borrow::Cow, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _, SqlSafeStr as _, Sqlite, SqlitePool,
    migrate::{Migration as SqlxMigration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{StoreError, repeat};

/// Version (from 1, below 900000), name, SQL. What was once released is never changed; a change is a new
/// version.
pub type Migration = (i64, &'static str, &'static str);

/// A write transaction: nothing of it is visible to others before `commit`; dropped without it, it is undone.
pub type Transaction = sqlx::Transaction<'static, Sqlite>;

/// Migrations of this crate are numbered from here on; a service's own are below.
const OWN_MIGRATIONS: i64 = 900_000;

const READERS: u32 = 8;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a connection. Shorter than a request's deadline, so that the caller learns why.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// An open database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Database {
    readers: SqlitePool,
    writer: SqlitePool,
}

impl Database {
    /// Opens `sqlite:PATH`, makes the file if there is none, and brings its tables up to date. Doing so again changes
    /// nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with a sentence for the operator if the URL is of another database, the file cannot
    /// be opened, or a migration that was applied earlier is not the one in the program.
    pub async fn open(url: &str, migrations: &[Migration]) -> Result<Self, StoreError> {
        let options = options(url)?;
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(None).max_lifetime(None);
        let writer = pool.clone().min_connections(1).max_connections(1).connect_with(options.clone()).await?;
        migrator(migrations).run(&writer).await.map_err(|error| StoreError::Unavailable(error.into()))?;
        // Query-only instead of a read-only open: a reader may be the one who must recover the log after a crash.
        let readers = pool.max_connections(READERS).connect_with(options.pragma("query_only", "on")).await?;
        Ok(Self { readers, writer })
    }

    /// Connections that only read; each statement sees the last committed state.
    #[must_use]
    pub fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a write transaction; waits until no other one is open.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if that takes longer than ten seconds.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Whether the database answers: for a readiness check.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Waits for open transactions and closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match scheme {
        "sqlite" if url.contains(":memory:") => {
            return Err(StoreError::unavailable(
                "an in-memory database cannot be shared by writer and readers; name a file",
            ));
        }
        "sqlite" => {}
        "postgres" | "postgresql" => {
            return Err(StoreError::unavailable("PostgreSQL is not built in yet; use sqlite:PATH"));
        }
        // The URL itself may hold a password.
        _ => return Err(StoreError::unavailable("the database URL must begin with sqlite:")),
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Unavailable(error.into()))?;
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .disable_statement_logging())
}

fn migrator(migrations: &[Migration]) -> Migrator {
    debug_assert!(migrations.iter().all(|(version, ..)| (1..OWN_MIGRATIONS).contains(version)));
    let own = [(OWN_MIGRATIONS + 1, "repeated requests", repeat::TABLE)];
    let all = migrations.iter().copied().chain(own);
    Migrator::with_migrations(
        all.map(|(version, name, sql)| {
            SqlxMigration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect(),
    )
}
