//! Many runs of many worlds, and what came out.

use std::{io, time::Instant};

use meshward_model::JudgeOptions;

use super::{
    chance::Chance,
    peers::{Argo, Flagger, Kayenta},
    rollout::{Outcome, roll_out},
    rules::{Ours, Rule},
    simulation::Simulation,
    world::{Change, World},
};

/// Who is compared; the first is the judge.
pub const RULES: [&str; 5] = ["meshward", "Flagger 1m 2", "Flagger 1m 10", "Argo 1m 3", "Kayenta"];

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Runs of each world.
    pub runs: u32,
    /// Of the first run; the others follow from it.
    pub seed: u64,
    /// Whether rules see 15 minutes before the change.
    pub with_history: bool,
    /// How the judge weighs.
    pub options: JudgeOptions,
}

/// What one rule did in all runs of a world.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Share of runs that were rolled back.
    pub rolled_back: f64,
    /// Share that was promoted.
    pub promoted: f64,
    /// Seconds until half of all runs were rolled back; `None` if fewer were.
    pub median_s: Option<f64>,
    /// Requests that failed or were slowed because of the change, mean.
    pub harm: f64,
}

/// A rule by its place in [`RULES`].
fn rule(index: usize, options: JudgeOptions) -> Box<dyn Rule> {
    match index {
        0 => Box::new(Ours::new(options)),
        1 => Box::new(Flagger::new(2)),
        2 => Box::new(Flagger::new(10)),
        3 => Box::new(Argo::new(3)),
        _ => Box::new(Kayenta::default()),
    }
}

/// Runs a world with the first `rules` of [`RULES`]; every rule sees the same runs.
#[must_use]
pub fn run_world(world: &World, plan: &Plan, rules: usize) -> Vec<Summary> {
    let of_title = world.title.bytes().fold(plan.seed, |seed, byte| Chance::seed_of(&[seed, byte.into()]));
    let mut outcomes = vec![Vec::new(); rules.min(RULES.len())];
    for run in 0..plan.runs {
        let simulation = Simulation::new(world, Chance::seed_of(&[of_title, run.into()]));
        for (index, outcomes) in outcomes.iter_mut().enumerate() {
            outcomes.push(roll_out(&simulation, rule(index, plan.options).as_mut(), plan.with_history));
        }
    }
    outcomes.iter().map(|outcomes| summary(outcomes)).collect()
}

fn summary(outcomes: &[Outcome]) -> Summary {
    let runs = outcomes.len().max(1) as f64;
    let mut times: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.rolled_back).collect();
    times.sort_by(f64::total_cmp);
    Summary {
        rolled_back: times.len() as f64 / runs,
        promoted: outcomes.iter().filter(|outcome| outcome.promoted).count() as f64 / runs,
        median_s: times.get(outcomes.len() / 2).copied(),
        harm: outcomes.iter().map(|outcome| outcome.harm).sum::<f64>() / runs,
    }
}

