//! Compares the validator's verdicts with those that the real admission of Istio and Linkerd gave on a corpus of cases.
//!
//! A corpus is a file of JSON lines. A line is a case if it has a verdict: `expect.admitted` beside `documents` (YAML texts in
//! order), or `expect_valid` beside `yaml`. In both, a text like `@@REPEAT("s",N)@@` stands for s, N times. A case agrees if
//! the validator has an error exactly when the object was refused.

mod analyzers;
mod routes;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use jiff::civil::{DateTime, date};
use meshward_model::Severity;
use regex::{Captures, Regex};
use serde_json::Value;

use crate::{
    app,
    report::{MAX_FINDINGS, Report},
    rules::catalogue as rule,
    schema::Catalogue,
};

pub use analyzers::{AnalyzerCase, PairAgreement, compare_pairs};
pub use routes::{StatusCase, compare_status};

/// When the public cases got their verdicts. Certificates are judged as of then, for a case must not change with the day.
pub const JUDGED_AT: DateTime = date(2026, 8, 22).at(0, 0, 0, 0);

static REPEAT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"@@REPEAT\("((?:[^"\\]|\\.)*)",(\d+)\)@@"#).expect("a constant"));

/// Errors that no cluster has: Meshward's own demands on what it keeps.
const OWN: [&str; 3] = [rule::NAMESPACE_MISSING.id, rule::TOO_LARGE.id, rule::NOT_A_POLICY.id];

/// A corpus that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not JSON.
    #[error("{}, line {line}: {message}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        message: String,
    },
}

/// One case: a text and the verdict on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The case's name.
    pub id: String,
    /// The part of the corpus that it belongs to, e.g. "validation".
    pub corpus: String,
    /// The kind that it is about.
    pub kind: String,
    /// All documents.
    pub text: String,
    /// Whether the cluster took them.
    pub admitted: bool,
}

impl Case {
    /// The case of a line, if the line has a verdict.
    #[must_use]
    pub fn of(line: &Value) -> Option<Self> {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let (text_of_all, admitted) = match (&line["documents"], &line["yaml"]) {
            (_, Value::String(yaml)) => (written_out(yaml), line["expect_valid"].as_bool()?),
            (documents, _) => (joined(documents)?, line["expect"]["admitted"].as_bool()?),
        };
        Some(Self { id: text("id"), corpus: text("corpus"), kind: text("kind"), text: text_of_all, admitted })
    }
}

/// All documents of a list as one text.
fn joined(documents: &Value) -> Option<String> {
    let documents: Vec<&str> = documents.as_array()?.iter().filter_map(Value::as_str).collect();
    Some(written_out(&documents.join("\n---\n")))
}

fn written_out(text: &str) -> String {
    let whole = |found: &Captures<'_>| found[1].repeat(found[2].parse().unwrap_or_default());
    REPEAT.replace_all(text, whole).into_owned()
}

/// The cases of one sort of a file, in its order. Lines of which `of` makes none are left out.
///
/// # Errors
/// If the file cannot be read, or a line is not JSON.
pub fn read<C>(path: &Path, of: impl Fn(&Value) -> Option<C>) -> Result<Vec<C>, CorpusError> {
    let text = std::fs::read_to_string(path).map_err(|source| CorpusError::Io { path: path.into(), source })?;
    let mut cases = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let value = serde_json::from_str(line).map_err(|error| CorpusError::Line {
            path: path.into(),
            line: index + 1,
            message: error.to_string(),
        })?;
        cases.extend(of(&value));
    }
    Ok(cases)
}

/// The folders of definitions beside a folder of cases: those in `../crds`, one per mesh. None if there are none.
#[must_use]
pub fn definitions_beside(cases: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cases.join("../crds")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// How many cases of a part agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases with the same verdict.
    pub agreed: usize,
    /// Cases that were judged.
    pub all: usize,
}

/// The outcome of a comparison.
#[derive(Debug, Default)]
pub struct Agreement {
    /// By part of the corpus and kind.
    pub tallies: BTreeMap<(String, String), Tally>,
    /// The cases with another verdict, each with what the validator says.
    pub disagreements: Vec<(Case, Vec<String>)>,
    /// Cases of which no object is of a mesh, so that there is nothing to agree on.
    pub unjudged: Vec<Case>,
    /// Findings, and those of them that have a line and a column.
    pub findings: (usize, usize),
}

