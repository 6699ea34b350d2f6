//! Lists, events and watching.

use futures::StreamExt as _;
use meshward_chassis::{
    auth::{Identity, Role},
    ids::SequenceIds,
    testing::Grant,
};
use meshward_proto::rollout::v1::{rollout_orchestrator_service_server::RolloutOrchestratorService as _, *};
use meshward_rollout_orchestrator::{app::App, grpc::Grpc};
use std::sync::Arc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming};

use crate::support::{PATIENCE, Service, fields, request};

async fn page(service: &Service, who: &Grant, request: ListDeploymentsRequest) -> ListDeploymentsResponse {
    let reply = service.client.clone().list_deployments(service.ask_as(who, request)).await;
    reply.expect("a page").into_inner()
}

#[tokio::test]
async fn lists_are_newest_first_paged_and_only_of_what_one_may_read() {
    let service = Service::new().await;
    let everybody = Grant::new("ada", [Role::Developer]);
    let mut created = Vec::new();
    for (index, namespace) in ["shop", "pay", "shop", "pay", "shop"].into_iter().enumerate() {
        let policy = format!("q{index}");
        service.world.add_policy(&policy, &policy, namespace);
        let reply = service.client.clone().create_deployment(service.ask_as(&everybody, request(&policy))).await;
        created.push(reply.expect("a deployment").into_inner().deployment.expect("a deployment").id);
    }
    for (namespace, expected) in [("shop", vec![4, 2, 0]), ("pay", vec![3, 1]), ("other", vec![])] {
        let who = Grant::new("eve", [Role::Viewer]).within([namespace]);
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let asked = ListDeploymentsRequest { page_size: 2, page_token: token, ..Default::default() };
            let reply = page(&service, &who, asked).await;
            assert!(reply.deployments.len() <= 2);
            found.extend(reply.deployments.into_iter().map(|deployment| deployment.id));
            token = reply.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = expected.into_iter().map(|index: usize| created[index].clone()).collect();
        assert_eq!(found, expected, "{namespace}");
    }
    let of_one = ListDeploymentsRequest { policy_id: "q3".into(), ..Default::default() };
    assert_eq!(page(&service, &everybody, of_one).await.deployments.len(), 1);

    let first = page(&service, &everybody, ListDeploymentsRequest { page_size: 1, ..Default::default() }).await;
    let elsewhere =
        ListDeploymentsRequest { policy_id: "q3".into(), page_token: first.next_page_token, ..Default::default() };
    for (asked, field) in
        [(elsewhere, "page_token"), (ListDeploymentsRequest { page_size: 501, ..Default::default() }, "page_size")]
    {
        let status = service.client.clone().list_deployments(service.ask(asked)).await.expect_err(field);
        assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

#[tokio::test]
async fn others_may_not_read() {
    let service = Service::new().await;
    let id = service.create().await.id;
    let stranger = Grant::new("eve", [Role::Developer]).within(["pay"]);
    let mut client = service.client.clone();
    let codes = [
        client.get_deployment(service.ask_as(&stranger, GetDeploymentRequest { id: id.clone() })).await.err(),
        client
            .list_deployment_events(
                service.ask_as(&stranger, ListDeploymentEventsRequest { id: id.clone(), ..Default::default() }),
            )
            .await
            .err(),
        client
            .watch_deployment(service.ask_as(&stranger, WatchDeploymentRequest { id, after_sequence: 0 }))
            .await
            .err(),
    ];
    assert!(
        codes.iter().all(|status| status.as_ref().is_some_and(|s| s.code() == Code::PermissionDenied)),
        "{codes:?}"
    );
    let nothing = client.watch_deployment(service.ask(WatchDeploymentRequest::default())).await;
    assert_eq!(nothing.expect_err("there is none").code(), Code::NotFound);
}

#[tokio::test]
async fn events_are_paged_without_gaps() {
    let service = Service::new().await;
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Promoted).await;
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let asked = ListDeploymentEventsRequest { id: id.clone(), page_size: 3, page_token };
        let reply =
            service.client.clone().list_deployment_events(service.ask(asked)).await.expect("a page").into_inner();
        found.extend(reply.events);
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let sequences: Vec<_> = found.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=8).collect::<Vec<i64>>());
    assert!(
        found.iter().all(|event| event.deployment_id == id && !event.message.is_empty() && !event.actor.is_empty())
    );
    assert!(found.windows(2).all(|pair| pair[0].time.map(|t| t.seconds) <= pair[1].time.map(|t| t.seconds)));
}

async fn watch(service: &Service, id: &str, after_sequence: i64) -> Streaming<WatchDeploymentResponse> {
    let asked = service.ask(WatchDeploymentRequest { id: id.to_owned(), after_sequence });
    service.client.clone().watch_deployment(asked).await.expect("a stream").into_inner()
}

