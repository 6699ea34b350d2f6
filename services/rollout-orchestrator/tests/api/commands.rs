//! What people may do to a deployment.

use std::pin::{Pin, pin};

use jiff::SignedDuration;
use meshward_chassis::{auth::Role, testing::Grant};
use meshward_model::PropagationState;
use meshward_proto::rollout::v1::*;
use meshward_rollout_orchestrator::peers::Outcome;
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    support::{Service, reason, request, strategy},
    world::{Call, Fault, Interrupt},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Promote,
    Rollback,
    Pause,
    Resume,
    Abort,
}

use Verb::{Abort, Pause, Promote, Resume, Rollback};

const ALL: [Verb; 5] = [Promote, Rollback, Pause, Resume, Abort];

impl Verb {
    async fn send(self, service: &Service, who: &Grant, id: &str, etag: &str) -> Result<Deployment, Status> {
        let mut client = service.client.clone();
        let (id, etag, reason) = (id.to_owned(), etag.to_owned(), "because".to_owned());
        let deployment = match self {
            Self::Promote => {
                let request = service.ask_as(who, PromoteDeploymentRequest { id, etag, reason });
                client.promote_deployment(request).await?.into_inner().deployment
            }
            Self::Rollback => {
                let request = service.ask_as(who, RollbackDeploymentRequest { id, etag, reason });
                client.rollback_deployment(request).await?.into_inner().deployment
            }
            Self::Pause => {
                let request = service.ask_as(who, PauseDeploymentRequest { id, etag, reason });
                client.pause_deployment(request).await?.into_inner().deployment
            }
            Self::Resume => {
                let request = service.ask_as(who, ResumeDeploymentRequest { id, etag, reason });
                client.resume_deployment(request).await?.into_inner().deployment
            }
            Self::Abort => {
                let request = service.ask_as(who, AbortDeploymentRequest { id, etag, reason });
                client.abort_deployment(request).await?.into_inner().deployment
            }
        };
        Ok(deployment.expect("a deployment"))
    }
}

fn alice() -> Grant {
    Grant::new("alice", [Role::Developer]).within(["shop"])
}

async fn with_gate(service: &Service) -> String {
    let mut gated = strategy();
    gated.steps[0].gate = true;
    let asked = CreateDeploymentRequest { strategy: Some(gated), ..request("p1") };
    service.try_create(asked).await.expect("a deployment").id
}

#[tokio::test]
async fn abort_and_rollback_differ_in_what_the_registry_is_told() {
    for (verb, told) in [(Abort, Outcome::Aborted), (Rollback, Outcome::RolledBack)] {
        let service = Service::new().await;
        let id = service.create().await.id;
        service.until(&id, DeploymentState::Baking).await;
        let going_back = verb.send(&service, &alice(), &id, "").await.expect("allowed");
        assert_eq!((going_back.state(), going_back.weight_bp), (DeploymentState::RollingBack, 0));
        let end = service.until(&id, DeploymentState::RolledBack).await;
        assert!(end.reason.ends_with("by alice: because"), "{}", end.reason);
        assert_eq!(service.world.state().outcomes, [(id, told)], "{verb:?}");
        assert_eq!(service.world.object("p1"), (json!({"v": 1}), false));
    }
}

#[tokio::test]
async fn before_the_first_write_the_object_is_only_fenced() {
    let service = Service::new().await;
    let id = service.create().await.id;
    Abort.send(&service, &alice(), &id, "").await.expect("allowed");
    service.until(&id, DeploymentState::RolledBack).await;
    assert_eq!(service.world.state().writes, 1, "the gateway moves the version on, for a first write that comes late");
    assert_eq!(service.world.object("p1"), (json!({"v": 1}), false));
}

#[tokio::test]
async fn a_gate_waits_and_a_pause_holds() {
    let service = Service::new().await;
    let id = with_gate(&service).await;
    service.until(&id, DeploymentState::Waiting).await;
    service.tick(3_600).await;
    assert_eq!(service.get(&id).await.state(), DeploymentState::Waiting);
    let promoted = Promote.send(&service, &alice(), &id, "").await.expect("allowed");
    assert_eq!((promoted.state(), promoted.weight_bp), (DeploymentState::Exposing, 5_000));
    service.until(&id, DeploymentState::Baking).await;

    Pause.send(&service, &alice(), &id, "").await.expect("allowed");
    service.tick(3_600).await;
    assert_eq!(service.get(&id).await.state(), DeploymentState::Paused);
    Resume.send(&service, &alice(), &id, "").await.expect("allowed");
    service.tick(0).await;
    service.tick(25).await;
    assert_eq!(service.get(&id).await.state(), DeploymentState::Baking, "the bake time starts anew");
    service.until(&id, DeploymentState::Promoted).await;
    let events = service.ports.store.events(&id, 0, 100).await.expect("events");
    let by_alice: Vec<_> = events.iter().filter(|event| event.actor == "alice").map(|event| &*event.kind).collect();
    assert_eq!(by_alice, ["deployment.created", "step.exposing", "deployment.paused", "step.exposing"]);
}

