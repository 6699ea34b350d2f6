//! The audit trail: append-only, each event sealed with a hash over the one before it and its own fields.
//!
//! Changing, removing or inserting an event breaks every seal from there on, so it takes a rewrite of the whole rest to
//! hide it. Events cut off at the end leave an intact, shorter chain: whoever wants to notice that notes the last
//! sequence and hash elsewhere (they are in every [`Sealed`] event that the watch stream delivers).

use jiff::Timestamp;
use meshward_model::canonical_json;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is named by the text beside it in `name`")]
pub enum Action {
    PolicyCreated,
    PolicyDeleted,
    VersionCreated,
    VersionSubmitted,
    VersionApproved,
    VersionRejected,
    VersionPromoted,
    VersionSuperseded,
    VersionRolledBack,
    VersionAborted,
    VersionReleased,
}

impl Action {
    /// As the contract names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PolicyCreated => "policy.created",
            Self::PolicyDeleted => "policy.deleted",
            Self::VersionCreated => "version.created",
            Self::VersionSubmitted => "version.submitted",
            Self::VersionApproved => "version.approved",
            Self::VersionRejected => "version.rejected",
            Self::VersionPromoted => "version.promoted",
            Self::VersionSuperseded => "version.superseded",
            Self::VersionRolledBack => "version.rolled_back",
            Self::VersionAborted => "version.aborted",
            Self::VersionReleased => "version.released",
        }
    }
}

/// What happened, before it has its place in the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which policy.
    pub policy_id: String,
    /// Its namespace: decides who may read the event, also when the policy is gone.
    pub namespace: String,
    /// Which version; 0 = the policy itself.
    pub version: i64,
    /// What was done: an [`Action`]'s name. A text, so that events of later programs can be read back.
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// Digest of the version, or empty.
    pub digest: String,
    /// Why, in the actor's words.
    pub comment: String,
    /// When.
    pub time: Timestamp,
}

/// An event in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// From 1, without gaps.
    pub sequence: i64,
    /// What happened.
    pub event: Event,
    /// SHA-256 (hex) over the previous hash and every field.
    pub hash: String,
}

/// The end of the trail so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Sequence of the last event; 0 = none.
    pub sequence: i64,
    /// Its hash; empty = none.
    pub hash: String,
}

impl Head {
    /// Gives an event its place after this head. Parts of a millisecond of its time are not sealed (nor stored).
    #[must_use]
    pub fn seal(&self, event: Event) -> Sealed {
        let sequence = self.sequence + 1;
        let fields = json!({
            "previous": self.hash,
            "sequence": sequence,
            "policy_id": event.policy_id,
            "namespace": event.namespace,
            "version": event.version,
            "action": event.action,
            "actor": event.actor,
            "digest": event.digest,
            "comment": event.comment,
            "time_ms": event.time.as_millisecond(),
        });
        let hash = Sha256::digest(canonical_json(&fields));
        let hash = hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        Sealed { sequence, event, hash }
    }

    /// Goes on over stored events, in order.
    ///
    /// # Errors
    /// The sequence at which the chain breaks: that of the first event whose seal does not fit, or that is missing.
    pub fn follow<'a>(self, events: impl IntoIterator<Item = &'a Sealed>) -> Result<Self, i64> {
        events.into_iter().try_fold(self, |head, stored| {
            let expected = head.seal(stored.event.clone());
            if expected == *stored { Ok(stored.head()) } else { Err(expected.sequence) }
        })
    }
}

impl Sealed {
    /// This event as the end of the trail.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { sequence: self.sequence, hash: self.hash.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(comment: &str) -> Event {
        Event {
            policy_id: "p".into(),
            namespace: "shop".into(),
            version: 1,
            action: Action::VersionCreated.name().into(),
            actor: "alice".into(),
            digest: String::new(),
            comment: comment.into(),
            time: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    fn chain() -> Vec<Sealed> {
        let mut head = Head::default();
        let seal = |comment| {
            let sealed = head.seal(event(comment));
            head = sealed.head();
            sealed
        };
        ["a", "b", "c", "d"].map(seal).to_vec()
    }

    #[test]
    fn a_chain_can_be_followed_in_parts() {
        let chain = chain();
        let half = Head::default().follow(&chain[..2]).unwrap();
        assert_eq!(half.follow(&chain[2..]), Ok(chain[3].head()));
    }

    type Tamper = fn(&mut Vec<Sealed>);

    #[test]
    fn every_tampering_is_found_where_it_begins() {
        let cases: [(&str, Tamper, i64); 7] = [
            ("a changed field", |c| c[1].event.comment = "x".into(), 2),
            ("a changed namespace, which the wire does not show", |c| c[1].event.namespace = "pay".into(), 2),
            ("a changed time", |c| c[2].event.time = Timestamp::UNIX_EPOCH, 3),
            ("a changed hash", |c| c[0].hash = "00".into(), 1),
            ("a removed event", |c| drop(c.remove(1)), 2),
            (
                "a removed event, numbers closed up",
                |c| {
                    c.remove(1);
                    c[1].sequence = 2;
                    c[2].sequence = 3;
                },
                2,
            ),
            ("swapped events", |c| c.swap(2, 3), 3),
        ];
        for (what, tamper, broken_at) in cases {
            let mut chain = chain();
            tamper(&mut chain);
            assert_eq!(Head::default().follow(&chain), Err(broken_at), "{what}");
        }
    }
}
