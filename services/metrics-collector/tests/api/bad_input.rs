//! What a caller can get wrong, row by row, against a real Prometheus: each is told by its field and its place, and none
//! is an INTERNAL. What the source does wrong is an answer, not an error of the caller's.

use std::fmt::Write as _;

use meshward_chassis::{auth::Role, testing::Grant};
use meshward_proto::{metrics::v1 as proto, types::v1::Verdict};
use proto::QueryState;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{
    history::{START, TICK},
    scripted,
    settings::template,
    world::{Source, World, analysis, target, traffic},
};
use crate::PATIENCE;

const REQUESTS: &str = "shop_served_total{version=\"$SERIES\",service=~\"$SERVICES\"}";
const LATENCY: &str = "shop_seconds_bucket{version=\"$SERIES\",service=~\"$SERVICES\"}";

/// Requests and latencies of both versions of a service, in metrics of our own.
fn served() -> String {
    let mut text = String::new();
    for name in ["shop_served_total{", "shop_seconds_bucket{le=\"0.1\",", "shop_seconds_bucket{le=\"+Inf\","] {
        for version in ["canary", "stable"] {
            for tick in 0..=20 {
                let (count, time) = (100 * tick, START + tick * TICK);
                writeln!(text, "{name}version=\"{version}\",service=\"good\"}} {count} {time}").expect("a String");
            }
        }
    }
    text + "# EOF\n"
}

enum Ask {
    Check(String),
    Traffic(i64),
    Analysis(Box<proto::RunAnalysisRequest>),
}

async fn check(world: &World, templates: String) -> Result<proto::CheckQueriesResponse, Status> {
    let request = world.request(proto::CheckQueriesRequest { target: Some(target("good")), templates });
    timeout(PATIENCE, world.client().check_queries(request))
        .await
        .expect("no RPC hangs")
        .map(tonic::Response::into_inner)
}

