//! Canaries for some of the callers: by a header, by their pods, by their namespaces; with requests through their Envoys.

use std::net::SocketAddr;

use meshward_chassis::clock::{Clock as _, SystemClock};
use meshward_local::{
    load::{Load, LoadPlan},
    stack::{NAMESPACE, Sidecar, Upstreams},
    upstream::UPSTREAM_HEADER,
};
use meshward_proto::{
    gateway::v1::{self as pb, PropagationState as State},
    types::v1::{ErrorReason, Mechanism},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, object, refused, without_counters};

/// Both callers see it.
const HOST: &str = "catalog.shop.svc.cluster.local";
/// Only one of the callers does.
const BANK: &str = "bank.example.com";

/// Routes to the host that tell their version.
fn told(version: &str, more: &Value) -> Value {
    let mut route = json!({"route": [{"destination": {"host": "catalog"}}],
                           "headers": {"response": {"set": {"x-version": version}}}});
    route.as_object_mut().expect("a route").extend(more.as_object().expect("a map").clone());
    object("catalog", json!({"hosts": ["catalog"], "http": [route]}))
}

/// What a caller is answered: the version that governed the request, or the status.
async fn asked(caller: &Sidecar, path: &str, header: (&str, &str)) -> String {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let request = client.get(format!("http://{}{path}", caller.egress)).header("host", HOST).header(header.0, header.1);
    let reply = request.send().await.expect("Envoy answers");
    let version = reply.headers().get("x-version").map(|version| version.to_str().expect("a text").to_owned());
    match reply.status() {
        StatusCode::OK => version.expect("the route says its version"),
        status => status.as_u16().to_string(),
    }
}

/// What each of the callers is answered.
async fn answers(world: &World, path: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for caller in world.stack.sidecars() {
        answers.push(asked(caller, path, ("x-any", "1")).await);
    }
    answers
}

/// One deployment of a second version of what stands there.
struct Deployment<'a> {
    world: &'a World,
    what: &'static str,
    before: Value,
    canary: Value,
    plan: pb::ExposurePlan,
    baseline: pb::Baseline,
}

