//! Findings while they are collected.

use std::fmt::Write as _;

use meshward_model::{Confidence, Finding, ObjectRef, Severity, SourceRange, Target};
use serde_json::Value;

use crate::{
    path::Path,
    rules::catalogue::{self as rule, Rule},
    text::Places,
};

/// Most findings of one severity in one answer. A text can be made to break a rule in every line.
pub const MAX_FINDINGS: usize = 200;

/// What a rule says: the object and the text are known to the caller.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Which rule.
    pub rule: &'static Rule,
    /// Where in the object.
    pub path: Path,
    /// Point at the key instead of at the value.
    pub on_key: bool,
    /// One sentence that names the values.
    pub message: String,
    /// How to mend it; may be empty.
    pub suggestion: String,
}

impl Hit {
    /// A hit at a path.
    pub fn new(rule: &'static Rule, path: &Path, message: impl Into<String>) -> Self {
        Self { rule, path: path.clone(), on_key: false, message: message.into(), suggestion: String::new() }
    }

    /// The same with advice.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = suggestion.into();
        self
    }

    /// The same pointing at the key.
    #[must_use]
    pub fn at_key(mut self) -> Self {
        self.on_key = true;
        self
    }
}

/// The findings of one text, bounded.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    /// Of errors, warnings and infos: how many were not listed.
    dropped: usize,
    counts: [usize; 3],
}

impl Findings {
    /// Whether an error was found.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.counts[0] > 0
    }

    /// A finding about the text.
    pub fn at(&mut self, rule: &'static Rule, at: SourceRange, message: String, suggestion: &str) {
        self.push(finding(rule, ObjectRef::default(), String::new(), Some(at), message, suggestion.to_owned()));
    }

    /// A finding about an object.
    pub fn hit(&mut self, hit: Hit, object: &ObjectRef, places: &Places) {
        let at = if hit.on_key { places.key_of(&hit.path) } else { places.of(&hit.path) };
        self.push(finding(hit.rule, object.clone(), hit.path.to_string(), Some(at), hit.message, hit.suggestion));
    }

    /// The text has no object.
    pub(crate) fn no_object(&mut self) {
        self.at(
            rule::NO_OBJECT,
            position(1, 1),
            "the text holds no object".to_owned(),
            "write one policy per document",
        );
    }

    fn push(&mut self, finding: Finding) {
        let count = &mut self.counts[finding.severity as usize];
        *count += 1;
        if *count <= MAX_FINDINGS { self.list.push(finding) } else { self.dropped += 1 }
    }

    /// All of them in the order of their position.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Finding> {
        self.list.sort_by_key(|finding| finding.at.map(|at| (at.line, at.column)));
        if self.dropped > 0 {
            let message = format!("{} further findings are not listed", self.dropped);
            let last = self.list.last().and_then(|finding| finding.at);
            let more = finding(rule::MORE_FINDINGS, ObjectRef::default(), String::new(), last, message, String::new());
            self.list.push(more);
        }
        self.list
    }
}

fn finding(
    rule: &Rule,
    object: ObjectRef,
    path: String,
    at: Option<SourceRange>,
    message: String,
    suggestion: String,
) -> Finding {
    Finding {
        id: rule.id.to_owned(),
        slug: rule.slug.to_owned(),
        aliases: rule.aliases.iter().map(ToString::to_string).collect(),
        severity: rule.severity,
        confidence: Confidence::Definite,
        object,
        path,
        at,
        message,
        suggestion,
    }
}

/// An object that was read.
#[derive(Debug)]
pub struct ReadObject {
    /// What it is.
    pub target: Target,
    /// Its content as the API server will read it.
    pub value: Value,
    /// What findings about it say of it.
    pub head: ObjectRef,
    /// Where its values stand in the text.
    pub places: Places,
}

/// The answer to a validation.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of their position.
    pub findings: Vec<Finding>,
    /// The objects that could be read, in order.
    pub objects: Vec<ReadObject>,
    /// Rules that did not run, each with the reason.
    pub skipped: Vec<String>,
}

impl Report {
    /// Adds what was found later about the objects, in their order.
    pub fn extend(&mut self, hits: Vec<Vec<Hit>>) {
        let mut later = Findings::default();
        for (object, hits) in self.objects.iter().zip(hits) {
            hits.into_iter().for_each(|hit| later.hit(hit, &object.head, &object.places));
        }
        self.findings.extend(later.into_sorted());
        self.findings.sort_by_key(|finding| finding.at.map(|at| (at.line, at.column)));
    }

    /// No finding is an error.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// A single character's place in document 0.
#[must_use]
pub fn position(line: usize, column: usize) -> SourceRange {
    let (line, column) = (clamp(line), clamp(column));
    SourceRange { document: 0, line, column, end_line: line, end_column: column.saturating_add(1) }
}

/// A count as the contract carries it.
pub(crate) fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A text of a stranger in quotes, cut to a readable length.
#[must_use]
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// Names in a sentence: "a", "b" and "c".
#[must_use]
pub fn list<T: AsRef<str>>(names: &[T], last: &str) -> String {
    names.iter().enumerate().fold(String::new(), |mut text, (number, name)| {
        let joint = match number {
            0 => "",
            _ if number + 1 == names.len() => last,
            _ => ", ",
        };
        let _ = write!(text, "{joint}{}", name.as_ref());
        text
    })
}