async fn refused(world: &World, ask: Ask) -> Option<Status> {
    match ask {
        Ask::Check(templates) => check(world, templates).await.err(),
        Ask::Traffic(window) => world.traffic(traffic("good", 20, window)).await.err(),
        Ask::Analysis(request) => world.analyse(*request).await.err(),
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// What is asked, the field that is wrong, and how its description begins.
fn rows() -> Vec<(Ask, &'static str, &'static str)> {
    const YEAR: i64 = 365 * 86_400;
    let requests = |query: &str| Ask::Check(template(query));
    let latency = |query: &str| Ask::Check(template(REQUESTS).replace(LATENCY, query));
    let analysed = |change: &dyn Fn(&mut proto::RunAnalysisRequest)| {
        let mut request = analysis("good");
        change(&mut request);
        Ask::Analysis(Box::new(request))
    };
    let (by_requests, by_latency) = ("templates[0].by_arm.requests", "templates[0].by_arm.latency");
    vec![
        (requests("shop_served_total{version=\"$SERIES\""), by_requests, "line 1, column 36: "),
        (requests("sum(shop_served_total{version=\"$SERIES\"}) up"), by_requests, "line 1, column 43: "),
        (requests("count(1)"), by_requests, "line 1, column 7: "),
        (
            requests(&REQUESTS.replace("served", "sreved")),
            by_requests,
            "line 1, column 1: no metric \"shop_sreved_total\" was scraped in the last 5 minutes",
        ),
        (
            requests(&format!("sum by (version) ({})", REQUESTS.replace("service", "srevice"))),
            by_requests,
            "line 1, column 55: no series of \"shop_served_total\" has the label \"srevice\"",
        ),
        (requests("shop_served_total{service=~\"$SERVICES\"}"), by_requests, "line 1, column 1: $SERIES is missing"),
        (
            requests(&REQUESTS.replace("$SERVICES", "$SERVICE")),
            by_requests,
            "line 1, column 47: $SERVICE is no placeholder here",
        ),
        (
            latency(&LATENCY.replace("bucket", "buckets")),
            by_latency,
            "line 1, column 1: no metric \"shop_seconds_buckets\" was scraped",
        ),
        (
            latency(&format!("sum by (version) ({LATENCY})")),
            by_latency,
            "line 1, column 1: drops the label le, which must stay",
        ),
        (requests(&format!("rate({REQUESTS}[1m])")), by_requests, "line 1, column 1: rate() is not wanted"),
        (requests(&format!("max_over_time({REQUESTS}[0s])")), by_requests, "line 1, column 73: duration must be"),
        (requests(&format!("max_over_time({REQUESTS}[-5m])")), by_requests, "line 1, column 73: "),
        (requests(&format!("max_over_time({REQUESTS}[1y])")), by_requests, "line 1, column 72: looks back over more"),
        (
            requests(&REQUESTS.replace("$SERVICES", &format!("$SERVICES|{}", "x".repeat(4096)))),
            by_requests,
            "line 1, column 4097: the query has 4154 bytes, 4096 are allowed",
        ),
        (requests(&REQUESTS.replace("$SERVICES", &"$HOSTS|".repeat(400))), "target.hosts", "their query has "),
        // What only this Prometheus can tell, because it is too old for it, or when it evaluates it.
        (
            requests(&format!("sort_by_label({REQUESTS}, \"version\")")),
            by_requests,
            "line 1, column 1: parse error: unknown function with name \"sort_by_label\"",
        ),
        (
            Ask::Check(
                template(REQUESTS)
                    .replace("shop_failed_total", "up or mad_over_time(shop_failed_total")
                    .replace("\"$SERVICES\"}'\n    latency:", "\"$SERVICES\"}[1m])'\n    latency:"),
            ),
            "templates[0].by_arm.errors",
            "line 1, column 7: parse error: unknown function with name \"mad_over_time\"",
        ),
        (
            latency(&format!("label_replace({LATENCY}, \"version\", \"$1\", \"version\", \"(\")")),
            by_latency,
            "line 1, column 1: execution: invalid regular expression in label_replace()",
        ),
        (
            Ask::Check(
                template(REQUESTS)
                    + "  failures:\n    denials: 'up or\n\n      sort_by_label(a{b=\"$SERIES\"}, \"b\")'\n",
            ),
            "templates[0].failures.denials",
            "line 2, column 1: parse error: unknown function",
        ),
        (Ask::Check("#".repeat(16 * 1024 + 1)), "templates", "have 16385 bytes, 16384 are allowed"),
        (Ask::Check("templates: [{".to_owned()), "templates", ""),
        (
            Ask::Check("templates: []".to_owned()),
            "templates",
            "cannot be used for this target: metrics of Istio by Request",
        ),
        (
            Ask::Check(template(REQUESTS).replace("istio", "linkerd")),
            "templates",
            "cannot be used for this target: metrics of Istio by Request",
        ),
        (Ask::Traffic(0), "window", "is 1 s to 24 h"),
        (Ask::Traffic(YEAR), "window", "is 1 s to 24 h"),
        (Ask::Traffic(-60), "window", ""),
        (analysed(&|request| request.tick = seconds(0)), "tick", "is 1 s to 5 min"),
        (analysed(&|request| request.tick = seconds(YEAR)), "tick", "is 1 s to 5 min"),
        (analysed(&|request| request.tick = seconds(-1)), "tick", ""),
        (analysed(&|request| request.history = seconds(YEAR)), "history", "is 0 s to 24 h"),
        (analysed(&|request| request.history = seconds(-1)), "history", ""),
    ]
}

#[tokio::test]
async fn each_bad_input_is_told_by_its_field_and_its_place() {
    let world = World::with(Source::Prometheus(served())).await;
    let good = check(&world, template(REQUESTS)).await.expect("good templates");
    let states: Vec<QueryState> = good.checks.iter().map(proto::QueryCheck::state).collect();
    assert_eq!(states, [QueryState::Data; 2], "{:?}", good.problems);
    assert!(good.checks[0].query.contains("shop_served_total{version=\"canary\",service=~\"good\"}"));
    let configured = check(&world, String::new()).await.expect("an answer");
    assert!(configured.checks[0].query.contains("envoy_vhost_"), "what a caller brings is used once");
    let nobody = template(&REQUESTS.replace("$SERVICES", "nobody"));
    let absent = check(&world, nobody).await.expect("a service without traffic is no mistake");
    assert_eq!(absent.checks[0].state(), QueryState::NoSeries, "{}", absent.checks[0].reason);

    let mut wrong = Vec::new();
    for (ask, field, problem) in rows() {
        let row = format!("{field}: {problem}");
        let status = refused(&world, ask).await.expect(&row);
        let is_told = status.code() == Code::InvalidArgument && World::fields(&status) == [field];
        if !is_told || !status.message().starts_with(&row) {
            wrong.push(format!("{row}: {status}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let vera = Grant::new("vera", [Role::Viewer]).within(["shop"]);
    let own = proto::CheckQueriesRequest { target: Some(target("good")), templates: template("up{a=\"$SERIES\"}") };
    let status = world.client().check_queries(world.request_of(&vera, own)).await.expect_err("it may read anything");
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_prometheus_that_is_down_or_silent_is_an_answer_in_time() {
    let down = || Source::Address("http://127.0.0.1:1".to_owned());
    for (name, source) in [("down", down()), ("silent", Source::Listener(scripted::silent().await))] {
        let world = World::with(source).await;
        let judged = world.analyse(analysis("good")).await.expect(name);
        assert_eq!(judged.verdict(), Verdict::ProviderError, "{name}: {}", judged.explanation);
        for templates in [String::new(), template(REQUESTS)] {
            let checked = check(&world, templates).await.expect(name);
            assert!(!checked.checks.is_empty(), "{name}");
            for check in checked.checks {
                assert_eq!(check.state(), QueryState::ProviderError, "{name}: {}", check.reason);
            }
        }
        let status = world.traffic(traffic("good", 20, 300)).await.expect_err(name);
        assert_eq!(status.code(), Code::Unavailable, "{name}: {status}");
    }
}
