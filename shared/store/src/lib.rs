//! What every service with SQL needs, and no more: open a database, migrate it, read, write in one transaction, page,
//! and remember the answers to requests that clients repeat.
//!
//! - [`StoreArgs`]: the flag that names the database;
//! - [`Database`]: one writer connection, a pool of readers, embedded migrations;
//! - [`StoreError`]: what a caller can do about a failure;
//! - [`page`]: page sizes and opaque page tokens;
//! - [`Repeat`]: request ids, so that a repeated mutation returns its first answer;
//! - [`time`]: moments as integers.
//!
//! # How SQL is written here
//! Only SQLite is built in so far. Statements are to be shared with PostgreSQL later, so they keep to what both
//! understand: `$1` placeholders, `RETURNING`, `ON CONFLICT`, BIGINT-sized integers, times as INTEGER milliseconds,
//! JSON as TEXT, ids and times made in Rust. A store trait of a service has use-case methods, each one transaction; no
//! transaction leaves it.
//!
//! ```no_run
//! # async fn example() -> Result<(), meshward_store::StoreError> {
//! use meshward_store::{Database, Migration};
//!
//! const MIGRATIONS: &[Migration] = &[(1, "notes", "CREATE TABLE notes (id TEXT PRIMARY KEY) STRICT;")];
//!
//! let db = Database::open("sqlite:notes.db", MIGRATIONS).await?;
//! let mut tx = db.begin().await?;
//! sqlx::query("INSERT INTO notes (id) VALUES ($1)").bind("a").execute(&mut *tx).await?;
//! tx.commit().await?;
//! let row = sqlx::query("SELECT id FROM notes").fetch_optional(db.read()).await?;
//! # Ok(())
//! # }
//! ```

mod args;
mod database;
mod error;
pub mod page;
mod repeat;
pub mod time;

pub use args::StoreArgs;
pub use database::{Database, Migration, Transaction};
pub use error::StoreError;
pub use repeat::{Earlier, REMEMBERED, Repeat};
