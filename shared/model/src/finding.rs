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
}
