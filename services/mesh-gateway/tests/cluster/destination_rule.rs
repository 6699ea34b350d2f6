//! DestinationRule by twin subsets, with requests through the Envoy of a caller.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use meshward_chassis::clock::{Clock as _, SystemClock};
use meshward_local::{
    demo::Cohorts,
    load::{Load, LoadPlan},
    stack::{NAMESPACE, Upstreams},
    upstream::{Behaviour, Upstream, UpstreamConfig},
};
use meshward_proto::{
    gateway::v1::{self as pb, PropagationState as State},
    types::v1::{ErrorReason as Reason, Mechanism},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, object, refused, without_counters};

const HOST: &str = "checkout.shop.svc.cluster.local";
const ROUTES: &str = "checkout-routes";
/// The name of the VirtualService that is made.
const HELPER: &str = "checkout-meshward-canary";
/// Requests a second while steps change.
const RATE: f64 = 150.0;
/// Requests for each share that is measured.
const REQUESTS: u64 = 1500;
/// Requests at once to meet a limit.
const BURST: usize = 12;
/// An id that every cohort has.
const FIRST: &str = "6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b00";
/// An id that no cohort below 100 % has.
const LAST: &str = "6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1bff";

/// What is called.
pub struct Services([Upstream; 3]);

impl Services {
    pub async fn start() -> Self {
        let start = async |name: &str| Upstream::start(UpstreamConfig::new(name)).await.expect("a server");
        Self([start("checkout").await, start("checkout-next").await, start("catalog").await])
    }

    pub fn addresses(&self) -> Upstreams {
        let [checkout, checkout_next, catalog] = self.0.each_ref().map(Upstream::address);
        Upstreams { checkout, checkout_next, catalog }
    }

    /// Makes every request to checkout take a while, or not.
    fn slow_down(&self, is_slow: bool) {
        let slow = Behaviour::Slow { share: 1.0, delay_ms: 300 };
        let behaviour = if is_slow { slow } else { Behaviour::Healthy };
        self.0[0].set_behaviour(behaviour).expect("it is in range");
    }

    pub async fn stop(self) {
        for service in self.0 {
            service.stop().await;
        }
    }
}

fn rule(policy: &Value, subsets: &Value) -> Value {
    let mut spec = json!({"host": "checkout"});
    for (field, value) in [("trafficPolicy", policy), ("subsets", subsets)] {
        if !value.is_null() {
            spec[field] = value.clone();
        }
    }
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
           "metadata": {"name": "checkout", "namespace": NAMESPACE}, "spec": spec})
}

/// Room for so many requests at once, and as many that wait.
fn room(limit: u32) -> Value {
    json!({"tcp": {"maxConnections": limit}, "http": {"http1MaxPendingRequests": limit}})
}

/// Asks for a plan until the neighbours that the test has just written are seen, and are what it changes besides.
async fn planned(world: &World, canary: &Value, weights: &[i32], related: &str) -> (pb::ExposurePlan, pb::Baseline) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (plan, baseline) = world.gateway.plan(canary, weights).await.expect("a plan");
        let names: Vec<_> = baseline.related.iter().filter_map(|it| Some(&*it.target.as_ref()?.name)).collect();
        if names == [related] {
            assert_eq!(plan.mechanism(), Mechanism::Subset);
            return (plan, baseline);
        }
        assert!(std::time::Instant::now() < deadline, "{names:?} and never {related}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Goes back phase by phase, each proven; the writes that it took.
async fn back(world: &World, what: &str, intent: &pb::ExposureIntent) -> i32 {
    let (start, mut writes) = (std::time::Instant::now(), 0);
    for phase in 0.. {
        let restored = world.gateway.restore_phase(intent, phase).await.expect("it is restored");
        let proof = world.gateway.verify(intent, &restored.objects).await;
        println!("{what}, phase {phase}: {} ({:?})", proof.message, start.elapsed());
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        writes += restored.writes;
        if !restored.more {
            return writes;
        }
    }
    unreachable!("there is a last phase")
}

/// Requests by subset since the caller's Envoy started, as it counts them for each endpoint of each cluster.
async fn by_subset(world: &World) -> BTreeMap<String, u64> {
    let url = format!("{}/clusters", world.stack.storefront().admin_url);
    let text = reqwest::get(url).await.expect("Envoy answers").text().await.expect("a text");
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains(HOST)) {
        let Some((name, count)) = line.rsplit_once("::rq_total::") else { continue };
        let subset = name.split('|').nth(2).expect("outbound|port|subset|host");
        *counts.entry(subset.to_owned()).or_default() += count.parse::<u64>().expect("a number");
    }
    counts
}

