//! Findings while they are collected.

use std::fmt::Write as _;

use meshward_model::{Confidence, Details, Digest, Finding, Impact, ObjectRef, Related, Severity, SourceRange, Target};
use serde_json::Value;

use crate::{
    path::{Path, Step},
    rules::catalogue::{self as rule, Rule},
    text::Places,
};

/// Most findings of one severity in one answer. A text can be made to break a rule in every line.
pub const MAX_FINDINGS: usize = 200;

/// Most other objects that one finding names.
const MAX_RELATED: usize = 20;

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
    /// Whether it depends on objects that may not be at hand.
    pub confidence: Confidence,
    /// What is known beyond that; most hits have little of it.
    pub more: Box<More>,
}

/// The rest of a hit.
#[derive(Debug, Clone, Default)]
pub struct More {
    /// The other objects that take part.
    pub related: Vec<Related>,
    /// Whom it concerns at run time.
    pub impact: Option<Impact>,
    /// A JSON patch of the object that mends it.
    pub patch: Option<Value>,
    /// Names that other tools have for it, beyond those of the rule.
    pub also: Vec<&'static str>,
}

impl Hit {
    /// A hit at a path.
    pub fn new(rule: &'static Rule, path: &Path, message: impl Into<String>) -> Self {
        Self {
            rule,
            path: path.clone(),
            on_key: false,
            message: message.into(),
            suggestion: String::new(),
            confidence: Confidence::Definite,
            more: Box::default(),
        }
    }

    /// The same with another object that takes part.
    #[must_use]
    pub fn with(mut self, related: Related) -> Self {
        if self.more.related.len() < MAX_RELATED {
            self.more.related.push(related);
        }
        self
    }

    /// The same with other objects that take part.
    #[must_use]
    pub fn with_all(self, related: impl IntoIterator<Item = Related>) -> Self {
        related.into_iter().fold(self, Self::with)
    }

    /// The same, as sure as the objects at hand allow.
    #[must_use]
    pub fn sure(mut self, confidence: Confidence) -> Self {
        self.confidence = confidence;
        self
    }

    /// The same with what happens to the requests for a host.
    #[must_use]
    pub fn hosts(self, effect: &str, host: impl Into<String>) -> Self {
        self.concerns(effect, vec![host.into()], Vec::new())
    }

    /// The same with what happens to the requests of workloads.
    #[must_use]
    pub fn workloads(self, effect: &str, workloads: Vec<String>) -> Self {
        self.concerns(effect, Vec::new(), workloads)
    }

    fn concerns(mut self, effect: &str, mut services: Vec<String>, mut workloads: Vec<String>) -> Self {
        services.truncate(MAX_RELATED);
        workloads.truncate(MAX_RELATED);
        self.more.impact = Some(Impact { services, workloads, effect: effect.to_owned() });
        self
    }

    /// The same with the advice to put a value at a path, as a patch too.
    #[must_use]
    pub fn replace(mut self, path: &Path, value: Value) -> Self {
        self.more.patch = Some(serde_json::json!([{"op": "replace", "path": path.pointer(), "value": value}]));
        self
    }

    /// The same with the advice to add an item to a list, as a patch too.
    #[must_use]
    pub fn append(mut self, list: &Path, value: Value) -> Self {
        let path = format!("{}/-", list.pointer());
        self.more.patch = Some(serde_json::json!([{"op": "add", "path": path, "value": value}]));
        self
    }

