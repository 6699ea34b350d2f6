//! A weight is written; it counts when it is proven live.

use std::time::Duration;

use jiff::Timestamp;
use meshward_model::{PropagationProof, PropagationState};

use super::{Draft, Observation, Seen, WriteOutcome, elapsed};
use crate::deployment::{Cause, State};

/// What has become of a write.
pub(super) enum Progress {
    /// Proven live.
    Live(PropagationProof),
    /// A proxy or the API server will not have it.
    Refused(String),
    /// It cannot be written now; a person must look.
    Lost(String),
    /// Not yet, or it cannot be told.
    Open(String),
}

/// Reads a write and its proof as one.
pub(super) fn progress(seen: &Observation) -> Progress {
    match &seen.write {
        Seen::Known(WriteOutcome::Done { .. }) => {}
        Seen::Known(WriteOutcome::Refused(why)) => return Progress::Refused(why.clone()),
        Seen::Known(WriteOutcome::Drifted(why) | WriteOutcome::Blocked(why)) => return Progress::Lost(why.clone()),
        Seen::Unknown(why) => return Progress::Open(format!("the write did not get through: {why}")),
        Seen::NotAsked => return Progress::Open("nothing was written yet".into()),
    }
    let has_more = matches!(&seen.write, Seen::Known(WriteOutcome::Done { more: true, .. }));
    match &seen.proof {
        Seen::Known(proof) => match proof.state {
            PropagationState::Live if has_more => Progress::Open("a part of it is live, the rest is to come".into()),
            PropagationState::Live => Progress::Live(proof.clone()),
            PropagationState::Refused => Progress::Refused(refusal(proof)),
            PropagationState::Drifted => Progress::Lost(proof.message.clone()),
            PropagationState::Pending | PropagationState::Unknown => Progress::Open(proof.message.clone()),
        },
        Seen::Unknown(why) => Progress::Open(format!("it cannot be told whether the write is live: {why}")),
        Seen::NotAsked => Progress::Open("the write was not proven yet".into()),
    }
}

/// The first refusal in the proxy's own words.
pub(super) fn refusal(proof: &PropagationProof) -> String {
    match proof.refusals.first() {
        Some(refusal) => format!("{} refused the configuration: {}", refusal.proxy, refusal.message),
        None => proof.message.clone(),
    }
}

/// EXPOSING: live → baking; refused → back; lost or overdue → paused.
pub(super) fn decide(draft: &mut Draft, seen: &Observation, step: usize, since: Timestamp) {
    if super::baking::regressed(draft, seen, step) {
        return;
    }
    match progress(seen) {
        Progress::Live(proof) => {
            mark_live(draft, seen, step, since, &proof);
            draft.next.state = State::Baking { step, since: proof.time, hold: None };
            draft.tell("step.live", proof.message);
        }
        other => not_live(draft, other, since),
    }
}

/// PROMOTING: the same for the version alone.
pub(super) fn promote(draft: &mut Draft, seen: &Observation, since: Timestamp) {
    let last = draft.next.strategy.steps.len() - 1;
    if super::baking::regressed(draft, seen, last) {
        return;
    }
    match progress(seen) {
        Progress::Live(proof) => {
            mark_live(draft, seen, last, since, &proof);
            draft.next.state = State::Promoting { since, proven: true };
            draft.tell("step.live", proof.message);
            draft.hurry();
        }
        other => not_live(draft, other, since),
    }
}

fn mark_live(draft: &mut Draft, seen: &Observation, step: usize, since: Timestamp, proof: &PropagationProof) {
    let began = match (&seen.write, seen.write_began) {
        // A tick that found everything written already proves a write of an earlier one.
        (Seen::Known(WriteOutcome::Done { writes: 1.., .. }), Some(began)) => began,
        _ => since,
    };
    if let Seen::Known(WriteOutcome::Done { objects, .. }) = &seen.write {
        draft.next.objects.clone_from(objects);
    }
    if let Some(report) = draft.next.steps.get_mut(step) {
        report.live = Some(proof.time);
        report.time_to_live = Some(elapsed(began, proof.time));
    }
}

fn not_live(draft: &mut Draft, progress: Progress, since: Timestamp) {
    match progress {
        Progress::Refused(why) => draft.roll_back(Cause::Refused, why),
        Progress::Lost(why) => draft.pause(why),
        Progress::Open(why) | Progress::Live(PropagationProof { message: why, .. }) => wait(draft, why, since),
    }
}

/// Holds until the deadline, then pauses: a weight that is live on some proxies only is for a person to look at.
fn wait(draft: &mut Draft, why: String, since: Timestamp) {
    let limit = draft.next.strategy.propagation_timeout;
    if elapsed(since, draft.now) >= limit {
        draft.pause(format!("not proven live within {}: {why}", seconds(limit)));
        return;
    }
    draft.next.reason = why;
    draft.retry();
}

/// "60 s", "1.5 s".
pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 1000.0).round() / 1000.0)
}
