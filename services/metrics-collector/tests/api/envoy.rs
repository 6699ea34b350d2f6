//! Traffic of a running Envoy: istiod gives it routes, the real Prometheus scrapes it, and what the collector reads from
//! there is what the client got.

use std::{cell::Cell, collections::BTreeMap, future::Future};

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use meshward_chassis::clock::{Clock, SystemClock};
use meshward_local::{
    stack::{NAMESPACE, SERVICE_PORT, Stack, StackOptions, Upstreams},
    tools::Tools,
    upstream::{Behaviour, UPSTREAM_HEADER, Upstream, UpstreamConfig},
};
use meshward_proto::{
    metrics::v1 as proto,
    types::v1::{Mechanism, Verdict},
};
use proto::QueryState;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use super::world::{Source, World, target};
use crate::PATIENCE;

const HOST: &str = "checkout.shop.svc.cluster.local";

async fn upstream(name: &str) -> Upstream {
    Upstream::start(UpstreamConfig::new(name)).await.expect("an upstream")
}

/// Whoever says so gets the canary; both routes are counted by name, and no failure is hidden by a retry.
async fn split(stack: &Stack) {
    let route = |name: &str, condition: serde_json::Value, host: &str| json!({"name": name, "match": [condition], "retries": {"attempts": 0}, "route": [{"destination": {"host": host}}]});
    let canary = json!({"headers": {"x-arm": {"exact": "canary"}}, "statPrefix": "canary"});
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "checkout", "namespace": NAMESPACE},
        "spec": {"hosts": ["checkout"], "http": [
            route("canary", canary, "checkout-next"),
            route("stable", json!({"statPrefix": "stable"}), "checkout"),
        ]},
    }))
    .expect("an object");
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"));
    let services: Api<DynamicObject> = Api::namespaced_with(stack.client().clone(), NAMESPACE, &kind);
    let parameters = PatchParams::apply("test").force();
    services.patch("checkout", &parameters, &Patch::Apply(&object)).await.expect("a VirtualService");
}

/// A caller behind the sidecar, and what it got.
struct Caller<'a> {
    stack: &'a Stack,
    http: reqwest::Client,
}

impl Caller<'_> {
    /// The status of an answer, and who gave it.
    async fn get(&self, arm: &str) -> (u16, String) {
        let url = format!("http://{}/", self.stack.storefront().egress);
        let request = self.http.get(url).header("host", HOST).header("x-arm", arm);
        let reply = request.send().await.expect("an answer from Envoy");
        let by = reply.headers().get(UPSTREAM_HEADER).and_then(|name| name.to_str().ok()).unwrap_or_default();
        (reply.status().as_u16(), by.to_owned())
    }

    /// Sends so many, and counts the answers by status.
    async fn send(&self, arm: &str, count: u32) -> BTreeMap<u16, i64> {
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            *answers.entry(self.get(arm).await.0).or_default() += 1;
        }
        answers
    }
}

/// Asks until the answer is the one that is waited for.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn wire(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: 0 }
}

fn counted(traffic: Option<&proto::CohortTraffic>) -> (i64, i64) {
    traffic.map_or((0, 0), |traffic| (traffic.requests, traffic.errors))
}

