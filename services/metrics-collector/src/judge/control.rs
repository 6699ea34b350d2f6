//! What past ticks say: the control's error rate, and whether errors come in bursts.

use std::collections::VecDeque;

use meshward_model::TickSample;

/// The least ratio of error rates that is tolerated.
pub(super) const LEAST_TOLERATED: f64 = 1.1;
/// Before anything is seen, the control's error rate is taken for 0.5 %, with the weight of 200 requests.
const PRIOR_ERRORS: f64 = 1.0;
const PRIOR_REQUESTS: f64 = 200.0;
/// Before anything is seen, errors are taken to come in threes, with the weight of four pairs of ticks.
const PRIOR_CAUTION: f64 = 3.0;
const PRIOR_PAIRS: f64 = 4.0;
/// Dispersion from which errors are called bursty; 1 is independence. Below, [`Control::caution`] is enough.
const BURSTY: f64 = 4.0;
/// Pairs of ticks that the dispersion is estimated from: at least, at most.
const MIN_PAIRS: usize = 4;
const MAX_PAIRS: usize = 60;
/// One pair counts for at most this (three sigma), so that the beginning and end of an incident are not taken for
/// bursts.
const MOST_OF_A_PAIR: f64 = 9.0;

/// The control so far, and how unevenly either arm fails. Feed it each tick after the tick was judged.
#[derive(Clone, Debug, Default)]
pub struct Control {
    requests: f64,
    errors: f64,
    control: Unevenness,
    canary: Unevenness,
}

impl Control {
    /// Adds a tick.
    pub fn push(&mut self, tick: &TickSample) {
        let (requests, errors) = (tick.control_requests as f64, tick.control_errors as f64);
        self.control.push(requests, errors);
        self.canary.push(tick.canary_requests as f64, tick.canary_errors as f64);
        self.requests += requests;
        self.errors += errors;
    }

    /// Error rate, above 0 and at most 1.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        ((self.errors + PRIOR_ERRORS) / (self.requests + PRIOR_REQUESTS)).min(1.0)
    }

    /// rho0 of a bursty tick: how many times the control's error rate a canary may have that is still called equal.
    /// `tolerance` is the error rate that is tolerated on top of `ratio`.
    #[must_use]
    pub fn tolerated_ratio(&self, ratio: f64, tolerance: f64) -> f64 {
        ratio.max(1.0 + tolerance / self.error_rate())
    }

    /// What is tolerated on top of [`LEAST_TOLERATED`] times the control's error rate, so that together they cover
    /// `tolerance` on top of that rate. Counted on half of the past rate, lest a control that fails less than before
    /// leaves too little.
    #[must_use]
    pub fn excess(&self, tolerance: f64) -> f64 {
        (tolerance - (LEAST_TOLERATED - 1.0) * self.error_rate() / 2.0).max(0.0)
    }

    /// The variance of the control's errors over what independent errors would have; `None` until it can be said.
    #[must_use]
    pub fn dispersion(&self) -> Option<f64> {
        let pairs = self.control.pairs.len();
        (pairs >= MIN_PAIRS).then(|| self.control.sum() / pairs as f64)
    }

    /// The dispersion is over 4: errors come in clusters of which nobody knows how large they may be.
    #[must_use]
    pub fn is_bursty(&self) -> bool {
        self.dispersion().is_some_and(|dispersion| dispersion > BURSTY)
    }

    /// How many errors are taken for one piece of evidence, at least 1: the dispersion of both arms, drawn towards
    /// [`PRIOR_CAUTION`] as long as little is known. Under the null hypothesis both arms fail alike, so both tell.
    #[must_use]
    pub fn caution(&self) -> f64 {
        let pairs = (self.control.pairs.len() + self.canary.pairs.len()) as f64;
        let sum = self.control.sum() + self.canary.sum();
        ((PRIOR_CAUTION * PRIOR_PAIRS + sum) / (PRIOR_PAIRS + pairs)).max(1.0)
    }
}

/// How much the error rate of one arm jumps from tick to tick.
#[derive(Clone, Debug, Default)]
struct Unevenness {
    last: Option<(f64, f64)>,
    /// Squared differences of successive error rates, each divided by its variance if errors are independent.
    pairs: VecDeque<f64>,
}

impl Unevenness {
    fn push(&mut self, requests: f64, errors: f64) {
        let tick = (requests, errors);
        if requests <= 0.0 {
            return;
        }
        if let Some(pair) = self.last.and_then(|last| squared_difference(last, tick)) {
            self.pairs.push_back(pair.min(MOST_OF_A_PAIR));
            if self.pairs.len() > MAX_PAIRS {
                self.pairs.pop_front();
            }
        }
        self.last = Some(tick);
    }

    fn sum(&self) -> f64 {
        self.pairs.iter().sum()
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
    use jiff::Timestamp;

    use super::*;

    fn tick(canary: (u64, u64), control: (u64, u64)) -> TickSample {
        TickSample {
            end: Timestamp::UNIX_EPOCH,
            canary_requests: canary.0,
            canary_errors: canary.1,
            control_requests: control.0,
            control_errors: control.1,
        }
    }

    #[test]
    fn the_tolerated_ratio_follows_the_past() {
        let mut control = Control::default();
        assert!(
            (control.tolerated_ratio(LEAST_TOLERATED, 0.0005) - 1.1).abs() < 1e-9,
            "0.05 points beside an assumed 0.5 %"
        );
        control.push(&tick((0, 0), (1_000_000, 100)));
        assert!((control.tolerated_ratio(LEAST_TOLERATED, 0.0005) - 6.0).abs() < 0.1, "0.05 points beside 0.01 %");
        control.push(&tick((0, 0), (1_000_000, 100_000)));
        assert!((control.tolerated_ratio(LEAST_TOLERATED, 0.0005) - 1.1).abs() < 1e-9, "never below 1.1");
    }

    #[test]
    fn the_excess_and_a_tenth_of_half_the_rate_are_the_tolerance() {
        let mut control = Control::default();
        control.push(&tick((0, 0), (1_000_000, 2_000)));
        assert!((control.excess(0.0005) - 0.0004).abs() < 1e-6, "{}", control.excess(0.0005));
        control.push(&tick((0, 0), (1_000_000, 100_000)));
        assert!(control.excess(0.0005) <= 0.0, "a tenth of half of 5 % is more than 0.05 points");
    }

    #[test]
    fn bursts_are_told_from_even_errors_and_from_one_incident() {
        let bursty = |errors: &dyn Fn(u64) -> u64| {
            let mut control = Control::default();
            (0..30).for_each(|index| control.push(&tick((0, 0), (1000, errors(index)))));
            control.is_bursty()
        };
        assert!(!bursty(&|tick| 10 + tick % 3), "even");
        assert!(bursty(&|tick| if tick % 4 == 0 { 40 } else { 2 }), "bursts");
        assert!(!bursty(&|tick| if (10..20).contains(&tick) { 60 + tick % 7 } else { 5 + tick % 2 }), "one incident");
        assert_eq!(Control::default().dispersion(), None);
    }

    #[test]
    fn caution_ends_as_even_errors_are_seen_in_either_arm() {
        let mut control = Control::default();
        assert!((control.caution() - 3.0).abs() < 1e-9);
        (0..60).for_each(|index| control.push(&tick((1000, 10 + index % 3), (1000, 10 + index % 2))));
        assert!(control.caution() < 1.2, "{}", control.caution());
        (0..60).for_each(|index| control.push(&tick((1000, 10), (1000, if index % 4 == 0 { 40 } else { 2 }))));
        assert!(control.caution() > 2.0, "{}", control.caution());
    }
}
