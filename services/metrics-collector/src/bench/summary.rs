//! What many runs of one world say of a rule, and how sure that is: each number comes with its 95 % interval.

use super::rollout::Outcome;

/// Quantile of the normal distribution for 95 %, two-sided.
const Z: f64 = 1.96;

/// A number and the interval that holds its true value with 95 %.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The interval's ends.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// What one rule did in all runs of a world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Share of runs that were rolled back (Wilson's interval).
    pub rolled_back: Estimate,
    /// Share that was promoted.
    pub promoted: f64,
    /// Seconds until half of all runs were rolled back, with the interval of order statistics; `None` if fewer were.
    pub median_s: Option<Estimate>,
    /// Requests that failed or were slowed because of the change, mean.
    pub harm: Estimate,
    /// The same of each run.
    pub(super) harms: Vec<f64>,
}

impl Summary {
    /// Of these runs.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Self {
        let runs = outcomes.len().max(1) as f64;
        let harms: Vec<f64> = outcomes.iter().map(|outcome| outcome.harm).collect();
        let (mean, error) = mean_and_error(&harms);
        Self {
            rolled_back: share(outcomes.iter().filter(|outcome| outcome.rolled_back.is_some()).count(), outcomes.len()),
            promoted: outcomes.iter().filter(|outcome| outcome.promoted).count() as f64 / runs,
            median_s: median(outcomes),
            harm: Estimate { value: mean, low: (mean - Z * error).max(0.0), high: mean + Z * error },
            harms,
        }
    }

    /// This rule's mean harm over another's in the same runs. The interval is that of a ratio of means (the delta
    /// method), with what the runs have in common taken into account. `None` if the other did no harm.
    #[must_use]
    pub fn harm_beside(&self, other: &Self) -> Option<Estimate> {
        if other.harm.value <= 0.0 {
            return None;
        }
        let ratio = self.harm.value / other.harm.value;
        let left: Vec<f64> = self.harms.iter().zip(&other.harms).map(|(own, others)| own - ratio * others).collect();
        let error = mean_and_error(&left).1 / other.harm.value;
        Some(Estimate { value: ratio, low: (ratio - Z * error).max(0.0), high: ratio + Z * error })
    }
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

fn share(hits: usize, runs: usize) -> Estimate {
    let (runs, value) = (runs.max(1) as f64, hits as f64 / runs.max(1) as f64);
    let scale = 1.0 + Z * Z / runs;
    let middle = (value + Z * Z / (2.0 * runs)) / scale;
    let half = Z / scale * (value * (1.0 - value) / runs + Z * Z / (4.0 * runs * runs)).sqrt();
    Estimate { value, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// Runs that were never rolled back take for ever.
fn median(outcomes: &[Outcome]) -> Option<Estimate> {
    let mut times: Vec<f64> = outcomes.iter().map(|outcome| outcome.rolled_back.unwrap_or(f64::INFINITY)).collect();
    times.sort_by(f64::total_cmp);
    let half = times.len() as f64 / 2.0;
    let spread = Z / 2.0 * (times.len() as f64).sqrt();
    // A float below 0 becomes index 0.
    let at = |rank: f64| times.get((rank.floor() as usize).min(times.len().saturating_sub(1))).copied();
    let median = Estimate { value: at(half)?, low: at(half - spread)?, high: at(half + spread)? };
    median.value.is_finite().then_some(median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(second: u32) -> Outcome {
        Outcome { rolled_back: Some(f64::from(second)), promoted: false, harm: f64::from(second) }
    }

    #[test]
    fn intervals_are_those_of_the_textbook() {
        let few = share(1, 100);
        assert!((few.low - 0.0018).abs() < 1e-4 && (few.high - 0.0545).abs() < 1e-4, "{few:?}");
        let none = share(0, 2000);
        assert!(none.low < 1e-9 && (none.high - 0.0019).abs() < 1e-4, "{none:?}");
        let runs: Vec<Outcome> = (0..100).map(outcome).collect();
        let summary = Summary::of(&runs);
        assert_eq!(summary.median_s, Some(Estimate { value: 50.0, low: 40.0, high: 59.0 }));
        assert!((summary.harm.high - summary.harm.value - 5.69).abs() < 0.01, "{:?}", summary.harm);
    }

    #[test]
    fn half_of_all_must_be_rolled_back_for_a_median() {
        let runs: Vec<Outcome> = (0..10).map(|run| if run < 4 { outcome(run) } else { Outcome::default() }).collect();
        assert_eq!(Summary::of(&runs).median_s, None);
        assert_eq!(Summary::of(&[]).median_s, None);
    }

    #[test]
    fn what_runs_have_in_common_does_not_blur_the_ratio() {
        let twice: Vec<Outcome> = (1..50).map(|run| outcome(2 * run)).collect();
        let once: Vec<Outcome> = (1..50).map(outcome).collect();
        let ratio = Summary::of(&twice).harm_beside(&Summary::of(&once)).expect("harm");
        assert!((ratio.value - 2.0).abs() < 1e-9 && ratio.high - ratio.low < 1e-9, "{ratio:?}");
        assert_eq!(Summary::of(&once).harm_beside(&Summary::default()), None);
    }
}
