//! One rollout: a rule watches, and holds, goes on or rolls back.

use super::{
    rules::{Rule, Say},
    simulation::{HISTORY_WEIGHT, HORIZON, Simulation, TICK_S},
};

/// Weights in basis points, five minutes each; then the canary has everything.
pub const STEPS: [u16; 4] = [1000, 3000, 5000, 9000];
const TICKS_A_STEP: i64 = 20;
const EVERYTHING: u16 = 10_000;

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Seconds after the canary's first weight.
    pub rolled_back: Option<f64>,
    /// The canary got everything within half an hour.
    pub promoted: bool,
    /// Requests that failed or were slowed because of the change, within half an hour.
    pub harm: f64,
}

/// Lets a rule watch a run.
pub fn roll_out(world: &Simulation<'_>, rule: &mut dyn Rule) -> Outcome {
    let mut outcome = Outcome::default();
    rule.begin_step(0);
    (-world.history()..0).for_each(|index| rule.learn(index, &world.tick(index, HISTORY_WEIGHT)));
    let (mut step, mut begun) = (0, 0);
    rule.begin_step(STEPS[step]);
    for index in 0..HORIZON {
        let weight = STEPS.get(step).copied().unwrap_or(EVERYTHING);
        let seen = world.tick(index, weight);
        outcome.harm += seen.harm;
        if weight == EVERYTHING {
            continue;
        }
        let over = index + 1 - begun >= TICKS_A_STEP;
        match rule.tick(index, &seen, over) {
            Say::RollBack => {
                outcome.rolled_back = Some((index + 1) as f64 * TICK_S);
                return outcome;
            }
            Say::Advance if over => {
                (step, begun) = (step + 1, index + 1);
                outcome.promoted = step == STEPS.len();
                rule.begin_step(STEPS.get(step).copied().unwrap_or(EVERYTHING));
            }
            Say::Advance | Say::Hold => {}
        }
    }
    outcome
}
