//! The two ends: promoted, or as it was before. Each is proven on the proxies and told to the registry before it is called the end.

use jiff::Timestamp;

use super::{Draft, Observation, Recorded, Seen, exposing, exposing::Progress, exposing::seconds};
use crate::deployment::{Cause, State};

/// PROMOTING, proven: the registry makes the version the active one.
pub(super) fn promoted(draft: &mut Draft, seen: &Observation) {
    let Some(note) = recorded(draft, seen) else { return };
    draft.next.state = State::Promoted { at: draft.now };
    draft.tell("deployment.promoted", format!("version {} is live for all{note}", draft.next.version));
    draft.wake_at = None;
}

/// ROLLING_BACK, proven: the registry quarantines the version, or keeps it approved if a person aborted.
pub(super) fn rolled_back(draft: &mut Draft, seen: &Observation, step: usize, cause: Cause) {
    let Some(note) = recorded(draft, seen) else { return };
    let why = draft.next.reason.clone();
    draft.next.state = State::RolledBack { step, at: draft.now, cause };
    draft.tell("deployment.rolled_back", format!("{why}{note}"));
    draft.wake_at = None;
}

/// Whether the registry has said its word, and what there is to note of it. The mesh is right already; only the book may be behind.
fn recorded(draft: &mut Draft, seen: &Observation) -> Option<String> {
    match &seen.recorded {
        Seen::Known(Recorded::Taken) => Some(String::new()),
        Seen::Known(Recorded::Refused(why)) => Some(format!("; the registry does not take the outcome: {why}")),
        Seen::Unknown(why) => {
            stuck(draft, "deployment.unrecorded", format!("the registry does not take the outcome: {why}"));
            None
        }
        Seen::NotAsked => {
            draft.hurry();
            None
        }
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
        Progress::Open(why) => {
            late(draft, since, &why);
            draft.retry();
        }
    }
}

/// A way back that takes longer than a step may: says so once, and who lags from then on.
fn late(draft: &mut Draft, since: Timestamp, why: &str) {
    let limit = draft.next.strategy.propagation_timeout;
    if super::elapsed(since, draft.now) < limit {
        return;
    }
    let obstacle = format!("the rollback is not proven live within {}: {why}", seconds(limit));
    if draft.next.obstacle.is_empty() {
        stuck(draft, "rollback.stuck", obstacle);
    } else {
        draft.next.obstacle = obstacle;
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
