//! The two ends: promoted, or as it was before. Each is proven on the proxies and told to the registry before it is called the end.

use jiff::Timestamp;

use super::{Draft, Observation, Seen, exposing, exposing::Progress, exposing::seconds};
use crate::deployment::{Cause, State};

/// PROMOTING, proven: the registry makes the version the active one.
pub(super) fn promoted(draft: &mut Draft, seen: &Observation) {
    match &seen.recorded {
        Seen::Known(()) => {
            draft.next.state = State::Promoted { at: draft.now };
            draft.tell("deployment.promoted", format!("version {} is live for all", draft.next.version));
            draft.wake_at = None;
        }
        // The mesh is right already; only the book is behind.
        Seen::Unknown(why) => {
            stuck(draft, "deployment.unrecorded", format!("the registry does not take the outcome: {why}"));
        }
        Seen::NotAsked => draft.hurry(),
    }
}

/// ROLLING_BACK: put back, and proven.
pub(super) fn restore(draft: &mut Draft, seen: &Observation, step: usize, since: Timestamp, cause: Cause) {
    match exposing::progress(seen) {
        Progress::Live(proof) => {
            let took = super::elapsed(since, proof.time);
            let report = format!("back on {}/{} proxies after {}", proof.acknowledged, proof.concerned, seconds(took));
            let why = draft.next.reason.clone();
            draft.next.state = State::RollingBack { step, since, cause, proven: true };
            draft.next.rollback_report.clone_from(&report);
            draft.tell("rollback.live", report);
            // The reason of the rollback is what people look for, not that it worked.
            draft.next.reason = why;
            draft.hurry();
        }
        // There is nothing better than what stood there before: go on trying, and say why it does not work.
        Progress::Refused(why) | Progress::Lost(why) => {
            stuck(draft, "rollback.stuck", format!("the rollback does not get through: {why}"));
        }
        Progress::Open(_) => draft.retry(),
    }
}

/// Says once what keeps the end from being reached, and tries again at the pace of the analysis.
fn stuck(draft: &mut Draft, kind: &str, obstacle: String) {
    if draft.next.obstacle == obstacle {
        return;
    }
    // The reason stays why it came to this; the obstacle is told beside it.
    let reason = draft.next.reason.clone();
    draft.tell(kind, obstacle.clone());
    draft.next.reason = reason;
    draft.next.obstacle = obstacle;
}

/// ROLLING_BACK, proven: the registry quarantines the version, or keeps it approved if a person aborted.
pub(super) fn rolled_back(draft: &mut Draft, seen: &Observation, step: usize, cause: Cause) {
    match &seen.recorded {
        Seen::Known(()) => {
            let why = draft.next.reason.clone();
            draft.next.state = State::RolledBack { step, at: draft.now, cause };
            draft.tell("deployment.rolled_back", why);
            draft.wake_at = None;
        }
        // The mesh is right already; only the book is behind.
        Seen::Unknown(why) => {
            stuck(draft, "deployment.unrecorded", format!("the registry does not take the outcome: {why}"));
        }
        Seen::NotAsked => draft.hurry(),
    }
}
