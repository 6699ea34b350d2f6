//! Texts that are damaged by chance, always the same for a seed.

use std::{process::ExitCode, time::Instant};

use meshward_validator::{
    app::{self, Input},
    explain,
    schema::Catalogue,
};

use super::cluster;

/// Pieces that break YAML in interesting ways.
const PIECES: [&str; 20] = [
    "\t", "\n", " ", "- ", ": ", "? ", "{", "}", "[", "]", "&a ", "*a ", "!!int ", "<<: ", "\"", "'", "|", "---\n",
    "\u{0}", "0777",
];

/// Numbers by chance (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

fn damage(text: &str, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + chance.below(40)).min(bytes.len());
        let piece = PIECES[chance.below(PIECES.len())].as_bytes();
        match chance.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, piece.iter().copied())),
            2 => drop(bytes.splice(at..end, piece.iter().copied())),
            3 => bytes.extend_from_within(at..end),
            _ if at < bytes.len() => bytes[at] = u8::try_from(chance.below(256)).unwrap_or(0),
            _ => bytes.push(b'\n'),
        }
    }
    bytes
}

/// Judges so many texts, alone, among each other and as an explanation; fails if one takes longer than `limit` ms, or is refused
/// without a finding. The schemas are compiled before, as in a server that runs.
pub fn run(texts: usize, seed: u64, limit: f64, catalogue: &Catalogue) -> anyhow::Result<ExitCode> {
    let seeds: Vec<String> =
        (0..40).map(|number| cluster::yaml(8 * (1 + number % 4)).replace("service-0", &format!("s{number}"))).collect();
    for text in &seeds {
        drop(app::batch(&[Input { text: text.as_bytes(), source: "" }], true, catalogue));
    }
    let mut chance = Chance(seed | 1);
    let (mut slowest, mut longest, mut refused, mut silent) = (Vec::new(), 0.0_f64, 0, 0);
    for round in 0..texts {
        let bytes = damage(&seeds[round % seeds.len()], &mut chance);
        let started = Instant::now();
        let (report, _) = app::batch(&[Input { text: &bytes, source: "" }], true, catalogue);
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
