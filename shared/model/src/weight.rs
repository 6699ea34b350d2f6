//! A share of traffic that was asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A share in basis points: 0 = nobody, 10000 = everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Weight(u16);

/// A number that is no share.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a weight is 0 to 10000 basis points, not {0}")]
pub struct InvalidWeight(i64);

impl Weight {
    /// Nobody.
    pub const ZERO: Self = Self(0);
    /// Everybody.
    pub const FULL: Self = Self(10_000);

    /// From basis points.
    ///
    /// # Errors
    /// If the number is not within 0 to 10000.
    pub fn from_basis_points(value: i64) -> Result<Self, InvalidWeight> {
        u16::try_from(value).ok().filter(|bp| *bp <= 10_000).map(Self).ok_or(InvalidWeight(value))
    }

    /// Basis points, 0 to 10000.
    #[must_use]
    pub fn basis_points(self) -> u16 {
        self.0
    }

    /// As a fraction, 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl TryFrom<i64> for Weight {
    type Error = InvalidWeight;

    fn try_from(value: i64) -> Result<Self, Self::Error> {
        Self::from_basis_points(value)
    }
}

impl From<Weight> for i64 {
    fn from(weight: Weight) -> Self {
        weight.0.into()
    }
}

/// As percent, without needless zeros: "10 %", "12.5 %".
impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shares_are_weights() {
        for (value, expected) in [(0, Some(0)), (10_000, Some(10_000)), (-1, None), (10_001, None), (i64::MAX, None)] {
            assert_eq!(Weight::from_basis_points(value).ok().map(Weight::basis_points), expected, "{value}");
        }
        assert_eq!(Weight::from_basis_points(1250).unwrap().to_string(), "12.5 %");
        assert_eq!(Weight::from_basis_points(1000).unwrap().to_string(), "10 %");
        assert!(serde_json::from_str::<Weight>("10001").is_err());
    }
}
