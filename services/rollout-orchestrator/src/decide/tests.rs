//! Stories of deployments, told tick by tick, and a table of what each state does with each observation.

use jiff::SignedDuration;
use meshward_model::{
    Baseline, CohortTraffic, Digest, ExposurePlan, Mechanism, Mesh, MetricsTarget, PropagationState, Refusal, Target,
    Verdict, Weight,
};
use serde_json::json;

use super::*;
use crate::{
    deployment::HoldKind,
    strategy::{OnNoData, Step, Strategy},
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn bp(value: i64) -> Weight {
    Weight::from_basis_points(value).unwrap()
}

/// 10 %, 50 %, 100 % with a bake time of 30 s; proofs may take 20 s; holds last 60 s.
fn deployment() -> Deployment {
    let step = |bp_value| Step { weight: bp(bp_value), bake_time: Duration::from_secs(30), gate: false };
    let object = json!({"spec": {}});
    Deployment {
        id: "d1".into(),
        policy_id: "p1".into(),
        version: 2,
        digest: Digest::of(&object),
        target: Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "checkout").unwrap(),
        canary: object.clone(),
        baseline: Baseline::of(Some(object)),
        strategy: Strategy {
            steps: vec![step(1_000), step(5_000), step(10_000)],
            propagation_timeout: Duration::from_secs(20),
            hold_timeout: Duration::from_secs(60),
            ..Strategy::default()
        },
        plan: ExposurePlan {
            mechanism: Mechanism::Request,
            reason: "http".into(),
            steps: vec![],
            not_covered: vec![],
            alternatives: vec![],
            metrics_target: MetricsTarget {
                mesh: Mesh::Istio,
                mechanism: Mechanism::Request,
                cluster: String::new(),
                hosts: vec![],
                canary_series: "canary".into(),
                control_series: "stable".into(),
                ..MetricsTarget::uncounted(Mesh::Istio, Mechanism::Request, "")
            },
        },
        state: State::Pending,
        generation: 0,
        objects: vec![],
        steps: vec![],
        analysis: None,
        reason: String::new(),
        obstacle: String::new(),
        rollback_report: String::new(),
        quiet_since: None,
        traceparent: None,
        creator: "alice".into(),
        create_time: at(0),
        update_time: at(0),
        revision: 1,
    }
}

fn proof(state: PropagationState, time: Timestamp) -> Seen<PropagationProof> {
    let refusals = vec![Refusal { proxy: "a.shop".into(), message: "regex too big".into() }];
    Seen::Known(PropagationProof {
        state,
        concerned: 2,
        acknowledged: 2,
        laggards: vec![],
        refusals: if state == PropagationState::Refused { refusals } else { vec![] },
        elapsed_ms: 150,
        time,
        message: format!("proof says {state:?}"),
        drift_manager: String::new(),
    })
}

fn done() -> Seen<WriteOutcome> {
    Seen::Known(WriteOutcome::Done { writes: 1, objects: vec![], more: false })
}

fn partly(state: PropagationState, time: Timestamp) -> Observation {
    let write = Seen::Known(WriteOutcome::Done { writes: 1, objects: vec![], more: true });
    Observation { write, ..written(state, time) }
}

fn written(state: PropagationState, time: Timestamp) -> Observation {
    Observation { write_began: Some(time), write: done(), proof: proof(state, time), ..Observation::default() }
}

fn judged(verdict: Verdict) -> Observation {
    let canary = CohortTraffic { requests: 40, requests_per_second: 2.0, ..CohortTraffic::default() };
    Observation {
        analysis: Seen::Known(Analysis {
            id: String::new(),
            verdict,
            explanation: format!("the judge says {verdict:?}"),
            evidence: 1.0,
            evidence_bound: 100.0,
            canary,
            control: CohortTraffic::default(),
            observed_share: Some(0.1),
            required_requests: 280,
            samples: vec![],
            queries: vec![],
            time: at(0),
        }),
        ..Observation::default()
    }
}

fn recorded() -> Observation {
    Observation { recorded: Seen::Known(Recorded::Taken), ..Observation::default() }
}

/// Ticks one after another; each line is time, state, weight, generation and the kinds of events.
fn story(mut deployment: Deployment, ticks: &[(i64, Observation)]) -> (Deployment, Vec<String>) {
    let mut lines = Vec::new();
    for (second, seen) in ticks {
        let decision = decide(&deployment, seen, at(*second));
        let kinds: Vec<_> = decision.events.iter().map(|event| event.kind.as_str()).collect();
        deployment = decision.next;
        lines.push(format!(
            "{second} {} {} g{} {}",
            deployment.state.name(),
            deployment.weight().basis_points(),
            deployment.generation,
            kinds.join(" ")
        ));
    }
    (deployment, lines)
}

const LIVE: PropagationState = PropagationState::Live;

