//! The audit trail, the watch stream, pages.

use std::str::FromStr as _;

use meshward_proto::{registry::v1::*, types::v1::ErrorReason};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::support::{PATIENCE, World, object, refused, route};

async fn verify(world: &World) -> VerifyAuditResponse {
    world.client().verify_audit(world.by("root", VerifyAuditRequest {})).await.unwrap().into_inner()
}

#[tokio::test]
async fn every_step_is_in_the_trail_and_tampering_is_found() {
    let world = World::new().await;
    let (_, draft) = world.created("checkout").await;
    let version = world.approved(&draft).await;
    world.record(&version, "d1", DeploymentOutcome::Promoted).await.unwrap();
    let events = world.events().await;
    let told: Vec<_> = events.iter().map(|e| (e.sequence, &*e.action, &*e.actor, e.version)).collect();
    assert_eq!(
        told,
        [
            (1, "policy.created", "alice", 0),
            (2, "version.created", "alice", 1),
            (3, "version.submitted", "alice", 1),
            (4, "version.approved", "bob", 1),
            (5, "version.promoted", "orchestrator", 1),
        ]
    );
    assert_eq!((&*events[4].comment, &events[4].digest), ("deployment d1: as measured", &version.digest));
    assert_eq!(verify(&world).await, VerifyAuditResponse { checked: 5, intact: true, broken_at: 0 });

    let url = format!("sqlite:{}", world.database().display());
    let mut file = SqliteConnectOptions::from_str(&url).unwrap().connect().await.unwrap();
    let forge = "UPDATE audit_events SET actor = 'carol' WHERE sequence = 4";
    let slip = sqlx::query(forge).execute(&mut file).await.unwrap_err();
    assert!(slip.to_string().contains("append-only"), "{slip}");
    sqlx::query("DROP TRIGGER audit_events_stay").execute(&mut file).await.unwrap();
    sqlx::query(forge).execute(&mut file).await.unwrap();
    assert_eq!(verify(&world).await, VerifyAuditResponse { checked: 3, intact: false, broken_at: 4 });
}

async fn watch(world: &World, who: &str, policy_id: &str, after_sequence: i64) -> Streaming<WatchPoliciesResponse> {
    let message = WatchPoliciesRequest { policy_id: policy_id.into(), after_sequence };
    world.client().watch_policies(world.by(who, message)).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<WatchPoliciesResponse>) -> Option<(i64, String)> {
    let answer = timeout(PATIENCE, stream.message()).await.expect("in time").unwrap()?;
    answer.event.map(|event| (event.sequence, event.action))
}

async fn take(stream: &mut Streaming<WatchPoliciesResponse>, count: usize) -> Vec<i64> {
    let mut sequences = Vec::new();
    for _ in 0..count {
        sequences.push(next(stream).await.expect("an event").0);
    }
    sequences
}

#[tokio::test]
async fn watchers_get_what_was_then_what_comes_and_the_end() {
    let world = World::new().await;
    let (checkout, _) = world.created("checkout").await;
    let mut all = watch(&world, "vera", "", 0).await;
    assert_eq!(take(&mut all, 2).await, [1, 2]);
    let (cart, draft) = world.created("cart").await;
    assert_eq!(take(&mut all, 2).await, [3, 4], "live");
    assert_eq!(take(&mut watch(&world, "vera", "", 3).await, 1).await, [4], "from where it was");

    let mut one = watch(&world, "vera", &cart.id, 0).await;
    assert_eq!(take(&mut one, 2).await, [3, 4]);
    world.updated(&checkout, route("checkout", 2)).await;
    world.submitted(&cart.id).await;
    assert_eq!(next(&mut one).await, Some((6, "version.submitted".into())));
    assert_eq!(take(&mut all, 2).await, [5, 6]);

    let elsewhere = object("networking.istio.io/v1", "VirtualService", "pay", "fees", 1);
    let elsewhere = CreatePolicyRequest { yaml: elsewhere, ..Default::default() };
    world.client().create_policy(world.by("eve", elsewhere)).await.unwrap();
    world.approve("bob", &draft).await.unwrap();
    let approved = Some((9, "version.approved".to_owned()));
    assert_eq!(next(&mut all).await, approved, "other namespaces are not shown");
    assert_eq!(next(&mut one).await, approved);

    world.registry.begin_stop();
    assert_eq!(next(&mut all).await, None);
    assert_eq!(next(&mut one).await, None);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        ids.push(world.created(name).await.0.id);
    }
    let policy = world.policy(&ids[0]).await;
    for weight in 2..6 {
        world.updated(&policy, route("a", weight)).await;
    }

    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let message = ListPoliciesRequest { page_size: 2, page_token, ..Default::default() };
        let page = world.client().list_policies(world.by("vera", message)).await.unwrap().into_inner();
        seen.push(page.policies.into_iter().map(|policy| policy.id).collect::<Vec<_>>());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [&ids[..2], &ids[2..4], &ids[4..]], "by time of creation, each once");

    let versions = |page_size, page_token| ListPolicyVersionsRequest { id: ids[0].clone(), page_size, page_token };
    let first = world.client().list_policy_versions(world.by("vera", versions(3, String::new()))).await;
    let first = first.unwrap().into_inner();
    let rest = world.client().list_policy_versions(world.by("vera", versions(3, first.next_page_token.clone()))).await;
    let rest = rest.unwrap().into_inner();
    let numbers: Vec<_> = first.versions.iter().chain(&rest.versions).map(|version| version.version).collect();
    assert_eq!((numbers, &*rest.next_page_token), (vec![5, 4, 3, 2, 1], ""));

    let events = |page_token: &str| ListAuditEventsRequest {
        policy_id: ids[0].clone(),
        page_size: 4,
        page_token: page_token.into(),
    };
    let first_events = world.client().list_audit_events(world.by("vera", events(""))).await.unwrap().into_inner();
    let more = world.client().list_audit_events(world.by("vera", events(&first_events.next_page_token))).await;
    let more = more.unwrap().into_inner();
    let sequences: Vec<_> = first_events.events.iter().chain(&more.events).map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 11, 12, 13, 14]);

    for (what, size, token) in [
        ("another list's token", 3, &*first_events.next_page_token),
        ("no token", 3, "abc"),
        ("a negative size", -1, ""),
        ("too large a page", 501, ""),
    ] {
        let answer = world.client().list_policy_versions(world.by("vera", versions(size, token.into()))).await;
        refused(what, answer, Code::InvalidArgument, ErrorReason::FieldInvalid);
    }
    let all = ListAuditEventsRequest::default();
    let all = world.client().list_audit_events(world.by("bob", all)).await;
    refused("all events for an admin of one namespace", all, Code::PermissionDenied, ErrorReason::RoleMissing);
}

#[tokio::test]
async fn a_page_of_long_texts_fits_into_a_message() {
    let world = World::new().await;
    let long = |weight| route("a", weight).replace("\"weight\"", &format!("{:?}", "x".repeat(400_000)));
    let (policy, _) = world.created("a").await;
    for weight in 2..7 {
        world.updated(&policy, long(weight)).await;
    }
    let (mut numbers, mut page_token) = (Vec::new(), String::new());
    loop {
        let message = ListPolicyVersionsRequest { id: policy.id.clone(), page_size: 500, page_token };
        let page = world.client().list_policy_versions(world.by("vera", message)).await.unwrap().into_inner();
        numbers.extend(page.versions.iter().map(|version| version.version));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(numbers, [6, 5, 4, 3, 2, 1]);
}