impl<'a> Deployment<'a> {
    async fn begin(
        world: &'a World,
        (what, mechanism): (&'static str, Mechanism),
        [before, canary]: [&Value; 2],
        audience: pb::Audience,
    ) -> Self {
        world.apply_as("kubectl", before).await;
        let planned = world.gateway.plan_for(Some(audience), mechanism, canary, &[3000, 5000, 10_000]).await;
        let (plan, baseline) = planned.expect("a plan");
        assert_eq!(plan.mechanism(), mechanism);
        let before = serde_json::from_str(&baseline.object_json).expect("an object is JSON");
        Self { world, what, before, canary: canary.clone(), plan, baseline }
    }

    /// How many proxies have it.
    async fn expose(&self, generation: i64, weight_bp: i32) -> u32 {
        let intent = intent(&self.canary, &self.plan, &self.baseline, generation, weight_bp);
        let (applied, proof) = self.world.gateway.expose(&format!("{} at {weight_bp}", self.what), &intent).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        assert!(applied.writes <= 3 || weight_bp == 10_000, "{}: {} writes", self.what, applied.writes);
        println!("{} at {weight_bp}: {} writes, {} pods moved", self.what, applied.writes, applied.pods_moved);
        proof.concerned.try_into().expect("a number")
    }

    /// Everything is as it was.
    async fn end(self, generation: i64) {
        let intent = intent(&self.canary, &self.plan, &self.baseline, generation, 0);
        let (_, proof) = self.world.gateway.undo(self.what, &intent).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        let after = self.world.live_object(&self.before).await.expect("it is there");
        assert_eq!(without_counters(&after), without_counters(&self.before), "managed fields included");
    }
}

fn namespaces(names: &[&str]) -> pb::Audience {
    pb::Audience { header: None, namespaces: names.iter().map(|name| (*name).to_owned()).collect() }
}

/// The requests of the audience and no others get the new version; what it does not match, it does not answer.
pub async fn a_header_or_a_cookie_chooses_the_version(world: &World) {
    use pb::header_match::Value::{Exact, Prefix};
    let [storefront, _] = world.stack.sidecars() else { panic!("two callers") };
    let versions = [&told("v1", &json!({})), &told("v2", &json!({"match": [{"uri": {"prefix": "/new"}}]}))];
    let cookie =
        ("a cookie", "plan", true, Exact("beta".into()), ("cookie", "a=b; plan=beta"), ("cookie", "plan=betas"));
    let header = ("a header", "X-Tier", false, Prefix("gold".into()), ("x-tier", "gold-2"), ("x-tier", "silver"));
    for (what, name, is_cookie, value, has, has_not) in [cookie, header] {
        let header = pb::HeaderMatch { name: name.into(), is_cookie, value: Some(value) };
        let audience = pb::Audience { header: Some(header), namespaces: Vec::new() };
        let deployment = Deployment::begin(world, (what, Mechanism::Header), versions, audience).await;
        assert_eq!(deployment.expose(1, 5000).await, 2, "both callers");
        for (path, header, expected) in [
            ("/new", has, "v2"),
            ("/", has, "404"),
            ("/new", has_not, "v1"),
            ("/", has_not, "v1"),
            ("/", ("x-other", "1"), "v1"),
        ] {
            assert_eq!(asked(storefront, path, header).await, expected, "{what}: {path} {header:?}");
        }
        deployment.end(2).await;
        assert_eq!(asked(storefront, "/", has).await, "v1");
    }
    world.delete("catalog").await;
}

/// One of the two callers is the canary; at the end both are, and nobody carries a label any more.
pub async fn each_calling_pod_is_governed_by_one_version(world: &World) {
    let versions = [&told("v1", &json!({})), &told("v2", &json!({"match": [{"uri": {"prefix": "/new"}}]}))];
    let begin =
        || Deployment::begin(world, ("by pods that call", Mechanism::Instance), versions, pb::Audience::default());
    let deployment = begin().await;
    assert_eq!(deployment.expose(1, 5000).await, 2, "the pods that are divided");
    let key = deployment.plan.steps[0].cohorts[0].label_key.clone();
    let mut expected = Vec::new();
    for caller in world.stack.sidecars() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
                         "metadata": {"name": caller.caller.pod, "namespace": NAMESPACE}});
        let live = world.live_object(&pod).await.expect("it is there");
        let is_canary = live["metadata"]["labels"][&key] == "canary";
        expected.push(if is_canary { ["v2", "404"] } else { ["v1", "v1"] });
    }
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [["v1", "v1"], ["v2", "404"]], "one of two");
    for (path, index) in [("/new", 0), ("/", 1)] {
        assert_eq!(answers(world, path).await, expected.iter().map(|pair| pair[index]).collect::<Vec<_>>(), "{path}");
    }
    deployment.expose(2, 10_000).await;
    assert_eq!(answers(world, "/new").await, ["v2", "v2"]);
    deployment.end(3).await;
    assert_eq!(answers(world, "/").await, ["v1", "v1"]);
    for caller in world.stack.sidecars() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
                         "metadata": {"name": caller.caller.pod, "namespace": NAMESPACE}});
        let live = world.live_object(&pod).await.expect("it is there");
        assert!(live["metadata"]["labels"].get(&key).is_none(), "{live}");
    }
    world.delete("catalog").await;
}

/// A copy is for the namespaces that it names, and takes the place of a public one there.
pub async fn a_copy_serves_the_namespaces_that_it_is_shown_to(world: &World) {
    let versions = [&told("v1", &json!({})), &told("v2", &json!({"timeout": "3s"}))];
    for (what, names, at_half) in
        [("a copy for others", ["elsewhere", NAMESPACE], "v1"), ("a copy for them", [NAMESPACE, "elsewhere"], "v2")]
    {
        let deployment = Deployment::begin(world, (what, Mechanism::Namespace), versions, namespaces(&names)).await;
        deployment.expose(1, 5000).await;
        assert_eq!(answers(world, "/").await, [at_half, at_half], "{what}");
        deployment.expose(2, 10_000).await;
        assert_eq!(answers(world, "/").await, ["v2", "v2"], "{what}");
        deployment.end(3).await;
        assert_eq!(answers(world, "/").await, ["v1", "v1"], "{what}");
        assert_eq!(world.live("catalog-meshward-canary").await, None);
    }
    world.delete("catalog").await;
}

