//! Compares the validator's verdicts with those of a corpus of cases.
//!
//! `corpus FILE.jsonl CRDS [KIND]`: each line has `kind`, `documents` (YAML texts) and `expect.admitted`, the verdict that a
//! cluster gave. A text like `@@REPEAT("s",N)@@` stands for s, N times. Lines without a verdict are left out. Prints every
//! disagreement and how many there were per kind; ends with 1 if there was any.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context as _;
use meshward_model::Severity;
use meshward_validator::{app, rules::catalogue as rule, schema::Catalogue};
use regex::{Captures, Regex};
use serde_json::Value;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, crds, kind @ ..] = arguments.as_slice() else { anyhow::bail!("usage: corpus FILE.jsonl CRDS [KIND]") };
    let catalogue = Catalogue::read(&[crds.into()])?;
    let mut tally: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for line in std::fs::read_to_string(file).with_context(|| file.clone())?.lines() {
        let case: Value = serde_json::from_str(line)?;
        let (Some(of), Some(admitted)) = (case["kind"].as_str(), case["expect"]["admitted"].as_bool()) else {
            continue;
        };
        if kind.first().is_some_and(|wanted| wanted != of) {
            continue;
        }
        let errors = errors(&text(&case)?, &catalogue);
        let (agreed, all) = tally.entry(format!("{of} ({})", case["corpus"].as_str().unwrap_or_default())).or_default();
        *all += 1;
        if errors.is_empty() == admitted {
            *agreed += 1;
        } else {
            println!("{}: the cluster says {admitted}; {}", case["id"], errors.join("; "));
        }
    }
    for (kind, (agreed, all)) in &tally {
        println!("{kind}: {agreed} of {all}");
    }
    let (agreed, all) = tally.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("all: {agreed} of {all}");
    Ok(if agreed == all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(case: &Value) -> anyhow::Result<String> {
    let repeat = Regex::new(r#"@@REPEAT\("((?:[^"\\]|\\.)*)",(\d+)\)@@"#)?;
    let documents = case["documents"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let text = documents.collect::<Vec<_>>().join("\n---\n");
    let whole = |found: &Captures<'_>| found[1].repeat(found[2].parse().unwrap_or_default());
    Ok(repeat.replace_all(&text, whole).into_owned())
}

/// The errors that a cluster would have too: it allows an object without a namespace.
fn errors(text: &str, catalogue: &Catalogue) -> Vec<String> {
    let report = app::validate(text.as_bytes(), "", catalogue);
    let own = [rule::NAMESPACE_MISSING.id, rule::TOO_LARGE.id];
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error && !own.contains(&f.id.as_str()));
    errors.map(|f| format!("{} {}: {}", f.id, f.path, f.message)).collect()
}
