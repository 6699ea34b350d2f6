//! AuthorizationPolicy by request id, with requests through the Envoy of a server.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use meshward_local::{
    stack::{NAMESPACE, Server},
    upstream::{Upstream, UpstreamConfig},
};
use meshward_proto::{
    gateway::v1::PropagationState as State,
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
struct Caller {
    /// A new connection for each request.
    anew: reqwest::Client,
    /// One that stays open.
    open: reqwest::Client,
    server: Server,
}

impl Caller {
    fn new(server: Server) -> Self {
        let client = |idle| reqwest::Client::builder().no_proxy().pool_max_idle_per_host(idle).build();
        Self { anew: client(0).expect("a client"), open: client(1).expect("a client"), server }
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
        let check = |(id, is_inside): (String, bool)| async move {
            let let_in = |path| self.is_let_in(path, Some(&id));
            let decided = (let_in("/old").await, let_in("/new").await, let_in("/both").await);
            assert_eq!(decided, (!is_inside, is_inside, true), "{id} below {below}");
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

pub async fn requests_are_decided_by_the_version_of_their_id(world: &World) {
    let upstream = Upstream::start(UpstreamConfig::new("ledger")).await.expect("a server");
    let server = world.stack.start_server(upstream.address()).await.expect("its sidecar");
    let caller = Caller::new(server);
    let gateway = &world.gateway;
    let before = world.apply_as("kubectl", &policy("ids", "ALLOW", &json!([path("/both"), path("/old")]))).await;
    let canary = policy("ids", "ALLOW", &json!([path("/both"), path("/new")]));
    let (plan, baseline) = gateway.plan(&canary, &[1000, 3000, 5000, 10_000]).await.expect("a plan");
    assert_eq!(plan.mechanism(), Mechanism::Request);
    assert!(plan.not_covered[0].contains("cannot be judged"), "{:?}", plan.not_covered);
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

    promoted(world, &caller, &canary).await;
    denied(world, &caller).await;
    caller.server.stop().await;
    upstream.stop().await;
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
        (policy("pitfalls", "DENY", &json!([path("/old")])), "differ in spec.action"),
        (policy("pitfalls", "ALLOW", &json!([namespaces])), "allows TCP connections too"),
        (policy("first", "ALLOW", &json!([path("/new")])), "a first ALLOW denies whatever it does not name"),
        (dry, "is a dry run"),
    ] {
        let (metadata, message) = refused(gateway.plan(&canary, &[1000]).await, Reason::ExposureUnsupported);
        assert!(message.contains(words) && !metadata["would_work"].is_empty(), "{message}");
    }
    world.remove(&stable).await;
}
