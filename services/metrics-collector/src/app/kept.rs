//! Verdicts that were given, for as long as somebody may ask why.
//!
//! In memory, bounded by number and by age, and by number again for each step, so that a step that is looked at often
//! does not push out the others. Nothing is lost with a verdict that is let go: each holds *all* ticks since its
//! deployment began, so the newest of a step tells whatever the earlier ones told, but for the moment at which they were
//! said. A restart forgets them all, and each replica knows its own; asking RunAnalysis again gives the same verdict as
//! long as Prometheus has the data. Those that a deployment was decided by are kept by the rollout-orchestrator in its
//! database, with the same explanation: this service has none, so that any number of replicas can come and go.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;

use super::explain::Explanation;

/// Verdicts of one step that are kept at most.
pub const MAX_OF_STEP: usize = 8;

/// How many are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Of all deployments together.
    pub most: usize,
    /// Since they were given.
    pub age: Duration,
}

/// Which one is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this id.
    Id(String),
    /// The newest of a deployment, or of one of its steps.
    Newest {
        /// Of which.
        deployment_id: String,
        /// `None` = of any.
        step: Option<i32>,
    },
}

/// The kept verdicts.
#[derive(Debug)]
pub struct Kept {
    retention: Retention,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    by_id: HashMap<String, Arc<Explanation>>,
    /// Ids, oldest first; some may be gone already.
    order: VecDeque<String>,
    /// Ids of each step, oldest first.
    steps: HashMap<Step, VecDeque<String>>,
}

/// Analyses without a deployment are told apart by their target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Step(String, i32);

impl Step {
    fn of(explanation: &Explanation) -> Self {
        if explanation.deployment_id.is_empty() {
            return Self(format!("{:?}", explanation.target), explanation.step);
        }
        Self(explanation.deployment_id.clone(), explanation.step)
    }
}

impl Kept {
    /// None yet.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self { retention, all: Mutex::default() }
    }

    /// Keeps one under the id of its analysis, and lets go what is too much or too old.
    pub fn keep(&self, explanation: Explanation, now: Timestamp) {
        let (id, step) = (explanation.analysis.id.clone(), Step::of(&explanation));
        let mut all = self.all.lock().expect("no holder panics");
        all.order.push_back(id.clone());
        all.steps.entry(step.clone()).or_default().push_back(id.clone());
        all.by_id.insert(id, Arc::new(explanation));
        if all.steps.get(&step).is_some_and(|ids| ids.len() > MAX_OF_STEP) {
            all.forget_first_of(&step);
        }
        all.enforce(&self.retention, now);
    }

    /// The one that is wanted.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub fn find(&self, which: &Which, now: Timestamp) -> Result<Arc<Explanation>, String> {
        let mut all = self.all.lock().expect("no holder panics");
        all.enforce(&self.retention, now);
        all.find(which).ok_or_else(|| self.why_not(which, &all))
    }

    fn why_not(&self, which: &Which, all: &All) -> String {
        let Retention { most, age } = self.retention;
        let what = match which {
            Which::Id(_) => "is not kept".to_owned(),
            Which::Newest { step: None, .. } => "has no verdict that is kept".to_owned(),
            Which::Newest { step: Some(step), .. } => format!("has no verdict of step {step} that is kept"),
        };
        format!(
            "{what} here: verdicts are kept for {} s, the newest {most} of all and {MAX_OF_STEP} of each step, in the memory \
             of the replica that gave them; {} are kept now. The rollout-orchestrator keeps those of its deployments for long; \
             RunAnalysis judges the same data again",
            age.as_secs(),
            all.by_id.len(),
        )
    }
}

impl All {
    fn find(&self, which: &Which) -> Option<Arc<Explanation>> {
        match which {
            Which::Id(id) => self.by_id.get(id).cloned(),
            Which::Newest { deployment_id, step: Some(step) } => {
                let ids = self.steps.get(&Step(deployment_id.clone(), *step))?;
                ids.back().and_then(|id| self.by_id.get(id)).cloned()
            }
            Which::Newest { deployment_id, step: None } => {
                let newest_first = self.order.iter().rev().filter_map(|id| self.by_id.get(id));
                newest_first.into_iter().find(|one| one.deployment_id == *deployment_id).cloned()
            }
        }
    }

    fn enforce(&mut self, retention: &Retention, now: Timestamp) {
        while let Some(oldest) = self.order.front() {
            let too_old = |one: &Arc<Explanation>| {
                Duration::try_from(now.duration_since(one.analysis.time)).is_ok_and(|age| age > retention.age)
            };
            match self.by_id.get(oldest) {
                Some(one) if too_old(one) || self.by_id.len() > retention.most => {
                    let step = Step::of(one);
                    self.forget_first_of(&step);
                }
                Some(_) => break,
                None => {}
            }
            self.order.pop_front();
        }
        // Ids of verdicts that made room for newer ones of their step.
        if self.order.len() > 2 * self.by_id.len().max(64) {
            let by_id = &self.by_id;
            self.order.retain(|id| by_id.contains_key(id));
        }
    }

    /// The oldest of a step; ids of a step are in the order of all.
    fn forget_first_of(&mut self, step: &Step) {
        let Some(ids) = self.steps.get_mut(step) else { return };
        if let Some(id) = ids.pop_front() {
            self.by_id.remove(&id);
        }
        if ids.is_empty() {
            self.steps.remove(step);
        }
    }
}

#[cfg(test)]
mod tests;
