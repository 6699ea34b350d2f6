//! The life of versions, told as stories.

use jiff::SignedDuration;
use meshward_proto::{
    registry::v1::*,
    types::v1::{ErrorReason, Severity},
};
use tonic::Code;

use crate::support::{World, finding, object, refused, route};

#[tokio::test]
async fn a_version_goes_from_draft_to_superseded_and_back_and_a_restart_forgets_nothing() {
    let world = World::new().await;
    world.script(|script| script.findings = vec![finding("MW3001", Severity::Warning, 2)]);
    let (policy, draft) = world.created("checkout").await;
    assert_eq!((&*policy.name, &*policy.namespace, &*policy.creator), ("virtualservice-checkout", "shop", "alice"));
    assert_eq!((draft.version, draft.state(), draft.findings.len()), (1, VersionState::Draft, 1));
    assert_eq!(draft.deploy_obstacles, ["it is a DRAFT: submit it, then have it approved"]);

    world.script(|script| script.skipped = vec!["schema: no catalogue".into()]);
    let submitted = world.submitted(&policy.id).await;
    assert_eq!(submitted.version.unwrap().state(), VersionState::Submitted);
    let shown: Vec<_> = submitted.findings.iter().map(|finding| &*finding.message).collect();
    assert_eq!(shown, ["the weight is 101", "not checked: schema: no catalogue"], "warnings and gaps are shown");
    let again = world.submitted(&policy.id).await;
    assert_eq!(again.policy.unwrap().etag, submitted.policy.unwrap().etag, "submitting twice changes nothing");

    let first = world.approve("bob", &draft).await.unwrap();
    assert_eq!((first.state(), first.deploy_obstacles.len()), (VersionState::Approved, 0));
    let live = world.record(&first, "d1", DeploymentOutcome::Promoted).await.unwrap();
    assert_eq!(live.policy.unwrap().active_version, 1);
    assert_eq!(live.version.unwrap().state(), VersionState::Active);

    let (_, second) = world.updated(&policy, route("checkout", 2)).await;
    assert_eq!((second.version, second.state()), (2, VersionState::Draft));
    let second = world.approved(&second).await;
    world.record(&second, "d2", DeploymentOutcome::Promoted).await.unwrap();
    assert_eq!(world.version(&policy.id, 1).await.state(), VersionState::Superseded);
    assert_eq!(world.policy(&policy.id).await.active_version, 2);

    let (events, policy_before, second_before) =
        (world.events().await, world.policy(&policy.id).await, world.version(&policy.id, 2).await);
    let world = world.restart().await;
    assert_eq!(world.events().await, events);
    assert_eq!(world.policy(&policy.id).await, policy_before);
    assert_eq!(world.version(&policy.id, 2).await, second_before);

    world.record(&first, "d3", DeploymentOutcome::Promoted).await.unwrap();
    assert_eq!(world.version(&policy.id, 1).await.state(), VersionState::Active, "back to what was fine");
    assert_eq!(world.version(&policy.id, 2).await.state(), VersionState::Superseded);
}

#[tokio::test]
async fn a_rolled_back_version_waits_for_a_person() {
    let world = World::new().await;
    let (policy, draft) = world.created("checkout").await;
    let version = world.approved(&draft).await;
    let stayed = world.record(&version, "d1", DeploymentOutcome::Aborted).await.unwrap().version.unwrap();
    assert_eq!(stayed.state(), VersionState::Approved, "ended by a person: nothing is known against the version");

    let bad = world.record(&version, "d2", DeploymentOutcome::RolledBack).await.unwrap().version.unwrap();
    assert_eq!((bad.state(), &*bad.state_reason), (VersionState::Quarantined, "as measured"));
    assert_eq!(bad.deploy_obstacles, ["it was rolled back (as measured): an admin must release it"]);

    let release = |reason: &str| ReleaseVersionRequest {
        id: policy.id.clone(),
        version: 1,
        reason: reason.into(),
        ..Default::default()
    };
    let silent = world.client().release_version(world.by("bob", release(" "))).await;
    refused("no reason", silent, Code::InvalidArgument, ErrorReason::FieldInvalid);
    let developer = world.client().release_version(world.by("alice", release("mended"))).await;
    refused("a developer", developer, Code::PermissionDenied, ErrorReason::RoleMissing);
    let released = world.client().release_version(world.by("bob", release("mended"))).await.unwrap().into_inner();
    let released = released.version.unwrap();
    assert_eq!((released.state(), &*released.state_reason), (VersionState::Approved, ""));
    assert!(released.deploy_obstacles.is_empty());
}

