//! Judging numbers that the caller brings: two windows side by side, or recorded ticks. No source is asked.

use std::time::Duration;

use jiff::Timestamp;
use meshward_model::{Analysis, CohortTraffic, JudgeOptions, TickSample, Verdict, Weight, WeightPeriod};

use crate::{
    judge::{self, Judge, Judgement, Question, Tick, counts::Count, latency::SlowTick},
    traffic,
};

/// Most ticks that one replay goes through.
pub const MAX_REPLAYED: usize = 1000;
/// Length of a tick that nothing tells.
const DEFAULT_TICK: Duration = Duration::from_secs(15);
/// Ticks that a window is taken apart into.
pub const PARTS: u32 = 12;

/// Judges `current` against `baseline` as canary and control that ran beside each other. How the requests and errors were
/// spread over the windows is not known, so they are taken to be spread evenly, over [`PARTS`] ticks: the judge lets no
/// single tick decide. Bursts are therefore not seen.
#[must_use]
pub fn compare(baseline: &CohortTraffic, current: &CohortTraffic, options: JudgeOptions) -> Judgement {
    let ticks = parts(baseline, current);
    let periods = [unknown_weight(ticks[0].start, &ticks.iter().map(|tick| tick.sample).collect::<Vec<_>>())];
    let judgement = judge::judge(&Question {
        ticks: &ticks,
        periods: &periods,
        options,
        weight_is_share: false,
        ..Question::default()
    });
    let (verdict, explanation) = match (current.requests, baseline.requests) {
        (0, _) => (Verdict::NoTraffic, "current has no requests: there is nothing to judge".to_owned()),
        (_, 0) => (Verdict::Watching, "baseline has no requests: there is nothing to compare with".to_owned()),
        _ => (judgement.verdict, sentence(baseline, current, &judgement, options)),
    };
    Judgement { verdict, explanation, ..judgement }
}

fn sentence(baseline: &CohortTraffic, current: &CohortTraffic, judgement: &Judgement, options: JudgeOptions) -> String {
    let window = |name: &str, traffic: &CohortTraffic| {
        let percent = 100.0 * traffic.errors as f64 / traffic.requests as f64;
        format!("{name}: {} errors in {} requests ({percent:.2} %)", traffic.errors, traffic.requests)
    };
    let (evidence, bound) = (judgement.evidence(), options.alpha.recip());
    let more = match judgement.required_requests.checked_sub(current.requests) {
        Some(missing) if missing > 0 && judgement.verdict == Verdict::Watching => {
            format!("; {} requests are needed", judgement.required_requests)
        }
        _ => String::new(),
    };
    let (current, baseline) = (window("current", current), window("baseline", baseline));
    format!("{current}; {baseline}; evidence {evidence:.1} against {bound:.0}{more}")
}

fn parts(baseline: &CohortTraffic, current: &CohortTraffic) -> Vec<Tick> {
    let length = DEFAULT_TICK;
    // The sums up to each part are rounded, so nothing is lost.
    let part = |total: u64, index: u32| {
        let up_to = |index: u32| u128::from(total) * u128::from(index) / u128::from(PARTS);
        // A part is not more than the whole.
        u64::try_from(up_to(index + 1) - up_to(index)).unwrap_or(u64::MAX)
    };
    let tick = |index: u32| {
        let requests = |traffic: &CohortTraffic| part(traffic.requests, index);
        let errors = |traffic: &CohortTraffic| part(traffic.errors, index).min(requests(traffic));
        Tick {
            start: Timestamp::UNIX_EPOCH + length * index,
            sample: TickSample {
                end: Timestamp::UNIX_EPOCH + length * (index + 1),
                canary_requests: requests(current),
                canary_errors: errors(current),
                control_requests: requests(baseline),
                control_errors: errors(baseline),
            },
        }
    };
    (0..PARTS).map(tick).collect()
}

/// One step whose weight is read off the traffic, because nobody wrote it down. It is never everything: with a weight
/// of 100 % there would be no control by plan.
fn unknown_weight(start: Timestamp, samples: &[TickSample]) -> WeightPeriod {
    let sum = |count: fn(&TickSample) -> u64| samples.iter().map(|sample| count(sample) as f64).sum::<f64>();
    let (canary, control) = (sum(|sample| sample.canary_requests), sum(|sample| sample.control_requests));
    let share = if canary + control > 0.0 { canary / (canary + control) } else { 0.5 };
    // Within 1 and 9,999, so it is a weight.
    let basis_points = (share * 10_000.0).round().clamp(1.0, 9999.0) as i64;
    WeightPeriod { start, weight: Weight::from_basis_points(basis_points).unwrap_or(Weight::ZERO) }
}

/// What was counted in a tick beside requests and errors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Latencies; `None` if they were not measured.
    pub slow: Option<SlowTick>,
    /// Failures of the kinds that are counted, which are the same in all ticks.
    pub counts: Vec<Count>,
}

