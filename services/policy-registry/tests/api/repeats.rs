//! Repeated requests, lost updates, checks without a trace.

use jiff::SignedDuration;
use meshward_proto::{registry::v1::*, types::v1::ErrorReason};
use tonic::Code;

use crate::support::{World, refused, route};

const ID: &str = "6f1c8f5e-3c1b-4a57-9f5e-0d1f2a3b4c5d";

fn create(name: &str) -> CreatePolicyRequest {
    CreatePolicyRequest { yaml: route(name, 1), request_id: ID.into(), ..Default::default() }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_also_after_a_restart() {
    let world = World::new().await;
    let first = world.client().create_policy(world.by("alice", create("checkout"))).await.unwrap().into_inner();
    let policy = first.policy.clone().unwrap();
    world.updated(&policy, route("checkout", 2)).await;
    let events = world.events().await.len();

    let world = world.restart().await;
    let repeat = world.client().create_policy(world.by("alice", create("checkout"))).await.unwrap().into_inner();
    assert_eq!(repeat, first, "as it was then, not as it is now");
    assert_eq!(world.events().await.len(), events);
    let other = world.client().create_policy(world.by("alice", create("cart"))).await;
    refused("another request", other, Code::AlreadyExists, ErrorReason::RequestIdReused);
    let submit = SubmitPolicyRequest { id: policy.id, request_id: ID.into(), ..Default::default() };
    let submit = world.client().submit_policy(world.by("alice", submit)).await;
    refused("another method", submit, Code::AlreadyExists, ErrorReason::RequestIdReused);
    let dan = world.client().create_policy(world.by("dan", create("cart"))).await.unwrap().into_inner();
    assert_eq!(dan.policy.unwrap().creator, "dan", "ids belong to who made them");

    world.clock.advance(SignedDuration::from_hours(24));
    let late = world.client().create_policy(world.by("alice", create("checkout"))).await;
    refused("a day later it is a new request", late, Code::AlreadyExists, ErrorReason::ResourceExists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_request_at_the_same_time_is_done_once() {
    let world = World::new().await;
    let send = || {
        let (mut client, request) = (world.client(), world.by("alice", create("checkout")));
        tokio::spawn(async move { client.create_policy(request).await })
    };
    let sent: Vec<_> = (0..8).map(|_| send()).collect();
    let mut ids = Vec::new();
    for answer in sent {
        ids.push(answer.await.unwrap().unwrap().into_inner().policy.unwrap().id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one policy: {ids:?}");
    assert_eq!(world.events().await.len(), 2);
}

#[tokio::test]
async fn who_overwrites_a_change_that_he_has_not_seen_is_told() {
    let world = World::new().await;
    let (policy, draft) = world.created("checkout").await;
    let (newer, _) = world.updated(&policy, route("checkout", 2)).await;
    assert_ne!(newer.etag, policy.etag);
    let (id, etag) = (policy.id.clone(), policy.etag.clone());

    let update =
        UpdatePolicyRequest { id: id.clone(), yaml: route("checkout", 3), etag: etag.clone(), ..Default::default() };
    let update = world.client().update_policy(world.by("alice", update)).await;
    refused("update", update, Code::Aborted, ErrorReason::EtagMismatch);
    let submit = SubmitPolicyRequest { id: id.clone(), etag: etag.clone(), ..Default::default() };
    let submit = world.client().submit_policy(world.by("alice", submit)).await;
    refused("submit", submit, Code::Aborted, ErrorReason::EtagMismatch);
    let approve =
        ApprovePolicyRequest { id: id.clone(), digest: draft.digest, etag: etag.clone(), ..Default::default() };
    let approve = world.client().approve_policy(world.by("bob", approve)).await;
    refused("approve", approve, Code::Aborted, ErrorReason::EtagMismatch);
    let reject = RejectPolicyRequest { id: id.clone(), reason: "no".into(), etag: etag.clone(), ..Default::default() };
    let reject = world.client().reject_policy(world.by("bob", reject)).await;
    refused("reject", reject, Code::Aborted, ErrorReason::EtagMismatch);
    let delete = world.client().delete_policy(world.by("bob", DeletePolicyRequest { id: id.clone(), etag })).await;
    refused("delete", delete, Code::Aborted, ErrorReason::EtagMismatch);

    let update = UpdatePolicyRequest { id, yaml: route("checkout", 3), etag: newer.etag, ..Default::default() };
    world.client().update_policy(world.by("alice", update)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_at_the_same_time_make_versions_without_gaps() {
    let world = World::new().await;
    let (policy, _) = world.created("checkout").await;
    let send = |weight| {
        let message =
            UpdatePolicyRequest { id: policy.id.clone(), yaml: route("checkout", weight), ..Default::default() };
        let (mut client, request) = (world.client(), world.by("alice", message));
        tokio::spawn(async move { client.update_policy(request).await })
    };
    let sent: Vec<_> = (2..6).map(send).collect();
    let mut numbers = Vec::new();
    for answer in sent {
        numbers.push(answer.await.unwrap().unwrap().into_inner().version.unwrap().version);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 5]);
}

#[tokio::test]
async fn a_check_answers_what_would_be_and_leaves_no_trace() {
    let world = World::new().await;
    let message = CreatePolicyRequest { validate_only: true, ..create("checkout") };
    let checked = world.client().create_policy(world.by("alice", message)).await.unwrap().into_inner();
    let (policy, version) = (checked.policy.unwrap(), checked.version.unwrap());
    assert_eq!((&*policy.id, &*policy.name, version.version), ("", "virtualservice-checkout", 1));
    assert!(world.events().await.is_empty());

    let (policy, draft) = world.created("checkout").await;
    let events = world.events().await;
    let update = UpdatePolicyRequest {
        id: policy.id.clone(),
        yaml: route("checkout", 2),
        validate_only: true,
        ..Default::default()
    };
    let update = world.client().update_policy(world.by("alice", update)).await.unwrap().into_inner();
    assert_eq!(update.version.unwrap().version, 2);
    let submit = SubmitPolicyRequest { id: policy.id.clone(), validate_only: true, ..Default::default() };
    let submit = world.client().submit_policy(world.by("alice", submit)).await.unwrap().into_inner();
    assert_eq!(submit.version.unwrap().state(), VersionState::Submitted);
    let approve = ApprovePolicyRequest {
        id: policy.id.clone(),
        digest: draft.digest.clone(),
        validate_only: true,
        ..Default::default()
    };
    let approve = world.client().approve_policy(world.by("bob", approve)).await;
    refused("a check refuses as the real thing", approve, Code::FailedPrecondition, ErrorReason::StateInvalid);
    assert_eq!(world.version(&policy.id, 1).await, draft);
    assert_eq!(world.policy(&policy.id).await, policy);
    assert_eq!(world.events().await, events);
}
