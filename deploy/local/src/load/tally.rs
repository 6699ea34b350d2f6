//! Folds finished requests into counts, per phase and in all, in bounded memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use jiff::Timestamp;

use super::LoadError;
use super::outcome::{Loss, Outcome};
use super::report::{AnswerCount, Ended, FailureSample, Latency, LoadReport, LossCounts, Moment, PhaseReport};

/// Phases in one load; each takes about 10 kB.
pub(super) const MAX_PHASES: usize = 256;
/// Failures kept in full per phase.
pub(super) const MAX_SAMPLES: usize = 20;
/// Kinds of answers counted apart; the rest is counted under [`OTHER`].
const MAX_KINDS: usize = 64;
/// The version and upstream of answers that came after [`MAX_KINDS`] other kinds.
const OTHER: &str = "(other)";
/// The longest latency that is told exactly, in microseconds.
const MAX_MICROS: u64 = 120_000_000;

/// All counts of one load.
#[derive(Debug)]
pub(super) struct Ledger {
    total: Tally,
    phases: Vec<Tally>,
    ended: Option<(Ended, Instant)>,
}

/// The counts of one phase.
#[derive(Debug)]
struct Tally {
    name: String,
    begun: Instant,
    ended: Option<Instant>,
    started_at: Timestamp,
    sent: u64,
    not_sent: u64,
    completed: u64,
    answers: BTreeMap<Kind, u64>,
    lost: LossCounts,
    neither: u64,
    failed: u64,
    first_failure: Option<Moment>,
    last_failure: Option<Moment>,
    failures: Vec<FailureSample>,
    /// In microseconds.
    latency: Histogram<u32>,
}

/// Status class, version, upstream.
type Kind = (u16, Option<String>, Option<String>);

impl Ledger {
    pub(super) fn new(phase: &str, begun: Instant, at: Timestamp) -> Self {
        Self { total: Tally::new("total", begun, at), phases: vec![Tally::new(phase, begun, at)], ended: None }
    }

    /// Ends the current phase and begins the next.
    pub(super) fn mark(&mut self, name: &str, now: Instant, at: Timestamp) -> Result<(), LoadError> {
        if self.phases.len() == MAX_PHASES {
            return Err(LoadError::TooManyPhases(MAX_PHASES));
        }
        if let Some(current) = self.phases.last_mut() {
            current.ended = Some(now);
        }
        self.phases.push(Tally::new(name, now, at));
        Ok(())
    }

    /// Counts a request that is due and tells the phase that it belongs to.
    pub(super) fn due(&mut self, sent: bool) -> usize {
        let phase = self.phases.len() - 1;
        for tally in [&mut self.total, &mut self.phases[phase]] {
            tally.sent += u64::from(sent);
            tally.not_sent += u64::from(!sent);
        }
        phase
    }

    /// Counts a sent request that is over; `at` is the time of its end if it failed.
    pub(super) fn done(
        &mut self,
        phase: usize,
        outcome: Outcome,
        begun: Instant,
        ended: Instant,
        at: Option<Timestamp>,
    ) {
        for tally in [&mut self.total, &mut self.phases[phase]] {
            tally.count(&outcome, ended - begun);
            if let Some(at) = at {
                tally.fail(&outcome, begun, ended, at);
            }
        }
    }

    /// Notes that no more requests will be due.
    pub(super) fn end(&mut self, reason: Ended, now: Instant) {
        self.ended.get_or_insert((reason, now));
    }

    pub(super) fn report(&self, now: Instant) -> LoadReport {
        let now = self.ended.map_or(now, |(_, at)| at);
        LoadReport {
            total: self.total.report(now),
            phases: self.phases.iter().map(|phase| phase.report(now)).collect(),
            ended: self.ended.map(|(reason, _)| reason),
        }
    }
}

impl Tally {
    fn new(name: &str, begun: Instant, started_at: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            begun,
            ended: None,
            started_at,
            sent: 0,
            not_sent: 0,
            completed: 0,
            answers: BTreeMap::new(),
            lost: LossCounts::default(),
            neither: 0,
            failed: 0,
            first_failure: None,
            last_failure: None,
            failures: Vec::new(),
            latency: Histogram::new_with_max(MAX_MICROS, 2).expect("the constant bounds are valid"),
        }
    }

    fn count(&mut self, outcome: &Outcome, took: Duration) {
        self.completed += 1;
        self.neither += u64::from(outcome.answered_by_neither());
        match outcome {
            Outcome::Answered { status, version, upstream } => {
                *self.kind((status / 100, version.clone(), upstream.clone())) += 1;
                self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(MAX_MICROS));
            }
            Outcome::Lost(loss) => *self.loss(loss) += 1,
        }
    }

    /// The counter of this kind of answer, or of all others once there are too many kinds.
    fn kind(&mut self, kind: Kind) -> &mut u64 {
        let known = self.answers.contains_key(&kind);
        let kind = match known || self.answers.len() < MAX_KINDS {
            true => kind,
            false => (kind.0, Some(OTHER.to_owned()), Some(OTHER.to_owned())),
        };
        self.answers.entry(kind).or_default()
    }

    fn loss(&mut self, loss: &Loss) -> &mut u64 {
        match loss {
            Loss::Connect(_) => &mut self.lost.connect,
            Loss::Timeout => &mut self.lost.timeout,
            Loss::Closed(_) => &mut self.lost.closed,
            Loss::Protocol(_) => &mut self.lost.protocol,
            Loss::Proxy(_) => &mut self.lost.proxy,
        }
    }

    fn fail(&mut self, outcome: &Outcome, begun: Instant, ended: Instant, at: Timestamp) {
        self.failed += 1;
        let moment = Moment { after_seconds: (ended - self.begun).as_secs_f64(), at };
        // Requests are written down a hair out of order, so neither end is simply the first or last to come in.
        let earlier = |known: &Moment| known.after_seconds <= moment.after_seconds;
        if !self.first_failure.as_ref().is_some_and(earlier) {
            self.first_failure = Some(moment);
        }
        if self.last_failure.as_ref().is_none_or(earlier) {
            self.last_failure = Some(moment);
        }
        if self.failures.len() < MAX_SAMPLES {
            self.failures.push(FailureSample {
                sent_after_seconds: (begun - self.begun).as_secs_f64(),
                latency_ms: (ended - begun).as_secs_f64() * 1e3,
                at,
                outcome: outcome.to_string(),
            });
        }
    }

    fn report(&self, now: Instant) -> PhaseReport {
        PhaseReport {
            name: self.name.clone(),
            started_at: self.started_at,
            seconds: (self.ended.unwrap_or(now) - self.begun).as_secs_f64(),
            due: self.sent + self.not_sent,
            sent: self.sent,
            not_sent: self.not_sent,
            completed: self.completed,
            answers: self.answers.iter().map(|(kind, count)| answer_count(kind, *count)).collect(),
            lost: self.lost,
            answered_by_neither: self.neither,
            failed: self.failed,
            first_failure: self.first_failure,
            last_failure: self.last_failure,
            failures: self.failures.clone(),
            latency: self.quantiles(),
        }
    }

    fn quantiles(&self) -> Latency {
        let at = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: self.latency.max() as f64 / 1e3,
        }
    }
}

