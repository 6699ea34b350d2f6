use meshward_model::Weight;

use super::{control::Control, *};
use crate::bench::chance::Chance;

const TICK_SECONDS: i64 = 15;

fn at(tick: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + tick * TICK_SECONDS).expect("in range")
}

fn tick(index: i64, canary: (u64, u64), control: (u64, u64)) -> Tick {
    let sample = TickSample {
        end: at(index + 1),
        canary_requests: canary.0,
        canary_errors: canary.1,
        control_requests: control.0,
        control_errors: control.1,
    };
    Tick { start: at(index), sample }
}

fn periods(weights: &[(i64, i64)]) -> Vec<WeightPeriod> {
    let period = |(tick, bp): &(i64, i64)| WeightPeriod {
        start: at(*tick),
        weight: Weight::from_basis_points(*bp).expect("a weight"),
    };
    weights.iter().map(period).collect()
}

fn judge_ticks(ticks: &[Tick], weights: &[(i64, i64)]) -> Judgement {
    let periods = periods(weights);
    judge(&Question {
        ticks,
        periods: &periods,
        options: JudgeOptions::default(),
        weight_is_share: true,
        ..Question::default()
    })
}

/// Ticks before the change in which the control fails evenly, so that the judge need not fear clusters of errors.
fn calm_past() -> impl Iterator<Item = Tick> {
    (-60..0).map(|index| tick(index, (0, 0), (10_000, 10 + index.unsigned_abs() % 3)))
}

const AFTER_CALM_PAST: &[(i64, i64)] = &[(-60, 0), (0, 1000)];

