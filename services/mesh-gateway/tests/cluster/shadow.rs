//! An AuthorizationPolicy as a dry run, with requests through the Envoy of a server.

use meshward_local::{
    stack::{NAMESPACE, Server},
    upstream::{Upstream, UpstreamConfig},
};
use meshward_proto::{gateway::v1::PropagationState as State, types::v1::Mechanism};
use serde_json::{Value, json};

use super::world::{World, intent, without_counters};

const APP: &str = "shadow";

fn policy(name: &str, paths: &[&str]) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": name, "namespace": NAMESPACE},
           "spec": {"selector": {"matchLabels": {"app": APP}}, "action": "ALLOW",
                    "rules": [{"to": [{"operation": {"paths": paths}}]}]}})
}

async fn status(server: &Server, path: &str) -> u16 {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
    let answer = http.get(format!("http://{}{path}", server.ingress)).send().await;
    answer.expect("Envoy answers").status().as_u16()
}

/// How many requests Envoy counted as let in and as denied by the dry run.
async fn counted(server: &Server) -> (u64, u64) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http.get(format!("{}/stats?filter=shadow_(allowed|denied)$", server.admin_url)).send().await;
    let text = answer.expect("Envoy answers").text().await.expect("a text");
    let sum = |end: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| name.ends_with(end));
        lines.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
    };
    (sum("shadow_allowed"), sum("shadow_denied"))
}

pub async fn what_it_would_decide_is_counted_and_nobody_is_exposed(world: &World) {
    let upstream = Upstream::start(UpstreamConfig::new(APP)).await.expect("a server");
    let server = world.stack.start_servers(APP, 0..1, upstream.address()).await.expect("its sidecar").remove(0);
    let gateway = &world.gateway;
    let before = world.apply_as("kubectl", &policy(APP, &["/both", "/old"])).await;
    let other = policy("shadow-other", &["/other"]);
    world.apply_as("kubectl", &other).await;
    let canary = policy(APP, &["/both", "/new"]);
    // Neighbours are known by a watch, which is told of the other policy within moments.
    let deadline = std::time::Instant::now() + super::world::PATIENCE;
    let (plan, baseline) = loop {
        let (plan, baseline) = gateway.plan_by(Mechanism::Shadow, &canary, &[1000]).await.expect("a plan");
        if plan.steps[0].writes.len() == 3 {
            break (plan, baseline);
        }
        assert!(std::time::Instant::now() < deadline, "the other policy is never seen");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let (applied, proof) = gateway.expose("a dry run", &intent(&canary, &plan, &baseline, 1, 1000)).await;
    assert_eq!((applied.writes, proof.state()), (3, State::Live), "{proof:?}");

    for (path, decided, allowed) in
        [("/both", 200, true), ("/old", 200, false), ("/new", 403, true), ("/other", 200, true), ("/none", 403, false)]
    {
        let first = counted(&server).await;
        assert_eq!(status(&server, path).await, decided, "{path}: the live version decides");
        let now = counted(&server).await;
        let expected = if allowed { (first.0 + 1, first.1) } else { (first.0, first.1 + 1) };
        assert_eq!(now, expected, "{path}: what the new version would decide");
    }
    let (_, proof) = gateway.undo("the dry run", &intent(&canary, &plan, &baseline, 2, 0)).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    let after = world.live_object(&before).await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before));
    for write in &plan.steps[0].writes[..2] {
        let helper: Value = serde_json::from_str(&write.object_json).expect("an object");
        assert_eq!(world.live_object(&helper).await, None, "no helper is left");
    }
    world.remove(&before).await;
    world.remove(&other).await;
    server.stop().await;
    upstream.stop().await;
}
