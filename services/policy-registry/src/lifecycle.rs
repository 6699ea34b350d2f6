//! The life of a version as one table: what is not in it is refused, with what would be allowed.
//!
//! ```text
//! DRAFT ─submit→ SUBMITTED ─approve→ APPROVED ─promote→ ACTIVE ─supersede→ SUPERSEDED ─promote→ ACTIVE
//!                    └─reject→ REJECTED ←reject─┘  └─quarantine→ QUARANTINED ─release→ APPROVED
//! ```
//! What can be deployed (APPROVED, ACTIVE, SUPERSEDED) can also be rolled back into QUARANTINED, and approved again
//! before its approvals expire or after.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a version is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VersionState {
    /// Written, not yet offered.
    Draft,
    /// Offered for approval.
    Submitted,
    /// May be deployed, as long as its approvals stand.
    Approved,
    /// Promoted: what the mesh enforces now.
    Active,
    /// Was active; a later one took its place. May be deployed again.
    Superseded,
    /// Refused by an approver. The end of this version.
    Rejected,
    /// Rolled back; not deployable until a person releases it.
    Quarantined,
    /// Put away. Nothing leads here yet.
    Archived,
}

/// What can be done to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// Offer it.
    Submit,
    /// Enough approvals are there.
    Approve,
    /// An approver says no.
    Reject,
    /// A deployment took it to everybody.
    Promote,
    /// Another version took its place.
    Supersede,
    /// A deployment of it was ended by a person; nothing is known against the version.
    Abort,
    /// A deployment of it was rolled back.
    Quarantine,
    /// A person vouches for a rolled back version.
    Release,
}

use {Move::*, VersionState::*};

const TABLE: &[(VersionState, Move, VersionState)] = &[
    (Draft, Submit, Submitted),
    (Submitted, Approve, Approved),
    // A further approval, or one that takes the place of an expired one.
    (Approved, Approve, Approved),
    (Active, Approve, Active),
    (Superseded, Approve, Superseded),
    (Submitted, Reject, Rejected),
    (Approved, Reject, Rejected),
    (Approved, Promote, Active),
    // Deployed once more, e.g. because somebody had changed the object.
    (Active, Promote, Active),
    (Superseded, Promote, Active),
    (Active, Supersede, Superseded),
    (Approved, Abort, Approved),
    (Active, Abort, Active),
    (Superseded, Abort, Superseded),
    (Approved, Quarantine, Quarantined),
    (Active, Quarantine, Quarantined),
    (Superseded, Quarantine, Quarantined),
    (Quarantined, Release, Approved),
    // Rejected while it was being deployed: how that ended is recorded, and the rejection stays.
    (Rejected, Abort, Rejected),
    (Rejected, Quarantine, Rejected),
];

/// A move that the table does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the version is {from}; to {name} it, it must be {needed}", name = .tried.name(), needed = states(.tried))]
pub struct IllegalMove {
    /// The state that the version has.
    pub from: VersionState,
    /// What was tried.
    pub tried: Move,
}

impl Move {
    /// As a verb for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Submit => "submit",
            Approve => "approve",
            Reject => "reject",
            Promote => "promote",
            Supersede => "supersede",
            Abort => "abort a deployment of",
            Quarantine => "roll back",
            Release => "release",
        }
    }
}

impl VersionState {
    const ALL: [Self; 8] = [Draft, Submitted, Approved, Active, Superseded, Rejected, Quarantined, Archived];

    /// The state after a move.
    ///
    /// # Errors
    /// If the move is not possible in this state; the error names those in which it is.
    pub fn after(self, tried: Move) -> Result<Self, IllegalMove> {
        let row = TABLE.iter().find(|(from, by, _)| *from == self && *by == tried);
        row.map(|(.., to)| *to).ok_or(IllegalMove { from: self, tried })
    }

    /// As it is stored and shown: "DRAFT".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Draft => "DRAFT",
            Submitted => "SUBMITTED",
            Approved => "APPROVED",
            Active => "ACTIVE",
            Superseded => "SUPERSEDED",
            Rejected => "REJECTED",
            Quarantined => "QUARANTINED",
            Archived => "ARCHIVED",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The states in which a move is possible, for a sentence: "SUBMITTED or APPROVED".
fn states(tried: &Move) -> String {
    let from: Vec<_> = TABLE.iter().filter(|(_, by, _)| by == tried).map(|(from, ..)| from.name()).collect();
    from.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVES: [Move; 8] = [Submit, Approve, Reject, Promote, Supersede, Abort, Quarantine, Release];

    /// Every pair: the moves that each state allows, and no others.
    #[test]
    fn each_state_allows_these_moves() {
        for (state, allowed) in [
            (Draft, vec![(Submit, Submitted)]),
            (Submitted, vec![(Approve, Approved), (Reject, Rejected)]),
            (
                Approved,
                vec![
                    (Approve, Approved),
                    (Reject, Rejected),
                    (Promote, Active),
                    (Abort, Approved),
                    (Quarantine, Quarantined),
                ],
            ),
            (
                Active,
                vec![
                    (Approve, Active),
                    (Promote, Active),
                    (Supersede, Superseded),
                    (Abort, Active),
                    (Quarantine, Quarantined),
                ],
            ),
            (
                Superseded,
                vec![(Approve, Superseded), (Promote, Active), (Abort, Superseded), (Quarantine, Quarantined)],
            ),
            (Rejected, vec![(Abort, Rejected), (Quarantine, Rejected)]),
            (Quarantined, vec![(Release, Approved)]),
            (Archived, vec![]),
        ] {
            let possible: Vec<_> = MOVES.iter().filter_map(|m| Some((*m, state.after(*m).ok()?))).collect();
            assert_eq!(possible, allowed, "{state}");
        }
    }

    #[test]
    fn a_refusal_says_what_would_be_allowed() {
        let refusal = Draft.after(Reject).unwrap_err();
        assert_eq!(refusal.to_string(), "the version is DRAFT; to reject it, it must be SUBMITTED or APPROVED");
    }

    #[test]
    fn names_go_both_ways() {
        for state in VersionState::ALL {
            assert_eq!(VersionState::from_name(state.name()), Some(state));
        }
        assert_eq!(VersionState::from_name("draft"), None);
    }
}