    /// The same with further names of other tools.
    #[must_use]
    pub fn known_as(mut self, names: &[&'static str]) -> Self {
        self.more.also.extend(names);
        self
    }

    /// The same with the advice to take something out, as a patch too.
    #[must_use]
    pub fn remove(mut self, path: &Path) -> Self {
        self.more.patch = Some(serde_json::json!([{"op": "remove", "path": path.pointer()}]));
        self
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

/// The findings of one answer, bounded.
#[derive(Debug)]
pub struct Findings {
    list: Vec<Finding>,
    most: usize,
    /// Of errors, warnings and infos: how many were not listed.
    dropped: usize,
    counts: [usize; 3],
}

impl Default for Findings {
    fn default() -> Self {
        Self::at_most(MAX_FINDINGS)
    }
}

impl Findings {
    /// Room for so many findings of one severity.
    #[must_use]
    pub fn at_most(most: usize) -> Self {
        Self { list: Vec::new(), most, dropped: 0, counts: [0; 3] }
    }

    /// Whether an error was found.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.counts[0] > 0
    }

    /// How many are listed.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// What was found from some point on.
    pub(crate) fn from(&self, start: usize) -> &[Finding] {
        &self.list[start..]
    }

    /// Forgets what was told already; it still counts for the bound.
    pub(crate) fn forget_first(&mut self, count: usize) {
        self.list.drain(..count);
    }

    /// Says of what was found from some point on in which text it is.
    pub(crate) fn name_from(&mut self, start: usize, source: &str) {
        self.list[start..].iter_mut().for_each(|finding| finding.details.source = source.to_owned());
    }

    /// Adds what was found elsewhere, as if it had been found here; the bounds of both must be the same.
    pub(crate) fn append(&mut self, other: Self) {
        let mut unlisted = other.counts;
        for finding in other.list {
            unlisted[finding.severity as usize] -= 1;
            self.push(finding);
        }
        for (count, unlisted) in self.counts.iter_mut().zip(unlisted) {
            *count += unlisted;
            self.dropped += unlisted;
        }
    }

    /// What was found first.
    pub(crate) fn first(&self) -> Option<&Finding> {
        self.list.first()
    }

    /// A finding about the text.
    pub fn at(&mut self, rule: &'static Rule, at: SourceRange, message: String, suggestion: &str) {
        let hit = Hit::new(rule, &Path::root(), message).suggest(suggestion);
        self.push(finding(hit, ObjectRef::default(), Some(at), ""));
    }

    /// A finding about an object.
    pub fn hit(&mut self, hit: Hit, object: &ObjectRef, places: &Places) {
        self.hit_in(hit, object, places, "");
    }

    /// A finding about an object of a text that has a name.
    pub fn hit_in(&mut self, hit: Hit, object: &ObjectRef, places: &Places, source: &str) {
        let at = if hit.on_key { places.key_of(&hit.path) } else { places.of(&hit.path) };
        self.push(finding(hit, object.clone(), Some(at), source));
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
        if *count <= self.most { self.list.push(finding) } else { self.dropped += 1 }
    }

    /// All of them in the order of their position.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Finding> {
        self.list
            .sort_by_cached_key(|finding| (finding.details.source.clone(), finding.at.map(|at| (at.line, at.column))));
        if self.dropped > 0 {
            let message = format!("{} further findings are not listed", self.dropped);
            let last = self.list.last().and_then(|finding| finding.at);
            let more = finding(Hit::new(rule::MORE_FINDINGS, &Path::root(), message), ObjectRef::default(), last, "");
            self.list.push(more);
        }
        self.list
    }
}

/// What stays the same of a finding when the text around it changes.
fn fingerprint(rule: &Rule, object: &ObjectRef, path: &Path, message: &str) -> String {
    const LENGTH: usize = "sha256:".len() + 32;
    let ObjectRef { kind, namespace, name, api_version } = object;
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let fields: Vec<String> = path
        .steps()
        .iter()
        .filter_map(|step| match step {
            Step::Field(name) => Some(name.to_string()),
            Step::Index(_) => None,
        })
        .collect();
    let digest = Digest::of(&serde_json::json!([rule.id, group, kind, namespace, name, fields, message]));
    digest.as_str()[..LENGTH].to_owned()
}

fn finding(hit: Hit, object: ObjectRef, at: Option<SourceRange>, source: &str) -> Finding {
    let Hit { rule, path, message, suggestion, confidence, more, on_key: _ } = hit;
    let More { related, impact, patch, also } = *more;
    // What depends on objects that may not be at hand blocks nobody.
    let severity = match (rule.severity, confidence) {
        (Severity::Error, Confidence::Possible) => Severity::Warning,
        (severity, _) => severity,
    };
    let details = Details {
        source: source.to_owned(),
        related,
        impact,
        patch: patch.map(|patch| patch.to_string()).unwrap_or_default(),
        doc: rule.doc_link(),
        suppressed: None,
        fingerprint: fingerprint(rule, &object, &path, &message),
    };
    Finding {
        id: rule.id.to_owned(),
        slug: rule.slug.to_owned(),
        aliases: rule.aliases.iter().chain(&also).map(ToString::to_string).collect(),
        severity,
        confidence,
        object,
        path: path.to_string(),
        // What is live has no text.
        at: at.filter(|at| at.line > 0),
        message,
        suggestion,
        details: Box::new(details),
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

    /// Whether the cluster would take the objects: no error of layers 1 to 3. References and conflicts are advice.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        is_valid(&self.findings)
    }
}

/// Whether findings have no error of layers 1 to 3.
#[must_use]
pub fn is_valid(findings: &[Finding]) -> bool {
    let refuses = |finding: &Finding| finding.severity == Severity::Error && finding.id.as_str() < "MW4";
    !findings.iter().any(refuses)
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
