//! Whole deployments, from creation to their end.

use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use meshward_model::{PropagationState, Verdict};
use meshward_proto::rollout::v1::*;
use meshward_rollout_orchestrator::peers::Outcome;
use serde_json::json;

use crate::{
    support::{PATIENCE, Service, request, strategy},
    world::plan,
};

#[tokio::test]
async fn a_good_version_is_promoted_step_by_step() {
    let service = Service::new().await;
    let created = service.create().await;
    assert_eq!((created.state(), created.weight_bp, created.step), (DeploymentState::Pending, 0, 0));
    assert_eq!(service.world.state().writes, 0, "nothing is written before it is stored");

    let end = service.until(&created.id, DeploymentState::Promoted).await;
    let expected = [
        "deployment.created PENDING",
        "step.exposing EXPOSING",
        "step.live BAKING",
        "step.exposing EXPOSING",
        "step.live BAKING",
        "deployment.promoting PROMOTING",
        "step.live PROMOTING",
        "deployment.promoted PROMOTED",
    ];
    assert_eq!(service.story(&created.id).await, expected);
    assert_eq!(service.world.object("p1"), (json!({"v": 2}), false), "the version alone, without a trace of us");
    let state = service.world.state();
    assert_eq!(state.outcomes, [(created.id.clone(), Outcome::Promoted)]);
    assert_eq!(state.history.iter().map(|written| written.1).collect::<Vec<_>>(), [1_000, 5_000, 10_000]);
    assert_eq!(state.writes, 3, "one write per step, however often it is looked at");
    let gaps: Vec<_> = state.history.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0).as_secs()).collect();
    assert!(gaps.iter().all(|gap| *gap >= 30), "the bake time is kept: {gaps:?}");
    drop(state);
    assert!(end.end_time.is_some() && end.steps.iter().all(|step| step.live_time.is_some()));
    assert_eq!(end.steps[0].verdict(), meshward_proto::types::v1::Verdict::Healthy);
}

#[tokio::test]
async fn what_takes_several_phases_is_written_when_the_phases_before_are_live() {
    let service = Service::new().await;
    {
        let mut state = service.world.state();
        state.phases = 3;
        let mut asked = 0;
        // The second phase of the first step takes a while.
        state.proofs = Box::new(move |_| {
            asked += 1;
            if (2..6).contains(&asked) { PropagationState::Pending } else { PropagationState::Live }
        });
    }
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Promoted).await;
    let state = service.world.state();
    assert_eq!(state.history.iter().map(|written| written.1).collect::<Vec<_>>(), [1_000, 5_000, 10_000]);
    assert_eq!(state.writes, 3);
}

#[tokio::test]
async fn a_regression_goes_back_and_is_told() {
    let service = Service::new().await;
    service.world.state().judge =
        Box::new(|question| if question.periods.len() > 1 { Verdict::Regression } else { Verdict::Healthy });
    let id = service.create().await.id;
    let end = service.until(&id, DeploymentState::RolledBack).await;
    let story = service.story(&id).await;
    let expected =
        ["deployment.rolling_back ROLLING_BACK", "rollback.live ROLLING_BACK", "deployment.rolled_back ROLLED_BACK"];
    assert_eq!(story[story.len() - 3..], expected);
    assert_eq!(end.reason, "the judge says Regression");
    assert!(end.rollback_report.starts_with("back on 2/2 proxies after"), "{}", end.rollback_report);
    assert_eq!((end.weight_bp, end.step), (0, 1));
    assert_eq!(service.world.object("p1"), (json!({"v": 1}), false));
    let state = service.world.state();
    assert_eq!(state.outcomes, [(id, Outcome::RolledBack)]);
    assert_eq!(state.reasons, ["the judge says Regression"]);
}

#[tokio::test]
async fn the_judge_is_asked_where_the_plan_says_that_the_versions_are_counted() {
    let service = Service::new().await;
    service.world.state().judge = Box::new(|question| {
        let is_planned = question.target == plan().metrics_target && !question.target.cohort_label.is_empty();
        if is_planned { Verdict::Healthy } else { Verdict::Regression }
    });
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Promoted).await;
}

