//! What a seed makes of the world: the truth about the version, the strategy, and how unreliable everything is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use meshward_model::{PropagationState, Verdict, Weight};
use meshward_rollout_orchestrator::strategy::{OnNoData, Step, Strategy};

use super::dice::Dice;
use crate::world::{Fault, World};

/// What the version is really like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Truth {
    Good,
    /// Worse than the control as soon as it has so much traffic, basis points.
    BadFrom(u16),
    /// Becomes bad after so many questions to the judge.
    BadAfter(u32),
    /// Refused by the proxies from that weight on.
    RefusedFrom(u16),
    /// Nobody measures it.
    Unmeasured,
}

#[derive(Clone)]
pub struct Scenario {
    pub truth: Truth,
    pub strategy: Strategy,
    /// Name of the second replica: another one, or by mistake the same.
    pub other_owner: &'static str,
    fault_percent: u64,
    quiet: Arc<AtomicBool>,
}

impl Scenario {
    pub fn throw(dice: &mut Dice) -> Self {
        let half = Weight::from_basis_points(5_000).expect("a share");
        let weights: &[i64] =
            dice.pick(&[&[1_000, 5_000, 10_000][..], &[2_000, 10_000], &[500, 1_000, 3_000, 9_000, 10_000]]);
        let gated = dice.chance(25);
        let step = |weight: &i64| Step {
            weight: Weight::from_basis_points(*weight).expect("a weight"),
            bake_time: Duration::from_secs(if weights.len() > 3 { 5 } else { 15 }),
            gate: gated && *weight < 10_000,
        };
        let judged: Vec<u16> =
            weights[..weights.len() - 1].iter().map(|w| u16::try_from(*w).expect("a weight")).collect();
        let kinds =
            [Truth::Good, Truth::Good, Truth::BadFrom(0), Truth::BadAfter(0), Truth::RefusedFrom(0), Truth::Unmeasured];
        let truth = match dice.pick(&kinds) {
            Truth::BadFrom(_) => Truth::BadFrom(dice.pick(&judged)),
            Truth::BadAfter(_) => Truth::BadAfter(u32::try_from(dice.below(30)).expect("small")),
            Truth::RefusedFrom(_) => Truth::RefusedFrom(if dice.chance(30) { 10_000 } else { dice.pick(&judged) }),
            truth => truth,
        };
        let strategy = Strategy {
            steps: weights.iter().map(step).collect(),
            analysis_interval: Duration::from_secs(3),
            propagation_timeout: Duration::from_secs(20),
            hold_timeout: Duration::from_secs(30),
            propagation_quorum: dice.pick(&[Weight::FULL, Weight::FULL, half]),
            on_no_data: dice.pick(&[OnNoData::Pause, OnNoData::Pause, OnNoData::Rollback, OnNoData::Proceed]),
            ..Strategy::default()
        };
        let other_owner = dice.pick(&["two", "two", "one"]);
        Self { truth, strategy, other_owner, fault_percent: dice.pick(&[0, 2, 5, 12]), quiet: Arc::default() }
    }

    /// No faults for a while.
    pub fn quiet(&self, quiet: bool) {
        self.quiet.store(quiet, Ordering::Relaxed);
    }

    /// Teaches it to the world.
    pub fn install(&self, world: &World, dice: &mut Dice) {
        let (quiet, percent, mut faults) = (self.quiet.clone(), self.fault_percent, dice.fork());
        let mut state = world.state();
        state.phases = dice.pick(&[1, 1, 2, 4]);
        state.faults = Box::new(move |_| {
            if quiet.load(Ordering::Relaxed) || !faults.chance(percent) {
                return Fault::None;
            }
            faults.pick(&[
                Fault::Lost,
                Fault::ReplyLost,
                Fault::CrashBefore,
                Fault::CrashAfter,
                Fault::StallBefore,
                Fault::StallAfter,
            ])
        });
        let (truth, mut proofs) = (self.truth, dice.fork());
        let mut pending = BTreeMap::new();
        state.proofs = Box::new(move |intent| {
            if refuses(truth, intent.weight) {
                return PropagationState::Refused;
            }
            let left = pending
                .entry(intent.generation)
                .or_insert_with(|| if proofs.chance(6) { 40 } else { proofs.pick(&[0, 0, 1, 3, 6]) });
            if *left == 0 && !proofs.chance(3) {
                return PropagationState::Live;
            }
            *left = u64::saturating_sub(*left, 1);
            proofs.pick(&[PropagationState::Pending, PropagationState::Unknown])
        });
        let (mut verdicts, mut asked) = (dice.fork(), 0);
        state.judge = Box::new(move |question| {
            asked += 1;
            let weight = question.periods.last().map_or(0, |period| period.weight.basis_points());
            match truth {
                Truth::BadFrom(from) if weight >= from => {
                    verdicts.pick(&[Verdict::Regression, Verdict::Watching, Verdict::ProviderError])
                }
                Truth::BadAfter(questions) if asked > questions => Verdict::Regression,
                Truth::Unmeasured => verdicts.pick(&[Verdict::NoData, Verdict::NoTraffic, Verdict::ProviderError]),
                _ => verdicts.pick(&[
                    Verdict::Healthy,
                    Verdict::Healthy,
                    Verdict::Healthy,
                    Verdict::Watching,
                    Verdict::NotComparable,
                    Verdict::NoData,
                ]),
            }
        });
    }

    /// Everybody answers, and says the truth.
    pub fn calm(&self, world: &World) {
        self.quiet(true);
        let truth = self.truth;
        let mut state = world.state();
        state.proofs =
            Box::new(
                move |intent| {
                    if refuses(truth, intent.weight) { PropagationState::Refused } else { PropagationState::Live }
                },
            );
        state.judge = Box::new(move |question| {
            let weight = question.periods.last().map_or(0, |period| period.weight.basis_points());
            match truth {
                Truth::BadFrom(from) if weight >= from => Verdict::Regression,
                Truth::BadAfter(_) => Verdict::Regression,
                Truth::Unmeasured => Verdict::NoData,
                _ => Verdict::Healthy,
            }
        });
    }
}

fn refuses(truth: Truth, weight: Weight) -> bool {
    matches!(truth, Truth::RefusedFrom(from) if weight.basis_points() >= from)
}
