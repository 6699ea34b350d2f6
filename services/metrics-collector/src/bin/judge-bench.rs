//! The command line of [`meshward_metrics_collector::bench`].

use std::{
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use meshward_chassis::server::install_crypto;
use meshward_metrics_collector::bench::{
    pace, replies,
    table::{self, Plan},
    world,
};
use meshward_metrics_collector::replay;
use meshward_model::JudgeOptions;

/// The judge in simulated worlds beside what other tools do, and the judge on your own numbers.
#[derive(Parser)]
#[command(name = "meshward-judge-bench")]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Simulates rollouts and prints how many were rolled back, when, and at what cost.
    Run {
        /// Folder with worlds (.yaml, .json); without it, the worlds that come with the program.
        #[arg(long)]
        worlds: Option<PathBuf>,
        /// Only worlds whose title contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// Runs of each world.
        #[arg(long, default_value_t = 200)]
        runs: u32,
        /// Seed. The same seed prints the same numbers.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Minutes before the change that the rules see; at most a week.
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(..=10_080))]
        history_minutes: u32,
        #[command(flatten)]
        weighing: Weighing,
    },
    /// Prints how long the judge takes for a tick in each of its own healthy worlds; build with --release.
    Pace {
        /// Half hours that are judged in each world.
        #[arg(long, default_value_t = 200)]
        rounds: u32,
    },
    /// Reads a tick a line (JSON) and answers each with a verdict.
    Judge {
        /// File to read; without it, or as "-", standard input.
        file: Option<PathBuf>,
        #[command(flatten)]
        weighing: Weighing,
    },
    /// Reads what Prometheus recorded, and prints what would have been said after each tick.
    Replay {
        #[command(flatten)]
        replay: Box<replay::Args>,
        #[command(flatten)]
        weighing: Weighing,
    },
}

#[derive(Args, Clone, Copy)]
struct Weighing {
    /// Bound on the probability of ever rolling back a change that is not worse.
    #[arg(long, default_value_t = JudgeOptions::default().alpha, value_parser = fraction)]
    alpha: f64,
    /// Error rate tolerated on top of the control's, a fraction.
    #[arg(long, default_value_t = JudgeOptions::default().tolerance, value_parser = fraction)]
    tolerance: f64,
    /// Effect that must be detectable before HEALTHY is said, a fraction of requests.
    #[arg(long, default_value_t = JudgeOptions::default().detectable_effect, value_parser = fraction)]
    detectable_effect: f64,
}

fn fraction(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err("not between 0 and 1".to_owned()) }
}

impl Weighing {
    fn options(self) -> JudgeOptions {
        let Self { alpha, tolerance, detectable_effect } = self;
        JudgeOptions { alpha, tolerance, detectable_effect, ..JudgeOptions::default() }
    }
}

fn main() -> ExitCode {
    match run(Command::parse().what) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("meshward-judge-bench: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run(what: What) -> io::Result<()> {
    match what {
        What::Run { worlds, only, runs, seed, history_minutes, weighing } => {
            let mut worlds = worlds.map_or_else(world::own, |folder| world::read(&folder))?;
            worlds.retain(|world| world.title.contains(&only));
            let plan = Plan { runs, seed, history_minutes, options: weighing.options() };
            table::print(&worlds, &plan, &mut io::stdout().lock())
        }
        What::Pace { rounds } => pace::print(&world::own()?, rounds, JudgeOptions::default(), &mut io::stdout().lock()),
        What::Replay { replay, weighing } => {
            install_crypto();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(replay::run(&replay, weighing.options(), io::stdout().lock()))
        }
        What::Judge { file, weighing } => {
            let (output, options) = (io::stdout().lock(), weighing.options());
            match file.filter(|file| file.as_os_str() != "-") {
                Some(file) => {
                    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
                    replies::answer_all(BufReader::new(File::open(&file).map_err(named)?), output, options)
                }
                None => replies::answer_all(io::stdin().lock(), output, options),
            }
        }
    }
}
