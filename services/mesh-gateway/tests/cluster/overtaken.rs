//! Two calls of one deployment at once: while one waits for the proof of a phase, another one goes on to the next. Who is
//! behind finds an object that it did not leave so, and it was not somebody else who changed it.
//!
//! Seen at an EnvoyFilter by INSTANCE, whose end takes two writes of the object: the deployment paused in the name of the
//! team that had made it.

use std::time::Duration;

use meshward_mesh_gateway::proof::Patience;
use meshward_model::{AppliedObject, ExposureIntent, PropagationProof, PropagationState, Weight};

use super::{
    contract::Backend,
    life::{Life, Walk, clear},
    ways::{Way, ways},
};

/// Way by way, on a cluster that [`super::life`] was tried on.
pub async fn who_is_behind_is_told_of_strangers_only(backend: &dyn Backend) {
    for way in ways() {
        let life = Life::begin(backend, &way, usize::MAX).await;
        all_phases(&life, &way, &life.at(1, 5000)).await;
        all_phases(&life, &way, &life.at(2, 10_000)).await;
        if !way.before.is_null() {
            let life = Life::begin(backend, &way, usize::MAX).await;
            let step = life.at(1, 5000);
            let objects = all_phases(&life, &way, &step).await;
            backend.apply_as("argocd", &way.theirs).await;
            let own: Vec<_> = objects.into_iter().filter(|applied| step.is_about(&applied.target)).collect();
            let proof = verified(&life, &step, &own).await;
            let is_named = proof.state == PropagationState::Drifted && proof.drift_manager == "argocd";
            assert!(is_named, "{} by {:?}: {proof:?}", way.name, way.mechanism);
        }
        clear(backend, &way).await;
    }
}

/// Goes on phase by phase, and asks for the proof of each one before after each; what the last one has left.
async fn all_phases(life: &Life<'_>, way: &Way, intent: &ExposureIntent) -> Vec<AppliedObject> {
    let mut earlier = Vec::new();
    loop {
        let phase = earlier.len().try_into().expect("a few phases");
        let outcome = life.ask(Walk::On, intent, phase).await.expect("a phase");
        earlier.push(outcome.objects);
        for (behind, objects) in earlier.iter().enumerate() {
            let proof = verified(life, intent, objects).await;
            let what = format!("{} by {:?} at {}", way.name, way.mechanism, intent.weight);
            let is_drift = proof.state == PropagationState::Drifted;
            assert!(!is_drift, "{what}, phase {behind} after phase {phase}: {proof:?}");
        }
        if !outcome.more {
            return earlier.pop().unwrap_or_default();
        }
    }
}

async fn verified(life: &Life<'_>, intent: &ExposureIntent, objects: &[AppliedObject]) -> PropagationProof {
    let patience = Patience { timeout: Duration::ZERO, quorum: Weight::ZERO };
    life.gateway.verify(intent, objects, patience).await.expect("an answer")
}
