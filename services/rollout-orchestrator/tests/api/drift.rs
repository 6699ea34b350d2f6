//! Somebody else's change is told, and looked at at once.

use std::time::Duration;

use meshward_proto::{duration, rollout::v1::*};
use tokio::sync::broadcast;

use crate::support::{PATIENCE, Service, request, strategy};

/// A service whose gateway tells of drift, and a deployment that bakes and looks every five minutes only.
async fn baking() -> (Service, broadcast::Sender<String>, String) {
    let service = Service::new().await;
    let (drifts, _) = broadcast::channel(8);
    service.world.state().drifts = Some(drifts.clone());
    let rare = Duration::from_secs(300);
    let rarely = Strategy { analysis_interval: Some(duration(rare)), bake_time: Some(duration(rare)), ..strategy() };
    let asked = CreateDeploymentRequest { strategy: Some(rarely), ..request("p1") };
    let id = service.try_create(asked).await.expect("a deployment").id;
    service.until(&id, DeploymentState::Baking).await;
    listeners(&drifts, 1).await;
    (service, drifts, id)
}

/// Waits until so many streams are open.
async fn listeners(drifts: &broadcast::Sender<String>, wanted: usize) {
    let arrived = async {
        while drifts.receiver_count() != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.unwrap_or_else(|_| panic!("{wanted} streams"));
}

#[tokio::test]
async fn a_change_is_looked_at_when_it_is_told_and_not_an_interval_later() {
    let (service, _, id) = baking().await;
    assert_eq!(service.worker.round().await, 0, "nothing is due");
    let mut changes = service.ports.changes.listen();
    service.world.state().drift("p1");
    tokio::time::timeout(PATIENCE, changes.changed()).await.expect("the word arrives").expect("the worker is there");
    assert_eq!(service.worker.round().await, 1, "it is due at once");
    let paused = service.get(&id).await;
    assert_eq!((paused.state(), paused.weight_bp), (DeploymentState::Paused, 1_000));
    assert!(paused.reason.contains("changed by \"kubectl\""), "{}", paused.reason);
}

#[tokio::test]
async fn a_word_about_nothing_changes_nothing() {
    let (service, drifts, id) = baking().await;
    let mut changes = service.ports.changes.listen();
    let key = service.world.state().versions["p1"].target.key();
    drifts.send(key).expect("somebody listens");
    tokio::time::timeout(PATIENCE, changes.changed()).await.expect("the word arrives").expect("the worker is there");
    assert_eq!(service.worker.round().await, 1);
    assert_eq!(service.get(&id).await.state(), DeploymentState::Baking);
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_and_one_whose_deployment_ends_is_closed() {
    let (service, drifts, id) = baking().await;
    let (again, _) = broadcast::channel(8);
    service.world.state().drifts = Some(again.clone());
    drop(drifts);
    listeners(&again, 1).await;
    let abort = AbortDeploymentRequest { id: id.clone(), ..Default::default() };
    service.client.clone().abort_deployment(service.ask(abort)).await.expect("aborted");
    service.until(&id, DeploymentState::RolledBack).await;
    listeners(&again, 0).await;
}
