//! Moments as they are stored: INTEGER milliseconds since 1970, UTC.

use jiff::Timestamp;

use crate::StoreError;

/// A moment for a column. Parts of a millisecond are cut off.
#[must_use]
pub fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// A moment as it comes back from a column: what [`millis`] would keep of it. Answers that are given before the row is
/// read again use it, so that both show the same time.
#[must_use]
pub fn stored(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// A moment from a column.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is outside the years -9999 to 9999.
pub fn timestamp(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|error| StoreError::Corrupt(error.into()))
}
