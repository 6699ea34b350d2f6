//! AuthorizationPolicy by request id, with requests through the Envoy of a server.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use meshward_local::{
    stack::{NAMESPACE, Server},
    upstream::{Upstream, UpstreamConfig},
};
use meshward_proto::{
    gateway::v1::{self as pb, PropagationState as State},
    types::v1::{ErrorReason as Reason, Mechanism},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, refused, without_counters};

const PLURAL: &str = "authorizationpolicies";
/// Requests without an id of their own, for each share that is measured.
const REQUESTS: u32 = 3000;
/// Requests at once.
const PARALLEL: usize = 16;
/// An id that every cohort has.
const FIRST_OF_ALL: &str = "6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b00";

fn policy(name: &str, action: &str, rules: &Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": name, "namespace": NAMESPACE},
           "spec": {"selector": {"matchLabels": {"app": Server::APP}}, "action": action, "rules": rules}})
}

fn path(path: &str) -> Value {
    json!({"to": [{"operation": {"methods": ["GET"], "paths": [path]}}]})
}

/// Requests through the server's Envoy.
pub struct Caller {
    /// A new connection for each request.
    anew: reqwest::Client,
    /// One that stays open.
    open: reqwest::Client,
    server: Server,
    upstream: Upstream,
}

impl Caller {
    pub async fn start(world: &World) -> Self {
        let upstream = Upstream::start(UpstreamConfig::new("ledger")).await.expect("a server");
        let server = world.stack.start_server(upstream.address()).await.expect("its sidecar");
        let client = |idle| reqwest::Client::builder().no_proxy().pool_max_idle_per_host(idle).build();
        Self { anew: client(0).expect("a client"), open: client(1).expect("a client"), server, upstream }
    }

    pub async fn stop(self) {
        self.server.stop().await;
        self.upstream.stop().await;
    }

    /// Whether a request on a new connection is let in.
    async fn is_let_in(&self, path: &str, id: Option<&str>) -> bool {
        self.is_let_in_on(&self.anew, path, id).await
    }

    async fn is_let_in_on(&self, http: &reqwest::Client, path: &str, id: Option<&str>) -> bool {
        let request = http.get(format!("http://{}{path}", self.server.ingress));
        let request = id.into_iter().fold(request, |request, id| request.header("x-request-id", id));
        match request.send().await.expect("Envoy answers").status() {
            StatusCode::OK => true,
            StatusCode::FORBIDDEN => false,
            other => panic!("{path} {id:?}: {other}"),
        }
    }

    /// Checks the decision on every pair of last digits in both cases, and on what has no digits: the old version
    /// lets in `/old`, the new one `/new`, and both let in `/both`.
    async fn every_id_is_decided_by_one_version(&self, below: u32) {
        self.every_id(below, (true, false, true), (false, true, true)).await;
    }

    /// Checks that every id outside the cohort, and every one inside, is let in to `/old`, `/new` and `/both` like this.
    async fn every_id(&self, below: u32, outside: (bool, bool, bool), inside: (bool, bool, bool)) {
        let check = |(id, is_inside): (String, bool)| async move {
            let let_in = |path| self.is_let_in(path, Some(&id));
            let decided = (let_in("/old").await, let_in("/new").await, let_in("/both").await);
            assert_eq!(decided, if is_inside { inside } else { outside }, "{id} below {below}");
        };
        let pairs = ids().flat_map(|(pair, id)| [(id.to_uppercase(), pair < below), (id, pair < below)]);
        let no_digits = ("no digit at the end: x".to_owned(), below == 256);
        stream::iter(pairs.chain([no_digits])).for_each_concurrent(PARALLEL, check).await;
    }

    /// A connection that was open before is decided as before until Envoy has drained it.
    async fn an_open_connection_follows(&self) {
        let start = Instant::now();
        while !self.is_let_in_on(&self.open, "/old", Some(FIRST_OF_ALL)).await {
            assert!(start.elapsed() < PATIENCE, "the open connection is never drained");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        println!("an open connection followed {:?} after the proof", start.elapsed());
    }

    /// The share of requests without an id of their own that the new version decides.
    async fn share(&self) -> f64 {
        let requests = stream::iter(0..REQUESTS).map(|_| self.is_let_in("/new", None)).buffer_unordered(PARALLEL);
        let new = requests.filter(|is_new| std::future::ready(*is_new)).count().await;
        f64::from(u32::try_from(new).expect("a few thousand")) / f64::from(REQUESTS)
    }
}

/// An id for every pair of last digits, with the number by which cohorts go: the last digit first.
fn ids() -> impl Iterator<Item = (u32, String)> {
    (0..256).map(|pair| (pair, format!("6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b{:x}{:x}", pair % 16, pair / 16)))
}

pub async fn requests_are_decided_by_the_version_of_their_id(world: &World, caller: &Caller) {
    let gateway = &world.gateway;
    let before = world.apply_as("kubectl", &policy("ids", "ALLOW", &json!([path("/both"), path("/old")]))).await;
    let canary = policy("ids", "ALLOW", &json!([path("/both"), path("/new")]));
    let (plan, baseline) = gateway.plan(&canary, &[1000, 3000, 5000, 10_000]).await.expect("a plan");
    assert_eq!(plan.mechanism(), Mechanism::Request);
    assert!(plan.not_covered[0].contains("not measured per cohort"), "{:?}", plan.not_covered);
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);

