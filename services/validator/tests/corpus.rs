//! The validator's verdicts beside those of real clusters, on the cases in the folder that `MESHWARD_CASES` names.
//!
//! This is a program instead of a test of the usual harness, because without the folder there is nothing to show: it then says
//! so, and no line of the output claims that something passed.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use meshward_validator::{
    corpus::{
        Agreement, AnalyzerCase, Case, StatusCase, Tally, compare, compare_pairs, compare_status, definitions_beside,
        read,
    },
    schema::Catalogue,
};

/// Parts of the corpus, and how many in a hundred cases must agree with definitions and without. Floors only rise.
const FLOORS: [(&str, usize, usize); 5] = [
    ("validation", 100, 99),
    ("crd", 100, 97),
    ("realistic", 100, 97),
    ("admission", 100, 100),
    ("serviceprofile", 100, 100),
];

/// Of the pairs of code and object that istioctl's analyzers find, how many in a hundred we find too, and of ours, how many are
/// theirs. What is missing: an expired certificate, and selectors of Pods without a namespace.
const RECALL: f64 = 98.8;
const PRECISION: f64 = 99.6;

fn main() -> ExitCode {
    let Some(folder) = std::env::var_os("MESHWARD_CASES").filter(|folder| !folder.is_empty()).map(PathBuf::from) else {
        println!("NOT RUN: the comparison with real clusters, for MESHWARD_CASES names no folder of cases");
        return ExitCode::SUCCESS;
    };
    match run(&folder) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Whether every floor holds and every finding has a place.
fn run(folder: &Path) -> anyhow::Result<bool> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "jsonl"));
    files.sort();
    let (mut cases, mut analyzers, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
    for file in &files {
        cases.extend(read(file, Case::of)?);
        analyzers.extend(read(file, AnalyzerCase::of)?);
        statuses.extend(read(file, StatusCase::of)?);
    }
    let catalogue = Catalogue::read(&definitions_beside(folder))?;
    anyhow::ensure!(!catalogue.is_empty(), "no definitions in ../crds beside it");
    let with = compare(&cases, &catalogue);
    let without = compare(&cases, &Catalogue::default());
    println!("With the definitions of the kinds:\n{with}\n\nWithout any definition:\n{without}");
    let low = FLOORS.iter().flat_map(|(corpus, floor, bare)| {
        too_low(&with, corpus, *floor).into_iter().chain(too_low(&without, corpus, *bare))
    });
    let pairs = compare_pairs(&analyzers, &catalogue);
    let (status, differences) = compare_status(&statuses, &catalogue);
    println!(
        "\n{pairs}\n{}status of Linkerd's objects: {} of {} cases",
        differences.join("\n"),
        status.agreed,
        status.all
    );
    let mut low: Vec<String> = low.collect();
    if pairs.recall() < RECALL || pairs.precision() < PRECISION {
        low.push(format!("analyzers: the floors are {RECALL} % recall and {PRECISION} % precision"));
    }
    if status.all == 0 || status.agreed < status.all {
        low.push("status of Linkerd's objects: the floor is all".to_owned());
    }
    low.iter().for_each(|line| println!("TOO LOW: {line}"));
    let misplaced = with.findings.0 - with.findings.1 + without.findings.0 - without.findings.1;
    println!("{misplaced} findings without a place");
    Ok(low.is_empty() && misplaced == 0)
}

/// A floor holds for the cases that there are: a part of the corpus that is not in the folder proves nothing, and fails.
fn too_low(agreement: &Agreement, corpus: &str, floor: usize) -> Option<String> {
    let Tally { agreed, all } = agreement.of_corpus(corpus);
    let is_low = all == 0 || agreed * 100 < all * floor;
    is_low.then(|| format!("{corpus}: {agreed} of {all} agree; the floor is {floor} in a hundred"))
}
