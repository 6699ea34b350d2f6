//! Kinds that choose pods by labels, each pod by pod until it is proven live, and back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use meshward_local::{
    stack::{NAMESPACE, Server},
    upstream::{Upstream, UpstreamConfig},
};
use meshward_proto::{gateway::v1::PropagationState as State, types::v1::Mechanism};
use serde_json::{Value, json};

use super::world::{PATIENCE, World, intent, without_counters};

const APP: &str = "kinds";
const HEADER: &str = "x-version";
/// The public key of RFC 7515, appendix A.3; Envoy refuses a list without any.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
  "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn object(api_version: &str, kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "spec": spec, "metadata": {"name": APP, "namespace": NAMESPACE}})
}

fn selecting(mut spec: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": APP}});
    spec
}

/// Two versions of each kind.
fn pairs() -> Vec<(&'static str, &'static str, [Value; 2])> {
    let jwt = |issuer: &str| selecting(json!({"jwtRules": [{"issuer": issuer, "jwks": KEYS}]}));
    let ports =
        |port: &str| selecting(json!({"mtls": {"mode": "DISABLE"}, "portLevelMtls": {port: {"mode": "DISABLE"}}}));
    let logs = |disabled: bool| selecting(json!({"accessLogging": [{"disabled": disabled}]}));
    vec![
        ("security.istio.io/v1", "PeerAuthentication", ["9001", "9002"].map(ports)),
        ("security.istio.io/v1", "RequestAuthentication", ["a.example.com", "b.example.com"].map(jwt)),
        ("telemetry.istio.io/v1", "Telemetry", [false, true].map(logs)),
    ]
}

/// A filter that adds its version to a header of each response.
fn filter(version: &str) -> Value {
    let code = format!("function envoy_on_response(h) h:headers():add(\"{HEADER}\", \"{version}\") end");
    object(
        "networking.istio.io/v1alpha3",
        "EnvoyFilter",
        &json!({
            "workloadSelector": {"labels": {"app": APP}},
            "configPatches": [{
                "applyTo": "HTTP_FILTER",
                "match": {"context": "SIDECAR_INBOUND", "listener": {"filterChain": {"filter": {
                    "name": "envoy.filters.network.http_connection_manager",
                    "subFilter": {"name": "envoy.filters.http.router"}}}}},
                "patch": {"operation": "INSERT_BEFORE", "value": {
                    "name": "meshward.test.lua",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                                     "default_source_code": {"inline_string": code}}}},
            }],
        }),
    )
}

/// The versions that a pod adds to one response.
async fn versions(http: &reqwest::Client, server: &Server) -> Vec<String> {
    let answer = http.get(format!("http://{}/", server.ingress)).send().await.expect("Envoy answers");
    let values = answer.headers().get_all(HEADER).into_iter();
    values.map(|value| value.to_str().expect("a text").to_owned()).collect()
}

pub async fn every_kind_is_proven_live(world: &World) {
    let upstream = Upstream::start(UpstreamConfig::new(APP)).await.expect("a server");
    let servers = world.stack.start_servers(APP, 0..4, upstream.address()).await.expect("their sidecars");
    let gateway = &world.gateway;
    for (api_version, kind, [stable, canary]) in pairs() {
        let before = world.apply_as("kubectl", &object(api_version, kind, &stable)).await;
        let canary = object(api_version, kind, &canary);
        let (plan, baseline) = gateway.plan_by(Mechanism::Unspecified, &canary, &[2500, 10_000]).await.expect("a plan");
        assert_eq!(plan.mechanism(), Mechanism::Instance, "{kind}");
        let (_, proof) = gateway.expose(&format!("{kind} at 2500"), &intent(&canary, &plan, &baseline, 1, 2500)).await;
        assert_eq!((proof.state(), proof.concerned), (State::Live, 4), "{kind}: {proof:?}");
        let (_, proof) = gateway.undo(kind, &intent(&canary, &plan, &baseline, 2, 0)).await;
        assert_eq!(proof.state(), State::Live, "{kind}: {proof:?}");
        let after = world.live_object(&before).await.expect("it is there");
        assert_eq!(without_counters(&after), without_counters(&before), "{kind}");
        world.remove(&before).await;
    }
    no_filter_runs_twice(world, &servers).await;
    for server in servers {
        server.stop().await;
    }
    upstream.stop().await;
}

/// Up to the end each response has been through one version of the filter, and one only.
async fn no_filter_runs_twice(world: &World, servers: &[Server]) {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let gateway = &world.gateway;
    world.apply_as("kubectl", &filter("v1")).await;
    let start = Instant::now();
    for server in servers {
        while versions(&http, server).await != ["v1"] {
            assert!(start.elapsed() < PATIENCE, "{} never gets the first version", server.proxy);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let canary = filter("v2");
    let (plan, baseline) = gateway.plan_by(Mechanism::Unspecified, &canary, &[5000, 10_000]).await.expect("a plan");
    let over = Arc::new(AtomicBool::default());
    let guard = async {
        let mut asked = 0;
        while !over.load(Ordering::Relaxed) {
            for server in servers {
                let found = versions(&http, server).await;
                assert!(found == ["v1"] || found == ["v2"], "{}: {found:?}", server.proxy);
                asked += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("EnvoyFilter: {asked} requests in between, each through one version");
    };
    let release = async {
        for (generation, weight, expected) in [(1, 5000, 2), (2, 10_000, 4)] {
            let wanted = intent(&canary, &plan, &baseline, generation, weight);
            let (applied, proof) = gateway.expose(&format!("EnvoyFilter at {weight}"), &wanted).await;
            assert_eq!(proof.state(), State::Live, "{proof:?}");
            println!("EnvoyFilter at {weight}: {} writes, {} labels", applied.writes, applied.pods_moved);
            let mut new = 0;
            for server in servers {
                new += usize::from(versions(&http, server).await == ["v2"]);
            }
            assert_eq!(new, expected);
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(guard, release);
    world.remove(&canary).await;
}
