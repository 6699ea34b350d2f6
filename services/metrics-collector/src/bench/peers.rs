//! What other tools do, in our own words, each with its own way to hold and to give up.
//!
//! All look once a minute at the canary's last minute against an objective: 99 % of requests succeed, the 99th
//! percentile is below 500 ms (where latencies are timed).

use super::{
    rules::{Rule, Say},
    simulation::{Arm, EDGES_MS, Seen, TICK_S},
};
use crate::histogram::Histogram;

const MOST_ERRORS: f64 = 0.01;
const SLOWEST_MS: f64 = 500.0;
const TICKS_A_MINUTE: usize = 4;
/// Argo asks again every 10 s after an error, and gives up at the fifth in a row.
const GIVE_UP_AFTER_S: f64 = 40.0;

/// The last minute of ticks.
#[derive(Clone, Debug, Default)]
struct LastMinute(Vec<Seen>);

impl LastMinute {
    /// Adds a tick; `true` once a minute.
    fn push(&mut self, index: i64, seen: &Seen) -> bool {
        if self.0.len() == TICKS_A_MINUTE {
            self.0.remove(0);
        }
        self.0.push(seen.clone());
        (index + 1).rem_euclid(TICKS_A_MINUTE as i64) == 0
    }

    /// Error rate and 99th percentile of the canary; `None` without requests.
    fn canary(&self) -> Option<(f64, Option<f64>)> {
        let requests: u64 = self.0.iter().map(|seen| seen.canary.requests).sum();
        let errors: u64 = self.0.iter().map(|seen| seen.canary.errors).sum();
        let p99 = p99(self.0.iter().map(|seen| &seen.canary));
        (requests > 0).then(|| (errors as f64 / requests as f64, p99))
    }
}

fn p99<'a>(arms: impl Iterator<Item = &'a Arm>) -> Option<f64> {
    let (mut requests, mut slow) = (0, [0; EDGES_MS.len()]);
    for arm in arms {
        if arm.slow.len() != EDGES_MS.len() {
            return None;
        }
        requests += arm.requests;
        slow.iter_mut().zip(&arm.slow).for_each(|(sum, more)| *sum += more);
    }
    let mut buckets: Vec<(f64, f64)> =
        EDGES_MS.iter().zip(slow).map(|(edge, slow)| (*edge, (requests - slow) as f64)).collect();
    buckets.push((f64::INFINITY, requests as f64));
    Histogram::new(buckets).quantile(0.99)
}

/// Flagger: each check that fails, for whatever reason, adds to a count that success never resets; the count is looked
/// at before the next check. A failed check keeps the weight where it is.
#[derive(Clone, Debug)]
pub struct Flagger {
    threshold: u32,
    failed: u32,
    last_was_good: bool,
    minute: LastMinute,
}

impl Flagger {
    /// Rolls back once this many checks failed.
    #[must_use]
    pub fn new(threshold: u32) -> Self {
        Self { threshold, failed: 0, last_was_good: false, minute: LastMinute::default() }
    }
}

impl Rule for Flagger {
    fn tick(&mut self, index: i64, seen: &Seen, _step_over: bool) -> Say {
        if self.minute.push(index, seen) {
            if self.failed >= self.threshold {
                return Say::RollBack;
            }
            let is_good =
                |(errors, p99): (f64, Option<f64>)| errors <= MOST_ERRORS && p99.is_none_or(|p99| p99 <= SLOWEST_MS);
            self.last_was_good = !seen.outage && self.minute.canary().is_some_and(is_good);
            self.failed += u32::from(!self.last_was_good);
        }
        if self.last_was_good { Say::Advance } else { Say::Hold }
    }
}

/// Argo Rollouts: each metric fails once more measurements failed than its limit; a measurement without requests is not
/// a number, which is no success; five errors of the provider in a row abort. Steps go on by time.
#[derive(Clone, Debug)]
pub struct Argo {
    limit: u32,
    failed: [u32; 2],
    silent_since: Option<i64>,
    minute: LastMinute,
}

impl Argo {
    /// With this `failureLimit`.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit, failed: [0; 2], silent_since: None, minute: LastMinute::default() }
    }
}

impl Rule for Argo {
    fn tick(&mut self, index: i64, seen: &Seen, _step_over: bool) -> Say {
        let due = self.minute.push(index, seen);
        if !seen.outage {
            self.silent_since = None;
        } else if due && self.silent_since.is_none() {
            self.silent_since = Some(index);
        }
        if self.silent_since.is_some_and(|since| (index - since) as f64 * TICK_S >= GIVE_UP_AFTER_S) {
            return Say::RollBack;
        }
        if due && !seen.outage {
            let (errors, slow) = match self.minute.canary() {
                Some((errors, p99)) => (errors > MOST_ERRORS, p99.is_some_and(|p99| p99 > SLOWEST_MS)),
                None => (true, false),
            };
            self.failed[0] += u32::from(errors);
            self.failed[1] += u32::from(slow);
        }
        if self.failed.iter().any(|failed| *failed > self.limit) { Say::RollBack } else { Say::Advance }
    }
}

