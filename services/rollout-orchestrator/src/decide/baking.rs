//! A step is live: the judge decides whether it goes on.

use std::time::Duration;

use jiff::Timestamp;
use meshward_model::{Analysis, PropagationState, Verdict};

use super::{Draft, Observation, Seen, elapsed, exposing, exposing::seconds, later};
use crate::{
    deployment::{Cause, Hold, HoldKind, State},
    strategy::OnNoData,
};

/// Rolls back if the judge says so. True = it did.
pub(super) fn regressed(draft: &mut Draft, seen: &Observation, step: usize) -> bool {
    let Seen::Known(analysis) = &seen.analysis else { return false };
    draft.take(analysis, step);
    if analysis.verdict != Verdict::Regression {
        return false;
    }
    draft.roll_back(Cause::Regression, analysis.explanation.clone());
    true
}

/// What ends a bake early, whatever the judge needs: a refusal that came late, or somebody else's change. True = it did.
fn disturbed(draft: &mut Draft, seen: &Observation) -> bool {
    let Seen::Known(proof) = &seen.proof else { return false };
    match proof.state {
        PropagationState::Refused => draft.roll_back(Cause::Refused, exposing::refusal(proof)),
        PropagationState::Drifted => {
            if matches!(draft.next.state, State::Paused { .. }) {
                return true;
            }
            draft.pause(proof.message.clone());
        }
        // A proxy that has just connected may lag, and a control plane may be away: the step was proven before.
        PropagationState::Live | PropagationState::Pending | PropagationState::Unknown => return false,
    }
    true
}

/// WAITING and PAUSED: held, but still watched.
pub(super) fn watch(draft: &mut Draft, seen: &Observation, step: usize) {
    if !regressed(draft, seen, step) {
        disturbed(draft, seen);
    }
}

/// BAKING: healthy and long enough → next step; worse → back; not enough seen → hold.
pub(super) fn decide(draft: &mut Draft, seen: &Observation, step: usize, since: Timestamp, hold: Option<Hold>) {
    if regressed(draft, seen, step) || disturbed(draft, seen) {
        return;
    }
    let bake_time = draft.next.strategy.steps[step].bake_time;
    let over = elapsed(since, draft.now) >= bake_time;
    match lacking(seen) {
        None if over => {
            let why = draft.next.steps[step].explanation.clone();
            pass(draft, step, &why);
        }
        None => {
            resume_holding(draft, step, since, None);
            let end = later(since, bake_time);
            draft.wake_at = draft.wake_at.map(|wake| wake.min(end));
        }
        Some((HoldKind::Evidence, why)) if !over => {
            draft.next.reason = why;
            resume_holding(draft, step, since, None);
        }
        Some((kind, why)) => stay(draft, step, since, hold, kind, why),
    }
}

/// What keeps the step from passing; `None` = the judge is content.
fn lacking(seen: &Observation) -> Option<(HoldKind, String)> {
    let analysis = match &seen.analysis {
        Seen::Known(analysis) => analysis,
        Seen::Unknown(why) => return Some((HoldKind::Data, format!("the judge cannot be asked: {why}"))),
        Seen::NotAsked => return Some((HoldKind::Data, "the judge was not asked yet".into())),
    };
    let kind = match analysis.verdict {
        Verdict::Healthy => return None,
        Verdict::Watching | Verdict::NotComparable | Verdict::Regression => HoldKind::Evidence,
        Verdict::NoTraffic | Verdict::NoData | Verdict::ProviderError => HoldKind::Data,
    };
    Some((kind, analysis.explanation.clone()))
}

fn resume_holding(draft: &mut Draft, step: usize, since: Timestamp, hold: Option<Hold>) {
    draft.next.state = State::Baking { step, since, hold };
}

/// The step is over: a person, or the next weight.
fn pass(draft: &mut Draft, step: usize, why: &str) {
    if draft.next.strategy.steps[step].gate {
        draft.next.state = State::Waiting { step, since: draft.now };
        draft.tell("step.waiting", format!("the step is over and waits to be promoted: {why}"));
    } else {
        draft.expose(step + 1, why);
    }
}

/// Holds the weight, says so once, and after the hold timeout does what the strategy says.
fn stay(draft: &mut Draft, step: usize, since: Timestamp, hold: Option<Hold>, kind: HoldKind, why: String) {
    let began = hold.filter(|hold| hold.kind == kind);
    let hold = began.unwrap_or(Hold { kind, since: draft.now });
    resume_holding(draft, step, since, Some(hold));
    if began.is_none() {
        draft.tell("step.holding", format!("held at {}: {why}", draft.next.weight()));
    }
    let limit = draft.next.strategy.hold_timeout;
    if elapsed(hold.since, draft.now) >= limit {
        give_up(draft, step, kind, limit, &why);
    } else {
        draft.next.reason = format!("held at {}: {why}", draft.next.weight());
    }
}

fn give_up(draft: &mut Draft, step: usize, kind: HoldKind, limit: Duration, why: &str) {
    let held = format!("held for {}: {why}", seconds(limit));
    match (kind, draft.next.strategy.on_no_data) {
        (HoldKind::Data, OnNoData::Rollback) => draft.roll_back(Cause::NoData, held),
        (HoldKind::Data, OnNoData::Proceed) => {
            pass(draft, step, &format!("without a verdict, as the strategy says; {held}"));
        }
        (HoldKind::Data, OnNoData::Pause) => draft.pause(held),
        (HoldKind::Evidence, _) => draft.pause(format!("{held}. {}", estimate(draft.next.analysis.as_ref()))),
    }
}

/// How long the traffic would need, so that a person can decide.
fn estimate(analysis: Option<&Analysis>) -> String {
    let Some(analysis) = analysis else { return "The judge has said nothing yet".into() };
    let missing = analysis.required_requests.saturating_sub(analysis.canary.requests);
    let rate = analysis.canary.requests_per_second;
    if missing == 0 || rate <= 0.0 {
        return "A person decides".into();
    }
    #[expect(clippy::cast_precision_loss, reason = "request counts stay far below 2^52")]
    let minutes = missing as f64 / rate / 60.0;
    format!("At {rate:.1} canary requests per second about {minutes:.0} more minutes are needed")
}