async fn next(stream: &mut Streaming<WatchDeploymentResponse>) -> Option<Result<WatchDeploymentResponse, Status>> {
    timeout(PATIENCE, stream.next()).await.expect("in time")
}

fn sequence(message: &WatchDeploymentResponse) -> i64 {
    message.event.as_ref().map_or(0, |event| event.sequence)
}

#[tokio::test]
async fn a_watch_replays_goes_on_and_ends_by_itself() {
    let service = Service::new().await;
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Baking).await;
    let mut all = watch(&service, &id, 0).await;
    let mut later = watch(&service, &id, 2).await;
    for expected in 1..=3 {
        assert_eq!(sequence(&next(&mut all).await.expect("an event").expect("no error")), expected);
    }
    assert_eq!(sequence(&next(&mut later).await.expect("an event").expect("no error")), 3);

    service.until(&id, DeploymentState::Promoted).await;
    for stream in [&mut all, &mut later] {
        let mut last = WatchDeploymentResponse::default();
        for expected in 4..=8 {
            last = next(stream).await.expect("an event").expect("no error");
            assert_eq!(sequence(&last), expected);
        }
        assert_eq!(last.deployment.expect("a deployment").state(), DeploymentState::Promoted);
        assert!(next(stream).await.is_none(), "the stream ends with the deployment");
    }
    let mut after_the_end = watch(&service, &id, 8).await;
    assert!(next(&mut after_the_end).await.is_none());
}

#[tokio::test]
async fn a_shutdown_ends_a_watch_with_unavailable() {
    let service = Service::new().await;
    let id = service.create().await.id;
    let mut stream = watch(&service, &id, 0).await;
    next(&mut stream).await.expect("an event").expect("no error");
    service.server.begin_stop();
    let end = next(&mut stream).await.expect("an end that is told").expect_err("not the deployment's end");
    assert_eq!(end.code(), Code::Unavailable);
    service.server.stop().await.expect("an orderly end");
}

/// What a stream says without a network between, for a reader whose pace the test decides.
async fn watch_in_process(service: &Service, id: &str, stop: &CancellationToken) -> WatchStream {
    let app = App::new(service.ports.clone(), Arc::new(SequenceIds::default()));
    let grpc = Grpc::new(app, service.ports.clone(), stop.clone());
    let mut asked = Request::new(WatchDeploymentRequest { id: id.to_owned(), after_sequence: 0 });
    asked.extensions_mut().insert(Identity {
        subject: "alice".into(),
        roles: [Role::Viewer].into(),
        namespaces: ["*".to_owned()].into(),
    });
    grpc.watch_deployment(asked).await.expect("a stream").into_inner()
}

type WatchStream = <Grpc as rollout_orchestrator_service_server::RolloutOrchestratorService>::WatchDeploymentStream;

/// Pauses and resumes until there are more events than a stream buffers.
async fn long_story(service: &Service) -> String {
    let id = service.create().await.id;
    service.until(&id, DeploymentState::Baking).await;
    for _ in 0..12 {
        let pause = PauseDeploymentRequest { id: id.clone(), ..Default::default() };
        service.client.clone().pause_deployment(service.ask(pause)).await.expect("paused");
        let resume = ResumeDeploymentRequest { id: id.clone(), ..Default::default() };
        service.client.clone().resume_deployment(service.ask(resume)).await.expect("resumed");
    }
    id
}

#[tokio::test]
async fn a_slow_reader_learns_of_a_shutdown_as_well() {
    let service = Service::new().await;
    let id = long_story(&service).await;
    let stop = CancellationToken::new();
    let mut stream = watch_in_process(&service, &id, &stop).await;
    // The first event is there, so the task is at work; it then fills the buffer while nobody reads.
    stream.next().await.expect("an event").expect("no error");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let rest: Vec<_> = timeout(PATIENCE, stream.collect()).await.expect("it ends");
    let last: &Result<WatchDeploymentResponse, Status> = rest.last().expect("something");
    assert_eq!(
        last.as_ref().expect_err("a stream that ends well says that the deployment has ended").code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn a_reader_that_leaves_frees_the_task() {
    let service = Service::new().await;
    let id = long_story(&service).await;
    for reads in [0, 1, 20] {
        let ports = Arc::strong_count(&service.ports.store);
        let stop = CancellationToken::new();
        let mut stream = watch_in_process(&service, &id, &stop).await;
        for _ in 0..reads {
            stream.next().await.expect("an event").expect("no error");
        }
        drop(stream);
        let freed = async {
            while Arc::strong_count(&service.ports.store) > ports {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, freed).await.expect("the task ends with its reader");
    }
}