/// A rule with a limit that can be seen in the proxies of its callers.
fn limit(connections: u32) -> Value {
    let policy = json!({"connectionPool": {"tcp": {"maxConnections": connections}}});
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
           "metadata": {"name": "catalog", "namespace": NAMESPACE},
           "spec": {"host": "catalog", "trafficPolicy": policy}})
}

/// The limit that each caller's Envoy has for the host.
async fn limits(world: &World, host: &str) -> Vec<u32> {
    let mut limits = Vec::new();
    for caller in world.stack.sidecars() {
        let reply = reqwest::get(format!("{}/clusters", caller.admin_url)).await.expect("Envoy answers");
        let text = reply.text().await.expect("a text");
        let line = format!("outbound|8080||{host}::default_priority::max_connections::");
        let found = text.lines().find_map(|found| found.strip_prefix(&line)).expect("the host is known");
        limits.push(found.parse().expect("a number"));
    }
    limits
}

/// One of the two callers has the new limit; at the end both have, and the way back leaves nothing behind.
pub async fn a_rule_is_given_to_some_of_the_pods_that_call(world: &World) {
    let versions = [&limit(11), &limit(22)];
    let what = ("a rule by pods that call", Mechanism::Instance);
    let deployment = Deployment::begin(world, what, versions, pb::Audience::default()).await;
    assert_eq!(deployment.expose(1, 5000).await, 2, "the pods that are divided");
    let mut half = limits(world, HOST).await;
    half.sort_unstable();
    assert_eq!(half, [11, 22]);
    deployment.expose(2, 10_000).await;
    assert_eq!(limits(world, HOST).await, [22, 22]);
    deployment.end(3).await;
    assert_eq!(limits(world, HOST).await, [11, 11]);
    let mut helper = limit(0);
    helper["metadata"]["name"] = "catalog-meshward-canary".into();
    assert_eq!(world.live_object(&helper).await, None);
    world.remove(&limit(0)).await;
}

/// The service is in another namespace than its callers: a rule for some of them must not take it away from the others,
/// and a copy for all of them takes its place.
pub async fn a_rule_is_given_to_callers_in_another_namespace(world: &World) {
    let core = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    let mut service = core("Service", "catalog");
    service["metadata"]["namespace"] = "far".into();
    service["spec"] = json!({"ports": [{"name": "http", "port": 8080}]});
    world.apply_as("kubectl", &core("Namespace", "far")).await;
    world.apply_as("kubectl", &service).await;
    may_call(world, &["far/*"], ".far.svc.").await;
    let far = |connections| {
        let mut rule = limit(connections);
        rule["metadata"]["namespace"] = "far".into();
        rule
    };
    let host = "catalog.far.svc.cluster.local";
    for (what, mechanism, at_half) in [
        ("a rule for pods elsewhere", Mechanism::Instance, [11, 22]),
        ("a rule for a namespace", Mechanism::Namespace, [22, 22]),
    ] {
        let (versions, audience) = ([&far(11), &far(22)], namespaces(&[NAMESPACE]));
        let deployment = Deployment::begin(world, (what, mechanism), versions, audience).await;
        deployment.expose(1, 5000).await;
        let mut half = limits(world, host).await;
        half.sort_unstable();
        assert_eq!(half, at_half, "{what}");
        deployment.expose(2, 10_000).await;
        assert_eq!(limits(world, host).await, [22, 22], "{what}");
        deployment.end(3).await;
        assert_eq!(limits(world, host).await, [11, 11], "{what}");
        for name in ["catalog-meshward-canary", "catalog-all-meshward-canary"] {
            let mut copy = limit(0);
            copy["metadata"]["name"] = name.into();
            assert_eq!(world.live_object(&copy).await, None, "{what}");
        }
    }
    world.remove(&far(0)).await;
    world.remove(&service).await;
}

