//! Policies and their versions as this service knows them.

use jiff::Timestamp;
use meshward_model::{Digest, Finding, Target};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::lifecycle::VersionState;

/// Largest policy text, bytes.
pub const MAX_YAML_BYTES: usize = 1024 * 1024;
/// Largest object as canonical JSON, bytes: what etcd takes. Aliases can make more of a small text.
pub const MAX_OBJECT_BYTES: usize = 1536 * 1024;

/// A named rule set for one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// UUID, sorts by time of creation.
    pub id: String,
    /// Namespace of the target: where roles are checked.
    pub namespace: String,
    /// Unique in the namespace; a DNS label.
    pub name: String,
    /// For people.
    pub description: String,
    /// The object that it governs, in the API version of the newest version.
    pub target: Target,
    /// Number of the newest version, from 1.
    pub latest_version: i64,
    /// Number of the version that is live; 0 = none.
    pub active_version: i64,
    /// Counts mutations of the policy and its versions, from 1.
    pub revision: i64,
    /// Who made it.
    pub creator: String,
    /// When.
    pub created: Timestamp,
    /// When it or one of its versions was changed last.
    pub updated: Timestamp,
}

impl Policy {
    /// Opaque to clients, another one after each mutation.
    #[must_use]
    pub fn etag(&self) -> String {
        let hash = Sha256::digest(format!("{}/{}", self.id, self.revision));
        hash.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// The same one mutation later.
    #[must_use]
    pub fn touched(mut self, now: Timestamp) -> Self {
        self.revision += 1;
        self.updated = now;
        self
    }
}

/// The immutable content of a policy at one moment, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Whose.
    pub policy_id: String,
    /// From 1, without gaps.
    pub number: i64,
    /// Over the canonical JSON; see [`digest_of_deletion`].
    pub digest: Digest,
    /// As it was sent.
    pub yaml: String,
    /// What is deployed; empty = the version is that the object is gone.
    pub canonical_json: String,
    /// Where it is in its life.
    pub state: VersionState,
    /// Who wrote it.
    pub author: String,
    /// Why it was made.
    pub change_note: String,
    /// Oldest first, one per approver.
    pub approvals: Vec<Approval>,
    /// What the validator said last.
    pub findings: Vec<Finding>,
    /// Why it is in its state, where that needs a reason.
    pub state_reason: String,
    /// When it was made.
    pub created: Timestamp,
    /// When its state changed last.
    pub updated: Timestamp,
}

impl Version {
    /// The version is that the object is gone.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.canonical_json.is_empty()
    }
}

/// What an approval of a deletion is bound to.
#[must_use]
pub fn digest_of_deletion(target: &Target) -> Digest {
    let Target { api_version, kind, namespace, name, .. } = target;
    Digest::of(&json!({"deletion": {"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name}}))
}

/// A version that is in force, or may soon be, as others are judged among it. None is a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Whose.
    pub policy_id: String,
    /// From 1.
    pub number: i64,
    /// ACTIVE or APPROVED.
    pub state: VersionState,
    /// The object.
    pub canonical_json: String,
}

/// One approval, bound to the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub approver: String,
    /// What they said.
    pub comment: String,
    /// What they had read.
    pub digest: Digest,
    /// When.
    pub time: Timestamp,
}

/// What became of a deployment of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// Live for everybody.
    Promoted,
    /// Taken back because it was bad.
    RolledBack,
    /// Ended by a person.
    Aborted,
}

impl Outcome {
    /// As it is stored: "PROMOTED".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Promoted => "PROMOTED",
            Self::RolledBack => "ROLLED_BACK",
            Self::Aborted => "ABORTED",
        }
    }

    /// The outcome of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Promoted, Self::RolledBack, Self::Aborted].into_iter().find(|outcome| outcome.name() == name)
    }
}

/// The outcome of one deployment: told once, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// Which deployment.
    pub deployment_id: String,
    /// Of which policy.
    pub policy_id: String,
    /// Of which version.
    pub version: i64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Whether a text is a DNS label: 1 to 63 of a-z, 0-9 and '-', neither first nor last being '-'.
#[must_use]
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// The name of a policy that was given none: "virtualservice-checkout".
#[must_use]
pub fn default_name(target: &Target) -> String {
    format!("{}-{}", target.kind.to_lowercase(), target.name)
}

/// The findings that block.
pub fn errors(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.blocks())
}

/// A finding on one line: "line 3, column 5: MW1003 message (how to mend it)".
#[must_use]
pub fn sentence(finding: &Finding) -> String {
    let place = finding.at.map(|at| format!("line {}, column {}: ", at.line, at.column)).unwrap_or_default();
    let mend = if finding.suggestion.is_empty() { String::new() } else { format!(" ({})", finding.suggestion) };
    format!("{place}{} {}{mend}", finding.id, finding.message)
}

#[cfg(test)]
mod tests {
    use meshward_model::{Confidence, ObjectRef, Severity, SourceRange};

    use super::*;

    #[test]
    fn names_are_dns_labels() {
        let long = "a".repeat(64);
        for (text, expected) in [
            ("checkout", true),
            ("a", true),
            ("a-1", true),
            (&long[..63], true),
            ("", false),
            (&*long, false),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("a.b", false),
            ("ä", false),
        ] {
            assert_eq!(is_dns_label(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_finding_is_a_sentence() {
        let mut finding = Finding {
            id: "MW1003".into(),
            slug: "syntax/duplicate-key".into(),
            aliases: vec![],
            severity: Severity::Error,
            confidence: Confidence::Definite,
            object: ObjectRef::default(),
            path: "spec".into(),
            at: Some(SourceRange { line: 3, column: 5, ..SourceRange::default() }),
            message: "the key \"spec\" is there twice".into(),
            suggestion: "remove one".into(),
            details: Box::default(),
        };
        assert_eq!(sentence(&finding), "line 3, column 5: MW1003 the key \"spec\" is there twice (remove one)");
        finding.at = None;
        finding.suggestion.clear();
        assert_eq!(sentence(&finding), "MW1003 the key \"spec\" is there twice");
    }
}