/// What RunAnalysis would have said after each of the samples, which ascend by their ends. There are no `details`, or
/// as many as samples. Without `periods` the weight is unknown: it is read off all samples, and no share is compared
/// with it.
#[must_use]
pub fn replay(
    samples: &[TickSample],
    details: &[Details],
    periods: &[WeightPeriod],
    options: JudgeOptions,
) -> Vec<Analysis> {
    let ticks = ticks(samples);
    let Some(first) = ticks.first() else { return Vec::new() };
    let unknown = [unknown_weight(first.start, samples)];
    let nothing = Details::default();
    let weight_is_share = !periods.is_empty();
    let periods = if weight_is_share { periods } else { &unknown };
    let mut replay = Replay { judge: Judge::new(options, weight_is_share), step: Step::default(), at: None };
    let of_tick = |(index, tick)| replay.after(tick, details.get(index).unwrap_or(&nothing), periods, options);
    ticks.iter().enumerate().map(of_tick).collect()
}

/// A judge on its way through recorded ticks.
struct Replay {
    judge: Judge,
    step: Step,
    /// Which period it is in; `None` before the first.
    at: Option<usize>,
}

/// What both arms did in the current step.
#[derive(Clone, Copy, Default)]
struct Step {
    canary: CohortTraffic,
    control: CohortTraffic,
    seconds: f64,
}

impl Replay {
    fn after(&mut self, tick: &Tick, details: &Details, periods: &[WeightPeriod], options: JudgeOptions) -> Analysis {
        let period = judge::period_of(tick.start, periods);
        if let Some(index) = period.filter(|_| period != self.at) {
            self.judge.begin_step(periods[index].weight);
            (self.step, self.at) = (Step::default(), period);
        }
        self.judge.observe_all(tick, details.slow.as_ref(), &details.counts);
        self.step.add(tick);
        for count in &details.counts {
            traffic::add_failure(&mut self.step.canary, count.kind, count.canary);
            traffic::add_failure(&mut self.step.control, count.kind, count.control);
        }
        // A step that began within the tick has no whole tick yet.
        let current = periods.partition_point(|period| period.start < tick.sample.end).max(1) - 1;
        if self.at == Some(current) {
            return analysis(&self.judge.judgement(), self.step, tick, options);
        }
        let mut judge = self.judge.clone();
        judge.begin_step(periods[current].weight);
        analysis(&judge.judgement(), Step::default(), tick, options)
    }
}

impl Step {
    fn add(&mut self, Tick { start, sample }: &Tick) {
        self.seconds += sample.end.duration_since(*start).as_secs_f64();
        let arms = [
            (&mut self.canary, sample.canary_requests, sample.canary_errors),
            (&mut self.control, sample.control_requests, sample.control_errors),
        ];
        for (arm, requests, errors) in arms {
            arm.requests = arm.requests.saturating_add(requests);
            arm.errors = arm.errors.saturating_add(errors);
            arm.requests_per_second = arm.requests as f64 / self.seconds;
        }
    }
}

/// A tick begins where the one before ended.
fn ticks(samples: &[TickSample]) -> Vec<Tick> {
    let first = match samples {
        [first, second, ..] => first.end.as_millisecond() - (second.end.as_millisecond() - first.end.as_millisecond()),
        [only] => only.end.as_millisecond() - DEFAULT_TICK.as_millis() as i64,
        [] => return Vec::new(),
    };
    let first = Timestamp::from_millisecond(first).unwrap_or(Timestamp::MIN);
    let starts = std::iter::once(first).chain(samples.iter().map(|sample| sample.end));
    starts.zip(samples).map(|(start, sample)| Tick { start, sample: *sample }).collect()
}

