//! What past ticks of the control say: its error rate, and whether its errors come in bursts.

use std::collections::VecDeque;

/// The least ratio of error rates that is tolerated.
pub(super) const LEAST_TOLERATED: f64 = 1.1;
/// Before anything is seen, the control's error rate is taken for 0.5 %, with the weight of 200 requests.
const PRIOR_ERRORS: f64 = 1.0;
const PRIOR_REQUESTS: f64 = 200.0;
/// Dispersion from which errors are called bursty; 1 is independence.
const BURSTY: f64 = 1.5;
/// Pairs of ticks that the dispersion is estimated from: at least, at most.
const MIN_PAIRS: usize = 8;
const MAX_PAIRS: usize = 40;
/// One pair counts for at most this (three sigma), so that the beginning and end of an incident are not taken for
/// bursts.
const MOST_OF_A_PAIR: f64 = 9.0;

/// The control so far. Feed it each tick after the tick was judged.
#[derive(Clone, Debug, Default)]
pub struct Control {
    requests: f64,
    errors: f64,
    last: Option<(f64, f64)>,
    /// Squared differences of successive error rates, each divided by its variance if errors are independent.
    pairs: VecDeque<f64>,
}

impl Control {
    /// Adds a tick.
    pub fn push(&mut self, requests: u64, errors: u64) {
        let tick = (requests as f64, errors as f64);
        if tick.0 <= 0.0 {
            return;
        }
        if let Some(pair) = self.last.and_then(|last| squared_difference(last, tick)) {
            self.pairs.push_back(pair.min(MOST_OF_A_PAIR));
            if self.pairs.len() > MAX_PAIRS {
                self.pairs.pop_front();
            }
        }
        self.last = Some(tick);
        self.requests += tick.0;
        self.errors += tick.1;
    }

    /// Error rate, above 0 and at most 1.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        ((self.errors + PRIOR_ERRORS) / (self.requests + PRIOR_REQUESTS)).min(1.0)
    }

    /// rho0 of a bursty tick: how many times the control's error rate a canary may have that is still called equal.
    /// `tolerance` is the error rate that is tolerated on top.
    #[must_use]
    pub fn tolerated_ratio(&self, tolerance: f64) -> f64 {
        LEAST_TOLERATED.max(1.0 + tolerance / self.error_rate())
    }

    /// The variance of the control's errors over what independent errors would have; `None` until it can be said.
    #[must_use]
    pub fn dispersion(&self) -> Option<f64> {
        (self.pairs.len() >= MIN_PAIRS).then(|| self.pairs.iter().sum::<f64>() / self.pairs.len() as f64)
    }

    /// The dispersion is over 1.5, and by more than two standard errors over 1.
    #[must_use]
    pub fn is_bursty(&self) -> bool {
        let noise = 2.0 * (2.0 / self.pairs.len().max(1) as f64).sqrt();
        self.dispersion().is_some_and(|dispersion| dispersion > BURSTY.max(1.0 + noise))
    }
}

/// 1 in expectation if errors are independent; `None` if the two ticks cannot say anything.
fn squared_difference(one: (f64, f64), two: (f64, f64)) -> Option<f64> {
    let rate = (one.1 + two.1) / (one.0 + two.0);
    let variance = rate * (1.0 - rate) * (1.0 / one.0 + 1.0 / two.0);
    let difference = two.1 / two.0 - one.1 / one.0;
    (variance > 0.0).then(|| difference * difference / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerated_ratio_follows_the_past() {
        let mut control = Control::default();
        assert!((control.tolerated_ratio(0.0005) - 1.1).abs() < 1e-9, "0.05 points beside an assumed 0.5 %");
        control.push(1_000_000, 100);
        assert!((control.tolerated_ratio(0.0005) - 6.0).abs() < 0.1, "0.05 points beside 0.01 %");
        control.push(1_000_000, 100_000);
        assert!((control.tolerated_ratio(0.0005) - 1.1).abs() < 1e-9, "never below 1.1");
    }

    #[test]
    fn bursts_are_told_from_even_errors_and_from_one_incident() {
        let bursty = |errors: &dyn Fn(u64) -> u64| {
            let mut control = Control::default();
            (0..30).for_each(|tick| control.push(1000, errors(tick)));
            control.is_bursty()
        };
        assert!(!bursty(&|tick| 10 + tick % 3), "even");
        assert!(bursty(&|tick| if tick % 4 == 0 { 40 } else { 2 }), "bursts");
        assert!(!bursty(&|tick| if (10..20).contains(&tick) { 60 + tick % 7 } else { 5 + tick % 2 }), "one incident");
        assert_eq!(Control::default().dispersion(), None);
    }
}
