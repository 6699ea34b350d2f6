//! The port to whatever stores the mesh's metrics, and what stands before it: each cluster has its own ([`clusters`]),
//! the same question is asked once ([`cache`]), and a source that fails is left alone for a while ([`breaker`]).

pub mod breaker;
pub mod cache;
pub mod clusters;
pub mod meters;
pub mod prometheus;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use crate::window::{Grid, Series};

/// The series of one query, shared by all who asked.
pub type Answer = Arc<Vec<Series>>;

/// Answers queries over time.
#[async_trait]
pub trait MetricsSource: Send + Sync + 'static {
    /// What it is and where, for messages; without credentials.
    fn address(&self) -> &str;

    /// The value of each series of `query` at every boundary of `grid`. Series and points that do not exist are left
    /// out.
    ///
    /// # Errors
    /// [`SourceError`], at the latest at `deadline`.
    async fn range(&self, query: &str, grid: &Grid, deadline: Instant) -> Result<Answer, SourceError>;
}

/// Why the source gave no answer that can be used. The texts are for operators; they hold no credentials.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    /// No connection, or it broke.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why not.
        reason: String,
    },
    /// No answer within the time allowed.
    #[error("{address} did not answer within {:.1} s", .waited.as_secs_f64())]
    TimedOut {
        /// Where it was asked.
        address: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It answered with an error.
    #[error("{address} answered {status}: {message}")]
    Refused {
        /// Where it was asked.
        address: String,
        /// HTTP status.
        status: u16,
        /// Its own words, shortened.
        message: String,
    },
    /// It says that its answer is not whole. Half of the series would give a wrong verdict, so it is none.
    #[error("{address} gave a partial answer: {message}")]
    Partial {
        /// Where it was asked.
        address: String,
        /// Its own words, shortened.
        message: String,
    },
    /// The answer has more bytes than are read.
    #[error("the answer of {address} has over {limit} bytes: ask for fewer hosts, a shorter time or a longer tick")]
    TooLarge {
        /// Where it was asked.
        address: String,
        /// Bytes that are read at most.
        limit: usize,
    },
    /// The answer is not what was asked for.
    #[error("the answer of {address} cannot be read: {reason}")]
    Malformed {
        /// Where it was asked.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It was not asked, because it failed several times in a row.
    #[error("{address} is left alone for {:.1} s, it failed {} times in a row: {last}", .left.as_secs_f64(), breaker::FAILURES)]
    Resting {
        /// What was not asked.
        address: String,
        /// The last failure.
        last: String,
        /// When it is asked again.
        left: Duration,
    },
    /// The file with the token or the password cannot be used.
    #[error("the file with the credentials for {address} cannot be used: {reason}")]
    Credentials {
        /// For where.
        address: String,
        /// Why not.
        reason: String,
    },
}

impl SourceError {
    /// Whether the same question may be answered a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Resting { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// In one word, for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused { .. } => "refused",
            Self::Partial { .. } => "partial",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::Resting { .. } => "resting",
            Self::Credentials { .. } => "credentials",
        }
    }

    /// Whether the source itself is in trouble, rather than the question.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.is_transient() || matches!(self, Self::TimedOut { .. })
    }
}
