//! Why it was said: ExplainVerdict after RunAnalysis on a real Prometheus.

use std::time::Duration;

use jiff::SignedDuration;
use meshward_chassis::{auth::Role, testing::Grant};
use meshward_proto::{metrics::v1 as proto, types::v1::Verdict};
use tonic::Code;

use super::{
    history,
    world::{Source, World, analysis},
};

fn of_step(service: &str, deployment_id: &str, step: i32) -> proto::RunAnalysisRequest {
    proto::RunAnalysisRequest { deployment_id: deployment_id.to_owned(), step, ..analysis(service) }
}

fn by_id(analysis_id: &str) -> proto::ExplainVerdictRequest {
    proto::ExplainVerdictRequest { analysis_id: analysis_id.to_owned(), ..Default::default() }
}

fn newest(deployment_id: &str, step: Option<i32>) -> proto::ExplainVerdictRequest {
    proto::ExplainVerdictRequest { deployment_id: deployment_id.to_owned(), step, ..Default::default() }
}

async fn explain(
    world: &World,
    request: proto::ExplainVerdictRequest,
) -> Result<proto::ExplainVerdictResponse, tonic::Status> {
    world.client().explain_verdict(world.request(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_verdict_is_explained_tick_by_tick() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let said = world.analyse(of_step("bad", "d-1", 2)).await.expect("an analysis");
    assert_eq!(said.verdict(), Verdict::Regression);
    let why = explain(&world, by_id(&said.id)).await.expect("it is kept");
    assert_eq!((&*why.deployment_id, why.step), ("d-1", 2));
    // Latencies are NaN, which equals nothing.
    assert_eq!(format!("{:?}", why.analysis.expect("set")), format!("{said:?}"));
    let options = why.options.expect("defaults are filled in");
    assert_eq!((options.alpha, options.tolerance, options.detectable_effect), (0.01, 0.0005, 0.05));

    let (before, since): (Vec<_>, Vec<_>) = why.ticks.iter().partition(|tick| tick.before_change);
    assert_eq!((before.len(), since.len()), (60, 20), "15 minutes before, 5 since");
    assert!(
        before.iter().all(|tick| tick.weight_bp == 0 && (tick.evidence - 1.0).abs() < 1e-9),
        "the time before is no evidence"
    );
    assert!(since.iter().all(|tick| tick.weight_bp == 1000));
    let samples: Vec<_> = since.iter().filter_map(|tick| tick.sample).collect();
    assert_eq!(samples, said.samples);
    let crossed = since.iter().position(|tick| tick.evidence >= said.evidence_bound).expect("it is a regression");
    assert!((7..=9).contains(&crossed), "it fails from the eighth tick on: {crossed}");
    assert!(since[..7].iter().all(|tick| tick.evidence < 2.0), "nothing was wrong before");

    let reached = format!(
        "in the tick that ended at {}",
        jiff::Timestamp::from_second(history::at(crossed as i64 + 1).seconds).expect("in range")
    );
    for wanted in [
        format!("REGRESSION: {}.", said.explanation),
        reached,
        "From 100 on it is a regression, which an equal canary ever reaches with a probability of at most 1 %; from 10 on \
         the step is held."
            .to_owned(),
        "1.10 times as often as the control".to_owned(),
        "Nothing is known of the time before the change.".to_owned(),
        "Latencies were not compared".to_owned(),
        "denied requests: 0 in the canary, 0 in the control".to_owned(),
    ] {
        assert!(why.sentences.iter().any(|sentence| sentence.contains(&wanted)), "{wanted}: {:#?}", why.sentences);
    }
}

#[tokio::test]
async fn a_caller_that_keeps_verdicts_is_told_the_same_at_once() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    for explain in [false, true] {
        let request = proto::RunAnalysisRequest { explain, ..of_step("bad", "d-1", 1) };
        let reply = world.client().run_analysis(world.request(request)).await.expect("an answer").into_inner();
        let analysis = reply.analysis.expect("set");
        let asked = self::explain(&world, by_id(&analysis.id)).await.expect("it is kept");
        // The analysis has latencies that are not a number, which equal nothing.
        let asked = proto::ExplainVerdictResponse { analysis: None, ..asked };
        assert!(reply.explanation == explain.then_some(asked), "explain: {explain}");
    }
}

#[tokio::test]
async fn latencies_are_told_at_the_edges_that_were_compared() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let said = world.analyse(analysis("good")).await.expect("an analysis");
    let why = explain(&world, by_id(&said.id)).await.expect("it is kept");
    let last = why.ticks.last().expect("ticks");
    assert_eq!((last.canary_timed, last.control_timed), (150, 1350));
    let slow: Vec<_> = last.slow.iter().map(|slow| (slow.edge_ms, slow.canary, slow.control)).collect();
    assert_eq!(slow, [(10.0, 75, 675), (25.0, 0, 0)]);
    assert!(why.sentences.iter().any(|one| one == "Latencies were compared at 10, 25 ms."), "{:#?}", why.sentences);
}

