//! What the judge is given beside errors, from a real Prometheus: latencies of each mesh, denials and failed connections,
//! the time before the change, and limits that hold whatever the control does.

use std::fmt::Write as _;

use meshward_proto::{
    gateway::v1 as gateway,
    metrics::v1 as proto,
    types::v1::{Mechanism, Mesh, Verdict},
};

use super::{
    history::{START, TICK},
    world::{Source, World, analysis},
};

/// Ticks that are recorded: as many before the change as the judge looks back, and 20 after.
const BEFORE: i64 = -60;
const AFTER: i64 = 20;

/// What was recorded.
#[derive(Default)]
struct Recording(String);

impl Recording {
    /// A counter that grows in each tick, which is told by its number: 0 is the first after the change.
    fn counter(&mut self, series: &str, grows: impl Fn(i64) -> i64) {
        let mut value = 100_000;
        for tick in BEFORE..=AFTER {
            writeln!(self.0, "{series} {value} {}", START + tick * TICK).expect("a String takes everything");
            value += grows(tick);
        }
    }

    /// A histogram of `requests` in each tick.
    fn histogram(&mut self, name: &str, labels: &str, unit_ms: f64, requests: i64, percent: [i64; 4]) {
        for (edge_ms, percent) in [10.0, 50.0, 250.0, 1000.0].into_iter().zip(percent) {
            let edge = edge_ms / unit_ms;
            self.counter(&format!("{name}{{{labels},le=\"{edge}\"}}"), |_| requests * percent / 100);
        }
        self.counter(&format!("{name}{{{labels},le=\"+Inf\"}}"), |_| requests);
    }

    async fn world(mut self) -> World {
        self.0.push_str("# EOF\n");
        World::with(Source::Prometheus(self.0)).await
    }
}

const FAST: [i64; 4] = [50, 90, 99, 100];
const SLOW: [i64; 4] = [40, 70, 85, 98];

