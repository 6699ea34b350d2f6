//! The service as its callers see it: gRPC in this process, tokens of a test issuer, and a real Prometheus with a
//! history that was written for it; where Prometheus cannot be made to misbehave, a listener that does.

mod api {
    pub mod bad_input;
    pub mod calls;
    pub mod edges;
    pub mod envoy;
    pub mod explain;
    pub mod history;
    pub mod lines;
    pub mod load;
    pub mod meshes;
    pub mod places;
    pub mod replay;
    pub mod scripted;
    pub mod settings;
    pub mod signals;
    pub mod tls;
    pub mod world;
}

use std::time::Duration;

use api::{
    history::{self, START, at},
    scripted::{self, Reply},
    world::{Source, World, analysis, traffic},
};
use meshward_chassis::{auth::Role, problem::reason_of, testing::Grant};
use meshward_proto::{metrics::v1 as proto, types::v1 as types, types::v1::Verdict};
use tonic::Code;

#[tokio::test]
async fn verdicts_from_a_real_prometheus() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let cases = [
        (
            "good",
            Verdict::Healthy,
            "1 error in 6,000 canary requests, 40 in 54,000 control requests; at this share 4.1 were expected; \
             evidence 0.",
        ),
        ("bad", Verdict::Regression, " errors in 1,"),
        ("bad-istio", Verdict::Regression, " errors in 1,"),
        ("silent", Verdict::NoTraffic, "neither canary nor control had a request in this step"),
        (
            "unreached",
            Verdict::NoTraffic,
            "the canary had no request in this step (weight 10 %), the control had 27,000",
        ),
        (
            "half",
            Verdict::NoData,
            "the source has no series \"canary\" (canary) for half.shop.svc.cluster.local in this step",
        ),
        ("unknown", Verdict::NoData, "the source has no series for unknown.shop.svc.cluster.local in this step"),
        ("slow-scrape", Verdict::Healthy, "0 errors in 3,000 canary requests, 0 in 27,000 control requests"),
    ];
    for (service, verdict, explanation) in cases {
        let analysis = world.analyse(analysis(service)).await.expect(service);
        assert_eq!(analysis.verdict(), verdict, "{service}: {}", analysis.explanation);
        assert!(analysis.explanation.contains(explanation), "{service}: {}", analysis.explanation);
        assert!(analysis.evidence.is_finite() && (analysis.evidence_bound - 100.0).abs() < 1e-9, "{service}");
        assert_eq!(analysis.samples.len(), 20, "{service}");
        assert_eq!(analysis.queries.len(), 3, "{service}");
    }
}

#[tokio::test]
async fn counts_and_latencies_are_exact_in_spite_of_restarts_and_late_series() {
    let world = World::with(Source::Prometheus(history::shop())).await;

    let analysis = world.analyse(analysis("good")).await.expect("an analysis");
    let (canary, control) = (analysis.canary.expect("canary"), analysis.control.expect("control"));
    assert_eq!((canary.requests, canary.errors, control.requests, control.errors), (6000, 1, 54_000, 40));
    assert!((canary.requests_per_second - 20.0).abs() < 1e-9);
    assert!((analysis.observed_share - 0.1).abs() < 1e-9);
    assert!(analysis.required_requests > 100 && analysis.required_requests < 300, "{}", analysis.required_requests);
    let near = |value: f64, expected: f64| assert!((value - expected).abs() < 0.01, "{value} is not {expected}");
    near(canary.latency_p50_ms, 10.0);
    near(canary.latency_p95_ms, 23.5);
    near(canary.latency_p99_ms, 24.7);
    near(canary.success_rate, 1.0 - 1.0 / 6000.0);
    let failures = |one: &proto::CohortTraffic| (one.connection_failures, one.circuit_breaker_trips, one.denials);
    assert_eq!(failures(&canary), (None, Some(0), Some(2)), "a route counts no connections");
    assert_eq!(failures(&control), (None, Some(5), Some(20)));
    let istio = world.analyse(api::world::analysis("bad-istio")).await.expect("an analysis");
    assert_eq!(failures(&istio.canary.expect("canary")), (None, Some(0), Some(20)));
    assert_eq!(failures(&istio.control.expect("control")), (None, Some(0), Some(180)));
    let sixth = &analysis.samples[5];
    assert_eq!(sixth.end_time, Some(at(6)));
    assert_eq!((sixth.canary_requests, sixth.canary_errors), (300, 1), "the error series is born in the sixth tick");

    let mut blended = api::world::analysis("good");
    let target = blended.target.as_mut().expect("set");
    (target.canary_series, target.control_series) = (String::new(), String::new());
    let blended = world.analyse(blended).await.expect("an analysis");
    assert_eq!(blended.verdict(), Verdict::NoData, "a plan may say that nothing counts the versions apart");

    let traffic = world.traffic(traffic("good", 20, 300)).await.expect("traffic");
    assert_eq!(traffic.canary.expect("canary").requests, 6000);
    near(traffic.control.expect("control").latency_p95_ms, 23.5);
    assert!((traffic.observed_share - 0.1).abs() < 1e-9);
}