#[test]
fn a_good_change_is_promoted() {
    let ticks = [
        (0, Observation::default()),
        (1, written(PropagationState::Pending, at(1))),
        (2, written(LIVE, at(2))),
        (17, judged(Verdict::Watching)),
        (33, judged(Verdict::Healthy)),
        (34, written(LIVE, at(34))),
        (65, judged(Verdict::Healthy)),
        (66, written(LIVE, at(66))),
        (67, Observation { recorded: Seen::Unknown("down".into()), ..Observation::default() }),
        (68, recorded()),
        (69, Observation::default()),
    ];
    let (end, lines) = story(deployment(), &ticks);
    let expected = [
        "0 EXPOSING 1000 g1 step.exposing",
        "1 EXPOSING 1000 g1 ",
        "2 BAKING 1000 g1 step.live",
        "17 BAKING 1000 g1 ",
        "33 EXPOSING 5000 g2 step.exposing",
        "34 BAKING 5000 g2 step.live",
        "65 PROMOTING 10000 g3 deployment.promoting",
        "66 PROMOTING 10000 g3 step.live",
        "67 PROMOTING 10000 g3 deployment.unrecorded",
        "68 PROMOTED 10000 g3 deployment.promoted",
        "69 PROMOTED 10000 g3 ",
    ];
    assert_eq!(lines, expected);
    assert_eq!(end.steps.iter().map(|step| step.live).collect::<Vec<_>>(), [Some(at(2)), Some(at(34)), Some(at(66))]);
    assert_eq!(end.steps[0].verdict, Some(Verdict::Healthy));
    assert_eq!(decide(&end, &Observation::default(), at(99)).wake_at, None, "an end is an end");
}