    for (generation, weight, below) in [(1, 1000, 26_u32), (2, 3000, 77), (3, 5000, 128)] {
        let (applied, proof) = gateway.expose(&format!("policy at {weight}"), &at(generation, weight)).await;
        assert_eq!((applied.writes, proof.state(), proof.concerned), (1, State::Live, 1), "{proof:?}");
        caller.every_id_is_decided_by_one_version(below).await;
        let (share, nominal) = (caller.share().await, f64::from(below) / 256.0);
        println!("policy at {weight}: {share:.4} of {REQUESTS} requests, nominal {nominal:.4}");
        // Five standard deviations: one run in a million and a half is further off.
        let bound = 5.0 * (nominal * (1.0 - nominal) / f64::from(REQUESTS)).sqrt();
        assert!((share - nominal).abs() < bound, "{share} instead of {nominal}");
    }
    assert!(caller.is_let_in_on(&caller.open, "/new", Some(FIRST_OF_ALL)).await, "the connection is open");
    let restored = gateway.restore(&at(4, 0)).await.expect("it is restored");
    let proof = gateway.verify(&at(4, 0), &restored.objects).await;
    println!("restored: {}", proof.message);
    assert_eq!((restored.writes, proof.state(), proof.concerned), (2, State::Live, 1), "{proof:?}");
    caller.an_open_connection_follows().await;
    caller.every_id_is_decided_by_one_version(0).await;
    let after = world.live_object(&before).await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");
    assert_eq!(world.writes_in_audit(PLURAL, "ids"), 3 + 2, "one write a step, two to restore");

    promoted(world, caller, &canary).await;
    denied(world, caller).await;
}

/// A plan's steps one after the other, each proven; what every id outside and inside the cohort may do at each.
async fn steps(
    world: &World,
    caller: &Caller,
    canary: &Value,
    outside: (bool, bool, bool),
    inside: (bool, bool, bool),
) -> (pb::ExposurePlan, pb::Baseline) {
    let (plan, baseline) = world.gateway.plan(canary, &[1000, 5000, 10_000]).await.expect("a plan");
    assert_eq!(plan.mechanism(), Mechanism::Request);
    for (generation, weight, below) in [(1, 1000, 26), (2, 5000, 128), (3, 10_000, 256)] {
        let what = format!("{} at {weight}", canary["metadata"]["name"]);
        let (applied, proof) = world.gateway.expose(&what, &intent(canary, &plan, &baseline, generation, weight)).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        assert!(applied.writes <= 3, "{} writes", applied.writes);
        caller.every_id(below, outside, inside).await;
    }
    (plan, baseline)
}

const EVERYTHING: (bool, bool, bool) = (true, true, true);

/// Without any ALLOW everything is allowed; the first one denies what it does not name, to the cohort only.
pub async fn a_first_policy_comes(world: &World, caller: &Caller) {
    let canary = policy("first", "ALLOW", &json!([path("/new")]));
    steps(world, caller, &canary, EVERYTHING, (false, true, false)).await;
    assert_eq!(world.live_object(&canary).await.expect("it is there")["spec"], canary["spec"]);
    world.remove(&canary).await;

    // Rolled back, it is gone, and everything is allowed again.
    let (plan, baseline) = world.gateway.plan(&canary, &[5000]).await.expect("a plan");
    world.gateway.expose("a first policy again", &intent(&canary, &plan, &baseline, 1, 5000)).await;
    let (restored, proof) = world.gateway.undo("a first policy", &intent(&canary, &plan, &baseline, 2, 0)).await;
    assert_eq!((restored.writes, proof.state()), (2, State::Live), "recorded and deleted: {proof:?}");
    assert_eq!(world.live_object(&canary).await, None);
    caller.every_id(0, EVERYTHING, EVERYTHING).await;
}