/// Lets both callers call more hosts, and waits until their Envoys know one of them.
async fn may_call(world: &World, hosts: &[&str], known: &str) {
    for caller in world.stack.sidecars() {
        let mut sidecar = json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
                                 "metadata": {"name": caller.caller.pod, "namespace": NAMESPACE}});
        let live = world.live_object(&sidecar).await.expect("it is there");
        sidecar["spec"] = live["spec"].clone();
        let may_call = sidecar["spec"]["egress"][0]["hosts"].as_array_mut().expect("hosts");
        may_call.extend(hosts.iter().map(|host| Value::from(*host)));
        world.apply_as("kubectl", &sidecar).await;
        let deadline = std::time::Instant::now() + PATIENCE;
        let url = format!("{}/clusters", caller.admin_url);
        while !reqwest::get(&url).await.expect("Envoy answers").text().await.expect("a text").contains(known) {
            assert!(std::time::Instant::now() < deadline, "the host is never known");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// A host with one endpoint.
fn bank(address: SocketAddr) -> Value {
    let ports = json!([{"number": 8080, "name": "http", "protocol": "HTTP"}]);
    let endpoint = json!({"address": address.ip(), "ports": {"http": address.port()}});
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
           "metadata": {"name": "bank", "namespace": NAMESPACE},
           "spec": {"hosts": [BANK], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": ports,
                    "endpoints": [endpoint]}})
}

/// Of so many requests to the bank, how many each of these endpoints got.
async fn counted(world: &World, endpoints: [SocketAddr; 2], requests: u64) -> [u64; 2] {
    let before = totals(world, endpoints).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for _ in 0..requests {
        let url = format!("http://{}/", world.stack.storefront().egress);
        let reply = client.get(url).header("host", BANK).send().await.expect("Envoy answers");
        assert_eq!(reply.status(), StatusCode::OK);
    }
    let after = totals(world, endpoints).await;
    [after[0] - before[0], after[1] - before[1]]
}

/// How many requests the caller's Envoy has sent to each endpoint; one that it does not know any more has none.
async fn totals(world: &World, endpoints: [SocketAddr; 2]) -> [u64; 2] {
    let url = format!("{}/clusters", world.stack.storefront().admin_url);
    let text = reqwest::get(url).await.expect("Envoy answers").text().await.expect("a text");
    endpoints.map(|address| {
        let line = format!("outbound|8080||{BANK}::{address}::rq_total::");
        let found = text.lines().find_map(|found| found.strip_prefix(&line));
        found.map_or(0, |count| count.parse().expect("a number"))
    })
}

