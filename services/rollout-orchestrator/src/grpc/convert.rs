//! Deployments and strategies between their wire form and their domain form.

use std::time::Duration;

use meshward_chassis::problem::Problem;
use meshward_model::{Audience, Weight};
use meshward_proto::{
    ConvertError, duration, from_duration,
    rollout::v1::{self as wire, DeploymentEvent, DeploymentState, OnNoData as WireOnNoData, StrategyKind},
    timestamp,
    types::v1::{self as types, ErrorReason},
};
use tonic::Code;

use crate::{
    deployment::{Deployment, Event, Propagation, StepReport},
    strategy::{OnNoData, Step, Strategy},
    verdicts::{Kept, Wanted},
};

/// Which verdict is asked for.
///
/// # Errors
/// INVALID_ARGUMENT for a step that cannot be, or beside an id.
pub fn wanted_verdict(message: &wire::ExplainVerdictRequest) -> Result<Wanted, Problem> {
    let step = |step: i32| usize::try_from(step).map_err(|_| Problem::invalid_argument("step", "is counted from 0"));
    match (&*message.analysis_id, message.step) {
        ("", None) => Ok(Wanted::Newest),
        ("", Some(wanted)) => step(wanted).map(Wanted::OfStep),
        (id, None) => Ok(Wanted::Id(id.to_owned())),
        (_, Some(_)) => {
            Err(Problem::invalid_argument("step", "an analysis_id names the verdict alone: leave out step"))
        }
    }
}

/// One line of the list of those that are kept.
pub fn kept_verdict(kept: Kept) -> wire::KeptVerdict {
    wire::KeptVerdict {
        analysis_id: kept.analysis_id,
        step: i32::try_from(kept.step).unwrap_or(i32::MAX),
        verdict: types::Verdict::from(kept.verdict).into(),
        time: Some(timestamp(kept.time)),
        explanation: kept.explanation,
    }
}

/// A strategy with its defaults filled in.
///
/// # Errors
/// INVALID_ARGUMENT for a field without meaning, FAILED_PRECONDITION for a kind that is not built yet.
pub fn strategy(message: Option<wire::Strategy>) -> Result<Strategy, Problem> {
    let Some(message) = message else { return Ok(Strategy::default()) };
    known(&message).map_err(wrong)?;
    match message.kind() {
        StrategyKind::Unspecified | StrategyKind::Canary => {}
        other => {
            let name = other.as_str_name().trim_start_matches("STRATEGY_KIND_");
            let text = format!("the strategy {name} is not built yet; CANARY is");
            return Err(Problem::new(Code::FailedPrecondition, ErrorReason::ExposureUnsupported, text));
        }
    }
    canary(message).map_err(wrong)
}

fn wrong(error: ConvertError) -> Problem {
    Problem::invalid_argument(format!("strategy.{}", error.field), error.problem)
}

/// A number that this version does not know comes from a newer client; to read it as the default would run another strategy.
fn known(message: &wire::Strategy) -> Result<(), ConvertError> {
    let fields = [
        ("kind", message.kind, StrategyKind::try_from(message.kind).is_ok()),
        ("on_no_data", message.on_no_data, WireOnNoData::try_from(message.on_no_data).is_ok()),
        ("mechanism", message.mechanism, types::Mechanism::try_from(message.mechanism).is_ok()),
    ];
    match fields.into_iter().find(|(.., known)| !known) {
        Some((field, number, _)) => Err(ConvertError::new(field, format!("{number} is not known here"))),
        None => Ok(()),
    }
}

fn canary(message: wire::Strategy) -> Result<Strategy, ConvertError> {
    let defaults = Strategy::default();
    let on_no_data = match message.on_no_data() {
        WireOnNoData::Unspecified | WireOnNoData::Pause => OnNoData::Pause,
        WireOnNoData::Rollback => OnNoData::Rollback,
        WireOnNoData::Proceed => OnNoData::Proceed,
    };
    let mechanism = message.mechanism().to_model();
    let or = |field: &'static str, value: Option<_>, default: Duration| match value {
        Some(value) => from_duration(field, value),
        None => Ok(default),
    };
    let bake_time = or("bake_time", message.bake_time, defaults.steps[0].bake_time)?;
    let steps = if message.steps.is_empty() {
        Strategy::default_steps(bake_time)
    } else {
        let steps = message.steps.into_iter().enumerate();
        steps
            .map(|(index, s)| step(s, bake_time).map_err(|e| e.within(&format!("steps[{index}]"))))
            .collect::<Result<_, _>>()?
    };
    let propagation_quorum = match message.propagation_quorum_bp {
        0 => defaults.propagation_quorum,
        bp => Weight::from_basis_points(bp.into()).map_err(|e| ConvertError::new("propagation_quorum_bp", e))?,
    };
    Ok(Strategy {
        steps,
        analysis_interval: or("analysis_interval", message.analysis_interval, defaults.analysis_interval)?,
        propagation_timeout: or("propagation_timeout", message.propagation_timeout, defaults.propagation_timeout)?,
        propagation_quorum,
        hold_timeout: or("hold_timeout", message.hold_timeout, defaults.hold_timeout)?,
        on_no_data,
        judge: message.judge.unwrap_or_default().try_into().map_err(|e: ConvertError| e.within("judge"))?,
        mechanism,
        audience: message.audience.unwrap_or_default().try_into().map_err(|e: ConvertError| e.within("audience"))?,
    })
}

