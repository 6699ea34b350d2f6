//! The same two groups before the change: were they alike?
//!
//! Where canary and control are groups that exist before the change (pods in two zones, two sets of callers), one may
//! fail more often than the other with no change at all, and the ratio may wander. The ticks before the canary gets
//! its first weight answer both questions:
//!
//! - **Does the test reject already?** The same e-process at 5 % ([`Before::differed`]): the arms are not comparable.
//! - **What ratio must be tolerated?** ([`Before::tolerated_ratio`]) Two groups are alike nine times in ten, we say
//!   before looking, and else their ratio is anything around 1 within a factor of two or so. What was counted says how
//!   likely it is that they are not alike, and what their ratio is then. The bound that the ratio exceeds with 2 % is
//!   what the change may show: the least that is tolerated if the groups look alike, and a little over the measured
//!   ratio if they do not. This happens whether or not the test rejects: a gate alone lets half of all differences
//!   through that are large enough to do harm, and widening by the uncertainty alone hides small regressions behind
//!   short histories. If the ratio wandered between blocks of three minutes by more than chance, the groups are not
//!   alike, and the wandering counts as uncertainty.
//!
//! What wanders more slowly than the history is long cannot be seen in it. That remains open.

use meshward_model::{JudgeOptions, TickSample};

use super::{control::LEAST_TOLERATED, stream::Stream};

/// Bound on the probability of calling alike groups different.
const ALPHA: f64 = 0.05;
/// Probability, before looking, that two groups are not alike; and the variance of the logarithm of their ratio if
/// they are not (a factor of 2.2 is one standard deviation).
const UNLIKE: f64 = 0.1;
const UNLIKE_VARIANCE: f64 = 0.64;
/// Probability with which the true ratio may exceed the tolerated one.
const EXCEEDED: f64 = 0.02;
/// Ticks of one block.
const BLOCK: usize = 12;

/// What was counted before the change.
#[derive(Clone, Debug, Default)]
pub struct Before {
    blocks: Vec<Counts>,
    ticks: usize,
    log_evidence: f64,
}

/// Requests and errors of both groups.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Requests and errors of the group that becomes the canary.
    pub canary: (f64, f64),
    /// The other group's.
    pub control: (f64, f64),
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.canary = (self.canary.0 + other.canary.0, self.canary.1 + other.canary.1);
        self.control = (self.control.0 + other.control.0, self.control.1 + other.control.1);
    }

    /// Logarithm of the ratio of error rates, and its variance if `caution` errors come together.
    fn log_ratio(&self, caution: f64) -> Option<(f64, f64)> {
        if self.canary.0 <= 0.0 || self.control.0 <= 0.0 {
            return None;
        }
        let (canary, control) = (self.canary.1 + 0.5, self.control.1 + 0.5);
        let value = (canary / (self.canary.0 + 1.0)).ln() - (control / (self.control.0 + 1.0)).ln();
        Some((value, caution * (canary.recip() + control.recip())))
    }
}

impl Before {
    /// Adds a tick; `log_evidence` is what the test says after it.
    pub(super) fn push(&mut self, tick: &TickSample, log_evidence: f64) {
        if tick.canary_requests == 0 || tick.control_requests == 0 {
            return;
        }
        if self.ticks.is_multiple_of(BLOCK) {
            self.blocks.push(Counts::default());
        }
        self.ticks += 1;
        self.log_evidence = log_evidence;
        let counts = Counts {
            canary: (tick.canary_requests as f64, tick.canary_errors as f64),
            control: (tick.control_requests as f64, tick.control_errors as f64),
        };
        if let Some(block) = self.blocks.last_mut() {
            block.add(&counts);
        }
    }

    /// Everything that was counted.
    #[must_use]
    pub fn total(&self) -> Counts {
        self.blocks.iter().fold(Counts::default(), |mut sum, block| {
            sum.add(block);
            sum
        })
    }

    /// rho0: how many times as often as the control an unchanged canary may fail. At least the least tolerated ratio.
    #[must_use]
    pub fn tolerated_ratio(&self, caution: f64) -> f64 {
        let Some((mean, variance)) = self.total().log_ratio(caution) else { return LEAST_TOLERATED };
        let probability = self.unlike(caution);
        if probability <= EXCEEDED {
            return LEAST_TOLERATED;
        }
        let variance = variance + self.wandering(mean, caution);
        let weight = UNLIKE_VARIANCE / (UNLIKE_VARIANCE + variance);
        let upper = weight * mean + upper_quantile(EXCEEDED / probability) * (weight * variance).sqrt();
        upper.exp().max(LEAST_TOLERATED)
    }