fn answer_count((status_class, version, upstream): &Kind, count: u64) -> AnswerCount {
    AnswerCount { status_class: *status_class, version: version.clone(), upstream: upstream.clone(), count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, version: &str) -> Outcome {
        Outcome::Answered { status, version: Some(version.to_owned()), upstream: Some("checkout".to_owned()) }
    }

    #[test]
    fn a_request_belongs_to_the_phase_in_which_it_was_sent() {
        let start = Instant::now();
        let second = |s: u64| start + Duration::from_secs(s);
        let at = |s: i64| Timestamp::from_second(1_000 + s).unwrap();
        let mut ledger = Ledger::new("start", start, at(0));
        let slow = ledger.due(true);
        ledger.mark("step 1", second(10), at(10)).unwrap();
        let first = ledger.due(true);
        ledger.due(false);
        // Written down out of order, as may happen.
        ledger.done(slow, Outcome::Lost(Loss::Timeout), second(9), second(14), Some(at(14)));
        ledger.done(first, answered(503, "v2"), second(11), second(12), Some(at(12)));
        let report = ledger.report(second(20));

        let [before, step] = &report.phases[..] else { panic!("two phases") };
        assert_eq!((before.due, before.sent, before.not_sent, before.lost.timeout), (1, 1, 0, 1));
        assert_eq!((before.seconds, before.started_at), (10.0, at(0)));
        assert_eq!(before.first_failure, Some(Moment { after_seconds: 14.0, at: at(14) }));
        assert_eq!((step.due, step.sent, step.not_sent, step.lost.total()), (2, 1, 1, 0));
        assert_eq!(step.first_failure, Some(Moment { after_seconds: 2.0, at: at(12) }));
        assert_eq!(step.failures[0].outcome, "503 from checkout by v2");
        assert_eq!(step.failures[0].latency_ms, 1_000.0);
        assert_eq!((report.total.failed, report.total.due, report.total.completed), (2, 3, 2));
        assert_eq!(report.total.first_failure, Some(Moment { after_seconds: 12.0, at: at(12) }));
        assert_eq!(report.total.last_failure, Some(Moment { after_seconds: 14.0, at: at(14) }));
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let mut ledger = Ledger::new("start", start, Timestamp::UNIX_EPOCH);
        for number in 0..1_000 {
            let phase = ledger.due(true);
            ledger.done(phase, answered(500, &format!("v{number}")), start, start, Some(Timestamp::UNIX_EPOCH));
        }
        let report = ledger.report(start).total;
        assert_eq!((report.completed, report.failed, report.failures.len()), (1_000, 1_000, MAX_SAMPLES));
        assert_eq!(report.answers.len(), MAX_KINDS + 1);
        assert_eq!(report.by_version()[&Some(OTHER)], 1_000 - MAX_KINDS as u64);
        for _ in 1..MAX_PHASES {
            ledger.mark("step", start, Timestamp::UNIX_EPOCH).unwrap();
        }
        assert!(matches!(ledger.mark("step", start, Timestamp::UNIX_EPOCH), Err(LoadError::TooManyPhases(MAX_PHASES))));
    }

    #[test]
    fn shares_and_quantiles() {
        let start = Instant::now();
        let mut ledger = Ledger::new("start", start, Timestamp::UNIX_EPOCH);
        for number in 1..=100 {
            let phase = ledger.due(true);
            let version = if number <= 10 { "v2" } else { "v1" };
            ledger.done(phase, answered(200, version), start, start + Duration::from_millis(number), None);
        }
        let report = ledger.report(start).total;
        assert_eq!((report.share_of("v2"), report.share_of("v3")), (Some(0.1), Some(0.0)));
        for (told, exact) in [(report.latency.p50_ms, 50.0), (report.latency.p99_ms, 99.0)] {
            assert!((told - exact).abs() < 0.01 * exact + 0.1, "{told} for {exact}");
        }
        assert_eq!(Ledger::new("start", start, Timestamp::UNIX_EPOCH).report(start).total.share_of("v1"), None);
    }
}
