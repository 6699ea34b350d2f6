//! The validator's verdicts beside those of real clusters, on the cases in the folder that `MESHWARD_CASES` names.
//!
//! This is a program instead of a test of the usual harness, because without the folder there is nothing to show: it then says
//! so, and no line of the output claims that something passed.

use std::{path::PathBuf, process::ExitCode};

use meshward_validator::{
    corpus::{Agreement, Tally, compare, definitions_beside, read},
    schema::Catalogue,
};

/// Parts of the corpus and how many in a hundred cases must agree. Floors only rise.
const FLOORS: [(&str, usize); 5] =
    [("validation", 100), ("crd", 100), ("realistic", 100), ("admission", 100), ("serviceprofile", 100)];

fn main() -> ExitCode {
    let Some(folder) = std::env::var_os("MESHWARD_CASES").filter(|folder| !folder.is_empty()).map(PathBuf::from) else {
        println!("NOT RUN: the comparison with real clusters, for MESHWARD_CASES names no folder of cases");
        return ExitCode::SUCCESS;
    };
    match run(&folder) {
        Ok(agreement) => {
            println!("{agreement}");
            let below: Vec<String> =
                FLOORS.iter().filter_map(|(corpus, floor)| too_low(&agreement, corpus, *floor)).collect();
            below.iter().for_each(|line| println!("TOO LOW: {line}"));
            let misplaced = agreement.findings.0 - agreement.findings.1;
            println!("{misplaced} findings without a place");
            if below.is_empty() && misplaced == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &std::path::Path) -> anyhow::Result<Agreement> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "jsonl"));
    files.sort();
    let mut cases = Vec::new();
    for file in &files {
        cases.extend(read(file)?);
    }
    let catalogue = Catalogue::read(&definitions_beside(folder))?;
    anyhow::ensure!(!catalogue.is_empty(), "no definitions in ../crds beside it");
    Ok(compare(&cases, &catalogue))
}

/// A floor holds for the cases that there are: a part of the corpus that is not in the folder proves nothing, and fails.
fn too_low(agreement: &Agreement, corpus: &str, floor: usize) -> Option<String> {
    let Tally { agreed, all } = agreement.of_corpus(corpus);
    let is_low = all == 0 || agreed * 100 < all * floor;
    is_low.then(|| format!("{corpus}: {agreed} of {all} agree; the floor is {floor} in a hundred"))
}
