//! What the judge said and why, after restarts and for whoever asks.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use meshward_chassis::{auth::Role, testing::Grant};
use meshward_model::Verdict;
use meshward_proto::{rollout::v1::*, types::v1::Verdict as WireVerdict};
use meshward_rollout_orchestrator::{
    store::MIGRATIONS,
    verdicts::{Kept, MAX_OF_STEP, SqlVerdicts, Verdicts},
};
use meshward_store::Database;
use tonic::{Code, Status};

use crate::support::{Service, fields, ports};

async fn explain(service: &Service, request: ExplainVerdictRequest) -> Result<ExplainVerdictResponse, Status> {
    let reply = service.client.clone().explain_verdict(service.ask(request)).await;
    reply.map(tonic::Response::into_inner)
}

fn of(id: &str) -> ExplainVerdictRequest {
    ExplainVerdictRequest { id: id.to_owned(), ..ExplainVerdictRequest::default() }
}

#[tokio::test]
async fn what_led_to_a_rollback_can_be_asked_long_after() {
    let service = Service::new().await;
    service.world.state().judge =
        Box::new(|question| if question.periods.len() > 1 { Verdict::Regression } else { Verdict::Healthy });
    let id = service.create().await.id;
    service.until(&id, DeploymentState::RolledBack).await;
    let newest = explain(&service, of(&id)).await.expect("the newest");
    let told = newest.explanation.expect("set");
    let asked = service.world.state().verdicts.len();
    assert!(asked > newest.kept.len(), "those that said the same took each other's place");
    let line = |kept: &KeptVerdict| (kept.step, kept.verdict(), kept.explanation.clone());
    assert_eq!(
        newest.kept.iter().map(line).collect::<Vec<_>>(),
        [
            (0, WireVerdict::Healthy, "the judge says Healthy".to_owned()),
            (1, WireVerdict::Regression, "the judge says Regression".to_owned()),
        ]
    );
    assert_eq!((told.deployment_id, told.sentences), (id.clone(), vec![format!("verdict {asked}")]));

    let first = ExplainVerdictRequest { step: Some(0), ..of(&id) };
    let first = explain(&service, first).await.expect("of the first step").explanation.expect("set");
    let by_id = ExplainVerdictRequest { analysis_id: newest.kept[0].analysis_id.clone(), ..of(&id) };
    let by_id = explain(&service, by_id).await.expect("by its id").explanation.expect("set");
    assert_eq!(first.sentences, by_id.sentences);
    assert_ne!(first.sentences, [format!("verdict {asked}")]);

    for (request, code, named) in [
        (ExplainVerdictRequest { step: Some(7), ..of(&id) }, Code::NotFound, vec![]),
        (ExplainVerdictRequest { analysis_id: "nope".into(), ..of(&id) }, Code::NotFound, vec![]),
        (of("nope"), Code::NotFound, vec![]),
        (ExplainVerdictRequest { step: Some(-1), ..of(&id) }, Code::InvalidArgument, vec!["step"]),
        (
            ExplainVerdictRequest { step: Some(0), analysis_id: "a".into(), ..of(&id) },
            Code::InvalidArgument,
            vec!["step"],
        ),
    ] {
        let status = explain(&service, request.clone()).await.expect_err("refused");
        assert_eq!((status.code(), fields(&status)), (code, named.into_iter().map(str::to_owned).collect()));
    }
    let stranger = Grant::new("eve", [Role::Viewer]).within(["pay"]);
    let status = service.client.clone().explain_verdict(service.ask_as(&stranger, of(&id))).await;
    assert_eq!(status.expect_err("not hers").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_verdict_is_there_after_a_restart_and_for_another_replica() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("rollout.db").display());
    let world = crate::world::World::new();
    let kept = kept(1, Verdict::Regression, 7);
    {
        let first = ports(&world, &url).await;
        first.store.create(&crate::store::deployment(1), &[], &crate::store::repeat("")).await.expect("stored");
        first.verdicts.keep("d001", &kept, b"why").await.expect("kept");
        let other_replica = ports(&world, &url).await;
        assert_eq!(other_replica.verdicts.all("d001").await.expect("an answer"), std::slice::from_ref(&kept));
    }
    let again = ports(&world, &url).await;
    assert_eq!(again.verdicts.all("d001").await.expect("an answer"), std::slice::from_ref(&kept));
    let told = again.verdicts.told("d001", &kept.analysis_id).await.expect("an answer");
    assert_eq!(told.as_deref(), Some(b"why".as_slice()));
}

fn kept(step: usize, verdict: Verdict, number: i64) -> Kept {
    let begin = Timestamp::from_second(1_800_000_000).expect("a time");
    Kept {
        analysis_id: format!("a{number}"),
        step,
        verdict,
        time: begin.checked_add(SignedDuration::from_secs(15 * number)).expect("a time"),
        explanation: format!("sentence {number}"),
    }
}

#[tokio::test]
async fn a_step_keeps_its_changes_of_mind_up_to_a_bound_and_an_age() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("rollout.db").display());
    let world = crate::world::World::new();
    let store = ports(&world, &url).await.store;
    for number in [1, 2] {
        let deployment = crate::store::deployment(number);
        store.create(&deployment, &[], &crate::store::repeat("")).await.expect("stored");
    }
    let database = Database::open(&url, MIGRATIONS).await.expect("a database");
    let verdicts = SqlVerdicts::new(database, Duration::from_secs(1000));
    let ids = async |id: &str| {
        let all = verdicts.all(id).await.expect("an answer");
        all.into_iter().map(|kept| kept.analysis_id).collect::<Vec<_>>()
    };
    for (step, verdict, number) in [
        (0, Verdict::Watching, 1),
        (0, Verdict::Watching, 2),
        (0, Verdict::Healthy, 3),
        (1, Verdict::Healthy, 4),
        (0, Verdict::Watching, 5),
        (1, Verdict::Healthy, 6),
    ] {
        verdicts.keep("d001", &kept(step, verdict, number), b"").await.expect("kept");
    }
    assert_eq!(ids("d001").await, ["a2", "a3", "a5", "a6"]);
    for number in 7..7 + 2 * i64::from(MAX_OF_STEP) {
        let verdict = if number % 2 == 0 { Verdict::NoData } else { Verdict::Healthy };
        verdicts.keep("d001", &kept(2, verdict, number), b"").await.expect("kept");
    }
    let found = ids("d001").await;
    assert_eq!(found.len(), 4 + MAX_OF_STEP as usize);
    assert_eq!((&*found[4], found.last().map(String::as_str)), ("a27", Some("a46")));
    // 1,000 s before a100 is a33.3: what is older goes, of every deployment.
    verdicts.keep("d002", &kept(0, Verdict::Healthy, 100), b"").await.expect("kept");
    assert_eq!(ids("d001").await.first().map(String::as_str), Some("a34"));
    assert_eq!(ids("d002").await, ["a100"]);
    assert_eq!(verdicts.told("d001", "a2").await.expect("an answer"), None);
}