#[tokio::test]
async fn the_judge_learns_from_the_time_before_but_not_from_the_deployment_before() {
    let service = Service::new().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let record = asked.clone();
    service.world.state().judge = Box::new(move |question| {
        let minutes = question.history.as_secs() / 60;
        record.lock().expect("no holder panics").push((question.deployment_id, question.step, minutes));
        if question.step == 1 { Verdict::Regression } else { Verdict::Healthy }
    });
    let mut expected = Vec::new();
    // Of another policy, but of the same host.
    service.world.add_policy("p2", "cart", "shop");
    for (policy, quiet_minutes) in [("p1", 15), ("p2", 4), ("p1", 15)] {
        let id = service.try_create(request(policy)).await.expect("a deployment").id;
        service.until(&id, DeploymentState::RolledBack).await;
        expected.extend([(id.clone(), 0, quiet_minutes), (id, 1, quiet_minutes)]);
        let next = if expected.len() == 2 { 4 * 60 } else { 3600 };
        service.clock.advance(SignedDuration::from_secs(next));
    }
    let mut asked = std::mem::take(&mut *asked.lock().expect("no holder panics"));
    asked.dedup();
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn while_another_deployment_is_under_way_at_the_same_host_nothing_is_learnt_from_before() {
    let service = Service::new().await;
    service.world.add_policy("p2", "cart", "shop");
    service.create().await;
    service.tick(1).await;
    let created = service.try_create(request("p2")).await.expect("a deployment");
    let stored = service.ports.store.get(&created.id).await.expect("an answer").expect("a deployment");
    assert_eq!(stored.history(stored.create_time), std::time::Duration::ZERO);
    let mut elsewhere = stored.clone();
    elsewhere.policy_id = "p3".into();
    assert!(stored.shares_traffic(&elsewhere));
    elsewhere.plan.metrics_target.hosts = vec!["cart.shop.svc.cluster.local".into()];
    assert!(!stored.shares_traffic(&elsewhere));
}

#[tokio::test]
async fn a_refusal_by_a_proxy_goes_back_with_its_words() {
    let service = Service::new().await;
    service.world.state().proofs =
        Box::new(
            |intent| {
                if intent.weight.basis_points() > 0 { PropagationState::Refused } else { PropagationState::Live }
            },
        );
    let id = service.create().await.id;
    let end = service.until(&id, DeploymentState::RolledBack).await;
    assert_eq!(end.reason, "web-0.shop refused the configuration: regex too large");
    assert_eq!(service.world.object("p1"), (json!({"v": 1}), false));
    assert_eq!(service.world.state().outcomes, [(id, Outcome::RolledBack)]);
}

#[tokio::test]
async fn a_regression_while_the_promotion_hangs_still_goes_back() {
    let service = Service::new().await;
    service.world.state().proofs = Box::new(|intent| {
        if intent.weight.basis_points() == 10_000 { PropagationState::Pending } else { PropagationState::Live }
    });
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Promoting).await;
    service.world.judge_says(Verdict::Regression);
    service.until(&id, DeploymentState::RolledBack).await;
    assert!(!service.story(&id).await.contains(&"deployment.paused PAUSED".to_owned()), "at once, not after a pause");
}

#[tokio::test]
async fn a_judge_that_is_down_holds_and_never_promotes() {
    let service = Service::new().await;
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Baking).await;
    service.world.down("metrics-collector");
    service.tick(31).await;
    let held = service.get(&id).await;
    assert_eq!((held.state(), held.weight_bp), (DeploymentState::Baking, 1_000));
    assert!(held.reason.contains("the judge cannot be asked"), "{}", held.reason);
    let paused = service.until(&id, DeploymentState::Paused).await;
    assert!(paused.reason.starts_with("held for 60 s"), "{}", paused.reason);
    assert_eq!(service.world.state().history.len(), 1, "it never went further");
}

#[tokio::test]
async fn a_control_plane_that_is_away_holds_then_pauses() {
    let service = Service::new().await;
    service.world.proof_is(PropagationState::Unknown);
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Exposing).await;
    service.tick(10).await;
    assert_eq!(service.get(&id).await.state(), DeploymentState::Exposing, "unknown is no pass");
    let paused = service.until(&id, DeploymentState::Paused).await;
    assert!(paused.reason.starts_with("not proven live within 20 s"), "{}", paused.reason);
    service.world.proof_is(PropagationState::Live);
    service.tick(60).await;
    assert_eq!(service.get(&id).await.state(), DeploymentState::Paused, "a person resumes it");
    let resume = ResumeDeploymentRequest { id: id.clone(), ..Default::default() };
    service.client.clone().resume_deployment(service.ask(resume)).await.expect("resumed");
    service.until(&id, DeploymentState::Promoted).await;
}

#[tokio::test]
async fn a_change_by_somebody_else_pauses_and_survives() {
    let service = Service::new().await;
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Baking).await;
    service.world.state().drift("p1");
    service.until(&id, DeploymentState::Paused).await;
    let abort = AbortDeploymentRequest { id: id.clone(), ..Default::default() };
    service.client.clone().abort_deployment(service.ask(abort)).await.expect("aborted");
    service.tick(1).await;
    service.tick(10).await;
    assert_eq!(service.get(&id).await.state(), DeploymentState::RollingBack, "not over somebody else's change");
    assert_eq!(service.world.object("p1").0["kubectl"], json!("was here"));
    let story = service.story(&id).await;
    assert_eq!(story.iter().filter(|line| line.starts_with("rollback.stuck")).count(), 1, "told once: {story:?}");
    service.world.state().mend("p1");
    service.until(&id, DeploymentState::RolledBack).await;
    assert_eq!(service.world.object("p1"), (json!({"v": 1}), false));
}

#[tokio::test]
async fn an_end_waits_for_the_registry() {
    let service = Service::new().await;
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Promoting).await;
    service.world.down("policy-registry");
    for _ in 0..20 {
        service.tick(1).await;
    }
    assert_eq!(service.get(&id).await.state(), DeploymentState::Promoting);
    service.world.all_up();
    service.until(&id, DeploymentState::Promoted).await;
}

#[tokio::test]
async fn the_worker_in_the_background_does_the_same() {
    let service = Service::with_background(16).await;
    let mut asked = request("p1");
    asked.strategy = Some(strategy());
    let id = service.try_create(asked).await.expect("a deployment").id;
    let arrived = async {
        while service.get(&id).await.state() != DeploymentState::Promoted {
            service.clock.advance(jiff::SignedDuration::from_secs(5));
            service.ports.changes.tell();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("it is promoted");
    service.server.stop().await.expect("an orderly end");
}
