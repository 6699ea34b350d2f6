//! The same two groups before the change: were they alike?
//!
//! Where canary and control are groups that exist before the change (pods in two zones, two sets of callers), one may
//! fail more often than the other with no change at all, and the ratio may wander. The ticks before the canary gets
//! its first weight answer both questions:
//!
//! - **Does the test reject already?** The same e-process at 5 % ([`Before::differed`]): the arms are not comparable.
//! - **What ratios must be tolerated?** ([`Before::ratios`]) Two groups are alike four times in five, we say before
//!   looking, and else their ratio is anything around 1 within a factor of two or so. What was counted says how likely
//!   it is that they are not alike, and what their ratio is then. That belief is cut into a few cells, each with its
//!   probability and its largest ratio; what lies beyond the last cell (4 % of the unlike) is not feared. A change
//!   must be worse than what each cell allows, the more so the more likely the cell is ([`super::stream`]). One ratio
//!   for all cases did worse on both sides: a bound that is exceeded with 2 % hid a doubling of errors wherever chance
//!   had made the history look a little unlike, and still missed small differences between zones.
//!
//! If the ratio wandered between blocks of three minutes or more by more than chance, the groups are not alike, and the
//! wandering counts as uncertainty. What wanders more slowly than the history is long cannot be seen in it: in 15
//! minutes a drift of 40 % that takes 20 minutes looks like nothing, in a few hours it is plain. A fixed suspicion of
//! drift was tried in place of seeing it (one more cell, of 5 %, whose ratio widens with time): it took the false
//! rollbacks in such a drift from 3.5 % to 2.9 %, and cost one in twenty doublings of errors, so it is not there.

use meshward_model::{JudgeOptions, TickSample};

use super::stream::Stream;

/// Bound on the probability of calling alike groups different.
const ALPHA: f64 = 0.05;
/// Probability, before looking, that two groups are not alike; and the variance of the logarithm of their ratio if
/// they are not (a factor of 1.7 is one standard deviation).
const UNLIKE: f64 = 0.2;
const UNLIKE_VARIANCE: f64 = 0.3;
/// Probability from which groups are called different.
const DIFFERENT: f64 = 0.7;
/// The belief about unlike groups, cut into cells: the part of each, and the probability with which the ratio exceeds
/// the cell's.
const CELLS: &[(f64, f64)] = &[(0.7, 0.3), (0.3, 0.04)];
/// The same where the ratio wandered: it may come to anything while the canary is watched.
const WANDERING: &[(f64, f64)] = &[(1.0, 0.01)];
/// Ticks of one block, and how many blocks are compared at most: of a longer history, neighbours are taken together,
/// because what wanders slowly shows in long blocks, where there is less chance.
const BLOCK: usize = 12;
const MOST_BLOCKS: usize = 12;

/// What was counted before the change.
#[derive(Clone, Debug, Default)]
pub struct Before {
    blocks: Vec<Counts>,
    ticks: usize,
    log_evidence: f64,
}

