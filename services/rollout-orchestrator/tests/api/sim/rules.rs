//! What must hold in every world, at every moment.

use meshward_model::Verdict;
use meshward_rollout_orchestrator::{
    deployment::{Cause, Deployment, Event, State},
    peers::Outcome,
    strategy::OnNoData,
};
use serde_json::json;

use super::scenario::{Scenario, Truth};
use crate::world;

/// Kinds of events after which the deployment is in another state than before. The others tell what happened within one.
const TURNS: [&str; 9] = [
    "deployment.created",
    "step.exposing",
    "step.live",
    "step.waiting",
    "deployment.paused",
    "deployment.promoting",
    "deployment.promoted",
    "deployment.rolling_back",
    "deployment.rolled_back",
];

/// Checks one deployment's life; remembers what was seen.
pub struct Rules {
    scenario: Scenario,
    events: Vec<Event>,
    generation: u64,
    writes: usize,
}

impl Rules {
    pub fn new(scenario: Scenario) -> Self {
        Self { scenario, events: Vec::new(), generation: 0, writes: 0 }
    }

    pub fn last_sequence(&self) -> i64 {
        self.events.last().map_or(0, |event| event.sequence)
    }

    pub fn check(&mut self, deployment: &Deployment, events: Vec<Event>, world: &world::State) {
        for event in events {
            self.told(event);
        }
        let last = self.events.last().expect("every deployment has an event");
        assert_eq!(last.state, deployment.state.name(), "a state that no event tells of: {:#?}", self.events);
        assert!(deployment.generation >= self.generation, "the generation fell");
        self.generation = deployment.generation;
        let live = world.objects[&deployment.target.key()].weight();
        let most = self.most(deployment);
        assert!(live <= most, "{live} bp are live, but {} allows {most}: {deployment:#?}", deployment.state.name());
        for written in &world.history[self.writes..] {
            self.earned(written.1, &world.verdicts[..written.2]);
        }
        self.writes = world.history.len();
    }

    /// Sequences have no gaps, and each turn is told exactly once.
    fn told(&mut self, event: Event) {
        assert_eq!(event.sequence, self.last_sequence() + 1, "a gap after {:#?}", self.events);
        let before = self.events.last().map_or("", |event| event.state.as_str());
        // A promotion's proof leaves it PROMOTING.
        let is_turn =
            TURNS.contains(&event.kind.as_str()) && !(event.kind == "step.live" && event.state == "PROMOTING");
        assert_eq!(before != event.state, is_turn, "{event:?} after {before}");
        self.events.push(event);
    }

    /// Most that may be live, basis points.
    fn most(&self, deployment: &Deployment) -> u16 {
        let of_step = |step: usize| self.scenario.strategy.steps[step].weight.basis_points();
        match deployment.state {
            // Not yet put back.
            State::RollingBack { step, proven: false, .. } => of_step(step),
            _ => deployment.weight().basis_points(),
        }
    }

    /// A step is written only after the judge was content with the one before it.
    fn earned(&self, weight: u16, verdicts: &[(u16, Verdict)]) {
        if self.scenario.strategy.on_no_data == OnNoData::Proceed {
            return;
        }
        let steps = self.scenario.strategy.steps.iter().map(|step| step.weight.basis_points());
        let Some(before) = steps.take_while(|step| *step < weight).last().filter(|_| weight > 0) else { return };
        assert!(verdicts.contains(&(before, Verdict::Healthy)), "{weight} bp without a healthy verdict at {before}");
    }

    /// The end is one of the two, whole, and the registry knows it.
    pub fn check_end(&self, deployment: &Deployment, world: &world::State) -> String {
        let object = &world.objects[&deployment.target.key()];
        let (version, outcome, name) = match deployment.state {
            State::Promoted { .. } => (2, Outcome::Promoted, "PROMOTED".to_owned()),
            State::RolledBack { cause: Cause::Abort, .. } => (1, Outcome::Aborted, "ROLLED_BACK Abort".to_owned()),
            State::RolledBack { cause, .. } => (1, Outcome::RolledBack, format!("ROLLED_BACK {cause:?}")),
            _ => panic!("it has not ended: {deployment:#?}"),
        };
        assert_eq!(
            (&object.spec, &object.marks),
            (&json!({"v": version}), &None),
            "not exactly one of the two versions"
        );
        assert_eq!(world.outcomes, [(deployment.id.clone(), outcome)], "what the registry was told");
        let proceeds = self.scenario.strategy.on_no_data == OnNoData::Proceed;
        let must_go_back = match self.scenario.truth {
            Truth::BadFrom(_) | Truth::Unmeasured => !proceeds,
            Truth::RefusedFrom(_) => true,
            Truth::Good | Truth::BadAfter(_) => false,
        };
        assert!(!must_go_back || version == 1, "promoted although {:?}", self.scenario.truth);
        name
    }
}
