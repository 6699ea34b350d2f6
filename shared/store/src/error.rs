//! Failures of a store, by what a caller can do about them.

/// A store failed. Driver types stay behind this line: services map these five to their own errors.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No row fits. Nothing to repeat.
    #[error("not found")]
    NotFound,
    /// Somebody else wrote in between: read again and decide again.
    #[error("somebody else wrote in between")]
    Conflict,
    /// A unique key is taken.
    #[error("{key} exists already")]
    AlreadyExists {
        /// The columns of the key, as the database names them: "policies.namespace, policies.name".
        key: String,
    },
    /// The database cannot be reached, is busy for too long, or cannot write (disk full). The same call may work later.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored, or what was asked, makes no sense: a defect or a damaged file. Repeating does not help.
    #[error("the database holds or was asked something that makes no sense")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// [`StoreError::Corrupt`] with a sentence about what was found.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into().into())
    }

    /// [`StoreError::Unavailable`] with a sentence about why.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable(why.into().into())
    }

    /// Whether a unique key that contains `column` ("policies.name") is taken.
    #[must_use]
    pub fn is_taken(&self, column: &str) -> bool {
        matches!(self, Self::AlreadyExists { key } if key.split(", ").any(|taken| taken == column))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::RowNotFound => Self::NotFound,
            sqlx::Error::Database(error) => of_database(error),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error.into()),
            other => Self::Corrupt(other.into()),
        }
    }
}

fn of_database(error: Box<dyn sqlx::error::DatabaseError>) -> StoreError {
    if error.is_unique_violation() {
        let message = error.message();
        let key = message.strip_prefix("UNIQUE constraint failed: ").unwrap_or(message);
        return StoreError::AlreadyExists { key: key.to_owned() };
    }
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    if is_transient(code) { StoreError::Unavailable(error.into()) } else { StoreError::Corrupt(error.into()) }
}

/// SQLite's result codes that speak of the machine, not of the statement. The low byte is the class.
fn is_transient(code: i32) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const READ_ONLY: i32 = 8;
    const IO: i32 = 10;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    matches!(code & 0xff, BUSY | LOCKED | READ_ONLY | IO | FULL | CANNOT_OPEN)
}
