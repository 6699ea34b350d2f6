//! The catastrophe guard: a canary that fails most of its requests beside a good control is stopped without more ado.
//!
//! The e-process sees that, too, but slowly where the control is small: at a weight of 90 % it needs some 70 errors,
//! because most errors of an equal canary would fall there as well.

use super::Tick;

/// Requests that the canary and the control must have. Fewer in the control would let chance decide where most
/// requests fail in both arms; with 20 a look goes wrong less than once in 10,000 whatever the common rate.
const MIN_CANARY: u64 = 30;
const MIN_CONTROL: u64 = 20;
/// How far back requests are gathered.
pub(super) const MAX_SECONDS: f64 = 300.0;

/// The requests of each arm on which the guard decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Canary requests.
    pub canary_requests: u64,
    /// Of those, failed.
    pub canary_errors: u64,
    /// Control requests.
    pub control_requests: u64,
    /// Of those, failed.
    pub control_errors: u64,
}

/// Looks at the newest ticks, newest first, until both arms have enough requests: the window if more than half of the
/// canary's and less than a tenth of the control's failed.
pub fn catastrophe<'a>(newest_first: impl Iterator<Item = &'a Tick>) -> Option<Window> {
    let mut window = Window { canary_requests: 0, canary_errors: 0, control_requests: 0, control_errors: 0 };
    let mut newest = None;
    for tick in newest_first {
        let end = *newest.get_or_insert(tick.sample.end);
        if end.duration_since(tick.start).as_secs_f64() > MAX_SECONDS.max(super::seconds_of(tick)) {
            return None;
        }
        window.canary_requests = window.canary_requests.saturating_add(tick.sample.canary_requests);
        window.canary_errors = window.canary_errors.saturating_add(tick.sample.canary_errors);
        window.control_requests = window.control_requests.saturating_add(tick.sample.control_requests);
        window.control_errors = window.control_errors.saturating_add(tick.sample.control_errors);
        if window.canary_requests >= MIN_CANARY && window.control_requests >= MIN_CONTROL {
            return is_catastrophe(&window).then_some(window);
        }
    }
    None
}

fn is_catastrophe(window: &Window) -> bool {
    window.canary_errors as f64 > 0.5 * window.canary_requests as f64
        && (window.control_errors as f64) < 0.1 * window.control_requests as f64
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use meshward_model::TickSample;

    use super::*;

    /// Ticks of `seconds`, oldest first: canary requests and errors, control requests and errors.
    fn fires(seconds: i64, ticks: &[[u64; 4]]) -> bool {
        let at = |index: usize| {
            let index = i64::try_from(index).expect("small");
            Timestamp::from_second(1_700_000_000 + index * seconds).expect("in range")
        };
        let tick = |(index, counts): (usize, &[u64; 4])| {
            let [canary_requests, canary_errors, control_requests, control_errors] = *counts;
            let sample =
                TickSample { end: at(index + 1), canary_requests, canary_errors, control_requests, control_errors };
            Tick { start: at(index), sample }
        };
        let ticks: Vec<Tick> = ticks.iter().enumerate().map(tick).collect();
        catastrophe(ticks.iter().rev()).is_some()
    }

    #[test]
    fn only_a_failing_canary_beside_a_good_control_is_a_catastrophe() {
        assert!(fires(15, &[[30, 16, 20, 1]]));
        assert!(fires(15, &[[10, 9, 90, 0], [10, 9, 90, 0], [10, 9, 90, 0]]), "gathered over ticks");
        assert!(fires(15, &[[5000, 0, 5000, 0], [30, 16, 20, 0]]), "the good past does not matter");
        for (why, seconds, ticks) in [
            ("half is not more than half", 15, vec![[30, 15, 20, 0]]),
            ("a canary too small", 15, vec![[29, 29, 2000, 0]]),
            ("a control too small", 15, vec![[2000, 2000, 19, 0]]),
            ("the control fails, too", 15, vec![[30, 30, 20, 2]]),
            ("too long ago", 200, vec![[20, 20, 20, 0], [20, 20, 20, 0]]),
            ("nothing", 15, vec![]),
        ] {
            assert!(!fires(seconds, &ticks), "{why}");
        }
    }
}