fn step(step: wire::Step, bake_time: Duration) -> Result<Step, ConvertError> {
    let weight = Weight::from_basis_points(step.weight_bp.into()).map_err(|e| ConvertError::new("weight_bp", e))?;
    let bake_time = step.bake_time.map_or(Ok(bake_time), |time| from_duration("bake_time", time))?;
    Ok(Step { weight, bake_time, gate: step.gate })
}

/// A deployment, whole.
pub fn deployment(deployment: &Deployment) -> wire::Deployment {
    wire::Deployment {
        plan: Some(deployment.plan.clone().into()),
        analysis: deployment.analysis.clone().map(Into::into),
        ..summary(deployment)
    }
}

/// A deployment without its plan and its analysis, which are large: for lists and streams.
pub fn summary(deployment: &Deployment) -> wire::Deployment {
    wire::Deployment {
        id: deployment.id.clone(),
        policy_id: deployment.policy_id.clone(),
        version: deployment.version,
        digest: deployment.digest.to_string(),
        target: Some(deployment.target.clone().into()),
        strategy: Some(wire_strategy(&deployment.strategy)),
        state: state(deployment.state.name()).into(),
        step: index(deployment.step()),
        weight_bp: deployment.weight().basis_points().into(),
        reason: reason(deployment),
        plan: None,
        steps: deployment.steps.iter().enumerate().map(|(at, step)| report(at, step)).collect(),
        analysis: None,
        rollback_report: deployment.rollback_report.clone(),
        trace_id: trace_id(deployment.traceparent.as_deref()),
        creator: deployment.creator.clone(),
        create_time: Some(timestamp(deployment.create_time)),
        update_time: Some(timestamp(deployment.update_time)),
        end_time: deployment.end_time().map(timestamp),
        etag: deployment.etag(),
        deletion: deployment.canary.is_null(),
    }
}

/// Why it is where it is, and what is in its way.
fn reason(deployment: &Deployment) -> String {
    let Deployment { reason, obstacle, .. } = deployment;
    if obstacle.is_empty() { reason.clone() } else { format!("{reason}; {obstacle}") }
}

/// The second field of "00-<trace>-<span>-<flags>".
fn trace_id(traceparent: Option<&str>) -> String {
    traceparent.and_then(|text| text.split('-').nth(1)).unwrap_or_default().to_owned()
}

fn wire_strategy(strategy: &Strategy) -> wire::Strategy {
    let on_no_data = match strategy.on_no_data {
        OnNoData::Pause => WireOnNoData::Pause,
        OnNoData::Rollback => WireOnNoData::Rollback,
        OnNoData::Proceed => WireOnNoData::Proceed,
    };
    let step = |step: &Step| wire::Step {
        weight_bp: step.weight.basis_points().into(),
        bake_time: Some(duration(step.bake_time)),
        gate: step.gate,
    };
    wire::Strategy {
        kind: StrategyKind::Canary.into(),
        steps: strategy.steps.iter().map(step).collect(),
        bake_time: None,
        analysis_interval: Some(duration(strategy.analysis_interval)),
        propagation_timeout: Some(duration(strategy.propagation_timeout)),
        hold_timeout: Some(duration(strategy.hold_timeout)),
        on_no_data: on_no_data.into(),
        judge: Some(strategy.judge.into()),
        mechanism: strategy.mechanism.map_or(types::Mechanism::Unspecified, Into::into).into(),
        propagation_quorum_bp: strategy.propagation_quorum.basis_points().into(),
        audience: Some(strategy.audience.clone()).filter(|said| *said != Audience::default()).map(Into::into),
    }
}