#[tokio::test]
async fn outcomes_are_told_once() {
    let world = World::new().await;
    let (_, draft) = world.created("checkout").await;
    let version = world.approved(&draft).await;
    let first = world.record(&version, "d1", DeploymentOutcome::Promoted).await.unwrap();
    let events = world.events().await.len();
    assert_eq!(world.record(&version, "d1", DeploymentOutcome::Promoted).await.unwrap(), first);
    assert_eq!(world.events().await.len(), events, "a repeat is no event");
    let other = world.record(&version, "d1", DeploymentOutcome::RolledBack).await;
    refused("another outcome", other, Code::FailedPrecondition, ErrorReason::StateInvalid);
    let (_, draft) = world.created("cart").await;
    let stolen = world.record(&draft, "d1", DeploymentOutcome::Promoted).await;
    refused("another policy's deployment", stolen, Code::FailedPrecondition, ErrorReason::StateInvalid);
    let early = world.record(&draft, "d2", DeploymentOutcome::Promoted).await;
    let early = refused("a draft", early, Code::FailedPrecondition, ErrorReason::StateInvalid);
    assert!(early.message().contains("it must be APPROVED or ACTIVE or SUPERSEDED"), "{early:?}");
}

#[tokio::test]
async fn approvals_add_up_and_expire() {
    let world = World::with(&["--approvals-required=2", "--approval-ttl=1h"]).await;
    let (policy, draft) = world.created("checkout").await;
    let half = world.approved(&draft).await;
    assert_eq!(half.state(), VersionState::Submitted);
    assert_eq!(half.deploy_obstacles, ["1 of 2 approvals is missing"]);
    assert_eq!(world.approve("bob", &draft).await.unwrap().state(), VersionState::Submitted, "the same person again");
    let whole = world.approve("carol", &draft).await.unwrap();
    assert_eq!((whole.state(), whole.deploy_obstacles.len()), (VersionState::Approved, 0));

    world.clock.advance(SignedDuration::from_mins(60));
    let expired = world.version(&policy.id, 1).await;
    assert_eq!(expired.state(), VersionState::Approved);
    assert_eq!(
        expired.deploy_obstacles,
        [
            "2 of 2 approvals are missing",
            "the approval of bob expired on 2027-01-15 at 09:00:00 UTC",
            "the approval of carol expired on 2027-01-15 at 09:00:00 UTC",
        ]
    );
    world.approve("bob", &draft).await.unwrap();
    assert!(world.approve("root", &draft).await.unwrap().deploy_obstacles.is_empty());
}

#[tokio::test]
async fn the_same_text_makes_no_version_and_another_object_is_refused() {
    let world = World::new().await;
    let (policy, draft) = world.created("checkout").await;
    let spaced = route("checkout", 1).replace(':', " : ");
    let (same, version) = world.updated(&policy, spaced).await;
    assert_eq!((same, version.version), (policy.clone(), draft.version));

    for (what, yaml) in [
        ("name", route("cart", 1)),
        ("namespace", object("networking.istio.io/v1", "VirtualService", "pay", "checkout", 1)),
        ("kind", object("networking.istio.io/v1", "DestinationRule", "shop", "checkout", 1)),
        ("group", object("security.istio.io/v1", "VirtualService", "shop", "checkout", 1)),
    ] {
        let message = UpdatePolicyRequest { id: policy.id.clone(), yaml, ..Default::default() };
        let answer = world.client().update_policy(world.by("alice", message)).await;
        refused(what, answer, Code::InvalidArgument, ErrorReason::FieldInvalid);
    }
    let beta = object("networking.istio.io/v1beta1", "VirtualService", "shop", "checkout", 1);
    let (policy, version) = world.updated(&policy, beta).await;
    assert_eq!(version.version, 2);
    assert_eq!(policy.target.unwrap().api_version, "networking.istio.io/v1beta1");
}

