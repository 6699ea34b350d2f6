//! Leaves a source alone that failed several times in a row, so that a Prometheus that is starting again is not met by
//! everyone who waited for it, and callers get their PROVIDER_ERROR at once.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use meshward_chassis::clock::Clock;

use super::{Answer, MetricsSource, SourceError, meters::Meter};
use crate::window::Grid;

/// Failures in a row after which nothing is asked for a while.
pub const FAILURES: u32 = 5;
/// How long nothing is asked.
pub const REST: Duration = Duration::from_secs(3);
/// Questions that may go out at the end of a rest, before one of them is answered: an analysis asks three.
const TRIALS: u32 = 3;

/// A source behind a breaker.
pub struct Breaker<S> {
    inner: S,
    clock: Arc<dyn Clock>,
    meter: Meter,
    state: Mutex<State>,
}

impl<S> Breaker<S> {
    /// Puts a breaker before a source; `clock` says how long it has rested, and `meter` shows its state.
    pub fn new(inner: S, clock: Arc<dyn Clock>, meter: Meter) -> Self {
        Self { inner, clock, meter, state: Mutex::new(State::default()) }
    }

    /// Does something to the state, and shows it.
    fn with_state<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().expect("no holder panics");
        let result = change(&mut state);
        self.meter.breaker.set(match *state {
            State::Closed { .. } => 0,
            State::Open { .. } => 1,
            State::Trying { .. } => 2,
        });
        result
    }
}

#[async_trait]
impl<S: MetricsSource> MetricsSource for Breaker<S> {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn range(&self, query: &str, grid: &Grid, deadline: Instant) -> Result<Answer, SourceError> {
        let admitted = self.with_state(|state| state.admit(self.clock.now()));
        if let Err(Resting { last, left }) = admitted {
            return Err(SourceError::Resting { address: self.address().to_owned(), last, left });
        }
        let answer = self.inner.range(query, grid, deadline).await;
        self.with_state(|state| state.record(self.clock.now(), answer.as_ref().err()));
        answer
    }
}

/// Where a breaker is; pure.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Everything goes through; so many failed in a row.
    Closed { failures: u32 },
    /// Nothing goes through.
    Open { since: Timestamp, last: String },
    /// A few go through, and the first answer decides.
    Trying { since: Timestamp, admitted: u32, last: String },
}

/// Why a question does not go through.
#[derive(Debug, PartialEq, Eq)]
struct Resting {
    last: String,
    left: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl State {
    fn admit(&mut self, now: Timestamp) -> Result<(), Resting> {
        match self {
            Self::Closed { .. } => Ok(()),
            Self::Open { since, last } => {
                let left = left(*since, now);
                if left > Duration::ZERO {
                    return Err(Resting { last: last.clone(), left });
                }
                *self = Self::Trying { since: now, admitted: 1, last: std::mem::take(last) };
                Ok(())
            }
            Self::Trying { since, admitted, last } => {
                // Trials that nobody waited for are forgotten after a rest.
                if left(*since, now) == Duration::ZERO {
                    (*since, *admitted) = (now, 0);
                }
                if *admitted >= TRIALS {
                    return Err(Resting { last: last.clone(), left: left(*since, now) });
                }
                *admitted += 1;
                Ok(())
            }
        }
    }

    fn record(&mut self, now: Timestamp, error: Option<&SourceError>) {
        let Some(error) = error.filter(|error| error.is_outage()) else {
            *self = Self::default();
            return;
        };
        let open = || Self::Open { since: now, last: error.to_string() };
        match self {
            Self::Closed { failures } if *failures + 1 < FAILURES => *failures += 1,
            Self::Closed { .. } | Self::Trying { .. } => *self = open(),
            // An answer to what was asked before the rest began.
            Self::Open { .. } => {}
        }
    }
}

/// What is left of a rest; nothing if the clock was put back.
fn left(since: Timestamp, now: Timestamp) -> Duration {
    let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or(REST);
    REST.saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).expect("in range")
    }

    fn timed_out() -> SourceError {
        SourceError::TimedOut { address: "it".to_owned(), waited: Duration::from_secs(5) }
    }

    fn refused(status: u16) -> SourceError {
        SourceError::Refused { address: "it".to_owned(), status, message: "no".to_owned() }
    }

    /// A breaker that has just opened at 0 ms.
    fn open() -> State {
        let mut state = State::default();
        for _ in 0..FAILURES {
            assert_eq!(state.admit(at(0)), Ok(()));
            state.record(at(0), Some(&timed_out()));
        }
        assert!(matches!(state, State::Open { .. }));
        state
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let mut state = State::default();
        for _ in 0..3 {
            for _ in 1..FAILURES {
                state.record(at(0), Some(&timed_out()));
            }
            assert_eq!(state.admit(at(0)), Ok(()), "one answer starts the count anew");
            state.record(at(0), None);
        }
        for _ in 0..FAILURES * 2 {
            state.record(at(0), Some(&refused(422)));
            assert_eq!(state.admit(at(0)), Ok(()), "a refusal is an answer");
        }
        let mut state = open();
        let resting = Resting { last: timed_out().to_string(), left: Duration::from_secs(2) };
        assert_eq!(state.admit(at(1000)), Err(resting));
    }

    #[test]
    fn after_the_rest_three_try_and_the_first_answer_decides() {
        let mut state = open();
        (3000..3003).for_each(|moment| assert_eq!(state.admit(at(moment)), Ok(())));
        assert!(state.admit(at(3003)).is_err(), "the others wait");
        state.record(at(3100), None);
        assert_eq!(state, State::default());

        let mut state = open();
        assert_eq!(state.admit(at(3000)), Ok(()));
        state.record(at(3100), Some(&refused(503)));
        assert_eq!(state.admit(at(3200)).expect_err("open again").left, Duration::from_millis(2900));
    }

    #[test]
    fn neither_a_lost_trial_nor_a_clock_put_back_keeps_it_open() {
        let mut state = open();
        for _ in 0..TRIALS {
            assert_eq!(state.admit(at(3000)), Ok(()));
        }
        assert!(state.admit(at(5999)).is_err());
        assert_eq!(state.admit(at(6000)), Ok(()), "their callers went away");
        assert_eq!(open().admit(at(-1)), Ok(()));
    }

    #[test]
    fn a_late_answer_does_not_prolong_the_rest() {
        let mut state = open();
        state.record(at(2000), Some(&timed_out()));
        assert_eq!(state.admit(at(3000)), Ok(()));
    }
}
