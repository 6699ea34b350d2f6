//! Who may approve, how many must, how long that lasts, and so what is missing before a version may be deployed.
//!
//! Approvals are bound to the digest of the version and expire. Expiry changes nothing in the store: an APPROVED
//! version keeps its state, and [`Rules::obstacles`] says at the moment of the question what is missing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    lifecycle::VersionState,
    policy::{Approval, Version},
};

/// What an approval needs to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Approvals of different people that a version needs.
    pub required: usize,
    /// How long an approval counts.
    pub ttl: Duration,
}

impl Rules {
    /// Whether enough approvals of a version count at `now`.
    #[must_use]
    pub fn is_satisfied(&self, version: &Version, now: Timestamp) -> bool {
        self.standing(version, now) >= self.required
    }

    /// What is missing before a version may be deployed at `now`, a sentence each; empty = it may be.
    #[must_use]
    pub fn obstacles(&self, version: &Version, now: Timestamp) -> Vec<String> {
        let because = |what: &str| match &*version.state_reason {
            "" => what.to_owned(),
            reason => format!("{what} ({reason})"),
        };
        match version.state {
            VersionState::Draft => vec!["it is a DRAFT: submit it, then have it approved".to_owned()],
            VersionState::Rejected => vec![format!("{}: make a new version", because("it was rejected"))],
            VersionState::Quarantined => vec![format!("{}: an admin must release it", because("it was rolled back"))],
            VersionState::Archived => vec!["it is archived".to_owned()],
            VersionState::Submitted | VersionState::Approved | VersionState::Active | VersionState::Superseded => {
                self.missing_approvals(version, now)
            }
        }
    }

    fn missing_approvals(&self, version: &Version, now: Timestamp) -> Vec<String> {
        let missing = self.required.saturating_sub(self.standing(version, now));
        if missing == 0 {
            return Vec::new();
        }
        let verb = if missing == 1 { "is" } else { "are" };
        let expired = version.approvals.iter().filter(|approval| self.expiry(approval) <= now).map(|approval| {
            format!(
                "the approval of {} expired on {}",
                approval.approver,
                self.expiry(approval).strftime("%F at %T UTC")
            )
        });
        std::iter::once(format!("{missing} of {} approvals {verb} missing", self.required)).chain(expired).collect()
    }

    /// How many count: of this digest, not by the author, not expired.
    fn standing(&self, version: &Version, now: Timestamp) -> usize {
        let counts = |approval: &&Approval| {
            approval.digest == version.digest && approval.approver != version.author && self.expiry(approval) > now
        };
        version.approvals.iter().filter(counts).count()
    }

    /// The moment from which an approval does not count any more.
    fn expiry(&self, approval: &Approval) -> Timestamp {
        let ttl = SignedDuration::try_from(self.ttl).unwrap_or(SignedDuration::MAX);
        approval.time.checked_add(ttl).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use meshward_model::Digest;
    use serde_json::json;

    use super::*;

    const RULES: Rules = Rules { required: 2, ttl: Duration::from_secs(3600) };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap()
    }

    /// A version of "alice" with approvals (who, digest fits, minute).
    fn version(state: VersionState, approvals: &[(&str, bool, i64)]) -> Version {
        let digest = Digest::of(&json!(1));
        let approval = |&(approver, fits, minute): &(&str, bool, i64)| Approval {
            approver: approver.into(),
            comment: String::new(),
            digest: if fits { digest.clone() } else { Digest::of(&json!(2)) },
            time: at(minute),
        };
        Version {
            policy_id: "p".into(),
            number: 1,
            yaml: String::new(),
            canonical_json: String::new(),
            state,
            author: "alice".into(),
            change_note: String::new(),
            approvals: approvals.iter().map(approval).collect(),
            findings: vec![],
            state_reason: String::new(),
            created: at(0),
            updated: at(0),
            digest,
        }
    }

    #[test]
    fn only_fresh_approvals_of_others_for_this_digest_count() {
        for (approvals, minute, standing) in [
            (vec![], 0, 0),
            (vec![("bob", true, 0), ("carol", true, 1)], 2, 2),
            (vec![("bob", true, 0), ("alice", true, 1)], 2, 1),
            (vec![("bob", true, 0), ("carol", false, 1)], 2, 1),
            (vec![("bob", true, 0), ("carol", true, 1)], 59, 2),
            (vec![("bob", true, 0), ("carol", true, 1)], 60, 1),
            (vec![("bob", true, 0), ("carol", true, 1)], 61, 0),
        ] {
            let version = version(VersionState::Approved, &approvals);
            assert_eq!(RULES.standing(&version, at(minute)), standing, "{approvals:?} at {minute}");
            assert_eq!(RULES.is_satisfied(&version, at(minute)), standing == 2);
        }
    }

    #[test]
    fn obstacles_say_what_is_missing() {
        use VersionState::{Active, Approved, Draft, Quarantined, Rejected, Submitted, Superseded};
        let both = [("bob", true, 0), ("carol", true, 1)];
        let missing = |sentences: &[&str]| sentences.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (state, approvals, minute, expected) in [
            (Draft, &both[..0], 0, missing(&["it is a DRAFT: submit it, then have it approved"])),
            (Submitted, &both[..0], 0, missing(&["2 of 2 approvals are missing"])),
            (Submitted, &both[..1], 0, missing(&["1 of 2 approvals is missing"])),
            (Approved, &both, 59, vec![]),
            (
                Approved,
                &both,
                60,
                missing(&["1 of 2 approvals is missing", "the approval of bob expired on 2027-01-15 at 09:00:00 UTC"]),
            ),
            (Superseded, &both, 59, vec![]),
            (Active, &both, 59, vec![]),
            (Rejected, &both, 59, missing(&["it was rejected (why): make a new version"])),
            (Quarantined, &both, 59, missing(&["it was rolled back (why): an admin must release it"])),
        ] {
            let mut version = version(state, approvals);
            version.state_reason = "why".into();
            assert_eq!(RULES.obstacles(&version, at(minute)), expected, "{state} at {minute}");
        }
    }
}