#[tokio::test]
async fn the_same_question_later_sees_the_same_past() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let ask = |end: i64| {
        let mut request = analysis("bad");
        request.end_time = Some(prost_types::Timestamp { seconds: START + end, nanos: 0 });
        world.analyse(request)
    };
    let early = ask(104).await.expect("an analysis");
    let late = ask(299).await.expect("an analysis");
    assert_eq!((early.samples.len(), late.samples.len()), (6, 19), "whole ticks only");
    assert_eq!(early.samples[..], late.samples[..6]);
    assert_eq!(early.verdict(), Verdict::Healthy, "{}", early.explanation);
    let after_the_end = ask(100_000).await.expect("an analysis");
    assert_eq!(after_the_end.samples.len(), 20, "the clock stands at the end of the history");
}

#[tokio::test]
async fn only_the_current_step_decides_on_its_sample() {
    let world = World::with(Source::Prometheus(history::shop())).await;
    let with_steps = |steps: &[(i64, i32)]| {
        let mut request = analysis("good");
        request.periods = steps
            .iter()
            .map(|(tick, weight_bp)| proto::WeightPeriod { start_time: Some(at(*tick)), weight_bp: *weight_bp })
            .collect();
        world.analyse(request)
    };
    let second = with_steps(&[(0, 500), (18, 1000)]).await.expect("an analysis");
    assert_eq!(
        (second.verdict(), second.canary.expect("canary").requests),
        (Verdict::Healthy, 600),
        "{}",
        second.explanation
    );
    let wrong_share = with_steps(&[(0, 1000), (10, 3000)]).await.expect("an analysis");
    assert_eq!(wrong_share.verdict(), Verdict::Watching);
    assert!(wrong_share.explanation.starts_with("the canary got 10.0 % of 30,000"), "{}", wrong_share.explanation);
    // How much those have to say who were chosen by a header or by where they are, nobody knew before.
    for mechanism in [types::Mechanism::Header, types::Mechanism::Namespace] {
        let mut request = analysis("good");
        request.target.as_mut().expect("a target").mechanism = mechanism.into();
        request.periods = vec![proto::WeightPeriod { start_time: Some(at(0)), weight_bp: 3000 }];
        let chosen = world.analyse(request).await.expect("an analysis");
        assert_eq!(chosen.verdict(), Verdict::Healthy, "{mechanism:?}: {}", chosen.explanation);
    }
    let everything = with_steps(&[(0, 1000), (10, 10_000)]).await.expect("an analysis");
    assert_eq!(everything.verdict(), Verdict::Watching, "no control at 100 %");
    let not_begun = with_steps(&[(0, 1000), (20, 3000)]).await.expect("an analysis");
    assert_eq!(not_begun.explanation, "no whole tick of this step is over yet");
}