/// In the manner of Kayenta: at the end of each step, two samples of one value per tick are compared by Mann and
/// Whitney's test at 98 %; the score is the share of metrics that are not higher in the canary, and 75 are needed.
#[derive(Clone, Debug, Default)]
pub struct Kayenta {
    /// Error rates, then 99th percentiles: canary and control.
    samples: [[Vec<f64>; 2]; 2],
}

impl Rule for Kayenta {
    fn begin_step(&mut self, _weight: u16) {
        self.samples = Default::default();
    }

    fn tick(&mut self, _index: i64, seen: &Seen, step_over: bool) -> Say {
        if !seen.outage {
            for (side, arm) in [&seen.canary, &seen.control].into_iter().enumerate() {
                if arm.requests > 0 {
                    self.samples[0][side].push(arm.errors as f64 / arm.requests as f64);
                }
                self.samples[1][side].extend(p99(std::iter::once(arm)));
            }
        }
        if !step_over {
            return Say::Hold;
        }
        let judged: Vec<bool> = self
            .samples
            .iter()
            .filter(|[canary, control]| !canary.is_empty() && !control.is_empty())
            .map(|[canary, control]| is_higher(canary, control))
            .collect();
        let passed = judged.iter().filter(|higher| !**higher).count();
        if passed * 4 >= judged.len() * 3 { Say::Advance } else { Say::RollBack }
    }
}

/// Mann and Whitney's test, two-sided at 98 %, by the normal approximation with ties.
fn is_higher(canary: &[f64], control: &[f64]) -> bool {
    let mut wins = 0.0;
    for one in canary {
        for other in control {
            wins += if one > other {
                1.0
            } else if one == other {
                0.5
            } else {
                0.0
            };
        }
    }
    let (n, m) = (canary.len() as f64, control.len() as f64);
    let mut all: Vec<f64> = canary.iter().chain(control).copied().collect();
    all.sort_by(f64::total_cmp);
    let ties: f64 = all.chunk_by(|a, b| a == b).map(|tie| (tie.len() as f64).powi(3) - tie.len() as f64).sum();
    let variance = n * m / 12.0 * (n + m + 1.0 - ties / ((n + m) * (n + m - 1.0)));
    variance > 0.0 && (wins - n * m / 2.0) / variance.sqrt() > 2.326
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(requests: u64, errors: u64, outage: bool) -> Seen {
        let arm = |requests, errors| Arm { requests, errors, slow: Vec::new() };
        Seen { canary: arm(requests, errors), control: arm(900, 0), outage, harm: 0.0 }
    }

    /// The second at which a rule rolls back.
    fn ends(rule: &mut dyn Rule, tick: impl Fn(i64) -> Seen) -> Option<i64> {
        (0..80)
            .find(|index| rule.tick(*index, &tick(*index), index % 20 == 19) == Say::RollBack)
            .map(|at| (at + 1) * 15)
    }

    #[test]
    fn each_gives_up_when_its_tool_would() {
        let bad = |_| seen(100, 2, false);
        assert_eq!(ends(&mut Flagger::new(2), bad), Some(180), "after threshold + 1 intervals");
        assert_eq!(ends(&mut Flagger::new(10), bad), Some(660));
        assert_eq!(ends(&mut Argo::new(3), bad), Some(240), "the fourth failure");
        assert_eq!(ends(&mut Kayenta::default(), bad), Some(300), "at the step's end");
        let silent = |_| seen(100, 0, true);
        assert_eq!(ends(&mut Flagger::new(2), silent), Some(180), "no answer is a failed check");
        assert_eq!(ends(&mut Argo::new(3), silent), Some(105), "five errors in a row");
        assert_eq!(ends(&mut Kayenta::default(), silent), None);
        let nobody = |_| seen(0, 0, false);
        assert_eq!(ends(&mut Argo::new(3), nobody), Some(240), "not a number is no success");
        let seldom = |index: i64| seen(100, if index % 8 == 3 { 40 } else { 0 }, false);
        assert_eq!(ends(&mut Flagger::new(2), seldom), Some(240), "success resets nothing");
        for rule in [&mut Flagger::new(2) as &mut dyn Rule, &mut Argo::new(3), &mut Kayenta::default()] {
            assert_eq!(ends(rule, |_| seen(100, 0, false)), None, "a good canary");
        }
    }

    #[test]
    fn mann_and_whitney() {
        let low: Vec<f64> = (0..20).map(f64::from).collect();
        let high: Vec<f64> = low.iter().map(|value| value + 8.0).collect();
        assert!(is_higher(&high, &low) && !is_higher(&low, &high) && !is_higher(&low, &low));
        assert!(!is_higher(&[1.0; 20], &[1.0; 20]), "nothing but ties");
    }
}
