//! The fence of pods' labels.

use meshward_model::{ExposureIntent, Target};
use serde_json::Value;

use super::{Case, Marks, ROUNDS, act, decide, mentions, restore};
use crate::{
    cluster::{Cluster, ClusterError},
    dialect::{Desired, Phase, Wanted},
    error::Error,
};

/// What holds back a late writer of pods' labels: the object that the deployment is about.
pub(super) struct Fence<'a> {
    pub(super) cluster: &'a dyn Cluster,
    pub(super) intent: &'a ExposureIntent,
    pub(super) phases: &'a [Phase],
    /// The phase of pods that it is for.
    pub(super) index: usize,
}

impl Fence<'_> {
    /// The phases that come after it.
    pub(super) fn later(&self) -> &[Phase] {
        &self.phases[self.index + 1..]
    }

    /// Whether the objects of a later phase are as that phase wants them: then the pods are further than this phase.
    pub(super) async fn is_overtaken(&self) -> Result<bool, Error> {
        for phase in self.later() {
            let Phase::Objects(objects) = phase else { continue };
            let mut all = true;
            for desired in objects {
                let live = self.cluster.get(&desired.target).await?;
                let case = Case::of(self.intent, &desired.target);
                all = all && decide::has_content(live.as_ref(), &case, desired);
            }
            if all {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses if the object carries a newer generation, or belongs to another deployment.
    pub(super) async fn check(&self) -> Result<(), Error> {
        self.unmarked().await.map(drop)
    }

    /// The same, and sees to it that the object carries this intent's generation. Where there was no such object and is
    /// none yet, a helper carries it. One that carries nothing yet is left so if it `is_held`: a helper shows that the
    /// deployment is at work, and the first write of the object, which is still to come, marks it. Whether it was raised.
    pub(super) async fn raise(&self, is_held: bool, writes: &mut u32) -> Result<bool, Error> {
        let Self { cluster, intent, .. } = *self;
        let mut is_raised = false;
        for _ in 0..ROUNDS {
            let Some((target, live)) = self.unmarked().await? else { return Ok(is_raised) };
            if is_held && Marks::of(&live).is_none() {
                return Ok(is_raised);
            }
            match act(cluster, target, restore::mark(&live, &Case::of(intent, target))).await {
                Ok(_) => {
                    *writes += 1;
                    is_raised = true;
                }
                Err(ClusterError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ClusterError::Conflict(format!("{} changes faster than it can be marked", intent.target)).into())
    }

    /// The object that shall carry this generation and does not yet, as it stands.
    async fn unmarked(&self) -> Result<Option<(&Target, Value)>, Error> {
        let Self { cluster, intent, phases, index } = *self;
        let target = &intent.target;
        let case = Case::of(intent, target);
        if mentions(phases, target).next().is_none() {
            return self.unmarked_helper().await;
        }
        let Some(live) = cluster.get(target).await? else {
            return match case.baseline {
                None => self.unmarked_helper().await,
                Some(_) if case.removes() => Ok(None),
                Some(_) => Err(decide::deleted(target)),
            };
        };
        if let Some(marks) = Marks::of(&live) {
            decide::check_marks(&live, &marks, &case)?;
            return Ok((marks.generation != intent.generation).then_some((target, live)));
        }
        // It has come to its end in an earlier phase.
        let mut before = mentions(&phases[..index], target);
        if before.any(|desired| decide::is_reached(Some(&live), &case, desired)) {
            return Ok(None);
        }
        let is_way_back = mentions(self.later(), target).any(|next| next.wanted == Wanted::Baseline);
        if !is_way_back {
            decide::check_unmarked(&live, &case)?;
        } else if restore::check_first(&live, &case)? {
            return Ok(None);
        }
        Ok(Some((target, live)))
    }

    /// The same of the first helper, if it is there: one that need not change keeps the generation that made it, and
    /// would let a late writer of a step in between pass.
    async fn unmarked_helper(&self) -> Result<Option<(&Target, Value)>, Error> {
        let Self { cluster, intent, phases, .. } = *self;
        let Some(target) = helper(phases) else { return Ok(None) };
        let Some(live) = cluster.get(target).await? else { return Ok(None) };
        let Some(marks) = Marks::of(&live) else { return Ok(None) };
        decide::check_marks(&live, &marks, &Case::of(intent, target))?;
        Ok((marks.generation != intent.generation).then_some((target, live)))
    }
}

/// The first object of Meshward's own in the phases.
pub(super) fn helper(phases: &[Phase]) -> Option<&Target> {
    let objects = phases.iter().filter_map(|phase| match phase {
        Phase::Objects(objects) => Some(objects),
        Phase::Pods(_) => None,
    });
    let is_helper = |desired: &&Desired| matches!(desired.wanted, Wanted::Helper(_) | Wanted::Gone);
    objects.flatten().find(is_helper).map(|desired| &desired.target)
}