/// A ratio that an unchanged canary may have, and how likely it is to need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likely {
    /// rho0: how many times as often as the control the canary may fail.
    pub ratio: f64,
    /// Probability; those of all cells sum to 1.
    pub probability: f64,
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
        total(&self.blocks)
    }

    /// What an unchanged canary may do, at least `least` times the control's error rate in each cell; the first cell is
    /// that of alike groups.
    #[must_use]
    pub fn ratios(&self, caution: f64, least: f64) -> Vec<Likely> {
        let Some((mean, variance)) = self.total().log_ratio(caution) else {
            return vec![Likely { ratio: least, probability: 1.0 }];
        };
        let unlike = self.unlike(caution);
        let wandering = self.wandering(mean, caution);
        let shrink = UNLIKE_VARIANCE / (UNLIKE_VARIANCE + variance + wandering);
        // What was counted may be off by as much as the ratio wanders, and then the ratio wanders on.
        let spread = (shrink * (variance + wandering) + wandering).sqrt();
        let upper = |exceeded: f64| (shrink * mean + upper_quantile(exceeded) * spread).exp();
        let alike = Likely { ratio: least, probability: 1.0 - unlike };
        let cell =
            |(part, exceeded): &(f64, f64)| Likely { ratio: upper(*exceeded).max(least), probability: part * unlike };
        let cells = if wandering > 0.0 { WANDERING } else { CELLS };
        std::iter::once(alike).chain(cells.iter().map(cell)).filter(|cell| cell.probability > 0.0).collect()
    }

    /// The groups differed before anything was changed: the test rejects, or they are much more likely unlike than
    /// alike.
    #[must_use]
    pub fn differed(&self, caution: f64) -> bool {
        self.log_evidence >= -ALPHA.ln() || self.unlike(caution) > DIFFERENT
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
    /// it is more than chance makes of alike blocks in one of a thousand cases. (One of a hundred was too many: where
    /// chance alone had made the blocks of a good history differ, a doubling of errors was never seen.)
    fn wandering(&self, mean: f64, caution: f64) -> f64 {
        let together = self.blocks.len().div_ceil(MOST_BLOCKS).max(1);
        let blocks: Vec<(f64, f64)> =
            self.blocks.chunks(together).filter_map(|blocks| total(blocks).log_ratio(caution)).collect();
        let sum = |power: i32| blocks.iter().map(|(_, variance)| variance.powi(-power)).sum::<f64>();
        let scatter: f64 = blocks.iter().map(|(value, variance)| (value - mean).powi(2) / variance).sum();
        let free = sum(1) - sum(2) / sum(1);
        let expected = blocks.len() as f64 - 1.0;
        if expected < 1.0 || free <= 0.0 || scatter < chance_scatter(expected) {
            return 0.0;
        }
        (scatter - expected) / free
    }
}

fn total(blocks: &[Counts]) -> Counts {
    blocks.iter().fold(Counts::default(), |mut sum, block| {
        sum.add(block);
        sum
    })
}

/// What a sum of this many squared standard normal values exceeds with 0.1 % (Wilson and Hilferty).
fn chance_scatter(free: f64) -> f64 {
    let ninth = 2.0 / (9.0 * free);
    free * (1.0 - ninth + upper_quantile(0.001) * ninth.sqrt()).powi(3)
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

    use super::{super::control::LEAST_TOLERATED, *};

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
        for (free, expected) in [(4.0, 18.467), (80.0, 124.839)] {
            assert!((chance_scatter(free) / expected - 1.0).abs() < 0.02, "{free}: {}", chance_scatter(free));
        }
    }

    /// The largest ratio that is feared with more than 1 %.
    fn feared(before: &Before) -> f64 {
        let ratios = before.ratios(1.0, LEAST_TOLERATED);
        let sum: f64 = ratios.iter().map(|cell| cell.probability).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{ratios:?}");
        ratios.iter().filter(|cell| cell.probability > 0.01).map(|cell| cell.ratio).fold(0.0, f64::max)
    }

    #[test]
    fn the_ratios_follow_what_was_seen() {
        let nothing = [Likely { ratio: LEAST_TOLERATED, probability: 1.0 }];
        assert_eq!(Before::default().ratios(1.0, LEAST_TOLERATED), nothing);
        let alike = feared(&before(60, |_| 10, 90));
        assert!((1.1..1.15).contains(&alike), "{alike}");
        let zone = feared(&before(60, |_| 25, 90));
        assert!((2.5..2.8).contains(&zone), "{zone}");
        let little = feared(&before(60, |_| 0, 0));
        assert!((1.1..3.0).contains(&little), "too little to say much: {little}");
        let better = feared(&before(60, |_| 2, 90));
        assert!((better - 1.1).abs() < 1e-9, "a canary that was better is given no discount: {better}");
        let wandering = feared(&before(60, |index| if index / 12 % 2 == 0 { 5 } else { 15 }, 90));
        assert!(wandering > 1.5, "{wandering}");
    }
}