/// Judges every case.
#[must_use]
pub fn compare(cases: &[Case], catalogue: &Catalogue) -> Agreement {
    let mut agreement = Agreement::default();
    for case in cases {
        let report = app::validate(case.text.as_bytes(), "", catalogue);
        let placed = report.findings.iter().filter(|f| f.at.is_some_and(|at| at.line > 0 && at.column > 0)).count();
        agreement.findings.0 += report.findings.len();
        agreement.findings.1 += placed;
        if is_unjudged(&report) {
            agreement.unjudged.push(case.clone());
            continue;
        }
        let errors = errors(&report);
        let tally = agreement.tallies.entry((case.corpus.clone(), case.kind.clone())).or_default();
        tally.all += 1;
        if errors.is_empty() == case.admitted {
            tally.agreed += 1;
        } else {
            agreement.disagreements.push((case.clone(), errors));
        }
    }
    agreement
}

impl Agreement {
    /// The sum over the kinds of one part of the corpus.
    #[must_use]
    pub fn of_corpus(&self, corpus: &str) -> Tally {
        let tallies = self.tallies.iter().filter(|((of, _), _)| of == corpus);
        tallies.fold(Tally::default(), |sum, (_, tally)| Tally {
            agreed: sum.agreed + tally.agreed,
            all: sum.all + tally.all,
        })
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, errors) in &self.disagreements {
            let verdict = if case.admitted { "admitted" } else { "refused" };
            let said = if errors.is_empty() { "no error".to_owned() } else { errors.join("; ") };
            writeln!(f, "{}: {verdict} by the cluster; the validator says: {said}", case.id)?;
        }
        for ((corpus, kind), tally) in &self.tallies {
            writeln!(f, "{corpus:<16} {kind:<28} {:>4} of {:>4}", tally.agreed, tally.all)?;
        }
        let all: usize = self.tallies.values().map(|tally| tally.all).sum();
        writeln!(f, "{:<45} {:>4} of {all:>4}", "all", all - self.disagreements.len())?;
        writeln!(f, "{} cases hold no object of a mesh, and were not judged", self.unjudged.len())?;
        write!(f, "{} of {} findings have a line and a column", self.findings.1, self.findings.0)
    }
}

fn is_unjudged(report: &Report) -> bool {
    let strangers = report.findings.iter().filter(|finding| finding.id == rule::NOT_A_POLICY.id).count();
    strangers > 0 && (strangers >= report.objects.len() || strangers >= MAX_FINDINGS) && errors(report).is_empty()
}

/// Whether a rule is a demand of Meshward's own, which no cluster makes.
#[must_use]
pub fn is_our_own(rule: &str) -> bool {
    OWN.contains(&rule)
}

/// The errors that a cluster would have too.
fn errors(report: &Report) -> Vec<String> {
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error && !is_our_own(&f.id));
    errors.map(|finding| format!("{} {}: {}", finding.id, finding.path, finding.message)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NO_ROUTES: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\nspec: {hosts: [a]}";

    #[test]
    fn cases_agree_disagree_or_are_not_judged() {
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}";
        let cases: Vec<Case> = [
            json!({"id": "1", "corpus": "x", "kind": "K", "documents": [NO_ROUTES], "expect": {"admitted": false}}),
            json!({"id": "2", "corpus": "x", "kind": "K", "yaml": NO_ROUTES, "expect_valid": true}),
            json!({"id": "3", "corpus": "x", "kind": "K", "documents": [service], "expect": {"admitted": true}}),
            json!({"id": "4", "corpus": "x", "kind": "K", "documents": [service, NO_ROUTES], "expect": {"admitted": false}}),
            json!({"id": "5", "corpus": "x", "documents": [NO_ROUTES], "expect": {"messages": []}}),
        ]
        .iter()
        .filter_map(Case::of)
        .collect();
        assert_eq!(cases.len(), 4);
        let agreement = compare(&cases, &Catalogue::default());
        assert_eq!(agreement.of_corpus("x"), Tally { agreed: 2, all: 3 });
        assert_eq!(agreement.unjudged.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(), ["3"]);
        let text = agreement.to_string();
        assert!(text.starts_with("2: admitted by the cluster; the validator says: MW3105 spec:"), "{text}");
        assert_eq!(agreement.findings.0, agreement.findings.1, "every finding has a place");
    }

    #[test]
    fn repetitions_are_written_out() {
        let line = json!({"yaml": "a: @@REPEAT(\"xy\",3)@@", "expect_valid": true});
        assert_eq!(Case::of(&line).map(|case| case.text), Some("a: xyxyxy".to_owned()));
    }
}
