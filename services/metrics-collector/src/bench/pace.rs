//! How long the judge takes for a tick.

use std::{hint::black_box, io, time::Instant};

use meshward_model::JudgeOptions;

use super::{
    rules::{Ours, Rule},
    simulation::{HISTORY_WEIGHT, HORIZON, Seen, Simulation},
    world::{Change, World},
};

/// Ticks before the canary gets its first weight: an hour's quarter.
const HISTORY: u32 = 60;
/// Weight after it.
const WEIGHT: u16 = 1000;

/// Lets the judge see `rounds` half hours of each healthy world (of a bad one the judge is soon done) and prints the mean time per tick, the verdict and its sentence
/// included. Making the worlds is not timed.
///
/// # Errors
/// If nothing can be written.
pub fn print(worlds: &[World], rounds: u32, options: JudgeOptions, out: &mut impl io::Write) -> io::Result<()> {
    if cfg!(debug_assertions) {
        writeln!(out, "not optimized: build with --release")?;
    }
    for world in worlds.iter().filter(|world| world.change == Change::Healthy) {
        let simulation = Simulation::new(world, 1, HISTORY);
        let before: Vec<Seen> = (-simulation.history()..0).map(|at| simulation.tick(at, HISTORY_WEIGHT)).collect();
        let after: Vec<Seen> = (0..HORIZON).map(|at| simulation.tick(at, WEIGHT)).collect();
        let mut told = Ours::new(options);
        told.begin_step(0);
        before.iter().zip(-simulation.history()..).for_each(|(seen, at)| told.learn(at, seen));
        told.begin_step(WEIGHT);
        let begin = Instant::now();
        for _ in 0..rounds {
            let mut judge = told.clone();
            for (seen, at) in after.iter().zip(0..) {
                black_box(judge.tick(at, black_box(seen), true));
            }
        }
        let ticks = f64::from(rounds) * after.len() as f64;
        writeln!(out, "{:30}{:>8.0} ns per tick", world.title, begin.elapsed().as_nanos() as f64 / ticks)?;
    }
    Ok(())
}
