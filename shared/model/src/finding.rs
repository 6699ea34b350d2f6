//! What a validator says about a policy.

use serde::{Deserialize, Serialize};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Blocks submission.
    Error,
    /// Shown to the approver.
    Warning,
    /// For information.
    Info,
}

/// How sure the validator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// True whatever else is in the cluster.
    Definite,
    /// Depends on objects that were not at hand.
    Possible,
}

/// A place in the text. Lines and columns start at 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceRange {
    /// Document of a multi-document text, from 0.
    pub document: u32,
    /// First line.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Last line.
    pub end_line: u32,
    /// Column after the last character.
    pub end_column: u32,
}

/// The object that a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Another object that takes part in a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Related {
    /// Which.
    pub object: ObjectRef,
    /// Field path in it; empty for the object as a whole.
    pub path: String,
    /// Where in its text, if it can be told.
    pub at: Option<SourceRange>,
    /// In which text: empty for the judged one, else a name like "context[2]".
    pub source: String,
    /// What it does in the finding, e.g. "wins" or "demands mTLS".
    pub role: String,
}

/// Whom a finding concerns at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Impact {
    /// Hosts whose requests are concerned.
    pub services: Vec<String>,
    /// Workloads, as `namespace/name`, or `namespace/label=value` for those of a selector.
    pub workloads: Vec<String>,
    /// What happens to the requests, or to the object: "denied", "unreachable", "plaintext", "ignored", "allowed" or "failing".
    pub effect: String,
}

/// A finding that somebody has accepted for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suppression {
    /// Why.
    pub reason: String,
    /// The last day on which it holds, as YYYY-MM-DD.
    pub until: String,
}

/// One result of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// "MW" + 4 digits; the first digit is the layer (1 syntax, 2 schema, 3 semantic, 4 reference, 5 conflict, 6 impact).
    pub id: String,
    /// Readable name, e.g. "syntax/duplicate-key".
    pub slug: String,
    /// What other tools call it.
    pub aliases: Vec<String>,
    /// How grave.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// About what; empty if the text could not be read that far.
    pub object: ObjectRef,
    /// Field path, e.g. "spec.http[0].route".
    pub path: String,
    /// Where in the text, if it can be told.
    pub at: Option<SourceRange>,
    /// One sentence that names the values.
    pub message: String,
    /// How to mend it; may be empty.
    pub suggestion: String,
    /// What is known beyond that. Boxed, because most findings have little of it.
    #[serde(default)]
    pub details: Box<Details>,
}

/// The rest of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Details {
    /// In which text `at` is: empty for the judged one, else a name like "context[2]".
    pub source: String,
    /// The other objects that take part.
    pub related: Vec<Related>,
    /// Whom it concerns at run time.
    pub impact: Option<Impact>,
    /// A JSON patch (RFC 6902, as JSON text) of the object that mends it; empty where no change is safe.
    pub patch: String,
    /// The page that explains the rule, as a path in the repository.
    pub doc: String,
    /// Set if somebody accepted the finding; it then blocks nothing.
    pub suppressed: Option<Suppression>,
    /// Tells the finding again in a later validation; empty where the finding is not one of the validator's rules.
    #[serde(default)]
    pub fingerprint: String,
}

impl Finding {
    /// Whether the judged text must not go on: an error in it that nobody has accepted. What it breaks elsewhere is told to
    /// people, who cannot accept it in the text.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.severity == Severity::Error && self.details.suppressed.is_none() && self.details.source.is_empty()
    }
}
