//! What an operator can set: clusters, credentials, templates, cache; and what happens when Prometheus goes and comes
//! back.

use std::{path::Path, time::Duration};

use jiff::SignedDuration;
use meshward_metrics_collector::Args;
use meshward_proto::{metrics::v1 as proto, types::v1::Verdict};
use proto::QueryState;
use tonic::Code;

use super::{
    history,
    scripted::{self, Reply},
    world::{Odd, Source, World, analysis, for_all, prometheus, refused, target, traffic},
};

const EMPTY: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;

fn nowhere() -> Source {
    Source::Address("http://127.0.0.1:1".to_owned())
}

#[tokio::test]
async fn an_outage_of_prometheus_is_survived() {
    let setup = |args: &mut Args, _: &Path| {
        (args.source.query_timeout, args.query_cache) = (Duration::from_secs(1), Duration::ZERO);
    };
    let world = World::with_args(Source::Prometheus(history::shop()), setup).await;
    let ask = || world.analyse(analysis("good"));
    let before = ask().await.expect("an analysis");
    assert_eq!(before.verdict(), Verdict::Healthy, "{}", before.explanation);

    world.suspend(true);
    for _ in 0..3 {
        let during = ask().await.expect("an analysis");
        assert_eq!(during.verdict(), Verdict::ProviderError);
        assert!(during.explanation.contains("did not answer within"), "{}", during.explanation);
    }
    let resting = ask().await.expect("an analysis");
    assert_eq!(world.shown("meshward_prometheus_breaker_state", "default").await, 1.0);
    let timed_out = world.shown("meshward_prometheus_requests_total", "timed_out").await;
    assert!((5.0..=9.0).contains(&timed_out), "three times three questions, or fewer once it rests: {timed_out}");
    assert_eq!(resting.verdict(), Verdict::ProviderError);
    assert!(resting.explanation.contains("is left alone for 3.0 s, it failed 5 times in a row: Prometheus at"));

    world.suspend(false);
    let still = world.traffic(traffic("good", 20, 300)).await.expect_err("the rest is not over");
    assert_eq!(still.code(), Code::Unavailable);
    world.clock.advance(SignedDuration::from_secs(3));
    let after = ask().await.expect("an analysis");
    assert_eq!((after.verdict(), after.explanation), (before.verdict(), before.explanation));
    assert_eq!(world.shown("meshward_prometheus_breaker_state", "default").await, 0.0);
    assert_eq!(world.shown("meshward_prometheus_requests_total", "answered").await, 6.0);
    assert_eq!(world.shown("meshward_prometheus_request_duration_seconds_count", "default").await, 6.0 + timed_out);
}

#[tokio::test]
async fn what_a_real_prometheus_refuses_or_cannot_do_is_a_verdict() {
    let remote_read = "remote_read:\n- url: http://127.0.0.1:1/read\n  read_recent: true\n".to_owned();
    let flags = |flag: &str| vec![flag.to_owned()];
    let cases = [
        (
            "422",
            Odd { flags: flags("--query.max-samples=5"), ..Odd::default() },
            "answered 422: execution: query processing would load too many samples",
        ),
        ("503", Odd { flags: flags("--query.timeout=0s"), ..Odd::default() }, "answered 503: timeout: query timed out"),
        ("partial", Odd { config: remote_read, ..Odd::default() }, "gave a partial answer: "),
    ];
    for (name, odd, reason) in cases {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (address, _process) = prometheus(directory.path(), &history::shop(), &odd).await;
        let setup = |args: &mut Args, _: &Path| {
            args.source.query_timeout = crate::PATIENCE;
        };
        let world = World::with_args(Source::Address(address), setup).await;
        let found = world.analyse(analysis("good")).await.expect(name);
        assert_eq!(found.verdict(), Verdict::ProviderError, "{name}: {}", found.explanation);
        assert!(found.explanation.contains(reason), "{name}: {}", found.explanation);
        let status = world.traffic(traffic("good", 20, 300)).await.expect_err(name);
        assert_eq!(status.code(), Code::Unavailable, "{name}");
    }
}

