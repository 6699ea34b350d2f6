//! Canaries for some of the callers: by a header, by their pods, by their namespaces; with requests through their Envoys.

use meshward_local::stack::{NAMESPACE, Sidecar};
use meshward_proto::{
    gateway::v1::{self as pb, PropagationState as State},
    types::v1::Mechanism,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::world::{World, intent, object, without_counters};

/// Both callers see it.
const HOST: &str = "catalog.shop.svc.cluster.local";

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
        let before = world.apply_as("kubectl", before).await;
        let planned = world.gateway.plan_for(Some(audience), mechanism, canary, &[5000, 10_000]).await;
        let (plan, baseline) = planned.expect("a plan");
        assert_eq!(plan.mechanism(), mechanism);
        Self { world, what, before, canary: canary.clone(), plan, baseline }
    }

    /// How many proxies have it.
    async fn expose(&self, generation: i64, weight_bp: i32) -> u32 {
        let intent = intent(&self.canary, &self.plan, &self.baseline, generation, weight_bp);
        let (applied, proof) = self.world.gateway.expose(&format!("{} at {weight_bp}", self.what), &intent).await;
        assert_eq!(proof.state(), State::Live, "{proof:?}");
        assert!(applied.writes <= 3, "{}: {} writes", self.what, applied.writes);
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