#[test]
fn a_phase_that_is_live_is_not_the_whole_step() {
    let ticks = [
        (0, Observation::default()),
        (1, partly(LIVE, at(1))),
        (2, partly(PropagationState::Pending, at(2))),
        (3, written(LIVE, at(3))),
    ];
    let (_, lines) = story(deployment(), &ticks);
    let expected = [
        "0 EXPOSING 1000 g1 step.exposing",
        "1 EXPOSING 1000 g1 ",
        "2 EXPOSING 1000 g1 ",
        "3 BAKING 1000 g1 step.live",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_regression_is_rolled_back_and_told_to_the_registry() {
    let ticks = [
        (0, Observation::default()),
        (1, written(LIVE, at(1))),
        (3, judged(Verdict::Regression)),
        (4, written(PropagationState::Unknown, at(4))),
        (5, written(LIVE, at(5))),
        (6, recorded()),
    ];
    let (end, lines) = story(deployment(), &ticks);
    let expected = [
        "0 EXPOSING 1000 g1 step.exposing",
        "1 BAKING 1000 g1 step.live",
        "3 ROLLING_BACK 0 g2 deployment.rolling_back",
        "4 ROLLING_BACK 0 g2 ",
        "5 ROLLING_BACK 0 g2 rollback.live",
        "6 ROLLED_BACK 0 g2 deployment.rolled_back",
    ];
    assert_eq!(lines, expected);
    assert_eq!(end.reason, "the judge says Regression", "the reason is why, not that it worked");
    assert_eq!(end.rollback_report, "back on 2/2 proxies after 2 s");
}

#[test]
fn a_refusal_is_rolled_back_with_the_proxy_s_words() {
    let ticks = [(0, Observation::default()), (1, written(PropagationState::Refused, at(1)))];
    let (end, _) = story(deployment(), &ticks);
    assert_eq!(end.state, State::RollingBack { step: 0, since: at(1), cause: Cause::Refused, proven: false });
    assert_eq!(end.reason, "a.shop refused the configuration: regex too big");
}

/// A deployment that bakes at its first step since second 1.
fn baking() -> Deployment {
    story(deployment(), &[(0, Observation::default()), (1, written(LIVE, at(1)))]).0
}

fn exposing() -> Deployment {
    story(deployment(), &[(0, Observation::default())]).0
}

fn paused() -> Deployment {
    command(&baking(), Command::Pause, "bob", "", at(2)).unwrap().next
}

fn write(outcome: WriteOutcome) -> Observation {
    Observation { write: Seen::Known(outcome), ..Observation::default() }
}

fn unknown_write() -> Observation {
    Observation { write: Seen::Unknown("no route".into()), ..Observation::default() }
}

fn drifted() -> Observation {
    Observation { proof: proof(PropagationState::Drifted, at(2)), ..judged(Verdict::Healthy) }
}

#[test]
fn every_state_answers_every_observation() {
    let unknown = || Observation { analysis: Seen::Unknown("no answer".into()), ..Observation::default() };
    let unproven = |second| Observation {
        write: done(),
        proof: Seen::Unknown("istiod is away".into()),
        write_began: Some(at(second)),
        ..Observation::default()
    };
    let table: Vec<(&str, Deployment, i64, Observation, &str)> = vec![
        ("unknown is no pass", exposing(), 2, unproven(2), "EXPOSING"),
        ("not forever", exposing(), 20, unproven(20), "PAUSED"),
        ("a write that does not get through is repeated", exposing(), 2, unknown_write(), "EXPOSING"),
        ("not forever either", exposing(), 21, unknown_write(), "PAUSED"),
        ("pending is no pass", exposing(), 19, written(PropagationState::Pending, at(19)), "EXPOSING"),
        ("laggards end in a pause", exposing(), 20, written(PropagationState::Pending, at(20)), "PAUSED"),
        ("drift is for a person", exposing(), 2, write(WriteOutcome::Drifted("kubectl".into())), "PAUSED"),
        ("so is a later writer", exposing(), 2, write(WriteOutcome::Blocked("g9".into())), "PAUSED"),
        ("admission says no", exposing(), 2, write(WriteOutcome::Refused("no".into())), "ROLLING_BACK"),
        ("not yet", baking(), 30, judged(Verdict::Healthy), "BAKING"),
        ("long enough", baking(), 31, judged(Verdict::Healthy), "EXPOSING"),
        ("too little evidence", baking(), 31, judged(Verdict::Watching), "BAKING"),
        ("no data", baking(), 31, judged(Verdict::NoData), "BAKING"),
        ("no traffic", baking(), 31, judged(Verdict::NoTraffic), "BAKING"),
        ("prometheus is down", baking(), 31, judged(Verdict::ProviderError), "BAKING"),
        ("arms not comparable", baking(), 31, judged(Verdict::NotComparable), "BAKING"),
        ("collector is down", baking(), 31, unknown(), "BAKING"),
        ("drift while baking", baking(), 2, drifted(), "PAUSED"),
        (
            "late refusal",
            baking(),
            2,
            Observation { proof: proof(PropagationState::Refused, at(2)), ..Observation::default() },
            "ROLLING_BACK",
        ),
        (
            "a new proxy lags",
            baking(),
            31,
            Observation { proof: proof(PropagationState::Pending, at(31)), ..judged(Verdict::Healthy) },
            "EXPOSING",
        ),
        ("paused is still judged", paused(), 9, judged(Verdict::Regression), "ROLLING_BACK"),
        ("paused stays", paused(), 9, judged(Verdict::Healthy), "PAUSED"),
        ("paused with drift stays", paused(), 9, drifted(), "PAUSED"),
    ];
    for (name, before, second, seen, expected) in table {
        let decision = decide(&before, &seen, at(second));
        assert_eq!(decision.next.state.name(), expected, "{name}: {}", decision.next.reason);
        assert!(decision.wake_at.is_some(), "{name}: it must be looked at again");
        if expected != before.state.name() {
            assert_eq!(decision.events.len(), 1, "{name}: a change of state is told once");
        }
    }
}

#[test]
fn missing_data_holds_then_does_what_the_strategy_says() {
    for (on_no_data, gate, expected) in [
        (OnNoData::Pause, false, "PAUSED"),
        (OnNoData::Rollback, false, "ROLLING_BACK"),
        (OnNoData::Proceed, false, "EXPOSING"),
        (OnNoData::Proceed, true, "WAITING"),
    ] {
        let mut before = baking();
        before.strategy.on_no_data = on_no_data;
        before.strategy.steps[0].gate = gate;
        let missing = || judged(Verdict::ProviderError);
        let (held, lines) = story(before, &[(5, missing()), (20, missing()), (64, missing())]);
        assert_eq!(lines, ["5 BAKING 1000 g1 step.holding", "20 BAKING 1000 g1 ", "64 BAKING 1000 g1 "], "told once");
        let (end, _) = story(held, &[(65, missing())]);
        assert_eq!(end.state.name(), expected, "{on_no_data:?}");
    }
}

#[test]
fn data_that_comes_back_ends_the_hold() {
    let (end, _) =
        story(baking(), &[(5, judged(Verdict::NoData)), (9, judged(Verdict::Healthy)), (40, judged(Verdict::NoData))]);
    let State::Baking { hold, .. } = end.state else { panic!("{:?}", end.state) };
    assert_eq!(hold.map(|hold| (hold.kind, hold.since)), Some((HoldKind::Data, at(40))));
}

#[test]
fn too_little_evidence_asks_a_person_with_an_estimate() {
    let (end, _) = story(baking(), &[(31, judged(Verdict::Watching)), (91, judged(Verdict::Watching))]);
    assert_eq!(end.state.name(), "PAUSED");
    assert!(
        end.reason.ends_with("At 2.0 canary requests per second about 2 more minutes are needed"),
        "{}",
        end.reason
    );
}

#[test]
fn a_gate_waits_for_a_person() {
    let mut before = baking();
    before.strategy.steps[0].gate = true;
    let (waiting, lines) = story(before, &[(31, judged(Verdict::Healthy)), (99, judged(Verdict::Healthy))]);
    assert_eq!(lines, ["31 WAITING 1000 g1 step.waiting", "99 WAITING 1000 g1 "]);
    let promoted = command(&waiting, Command::Promote, "bob", "looks good", at(100)).unwrap();
    assert_eq!(promoted.next.state, State::Exposing { step: 1, since: at(100) });
    assert_eq!(promoted.events[0].actor, "bob");
    let (end, _) = story(waiting, &[(100, judged(Verdict::Regression))]);
    assert_eq!(end.state.name(), "ROLLING_BACK", "a gate does not stop the watching");
}

#[test]
fn commands_are_allowed_where_they_make_sense() {
    let rolling = story(baking(), &[(3, judged(Verdict::Regression))]).0;
    let ended = story(rolling.clone(), &[(4, written(LIVE, at(4))), (5, recorded())]).0;
    assert!(ended.ended());
    let all = [Command::Promote, Command::Rollback, Command::Pause, Command::Resume, Command::Abort];
    let table = [
        (deployment(), vec![Command::Rollback, Command::Abort]),
        (exposing(), vec![Command::Rollback, Command::Pause, Command::Abort]),
        (baking(), vec![Command::Rollback, Command::Pause, Command::Abort]),
        (paused(), vec![Command::Rollback, Command::Resume, Command::Abort]),
        (rolling, vec![]),
        (ended, vec![]),
    ];
    for (before, allowed) in table {
        for what in all {
            let outcome = command(&before, what, "bob", "", at(50));
            assert_eq!(outcome.is_ok(), allowed.contains(&what), "{what:?} while {}", before.state.name());
        }
    }
    let text = command(&baking(), Command::Resume, "bob", "", at(50)).unwrap_err().to_string();
    assert_eq!(text, "a deployment that is BAKING cannot be resumed; it is not paused");
}

#[test]
fn a_resumed_step_is_proven_anew_under_a_new_generation() {
    let resumed = command(&paused(), Command::Resume, "bob", "", at(50)).unwrap().next;
    assert_eq!(resumed.state, State::Exposing { step: 0, since: at(50) });
    assert_eq!((resumed.generation, resumed.steps.len(), resumed.steps[0].live), (2, 1, None));
}

#[test]
fn a_rollback_that_does_not_get_through_is_repeated_and_told_once() {
    let rolling = story(baking(), &[(3, judged(Verdict::Regression))]).0;
    let stuck = || write(WriteOutcome::Blocked("kubectl holds it".into()));
    let (end, lines) = story(rolling, &[(4, stuck()), (5, stuck()), (6, written(LIVE, at(6)))]);
    assert_eq!(
        lines,
        ["4 ROLLING_BACK 0 g2 rollback.stuck", "5 ROLLING_BACK 0 g2 ", "6 ROLLING_BACK 0 g2 rollback.live"]
    );
    assert_eq!((end.reason.as_str(), end.obstacle.as_str()), ("the judge says Regression", ""));
}

#[test]
fn a_registry_that_refuses_for_good_does_not_keep_the_target() {
    let rolling = story(baking(), &[(3, judged(Verdict::Regression)), (4, written(LIVE, at(4)))]).0;
    let refused = Seen::Known(Recorded::Refused("it was rejected".into()));
    let (end, _) = story(rolling, &[(5, Observation { recorded: refused, ..Observation::default() })]);
    assert!(end.ended());
    assert_eq!(end.reason, "the judge says Regression; the registry does not take the outcome: it was rejected");
}

#[test]
fn a_step_that_hangs_does_not_hide_a_regression() {
    let hanging =
        Observation { analysis: judged(Verdict::Regression).analysis, ..written(PropagationState::Pending, at(5)) };
    assert_eq!(exposing().periods().len(), 1, "the canary may have traffic before its step is proven live");
    assert_eq!(decide(&exposing(), &hanging, at(5)).next.state.name(), "ROLLING_BACK");
}

#[test]
fn a_clock_that_goes_back_ends_nothing() {
    let decision =
        decide(&baking(), &judged(Verdict::Healthy), at(0).checked_sub(SignedDuration::from_hours(1)).unwrap());
    assert_eq!(decision.next.state.name(), "BAKING");
}

#[test]
fn after_the_clock_went_back_a_bake_begins_anew_and_lasts_no_longer_than_it_should() {
    let baking = Deployment { state: State::Baking { step: 0, since: at(5_000), hold: None }, ..deployment() };
    let next = decide(&baking, &Observation::default(), at(100)).next;
    assert!(matches!(next.state, State::Baking { since, .. } if since == at(100)), "{:?}", next.state);
}