/// Runs all worlds and prints the tables, a line as soon as it is known.
///
/// # Errors
/// If nothing can be written.
pub fn print(worlds: &[World], plan: &Plan, out: &mut impl io::Write) -> io::Result<()> {
    let begin = Instant::now();
    let history = if plan.with_history { "15 min of history" } else { "no history" };
    writeln!(out, "seed {}, {} runs of each world, {history}, alpha {}", plan.seed, plan.runs, plan.options.alpha)?;
    let of = |change| worlds.iter().filter(move |world| world.change == change);

    writeln!(out, "\nHealthy changes: rolled back, % (and promoted within 30 min, %)")?;
    heading(out, 17, "")?;
    let (mut worst, mut sum) = ([0.0_f64; RULES.len()], [0.0; RULES.len()]);
    for world in of(Change::Healthy) {
        let summaries = run_world(world, plan, RULES.len());
        worst.iter_mut().zip(&summaries).for_each(|(worst, one)| *worst = worst.max(one.rolled_back));
        sum.iter_mut().zip(&summaries).for_each(|(sum, one)| *sum += one.rolled_back);
        let cell = |one: &Summary| format!("{:.1} ({:.0})", one.rolled_back * 100.0, one.promoted * 100.0);
        row(out, &world.title, &summaries, 17, cell, "")?;
    }
    let worst: Vec<String> =
        RULES.iter().zip(worst).map(|(name, worst)| format!("{name} {:.1}", worst * 100.0)).collect();
    writeln!(out, "Worst: {}", worst.join(", "))?;

    let careful = (1..RULES.len()).min_by(|a, b| sum[*a].total_cmp(&sum[*b])).unwrap_or(1);
    writeln!(out, "\nBad changes: detected within 30 min, % / median seconds / requests harmed, mean")?;
    heading(out, 19, &format!("harm beside {}, the most careful peer", RULES[careful]))?;
    for world in of(Change::Bad) {
        let summaries = run_world(world, plan, RULES.len());
        let cell = |one: &Summary| {
            let median = one.median_s.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0}"));
            format!("{:.0} / {median} / {:.0}", one.rolled_back * 100.0, one.harm)
        };
        let beside = format!("{:.2}", summaries[0].harm / summaries[careful].harm);
        row(out, &world.title, &summaries, 19, cell, &beside)?;
    }
    writeln!(out, "\n{:.1} s", begin.elapsed().as_secs_f64())
}

fn heading(out: &mut impl io::Write, width: usize, last: &str) -> io::Result<()> {
    write!(out, "{:30}", "")?;
    RULES.iter().try_for_each(|name| write!(out, "{name:<width$}"))?;
    writeln!(out, "{last}")
}

fn row(
    out: &mut impl io::Write,
    title: &str,
    summaries: &[Summary],
    width: usize,
    cell: impl Fn(&Summary) -> String,
    last: &str,
) -> io::Result<()> {
    write!(out, "{title:30}")?;
    summaries.iter().try_for_each(|one| write!(out, "{:<width$}", cell(one)))?;
    writeln!(out, "{last}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::{super::world, *};

    fn plan(runs: u32) -> Plan {
        Plan { runs, seed: 20, with_history: true, options: JudgeOptions::default() }
    }

    /// What must hold in the worlds that come with the program, on a few runs of fixed seeds. The hard drift is left
    /// out: it is open.
    #[test]
    fn the_judge_keeps_its_promises() {
        for world in world::own().expect("the own worlds") {
            let judge = run_world(&world, &plan(8), 1).remove(0);
            match world.change {
                Change::Healthy if world.title.contains("hard") => {}
                Change::Healthy => assert!(judge.rolled_back < 0.2, "{}: {judge:?}", world.title),
                Change::Bad => assert!(judge.rolled_back > 0.8, "{}: {judge:?}", world.title),
            }
        }
    }

    #[test]
    fn five_points_at_100_rps_are_seen_in_two_ticks_and_at_less_than_half_of_the_cost() {
        let worlds = world::own().expect("the own worlds");
        for title in ["0.1 -> 5.1 %", "deny all, 100 rps"] {
            let world = worlds.iter().find(|world| world.title == title).expect(title);
            let summaries = run_world(world, &plan(20), RULES.len());
            assert!(summaries[0].median_s.is_some_and(|seconds| seconds <= 30.0), "{title}: {:?}", summaries[0]);
            let others = summaries[1..].iter().map(|one| one.harm).fold(f64::INFINITY, f64::min);
            assert!(summaries[0].harm <= others / 2.0, "{title}: {} beside {others}", summaries[0].harm);
        }
    }

    #[test]
    fn a_seed_prints_the_same_numbers_again_and_a_world_depends_on_no_other() {
        let worlds = world::own().expect("the own worlds");
        let (first, last) = (&worlds[0], worlds.last().expect("some"));
        assert_eq!(run_world(last, &plan(3), 2), run_world(last, &plan(3), 2));
        let mut text = Vec::new();
        print(&[first.clone(), last.clone()], &plan(2), &mut text).expect("memory can be written");
        let text = String::from_utf8(text).expect("text");
        for expected in ["seed 20, 2 runs", &first.title, &last.title, "Worst: meshward"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