#[tokio::test]
async fn a_source_that_fails_is_a_verdict_with_the_reason() {
    let cases = [
        ("down", Source::Address("http://127.0.0.1:1".to_owned()), "cannot be reached"),
        ("silent", Source::Listener(scripted::silent().await), "did not answer within 0.5 s"),
        (
            "refuses",
            Source::Listener(
                scripted::server(vec![Reply::new(
                    422,
                    r#"{"status":"error","errorType":"execution","error":"too many"}"#,
                )])
                .await,
            ),
            "answered 422: execution: too many",
        ),
        (
            "overloaded for good",
            Source::Listener(scripted::server(vec![Reply::new(503, "no healthy upstream")]).await),
            "answered 503: no healthy upstream",
        ),
        (
            "partial",
            Source::Listener(
                scripted::server(vec![Reply::new(
                    200,
                    r#"{"status":"success","data":{"resultType":"matrix","result":[]},"warnings":["store x is down"]}"#,
                )])
                .await,
            ),
            "gave a partial answer: store x is down",
        ),
        (
            "not Prometheus",
            Source::Listener(scripted::server(vec![Reply::new(200, "<html>hello</html>")]).await),
            "cannot be read",
        ),
        ("elsewhere", Source::Listener(scripted::server(vec![Reply::new(302, "moved")]).await), "answered 302: moved"),
        ("endless", Source::Listener(scripted::endless().await), "did not answer within 0.5 s"),
    ];
    for (name, source, reason) in cases {
        let world = World::with(source).await;
        let analysis = world.analyse(analysis("good")).await.expect(name);
        assert_eq!(analysis.verdict(), Verdict::ProviderError, "{name}: {}", analysis.explanation);
        assert!(analysis.explanation.contains(reason), "{name}: {}", analysis.explanation);
        assert!(
            analysis.explanation.starts_with("Prometheus at http://127.0.0.1:") || name == "not Prometheus",
            "{name}"
        );
        assert!((analysis.evidence - 1.0).abs() < 1e-12, "{name}: unknown is no evidence");
        let status = world.traffic(traffic("good", 20, 300)).await.expect_err(name);
        assert_eq!(
            (status.code(), reason_of(&status)),
            (Code::Unavailable, Some(types::ErrorReason::PeerUnavailable)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_short_failure_is_asked_again_and_the_token_file_is_sent() {
    let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    // Three queries are sent at once, so two of them meet a failure once.
    let replies = vec![Reply::new(503, "busy"), Reply::Cut, Reply::new(200, empty)];
    let listener = scripted::server(replies).await;
    let heard = listener.heard();
    let world = World::with_bearer(Source::Listener(listener), "tell-nobody").await;
    let analysis = world.analyse(analysis("good")).await.expect("an analysis");
    assert_eq!(analysis.verdict(), Verdict::NoData, "{}", analysis.explanation);
    let heard = heard.lock().expect("no holder panics");
    assert_eq!(heard.len(), 5, "three questions, two repetitions");
    assert!(heard.iter().all(|head| head.contains("authorization: Bearer tell-nobody")), "{heard:?}");
    assert!(heard.iter().all(|head| head.starts_with("POST /api/v1/query_range ")), "{heard:?}");
}

#[tokio::test]
async fn wrong_requests_are_refused_by_field() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    let mut cases: Vec<(&str, proto::RunAnalysisRequest)> = Vec::new();
    let mut case = |field, change: &dyn Fn(&mut proto::RunAnalysisRequest)| {
        let mut request = analysis("good");
        change(&mut request);
        cases.push((field, request));
    };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    case("target", &|r| r.target = None);
    case("target.mesh", &|r| r.target.as_mut().expect("set").mesh = 77);
    case("target.mechanism", &|r| r.target.as_mut().expect("set").mechanism = 99);
    case("target.hosts", &|r| r.target.as_mut().expect("set").hosts.clear());
    case("target.hosts", &|r| r.target.as_mut().expect("set").hosts = vec!["a\"} or vector(1)".to_owned()]);
    case("target.canary_series", &|r| r.target.as_mut().expect("set").canary_series = "a|b".to_owned());
    case("target.mechanism", &|r| r.target.as_mut().expect("set").mechanism = 0);
    case("start_time", &|r| r.start_time = None);
    case("end_time", &|r| r.end_time = Some(at(-1)));
    case("tick", &|r| r.tick = seconds(0));
    case("tick", &|r| r.tick = seconds(301));
    case("tick", &|r| r.tick = seconds(-1));
    case("tick", &|r| (r.start_time, r.tick) = (Some(at(-1000)), seconds(1)));
    case("periods", &|r| r.periods.clear());
    case("periods[1].start_time", &|r| r.periods.push(r.periods[0]));
    case("periods[0].weight_bp", &|r| r.periods[0].weight_bp = 10_001);
    case("options.alpha", &|r| {
        r.options = Some(proto::JudgeOptions { alpha: f64::NAN, ..proto::JudgeOptions::default() });
    });
    for (field, request) in cases {
        let status = world.analyse(request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert_eq!(World::fields(&status), [field], "{}", status.message());
    }
    for window in [-1, 0, 86_401, 365 * 86_400] {
        let status = world.traffic(traffic("good", 20, window)).await.expect_err("a wrong window");
        assert_eq!(World::fields(&status), ["window"]);
    }
}

#[tokio::test]
async fn callers_need_a_token_that_may_view_the_hosts_namespace() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    let nobody = world.client().run_analysis(analysis("good")).await.expect_err("no token");
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let other = world.analyse_as(&Grant::new("eve", [Role::Viewer]).within(["other"]), analysis("good")).await;
    assert_eq!(other.expect_err("another namespace").code(), Code::PermissionDenied);
    let own = world.analyse_as(&Grant::new("vera", [Role::Viewer]).within(["shop"]), analysis("good")).await;
    assert_eq!(own.expect("her own namespace").verdict(), Verdict::ProviderError);
    let mut gateway = analysis("good");
    gateway.target.as_mut().expect("set").hosts = vec!["shop.example.com".to_owned()];
    let outside = world.analyse_as(&Grant::new("vera", [Role::Viewer]).within(["shop"]), gateway.clone()).await;
    assert_eq!(outside.expect_err("a host of no namespace").code(), Code::PermissionDenied);
    assert!(world.analyse(gateway).await.is_ok());
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let world = World::with(Source::Address("http://127.0.0.1:1".to_owned())).await;
    let mut shadow = analysis("good");
    shadow.target.as_mut().expect("set").mechanism = types::Mechanism::Shadow.into();
    let status = world.analyse(shadow).await.expect_err("not built");
    assert_eq!((status.code(), reason_of(&status)), (Code::Unimplemented, Some(types::ErrorReason::NotImplemented)));
    assert!(status.message().contains("not implemented yet"), "{}", status.message());
}

/// Every wait of these tests ends by then, one way or the other.
const PATIENCE: Duration = Duration::from_secs(60);
