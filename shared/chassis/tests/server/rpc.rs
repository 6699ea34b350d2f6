//! gRPC: tokens, errors, deadlines, load, traces, metrics.

use std::time::Duration;

use futures::StreamExt as _;
use meshward_chassis::{auth::Role, client, problem::reason_of, testing::Grant};
use meshward_proto::{rollout::v1::*, types::v1::ErrorReason};
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{PATIENCE, Steered, World, serve};

#[tokio::test]
async fn a_token_is_needed_and_shows_who_calls() {
    let world = World::new().await;
    let refused = world.client().get_deployment(GetDeploymentRequest::default()).await.expect_err("no token");
    assert_eq!((refused.code(), reason_of(&refused)), (Code::Unauthenticated, Some(ErrorReason::TokenMissing)));
    let reply = world.client().get_deployment(world.get("whoami")).await.expect("a good token").into_inner();
    assert_eq!(reply.deployment.expect("a deployment").reason, "alice");
}

#[tokio::test]
async fn a_missing_role_is_named() {
    let world = World::new().await;
    let request = world.authorized(PromoteDeploymentRequest::default());
    let refused = world.client().promote_deployment(request).await.expect_err("a viewer");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let info = refused.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((info.reason.as_str(), info.metadata["role"].as_str()), ("ROLE_MISSING", "admin"));

    let mut request = Request::new(PromoteDeploymentRequest::default());
    let token = world.issuer.mint(&Grant::new("root", [Role::Admin]).within(["shop"]));
    client::bearer(&mut request, &token).expect("a token");
    assert!(world.client().promote_deployment(request).await.is_ok());
}

#[tokio::test]
async fn health_and_reflection_need_no_token() {
    let world = World::new().await;
    let channel = client::connect_lazy(&world.server.url()).expect("an endpoint");
    let service = "meshward.rollout.v1.RolloutOrchestratorService".to_owned();
    let reply = HealthClient::new(channel.clone()).check(HealthCheckRequest { service }).await.expect("an answer");
    assert_eq!(reply.into_inner().status, 1);

    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};
    use tonic_reflection::pb::v1::{
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies = ServerReflectionClient::new(channel)
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .expect("a stream")
        .into_inner();
    let reply = replies.next().await.expect("an answer").expect("no error").message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = reply else { panic!("{reply:?}") };
    assert!(list.service.iter().any(|service| service.name == "meshward.rollout.v1.RolloutOrchestratorService"));
}

#[tokio::test]
async fn statuses_are_counted_wherever_they_come_from() {
    let world = World::new().await;
    let mut client = world.client();
    client.get_deployment(world.get("missing")).await.expect_err("not there");
    let reply = client.get_deployment(world.get("d")).await;
    assert!(reply.is_ok());
    let watch = |id: &str| world.authorized(WatchDeploymentRequest { id: id.to_owned(), after_sequence: 0 });
    let mut broken = client.watch_deployment(watch("breaks")).await.expect("a stream").into_inner();
    while let Some(Ok(_)) = broken.next().await {}
    let mut endless = client.watch_deployment(watch("endless")).await.expect("a stream").into_inner();
    assert!(endless.next().await.is_some());
    drop(endless);
    let ends = [
        ("GetDeployment", "NOT_FOUND"),
        ("GetDeployment", "OK"),
        ("WatchDeployment", "ABORTED"),
        ("WatchDeployment", "CANCELLED"),
    ];
    for (method, code) in ends {
        world.counted_once(method, code).await;
    }
}

#[tokio::test]
async fn one_trace_goes_through_both_servers() {
    let world = World::new().await;
    let peer = Some(client::connect_lazy(&world.server.url()).expect("an endpoint"));
    let front = serve(&world.issuer, |_| {}, Steered { peer, ..Steered::default() }).await;
    let mut request = world.get("relay");
    let trace = "0af7651916cd43dd8448eb211c80319c";
    request.metadata_mut().insert("traceparent", format!("00-{trace}-b7ad6b7169203331-01").parse().expect("a header"));
    // Not through a PeerChannel, which would put its own context into the header.
    let channel = tonic::transport::Endpoint::from_shared(front.url()).expect("an endpoint").connect_lazy();
    let mut client = rollout_orchestrator_service_client::RolloutOrchestratorServiceClient::new(channel);
    let seen =
        client.get_deployment(request).await.expect("an answer").into_inner().deployment.expect("a deployment").reason;
    assert!(seen.starts_with(&format!("00-{trace}-")), "{seen}");
    assert!(!seen.contains("b7ad6b7169203331"), "the second server has a span of its own: {seen}");
}