#[tokio::test]
async fn the_same_question_is_asked_once_and_after_a_while_again() {
    for (keep, asked) in [(Duration::from_secs(3600), 3), (Duration::ZERO, 9)] {
        let listener = scripted::server(vec![Reply::new(200, EMPTY)]).await;
        let heard = listener.heard();
        let world = World::with_args(Source::Listener(listener), |args, _| args.query_cache = keep).await;
        for _ in 0..3 {
            assert_eq!(world.analyse(analysis("good")).await.expect("an analysis").verdict(), Verdict::NoData);
        }
        assert_eq!(heard.lock().expect("no holder panics").len(), asked, "{keep:?}");
    }
}

#[tokio::test]
async fn tenant_and_password_are_sent() {
    let listener = scripted::server(vec![Reply::new(200, EMPTY)]).await;
    let heard = listener.heard();
    let setup = |args: &mut Args, directory: &Path| {
        let file = directory.join("basic");
        std::fs::write(&file, "vera:secret\n").expect("written");
        args.source.prometheus_basic_auth_file = vec![for_all(&file)];
        args.source.prometheus_header = vec!["X-Scope-OrgID=team-a".parse().expect("a header")];
    };
    let world = World::with_args(Source::Listener(listener), setup).await;
    assert_eq!(world.analyse(analysis("good")).await.expect("an analysis").verdict(), Verdict::NoData);
    let heard = heard.lock().expect("no holder panics");
    assert_eq!(heard.len(), 3);
    for line in ["x-scope-orgid: team-a", "authorization: Basic dmVyYTpzZWNyZXQ="] {
        assert!(heard.iter().all(|head| head.contains(line)), "{heard:?}");
    }
}

#[tokio::test]
async fn a_password_file_that_cannot_be_used_is_said_without_its_content() {
    for (content, reason) in [(Some("tell-nobody"), "it does not hold user:password"), (None, "No such file")] {
        let setup = |args: &mut Args, directory: &Path| {
            let file = directory.join("basic");
            if let Some(content) = content {
                std::fs::write(&file, content).expect("written");
            }
            args.source.prometheus_basic_auth_file = vec![for_all(&file)];
        };
        let world = World::with_args(nowhere(), setup).await;
        let analysis = world.analyse(analysis("good")).await.expect("an analysis");
        assert_eq!(analysis.verdict(), Verdict::ProviderError);
        assert!(analysis.explanation.contains(reason), "{}", analysis.explanation);
        assert!(!analysis.explanation.contains("tell-nobody"));
    }
}

#[tokio::test]
async fn each_cluster_has_its_own_source() {
    let west = scripted::server(vec![Reply::new(200, EMPTY)]).await;
    let address = format!("west=http://{}", west.addr).parse().expect("an address");
    let world = World::with_args(nowhere(), |args, _| args.source.prometheus.push(address)).await;
    let ask = |cluster: &str| {
        let mut request = analysis("good");
        cluster.clone_into(&mut request.target.as_mut().expect("set").cluster);
        world.analyse(request)
    };
    assert_eq!(ask("").await.expect("the default").verdict(), Verdict::ProviderError);
    assert_eq!(ask("west").await.expect("its own").verdict(), Verdict::NoData);
    let status = ask("east").await.expect_err("nobody's");
    assert_eq!((status.code(), World::fields(&status)), (Code::InvalidArgument, vec!["target.cluster".to_owned()]));
    assert!(status.message().contains("there is one for \"\", \"west\""), "{}", status.message());
}

