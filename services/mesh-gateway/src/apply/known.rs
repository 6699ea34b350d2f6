//! What is known of pods' labels without a LIST.
//!
//! A step decides on the labels that pods have, and a cache of pods that is behind by a moment still shows those of the
//! step before: a step that follows at once (0 %, after a bad one) would find nothing to do. So a cache is believed
//! only where it cannot hide a label that Meshward gave:
//!
//! * This process itself did the last thing that was done to these labels ([`Division`]): by the same intent, or by the
//!   last phase of the intent before. Nobody has labelled pods for another intent since then if the target carries the
//!   generation of that one still, or was not written at all, since marks come before labels. The cache is waited for
//!   until it has seen what this process did.
//! * This call has labelled a pod. The answer carries the pod's new resourceVersion, and a cache that has seen that one
//!   has seen all that anybody wrote before. (A pod that somebody else changed meanwhile is read, for the same reason.)
//! * It shows no label, and no object carries a deployment's marks.
//! * Every pod gets the same, and it shows one that has it not yet: whatever it hides, this pod is to be changed, and the
//!   answer tells how new the next look must be. So the first step that labels all pods needs no LIST, and neither has
//!   the last that takes the labels away.
//!
//! Otherwise the API server itself is asked, once: after a restart, or when another replica did the last step.

use std::collections::BTreeMap;

use meshward_model::{AppliedObject, ExposureIntent};
use serde_json::Value;

use super::{Marks, fence, mentions, newcomers};
use crate::{
    cluster::{Cluster, ClusterError, Division, Divisions},
    dialect::{Phase, PodCohorts},
    object,
};

/// What a call knows of the labels of the pods that its intent divides.
pub(super) struct Known<'a> {
    divisions: Option<&'a Divisions>,
    target: String,
    /// Whatever the caches have not seen of [`Known::versions`] is all that they can hide.
    pub(super) is_sure: bool,
    /// No object carries marks, so no pod can have a label.
    pub(super) is_unmarked: bool,
    versions: BTreeMap<String, u64>,
    /// Only the API server itself tells, until the call ends.
    is_blind: bool,
}

impl<'a> Known<'a> {
    /// Before the first write of a call.
    pub(super) async fn begin(
        cluster: &'a dyn Cluster,
        intent: &ExposureIntent,
        phases: &[Phase],
    ) -> Result<Self, ClusterError> {
        let divisions = cluster.divisions().filter(|_| phases.iter().any(is_pods));
        let target = intent.target.key();
        let mut known =
            Self { divisions, target, is_sure: false, is_unmarked: false, versions: BTreeMap::new(), is_blind: false };
        let Some(divisions) = divisions else { return Ok(known) };
        let last = divisions.get(&known.target).filter(|last| last.deployment == intent.deployment_id);
        let is_same = |last: &Division| last.generation == intent.generation;
        if last.as_ref().is_some_and(is_same) {
            known.is_sure = true;
        } else {
            let held = phases.iter().find_map(|phase| match phase {
                Phase::Pods(cohorts) if cohorts.label_stable => Some(cohorts),
                _ => None,
            });
            let carrier = carrier(cluster, intent, phases).await?;
            let marks = carrier.as_ref().and_then(Marks::of);
            known.is_unmarked = marks.is_none() && mentions(phases, &intent.target).next().is_some();
            let complete = last.as_ref().filter(|last| last.is_complete);
            known.is_sure = match (complete, marks) {
                (None, _) => false,
                (Some(last), Some(marks)) => {
                    (&*marks.deployment, marks.generation) == (&*last.deployment, last.generation)
                }
                (Some(last), None) => {
                    carrier.is_some_and(|live| object::resource_version(&live) == last.left_as)
                        // Pods can be labelled while that alone is marked.
                        && !newcomers::is_told(cluster, intent, held).await?
                }
            };
        }
        known.versions = last.filter(|_| known.is_sure).map(|last| last.versions).unwrap_or_default();
        Ok(known)
    }

    /// Whether caches can be asked at all.
    pub(super) fn has_caches(&self) -> bool {
        self.divisions.is_some() && !self.is_blind
    }

    /// What a view of a namespace's pods must have seen; empty = nothing.
    pub(super) fn version(&self, namespace: &str) -> String {
        self.versions.get(namespace).map(u64::to_string).unwrap_or_default()
    }

    /// A view must have seen these pods as they are here.
    pub(super) fn must_show<'v>(&mut self, namespace: &str, pods: impl IntoIterator<Item = &'v Value>) {
        for pod in pods {
            match object::resource_version(pod).parse::<u64>() {
                Ok(version) => {
                    let newest = self.versions.entry(namespace.to_owned()).or_default();
                    *newest = version.max(*newest);
                }
                // Versions that cannot be compared tell nothing.
                Err(_) => self.ask_the_cluster(),
            }
        }
    }

    /// A cache cannot be told what it must have seen: a pod is gone, of which no version is known.
    pub(super) fn ask_the_cluster(&mut self) {
        self.is_blind = true;
    }

    /// Pods are changed now, and the answers may be lost.
    pub(super) fn forget(&self) {
        self.divisions.inspect(|divisions| divisions.forget(&self.target));
    }

    /// At the end of a call that did what it should; `is_complete` if no later one of the intent touches pods.
    pub(super) fn remember(&self, intent: &ExposureIntent, objects: &[AppliedObject], is_complete: bool) {
        let Some(divisions) = self.divisions.filter(|_| self.is_sure) else { return };
        let target = objects.iter().find(|object| intent.is_about(&object.target));
        let division = Division {
            deployment: intent.deployment_id.clone(),
            generation: intent.generation,
            is_complete,
            left_as: target.map(|object| object.resource_version.clone()).unwrap_or_default(),
            versions: self.versions.clone(),
        };
        divisions.put(self.target.clone(), division);
    }
}

fn is_pods(phase: &Phase) -> bool {
    matches!(phase, Phase::Pods(_))
}

/// The object that shows whose the pods are: the target, or the first helper where there is no target.
async fn carrier(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    phases: &[Phase],
) -> Result<Option<Value>, ClusterError> {
    let live = cluster.get(&intent.target).await?;
    match fence::helper(phases) {
        Some(helper) if live.is_none() && intent.before(&intent.target).is_none() => cluster.get(helper).await,
        _ => Ok(live),
    }
}

/// Whether a pod has a label of the deployment.
pub(super) fn is_labelled(pod: &Value, wanted: &PodCohorts) -> bool {
    object::metadata_map(pod, "labels").is_some_and(|labels| labels.contains_key(&wanted.key))
}
