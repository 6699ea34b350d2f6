//! Many deployments at once.

use std::{
    collections::HashSet,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all, stream};
use meshward_metrics_collector::Args;
use meshward_proto::types::v1::Verdict;
use tonic::Request;

use super::{
    history, scripted,
    world::{Source, World, analysis},
};

const ANALYSES: i64 = 1000;

#[tokio::test]
async fn a_thousand_analyses_at_once_ask_each_question_once() {
    let setup = |args: &mut Args, _: &Path| {
        args.query_cache = Duration::from_secs(3600);
        // All of them at once: none is turned away.
        (args.server.max_concurrency, args.server.max_queue) = (1000, 1000);
        (args.server.request_timeout, args.source.query_timeout) = (Duration::from_secs(600), Duration::from_secs(500));
    };
    // Different questions among them, each about the same service with other ticks or another history.
    let questions = std::env::var("MESHWARD_LOAD_QUESTIONS").map_or(100, |number| number.parse().expect("a number"));
    let world = World::with_args(Source::Prometheus(history::shop()), setup).await;
    let before = (world.range_queries().await, Usage::now());
    // One caller with one token and one connection, as the orchestrator is.
    let (client, token) = (world.client(), world.request(()).metadata().clone());
    let ask = |index: i64| {
        let (tick, history) = (3 + index % questions % 100, index % questions / 100);
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let mut request = analysis("good");
        (request.tick, request.history) = (seconds(tick), seconds(history * tick));
        let request = Request::from_parts(token.clone(), tonic::Extensions::new(), request);
        let mut client = client.clone();
        async move { client.run_analysis(request).await.map(|reply| reply.into_inner().analysis.expect("set")) }
    };
    let begin = Instant::now();
    let answers: Vec<_> = stream::iter(0..ANALYSES).map(ask).buffer_unordered(1000).collect().await;
    let verdicts: HashSet<Verdict> =
        answers.iter().map(|answer| answer.as_ref().expect("an answer").verdict()).collect();
    assert_eq!((answers.len(), verdicts), (1000, HashSet::from([Verdict::Healthy])));
    let (elapsed, used) = (begin.elapsed().as_secs_f64(), Usage::now());
    let asked = world.range_queries().await - before.0;
    // Counters, latencies and other failures.
    assert_eq!(asked, 3 * questions, "queries for {ANALYSES} analyses");
    let from = async |outcome: &str| world.shown("meshward_metrics_questions_total", outcome).await;
    let (hits, coalesced, misses) = (from("hit").await, from("coalesced").await, from("miss").await);
    assert_eq!((hits + coalesced + misses, misses), (3.0 * ANALYSES as f64, asked as f64));
    println!(
        "{ANALYSES} analyses with {questions} questions in {elapsed:.1} s: {asked} range queries ({:.0}/s), {:.0} % of \
         the questions answered without one; {:.1} CPU s and {:.0} MB at most, callers included",
        asked as f64 / elapsed,
        100.0 * (hits + coalesced) / (hits + coalesced + misses),
        used.cpu_seconds - before.1.cpu_seconds,
        used.most_megabytes,
    );
}

/// More would wait at Prometheus's door, behind connections that are only kept open.
#[tokio::test]
async fn only_so_many_questions_are_at_one_prometheus_at_once() {
    let (slow, most) = scripted::slow().await;
    let patient = |args: &mut Args, _: &Path| args.source.query_timeout = Duration::from_secs(60);
    let world = World::with_args(Source::Listener(slow), patient).await;
    let asked = (3..67).map(|tick| {
        let mut request = analysis("good");
        request.tick = Some(prost_types::Duration { seconds: tick, nanos: 0 });
        world.analyse(request)
    });
    let verdicts: HashSet<Verdict> =
        join_all(asked).await.into_iter().map(|answer| answer.expect("an answer").verdict()).collect();
    assert_eq!(verdicts, HashSet::from([Verdict::NoData]), "each was answered");
    let most = most.load(Ordering::SeqCst);
    assert!((1..=32).contains(&most), "{most} at once");
}

/// What this process has used so far.
struct Usage {
    cpu_seconds: f64,
    most_megabytes: f64,
}

impl Usage {
    fn now() -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).expect("Linux tells");
        // Behind the name, which ends with the last bracket, times in hundredths of a second are the 12th and 13th field.
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("a number")).sum();
        let status = read("status");
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is told");
        let kilobytes: f64 = most.trim_end_matches("kB").trim().parse().expect("a number");
        Self { cpu_seconds: ticks / 100.0, most_megabytes: kilobytes / 1000.0 }
    }
}