/// Replaces what is asked for VirtualServices by request id.
pub fn template(requests: &str) -> String {
    format!(
        "templates:\n- mesh: istio\n  mechanisms: [request]\n  by_arm:\n    requests: '{requests}'\n    \
         errors: 'shop_failed_total{{version=\"$SERIES\",service=~\"$SERVICES\"}}'\n    \
         latency: 'shop_seconds_bucket{{version=\"$SERIES\",service=~\"$SERVICES\"}}'\n    latency_unit: s\n"
    )
}

fn with_queries(text: String) -> impl FnOnce(&mut Args, &Path) {
    move |args, directory| {
        let file = directory.join("queries.yaml");
        std::fs::write(&file, text).expect("written");
        args.source.queries = Some(file);
    }
}

#[tokio::test]
async fn templates_of_the_operator_stand_before_the_built_in_ones() {
    let mut text = String::new();
    for tick in 0..=20 {
        let time = history::START + tick * history::TICK;
        text += &format!("shop_served_total{{version=\"canary\",service=\"good\"}} {} {time}\n", 150 * tick);
    }
    for tick in 0..=20 {
        let time = history::START + tick * history::TICK;
        text += &format!("shop_served_total{{version=\"stable\",service=\"good\"}} {} {time}\n", 1350 * tick);
    }
    text += "# EOF\n";
    let good = template("shop_served_total{version=\"$SERIES\",service=~\"$SERVICES\"}");
    let world = World::with_args(Source::Prometheus(text.clone()), with_queries(good)).await;
    let analysis = world.analyse(analysis("good")).await.expect("an analysis");
    assert_eq!(analysis.verdict(), Verdict::Healthy, "{}", analysis.explanation);
    assert_eq!(analysis.canary.expect("set").requests, 3000);
    assert!(analysis.queries[0].contains("shop_served_total{version=\"canary\",service=~\"good\"}"));

    // Good PromQL of a later Prometheus.
    let later = template("sort_by_label(shop_served_total{version=\"$SERIES\",service=~\"$SERVICES\"}, \"a\")");
    let world = World::with_args(Source::Prometheus(text), with_queries(later)).await;
    let request = world.request(proto::CheckQueriesRequest { target: Some(target("good")), templates: String::new() });
    let checks = world.client().check_queries(request).await.expect("an answer").into_inner().checks;
    assert_eq!(checks[0].state(), QueryState::Refused, "{}", checks[0].reason);
    assert!(checks[0].reason.contains("unknown function"), "{}", checks[0].reason);
    assert_eq!(checks[1].state(), QueryState::NoSeries, "{}", checks[1].reason);
}

#[tokio::test]
async fn what_cannot_be_used_stops_the_start_with_the_place() {
    let cases = [
        (template("shop_served_total{version=\"$SERIES\""), "templates[0].by_arm.requests: line 1, column 36: "),
        (template("rate(a{b=\"$SERIES\"})"), "expected type matrix"),
        (template("a{b=\"$SERIES\",c=~\"$CLUSTER\"}"), "column 19: $CLUSTER is no placeholder here"),
        ("templates:\n- mesh: istio\n  mechanism: [request]\n".to_owned(), "unknown field `mechanism`"),
        ("templates: []\nmore: 1\n".to_owned(), "unknown field `more`"),
    ];
    for (text, problem) in cases {
        let said = refused(with_queries(text)).await;
        assert!(said.starts_with("--queries /") && said.contains(problem), "{problem}: {said}");
    }
    let missing = refused(|args, directory| args.source.queries = Some(directory.join("none.yaml"))).await;
    assert!(missing.contains("none.yaml: No such file"), "{missing}");
    let twice = refused(|args, _| args.source.prometheus.push("http://127.0.0.1:2".parse().expect("an address"))).await;
    assert_eq!(twice, "--prometheus: only one can be the default; write NAME=URL for the others");
    let no_url = refused(|args, _| args.source.prometheus = vec!["ftp://a".parse().expect("an address")]).await;
    assert!(no_url.contains("is not a URL such as"), "{no_url}");
}