/// Two ticks of one step prove each other's writes wrong: what the one has written for a later phase the other takes for a stranger's.
#[tokio::test]
async fn a_tick_that_a_command_has_overtaken_leaves_the_next_one_its_claim() {
    let service = Service::new().await;
    let id = with_gate(&service).await;
    service.until(&id, DeploymentState::Waiting).await;
    // The first tick hangs while it asks the judge, the one after the command while it writes.
    let mut hanging = vec![Call::Apply, Call::Analyze];
    service.world.state().faults = Box::new(move |call| {
        let hangs = hanging.pop_if(|next| *next == call).is_some();
        if hangs { Fault::StallBefore } else { Fault::None }
    });
    service.clock.advance(SignedDuration::from_secs(5));
    let mut overtaken = pin!(service.worker.round());
    hang(&service, overtaken.as_mut()).await;
    Promote.send(&service, &alice(), &id, "").await.expect("allowed");
    let mut next = pin!(service.worker.round());
    hang(&service, next.as_mut()).await;
    service.world.go_on();
    assert_eq!(overtaken.await, 1);
    assert_eq!(service.worker.round().await, 0, "the second tick is under way");
    service.world.go_on();
    assert_eq!(next.await, 1);
    assert_eq!(service.get(&id).await.state(), DeploymentState::Baking);
}

/// Works until a call hangs.
async fn hang(service: &Service, round: Pin<&mut impl Future<Output = usize>>) {
    tokio::select! {
        done = round => panic!("nothing hangs, {done} are done"),
        interrupt = service.world.interrupted() => assert_eq!(interrupt, Interrupt::Stall),
    }
}

/// Brings a fresh deployment into each state and tries every command there.
#[tokio::test]
async fn every_state_knows_its_commands() {
    use DeploymentState::{Baking, Exposing, Paused, Pending, Promoted, Promoting, RolledBack, RollingBack, Waiting};
    let table: [(DeploymentState, &[Verb]); 9] = [
        (Pending, &[Rollback, Abort]),
        (Exposing, &[Rollback, Pause, Abort]),
        (Baking, &[Rollback, Pause, Abort]),
        (Waiting, &[Promote, Rollback, Pause, Abort]),
        (Paused, &[Rollback, Resume, Abort]),
        (Promoting, &[Rollback, Abort]),
        (Promoted, &[]),
        (RollingBack, &[]),
        (RolledBack, &[]),
    ];
    let service = Service::new().await;
    for (index, (state, allowed)) in table.into_iter().enumerate() {
        for verb in ALL {
            let policy = format!("p-{index}-{verb:?}");
            service.world.add_policy(&policy, &policy.to_lowercase(), "shop");
            let mut gated = strategy();
            gated.steps[0].gate = state == Waiting;
            let asked = CreateDeploymentRequest { strategy: Some(gated), ..request(&policy) };
            let id = service.try_create(asked).await.expect("a deployment").id;
            if let Some(before) = match state {
                Paused => Some(Pause),
                RollingBack | RolledBack => Some(Rollback),
                _ => None,
            } {
                service.until(&id, Baking).await;
                before.send(&service, &alice(), &id, "").await.expect("allowed");
            }
            service.until(&id, state).await;
            let outcome = verb.send(&service, &alice(), &id, "").await;
            assert_eq!(outcome.is_ok(), allowed.contains(&verb), "{verb:?} while {state:?}: {outcome:?}");
            if let Err(status) = outcome {
                assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "STATE_INVALID"));
            } else if verb != Abort && verb != Rollback {
                Abort.send(&service, &alice(), &id, "").await.expect("the object is free for the next");
            }
        }
    }
}

#[tokio::test]
async fn commands_need_a_developer_of_the_namespace_and_the_current_etag() {
    let service = Service::new().await;
    let created = service.create().await;
    for verb in ALL {
        for who in [Grant::new("eve", [Role::Viewer]), Grant::new("eve", [Role::Developer]).within(["pay"])] {
            let status = verb.send(&service, &who, &created.id, "").await.expect_err("denied");
            assert_eq!(status.code(), Code::PermissionDenied, "{verb:?} {who:?}");
        }
        let status = verb.send(&service, &alice(), "nope", "").await.expect_err("there is none");
        assert_eq!((status.code(), reason(&status)), (Code::NotFound, "RESOURCE_NOT_FOUND"), "{verb:?}");
    }
    service.tick(0).await;
    let status = Pause.send(&service, &alice(), &created.id, &created.etag).await.expect_err("it has moved on");
    assert_eq!((status.code(), reason(&status)), (Code::Aborted, "ETAG_MISMATCH"));
    let now = service.get(&created.id).await;
    Pause.send(&service, &alice(), &created.id, &now.etag).await.expect("the current etag");
}

/// The registry may have heard of the promotion already; it would not take another outcome, and the deployment would never end.
#[tokio::test]
async fn what_is_live_for_all_and_being_told_is_not_taken_back() {
    let service = Service::new().await;
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Promoting).await;
    service.world.state().faults = Box::new(|call| if call == Call::Record { Fault::ReplyLost } else { Fault::None });
    service.tick(1).await;
    service.tick(1).await;
    assert_eq!(service.world.state().outcomes, [(id.clone(), Outcome::Promoted)]);
    for verb in [Rollback, Abort] {
        let status = verb.send(&service, &alice(), &id, "").await.expect_err("too late");
        assert_eq!(reason(&status), "STATE_INVALID", "{}", status.message());
    }
    service.world.all_up();
    service.until(&id, DeploymentState::Promoted).await;
}

#[tokio::test]
async fn a_promotion_that_hangs_can_be_taken_back() {
    let service = Service::new().await;
    service.world.state().proofs = Box::new(|intent| {
        if intent.weight.basis_points() == 10_000 { PropagationState::Pending } else { PropagationState::Live }
    });
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Promoting).await;
    service.tick(1).await;
    assert_eq!(service.world.object("p1").0, json!({"v": 2}));
    Rollback.send(&service, &alice(), &id, "").await.expect("allowed");
    service.until(&id, DeploymentState::RolledBack).await;
    assert_eq!(service.world.object("p1"), (json!({"v": 1}), false));
}
