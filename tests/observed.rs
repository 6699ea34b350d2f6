//! AnalyzeImpact on the traffic that the mesh counted: validator, metrics-collector and a real Prometheus, whose history is
//! written here and summed up here once more.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use clap::Parser as _;
use jiff::Timestamp;
use meshward_chassis::{
    auth::Role,
    client::{bearer, connect_lazy},
    clock::ManualClock,
    server::Server,
    testing::{self, Grant, TestIssuer},
};
use meshward_local::recorded::{Odd, prometheus};
use meshward_proto::validator::v1::{
    AnalyzeImpactRequest, ObservedTraffic, validator_service_client::ValidatorServiceClient,
};
use serde_json::json;
use tonic::Request;

/// When the history begins, and between how many samples of a counter how many seconds lie.
const START: i64 = 1_700_000_000;
const TICK: i64 = 15;
const TICKS: i64 = 20;
const EDGES: i64 = 340;
const SERVICES: i64 = 34;
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests from one caller to one service in each tick.
struct Edge {
    index: i64,
    from: &'static str,
    per_tick: i64,
}

fn edges() -> impl Iterator<Item = Edge> {
    (0..EDGES).map(|index| {
        let from = if index % 29 == 0 { "jobs" } else { "web" };
        Edge { index, from, per_tick: 1 + index % 7 }
    })
}

impl Edge {
    /// As the proxy of the server counts them in a namespace.
    fn series(&self, namespace: &str) -> String {
        let Self { index, from, .. } = self;
        let (service, caller) = (format!("s{}", index % SERVICES), format!("c{}", index / SERVICES));
        format!(
            "istio_requests_total{{reporter=\"destination\",source_workload=\"{caller}\",\
             source_workload_namespace=\"{from}\",source_principal=\"spiffe://cluster.local/ns/{from}/sa/{caller}\",\
             destination_service=\"{service}.{namespace}.svc.cluster.local\",destination_service_name=\"{service}\",\
             destination_service_namespace=\"{namespace}\",request_protocol=\"http\",response_code=\"200\"}}"
        )
    }
}

fn history() -> String {
    let mut text = String::new();
    // The other namespace is nobody's business here.
    for (edge, namespace) in edges().flat_map(|edge| [(Edge { ..edge }, "shop"), (edge, "bank")]) {
        let series = edge.series(namespace);
        for tick in 0..=TICKS {
            let (value, at) = (1000 + edge.per_tick * tick, START + tick * TICK);
            writeln!(text, "{series} {value} {at}").expect("a String takes everything");
        }
    }
    text.push_str("# EOF\n");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_by_the_requests_that_the_mesh_counted() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let issuer = TestIssuer::new(dir.path())?;
    let (address, process) = prometheus(dir.path(), &history(), &Odd::default()).await;
    let flags = ["collector", "--jwks=unused", "--jwt-issuer=unused", "--scrape-interval=0s", "--prometheus", &address];
    let mut args = meshward_metrics_collector::Args::try_parse_from(flags)?;
    args.server = issuer.server_args();
    args.source.query_timeout = PATIENCE;
    let now = ManualClock::new(Timestamp::from_second(START + TICKS * TICK)?);
    let server = Server::new("metrics-collector", &args.server).await?;
    let collector = testing::spawn(meshward_metrics_collector::build(&args, Arc::new(now), server)?);
    let flags = [
        "validator",
        "--jwks=unused",
        "--jwt-issuer=unused",
        "--traffic-timeout=60s",
        "--metrics-collector",
        &collector.url(),
    ];
    let mut config = meshward_validator::config::Config::try_parse_from(flags)?;
    config.server = issuer.server_args();
    let validator = meshward_validator::build(&config, Server::new("validator", &config.server).await?)?;
    let validator = testing::spawn(validator);

    let policy = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "no-jobs", "namespace": "shop"},
        "spec": {"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["jobs"]}}]}]},
    });
    let window = Some(meshward_proto::Duration { seconds: TICK * TICKS, nanos: 0 });
    let mut request = Request::new(AnalyzeImpactRequest {
        yaml: policy.to_string(),
        observed: Some(ObservedTraffic { namespaces: vec!["shop".to_owned()], window }),
        ..AnalyzeImpactRequest::default()
    });
    bearer(&mut request, &issuer.mint(&Grant::new("vera", [Role::Viewer]).within(["shop"])))?;
    let mut client = ValidatorServiceClient::new(connect_lazy(&validator.url())?);
    let told = client.analyze_impact(request).await?.into_inner();

    let (all, denied): (Vec<_>, Vec<_>) = (edges().collect(), edges().filter(|edge| edge.from == "jobs").collect());
    let rate = |edges: &[Edge]| {
        let per_tick = edges.iter().map(|edge| edge.per_tick).sum::<i64>();
        f64::from(i32::try_from(per_tick).expect("few")) / f64::from(i32::try_from(TICK).expect("few"))
    };
    let share = 100.0 * rate(&denied) / rate(&all);
    assert_eq!(told.summary, format!("12 of 340 edges would be denied, {share:.1} % of requests."));
    assert_eq!((told.denied, told.allowed, told.undecided), (12, 0, 0));
    assert!((told.requests_per_second - rate(&all)).abs() < 1e-6, "{} of {}", told.requests_per_second, rate(&all));
    assert!((told.denied_requests_per_second - rate(&denied)).abs() < 1e-6, "{}", told.denied_requests_per_second);
    let callers = told.affected.iter().filter_map(|one| one.edge.as_ref());
    assert!(callers.clone().count() == 12 && callers.clone().all(|edge| edge.source_namespace == "jobs"), "{told:?}");
    println!("{} ({} requests/s)", told.summary, told.requests_per_second);

    validator.stop().await?;
    collector.stop().await?;
    process.stop(PATIENCE).await;
    Ok(())
}
