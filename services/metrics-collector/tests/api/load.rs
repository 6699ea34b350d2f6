//! Many deployments at once.

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use meshward_metrics_collector::Args;
use meshward_proto::types::v1::Verdict;
use tonic::Request;

use super::{
    history,
    world::{Source, World, analysis},
};

const ANALYSES: i64 = 1000;
/// Different questions among them, each about the same service with another length of the tick.
const QUESTIONS: i64 = 100;

#[tokio::test]
async fn a_thousand_analyses_at_once_ask_each_question_once() {
    let setup = |args: &mut Args, _: &Path| {
        args.query_cache = Duration::from_secs(3600);
        // All of them at once: none is turned away.
        (args.server.max_concurrency, args.server.max_queue) = (1000, 1000);
        args.server.request_timeout = Duration::from_secs(600);
    };
    let world = World::with_args(Source::Prometheus(history::shop()), setup).await;
    let before = world.range_queries().await;
    // One caller with one token and one connection, as the orchestrator is.
    let (client, token) = (world.client(), world.request(()).metadata().clone());
    let ask = |index: i64| {
        let mut request = analysis("good");
        request.tick = Some(prost_types::Duration { seconds: 3 + index % QUESTIONS, nanos: 0 });
        let request = Request::from_parts(token.clone(), tonic::Extensions::new(), request);
        let mut client = client.clone();
        async move { client.run_analysis(request).await.map(|reply| reply.into_inner().analysis.expect("set")) }
    };
    let begin = Instant::now();
    let answers: Vec<_> = stream::iter(0..ANALYSES).map(ask).buffer_unordered(1000).collect().await;
    let verdicts: HashSet<Verdict> =
        answers.iter().map(|answer| answer.as_ref().expect("an answer").verdict()).collect();
    assert_eq!((answers.len(), verdicts), (1000, HashSet::from([Verdict::Healthy])));
    let elapsed = begin.elapsed();
    let asked = world.range_queries().await - before;
    println!("{ANALYSES} analyses in {elapsed:.1?} with {asked} range queries");
    // Counters, latencies and other failures.
    assert_eq!(asked, 3 * QUESTIONS, "queries for {ANALYSES} analyses");
}
