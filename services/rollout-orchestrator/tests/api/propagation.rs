//! On which proxies a step must be proven live, and who is named when it is not.

use meshward_model::{PropagationState, Verdict};
use meshward_proto::rollout::v1::*;

use crate::support::{Service, request, strategy};

/// A deployment whose steps count when half of the proxies have them; returns its id.
async fn create_with_half(service: &Service, policy: &str) -> String {
    let half = Strategy { propagation_quorum_bp: 5_000, ..strategy() };
    let asked = CreateDeploymentRequest { strategy: Some(half), ..request(policy) };
    service.try_create(asked).await.expect("a deployment").id
}

/// Concerned, acknowledged and laggards of a step.
fn propagation(deployment: &Deployment, step: usize) -> (i32, i32, Vec<String>) {
    let seen = deployment.steps[step].propagation.clone().expect("somebody was asked");
    (seen.concerned, seen.acknowledged, seen.laggards)
}

/// One of two proxies lags, always.
#[tokio::test]
async fn a_quorum_goes_on_without_the_laggards_and_names_them() {
    let service = Service::new().await;
    service.world.proof_is(PropagationState::Pending);
    let all = service.create().await;
    let paused = service.until(&all.id, DeploymentState::Paused).await;
    assert!(paused.reason.starts_with("not proven live within 20 s"), "{}", paused.reason);
    assert_eq!(propagation(&paused, 0), (2, 1, vec!["web-1.shop".to_owned()]), "who lags is named");

    service.world.add_policy("p2", "cart", "shop");
    let id = create_with_half(&service, "p2").await;
    let end = service.until(&id, DeploymentState::Promoted).await;
    for step in 0..3 {
        assert_eq!(propagation(&end, step), (2, 1, vec!["web-1.shop".to_owned()]), "step {step}");
    }
    assert_eq!(end.strategy.expect("a strategy").propagation_quorum_bp, 5_000);
}

#[tokio::test]
async fn a_laggard_that_comes_later_is_no_laggard_any_more() {
    let service = Service::new().await;
    service.world.proof_is(PropagationState::Pending);
    let id = create_with_half(&service, "p1").await;
    let baking = service.until(&id, DeploymentState::Baking).await;
    assert_eq!(propagation(&baking, 0), (2, 1, vec!["web-1.shop".to_owned()]));
    service.world.proof_is(PropagationState::Live);
    service.tick(5).await;
    assert_eq!(propagation(&service.get(&id).await, 0), (2, 2, vec![]));
}

/// Rule 3: what is referred to is live wherever it is referred to.
#[tokio::test]
async fn a_quorum_counts_for_the_last_phase_of_a_step_and_not_for_what_it_rests_on() {
    let service = Service::new().await;
    service.world.state().phases = 2;
    service.world.proof_is(PropagationState::Pending);
    let id = create_with_half(&service, "p1").await;
    service.until(&id, DeploymentState::Paused).await;
    assert_eq!(service.world.state().writes, 0, "the phase that refers to the first one was not written");
}

#[tokio::test]
async fn the_way_back_is_proven_on_all_proxies_and_names_who_lags() {
    let service = Service::new().await;
    let id = create_with_half(&service, "p1").await;
    service.until(&id, DeploymentState::Baking).await;
    service.world.judge_says(Verdict::Regression);
    service.world.proof_is(PropagationState::Pending);
    service.until(&id, DeploymentState::RollingBack).await;
    for _ in 0..30 {
        service.tick(1).await;
    }
    let late = service.get(&id).await;
    assert_eq!(late.state(), DeploymentState::RollingBack, "{}", late.reason);
    assert!(late.reason.contains("not proven live within 20 s: the proof says Pending; not on web-1.shop"), "{late:?}");
    let story = service.story(&id).await;
    assert_eq!(story.iter().filter(|line| line.starts_with("rollback.stuck")).count(), 1, "told once: {story:?}");
    service.world.proof_is(PropagationState::Live);
    service.until(&id, DeploymentState::RolledBack).await;
}