struct Place {
    mesh: Mesh,
    mechanism: Mechanism,
    canary: &'static str,
    control: &'static str,
    /// Counter of requests with its labels up to the arm's, buckets likewise, and the unit of their edges.
    requests: fn(&str, &str) -> String,
    buckets: fn(&str, &str) -> (&'static str, String),
    unit_ms: f64,
}

const PLACES: [Place; 4] = [
    Place {
        mesh: Mesh::Istio,
        mechanism: Mechanism::Request,
        canary: "canary",
        control: "stable",
        requests: |service, arm| {
            let route = format!("envoy_vhost_bank_svc_cluster_local_80_route_{arm}_upstream_rq_completed");
            format!("{route}{{envoy_virtual_host=\"{service}\"}}")
        },
        buckets: |service, arm| {
            let name = match arm {
                "canary" => "envoy_vhost_bank_svc_cluster_local_80_route_canary_upstream_rq_time_bucket",
                _ => "envoy_vhost_bank_svc_cluster_local_80_route_stable_upstream_rq_time_bucket",
            };
            (name, format!("envoy_virtual_host=\"{service}\""))
        },
        unit_ms: 1.0,
    },
    Place {
        mesh: Mesh::Istio,
        mechanism: Mechanism::Instance,
        canary: "canary",
        control: "",
        requests: |service, arm| format!("istio_requests_total{{{},response_code=\"200\"}}", pods(service, arm)),
        buckets: |service, arm| ("istio_request_duration_milliseconds_bucket", pods(service, arm)),
        unit_ms: 1.0,
    },
    Place {
        mesh: Mesh::Linkerd,
        mechanism: Mechanism::Weight,
        canary: "ledger-v2",
        control: "ledger",
        requests: |service, arm| {
            let labels = backend(service, arm);
            format!("outbound_http_route_backend_response_statuses_total{{{labels},http_status=\"200\",error=\"\"}}")
        },
        buckets: |service, arm| ("outbound_http_route_backend_response_duration_seconds_bucket", backend(service, arm)),
        unit_ms: 1000.0,
    },
    Place {
        mesh: Mesh::Linkerd,
        mechanism: Mechanism::Instance,
        canary: "v2",
        control: "v1",
        requests: |service, arm| format!("request_total{{direction=\"inbound\",{}}}", server(service, arm)),
        buckets: |service, arm| {
            ("response_latency_ms_bucket", format!("direction=\"inbound\",{}", server(service, arm)))
        },
        unit_ms: 1.0,
    },
];

fn pods(service: &str, cohort: &str) -> String {
    let cohort = if cohort.is_empty() { String::new() } else { format!(",meshward_io_cohort=\"{cohort}\"") };
    format!(
        "reporter=\"destination\",destination_service_name=\"{service}\",destination_service_namespace=\"bank\"{cohort}"
    )
}

fn backend(service: &str, backend: &str) -> String {
    format!("parent_name=\"{service}\",parent_namespace=\"bank\",backend_name=\"{backend}\"")
}

/// Servers are not of a Service, so each service has Servers of its own name.
fn server(service: &str, arm: &str) -> String {
    format!("namespace=\"bank\",srv_name=\"{service}-{arm}\"")
}

impl Place {
    fn target(&self, service: &str) -> gateway::MetricsTarget {
        let series = |arm: &str| match (self.mesh, self.mechanism) {
            (Mesh::Linkerd, Mechanism::Instance) => format!("{service}-{arm}"),
            _ => arm.to_owned(),
        };
        let has_label = (self.mesh, self.mechanism) == (Mesh::Istio, Mechanism::Instance);
        gateway::MetricsTarget {
            mesh: self.mesh.into(),
            mechanism: self.mechanism.into(),
            cohort_label: if has_label { "meshward.io/cohort".to_owned() } else { String::new() },
            cluster: String::new(),
            hosts: vec![format!("{service}.bank.svc.cluster.local")],
            canary_series: series(self.canary),
            control_series: series(self.control),
            ..Default::default()
        }
    }
}

fn request(target: gateway::MetricsTarget) -> proto::RunAnalysisRequest {
    proto::RunAnalysisRequest { target: Some(target), ..analysis("any") }
}

#[tokio::test]
async fn a_slower_canary_alone_is_a_regression_in_every_mesh_and_an_equal_one_is_healthy() {
    let mut recording = Recording::default();
    for place in &PLACES {
        for (service, canary) in [("slow", SLOW), ("equal", FAST)] {
            for (arm, requests, percent) in [(place.canary, 200, canary), (place.control, 1800, FAST)] {
                recording.counter(&(place.requests)(service, arm), |tick| if tick < 0 { 0 } else { requests });
                let (name, labels) = (place.buckets)(service, arm);
                recording.histogram(name, &labels, place.unit_ms, requests, percent);
            }
        }
    }
    let world = recording.world().await;
    for place in &PLACES {
        let name = format!("{:?} by {:?}", place.mesh, place.mechanism);
        let mut slow = request(place.target("slow"));
        slow.history = Some(prost_types::Duration::default());
        let found = world.analyse(slow.clone()).await.expect(&name);
        assert_eq!(found.verdict(), Verdict::Regression, "{name}: {}", found.explanation);
        assert!(found.explanation.contains("canary requests took longer than"), "{name}: {}", found.explanation);
        assert_eq!(found.canary.map(|canary| canary.errors), Some(0), "{name}");
        let (canary, control) = (found.canary.expect("set"), found.control.expect("set"));
        assert!(canary.latency_p95_ms > 3.0 * control.latency_p95_ms, "{name}: {canary:?} {control:?}");
        let mut equal = request(place.target("equal"));
        equal.history = slow.history;
        let found = world.analyse(equal).await.expect(&name);
        assert_eq!(found.verdict(), Verdict::Healthy, "{name}: {}", found.explanation);

        // Whoever says that nothing below a second matters gets just that.
        objectives_of(&mut slow).negligible_latency_ms = 1000.0;
        let found = world.analyse(slow.clone()).await.expect(&name);
        assert_eq!(found.verdict(), Verdict::Regression, "2 % beyond a second beside none: {}", found.explanation);
        objectives_of(&mut slow).negligible_latency_ms = 1001.0;
        let found = world.analyse(slow).await.expect(&name);
        assert_eq!(found.verdict(), Verdict::Healthy, "{name}: {}", found.explanation);
    }
}

fn objectives_of(request: &mut proto::RunAnalysisRequest) -> &mut proto::Objectives {
    request.options.get_or_insert_default().objectives.get_or_insert_default()
}

/// Two groups of pods that are there before the change. Errors and denials come in so many ticks of ten.
fn groups(
    recording: &mut Recording,
    service: &str,
    canary: impl Fn(i64) -> (i64, i64),
    control: impl Fn(i64) -> (i64, i64),
) {
    let mut arm = |cohort: &str, requests: i64, bad: &dyn Fn(i64) -> (i64, i64)| {
        let labels = pods(service, cohort);
        let code = |code: i64, flags: &str| {
            format!("istio_requests_total{{{labels},response_code=\"{code}\",response_flags=\"{flags}\"}}")
        };
        recording.counter(&code(200, "-"), |tick| requests - bad(tick).0 - bad(tick).1);
        recording.counter(&code(503, "UF"), |tick| bad(tick).0);
        recording.counter(&code(403, "-"), |tick| bad(tick).1);
    };
    arm("canary", 500, &canary);
    arm("", 4500, &control);
}

#[tokio::test]
async fn groups_that_differed_before_the_change_are_not_compared() {
    let mut recording = Recording::default();
    let zone = |tick: i64| (10 + tick.rem_euclid(3), 0);
    groups(&mut recording, "zone", zone, |tick| (20 + tick.rem_euclid(2), 0));
    // Alike before; five times as many errors since.
    let worse = |tick: i64| (if tick < 0 { 2 } else { 12 } + tick.rem_euclid(2), 0);
    groups(&mut recording, "worse", worse, |tick| (20 + tick.rem_euclid(2), 0));
    let world = recording.world().await;
    let ask = |service: &str, history: Option<i64>| {
        let mut request = request(PLACES[1].target(service));
        request.history = history.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        world.analyse(request)
    };
    let zone = ask("zone", None).await.expect("an analysis");
    assert_eq!(zone.verdict(), Verdict::NotComparable, "{}", zone.explanation);
    assert!(zone.explanation.starts_with("before the change"), "{}", zone.explanation);
    let blind = ask("zone", Some(0)).await.expect("an analysis");
    assert_eq!(blind.verdict(), Verdict::Regression, "who does not look back is misled: {}", blind.explanation);
    let worse = ask("worse", None).await.expect("an analysis");
    assert_eq!(worse.verdict(), Verdict::Regression, "{}", worse.explanation);
    assert_eq!(worse.samples.len(), 20, "what is returned are the ticks since the change");
    let counted = worse.canary.expect("set");
    assert_eq!(counted.connection_failures, Some(counted.errors));
    assert_eq!((counted.circuit_breaker_trips, counted.denials), (Some(0), Some(0)));
}

#[tokio::test]
async fn denials_are_judged_unless_they_are_meant() {
    let mut recording = Recording::default();
    let shut = |tick: i64| (0, if tick >= 10 { 500 } else { 0 });
    groups(&mut recording, "shut", shut, |_| (0, 0));
    let some = |tick: i64| (0, if tick >= 10 { 20 } else { 0 });
    groups(&mut recording, "some", some, |_| (0, 1));
    let world = recording.world().await;
    for (service, reason) in [("shut", "canary requests failed"), ("some", "denied requests in")] {
        let mut request = request(PLACES[1].target(service));
        let found = world.analyse(request.clone()).await.expect(service);
        assert_eq!(found.verdict(), Verdict::Regression, "{service}: {}", found.explanation);
        assert!(found.explanation.contains(reason), "{service}: {}", found.explanation);
        objectives_of(&mut request).denials_are_meant = true;
        let meant = world.analyse(request).await.expect(service);
        assert_eq!(meant.verdict(), Verdict::Healthy, "{service}: {}", meant.explanation);
        assert!(meant.canary.expect("set").denials > Some(100), "{service}: they are shown");
    }
}

#[tokio::test]
async fn objectives_hold_whatever_the_control_does() {
    let mut recording = Recording::default();
    groups(&mut recording, "broken", |tick| (if tick < 0 { 0 } else { 15 }, 0), |_| (2, 0));
    groups(
        &mut recording,
        "incident",
        |tick| (if tick < 0 { 0 } else { 15 }, 0),
        |tick| (if tick < 0 { 2 } else { 135 }, 0),
    );
    groups(
        &mut recording,
        "small",
        |tick| (if tick < 0 { 0 } else { 2 + tick % 2 }, 0),
        |tick| (tick.rem_euclid(2), 0),
    );
    let world = recording.world().await;
    let ask = |service: &str, options: proto::JudgeOptions| {
        let mut request = request(PLACES[1].target(service));
        request.options = Some(options);
        world.analyse(request)
    };
    // Three percent are within what is tolerated beside the control, and above the objective.
    let lenient = |max_error_rate| proto::JudgeOptions {
        tolerance: 0.05,
        detectable_effect: 0.15,
        objectives: Some(proto::Objectives { max_error_rate, ..proto::Objectives::default() }),
        ..proto::JudgeOptions::default()
    };
    let without = ask("broken", lenient(0.0)).await.expect("an analysis");
    assert_eq!(without.verdict(), Verdict::Healthy, "{}", without.explanation);
    let broken = ask("broken", lenient(0.01)).await.expect("an analysis");
    assert_eq!(broken.verdict(), Verdict::Regression, "{}", broken.explanation);
    assert!(broken.explanation.contains("the objective is at most 1 %"), "{}", broken.explanation);
    let kept = ask("broken", lenient(0.05)).await.expect("an analysis");
    assert_eq!(kept.verdict(), Verdict::Healthy, "{}", kept.explanation);
    let incident = ask("incident", lenient(0.01)).await.expect("an analysis");
    assert_eq!(incident.verdict(), Verdict::Healthy, "the control breaks it, too: {}", incident.explanation);

    let floor = |negligible_error_rate| proto::JudgeOptions {
        objectives: Some(proto::Objectives { negligible_error_rate, ..proto::Objectives::default() }),
        ..proto::JudgeOptions::default()
    };
    let seen = ask("small", floor(0.0)).await.expect("an analysis");
    assert_eq!(seen.verdict(), Verdict::Regression, "{}", seen.explanation);
    let negligible = ask("small", floor(0.01)).await.expect("an analysis");
    assert_eq!(negligible.verdict(), Verdict::Healthy, "{}", negligible.explanation);
    assert!(negligible.explanation.ends_with("up to 1 % is called negligible"), "{}", negligible.explanation);
}

#[tokio::test]
async fn a_latency_objective_holds_whatever_the_control_does() {
    let mut recording = Recording::default();
    let place = &PLACES[1];
    for (arm, requests, percent) in [(place.canary, 200, [50, 90, 94, 100]), (place.control, 1800, [50, 90, 98, 100])] {
        recording.counter(&(place.requests)("late", arm), |_| requests);
        let (name, labels) = (place.buckets)("late", arm);
        recording.histogram(name, &labels, place.unit_ms, requests, percent);
    }
    let world = recording.world().await;
    for (latency_ms, max_slow_rate, verdict) in [
        (0.0, 0.0, Verdict::Healthy),
        (200.0, 0.03, Verdict::Regression),
        (250.0, 0.03, Verdict::Regression),
        (250.0, 0.05, Verdict::Healthy),
        // The next edge is a second, and nothing takes that long.
        (251.0, 0.03, Verdict::Healthy),
        (2000.0, 0.03, Verdict::Healthy),
    ] {
        let mut request = request(place.target("late"));
        *objectives_of(&mut request) = proto::Objectives { latency_ms, max_slow_rate, ..proto::Objectives::default() };
        let found = world.analyse(request).await.expect("an analysis");
        assert_eq!(found.verdict(), verdict, "{latency_ms} ms, {max_slow_rate}: {}", found.explanation);
        let by_objective = found.explanation.contains("the objective is at most 3 %");
        assert_eq!(by_objective, verdict == Verdict::Regression, "{}", found.explanation);
    }
}
