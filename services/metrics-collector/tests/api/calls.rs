//! The calls beside RunAnalysis and GetTrafficMetrics.

use meshward_chassis::{auth::Role, testing::Grant};
use meshward_proto::{metrics::v1 as proto, types::v1::Mechanism, types::v1::Verdict};
use proto::QueryState;
use tokio::time::timeout;
use tonic::Code;

use super::{
    history::{self, at},
    scripted::{self, Reply},
    world::{Source, World, target},
};
use crate::PATIENCE;

const NOWHERE: &str = "http://127.0.0.1:1";

fn nowhere() -> Source {
    Source::Address(NOWHERE.to_owned())
}

async fn check(world: &World, service: &str) -> proto::CheckQueriesResponse {
    let request = world.request(proto::CheckQueriesRequest { target: Some(target(service)), templates: String::new() });
    let reply = timeout(PATIENCE, world.client().check_queries(request)).await.expect("no RPC hangs");
    reply.expect(service).into_inner()
}

#[tokio::test]
async fn each_query_says_whether_it_returns_data() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let cases = [
        ("good", [QueryState::Data; 3], [""; 3]),
        (
            "bad",
            [QueryState::Data, QueryState::NoSeries, QueryState::Data],
            [
                "",
                "no series \"canary\" (canary) and \"stable\" (control) for bad.shop.svc.cluster.local in the last 5",
                "",
            ],
        ),
        (
            "half",
            [QueryState::NoSeries, QueryState::NoSeries, QueryState::Data],
            ["no series \"canary\" (canary) for half", "no series", ""],
        ),
        (
            "unknown",
            [QueryState::NoSeries, QueryState::NoSeries, QueryState::Data],
            ["no series \"canary\" (canary) and \"stable\"", "no series \"canary\" (canary) and", ""],
        ),
    ];
    for (service, states, reasons) in cases {
        let reply = check(&world, service).await;
        let found: Vec<QueryState> = reply.checks.iter().map(proto::QueryCheck::state).collect();
        assert_eq!(found, states, "{service}: {:?}", reply.problems);
        for (check, reason) in reply.checks.iter().zip(reasons) {
            assert!(check.reason.starts_with(reason), "{service}: {}", check.reason);
            assert!(check.query.contains("envoy_vhost_"), "{service}");
        }
        assert_eq!(reply.problems.len(), states.iter().filter(|state| **state != QueryState::Data).count());
    }
    let good = check(&world, "good").await;
    let traffic = &good.checks[0];
    assert_eq!((&*traffic.name, traffic.canary_series, traffic.control_series), ("traffic", 2, 2), "two callers");

    let mut none = target("good");
    (none.canary_series, none.control_series) = (String::new(), String::new());
    none.mechanism = Mechanism::None.into();
    let request = world.request(proto::CheckQueriesRequest { target: Some(none), templates: String::new() });
    let reply = world.client().check_queries(request).await.expect("an answer").into_inner();
    assert!(reply.checks.is_empty() && reply.problems[0].contains("nothing counts canary and control apart"));
}

#[tokio::test]
async fn a_query_that_got_no_answer_is_told_apart_from_one_without_series() {
    let parse_error = r#"{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end"}"#;
    let cases = [
        (nowhere(), QueryState::ProviderError, "cannot be reached"),
        (
            Source::Listener(scripted::server(vec![Reply::new(400, parse_error)]).await),
            QueryState::Refused,
            "answered 400: bad_data: 1:5: parse error",
        ),
        (Source::Listener(scripted::silent().await), QueryState::ProviderError, "did not answer within"),
        (
            Source::Listener(scripted::server(vec![Reply::new(503, "busy")]).await),
            QueryState::ProviderError,
            "answered 503: busy",
        ),
    ];
    for (source, state, reason) in cases {
        let world = World::with(source).await;
        let reply = check(&world, "good").await;
        assert_eq!((reply.checks.len(), reply.problems.len()), (3, 3), "{reason}");
        for check in &reply.checks {
            assert_eq!(check.state(), state, "{}", check.reason);
            assert!(check.reason.contains(reason), "{}", check.reason);
        }
        assert!(reply.problems[1].starts_with("latency: Prometheus at"), "{}", reply.problems[1]);
    }
}

