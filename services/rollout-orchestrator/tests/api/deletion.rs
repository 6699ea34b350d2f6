//! A version may be that the object is gone: released like any other, and put back like any other.

use std::sync::{Arc, Mutex};

use meshward_model::{PropagationState, Verdict};
use meshward_proto::rollout::v1::*;
use serde_json::{Value, json};

use crate::support::Service;

/// A service whose policy p1 has a deletion as its newest version.
async fn with_deletion() -> Service {
    let service = Service::new().await;
    {
        let mut state = service.world.state();
        let version = state.versions.get_mut("p1").expect("p1");
        (version.object, version.yaml) = (Value::Null, String::new());
    }
    service
}

#[tokio::test]
async fn a_deletion_is_exposed_step_by_step_and_at_the_end_the_object_is_gone() {
    let service = with_deletion().await;
    // Nobody has a text to judge.
    service.world.down("validator");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let intents = Arc::clone(&seen);
    service.world.state().proofs = Box::new(move |intent| {
        intents.lock().expect("no holder panics").push(intent);
        PropagationState::Live
    });
    let created = service.create().await;
    assert!(created.deletion, "{created:?}");
    let ended = service.until(&created.id, DeploymentState::Promoted).await;
    assert_eq!((ended.deletion, service.world.object("p1")), (true, (Value::Null, false)));
    let weights: Vec<_> = service.world.state().history.iter().map(|(_, weight, _)| *weight).collect();
    assert_eq!(weights, [1_000, 5_000, 10_000]);
    assert!(seen.lock().expect("no holder panics").iter().all(|intent| intent.canary.is_null()));
    let events = service.ports.store.events(&created.id, 0, 1).await.expect("events");
    assert!(events[0].message.contains("that it is gone, is released"), "{}", events[0].message);
}

#[tokio::test]
async fn a_deletion_that_is_a_regression_leaves_the_object_as_it_was() {
    let service = with_deletion().await;
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Baking).await;
    service.world.judge_says(Verdict::Regression);
    service.until(&id, DeploymentState::RolledBack).await;
    assert_eq!(service.world.object("p1"), (json!({"v": 1}), false));
}