pub async fn the_last_policy_goes_and_comes_back(world: &World, caller: &Caller) {
    let before = world.apply_as("kubectl", &policy("last", "ALLOW", &json!([path("/old")]))).await;
    let mut gone = before.clone();
    gone["spec"] = Value::Null;
    let (plan, baseline) = steps(world, caller, &gone, (true, false, false), EVERYTHING).await;
    assert_eq!(world.live_object(&before).await, None);
    let (_, proof) = world.gateway.undo("the last policy", &intent(&gone, &plan, &baseline, 4, 0)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    caller.every_id(0, (true, false, false), EVERYTHING).await;
    let after = world.live_object(&before).await.expect("it is there again");
    for field in ["labels", "annotations", "managedFields"] {
        assert_eq!(after["metadata"][field], before["metadata"][field], "{field}");
    }
    assert_eq!(after["spec"], before["spec"]);
    world.remove(&before).await;
}

pub async fn an_action_changes(world: &World, caller: &Caller) {
    let before = world.apply_as("kubectl", &policy("action", "ALLOW", &json!([path("/old")]))).await;
    let canary = policy("action", "DENY", &json!([path("/new")]));
    let helper = policy("action-meshward-canary", "DENY", &json!([]));
    let (outside, inside) = ((true, false, false), (true, false, true));
    let (plan, baseline) = world.gateway.plan(&canary, &[3000]).await.expect("a plan");
    world.gateway.expose("another action at 3000", &intent(&canary, &plan, &baseline, 1, 3000)).await;
    caller.every_id(77, outside, inside).await;
    assert!(world.live_object(&helper).await.is_some(), "the new action stands in a helper");
    let (_, proof) = world.gateway.undo("another action", &intent(&canary, &plan, &baseline, 2, 0)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    assert_eq!(world.live_object(&helper).await, None);
    caller.every_id(0, outside, inside).await;
    let after = world.live_object(&before).await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");

    steps(world, caller, &canary, outside, inside).await;
    assert_eq!(world.live_object(&canary).await.expect("it is there")["spec"], canary["spec"]);
    assert_eq!(world.live_object(&helper).await, None);
    // And from DENY to ALLOW, which is then the first one.
    let back = policy("action", "ALLOW", &json!([path("/old")]));
    steps(world, caller, &back, inside, outside).await;
    world.remove(&back).await;
}

async fn promoted(world: &World, caller: &Caller, canary: &Value) {
    let gateway = &world.gateway;
    let (plan, baseline) = gateway.plan(canary, &[5000, 10_000]).await.expect("a plan");
    let at = |generation, weight| intent(canary, &plan, &baseline, generation, weight);
    for (generation, weight, below) in [(1, 5000, 128), (2, 10_000, 256)] {
        let (_, proof) = gateway.expose(&format!("policy at {weight}"), &at(generation, weight)).await;
        assert_eq!((proof.state(), proof.concerned), (State::Live, 1), "{proof:?}");
        caller.every_id_is_decided_by_one_version(below).await;
    }
    let live = world.live_object(canary).await.expect("it is there");
    assert_eq!(live["spec"], canary["spec"], "nothing of ours is left");
    assert_eq!(live["metadata"]["annotations"], Value::Null);
    world.remove(canary).await;
}

/// A policy that denies: what is met is not let in.
async fn denied(world: &World, caller: &Caller) {
    let gateway = &world.gateway;
    let stable = policy("denied", "DENY", &json!([path("/old")]));
    world.apply_as("kubectl", &stable).await;
    let canary = policy("denied", "DENY", &json!([path("/old"), path("/new")]));
    let (plan, baseline) = gateway.plan(&canary, &[1000, 10_000]).await.expect("a plan");
    let (_, proof) = gateway.expose("a denial at 1000", &intent(&canary, &plan, &baseline, 1, 1000)).await;
    assert_eq!((proof.state(), proof.concerned), (State::Live, 1), "{proof:?}");
    for (pair, id) in ids() {
        let decided = (caller.is_let_in("/old", Some(&id)).await, caller.is_let_in("/new", Some(&id)).await);
        assert_eq!(decided, (false, pair >= 26), "{id}");
    }
    world.remove(&stable).await;
}

pub async fn what_would_hit_connections_is_refused(world: &World) {
    let gateway = &world.gateway;
    let stable = policy("pitfalls", "ALLOW", &json!([path("/old")]));
    world.apply_as("kubectl", &stable).await;
    let namespaces = json!({"from": [{"source": {"namespaces": ["web"]}}]});
    let mut dry = policy("pitfalls", "ALLOW", &json!([path("/new")]));
    dry["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    for (canary, words) in [
        (policy("pitfalls", "DENY", &json!([path("/old")])), "selects no pod now"),
        (policy("pitfalls", "ALLOW", &json!([namespaces])), "allows TCP connections too"),
        (policy("first", "ALLOW", &json!([path("/new")])), "selects no pod now"),
        (dry, "is a dry run"),
    ] {
        let (metadata, message) = refused(gateway.plan(&canary, &[1000]).await, Reason::ExposureUnsupported);
        assert!(message.contains(words) && !metadata["would_work"].is_empty(), "{message}");
    }
    world.remove(&stable).await;
}