#[test]
fn each_rule_says_why() {
    let ten: &[(i64, i64)] = &[(0, 1000)];
    type Case = (&'static str, Vec<Tick>, &'static [(i64, i64)], Verdict, &'static str);
    let cases: &[Case] = &[
        ("nothing yet", vec![], ten, Verdict::Watching, "no whole tick of this step is over yet"),
        (
            "the step has just begun",
            vec![tick(0, (1000, 1), (9000, 9))],
            &[(0, 1000), (1, 3000)],
            Verdict::Watching,
            "no whole tick of this step is over yet",
        ),
        (
            "nobody calls",
            vec![tick(0, (0, 0), (0, 0))],
            ten,
            Verdict::NoTraffic,
            "neither canary nor control had a request in this step",
        ),
        (
            "nobody reaches the canary",
            vec![tick(0, (0, 0), (1350, 2))],
            ten,
            Verdict::NoTraffic,
            "the canary had no request in this step (weight 10 %), the control had 1,350",
        ),
        (
            "no control",
            vec![tick(0, (20, 0), (0, 0))],
            ten,
            Verdict::Watching,
            "the control had no request in this step, the canary had 20: nothing to compare with",
        ),
        (
            "regression",
            vec![tick(0, (120, 14), (1080, 10)), tick(1, (120, 14), (1080, 10))],
            ten,
            Verdict::Regression,
            "28 errors in 240 canary requests, 20 in 2,160 control requests; at this share 4.8 were expected; \
             evidence 1,142 against 100",
        ),
        (
            "two errors are never enough",
            calm_past().chain([tick(0, (10, 2), (100_000, 0))]).collect(),
            &[(-60, 0), (0, 1)],
            Verdict::Watching,
            "2 errors in 10 canary requests, 0 in 100,000 control requests; at this share 0.0 were expected; \
             evidence 10 against 100: not enough to roll back, too much to go on",
        ),
        (
            "catastrophe beside a small control",
            vec![tick(0, (200, 101), (20, 1))],
            &[(0, 9000)],
            Verdict::Regression,
            "101 of the last 200 canary requests failed, 1 of 20 control requests did: stopped at once",
        ),
        (
            "a small sample",
            vec![tick(0, (30, 0), (270, 0))],
            ten,
            Verdict::Watching,
            "0 errors in 30 canary requests, 0 in 270 control requests; at this share 0.0 were expected; \
             212 canary requests are needed to see +5 percentage points: about 2 min more at 2.0 canary requests \
             a second",
        ),
        (
            "healthy",
            vec![tick(0, (400, 1), (3600, 12))],
            ten,
            Verdict::Healthy,
            "1 error in 400 canary requests, 12 in 3,600 control requests; at this share 1.3 were expected; \
             evidence 0.7 against 100; 234 requests were needed to see +5 percentage points",
        ),
        (
            "the share is off",
            vec![tick(0, (1200, 1), (2800, 3))],
            ten,
            Verdict::Watching,
            "the canary got 30.0 % of 4,000 requests where 10 % were asked: the step is held",
        ),
        (
            "everything to the canary: all fails, and nothing is judged",
            vec![tick(0, (4000, 4000), (3, 0))],
            &[(0, 10_000)],
            Verdict::Watching,
            "4,000 errors in 4,000 canary requests; at 100 % there is no control to compare with, so nothing is judged",
        ),
    ];
    for (name, ticks, weights, verdict, explanation) in cases {
        let judgement = judge_ticks(ticks, weights);
        assert_eq!((judgement.verdict, judgement.explanation.as_str()), (*verdict, *explanation), "{name}");
    }
}

#[test]
fn a_regression_stays_one_and_does_not_depend_on_when_it_is_asked() {
    let mut ticks = vec![tick(0, (150, 20), (1350, 2)), tick(1, (150, 20), (1350, 2))];
    let first = judge_ticks(&ticks, &[(0, 1000)]);
    assert_eq!(first.verdict, Verdict::Regression);
    ticks.extend((2..100).map(|index| tick(index, (150, 0), (1350, 2))));
    let later = judge_ticks(&ticks, &[(0, 1000)]);
    assert_eq!(
        (later.verdict, later.explanation, later.log_evidence),
        (first.verdict, first.explanation, first.log_evidence)
    );
}

#[test]
fn one_tick_alone_decides_nothing_but_a_catastrophe() {
    let judged = |errors: u64| {
        let ticks: Vec<Tick> = calm_past().chain([tick(0, (1500, errors), (13_500, 14))]).collect();
        judge_ticks(&ticks, AFTER_CALM_PAST).verdict
    };
    assert_eq!(judged(700), Verdict::Watching, "a storm may have hit one arm by chance");
    assert_eq!(judged(800), Verdict::Regression, "the catastrophe guard");
}

#[test]
fn groups_that_differed_before_are_not_comparable_and_not_rolled_back_for_it() {
    let judged = |rate: u64, until: i64| {
        let zone = (-60..until).map(|index| tick(index, (1000, if index < 0 { 25 } else { rate }), (9000, 90)));
        judge_ticks(&zone.collect::<Vec<_>>(), AFTER_CALM_PAST)
    };
    let before = judge_ticks(&[tick(0, (1000, 10), (9000, 90))], &[(0, 0)]);
    assert_eq!(before.verdict, Verdict::Watching, "{}", before.explanation);
    let same = judged(25, 60);
    assert_eq!(same.verdict, Verdict::NotComparable, "{}", same.explanation);
    assert!(
        same.explanation.starts_with("before the change 1,500 of 60,000 requests of the canary's group failed, 5,400"),
        "{}",
        same.explanation
    );
    assert_eq!(judged(100, 20).verdict, Verdict::Regression, "four times as bad as before");
}

#[test]
fn errors_of_earlier_steps_count_but_their_sample_does_not() {
    let ticks: Vec<Tick> = (0..20)
        .map(|index| if index < 19 { tick(index, (150, 0), (1350, 1)) } else { tick(index, (20, 0), (45, 0)) })
        .collect();
    let judgement = judge_ticks(&ticks, &[(0, 1000), (19, 3000)]);
    assert_eq!(judgement.verdict, Verdict::Watching);
    assert!(judgement.explanation.starts_with("0 errors in 20 canary requests, 0 in 45"), "{}", judgement.explanation);
}

#[test]
fn a_share_that_is_off_by_little_or_by_chance_holds_nothing() {
    assert_eq!(judge_ticks(&[tick(0, (12_500, 0), (87_500, 0))], &[(0, 1000)]).verdict, Verdict::Healthy, "2.5 points");
    let few = judge_ticks(&[tick(0, (8, 0), (32, 0))], &[(0, 1000)]);
    assert!(few.explanation.contains("are needed"), "20 % of 40 is chance: {}", few.explanation);
    let (ticks, periods) = ([tick(0, (4000, 0), (6000, 0))], periods(&[(0, 1000)]));
    let by_header = Question {
        ticks: &ticks,
        periods: &periods,
        options: JudgeOptions::default(),
        weight_is_share: false,
        ..Question::default()
    };
    assert_eq!(judge(&by_header).verdict, Verdict::Healthy, "a header's cohort has no weight to compare with");
}

/// One run of a world: steps of 10, 30, 50 and 90 % of 20 ticks each; the tick at which it is called a regression.
fn run(chance: &mut Chance, requests: f64, rates: impl Fn(i64) -> (f64, f64)) -> Option<i64> {
    let weights = [(0, 1000), (20, 3000), (40, 5000), (60, 9000)];
    let mut ticks = Vec::new();
    for index in 0..80_i64 {
        let share = [0.1, 0.3, 0.5, 0.9][usize::try_from(index / 20).expect("small")];
        let (canary_rate, control_rate) = rates(index);
        let mut arm = |share: f64, rate: f64| {
            let all = chance.poisson(requests * share);
            (all, chance.poisson(all as f64 * rate).min(all))
        };
        let (canary, control) = (arm(share, canary_rate), arm(1.0 - share, control_rate));
        ticks.push(tick(index, canary, control));
    }
    let periods = periods(&weights);
    let question = Question {
        ticks: &ticks,
        periods: &periods,
        options: JudgeOptions::default(),
        weight_is_share: true,
        ..Question::default()
    };
    // A decision is final, so the whole run and every prefix from the deciding tick on agree: only then look for the
    // tick.
    if judge(&question).verdict != Verdict::Regression {
        return None;
    }
    let decided =
        |count: &usize| judge(&Question { ticks: &ticks[..*count], ..question }).verdict == Verdict::Regression;
    (1..=ticks.len()).find(decided).map(|count| i64::try_from(count).expect("small"))
}

/// Share of runs that end in a rollback.
fn rolled_back(seed: u64, runs: u32, requests: f64, rates: impl Fn(i64) -> (f64, f64) + Copy) -> f64 {
    let mut chance = Chance::new(seed);
    let count = (0..runs).filter(|_| run(&mut chance, requests, rates).is_some()).count();
    count as f64 / f64::from(runs)
}

#[test]
fn a_change_that_is_not_worse_is_hardly_ever_rolled_back() {
    // alpha is 1 %; of 2,000 runs at exactly 1 %, 1.6 % or more is a one in 200 event.
    let slack = 0.016;
    let even = rolled_back(1, 2000, 300.0, |_| (0.02, 0.02));
    assert!(even <= slack, "2 %: {even}");
    let rare = rolled_back(2, 1000, 1500.0, |_| (0.001, 0.001));
    assert!(rare <= slack, "0.1 %: {rare}");
    let at_the_edge = rolled_back(3, 1000, 300.0, |_| (0.055, 0.05));
    assert!(at_the_edge <= slack, "the tolerated 1.1 times 5 %: {at_the_edge}");
    let excess = rolled_back(10, 1000, 1500.0, |_| (0.0015, 0.001));
    assert!(excess <= slack, "the tolerated 0.05 points on top of 0.1 %: {excess}");
    let spotless = rolled_back(11, 1000, 1500.0, |_| (0.0005, 0.0));
    assert!(spotless <= slack, "the tolerated 0.05 points beside a control without errors: {spotless}");
}

#[test]
fn an_incident_that_both_arms_share_cancels() {
    let incident = |tick: i64| if tick % 20 >= 10 { (0.03, 0.03) } else { (0.001, 0.001) };
    let share = rolled_back(4, 1000, 300.0, incident);
    assert!(share <= 0.016, "{share}");
}

#[test]
fn five_points_at_100_rps_are_seen_within_two_ticks() {
    let mut chance = Chance::new(5);
    let mut found: Vec<i64> = (0..200).map(|_| run(&mut chance, 1500.0, |_| (0.051, 0.001)).expect("seen")).collect();
    found.sort_unstable();
    assert!(found[100] <= 2, "median {}", found[100]);
    assert!(found[199] <= 5, "worst {}", found[199]);
}

#[test]
fn a_fault_at_minute_eight_is_seen_soon_after() {
    let mut chance = Chance::new(6);
    let late = |tick: i64| if tick >= 32 { (0.051, 0.001) } else { (0.001, 0.001) };
    let mut found: Vec<i64> = (0..100).map(|_| run(&mut chance, 1500.0, late).expect("seen") - 32).collect();
    found.sort_unstable();
    assert!((1..=2).contains(&found[50]), "median {}", found[50]);
}

#[test]
fn the_required_sample_finds_the_effect_nine_times_in_ten() {
    let mut chance = Chance::new(8);
    let mut past = Control::default();
    past.push(&tick(0, (0, 0), (100_000, 100)).sample);
    let requests = sample::required_requests(0.1, &past, control::LEAST_TOLERATED, &JudgeOptions::default()) as f64;
    let found = |chance: &mut Chance| {
        let now = (0..4).map(|index| {
            let (canary, control) = (requests / 4.0, requests / 4.0 * 9.0);
            let errors = (chance.poisson(canary * 0.051), chance.poisson(control * 0.001));
            tick(index, (canary.round() as u64, errors.0), (control.round() as u64, errors.1))
        });
        judge_ticks(&calm_past().chain(now).collect::<Vec<_>>(), AFTER_CALM_PAST).verdict == Verdict::Regression
    };
    let share = (0..1000).filter(|_| found(&mut chance)).count() as f64 / 1000.0;
    assert!((0.85..=0.97).contains(&share), "{share}");
}

#[test]
fn the_evidence_is_finite_whatever_is_counted() {
    let mut chance = Chance::new(7);
    for round in 0..3000 {
        let mut count = |limit_bits: u64| chance.bits() >> (chance.bits() % 64).max(64 - limit_bits);
        let ticks: Vec<Tick> = (0..20)
            .map(|index| {
                let (canary, control) = (count(63), count(63));
                tick(index, (canary, count(63).min(canary)), (control, count(63).min(control)))
            })
            .collect();
        let tolerance = [1e-12, 0.0005, 0.5][round % 3];
        let options = JudgeOptions { tolerance, ..JudgeOptions::default() };
        let periods = periods(&[(0, 1 + i64::try_from(round).expect("small"))]);
        let judgement = judge(&Question {
            ticks: &ticks,
            periods: &periods,
            options,
            weight_is_share: true,
            ..Question::default()
        });
        assert!(judgement.log_evidence.is_finite(), "round {round}");
        assert!((0.0..=MAX_EVIDENCE).contains(&judgement.evidence()), "round {round}: {}", judgement.evidence());
        assert!(judgement.required_requests > 0, "round {round}");
    }
}

/// Clusters of five errors in either arm. The control is watched for `before` ticks before the canary gets its tenth.
fn rolled_back_with_bursts(seed: u64, runs: u32, before: i64) -> f64 {
    let mut chance = Chance::new(seed);
    let mut is_rolled_back = || {
        let mut arm = |requests: f64| {
            let all = chance.poisson(requests);
            (all, (5 * chance.poisson(all as f64 * 0.003 / 5.0)).min(all))
        };
        let ticks: Vec<Tick> = (0..before + 80)
            .map(|index| {
                let share = if index < before { 0.0 } else { 0.1 };
                tick(index, arm(1500.0 * share), arm(1500.0 * (1.0 - share)))
            })
            .collect();
        judge_ticks(&ticks, &[(0, 0), (before, 1000)]).verdict == Verdict::Regression
    };
    let count = (0..runs).filter(|_| is_rolled_back()).count();
    count as f64 / f64::from(runs)
}

#[test]
fn bursts_are_bet_on_with_care_whether_or_not_the_control_has_shown_them() {
    let known = rolled_back_with_bursts(9, 500, 20);
    assert!(known <= 0.02, "{known}");
    let unknown = rolled_back_with_bursts(9, 500, 1);
    assert!(unknown <= 0.02, "{unknown}");
}