#[tokio::test]
async fn a_call_ends_at_the_shorter_deadline() {
    let world = World::with(|args| args.request_timeout = Duration::from_millis(500), Steered::default()).await;
    let refused = world.client().get_deployment(world.get("never")).await.expect_err("too slow");
    assert_eq!((refused.code(), reason_of(&refused)), (Code::DeadlineExceeded, Some(ErrorReason::DeadlineExceeded)));

    // A stream only has to begin in time.
    let request = world.authorized(WatchDeploymentRequest { id: "endless".to_owned(), after_sequence: 0 });
    let mut events = world.client().watch_deployment(request).await.expect("a stream").into_inner();
    let three = async { (events.next().await, events.next().await, events.next().await) };
    assert!(
        tokio::time::timeout(Duration::from_millis(700), three).await.is_err(),
        "it is still open after the deadline"
    );

    let world = World::new().await;
    let mut request = world.get("never");
    request.metadata_mut().insert("grpc-timeout", "50m".parse().expect("a header"));
    let refused = world.client().get_deployment(request).await.expect_err("too slow");
    assert_eq!(refused.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn more_calls_than_fit_are_sent_away() {
    let limits = |args: &mut meshward_chassis::server::ServerArgs| (args.max_concurrency, args.max_queue) = (1, 0);
    let world = World::with(limits, Steered::default()).await;
    let (mut first, request) = (world.client(), world.get("hold"));
    let held = tokio::spawn(async move { first.get_deployment(request).await });
    tokio::time::timeout(PATIENCE, world.service.entered.notified()).await.expect("the first call is in");
    let refused = world.client().get_deployment(world.get("d")).await.expect_err("full");
    assert_eq!((refused.code(), reason_of(&refused)), (Code::ResourceExhausted, Some(ErrorReason::Overloaded)));
    assert!(refused.get_details_retry_info().is_some(), "it says when to come again");
    world.service.release.notify_one();
    assert!(held.await.expect("no panic").is_ok(), "the first call is not harmed");
    assert!(world.client().get_deployment(world.get("d")).await.is_ok(), "there is room again");
}

#[tokio::test]
async fn a_panic_is_our_fault_and_stays_secret() {
    let world = World::new().await;
    let refused = world.client().get_deployment(world.get("panic")).await.expect_err("a panic");
    assert_eq!((refused.code(), reason_of(&refused)), (Code::Internal, Some(ErrorReason::Internal)));
    assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let world = World::with(|args| args.max_message_bytes = 1000, Steered::default()).await;
    let refused = world.client().get_deployment(world.get(&"x".repeat(2000))).await.expect_err("too large");
    assert_eq!(refused.code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_peer_that_is_down_is_unavailable() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let channel = client::connect_lazy(&format!("http://{closed}")).expect("an endpoint");
    let mut client = rollout_orchestrator_service_client::RolloutOrchestratorServiceClient::new(channel);
    let request = client::with_deadline(Request::new(GetDeploymentRequest::default()), PATIENCE);
    let refused = client.get_deployment(request).await.expect_err("nobody listens");
    assert_eq!((refused.code(), reason_of(&refused)), (Code::Unavailable, Some(ErrorReason::PeerUnavailable)));
}

#[tokio::test]
async fn a_service_token_is_read_again_when_the_file_changes() {
    let world = World::new().await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    let token = client::ServiceToken::in_file(&path);
    let ask = || GetDeploymentRequest { id: "whoami".to_owned() };
    let mut request = Request::new(ask());
    assert_eq!(token.authorize(&mut request).expect_err("no file").code(), Code::Unavailable);
    for (age, subject) in [(100, "first"), (50, "second")] {
        let minted = world.issuer.mint(&Grant::new(subject, [Role::Service]));
        std::fs::write(&path, minted).expect("the file can be written");
        let file = std::fs::File::options().append(true).open(&path).expect("a file");
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(2_000_000_000 - age)).expect("a time");
        let mut request = Request::new(ask());
        token.authorize(&mut request).expect("a token");
        let reply = world.client().get_deployment(request).await.expect("an answer").into_inner();
        assert_eq!(reply.deployment.expect("a deployment").reason, subject);
    }
}
