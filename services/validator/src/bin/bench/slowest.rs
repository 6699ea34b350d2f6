//! The time that the worst of many damaged texts takes.

use std::{process::ExitCode, time::Instant};

use meshward_validator::{
    app::{self, Input},
    corpus::JUDGED_AT,
    explain,
    schema::Catalogue,
};

use super::{
    cluster,
    damage::{Chance, damage},
};

/// Judges so many texts, alone, among each other and as an explanation; fails if one takes longer than `limit` ms, or is refused
/// without a finding. The schemas are compiled before, as in a server that runs.
pub fn run(texts: usize, seed: u64, limit: f64, catalogue: &Catalogue) -> anyhow::Result<ExitCode> {
    let seeds: Vec<String> =
        (0..40).map(|number| cluster::yaml(8 * (1 + number % 4)).replace("service-0", &format!("s{number}"))).collect();
    for text in &seeds {
        drop(app::batch(&[Input { text: text.as_bytes(), source: "" }], true, JUDGED_AT, catalogue));
    }
    let mut chance = Chance(seed | 1);
    let (mut slowest, mut longest, mut refused, mut silent) = (Vec::new(), 0.0_f64, 0, 0);
    for round in 0..texts {
        let bytes = damage(&seeds[round % seeds.len()], 6, 40, &mut chance);
        let started = Instant::now();
        let (report, _) = app::batch(&[Input { text: &bytes, source: "" }], true, JUDGED_AT, catalogue);
        drop(explain::explain(&bytes, catalogue));
        let took = started.elapsed().as_secs_f64() * 1000.0;
        refused += usize::from(!report.is_valid());
        silent += usize::from(report.objects == 0 && report.findings.is_empty());
        if took > longest {
            (longest, slowest) = (took, bytes);
        }
    }
    println!(
        "{texts} damaged texts of seed {seed}: {refused} refused, {silent} without an object or a finding, the slowest took {longest:.1} ms"
    );
    if longest <= limit && silent == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("the slowest:\n{}", String::from_utf8_lossy(&slowest));
    Ok(ExitCode::FAILURE)
}