/// Applies a ServiceEntry; istiod writes the addresses that it gives to the host into the status, once.
async fn given_an_address(world: &World, entry: &Value) {
    world.apply_as("kubectl", entry).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.live_object(entry).await.expect("it is there")["status"]["addresses"].is_null() {
        assert!(std::time::Instant::now() < deadline, "the host is given no address");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A share of the requests goes to the new endpoint; no request is lost, also not at the end and on the way back.
pub async fn new_endpoints_get_their_weight(world: &World, upstreams: &Upstreams) {
    let endpoints = [upstreams.checkout, upstreams.catalog];
    let versions = [&bank(endpoints[0]), &bank(endpoints[1])];
    given_an_address(world, versions[0]).await;
    let deployment =
        Deployment::begin(world, ("endpoints", Mechanism::Weight), versions, pb::Audience::default()).await;
    assert_eq!(deployment.expose(1, 3000).await, 1, "the one caller that may call everything");
    // Weighted turns: of so many one after the other there is no chance in it but where they begin.
    let [old, new] = counted(world, endpoints, 200).await;
    println!("requests by endpoint at 30 %: {old} old, {new} new");
    assert!(old + new == 200 && (55..=65).contains(&new), "{old} {new}");
    deployment.expose(2, 10_000).await;
    assert_eq!(counted(world, endpoints, 20).await[1], 20);
    deployment.end(3).await;
    assert_eq!(counted(world, endpoints, 20).await[0], 20);
    world.remove(&bank(endpoints[0])).await;
}

/// The servers that answer both callers.
async fn who_answers(world: &World) -> Vec<String> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let mut answers = Vec::new();
    for caller in world.stack.sidecars() {
        let request = client.get(format!("http://{}/", caller.egress)).header("host", BANK);
        let reply = request.send().await.expect("Envoy answers");
        let server = reply.headers().get(UPSTREAM_HEADER).map(|name| name.to_str().expect("a text").to_owned());
        answers.push(server.unwrap_or_else(|| reply.status().to_string()));
    }
    answers
}

/// The entry is in another namespace than its callers: they have the endpoints of the copy in theirs and no others, and
/// one that is kept in any other namespace is nothing to them. No request is lost.
pub async fn an_entry_is_given_to_namespaces_that_call(world: &World, upstreams: &Upstreams) {
    let within = |namespace: &str, address: SocketAddr| {
        let mut entry = bank(address);
        entry["metadata"]["namespace"] = namespace.into();
        entry["spec"]["location"] = "MESH_EXTERNAL".into();
        entry
    };
    for name in ["far", "elsewhere"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        world.apply_as("kubectl", &namespace).await;
    }
    let versions = [&within("far", upstreams.checkout), &within("far", upstreams.catalog)];
    given_an_address(world, versions[0]).await;
    let mut kept_elsewhere = within("elsewhere", upstreams.checkout_next);
    kept_elsewhere["spec"]["exportTo"] = json!(["."]);
    world.apply_as("kubectl", &kept_elsewhere).await;
    // One of the callers must see the hosts of its own namespace, too.
    let audience = || namespaces(&[NAMESPACE]);
    let refusal = world.gateway.plan_for(Some(audience()), Mechanism::Namespace, versions[1], &[5000]).await;
    let (_, message) = refused(refusal, ErrorReason::ExposureUnsupported);
    assert!(message.contains("Sidecar shop/search-0 does not show hosts of far and of shop alike"), "{message}");
    may_call(world, &[&format!("far/{BANK}"), &format!("./{BANK}")], BANK).await;
    sidecars_are_known(world, versions[1], audience()).await;

    let what = ("an entry for namespaces", Mechanism::Namespace);
    let deployment = Deployment::begin(world, what, versions, audience()).await;
    let url = format!("http://{}", world.stack.storefront().egress);
    let load = Load::start(LoadPlan { rate: 50.0, ..LoadPlan::new(url, BANK) }, || SystemClock.now()).expect("a load");
    assert_eq!(who_answers(world).await, ["checkout", "checkout"]);
    assert_eq!(deployment.expose(1, 5000).await, 2, "both callers");
    assert_eq!(who_answers(world).await, ["catalog", "catalog"]);
    deployment.expose(2, 10_000).await;
    assert_eq!(who_answers(world).await, ["catalog", "catalog"]);
    deployment.end(3).await;
    assert_eq!(who_answers(world).await, ["checkout", "checkout"]);
    let total = load.stop().await.total;
    println!("an entry for namespaces: {} requests, {} lost", total.completed, total.lost.total());
    assert_eq!((total.lost.total(), total.failed), (0, 0), "{:?}", total.failures);
    assert!(total.completed > 0, "a measurement of nothing would be one of no loss as well");
    world.remove(&kept_elsewhere).await;
    world.remove(versions[0]).await;
}

/// Waits until the gateway has been told of the Sidecars that the test has just written.
async fn sidecars_are_known(world: &World, canary: &Value, audience: pb::Audience) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Err(refusal) = world.gateway.plan_for(Some(audience.clone()), Mechanism::Namespace, canary, &[5000]).await
    {
        assert!(std::time::Instant::now() < deadline, "{refusal}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