#[tokio::test]
async fn a_rejected_version_is_the_end_of_it_and_an_active_policy_stays() {
    let world = World::new().await;
    let (policy, draft) = world.created("checkout").await;
    world.submitted(&policy.id).await;
    let message = RejectPolicyRequest { id: policy.id.clone(), reason: "too wide".into(), ..Default::default() };
    let rejected = world.client().reject_policy(world.by("bob", message)).await.unwrap().into_inner();
    let rejected = rejected.version.unwrap();
    assert_eq!((rejected.state(), &*rejected.state_reason), (VersionState::Rejected, "too wide"));
    let late = world.approve("bob", &draft).await;
    refused("approve", late, Code::FailedPrecondition, ErrorReason::StateInvalid);
    let ended = world.record(&draft, "d0", DeploymentOutcome::RolledBack).await.unwrap().version.unwrap();
    assert_eq!((ended.state(), &*ended.state_reason), (VersionState::Rejected, "too wide"), "it was under way");

    let (_, second) = world.updated(&policy, route("checkout", 2)).await;
    let second = world.approved(&second).await;
    world.record(&second, "d1", DeploymentOutcome::Promoted).await.unwrap();
    let delete = |id: &str| DeletePolicyRequest { id: id.into(), ..Default::default() };
    let developer = world.client().delete_policy(world.by("alice", delete(&policy.id))).await;
    refused("a developer", developer, Code::PermissionDenied, ErrorReason::RoleMissing);
    let active = world.client().delete_policy(world.by("bob", delete(&policy.id))).await;
    refused("an active one", active, Code::FailedPrecondition, ErrorReason::StateInvalid);

    let (other, _) = world.created("cart").await;
    world.client().delete_policy(world.by("bob", delete(&other.id))).await.unwrap();
    let gone = world.client().get_policy(world.by("alice", GetPolicyRequest { id: other.id.clone() })).await;
    refused("gone", gone, Code::NotFound, ErrorReason::ResourceNotFound);
    let trail = ListAuditEventsRequest { policy_id: other.id.clone(), ..Default::default() };
    let trail = world.client().list_audit_events(world.by("vera", trail)).await.unwrap().into_inner();
    let actions: Vec<_> = trail.events.iter().map(|event| &*event.action).collect();
    assert_eq!(actions, ["policy.created", "version.created", "policy.deleted"], "the trail stays");
    world.created("cart").await;
}

#[tokio::test]
async fn what_is_in_force_or_may_soon_be_is_listed() {
    let world = World::new().await;
    let ask = |cluster: &str, page_token: &str| ListEffectiveVersionsRequest {
        cluster: cluster.into(),
        page_size: 1,
        page_token: page_token.into(),
    };
    // Page by page, as weight and state.
    let listed = async |who: &'static str, cluster: &str| {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let answer = world.client().list_effective_versions(world.by(who, ask(cluster, &token))).await.unwrap();
            let ListEffectiveVersionsResponse { versions, next_page_token } = answer.into_inner();
            found.extend(versions.into_iter().map(|version| {
                let object: serde_json::Value = serde_json::from_str(&version.canonical_json).unwrap();
                (object["spec"]["weight"].as_i64().unwrap(), version.state())
            }));
            if next_page_token.is_empty() {
                return found;
            }
            token = next_page_token;
        }
    };
    let (policy, first) = world.created("checkout").await;
    world.submitted(&policy.id).await;
    assert_eq!(listed("vera", "").await, [], "nobody has approved anything");
    let first = world.approve("bob", &first).await.unwrap();
    assert_eq!(listed("vera", "").await, [(1, VersionState::Approved)]);
    world.record(&first, "d1", DeploymentOutcome::Promoted).await.unwrap();
    for weight in [2, 3] {
        let (_, version) = world.updated(&policy, route("checkout", weight)).await;
        world.approved(&version).await;
    }
    world.updated(&policy, route("checkout", 4)).await;
    let both = [(1, VersionState::Active), (3, VersionState::Approved)];
    assert_eq!(listed("vera", "").await, both, "the newest that is approved, not the draft after it");
    assert_eq!(listed("orchestrator", "").await, both);
    for (who, cluster) in [("eve", ""), ("vera", "west")] {
        assert_eq!(listed(who, cluster).await, [], "{who} in {cluster:?}");
    }
    let third = world.version(&policy.id, 3).await;
    world.record(&third, "d3", DeploymentOutcome::Promoted).await.unwrap();
    assert_eq!(listed("vera", "").await, [(3, VersionState::Active)], "what is older is not to come");
    let strange = world.client().list_effective_versions(world.by("vera", ask("", "x"))).await;
    refused("a token of nowhere", strange, Code::InvalidArgument, ErrorReason::FieldInvalid);
}
