//! What else is counted, of which more is worse: connection failures, circuit breaker trips, denials.
//!
//! Each is a [`Stream`] of its own beside the errors, because it may rise where errors do not: a retry hides a failed
//! connection, and a denial is no server error. Their e-values are averaged and have an eighth of all money, if they
//! are counted at all; errors and latencies share the rest as before. An arm cannot have more of a kind than requests:
//! what is counted beyond that (a connection that fails again and again) adds nothing.

use meshward_model::{JudgeOptions, TickSample};

use super::{evidence::log_add, sentence, stream::Stream};

/// Part of the money that they get.
const PART: f64 = 0.125;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Connections that could not be made or broke.
    ConnectionFailures,
    /// Requests that a circuit breaker turned away, or times that one opened.
    CircuitBreakerTrips,
    /// Requests that an authorization policy denied.
    Denials,
}

impl Kind {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::ConnectionFailures, Self::CircuitBreakerTrips, Self::Denials];

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionFailures => "connection failures",
            Self::CircuitBreakerTrips => "circuit breaker trips",
            Self::Denials => "denied requests",
        }
    }
}

/// One kind in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What.
    pub kind: Kind,
    /// How often in the canary.
    pub canary: u64,
    /// How often in the control.
    pub control: u64,
}

/// All kinds that are counted.
#[derive(Clone, Debug)]
pub struct Counts {
    options: JudgeOptions,
    streams: Vec<(Kind, Counted)>,
}

#[derive(Clone, Debug)]
struct Counted {
    stream: Stream,
    /// Sum of the ticks that were weighed.
    seen: super::Sum,
}

impl Counts {
    /// Nothing seen.
    #[must_use]
    pub fn new(options: JudgeOptions) -> Self {
        Self { options, streams: Vec::new() }
    }

    /// A tick in which nothing was exposed.
    pub fn learn(&mut self, tick: &TickSample, counts: &[Count]) {
        for count in counts {
            self.of(count.kind).stream.learn(&as_errors(tick, count), 0.0);
        }
    }

    /// A tick with a weight.
    pub fn weigh(&mut self, tick: &TickSample, counts: &[Count], minutes: f64) {
        for count in counts {
            let counted = self.of(count.kind);
            let sample = as_errors(tick, count);
            counted.stream.weigh(&sample, minutes);
            counted.seen.add(&sample);
        }
    }

    fn of(&mut self, kind: Kind) -> &mut Counted {
        let found = self.streams.iter().position(|(known, _)| *known == kind);
        let index = found.unwrap_or_else(|| {
            let counted = Counted { stream: Stream::new(self.options), seen: super::Sum::default() };
            self.streams.push((kind, counted));
            self.streams.len() - 1
        });
        &mut self.streams[index].1
    }

    /// The evidence of everything else and of these together, as logarithms.
    #[must_use]
    pub fn combined(&self, log_others: f64) -> f64 {
        if self.streams.is_empty() {
            return log_others;
        }
        log_add((1.0 - PART).ln() + log_others, PART.ln() + self.log_value())
    }

    /// If these say more than everything else does: a sentence about the kind that says most.
    #[must_use]
    pub fn blame(&self, log_others: f64) -> Option<String> {
        if self.streams.is_empty() || PART.ln() + self.log_value() < (1.0 - PART).ln() + log_others {
            return None;
        }
        let by_value = |a: &&(Kind, Counted), b: &&(Kind, Counted)| self.log_of(&a.1).total_cmp(&self.log_of(&b.1));
        let (kind, worst) = self.streams.iter().max_by(by_value)?;
        (worst.seen.canary_errors >= super::MIN_ERRORS).then(|| sentence::counted(kind.name(), &worst.seen))
    }

    /// So few that they are called negligible do not speak against the canary.
    fn log_of(&self, counted: &Counted) -> f64 {
        let limit = self.options.objectives.negligible_error_rate.unwrap_or(-1.0);
        let is_negligible = counted.seen.canary_errors as f64 <= limit * counted.seen.canary_requests as f64;
        if is_negligible { counted.stream.log_value().min(0.0) } else { counted.stream.log_value() }
    }

    /// The mean of the kinds' e-values.
    fn log_value(&self) -> f64 {
        let sum = self.streams.iter().map(|(_, one)| self.log_of(one)).fold(f64::NEG_INFINITY, log_add);
        sum - (self.streams.len() as f64).ln()
    }
}

fn as_errors(tick: &TickSample, count: &Count) -> TickSample {
    TickSample {
        canary_errors: count.canary.min(tick.canary_requests),
        control_errors: count.control.min(tick.control_requests),
        ..*tick
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const TICK: TickSample = TickSample {
        end: Timestamp::UNIX_EPOCH,
        canary_requests: 500,
        canary_errors: 0,
        control_requests: 4500,
        control_errors: 0,
    };

    fn weighed(canary: &[(Kind, u64)], control: u64) -> Counts {
        let mut counts = Counts::new(JudgeOptions::default());
        for tick in 0..8_u32 {
            let counted: Vec<Count> =
                canary.iter().map(|(kind, canary)| Count { kind: *kind, canary: *canary, control }).collect();
            counts.weigh(&TICK, &counted, f64::from(tick) / 4.0);
        }
        counts
    }

    #[test]
    fn more_of_any_kind_is_evidence_and_the_same_share_is_none() {
        let bound = 100_f64.ln();
        for kind in Kind::ALL {
            let worse = weighed(&[(kind, 20)], 2);
            assert!(worse.combined(0.0) > bound, "{kind:?}: {}", worse.combined(0.0));
            let sentence = worse.blame(0.0).expect("it is to blame");
            assert!(sentence.starts_with(&format!("160 {} in 4,000", kind.name())), "{sentence}");
            assert!(weighed(&[(kind, 2)], 18).combined(0.0) < 0.5, "{kind:?}: alike");
        }
        let one_of_three: Vec<_> = Kind::ALL.map(|kind| (kind, if kind == Kind::Denials { 20 } else { 0 })).into();
        let mixed = weighed(&one_of_three, 0);
        assert!(mixed.combined(0.0) > bound && mixed.blame(0.0).is_some_and(|why| why.contains("denied requests")));
    }

    #[test]
    fn what_is_not_counted_has_no_stake() {
        assert!((Counts::new(JudgeOptions::default()).combined(3.0) - 3.0).abs() < 1e-12);
        assert_eq!(Counts::new(JudgeOptions::default()).blame(-9.0), None);
        let runaway = weighed(&[(Kind::ConnectionFailures, u64::MAX)], 0);
        assert!(runaway.combined(0.0).is_finite());
    }
}