#[tokio::test]
async fn the_newest_of_a_deployment_or_of_a_step_is_found() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    let first = world.analyse(of_step("good", "d", 0)).await.expect("an analysis");
    let second = world.analyse(of_step("good", "d", 1)).await.expect("an analysis");
    assert_ne!(first.id, second.id);
    for (request, id) in
        [(newest("d", None), &second.id), (newest("d", Some(0)), &first.id), (by_id(&first.id), &first.id)]
    {
        let found = explain(&world, request).await.expect("kept");
        let analysis = found.analysis.expect("set");
        assert_eq!((&analysis.id, analysis.verdict()), (id, Verdict::ProviderError));
        assert!(found.ticks.is_empty() && found.sentences.len() == 1, "{:#?}", found.sentences);
        assert!(found.sentences[0].starts_with("PROVIDER_ERROR: Prometheus at"), "{:#?}", found.sentences);
    }
}

#[tokio::test]
async fn what_is_no_longer_kept_is_not_found_and_says_why() {
    let setup = |args: &mut meshward_metrics_collector::Args, _: &std::path::Path| {
        (args.kept_verdicts, args.kept_for) = (2, Duration::from_secs(600));
    };
    let world = World::with_args(Source::Address("http://127.0.0.1:1".to_owned()), setup).await;
    let mut ids = Vec::new();
    for deployment in ["d-0", "d-1", "d-2"] {
        ids.push(world.analyse(of_step("good", deployment, 0)).await.expect("an analysis").id);
    }
    let gone = explain(&world, by_id(&ids[0])).await.expect_err("the oldest of three made room");
    assert_eq!(gone.code(), Code::NotFound);
    let why = format!(
        "the verdict {:?} is not kept here: verdicts are kept for 600 s, the newest 2 of all and 8 of each step, in the \
         memory of the replica that gave them; 2 are kept now. The rollout-orchestrator keeps those of its deployments for long; RunAnalysis judges the same data again",
        ids[0]
    );
    assert_eq!(gone.message(), why);
    assert!(explain(&world, by_id(&ids[2])).await.is_ok());
    world.clock.advance(SignedDuration::from_secs(601));
    let old = explain(&world, newest("d-2", Some(0))).await.expect_err("too old");
    assert_eq!(old.code(), Code::NotFound);
    assert!(old.message().contains("has no verdict of step 0 that is kept here"), "{}", old.message());
}

#[tokio::test]
async fn only_who_may_view_the_target_is_told() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    let said = world.analyse(of_step("good", "d", 0)).await.expect("an analysis");
    let eve = Grant::new("eve", [Role::Viewer]).within(["other"]);
    let status = world.client().explain_verdict(world.request_of(&eve, by_id(&said.id))).await.expect_err("not hers");
    assert_eq!(status.code(), Code::PermissionDenied);
    let both = proto::ExplainVerdictRequest { deployment_id: "d".to_owned(), ..by_id(&said.id) };
    for request in [proto::ExplainVerdictRequest::default(), both] {
        let status = explain(&world, request).await.expect_err("which one?");
        assert_eq!((status.code(), World::fields(&status)), (Code::InvalidArgument, vec!["analysis_id".to_owned()]));
    }
}
