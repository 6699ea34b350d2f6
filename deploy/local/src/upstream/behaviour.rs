//! What an upstream does to its requests, and the seeded chance that picks which of them it does it to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest delay that [`Behaviour::Slow`] may ask for, in milliseconds.
pub const MAX_DELAY_MS: u64 = 60_000;

/// How an upstream answers from now on. As JSON: `{"mode":"healthy"}`, `{"mode":"failing","probability":0.5}` or
/// `{"mode":"slow","share":0.2,"delay_ms":300}`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Behaviour {
    /// Every request gets 200 at once.
    #[default]
    Healthy,
    /// Each request gets 503 with this probability, else 200.
    Failing {
        /// Between 0 and 1.
        probability: f64,
    },
    /// Each request gets 200, but this share of them only after a fixed delay.
    Slow {
        /// Between 0 and 1.
        share: f64,
        /// Milliseconds, at most [`MAX_DELAY_MS`].
        delay_ms: u64,
    },
}

/// Why a [`Behaviour`] is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BehaviourError {
    /// A probability or share that is no number between 0 and 1.
    #[error("{field} must lie between 0 and 1, not {value}")]
    NotAShare {
        /// The JSON name of the field.
        field: &'static str,
        /// What was asked for.
        value: f64,
    },
    /// A delay that no client would wait for.
    #[error("delay_ms must be at most {MAX_DELAY_MS}, not {0}")]
    TooSlow(u64),
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// 200 at once.
    Serve,
    /// 503 at once.
    Fail,
    /// 200 after this time.
    Delay(Duration),
}

impl Behaviour {
    /// Checks the ranges, which the type cannot express.
    pub fn validate(&self) -> Result<(), BehaviourError> {
        match *self {
            Self::Healthy => Ok(()),
            Self::Failing { probability } => check_share("probability", probability),
            Self::Slow { delay_ms, .. } if delay_ms > MAX_DELAY_MS => Err(BehaviourError::TooSlow(delay_ms)),
            Self::Slow { share, .. } => check_share("share", share),
        }
    }

    /// The fate of one request, given a draw from [0, 1).
    pub(super) fn fate(&self, draw: f64) -> Fate {
        match *self {
            Self::Failing { probability } if draw < probability => Fate::Fail,
            Self::Slow { share, delay_ms } if draw < share => Fate::Delay(Duration::from_millis(delay_ms)),
            _ => Fate::Serve,
        }
    }
}

fn check_share(field: &'static str, value: f64) -> Result<(), BehaviourError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(BehaviourError::NotAShare { field, value }) }
}

/// A seeded sequence of draws from [0, 1): splitmix64 over a counter, so that requests served in parallel share it
/// without a lock. The same seed gives the same sequence; which request gets which draw depends on their order.
#[derive(Debug)]
pub(super) struct Dice(pub(super) AtomicU64);

/// The step of splitmix64: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next draw.
    pub(super) fn draw(&self) -> f64 {
        let mut z = self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // The upper 53 bits are exactly what the mantissa of a double holds.
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let good = [
            Behaviour::Healthy,
            Behaviour::Failing { probability: 0.0 },
            Behaviour::Failing { probability: 1.0 },
            Behaviour::Slow { share: 0.5, delay_ms: MAX_DELAY_MS },
        ];
        for behaviour in good {
            assert_eq!(behaviour.validate(), Ok(()), "{behaviour:?}");
        }
        let bad = [
            Behaviour::Failing { probability: 1.01 },
            Behaviour::Failing { probability: f64::NAN },
            Behaviour::Slow { share: -0.1, delay_ms: 1 },
            Behaviour::Slow { share: 0.1, delay_ms: MAX_DELAY_MS + 1 },
        ];
        for behaviour in bad {
            assert!(behaviour.validate().is_err(), "{behaviour:?}");
        }
    }

    #[test]
    fn a_draw_decides_the_fate() {
        let slow = Behaviour::Slow { share: 0.25, delay_ms: 40 };
        let table = [
            (Behaviour::Healthy, 0.0, Fate::Serve),
            (Behaviour::Failing { probability: 0.5 }, 0.49, Fate::Fail),
            (Behaviour::Failing { probability: 0.5 }, 0.5, Fate::Serve),
            (Behaviour::Failing { probability: 0.0 }, 0.0, Fate::Serve),
            (Behaviour::Failing { probability: 1.0 }, 0.999_999, Fate::Fail),
            (slow, 0.2, Fate::Delay(Duration::from_millis(40))),
            (slow, 0.3, Fate::Serve),
        ];
        for (behaviour, draw, fate) in table {
            assert_eq!(behaviour.fate(draw), fate, "{behaviour:?} at {draw}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_evenly() {
        let draws = |seed| {
            let dice = Dice::new(seed);
            (0..10_000).map(|_| dice.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert!(draws(7).iter().all(|draw| (0.0..1.0).contains(draw)));
        let below = draws(7).iter().filter(|draw| **draw < 0.3).count();
        assert!((2_800..3_200).contains(&below), "{below} of 10,000 draws below 0.3");
    }
}