fn sum(counts: &BTreeMap<String, u64>, names: &[&str]) -> u64 {
    names.iter().filter_map(|name| counts.get(*name)).sum()
}

/// A share as a number, with its nominal value checked: five standard deviations are one run in a million and a half.
fn check_share(what: &str, part: u64, all: u64, nominal: f64) {
    #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
    let (share, bound) = (part as f64 / all as f64, 5.0 * (nominal * (1.0 - nominal) / all as f64).sqrt());
    println!("{what}: {part} of {all} requests = {share:.4}, nominal {nominal:.4}");
    assert!((share - nominal).abs() <= bound, "{what}: {share} instead of {nominal}");
}

/// How many of a burst of requests with this id are answered by the service, and how many turned away by the limit.
async fn burst(world: &World, services: &Services, id: &str) -> (usize, usize) {
    services.slow_down(true);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{}/", world.stack.storefront().egress);
    let send = |_| http.get(&url).header("host", HOST).header("x-request-id", id).send();
    let replies: Vec<_> = stream::iter(0..BURST).map(send).buffer_unordered(BURST).collect().await;
    services.slow_down(false);
    let is = |status: StatusCode| replies.iter().flatten().filter(|reply| reply.status() == status).count();
    (is(StatusCode::OK), is(StatusCode::SERVICE_UNAVAILABLE))
}

/// Checks whose limit holds for whom: turned away or not, in the cohort and outside.
async fn check_limits(world: &World, services: &Services, what: &str, canary: bool, stable: bool) {
    for (who, id, is_limited) in [("cohort", FIRST, canary), ("others", LAST, stable)] {
        let (served, turned_away) = burst(world, services, id).await;
        println!("{what}, {who}: {served} served, {turned_away} turned away");
        assert_eq!(served + turned_away, BURST, "{what}, {who}");
        assert_eq!(turned_away > 0, is_limited, "{what}, {who}");
    }
}

