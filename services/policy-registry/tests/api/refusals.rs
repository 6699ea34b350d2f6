//! Each refusal with its code, its reason and what it tells; nothing is stored by any of them.

use meshward_proto::{
    registry::v1::*,
    types::v1::{ErrorReason, Severity},
};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::support::{World, finding, object, refused, route};

fn create(yaml: impl Into<String>) -> CreatePolicyRequest {
    CreatePolicyRequest { yaml: yaml.into(), ..Default::default() }
}

#[tokio::test]
async fn what_cannot_be_created() {
    let world = World::new().await;
    world.created("checkout").await;
    let before = world.events().await.len();
    let valid = || create(route("a", 1));
    let named = |name: &str, yaml: String| CreatePolicyRequest { name: name.into(), ..create(yaml) };
    let beta = object("networking.istio.io/v1beta1", "VirtualService", "shop", "checkout", 1);
    let invalid = (Code::InvalidArgument, ErrorReason::FieldInvalid);
    let denied = (Code::PermissionDenied, ErrorReason::RoleMissing);
    let taken = (Code::AlreadyExists, ErrorReason::ResourceExists);
    let too_large = (Code::InvalidArgument, ErrorReason::TooLarge);
    for (what, who, message, (code, reason)) in [
        ("no text", "alice", create(" \n"), invalid),
        ("too long a text", "alice", create("#".repeat((1 << 20) + 1)), too_large),
        ("two objects", "alice", create(format!("{}---{}", route("a", 1), route("b", 1))), invalid),
        ("a name that is none", "alice", named("Big Name", route("a", 1)), invalid),
        ("no name from a dotted object", "alice", create(route("a.b", 1)), invalid),
        ("too long a name in the text", "alice", create(route(&"a".repeat(254), 1)), invalid),
        ("no UUID", "alice", CreatePolicyRequest { request_id: "1".into(), ..valid() }, invalid),
        ("too long a note", "alice", CreatePolicyRequest { change_note: "x".repeat(4097), ..valid() }, invalid),
        ("a viewer", "vera", valid(), denied),
        ("another namespace's developer", "eve", valid(), denied),
        ("a taken target", "alice", named("other", route("checkout", 9)), taken),
        ("a taken target in another API version", "alice", named("other", beta), taken),
        ("a taken name", "alice", named("virtualservice-checkout", route("a", 1)), taken),
    ] {
        for validate_only in [true, false] {
            let message = CreatePolicyRequest { validate_only, ..message.clone() };
            let status = refused(what, world.client().create_policy(world.by(who, message)).await, code, reason);
            let resource = status.get_details_resource_info();
            assert_eq!(resource.is_some(), code == Code::AlreadyExists, "{what}: {status:?}");
        }
    }
    assert_eq!(world.events().await.len(), before);
}

#[tokio::test]
async fn findings_come_with_line_and_column() {
    let world = World::new().await;
    world.script(|script| {
        script.findings = vec![finding("MW2001", Severity::Error, 7), finding("MW3001", Severity::Warning, 1)];
    });
    let answer = world.client().create_policy(world.by("alice", create(route("a", 101)))).await;
    let status = refused("an error", answer, Code::InvalidArgument, ErrorReason::PolicyInvalid);
    let fields = status.get_details_bad_request().unwrap().field_violations;
    let told: Vec<_> = fields.iter().map(|field| (&*field.field, &*field.description)).collect();
    assert_eq!(told, [("yaml", "line 7, column 5: MW2001 the weight is 101 (use 0 to 100)")]);

    world.script(|script| script.findings = (0..200).map(|line| finding("MW2001", Severity::Error, line)).collect());
    let answer = world.client().create_policy(world.by("alice", create(route("a", 101)))).await;
    let status = refused("many errors", answer, Code::InvalidArgument, ErrorReason::PolicyInvalid);
    assert!(status.message().ends_with("and 199 more"), "{status:?}");
    // Three bytes stand before the second line; its last byte within the limit is the one before column 1,048,574.
    let long = format!("\u{e9}\n{}", "#".repeat(1 << 20));
    let answer = world.client().create_policy(world.by("alice", create(long))).await;
    let status = refused("too long", answer, Code::InvalidArgument, ErrorReason::TooLarge);
    assert!(status.message().starts_with("the text, at line 2, column 1048574, has 1048579 bytes"), "{status:?}");
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn a_dry_run_that_fails_stops_the_submission() {
    let world = World::new().await;
    let (policy, _) = world.created("checkout").await;
    world.script(|script| script.dry_run_findings = vec![finding("MW2009", Severity::Error, 3)]);
    let message = SubmitPolicyRequest { id: policy.id.clone(), ..Default::default() };
    let answer = world.client().submit_policy(world.by("alice", message)).await;
    let status = refused("the webhook's no", answer, Code::FailedPrecondition, ErrorReason::PolicyInvalid);
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, format!("policies/{}/versions/1", policy.id));
    assert_eq!(violations[0].description, "line 3, column 5: MW2009 the weight is 101 (use 0 to 100)");
    assert_eq!(world.version(&policy.id, 1).await.state(), VersionState::Draft);
    assert_eq!(world.asked(), [("validate", "alice".to_owned()), ("dry-run", "alice".to_owned())], "as the caller");
}

