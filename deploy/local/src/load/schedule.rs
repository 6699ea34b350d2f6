//! When requests are due: pure arithmetic on elapsed time.

use std::time::Duration;

/// How long the pacer sleeps at most, also while the rate is 0.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Counts requests that are due at a constant rate which may change; the first is due one interval after the start.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Requests per second.
    rate: f64,
    /// When the rate was set.
    since: Duration,
    /// What was due by then, with the part of a request that had built up.
    base: f64,
}

impl Schedule {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, since: Duration::ZERO, base: 0.0 }
    }

    /// How many requests have been due in all at this elapsed time.
    pub(super) fn due(&self, elapsed: Duration) -> u64 {
        // A due time computed in floating point may fall a hair short of a whole request.
        (self.exact(elapsed) + 1e-6) as u64
    }

    /// Changes the rate from this elapsed time on.
    pub(super) fn set_rate(&mut self, elapsed: Duration, rate: f64) {
        *self = Self { rate, since: elapsed, base: self.exact(elapsed) };
    }

    /// How long to sleep until the next one is due.
    pub(super) fn wait(&self, elapsed: Duration) -> Duration {
        if self.rate <= 0.0 {
            return LONGEST_WAIT;
        }
        let missing = (self.due(elapsed) + 1) as f64 - self.exact(elapsed);
        Duration::try_from_secs_f64(missing.max(0.0) / self.rate).map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT))
    }

    fn exact(&self, elapsed: Duration) -> f64 {
        self.base + self.rate * elapsed.saturating_sub(self.since).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn requests_come_due_by_the_clock() {
        let table =
            [(100.0, 0, 0), (100.0, 9, 0), (100.0, 10, 1), (100.0, 1_005, 100), (0.0, 60_000, 0), (0.5, 4_000, 2)];
        for (rate, at, due) in table {
            assert_eq!(Schedule::new(rate).due(ms(at)), due, "{rate} rps after {at} ms");
        }
    }

    #[test]
    fn the_next_one_is_waited_for_and_then_due() {
        for rate in [0.7, 3.0, 100.0, 799.0, 1_500.0] {
            let schedule = Schedule::new(rate);
            let mut elapsed = Duration::ZERO;
            let mut waits = 0;
            while schedule.due(elapsed) < 1_000 {
                elapsed += schedule.wait(elapsed) + Duration::from_micros(1);
                waits += 1;
            }
            let ideal = 1_000.0 / rate;
            assert!((elapsed.as_secs_f64() - ideal).abs() < 0.01 * ideal, "{rate} rps took {elapsed:?}");
            assert!(waits <= 1_000 + 2 * ideal as u64, "{rate} rps woke {waits} times");
        }
    }

    #[test]
    fn a_new_rate_counts_from_where_it_was_set() {
        let mut schedule = Schedule::new(100.0);
        assert_eq!(schedule.due(ms(1_000)), 100);
        schedule.set_rate(ms(1_000), 0.0);
        assert_eq!(schedule.due(ms(9_000)), 100);
        assert_eq!(schedule.wait(ms(9_000)), LONGEST_WAIT);
        schedule.set_rate(ms(9_000), 1_000.0);
        assert_eq!(schedule.due(ms(9_000)), 100, "the pause is not made up for");
        assert_eq!(schedule.due(ms(9_500)), 600);
    }
}