/// Waits until the caller's Envoy has a limit for the host that somebody else has written.
async fn is_limited(world: &World, connections: u32) {
    let line = format!("outbound|8080||{HOST}::default_priority::max_connections::{connections}\n");
    let url = format!("{}/clusters", world.stack.storefront().admin_url);
    let deadline = std::time::Instant::now() + PATIENCE;
    while !reqwest::get(&url).await.expect("Envoy answers").text().await.expect("a text").contains(&line) {
        assert!(std::time::Instant::now() < deadline, "the limit never comes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Routes that send to the host and to one of its subsets.
async fn given_routes(world: &World) -> Value {
    let http = json!([
        {"match": [{"uri": {"prefix": "/v1"}}], "route": [{"destination": {"host": "checkout", "subset": "v1"}}]},
        {"route": [{"destination": {"host": "checkout"}}]},
    ]);
    let mut routes = object(ROUTES, json!({"hosts": ["checkout"], "http": http}));
    routes["metadata"]["labels"] = json!({"team": "payments"});
    world.apply_as("kubectl", &routes).await
}

fn load(world: &World) -> Load {
    let plan = LoadPlan {
        paths: vec!["/".to_owned(), "/v1/x".to_owned()],
        rate: RATE,
        ..LoadPlan::new(format!("http://{}", world.stack.storefront().egress), HOST)
    };
    Load::start(plan, || SystemClock.now()).expect("a load")
}

/// Waits until so many more requests have reached the host; how many of them were the canary's.
async fn measured(world: &World, canary: &[&str], stable: &[&str]) -> (u64, u64) {
    let before = by_subset(world).await;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = by_subset(world).await;
        let [canary, stable] = [canary, stable].map(|names| sum(&now, names) - sum(&before, names));
        if canary + stable >= REQUESTS {
            return (canary, canary + stable);
        }
    }
}

/// 10, 30, 50, 100 % under load, back, and again: no request is lost, and both objects are what they were.
pub async fn exposed_step_by_step_under_load(world: &World) {
    let labels = json!([{"name": "v1", "labels": {"app": "checkout"}}]);
    let ejecting = json!({"connectionPool": room(900), "outlierDetection": {"consecutive5xxErrors": 50}});
    let balancing = json!({"connectionPool": room(800), "loadBalancer": {"simple": "ROUND_ROBIN"}});
    let (routes, before) = (given_routes(world).await, world.apply_as("kubectl", &rule(&ejecting, &labels)).await);
    let canary = rule(&balancing, &labels);
    let (plan, baseline) = planned(world, &canary, &[1000, 3000, 5000, 10_000], ROUTES).await;
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    // What the test itself has just written is no step: a route may come before the subset that it names.
    is_limited(world, 900).await;
    let load = load(world);
    let mut written = (0, 0);
    for (generation, weight, below) in [(1, 1000, 26_u32), (2, 3000, 77), (3, 5000, 128)] {
        load.mark(&format!("to {weight}")).expect("a phase");
        let (applied, proof) = world.gateway.expose(&format!("rule at {weight}"), &at(generation, weight)).await;
        assert_eq!((proof.state(), proof.concerned), (State::Live, 1), "{proof:?}");
        assert!(applied.writes <= 3, "{} writes", applied.writes);
        load.mark(&format!("at {weight}")).expect("a phase");
        let counted = Cohorts::read(&world.stack.storefront().admin_url).await.expect("counters");
        let (part, all) = measured(world, &["canary", "v1-canary"], &["", "v1"]).await;
        check_share(&format!("clusters at {weight}"), part, all, f64::from(below) / 256.0);
        let since = Cohorts::read(&world.stack.storefront().admin_url).await.expect("counters").since(counted);
        check_share(&format!("routes at {weight}"), since.canary, since.total(), f64::from(below) / 256.0);
        let now =
            (world.writes_in_audit("destinationrules", "checkout"), world.writes_in_audit("virtualservices", ROUTES));
        println!("writes at {weight}: {} to the rule, {} to the routes", now.0 - written.0, now.1 - written.1);
        written = now;
    }
    load.mark("promotion").expect("a phase");
    let (applied, proof) = world.gateway.expose("rule at 10000", &at(4, 10_000)).await;
    println!("writes at 10000: {}", applied.writes);
    assert_eq!((proof.state(), proof.concerned), (State::Live, 1), "{proof:?}");
    is_promoted(world, &routes, &canary).await;
    assert_eq!(world.gateway.apply_phase(&at(4, 10_000), 2).await.expect("again").writes, 0);
    load.mark("promoted").expect("a phase");
    let (part, all) = measured(world, &["canary", "v1-canary"], &["", "v1"]).await;
    assert_eq!((part, all >= REQUESTS), (0, true), "nothing is sent to twins any more");

    load.mark("rollback").expect("a phase");
    back(world, "back from 100 %", &at(5, 0)).await;
    is_as_before(world, &[&before, &routes]).await;
    assert_eq!(world.gateway.restore_phase(&at(5, 0), 1).await.expect("again").writes, 0);
    refused(world.gateway.apply_phase(&at(4, 5000), 1).await, Reason::StaleGeneration);

    let report = load.stop().await;
    for phase in &report.phases {
        let lost = (phase.lost.total(), phase.failed);
        println!("{}: {} requests in {:.1} s, lost and failed {lost:?}", phase.name, phase.completed, phase.seconds);
    }
    assert_eq!((report.total.lost.total(), report.total.failed), (0, 0), "{:?}", report.total.failures);
    // A measurement of nothing would be one of no loss as well.
    assert!(report.total.completed > 4 * REQUESTS && report.total.not_sent == 0, "{:?}", report.total);
    world.remove(&routes).await;
    world.remove(&before).await;
}

/// The rule is the approved one, and the routes are what they were.
async fn is_promoted(world: &World, routes: &Value, canary: &Value) {
    let live = world.live_object(canary).await.expect("it is there");
    assert_eq!((&live["spec"], &live["metadata"]["annotations"]), (&canary["spec"], &Value::Null));
    is_as_before(world, &[routes]).await;
    let subsets: Vec<_> = by_subset(world).await.into_keys().collect();
    assert_eq!(subsets, ["", "v1"], "the twins are gone from Envoy, too");
}

async fn is_as_before(world: &World, objects: &[&Value]) {
    for before in objects {
        let after = world.live_object(before).await.expect("it is there");
        assert_eq!(without_counters(&after), without_counters(before), "managed fields included");
    }
}

/// A limit that the new version removes is gone for the cohort alone; the host is given a VirtualService meanwhile.
pub async fn a_limit_that_is_removed_and_a_host_without_routes(world: &World, services: &Services) {
    let before = world.apply_as("kubectl", &rule(&json!({"connectionPool": room(1)}), &Value::Null)).await;
    let canary = rule(&json!({"loadBalancer": {"simple": "ROUND_ROBIN"}}), &Value::Null);
    let (plan, baseline) = planned(world, &canary, &[5000, 9000, 10_000], HELPER).await;
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    is_limited(world, 1).await;
    check_limits(world, services, "before", true, true).await;
    for (generation, weight) in [(1, 5000), (2, 9000)] {
        let (applied, proof) = world.gateway.expose(&format!("removal at {weight}"), &at(generation, weight)).await;
        assert_eq!((applied.writes, proof.state()), (2, State::Live), "{proof:?}");
        check_limits(world, services, &format!("removal at {weight}"), false, true).await;
    }
    let writes = back(world, "back from 90 %", &at(3, 0)).await;
    println!("writes to go back: {writes}");
    is_as_before(world, &[&before]).await;
    assert_eq!(world.live(HELPER).await, None);
    check_limits(world, services, "back", true, true).await;

    let (plan, baseline) = planned(world, &canary, &[5000, 10_000], HELPER).await;
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    for (generation, weight) in [(1, 5000), (2, 10_000)] {
        let (applied, proof) = world.gateway.expose(&format!("again at {weight}"), &at(generation, weight)).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        assert!(applied.writes <= 3, "{} writes", applied.writes);
    }
    check_limits(world, services, "promoted", false, false).await;
    assert_eq!(world.live(HELPER).await, None);
    assert_eq!(world.live_object(&canary).await.expect("it is there")["spec"], canary["spec"]);
    world.remove(&canary).await;
}

/// A first rule, and one that goes: both are shared like any other change.
pub async fn a_rule_that_is_new_and_then_goes(world: &World, services: &Services) {
    let canary = rule(&json!({"connectionPool": room(1)}), &Value::Null);
    let (plan, baseline) = planned(world, &canary, &[5000, 10_000], HELPER).await;
    assert!(baseline.absent);
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let (_, proof) = world.gateway.expose("a first rule at 5000", &at(1, 5000)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    check_limits(world, services, "a first rule at 5000", true, false).await;
    back(world, "back to none", &at(2, 0)).await;
    assert_eq!((world.live_object(&canary).await, world.live(HELPER).await), (None, None));
    check_limits(world, services, "back to none", false, false).await;

    // That one is over.
    let at = |generation, weight| pb::ExposureIntent { deployment_id: "d2".to_owned(), ..at(generation, weight) };
    let (_, proof) = world.gateway.expose("a first rule again at 5000", &at(1, 5000)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    let (_, proof) = world.gateway.expose("a first rule at 10000", &at(2, 10_000)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    check_limits(world, services, "a first rule at 10000", true, true).await;

    let mut gone = canary.clone();
    gone["spec"] = Value::Null;
    let (plan, baseline) = planned(world, &gone, &[5000, 10_000], HELPER).await;
    let at = |generation, weight| intent(&gone, &plan, &baseline, generation, weight);
    let (_, proof) = world.gateway.expose("its removal at 5000", &at(1, 5000)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    check_limits(world, services, "its removal at 5000", false, true).await;
    let (_, proof) = world.gateway.expose("its removal at 10000", &at(2, 10_000)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    assert_eq!((world.live_object(&canary).await, world.live(HELPER).await), (None, None));
    check_limits(world, services, "removed", false, false).await;
}

/// Somebody else's change to the VirtualService stops the deployment and is named.
pub async fn a_change_of_the_routes_is_named(world: &World) {
    let labels = json!([{"name": "v1", "labels": {"app": "checkout"}}]);
    let routes = given_routes(world).await;
    let before = world.apply_as("kubectl", &rule(&json!({"connectionPool": room(500)}), &labels)).await;
    let canary = rule(&json!({"connectionPool": room(400)}), &labels);
    let (plan, baseline) = planned(world, &canary, &[1000, 10_000], ROUTES).await;
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let (applied, _) = world.gateway.expose("before the change", &at(1, 1000)).await;
    let elsewhere = json!([{"route": [{"destination": {"host": "catalog"}}]}]);
    let changed = object(ROUTES, json!({"hosts": ["checkout"], "http": elsewhere}));
    world.apply_as("argocd", &changed).await;
    for result in
        [world.gateway.apply_phase(&at(2, 3000), 1).await.map(drop), world.gateway.restore(&at(3, 0)).await.map(drop)]
    {
        let (metadata, message) = refused(result, Reason::Drift);
        assert!(
            metadata["manager"] == "argocd" && message.contains(&format!("VirtualService shop/{ROUTES}")),
            "{message}"
        );
    }
    let proof = world.gateway.verify(&at(1, 1000), &applied.objects).await;
    assert_eq!((proof.state(), &*proof.drift_manager), (State::Drifted, "argocd"), "{proof:?}");
    world.remove(&routes).await;
    world.remove(&before).await;
}

/// Once the routes were put back at the end, they are no part of the deployment any more.
pub async fn a_change_of_the_routes_after_the_end_is_left_alone(world: &World) {
    let routes = given_routes(world).await;
    let labels = json!([{"name": "v1", "labels": {"app": "checkout"}}]);
    let before = world.apply_as("kubectl", &rule(&json!({"connectionPool": room(500)}), &labels)).await;
    let canary = rule(&json!({"connectionPool": room(400)}), &labels);
    let (plan, baseline) = planned(world, &canary, &[1000, 10_000], ROUTES).await;
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    for (generation, weight) in [(1, 1000), (2, 10_000)] {
        let (_, proof) = world.gateway.expose(&format!("before the change at {weight}"), &at(generation, weight)).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
    }
    let http = json!([{"timeout": "7s", "route": [{"destination": {"host": "checkout"}}]}]);
    let changed = world.apply_as("argocd", &object(ROUTES, json!({"hosts": ["checkout"], "http": http}))).await;
    assert_eq!(world.gateway.apply_phase(&at(2, 10_000), 2).await.expect("it stands as it is").writes, 0);
    back(world, "back after the change", &at(3, 0)).await;
    is_as_before(world, &[&before, &changed]).await;
    world.remove(&routes).await;
    world.remove(&before).await;
}

/// What the order of phases is for: a request to a subset that is not there is lost.
pub async fn a_missing_subset_loses_requests(world: &World) {
    let http = json!([{"route": [{"destination": {"host": "checkout", "subset": "nowhere"}}]}]);
    let routes = object("dangling", json!({"hosts": ["checkout"], "http": http}));
    world.apply_as("kubectl", &routes).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while !world.routes_in_envoy().await.contains("|nowhere|") {
        assert!(std::time::Instant::now() < deadline, "the route never comes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let url = format!("http://{}/", world.stack.storefront().egress);
    let reply = reqwest::Client::new().get(url).header("host", HOST).send().await.expect("Envoy answers");
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    world.remove(&routes).await;
}