#[tokio::test]
async fn without_a_validator_nothing_is_stored() {
    let mut world = World::new().await;
    for (says, code, reason) in [
        (Code::Unavailable, Code::Unavailable, ErrorReason::PeerUnavailable),
        (Code::Internal, Code::Unavailable, ErrorReason::PeerUnavailable),
        (Code::DeadlineExceeded, Code::Unavailable, ErrorReason::PeerUnavailable),
        (Code::NotFound, Code::NotFound, ErrorReason::PeerUnavailable),
    ] {
        world.script(|script| script.refuse_with = Some(says));
        let answer = world.client().create_policy(world.by("alice", create(route("a", 1)))).await;
        refused(&format!("{says:?}"), answer, code, reason);
    }
    world.script(|script| script.refuse_with = None);
    world.validator.take().unwrap().stop().await.unwrap();
    let answer = world.client().create_policy(world.by("alice", create(route("a", 1)))).await;
    refused("it is down", answer, Code::Unavailable, ErrorReason::PeerUnavailable);
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn who_may_not_approve() {
    let world = World::new().await;
    let message = create(route("checkout", 1));
    let made = world.client().create_policy(world.by("bob", message)).await.unwrap().into_inner();
    let (policy, version) = (made.policy.unwrap(), made.version.unwrap());
    let early = world.approve("carol", &version).await;
    let early = refused("a draft", early, Code::FailedPrecondition, ErrorReason::StateInvalid);
    let violation = &early.get_details_precondition_failure().unwrap().violations[0];
    assert!(violation.description.contains("is DRAFT; to approve it, it must be SUBMITTED"), "{violation:?}");

    world.submitted(&policy.id).await;
    let own = world.approve("bob", &version).await;
    refused("one's own", own, Code::PermissionDenied, ErrorReason::SelfApproval);
    let developer = world.approve("alice", &version).await;
    refused("a developer", developer, Code::PermissionDenied, ErrorReason::RoleMissing);
    let service = world.approve("orchestrator", &version).await;
    refused("a service", service, Code::PermissionDenied, ErrorReason::RoleMissing);
    for digest in ["", "sha256:00", &format!("sha256:{}", "0".repeat(64))] {
        let other = PolicyVersion { digest: digest.into(), ..version.clone() };
        let answer = world.approve("carol", &other).await;
        refused(digest, answer, Code::InvalidArgument, ErrorReason::FieldInvalid);
    }
    assert_eq!(world.version(&policy.id, 1).await.state(), VersionState::Submitted);
    assert!(world.version(&policy.id, 1).await.approvals.is_empty());
}

#[tokio::test]
async fn a_hidden_policy_is_answered_like_one_that_does_not_exist() {
    let world = World::new().await;
    let (policy, version) = world.created("checkout").await;
    let mut told = Vec::new();
    for id in [&*policy.id, "00000000-0000-7000-8000-000000000000"] {
        let get = world.client().get_policy(world.by("eve", GetPolicyRequest { id: id.into() })).await;
        told.push(refused("get", get, Code::NotFound, ErrorReason::ResourceNotFound).message().replace(id, "ID"));
        let yaml = object("networking.istio.io/v1", "VirtualService", "pay", "a", 1);
        let update = UpdatePolicyRequest { id: id.into(), yaml, ..Default::default() };
        let update = world.client().update_policy(world.by("eve", update)).await;
        refused("update", update, Code::NotFound, ErrorReason::ResourceNotFound);
        let trail = ListAuditEventsRequest { policy_id: id.into(), ..Default::default() };
        let trail = world.client().list_audit_events(world.by("eve", trail)).await;
        refused("trail", trail, Code::NotFound, ErrorReason::ResourceNotFound);
        let watch = WatchPoliciesRequest { policy_id: id.into(), after_sequence: 0 };
        let watch = world.client().watch_policies(world.by("eve", watch)).await;
        refused("watch", watch, Code::NotFound, ErrorReason::ResourceNotFound);
    }
    assert_eq!(told[0], told[1]);
    let list = |namespace: &str| ListPoliciesRequest { namespace: namespace.into(), ..Default::default() };
    let seen = world.client().list_policies(world.by("eve", list(""))).await.unwrap().into_inner();
    assert!(seen.policies.is_empty());
    let named = world.client().list_policies(world.by("eve", list("shop"))).await;
    refused("a named namespace", named, Code::PermissionDenied, ErrorReason::RoleMissing);

    for number in [2, 99] {
        let get = GetPolicyVersionRequest { id: policy.id.clone(), version: number };
        let get = world.client().get_policy_version(world.by("vera", get)).await;
        refused("no such version", get, Code::NotFound, ErrorReason::ResourceNotFound);
    }
    for number in [0, -1] {
        let get = GetPolicyVersionRequest { id: policy.id.clone(), version: number };
        let get = world.client().get_policy_version(world.by("vera", get)).await;
        refused("no version", get, Code::InvalidArgument, ErrorReason::FieldInvalid);
    }
    let record = RecordDeploymentRequest {
        id: version.policy_id,
        version: 1,
        deployment_id: "d".into(),
        outcome: DeploymentOutcome::Promoted.into(),
        ..Default::default()
    };
    let record = world.client().record_deployment(world.by("bob", record)).await;
    refused("an admin is no service", record, Code::PermissionDenied, ErrorReason::RoleMissing);
    for (who, verb) in [("bob", "only of shop"), ("orchestrator", "no admin")] {
        let verify = world.client().verify_audit(world.by(who, VerifyAuditRequest {})).await;
        refused(verb, verify, Code::PermissionDenied, ErrorReason::RoleMissing);
    }
    let nobody = world.client().get_policy(Request::new(GetPolicyRequest { id: policy.id })).await;
    refused("no token", nobody, Code::Unauthenticated, ErrorReason::TokenMissing);
}