fn analysis(judgement: &Judgement, step: Step, tick: &Tick, options: JudgeOptions) -> Analysis {
    Analysis {
        id: String::new(),
        verdict: judgement.verdict,
        evidence: judgement.evidence(),
        explanation: judgement.explanation.clone(),
        evidence_bound: options.alpha.recip(),
        observed_share: judge::share(step.canary.requests, step.control.requests),
        canary: step.canary,
        control: step.control,
        required_requests: judgement.required_requests,
        time: tick.sample.end,
        samples: vec![tick.sample],
        queries: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::counts::Kind;

    fn traffic(requests: u64, errors: u64) -> CohortTraffic {
        CohortTraffic { requests, errors, ..CohortTraffic::default() }
    }

    #[test]
    fn two_windows_are_judged_like_two_arms() {
        let cases = [
            ((100_000, 100), (10_000, 12), Verdict::Healthy),
            ((100_000, 100), (10_000, 300), Verdict::Regression),
            ((100_000, 100), (20, 0), Verdict::Watching),
            ((100_000, 100), (0, 0), Verdict::NoTraffic),
            ((0, 0), (10_000, 12), Verdict::Watching),
            ((0, 0), (0, 0), Verdict::NoTraffic),
            ((u64::MAX, 0), (u64::MAX, u64::MAX), Verdict::Regression),
        ];
        for (baseline, current, verdict) in cases {
            let (baseline, current) = (traffic(baseline.0, baseline.1), traffic(current.0, current.1));
            let judgement = compare(&baseline, &current, JudgeOptions::default());
            assert_eq!(judgement.verdict, verdict, "{current:?} beside {baseline:?}: {}", judgement.explanation);
            assert!(judgement.evidence().is_finite());
        }
    }

    fn samples(count: i64, errors: impl Fn(i64) -> u64) -> Vec<TickSample> {
        let sample = |index| TickSample {
            end: Timestamp::from_second(1_700_000_000 + 15 * (index + 1)).expect("in range"),
            canary_requests: 150,
            canary_errors: errors(index),
            control_requests: 1350,
            control_errors: 1,
        };
        (0..count).map(sample).collect()
    }

    fn period(tick: i64, basis_points: i64) -> WeightPeriod {
        WeightPeriod {
            start: Timestamp::from_second(1_700_000_000 + 15 * tick).expect("in range"),
            weight: Weight::from_basis_points(basis_points).expect("a weight"),
        }
    }

    #[test]
    fn a_replay_says_what_was_known_after_each_tick() {
        let bad = samples(8, |index| if index >= 4 { 15 } else { 0 });
        for periods in [vec![], vec![period(0, 1000)]] {
            let verdicts: Vec<Verdict> =
                replay(&bad, &[], &periods, JudgeOptions::default()).iter().map(|one| one.verdict).collect();
            assert_eq!(verdicts[0], Verdict::Watching, "{verdicts:?}");
            assert_eq!(verdicts[3], Verdict::Healthy, "{verdicts:?}");
            assert_eq!(verdicts[4], Verdict::Watching, "one tick alone decides nothing: {verdicts:?}");
            assert_eq!(verdicts[5..], [Verdict::Regression; 3], "{verdicts:?}");
        }
        assert!(replay(&[], &[], &[], JudgeOptions::default()).is_empty());
    }

    /// A few slow requests and denials, some more of the canary's in each tick.
    fn details(index: u64, sample: &TickSample) -> Details {
        let slow = SlowTick {
            requests: *sample,
            edges_ms: vec![10.0, 100.0],
            canary: vec![20 + index, 5 + index % 3],
            control: vec![200, 40],
        };
        Details { slow: Some(slow), counts: vec![Count { kind: Kind::Denials, canary: index / 10, control: 2 }] }
    }

    #[test]
    fn a_replay_says_what_the_judge_says_of_all_ticks_up_to_each() {
        let options = JudgeOptions::default();
        let samples = samples(40, |index| u64::from(index % 7 == 0));
        // The second begins within a tick; the third and the fourth before the next is over.
        let mut periods = vec![period(2, 1000), period(9, 1500), period(20, 2000), period(21, 1000)];
        periods[1].start += Duration::from_secs(5);
        let ticks = ticks(&samples);
        let details: Vec<Details> = (0..).zip(&samples).map(|(index, sample)| details(index, sample)).collect();
        let slow: Vec<Option<SlowTick>> = details.iter().map(|one| one.slow.clone()).collect();
        let counts: Vec<Vec<Count>> = details.iter().map(|one| one.counts.clone()).collect();
        for (index, replayed) in replay(&samples, &details, &periods, options).iter().enumerate() {
            let known = periods.iter().take_while(|period| period.start < samples[index].end).count().max(1);
            let question = Question {
                ticks: &ticks[..=index],
                slow: &slow[..=index],
                counts: &counts[..=index],
                periods: &periods[..known],
                options,
                weight_is_share: true,
                ..Question::default()
            };
            let judgement = judge::judge(&question);
            assert_eq!(replayed.verdict, judgement.verdict, "tick {index}");
            assert_eq!(replayed.explanation, judgement.explanation, "tick {index}");
            assert!((replayed.evidence - judgement.evidence()).abs() < 1e-9, "tick {index}");
        }
    }

    #[test]
    fn steps_begin_when_they_began() {
        let good = samples(6, |_| 0);
        let analyses = replay(&good, &[], &[period(0, 1000), period(3, 5000)], JudgeOptions::default());
        let requests: Vec<u64> = analyses.iter().map(|one| one.canary.requests).collect();
        assert_eq!(requests, [150, 300, 450, 150, 300, 450]);
        assert!((analyses[2].canary.requests_per_second - 10.0).abs() < 1e-9);
        assert_eq!(analyses[5].verdict, Verdict::Watching, "a tenth came where a half was asked");
        assert_eq!((analyses[5].samples.as_slice(), analyses[5].time), (&good[5..], good[5].end));
    }
}
