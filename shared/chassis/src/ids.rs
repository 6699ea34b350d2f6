//! Chance as a port: new identifiers come from [`Ids`], so that tests can name them in advance.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Makes identifiers.
pub trait Ids: Send + Sync + 'static {
    /// A new UUID in its hyphenated lower-case form. Later ones sort after earlier ones.
    fn uuid(&self) -> String;
}

/// UUID version 7: time-ordered, so it is a good database key.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws identifiers")]
    fn uuid(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }
}

/// Identifiers for tests: 00000000-0000-7000-8000-000000000001, …2, and so on. Clones share the counter.
#[derive(Debug, Clone, Default)]
pub struct SequenceIds(Arc<AtomicU64>);

impl Ids for SequenceIds {
    fn uuid(&self) -> String {
        let next = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        format!("00000000-0000-7000-8000-{next:012x}")
    }
}

impl<I: Ids + ?Sized> Ids for Arc<I> {
    fn uuid(&self) -> String {
        (**self).uuid()
    }
}
