//! One run of a world: what is counted in each tick of 15 s, at any weight.
//!
//! All that does not depend on the weight (when an event begins, how the arms drift, how many requests arrive) comes
//! from the run's seed alone, so that rules which hold and advance differently look at the same world.

use super::{
    chance::Chance,
    world::{Effect, Event, Happening, Latency, World},
};

/// Length of a tick.
pub const TICK_S: f64 = 15.0;
/// Ticks after it: half an hour.
pub const HORIZON: i64 = 120;
/// The group that becomes the canary has this share of requests before the change.
pub const HISTORY_WEIGHT: u16 = 1000;
/// Moments within which an event begins that says none: the 20 minutes of all steps.
const RANDOM_WITHIN_S: f64 = 1200.0;
/// Upper edges of the finite buckets.
pub const EDGES_MS: [f64; 12] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0];

/// What one arm did in a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arm {
    /// Requests.
    pub requests: u64,
    /// Of those, failed.
    pub errors: u64,
    /// Of those, slower than each of [`EDGES_MS`]; empty if nothing is timed.
    pub slow: Vec<u64>,
}

/// One tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The version on trial.
    pub canary: Arm,
    /// The other.
    pub control: Arm,
    /// Prometheus does not answer at the tick's end.
    pub outage: bool,
    /// Expected requests that failed or were slowed because of the change.
    pub harm: f64,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Simulation<'a> {
    world: &'a World,
    seed: u64,
    /// Ticks before the canary gets its first weight.
    history: i64,
    /// Logarithm of the canary's error rate over the control's, by tick from the first of the history on.
    drift: Vec<f64>,
    /// With their moments.
    events: Vec<(f64, Event)>,
}

impl<'a> Simulation<'a> {
    /// A run of a world with this seed and so many ticks of history.
    #[must_use]
    pub fn new(world: &'a World, seed: u64, history: u32) -> Self {
        let mut chance = Chance::of(&[seed, 1]);
        let moment = |event: &Event| event.from_s.unwrap_or_else(|| (chance.unit() * RANDOM_WITHIN_S).floor());
        let begins: Vec<f64> = world.events.iter().map(moment).collect();
        let events = begins.into_iter().zip(world.events.iter().copied()).collect();
        let history = i64::from(history);
        Self { world, seed, history, drift: drift(world, history, &mut chance), events }
    }

    /// Ticks before the canary gets its first weight.
    #[must_use]
    pub fn history(&self) -> i64 {
        self.history
    }

    /// What is counted in a tick at a weight. Ticks from the history, before 0, up to [`HORIZON`].
    #[must_use]
    pub fn tick(&self, index: i64, weight: u16) -> Seen {
        let second = index as f64 * TICK_S;
        let world = self.world;
        let mut chance = Chance::of(&[self.seed, 2, index.unsigned_abs(), u64::from(index < 0)]);
        let swing = (1.0 + world.swing * chance.normal()).max(0.0);
        let all = world.requests_per_second * TICK_S * swing;
        let share = f64::from(weight) / 10_000.0;
        let effect = world
            .effects
            .iter()
            .rfind(|effect| index >= 0 && second >= effect.from_s && weight > 0 && weight >= effect.from_weight);
        let base = self.rate(second, Happening::ControlErrors);
        let ratio = world.canary_ratio * self.drift_at(index).exp();
        let unchanged = (self.rate(second, Happening::CanaryErrors) * ratio).min(1.0);
        let changed = effect.and_then(|effect| effect.error_rate).map_or(unchanged, |rate| rate.max(unchanged));
        let mut arm = |share: f64, rate: f64, effect: Option<&Effect>| self.arm(&mut chance, all * share, rate, effect);
        let control = arm(1.0 - share, base, None);
        let canary = arm(share, changed, effect);
        let slowed = effect.map_or(0.0, |effect| if effect.latency_factor > 1.0 { 1.0 } else { effect.slow_share });
        let harm = all * share * (changed - unchanged + slowed);
        Seen { canary, control, outage: self.during(second + TICK_S, Happening::Outage).is_some(), harm }
    }

    /// Error rate of an arm that has its own events besides the shared ones.
    fn rate(&self, second: f64, own: Happening) -> f64 {
        let shared = self.during(second, Happening::SharedErrors);
        let event = self.during(second, own).or(shared);
        event.map_or(self.world.error_rate, |event| event.error_rate)
    }

    fn during(&self, second: f64, what: Happening) -> Option<&Event> {
        let on =
            |(from, event): &&(f64, Event)| event.what == what && second >= *from && second < *from + event.seconds;
        self.events.iter().find(on).map(|(_, event)| event)
    }

    fn drift_at(&self, index: i64) -> f64 {
        usize::try_from(index + self.history).ok().and_then(|at| self.drift.get(at)).copied().unwrap_or(0.0)
    }

    fn arm(&self, chance: &mut Chance, mean: f64, rate: f64, effect: Option<&Effect>) -> Arm {
        let requests = chance.poisson(mean);
        let errors = self.errors(chance, requests, rate);
        let slow = self.world.latency.map_or_else(Vec::new, |law| slow(chance, requests, law, effect));
        Arm { requests, errors, slow }
    }