fn report(at: usize, step: &StepReport) -> wire::StepReport {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    wire::StepReport {
        index: index(at),
        weight_bp: step.weight.basis_points().into(),
        start_time: Some(timestamp(step.start)),
        live_time: step.live.map(timestamp),
        time_to_live: step.time_to_live.map(duration),
        observed_share: step.observed_share.unwrap_or(f64::NAN),
        verdict: step.verdict.map_or(types::Verdict::Unspecified, Into::into).into(),
        explanation: step.explanation.clone(),
        canary_requests: count(step.canary_requests),
        control_requests: count(step.control_requests),
        propagation: step.propagation.as_ref().map(propagation),
    }
}

fn propagation(seen: &Propagation) -> wire::Propagation {
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    wire::Propagation {
        concerned: count(seen.concerned),
        acknowledged: count(seen.acknowledged),
        laggards: seen.laggards.clone(),
    }
}

/// One event.
pub fn event(id: &str, event: &Event) -> DeploymentEvent {
    DeploymentEvent {
        deployment_id: id.to_owned(),
        sequence: event.sequence,
        time: Some(timestamp(event.time)),
        r#type: event.kind.clone(),
        message: event.message.clone(),
        state: state(&event.state).into(),
        step: index(event.step),
        weight_bp: event.weight.basis_points().into(),
        actor: event.actor.clone(),
    }
}

fn index(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

/// The domain's names are those of the wire without their prefix; a test walks all of them.
fn state(name: &str) -> DeploymentState {
    DeploymentState::from_str_name(&format!("DEPLOYMENT_STATE_{name}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use meshward_model::{HeaderMatch, HeaderValue, Mechanism};

    use super::*;
    use crate::deployment::{Cause, State};

    #[test]
    fn every_state_has_its_name_on_the_wire() {
        let since = Timestamp::UNIX_EPOCH;
        let (step, cause) = (0, Cause::Abort);
        let states = [
            (State::Pending, DeploymentState::Pending),
            (State::Exposing { step, since }, DeploymentState::Exposing),
            (State::Baking { step, since, hold: None }, DeploymentState::Baking),
            (State::Waiting { step, since }, DeploymentState::Waiting),
            (State::Paused { step, since }, DeploymentState::Paused),
            (State::Promoting { since, proven: false }, DeploymentState::Promoting),
            (State::Promoted { at: since }, DeploymentState::Promoted),
            (State::RollingBack { step, since, cause, proven: false }, DeploymentState::RollingBack),
            (State::RolledBack { step, at: since, cause }, DeploymentState::RolledBack),
        ];
        for (domain, wire) in states {
            assert_eq!(state(domain.name()), wire);
        }
    }

    #[test]
    fn a_strategy_survives_the_wire_and_defaults_are_filled_in() {
        let strategy_of = |message| strategy(message).map_err(|problem| problem.to_string());
        assert_eq!(strategy_of(None), Ok(Strategy::default()));
        assert_eq!(strategy_of(Some(wire::Strategy::default())), Ok(Strategy::default()));
        let mut odd = Strategy {
            on_no_data: OnNoData::Rollback,
            hold_timeout: Duration::from_millis(1500),
            propagation_quorum: Weight::from_basis_points(9_500).unwrap(),
            mechanism: Some(Mechanism::Header),
            audience: Audience {
                header: Some(HeaderMatch { name: "x-beta".into(), is_cookie: false, value: HeaderValue::Any }),
                namespaces: Vec::new(),
            },
            ..Strategy::default()
        };
        odd.steps[1].gate = true;
        odd.steps[2].bake_time = Duration::from_secs(7);
        assert_eq!(strategy_of(Some(wire_strategy(&odd))), Ok(odd));
    }

    #[test]
    fn a_strategy_without_meaning_is_refused() {
        let negative = prost_types_duration(-1);
        let cases = [
            (
                wire::Strategy { kind: StrategyKind::BlueGreen.into(), ..Default::default() },
                "BLUE_GREEN is not built yet",
            ),
            (wire::Strategy { propagation_quorum_bp: 10_001, ..Default::default() }, "strategy.propagation_quorum_bp"),
            (wire::Strategy { bake_time: Some(negative), ..Default::default() }, "strategy.bake_time"),
            (
                wire::Strategy {
                    steps: vec![wire::Step { weight_bp: 10_001, ..Default::default() }],
                    ..Default::default()
                },
                "strategy.steps[0].weight_bp",
            ),
        ];
        for (message, part) in cases {
            let problem = strategy(Some(message)).unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        }
    }

    fn prost_types_duration(seconds: i64) -> meshward_proto::Duration {
        meshward_proto::Duration { seconds, nanos: 0 }
    }
}
