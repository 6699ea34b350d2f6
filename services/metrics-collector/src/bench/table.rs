//! Many runs of many worlds, and what came out.

use std::{fmt::Write as _, io, time::Instant};

use meshward_model::JudgeOptions;

use super::{
    chance::Chance,
    peers::{Argo, Flagger, Kayenta},
    rollout::roll_out,
    rules::{Ours, Rule},
    simulation::Simulation,
    summary::{Estimate, Summary},
    world::{Change, World},
};

/// Who is compared; the first is the judge.
pub const RULES: [&str; 5] = ["meshward", "Flagger 1m 2", "Flagger 1m 10", "Argo 1m 3", "Kayenta"];
/// All of them.
const ALL: [usize; RULES.len()] = [0, 1, 2, 3, 4];
/// False rollbacks above which a rule is not careful.
const CAREFUL: f64 = 0.01;
/// Ticks of a minute of history.
const TICKS_A_MINUTE: u32 = 4;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Runs of each world.
    pub runs: u32,
    /// Of the first run; the others follow from it.
    pub seed: u64,
    /// How much rules see of the time before the change.
    pub history_minutes: u32,
    /// How the judge weighs.
    pub options: JudgeOptions,
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

/// Runs a world with these of [`RULES`]; every rule sees the same runs.
#[must_use]
pub fn run_world(world: &World, plan: &Plan, rules: &[usize]) -> Vec<Summary> {
    let of_title = world.title.bytes().fold(plan.seed, |seed, byte| Chance::seed_of(&[seed, byte.into()]));
    let mut outcomes = vec![Vec::new(); rules.len()];
    for run in 0..plan.runs {
        let seed = Chance::seed_of(&[of_title, run.into()]);
        let simulation = Simulation::new(world, seed, plan.history_minutes * TICKS_A_MINUTE);
        for (index, outcomes) in rules.iter().zip(&mut outcomes) {
            outcomes.push(roll_out(&simulation, rule(*index, plan.options).as_mut()));
        }
    }
    outcomes.iter().map(|outcomes| Summary::of(outcomes)).collect()
}

/// How often each rule was wrong in the healthy worlds.
#[derive(Clone, Debug, Default)]
struct Healthy {
    worst: [f64; RULES.len()],
    /// Worlds with more false rollbacks than a careful rule has.
    failed: [usize; RULES.len()],
    worlds: usize,
}

impl Healthy {
    fn add(&mut self, summaries: &[Summary]) {
        self.worlds += 1;
        for (index, summary) in summaries.iter().enumerate() {
            let share = summary.rolled_back.value;
            self.worst[index] = self.worst[index].max(share);
            self.failed[index] += usize::from(share > CAREFUL);
        }
    }

    /// The peer that failed in fewest worlds.
    fn most_careful(&self) -> usize {
        let by_care = |a: &usize, b: &usize| {
            self.failed[*a].cmp(&self.failed[*b]).then(self.worst[*a].total_cmp(&self.worst[*b]))
        };
        (1..RULES.len()).min_by(by_care).unwrap_or(1)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (index, name) in RULES.iter().enumerate() {
            let (failed, worst) = (self.failed[index], self.worst[index] * 100.0);
            // A string can be written.
            let _ = writeln!(text, "{name:<15}more than 1 % in {failed} of {} worlds, worst {worst:.1} %", self.worlds);
        }
        let careful: Vec<&str> = (1..RULES.len()).filter(|rule| self.failed[*rule] == 0).map(|at| RULES[at]).collect();
        let careful = if careful.is_empty() { "none".to_owned() } else { careful.join(", ") };
        let _ = write!(text, "Peers with at most 1 % in every healthy world: {careful}.");
        text
    }
}

/// Runs all worlds and prints the tables, a line as soon as it is known.
///
/// # Errors
/// If nothing can be written.
pub fn print(worlds: &[World], plan: &Plan, out: &mut impl io::Write) -> io::Result<()> {
    let begin = Instant::now();
    let Plan { runs, seed, history_minutes, options } = plan;
    writeln!(out, "seed {seed}, {runs} runs of each world, {history_minutes} min of history, alpha {}", options.alpha)?;
    writeln!(out, "[ ] holds the true value with 95 %")?;
    let of = |change| worlds.iter().filter(move |world| world.change == change);

    writeln!(out, "\nHealthy changes: rolled back, % [ ] (promoted within 30 min, %)")?;
    heading(out, 23, "")?;
    let mut healthy = Healthy::default();
    for world in of(Change::Healthy) {
        let summaries = run_world(world, plan, &ALL);
        healthy.add(&summaries);
        row(out, &world.title, summaries.iter().map(wrong), 23, "")?;
    }
    writeln!(out, "{}", healthy.text())?;

    let careful = healthy.most_careful();
    writeln!(out, "\nBad changes: detected within 30 min, % / median seconds [ ] / requests harmed, mean [ ]")?;
    heading(out, 36, &format!("harm beside {}, the most careful peer", RULES[careful]))?;
    for world in of(Change::Bad) {
        let summaries = run_world(world, plan, &ALL);
        let beside = summaries[0].harm_beside(&summaries[careful]).map_or_else(String::new, |ratio| interval(ratio, 2));
        row(out, &world.title, summaries.iter().map(found), 36, &beside)?;
    }
    writeln!(out, "\n{:.1} s", begin.elapsed().as_secs_f64())
}

fn wrong(one: &Summary) -> String {
    let Estimate { value, low, high } = one.rolled_back;
    let percent = Estimate { value: value * 100.0, low: low * 100.0, high: high * 100.0 };
    format!("{} ({:.0})", interval(percent, 1), one.promoted * 100.0)
}

fn found(one: &Summary) -> String {
    let median = one.median_s.map_or_else(|| "-".to_owned(), |seconds| interval(seconds, 0));
    format!("{:.0} / {median} / {}", one.rolled_back.value * 100.0, interval(one.harm, 0))
}

fn interval(Estimate { value, low, high }: Estimate, digits: usize) -> String {
    format!("{value:.digits$} [{low:.digits$}-{high:.digits$}]")
}

fn heading(out: &mut impl io::Write, width: usize, last: &str) -> io::Result<()> {
    row(out, "", RULES.iter().map(|name| (*name).to_owned()), width, last)
}

fn row(
    out: &mut impl io::Write,
    title: &str,
    cells: impl Iterator<Item = String>,
    width: usize,
    last: &str,
) -> io::Result<()> {
    let mut line = format!("{title:30}");
    for cell in cells {
        // A string can be written.
        let _ = write!(line, "{cell:<width$}");
    }
    line.push_str(last);
    writeln!(out, "{}", line.trim_end())?;
    out.flush()
}

#[cfg(test)]
mod tests;