fn window(requests: i64, errors: i64) -> Option<proto::CohortTraffic> {
    Some(proto::CohortTraffic { requests, errors, requests_per_second: 10.0, ..proto::CohortTraffic::default() })
}

#[tokio::test]
async fn two_windows_are_compared() {
    let world = World::with(nowhere()).await;
    let compare = |baseline, current| {
        let request = proto::CompareMetricsRequest { baseline, current, options: None };
        let (mut client, request) = (world.client(), world.request(request));
        async move { client.compare_metrics(request).await.map(tonic::Response::into_inner) }
    };
    let worse = compare(window(54_000, 40), window(6000, 300)).await.expect("a verdict");
    assert_eq!(worse.verdict(), Verdict::Regression, "{}", worse.explanation);
    let counted =
        "current: 300 errors in 6000 requests (5.00 %); baseline: 40 errors in 54000 requests (0.07 %); evidence";
    assert!(worse.explanation.starts_with(counted), "{}", worse.explanation);
    assert!(worse.evidence > worse.evidence_bound, "{} {}", worse.evidence, worse.evidence_bound);
    let equal = compare(window(54_000, 40), window(6000, 4)).await.expect("a verdict");
    assert_eq!(equal.verdict(), Verdict::Healthy, "{}", equal.explanation);
    assert!(equal.required_requests > 100);
    let small = compare(window(54_000, 40), window(10, 0)).await.expect("a verdict");
    assert_eq!(small.verdict(), Verdict::Watching, "{}", small.explanation);
    let idle = compare(window(54_000, 40), window(0, 0)).await.expect("a verdict");
    assert_eq!(
        (idle.verdict(), &*idle.explanation),
        (Verdict::NoTraffic, "current has no requests: there is nothing to judge")
    );

    for (field, baseline, current) in [
        ("baseline", None, window(1, 0)),
        ("current", window(1, 0), None),
        ("current.errors", window(1, 0), window(1, 2)),
        ("current.requests", window(1, 0), window(-1, 0)),
    ] {
        let status = compare(baseline, current).await.expect_err(field);
        assert_eq!((status.code(), World::fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

fn sample(tick: i64, canary: (i64, i64), control: (i64, i64)) -> proto::TickSample {
    proto::TickSample {
        end_time: Some(at(tick + 1)),
        canary_requests: canary.0,
        canary_errors: canary.1,
        control_requests: control.0,
        control_errors: control.1,
    }
}

#[tokio::test]
async fn a_replay_of_what_prometheus_brought_says_the_same() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let request = super::world::analysis("bad");
    let analysis = world.analyse(request.clone()).await.expect("an analysis");
    let replay = |details| {
        let (samples, periods) = (analysis.samples.clone(), request.periods.clone());
        let replay = proto::ReplayAnalysisRequest { samples, options: None, periods, details };
        let (mut client, replay) = (world.client(), world.request(replay));
        async move { client.replay_analysis(replay).await.expect("a replay").into_inner() }
    };
    let reply = replay(vec![]).await;
    assert_eq!(reply.analyses.len(), analysis.samples.len());
    let last = reply.analyses.last().expect("twenty");
    assert_eq!((last.verdict(), &last.explanation), (analysis.verdict(), &analysis.explanation));
    assert_eq!(last.observed_share, analysis.observed_share);
    // There denials are counted as well, none of them, and had an eighth of the money.
    assert!((analysis.evidence / last.evidence - 0.875).abs() < 1e-6, "{} {}", last.evidence, analysis.evidence);
    let none = proto::FailureCounts { circuit_breaker_trips: Some(0), denials: Some(0), ..Default::default() };
    let details = proto::TickDetails { canary: Some(none), control: Some(none), ..Default::default() };
    let whole = replay(vec![details; analysis.samples.len()]).await;
    let counted = whole.analyses.last().expect("twenty");
    assert!((analysis.evidence / counted.evidence - 1.0).abs() < 1e-9, "{} {}", counted.evidence, analysis.evidence);
    assert_eq!(counted.canary.map(|canary| (canary.connection_failures, canary.denials)), Some((None, Some(0))));
    let first = reply.analyses.iter().position(|one| one.verdict() == Verdict::Regression);
    assert!(matches!(first, Some(7..=9)), "{first:?}: it fails from the eighth tick on");
}

#[tokio::test]
async fn a_replay_is_bounded_and_checked() {
    let world = World::with(nowhere()).await;
    let good = |tick| sample(tick, (150, 0), (1350, 1));
    let detailed = |samples, periods, details| {
        let request = proto::ReplayAnalysisRequest { samples, options: None, periods, details };
        let (mut client, request) = (world.client(), world.request(request));
        async move { client.replay_analysis(request).await.map(tonic::Response::into_inner) }
    };
    let replay = |samples, periods| detailed(samples, periods, vec![]);
    let longest = replay((0..1000).map(good).collect(), vec![]).await.expect("a thousand ticks");
    assert_eq!(longest.analyses.len(), 1000);
    assert_eq!(longest.analyses[999].verdict(), Verdict::Healthy);
    let period = |tick| proto::WeightPeriod { start_time: Some(at(tick)), weight_bp: 1000 };
    let cases = [
        ("samples", vec![], vec![]),
        ("samples", (0..1001).map(good).collect(), vec![]),
        ("samples[1].end_time", vec![good(3), good(3)], vec![]),
        ("samples[0].end_time", vec![proto::TickSample { end_time: None, ..good(0) }], vec![]),
        ("samples[0].canary_errors", vec![sample(0, (1, 2), (1, 0))], vec![]),
        ("samples[0].control_errors", vec![sample(0, (1, 0), (1, 2))], vec![]),
        ("samples[0].canary_requests", vec![sample(0, (-1, 0), (1, 0))], vec![]),
        ("periods[1].start_time", vec![good(0)], vec![period(0), period(9)]),
        ("periods[1].start_time", vec![good(0)], vec![period(0), period(0)]),
    ];
    for (field, samples, periods) in cases {
        let status = replay(samples, periods).await.expect_err(field);
        assert_eq!((status.code(), World::fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let bucket = |upper_edge_ms, canary, control| proto::LatencyBucket { upper_edge_ms, canary, control };
    let timed = |latencies| proto::TickDetails { latencies, ..Default::default() };
    let denied = |denials| proto::FailureCounts { denials: Some(denials), ..Default::default() };
    let end = bucket(f64::INFINITY, 1, 1);
    for (field, details) in [
        ("details", vec![timed(vec![]), timed(vec![])]),
        ("details[0].latencies", vec![timed(vec![bucket(10.0, 1, 1)])]),
        ("details[0].latencies", vec![timed(vec![bucket(10.0, 1, 1), bucket(10.0, 1, 1), end])]),
        ("details[0].latencies", vec![timed(vec![bucket(f64::NAN, 1, 1), end])]),
        ("details[0].latencies", vec![timed(vec![bucket(-1.0, 1, 1), end])]),
        ("details[0].latencies", vec![timed(vec![bucket(10.0, -1, 1), end])]),
        ("details[0].latencies", vec![timed((0..200).map(|edge| bucket(edge.into(), 1, 1)).chain([end]).collect())]),
        ("details[0].control", vec![proto::TickDetails { control: Some(denied(-1)), ..Default::default() }]),
    ] {
        let status = detailed(vec![good(0)], vec![], details).await.expect_err(field);
        assert_eq!((status.code(), World::fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

fn watch(service: &str, interval: i64) -> proto::WatchTrafficMetricsRequest {
    proto::WatchTrafficMetricsRequest {
        target: Some(target(service)),
        interval: Some(prost_types::Duration { seconds: interval, nanos: 0 }),
        window: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
    }
}

async fn next(
    stream: &mut tonic::Streaming<proto::WatchTrafficMetricsResponse>,
) -> Option<proto::WatchTrafficMetricsResponse> {
    timeout(PATIENCE, stream.message()).await.expect("no stream hangs").expect("no error ends it")
}

#[tokio::test]
async fn a_watcher_sees_traffic_an_outage_its_end_and_the_shutdown() {
    let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let refused = r#"{"status":"error","errorType":"execution","error":"too many"}"#;
    // Two questions a message: one failing message, then good ones for good.
    let replies = vec![Reply::new(422, refused), Reply::new(422, refused), Reply::new(200, empty)];
    let world = World::with(Source::Listener(scripted::server(replies).await)).await;
    let mut stream =
        world.client().watch_traffic_metrics(world.request(watch("good", 1))).await.expect("a stream").into_inner();
    let outage = next(&mut stream).await.expect("a message");
    assert!(outage.problem.ends_with("answered 422: execution: too many"), "{}", outage.problem);
    assert!(outage.canary.is_none() && outage.control.is_none() && outage.observed_share.is_nan());
    let after = next(&mut stream).await.expect("a message");
    assert_eq!((&*after.problem, after.canary.map(|canary| canary.requests)), ("", Some(0)));
    world.begin_stop();
    while let Some(message) = next(&mut stream).await {
        assert_eq!(message.problem, "", "nothing but numbers until the end");
    }
}

#[tokio::test]
async fn a_watcher_of_a_real_prometheus_gets_the_sliding_window() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let mut stream =
        world.client().watch_traffic_metrics(world.request(watch("good", 1))).await.expect("a stream").into_inner();
    for _ in 0..2 {
        let message = next(&mut stream).await.expect("a message");
        assert_eq!(message.canary.map(|canary| (canary.requests, canary.errors)), Some((6000, 1)));
        assert_eq!(message.end_time, Some(at(20)));
        assert!((message.observed_share - 0.1).abs() < 1e-9);
    }
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_at_once() {
    let world = World::with(nowhere()).await;
    let mut year = watch("good", 1);
    year.window = Some(prost_types::Duration { seconds: 365 * 86_400, nanos: 0 });
    let mut nobody = watch("good", 1);
    nobody.target.as_mut().expect("set").hosts.clear();
    let cases = [
        ("interval", watch("good", 0)),
        ("interval", watch("good", 301)),
        ("interval", watch("good", -1)),
        ("interval", proto::WatchTrafficMetricsRequest { interval: None, ..watch("good", 1) }),
        ("target", proto::WatchTrafficMetricsRequest { target: None, ..watch("good", 1) }),
        ("window", year),
        ("target.hosts", nobody),
    ];
    for (field, request) in cases {
        let status = world.client().watch_traffic_metrics(world.request(request)).await.expect_err(field);
        assert_eq!((status.code(), World::fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

#[tokio::test]
async fn every_call_takes_a_viewer() {
    let world = World::with(nowhere()).await;
    let of = |role, message: proto::CompareMetricsRequest| {
        world.request_of(&Grant::new("eve", role).within(["other"]), message)
    };
    let windows = || proto::CompareMetricsRequest { baseline: window(1, 0), current: window(1, 0), options: None };
    let status = world.client().compare_metrics(of(vec![], windows())).await.expect_err("no role");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(world.client().compare_metrics(of(vec![Role::Viewer], windows())).await.is_ok(), "nothing is read");
    let other = Grant::new("eve", [Role::Viewer]).within(["other"]);
    let request =
        world.request_of(&other, proto::CheckQueriesRequest { target: Some(target("good")), templates: String::new() });
    let status = world.client().check_queries(request).await.expect_err("another namespace");
    assert_eq!(status.code(), Code::PermissionDenied);
    let request = world.request_of(&other, watch("good", 1));
    let status = world.client().watch_traffic_metrics(request).await.expect_err("another namespace");
    assert_eq!(status.code(), Code::PermissionDenied);
}
