//! Judges a generated cluster, beside `istioctl analyze` on the same file, and changes of one object of it.
//!
//! Every run is a process of its own, started cold: reading the definitions, compiling their schemas, parsing the YAML and all
//! layers are in the time. Run it with `--release`; `ISTIOCTL` names the other program, which is left out if it is not set.
//!
//! ```sh
//! MESHWARD_CRDS=crd-all.gen.yaml ISTIOCTL=istioctl cargo run --release -p meshward-validator --bin meshward-validator-bench -- compare --rounds 5
//! MESHWARD_CRDS=crd-all.gen.yaml cargo run --release -p meshward-validator --bin meshward-validator-bench -- change
//! ```
//!
//! Only the ratio of one run says something, for both programs use all processors. Four runs of five rounds on 2 processors with
//! a load of about 1.5 beside them: 1,000 objects in 0.16 to 0.19 of istioctl's time (30 and 95 MB), 5,000 in 0.15 to 0.17 (74 and
//! 118 MB); a change of one of 5,000 objects in 0.21 ms (median), 0.30 ms (99 %), 0.45 ms (longest of 1,000), 2 objects judged again.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use meshward_validator::{
    app::{self, Input},
    corpus::JUDGED_AT,
    schema::Catalogue,
};

#[path = "bench/cluster.rs"]
mod cluster;
#[path = "bench/damage.rs"]
mod damage;
#[path = "bench/slowest.rs"]
mod slowest;