    /// The groups differed before anything was changed: the test rejects, or they are more likely unlike than alike.
    #[must_use]
    pub fn differed(&self, caution: f64) -> bool {
        self.log_evidence >= -ALPHA.ln() || self.unlike(caution) > 0.5
    }

    /// Probability that the groups are not alike.
    fn unlike(&self, caution: f64) -> f64 {
        let Some((mean, variance)) = self.total().log_ratio(caution) else { return UNLIKE };
        if self.wandering(mean, caution) > 0.0 {
            return 1.0;
        }
        let log_density = |variance: f64| -mean * mean / (2.0 * variance) - variance.ln() / 2.0;
        let log_odds = log_density(UNLIKE_VARIANCE + variance) - log_density(variance);
        let alike_over_unlike = (1.0 - UNLIKE) / UNLIKE * (-log_odds).exp();
        1.0 / (1.0 + alike_over_unlike)
    }

    /// Variance of the ratio's logarithm between blocks, beyond chance: the moment estimate of DerSimonian and Laird, if
    /// it is more than chance makes of alike blocks in one of a hundred cases.
    fn wandering(&self, mean: f64, caution: f64) -> f64 {
        let blocks: Vec<(f64, f64)> = self.blocks.iter().filter_map(|block| block.log_ratio(caution)).collect();
        let sum = |power: i32| blocks.iter().map(|(_, variance)| variance.powi(-power)).sum::<f64>();
        let scatter: f64 = blocks.iter().map(|(value, variance)| (value - mean).powi(2) / variance).sum();
        let free = sum(1) - sum(2) / sum(1);
        let expected = blocks.len() as f64 - 1.0;
        if expected < 1.0 || free <= 0.0 || scatter < expected + 3.0 * (2.0 * expected).sqrt() {
            return 0.0;
        }
        (scatter - expected) / free
    }
}

/// The standard normal value that is exceeded with this probability (Abramowitz and Stegun 26.2.23, good to 5e-4).
fn upper_quantile(probability: f64) -> f64 {
    if probability > 0.5 {
        return -upper_quantile(1.0 - probability);
    }
    let t = (-2.0 * probability.max(1e-12).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

/// A stream that is asked about the time before the change.
pub(super) fn stream(options: &JudgeOptions) -> Stream {
    Stream::new(JudgeOptions { alpha: ALPHA, ..*options })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn before(ticks: usize, canary: impl Fn(usize) -> u64, control: u64) -> Before {
        let mut before = Before::default();
        for index in 0..ticks {
            let sample = TickSample {
                end: Timestamp::UNIX_EPOCH,
                canary_requests: 1000,
                canary_errors: canary(index),
                control_requests: 9000,
                control_errors: control,
            };
            before.push(&sample, 0.0);
        }
        before
    }

    #[test]
    fn quantiles() {
        for (probability, expected) in [(0.5, 0.0), (0.025, 1.96), (0.9, -1.2816)] {
            assert!((upper_quantile(probability) - expected).abs() < 1e-3, "{probability}");
        }
    }

    #[test]
    fn the_tolerated_ratio_follows_what_was_seen() {
        assert!((Before::default().tolerated_ratio(1.0) - 1.1).abs() < 1e-9, "nothing was seen");
        let alike = before(60, |_| 10, 90).tolerated_ratio(1.0);
        assert!((1.1..1.2).contains(&alike), "{alike}");
        let zone = before(60, |_| 25, 90).tolerated_ratio(1.0);
        assert!((2.5..2.9).contains(&zone), "{zone}");
        let little = before(60, |_| 0, 0).tolerated_ratio(1.0);
        assert!((1.1..3.0).contains(&little), "too little to say much: {little}");
        let better = before(60, |_| 2, 90).tolerated_ratio(1.0);
        assert!((better - 1.1).abs() < 1e-9, "a canary that was better is given no discount: {better}");
        let wandering = before(60, |index| if index / 12 % 2 == 0 { 5 } else { 15 }, 90).tolerated_ratio(1.0);
        assert!(wandering > 1.5, "{wandering}");
    }
}
