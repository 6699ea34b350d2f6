//! Prints how far the validator agrees with real clusters on files of cases; ends with 1 if a verdict differs.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use meshward_validator::{
    corpus::{AnalyzerCase, Case, StatusCase, compare, compare_pairs, compare_status, definitions_beside, read},
    schema::Catalogue,
};

/// Compares the validator's verdicts with those of a corpus of cases.
#[derive(Debug, Parser)]
#[command(name = "meshward-validator-corpus", version)]
struct Arguments {
    /// Files or folders with CustomResourceDefinitions (YAML), separated by ':'. Not set: the folders in `../crds` beside the
    /// first file.
    #[arg(long, env = "MESHWARD_CRDS", value_delimiter = ':')]
    crds: Vec<PathBuf>,

    /// Only cases of this kind.
    #[arg(long)]
    kind: Option<String>,

    /// Files with a case on each line.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { mut crds, kind, files } = Arguments::parse();
    crds.retain(|path| !path.as_os_str().is_empty());
    if crds.is_empty() {
        let folder = files[0].parent().unwrap_or(std::path::Path::new(""));
        crds = definitions_beside(if folder.as_os_str().is_empty() { std::path::Path::new(".") } else { folder });
    }
    let catalogue = Catalogue::read(&crds)?;
    let (mut cases, mut analyzers, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
    for file in &files {
        cases.extend(read(file, Case::of)?);
        analyzers.extend(read(file, AnalyzerCase::of)?);
        statuses.extend(read(file, StatusCase::of)?);
    }
    cases.retain(|case| kind.as_ref().is_none_or(|kind| *kind == case.kind));
    let agreement = compare(&cases, &catalogue);
    println!("{} versions of kinds are defined by {crds:?}\n{agreement}", catalogue.len());
    if !analyzers.is_empty() {
        println!("{}", compare_pairs(&analyzers, &catalogue));
    }
    if !statuses.is_empty() {
        let (tally, differences) = compare_status(&statuses, &catalogue);
        println!("{}\nstatus of Linkerd's objects: {} of {} cases", differences.join("\n"), tally.agreed, tally.all);
    }
    Ok(if agreement.disagreements.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
