//! A version may be that the object is gone: it lives like any other.

use meshward_proto::{
    registry::v1::*,
    types::v1::{ErrorReason, Severity},
};
use tonic::{Code, Status};

use crate::support::{World, finding, refused, route};

async fn delete_object(world: &World, id: &str, yaml: String) -> Result<PolicyVersion, Status> {
    let message = UpdatePolicyRequest { id: id.into(), yaml, deletion: true, ..Default::default() };
    Ok(world.client().update_policy(world.by("alice", message)).await?.into_inner().version.unwrap())
}

async fn delete_policy(world: &World, id: &str) -> Result<(), Status> {
    let message = DeletePolicyRequest { id: id.into(), ..Default::default() };
    world.client().delete_policy(world.by("bob", message)).await.map(drop)
}

#[tokio::test]
async fn a_deletion_is_submitted_approved_and_promoted_and_the_object_may_come_back() {
    let world = World::new().await;
    let (policy, first) = world.created("checkout").await;
    let first = world.approved(&first).await;
    world.record(&first, "d1", DeploymentOutcome::Promoted).await.unwrap();
    assert!(!world.version(&policy.id, 1).await.deletion);

    let contradiction = delete_object(&world, &policy.id, route("checkout", 1)).await;
    refused("a text beside it", contradiction, Code::InvalidArgument, ErrorReason::FieldInvalid);
    let draft = delete_object(&world, &policy.id, String::new()).await.unwrap();
    assert_eq!((draft.version, draft.deletion, draft.state()), (2, true, VersionState::Draft));
    assert_eq!((&*draft.yaml, &*draft.canonical_json), ("", ""));
    assert_ne!(draft.digest, first.digest);
    let again = delete_object(&world, &policy.id, String::new()).await.unwrap();
    assert_eq!(again.version, 2, "the same once more makes no version");

    // What others would lack is told to the approver and decides nothing.
    let lacking = finding("MW4102", Severity::Error, 0);
    let lacking = meshward_proto::types::v1::Finding { source: "cluster".into(), ..lacking };
    world.script(|script| script.removal_findings = vec![lacking]);
    let submitted = world.submitted(&policy.id).await;
    assert_eq!(submitted.findings.iter().map(|finding| &*finding.id).collect::<Vec<_>>(), ["MW4102"]);
    world.script(|script| assert_eq!(script.removed, ["VirtualService checkout"]));
    assert_eq!(world.asked().last(), Some(&("removal", "alice".to_owned())), "with the caller's own token");

    let wrong = PolicyVersion { digest: first.digest.clone(), ..draft.clone() };
    refused(
        "the digest of another",
        world.approve("bob", &wrong).await,
        Code::InvalidArgument,
        ErrorReason::FieldInvalid,
    );
    let own = world.approve("alice", &draft).await;
    refused("a developer", own, Code::PermissionDenied, ErrorReason::RoleMissing);
    let approved = world.approve("bob", &draft).await.unwrap();
    assert!(approved.deletion && approved.deploy_obstacles.is_empty(), "{approved:?}");
    refused(
        "the object is live still",
        delete_policy(&world, &policy.id).await,
        Code::FailedPrecondition,
        ErrorReason::StateInvalid,
    );

    let live = world.record(&approved, "d2", DeploymentOutcome::Promoted).await.unwrap();
    assert_eq!(live.policy.unwrap().active_version, 2);
    let effective = ListEffectiveVersionsRequest::default();
    let effective = world.client().list_effective_versions(world.by("vera", effective)).await.unwrap().into_inner();
    assert_eq!(effective.versions, [], "nothing of it is in force");
    assert_eq!(world.version(&policy.id, 1).await.state(), VersionState::Superseded);
    let world = world.restart().await;
    let (_, third) = world.updated(&policy, route("checkout", 1)).await;
    assert_eq!((third.version, third.deletion), (3, false), "the text of version 1 is no repetition of version 2");
    assert_eq!(third.digest, first.digest);
    delete_policy(&world, &policy.id).await.expect("nothing of it is live");
}

#[tokio::test]
async fn a_deletion_that_was_rolled_back_is_quarantined() {
    let world = World::new().await;
    let (policy, first) = world.created("checkout").await;
    let first = world.approved(&first).await;
    world.record(&first, "d1", DeploymentOutcome::Promoted).await.unwrap();
    let deletion = delete_object(&world, &policy.id, String::new()).await.unwrap();
    let deletion = world.approved(&deletion).await;
    let bad = world.record(&deletion, "d2", DeploymentOutcome::RolledBack).await.unwrap();
    assert_eq!(bad.version.unwrap().state(), VersionState::Quarantined);
    assert_eq!(bad.policy.unwrap().active_version, 1, "the object is as it was");
}
