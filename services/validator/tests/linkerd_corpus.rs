//! The validator's verdicts beside Linkerd's own, on a corpus of cases that the folder `MESHWARD_CASES` may hold.
//!
//! Each line of `linkerd*.jsonl` there is a case: `corpus`, `yaml`, and `expect_valid`, the verdict of Linkerd's admission.
//! Without the variable there is nothing to compare, and the test says so.

use std::{collections::BTreeMap, fs, path::PathBuf};

use meshward_model::Severity;
use meshward_validator::{app, report::Report, rules::catalogue as rule, schema::Catalogue};
use serde_json::Value;

/// Corpora of single objects, and the share of cases that must agree, in percent. Floors only rise.
const FLOORS: [(&str, usize); 2] = [("admission", 100), ("serviceprofile", 100)];

fn cases() -> Option<Vec<Value>> {
    let folder = PathBuf::from(std::env::var_os("MESHWARD_CASES").filter(|value| !value.is_empty())?);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    let is_linkerds = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("linkerd") && name.ends_with(".jsonl")
    };
    let texts = paths.filter(is_linkerds).map(|path| fs::read_to_string(path).expect("a corpus can be read"));
    let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    Some(lines.iter().map(|line| serde_json::from_str(line).expect("a line is a case")).collect())
}

/// The errors that Linkerd would have too: it allows an object without a namespace.
fn errors(report: &Report) -> Vec<String> {
    let errors = report.findings.iter().filter(|f| f.severity == Severity::Error && f.id != rule::NAMESPACE_MISSING.id);
    errors.map(|finding| format!("{} {}: {}", finding.id, finding.path, finding.message)).collect()
}

#[test]
fn verdicts_agree_with_linkerds() {
    let Some(cases) = cases() else {
        eprintln!("MESHWARD_CASES names no folder, so there is nothing to compare");
        return;
    };
    let catalogue = Catalogue::default();
    let mut tally: BTreeMap<&str, (usize, usize)> = FLOORS.iter().map(|(corpus, _)| (*corpus, (0, 0))).collect();
    for case in &cases {
        let Some((agreed, all)) = case["corpus"].as_str().and_then(|corpus| tally.get_mut(corpus)) else { continue };
        let (Some(yaml), Some(valid)) = (case["yaml"].as_str(), case["expect_valid"].as_bool()) else { continue };
        let report = app::validate(yaml.as_bytes(), "", &catalogue);
        let placed = report.findings.iter().all(|finding| finding.at.is_some_and(|at| at.line > 0 && at.column > 0));
        assert!(placed, "{}: a finding without line and column", case["id"]);
        let errors = errors(&report);
        *all += 1;
        *agreed += usize::from(errors.is_empty() == valid);
        if errors.is_empty() != valid {
            println!("{}: Linkerd says {valid}; {}", case["id"], errors.join("; "));
        }
    }
    for (corpus, floor) in FLOORS {
        let (agreed, all) = tally[corpus];
        println!("{corpus}: {agreed} of {all}");
        assert!(all > 0, "no case of the corpus {corpus}");
        assert!(agreed * 100 >= all * floor, "{corpus}: {agreed} of {all} agree, fewer than {floor} %");
    }
}