    fn errors(&self, chance: &mut Chance, requests: u64, rate: f64) -> u64 {
        let cluster = self.world.cluster;
        if cluster.size <= 1.0 || rate >= 0.5 {
            return chance.binomial(requests, rate);
        }
        let clusters = chance.poisson(requests as f64 * rate / cluster.size);
        let size = |chance: &mut Chance| {
            if cluster.geometric { chance.geometric(cluster.size) } else { cluster.size.round() as u64 }
        };
        (0..clusters).map(|_| size(chance)).sum::<u64>().min(requests)
    }
}

fn drift(world: &World, history: i64, chance: &mut Chance) -> Vec<f64> {
    let Some(law) = world.drift else { return Vec::new() };
    let keep = (-TICK_S / 60.0 / law.minutes).exp();
    let mut value = law.spread * chance.normal();
    let mut next = || {
        value = keep * value + (1.0 - keep * keep).sqrt() * law.spread * chance.normal();
        value
    };
    (0..history + HORIZON).map(|_| next()).collect()
}

/// Requests beyond each edge: each edge takes its part of those beyond the one before.
fn slow(chance: &mut Chance, requests: u64, law: Latency, effect: Option<&Effect>) -> Vec<u64> {
    let factor = effect.map_or(1.0, |effect| effect.latency_factor);
    let (share, extra) = effect.map_or((0.0, 0.0), |effect| (effect.slow_share, effect.slow_ms));
    let beyond = |edge: f64| {
        if edge <= 0.0 { 1.0 } else { upper_tail((edge / (law.median_ms * factor)).ln() / law.spread) }
    };
    let (mut left, mut before) = (requests, 1.0_f64);
    let mut next = |edge: &f64| {
        let now = (1.0 - share) * beyond(*edge) + share * beyond(edge - extra);
        left = if before > 0.0 { chance.binomial(left, now / before) } else { 0 };
        before = now;
        left
    };
    EDGES_MS.iter().map(&mut next).collect()
}

/// Probability that a standard normal value exceeds `z`; good to 1e-7 (Abramowitz and Stegun 26.2.17).
pub(super) fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let t = (1.0 + 0.231_641_9 * z).recip();
    let factors = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = factors.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::{super::world, *};

    fn one(more: &str) -> World {
        let text = format!("- {{title: a, change: bad, requests_per_second: 100, error_rate: 0.01{more}}}");
        world::parse("a", &text).expect("a world").remove(0)
    }

    #[test]
    fn the_same_seed_is_the_same_run_and_another_is_not() {
        let world = one(", swing: 0.3");
        let run = |seed| (0..5).map(|tick| Simulation::new(&world, seed, 60).tick(tick, 1000)).collect::<Vec<_>>();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn effects_events_and_history_are_where_they_should_be() {
        let world = one(", effects: [{from_s: 30, from_weight: 3000, error_rate: 1}], \
             events: [{what: outage, from_s: 45, seconds: 30}, {what: shared_errors, from_s: 60, seconds: 15, \
             error_rate: 0.9}]");
        let run = Simulation::new(&world, 7, 60);
        let rates = |tick: i64, weight: u16| {
            let seen = run.tick(tick, weight);
            let rate = |arm: &Arm| (arm.errors as f64 / arm.requests.max(1) as f64 * 10.0).round() / 10.0;
            (rate(&seen.canary), rate(&seen.control))
        };
        assert_eq!(rates(-1, 5000), (0.0, 0.0), "the history is good");
        assert_eq!(rates(1, 5000), (0.0, 0.0), "not yet");
        assert_eq!(rates(2, 2999), (0.0, 0.0), "not at this weight");
        assert_eq!(rates(2, 5000), (1.0, 0.0));
        assert_eq!(rates(4, 1000), (0.9, 0.9), "both arms");
        let out: Vec<i64> = (0..8).filter(|tick| run.tick(*tick, 1000).outage).collect();
        assert_eq!(out, [2, 3], "readings at 45 s and 60 s fail");
        assert!((run.tick(2, 5000).harm / 750.0 - 0.99).abs() < 0.01);
    }

    #[test]
    fn latencies_follow_their_law() {
        let world = one(", latency: {median_ms: 50, spread: 0.7}, effects: [{slow_share: 0.1, slow_ms: 600}]");
        let seen = Simulation::new(&world, 3, 60).tick(0, 5000);
        let shares = |arm: &Arm| [4, 7, 11].map(|edge| (arm.slow[edge] as f64 / arm.requests as f64 * 20.0).round());
        assert_eq!(shares(&seen.control), [10.0, 0.0, 0.0], "half beyond the median");
        assert_eq!(shares(&seen.canary)[1], 2.0, "a tenth is beyond 500 ms");
        assert!((upper_tail(1.96) - 0.025).abs() < 1e-4 && (upper_tail(-1.0) - 0.8413).abs() < 1e-4);
    }
}