/// Measures the validator.
#[derive(Debug, Parser)]
#[command(name = "meshward-validator-bench", version)]
struct Arguments {
    /// Files or folders with CustomResourceDefinitions (YAML), separated by ':'.
    #[arg(long, env = "MESHWARD_CRDS", value_delimiter = ':', global = true)]
    crds: Vec<PathBuf>,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Generated clusters of so many objects, each judged by both programs in turn.
    Compare {
        /// How many objects.
        #[arg(default_values_t = [1_000, 5_000])]
        objects: Vec<usize>,
        /// How often; the median is printed.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// The other program.
        #[arg(long, env = "ISTIOCTL")]
        istioctl: Option<PathBuf>,
    },
    /// One judging of a file, as `compare` starts it.
    File {
        /// YAML.
        file: PathBuf,
    },
    /// Changes of one object of a generated cluster that is kept warm.
    Change {
        /// How many objects.
        #[arg(default_value_t = 5_000)]
        objects: usize,
        /// How many changes.
        #[arg(long, default_value_t = 1_000)]
        changes: usize,
    },
    /// Damaged texts: the slowest of them, and that none ends the process.
    Damage {
        /// How many texts.
        #[arg(default_value_t = 10_000)]
        texts: usize,
        /// Where the row of damages begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// More ms for one text are a failure.
        #[arg(long, default_value_t = 100.0)]
        limit: f64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { mut crds, what } = Arguments::parse();
    crds.retain(|path| !path.as_os_str().is_empty());
    let catalogue = Catalogue::read(&crds)?;
    match what {
        What::File { file } => one(&file, &catalogue),
        What::Compare { objects, rounds, istioctl } => compare(&objects, rounds.max(1), istioctl.as_deref()),
        What::Change { objects, changes } => change(objects, changes, &catalogue),
        What::Damage { texts, seed, limit } => return slowest::run(texts, seed, limit, &catalogue),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Judges a file and prints what it took, on one line that [`measure`] reads.
fn one(file: &Path, catalogue: &Catalogue) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let pieces = app::pieces(&text);
    let inputs: Vec<Input<'_>> = pieces.iter().map(|piece| Input { text: piece.as_bytes(), source: "" }).collect();
    let started = Instant::now();
    let (report, _warm) = app::batch(&inputs, true, JUDGED_AT, catalogue);
    let ids: std::collections::BTreeSet<&str> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
    println!(
        "{} objects, {} findings of {} rules in {:.0} ms",
        report.objects,
        report.findings.len(),
        ids.len(),
        ms(started)
    );
    // Nobody needs the memory of a process that ends in order.
    std::process::exit(0)
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn compare(sizes: &[usize], rounds: usize, istioctl: Option<&Path>) -> anyhow::Result<()> {
    let own = std::env::current_exe()?;
    let folder = std::env::temp_dir().join(format!("meshward-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    println!("{:>7} {:<10} {:>9} {:>9} {:>7}  findings", "objects", "program", "ms", "max ms", "MB");
    for objects in sizes {
        let file = folder.join(format!("{objects}.yaml"));
        std::fs::write(&file, cluster::yaml(*objects))?;
        let mut runs: Vec<(&str, Vec<Measured>)> = vec![("meshward", Vec::new())];
        runs.extend(istioctl.map(|_| ("istioctl", Vec::new())));
        for _ in 0..rounds {
            for (program, measured) in &mut runs {
                let mut command = match (*program, istioctl) {
                    ("istioctl", Some(path)) => {
                        let mut command = Command::new(path);
                        command.args(["analyze", "-A", "--use-kube=false", "--output", "log"]).arg(&file);
                        command
                    }
                    _ => {
                        let mut command = Command::new(&own);
                        command.arg("file").arg(&file);
                        command
                    }
                };
                measured.push(measure(&mut command)?);
            }
        }
        for (program, mut measured) in runs {
            measured.sort_by(|a, b| a.ms.total_cmp(&b.ms));
            let (middle, last) = (&measured[measured.len() / 2], &measured[measured.len() - 1]);
            println!(
                "{objects:>7} {program:<10} {:>9.0} {:>9.0} {:>7.0}  {}",
                middle.ms, last.ms, middle.megabytes, middle.said
            );
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

struct Measured {
    ms: f64,
    megabytes: f64,
    said: String,
}

/// Runs a program to its end, with the largest memory that it had, as the kernel's accounting of children says through `time`.
fn measure(command: &mut Command) -> anyhow::Result<Measured> {
    let mut timed = Command::new("/usr/bin/env");
    timed.args(["python3", "-c", MEMORY]).arg(command.get_program()).args(command.get_args());
    let started = Instant::now();
    let output = timed.output()?;
    let outside = ms(started);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().rev().find(|line| line.starts_with("measured ")).context("no measure")?;
    let numbers: Vec<f64> = last.split(' ').skip(1).filter_map(|number| number.parse().ok()).collect();
    let [inside, kilobytes] = numbers.as_slice() else { anyhow::bail!("{last}") };
    debug_assert!(*inside <= outside);
    let messages = text.lines().chain(errors.lines()).filter(|line| line.contains("[IST")).count();
    let said =
        if messages > 0 { format!("{messages} messages") } else { text.lines().last().unwrap_or_default().to_owned() };
    Ok(Measured { ms: *inside, megabytes: kilobytes / 1024.0, said })
}

/// Starts a program and tells its wall time and its largest memory.
const MEMORY: &str = "import resource, subprocess, sys, time
started = time.monotonic()
subprocess.run(sys.argv[1:])
took = (time.monotonic() - started) * 1000
print('measured', took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)";

fn change(objects: usize, changes: usize, catalogue: &Catalogue) -> anyhow::Result<()> {
    let text = cluster::yaml(objects);
    let pieces = app::pieces(&text);
    let inputs: Vec<Input<'_>> = pieces.iter().map(|piece| Input { text: piece.as_bytes(), source: "" }).collect();
    let (report, mut warm) = app::batch(&inputs, true, JUDGED_AT, catalogue);
    warm.ready();
    let mut times = Vec::with_capacity(changes);
    let (mut judged, mut findings) = (0, 0);
    for number in 0..changes.max(1) {
        let change = cluster::change(objects, number);
        let started = Instant::now();
        let outcome = warm.what_if(change.as_bytes(), catalogue);
        times.push(ms(started));
        judged += outcome.judged;
        findings += outcome.findings.len() + outcome.mended.len();
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "{} objects warm, {} changes of one: median {:.2} ms, 99 % {:.2} ms, longest {:.2} ms; {judged} objects judged again, {findings} findings",
        report.objects,
        times.len(),
        at(50),
        at(99),
        at(100),
    );
    Ok(())
}