#[tokio::test]
async fn what_is_read_of_a_running_envoy_is_what_its_client_got() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [checkout, next, catalog] = [upstream("checkout").await, upstream("next").await, upstream("catalog").await];
    let upstreams =
        Upstreams { checkout: checkout.address(), checkout_next: next.address(), catalog: catalog.address() };
    let tools = Tools::locate().expect("the tools");
    let options = StackOptions { dir: directory.path().to_owned(), tools, upstreams };
    let stack = Stack::start(options).await.expect("a stack");
    let world = World::with(Source::Address(stack.prometheus_url().to_owned())).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let caller = Caller { stack: &stack, http };
    let start = SystemClock.now();

    split(&stack).await;
    // Both routes come at once, so from the first answer of the canary on every request is counted.
    let earlier = Cell::new(0);
    until("the canary's route", || async {
        let by = caller.get("canary").await.1;
        earlier.set(earlier.get() + i64::from(by == "checkout"));
        (by == "next").then_some(())
    })
    .await;
    next.set_behaviour(Behaviour::Failing { probability: 1.0 }).expect("it can fail");
    let failed = caller.send("canary", 40).await;
    next.set_behaviour(Behaviour::Healthy).expect("it can serve");
    let served = caller.send("canary", 109).await;
    checkout.set_behaviour(Behaviour::Failing { probability: 1.0 }).expect("it can fail");
    let control_failed = caller.send("stable", 7).await;
    checkout.set_behaviour(Behaviour::Healthy).expect("it can serve");
    let control_served = caller.send("stable", 293).await;
    let all = [&failed, &served, &control_failed, &control_served].map(|answers| answers.iter().next());
    assert_eq!(all, [Some((&503, &40)), Some((&200, &109)), Some((&503, &7)), Some((&200, &293))]);

    let (canary, control) = ((150, 40), (300, 7));
    let ask = || proto::GetTrafficMetricsRequest {
        target: Some(target_of_checkout()),
        end_time: None,
        window: Some(prost_types::Duration { seconds: 120, nanos: 0 }),
    };
    let traffic = until("all requests scraped", || async {
        world.clock.set(SystemClock.now());
        let read = world.traffic(ask()).await.expect("traffic");
        let sum = |arm: Option<&proto::CohortTraffic>| counted(arm).0;
        (sum(read.canary.as_ref()) + sum(read.control.as_ref()) >= 450).then_some(read)
    })
    .await;
    assert_eq!((counted(traffic.canary.as_ref()), counted(traffic.control.as_ref())), (canary, control));
    assert!((traffic.observed_share - 1.0 / 3.0).abs() < 1e-9, "{}", traffic.observed_share);

    let request = || proto::RunAnalysisRequest {
        target: Some(target_of_checkout()),
        start_time: Some(wire(start)),
        tick: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        history: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
        periods: vec![proto::WeightPeriod { start_time: Some(wire(start)), weight_bp: 3333 }],
        ..Default::default()
    };
    let analysis = until("the tick of the last request", || async {
        world.clock.set(SystemClock.now());
        let analysis = world.analyse(request()).await.expect("an analysis");
        (counted(analysis.canary.as_ref()).0 + counted(analysis.control.as_ref()).0 >= 450).then_some(analysis)
    })
    .await;
    assert_eq!((counted(analysis.canary.as_ref()), counted(analysis.control.as_ref())), (canary, control));
    let sum = |count: fn(&proto::TickSample) -> i64| analysis.samples.iter().map(count).sum::<i64>();
    assert_eq!((sum(|tick| tick.canary_errors), sum(|tick| tick.control_errors)), (40, 7));
    assert!(![Verdict::NoData, Verdict::ProviderError, Verdict::Healthy].contains(&analysis.verdict()));

    let checked = until("data of each query", || async {
        world.clock.set(SystemClock.now());
        let check = proto::CheckQueriesRequest { target: Some(target_of_checkout()), templates: String::new() };
        let checked = world.client().check_queries(world.request(check)).await.expect("an answer").into_inner();
        checked.problems.is_empty().then_some(checked)
    })
    .await;
    let states: Vec<QueryState> = checked.checks.iter().map(proto::QueryCheck::state).collect();
    assert_eq!(states, [QueryState::Data; 3]);
    assert_eq!((checked.checks[0].canary_series, checked.checks[0].control_series), (1, 1), "one of two callers asked");
    // Envoy fills its histograms some seconds after its counters.
    until("latencies of both arms", || async {
        world.clock.set(SystemClock.now());
        let read = world.traffic(ask()).await.expect("traffic");
        let is_timed =
            |arm: Option<proto::CohortTraffic>| arm.is_some_and(|traffic| traffic.latency_p99_ms.is_finite());
        (is_timed(read.canary) && is_timed(read.control)).then_some(())
    })
    .await;
    // No Istio's own proxy here, so the services as a whole are read off Envoy's clusters.
    until("all requests of both destinations", || async {
        world.clock.set(SystemClock.now());
        let read = world.traffic(whole_services()).await.expect("traffic");
        let (canary, all) = (counted(read.canary.as_ref()), counted(read.control.as_ref()));
        let expected = (450 + earlier.get(), 47);
        assert!(canary == (0, 0) && all.0 <= expected.0 && all.1 <= expected.1, "{all:?} of {expected:?}");
        let failed = read.control.and_then(|traffic| traffic.connection_failures);
        (all == expected && failed == Some(0)).then_some(())
    })
    .await;
    // The same clusters, those of each destination by itself, as a release by weight has them.
    let read = world.traffic(by_destinations()).await.expect("traffic");
    let expected = (canary, (300 + earlier.get(), 7));
    assert_eq!((counted(read.canary.as_ref()), counted(read.control.as_ref())), expected);
    stack.stop().await;
}

/// What goes to each destination, whatever route sent it there.
fn by_destinations() -> proto::GetTrafficMetricsRequest {
    let mut target = target("checkout");
    target.mechanism = Mechanism::Weight.into();
    target.canary_clusters = vec!["|checkout-next.shop.svc.cluster.local".to_owned()];
    target.control_clusters = vec![format!("{SERVICE_PORT}||{HOST}")];
    proto::GetTrafficMetricsRequest { target: Some(target), ..whole_services() }
}

/// Both destinations of the route.
fn whole_services() -> proto::GetTrafficMetricsRequest {
    let mut target = target("checkout");
    target.mechanism = Mechanism::None.into();
    target.hosts.push("checkout-next.shop.svc.cluster.local".to_owned());
    (target.canary_series, target.control_series) = (String::new(), String::new());
    let window = Some(prost_types::Duration { seconds: 120, nanos: 0 });
    proto::GetTrafficMetricsRequest { target: Some(target), end_time: None, window }
}

fn target_of_checkout() -> meshward_proto::gateway::v1::MetricsTarget {
    target("checkout")
}
