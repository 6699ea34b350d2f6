//! What the gateway promises, each on an object of its own.

use std::sync::Arc;

use meshward_chassis::auth::Role;
use meshward_local::stack::{ENVOY_REFUSAL, NAMESPACE, REGEX_THAT_ENVOY_REFUSES};
use meshward_mesh_gateway::{
    apply,
    cluster::{KubeCluster, KubeOptions},
};
use meshward_model::ExposureIntent;
use meshward_proto::{
    gateway::v1::{self as pb, PropagationState as State},
    types::v1::{ErrorReason as Reason, Mechanism},
};
use serde_json::{Value, json};

use super::{
    losing::Losing,
    world::{Gateway, PATIENCE, World, authorized, intent, object, refused, target, without_counters},
};

const STEPS: [i32; 4] = [1000, 3000, 5000, 10_000];

fn to(host: &str) -> Value {
    json!([{"route": [{"destination": {"host": host}}]}])
}

/// Routes to `checkout`, made by kubectl with a label and an annotation of its own.
async fn given(world: &World, name: &str) -> Value {
    let mut stable = object(name, json!({"hosts": ["checkout"], "http": to("checkout")}));
    stable["metadata"]["labels"] = json!({"team": "payments"});
    stable["metadata"]["annotations"] = json!({"note": "by hand"});
    world.apply_as("kubectl", &stable).await
}

/// The new version: another upstream, a header, a changed label.
fn canary(name: &str) -> Value {
    let mut http = to("checkout-next");
    http[0]["headers"] = json!({"response": {"set": {"x-version": "2"}}});
    let mut canary = object(name, json!({"hosts": ["checkout"], "http": http}));
    canary["metadata"]["labels"] = json!({"team": "checkout"});
    canary
}

pub async fn exposed_step_by_step_and_restored_byte_for_byte(world: &World) {
    let gateway = &world.gateway;
    let before = given(world, "steps").await;
    let canary = canary("steps");
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    assert_eq!(plan.mechanism(), Mechanism::Request);
    assert_eq!(plan.steps.iter().map(|step| step.nominal_share_bp).collect::<Vec<_>>(), [1016, 3008, 5000, 10_000]);
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);

    let (applied, proof) = gateway.expose("10 %", &at(5, 1000)).await;
    assert_eq!((applied.writes, proof.state(), proof.concerned, proof.acknowledged), (1, State::Live, 1, 1));
    assert!(world.routes_in_envoy().await.contains("(?i).*(?:[0-9a-f]0|[0-9]1)"), "Envoy has what was called live");
    let live = world.live("steps").await.expect("it is there");
    let request = gateway.request(pb::GetObjectRequest { target: Some(target(&canary)) });
    let read = gateway.client.clone().get_object(request).await.expect("it is read").into_inner();
    assert_eq!(serde_json::from_str::<Value>(&read.object_json).unwrap(), live);
    assert_eq!(live["spec"], serde_json::from_str::<Value>(&plan.steps[0].writes[0].object_json).unwrap()["spec"]);
    assert_eq!(live["metadata"]["labels"], before["metadata"]["labels"], "not ours until the end");
    assert_eq!(live["metadata"]["annotations"]["meshward.io/generation"], "5");

    let (again, proof) = gateway.expose("10 % again", &at(5, 1000)).await;
    assert_eq!((again.writes, again.objects == applied.objects, proof.state()), (0, true, State::Live));
    let (_, message) = refused(gateway.apply(&at(4, 500)).await, Reason::StaleGeneration);
    assert!(message.contains("generation 5"), "{message}");
    let mut other = at(9, 500);
    other.deployment_id = "d2".to_owned();
    assert_eq!(refused(gateway.apply(&other).await, Reason::TargetBusy).0["deployment"], "d1");
    refused(gateway.plan(&canary, &STEPS).await, Reason::TargetBusy);

    // A new number for the same wish is written down, but changes nothing for any proxy.
    let (renumbered, proof) = gateway.expose("10 % renumbered", &at(6, 1000)).await;
    assert_eq!((renumbered.writes, proof.state()), (1, State::Live));
    let (_, proof) = gateway.expose("30 %", &at(7, 3000)).await;
    assert_eq!(proof.state(), State::Live);
    assert!(
        world.routes_in_envoy().await.contains("(?i).*(?:[0-9a-f][0-3]|[0-9a-c]4)"),
        "Envoy has what was called live"
    );
    let (_, proof) = gateway.expose("back to 0 %", &at(8, 0)).await;
    assert_eq!(proof.state(), State::Live);
    assert!(!world.routes_in_envoy().await.contains("x-request-id"), "Envoy has what was called live");

    let undo = at(9, 0);
    let start = std::time::Instant::now();
    let restored = gateway.restore(&undo).await.expect("it is restored");
    let proof = gateway.verify(&undo, &restored.objects).await;
    println!("restored: {} (total {:?})", proof.message, start.elapsed());
    assert_eq!((restored.writes, proof.state()), (1, State::Live), "owners go back with the content");
    let after = world.live("steps").await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");
    assert_eq!(gateway.restore(&undo).await.expect("again").writes, 0);

    for late in [at(7, 3000), at(10, 3000)] {
        refused(gateway.apply(&late).await, Reason::StaleGeneration);
    }
    assert_eq!(world.live("steps").await, Some(after), "a late writer changes nothing");
    assert_eq!(world.writes_in_audit("virtualservices", "steps"), 4 + 1, "one write a step, one to restore");
    world.delete("steps").await;
}

pub async fn aborted_before_the_first_write_came(world: &World) {
    let gateway = &world.gateway;
    let before = given(world, "aborted").await;
    let canary = canary("aborted");
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    gateway.restore(&at(2, 0)).await.expect("it is restored");
    refused(gateway.apply(&at(1, 1000)).await, Reason::StaleGeneration);
    let after = world.live("aborted").await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");
    world.delete("aborted").await;
}

pub async fn promoted_and_then_rolled_back(world: &World) {
    let gateway = &world.gateway;
    let before = given(world, "promoted").await;
    let canary = canary("promoted");
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    assert_eq!(gateway.expose("50 %", &at(1, 5000)).await.1.state(), State::Live);
    let (applied, proof) = gateway.expose("100 %", &at(2, 10_000)).await;
    assert_eq!((applied.writes, proof.state()), (1, State::Live));
    let live = world.live("promoted").await.expect("it is there");
    assert_eq!(live["spec"], canary["spec"]);
    assert_eq!(live["metadata"]["labels"], json!({"team": "checkout"}));
    assert_eq!(live["metadata"]["annotations"], json!({"note": "by hand"}), "no mark of ours, theirs stays");
    assert_eq!(gateway.apply(&at(2, 10_000)).await.expect("again").writes, 0);
    refused(gateway.apply(&at(1, 5000)).await, Reason::StaleGeneration);

    let undo = at(3, 0);
    let start = std::time::Instant::now();
    let restored = gateway.restore(&undo).await.expect("also what was promoted can be restored");
    let proof = gateway.verify(&undo, &restored.objects).await;
    println!("restored after 100 %: {} (total {:?})", proof.message, start.elapsed());
    assert_eq!(proof.state(), State::Live);
    let after = world.live("promoted").await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before));
    world.delete("promoted").await;
}

/// Weight, and an expression that only routes of this weight have.
const ROUNDS: [(i32, &str); 4] = [
    (1000, "(?i).*(?:[0-9a-f]0|[0-9]1)"),
    (5000, "(?i).*[0-7]"),
    (3000, "(?i).*(?:[0-9a-f][0-3]|[0-9a-c]4)"),
    (9000, "(?i).*(?:[0-9a-f][0-9a-d]|[0-5]e)"),
];

pub async fn what_is_called_live_is_live_also_while_others_write(world: &World) {
    let gateway = &world.gateway;
    given(world, "busy").await;
    let canary = canary("busy");
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    let changes_of_others = async {
        for number in 0_u32.. {
            let mut http = to("catalog");
            http[0]["timeout"] = format!("{}s", number % 60 + 1).into();
            world.apply_as("others", &object("noise", json!({"hosts": ["catalog"], "http": http}))).await;
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(number * 37 % 300))).await;
        }
    };
    let ours = async {
        let mut times = Vec::new();
        for (generation, (weight, expression)) in (1..).zip(ROUNDS.iter().cycle().take(24)) {
            let start = std::time::Instant::now();
            let intent = intent(&canary, &plan, &baseline, generation, *weight);
            let applied = gateway.apply(&intent).await.expect("it is applied");
            let proof = gateway.verify(&intent, &applied.objects).await;
            times.push(start.elapsed());
            assert_eq!(proof.state(), State::Live, "{proof:?}");
            let routes = world.routes_in_envoy().await;
            for (other, pattern) in &ROUNDS {
                assert_eq!(routes.contains(pattern), pattern == expression, "{other} at {weight}");
            }
        }
        times.sort();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!("24 steps while others write: median {median:?}, worst {worst:?}");
    };
    tokio::select! {
        () = ours => {}
        () = changes_of_others => {}
    }
    world.delete("busy").await;
    world.delete("noise").await;
}

pub async fn blended_weights(world: &World) {
    let gateway = &world.gateway;
    let before = given(world, "weights").await;
    let canary = object("weights", json!({"hosts": ["checkout"], "http": to("checkout-next")}));
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    let at = |generation, weight_bp| pb::ExposureIntent {
        mechanism: Mechanism::Weight.into(),
        ..intent(&canary, &plan, &baseline, generation, weight_bp)
    };
    for (generation, weight, weights) in [(1, 1000, ["9000", "1000"]), (2, 3000, ["7000", "3000"])] {
        let (_, proof) = gateway.expose(&format!("weight {weight}"), &at(generation, weight)).await;
        assert_eq!((proof.state(), proof.concerned), (State::Live, 1));
        let routes = world.routes_in_envoy().await;
        assert!(weights.iter().all(|weight| routes.contains(&format!("\"weight\": {weight}"))), "{routes}");
    }
    let restored = gateway.restore(&at(3, 0)).await.expect("it is restored");
    assert_eq!(gateway.verify(&at(3, 0), &restored.objects).await.state(), State::Live);
    assert_eq!(without_counters(&world.live("weights").await.expect("it is there")), without_counters(&before));
    world.delete("weights").await;
}

pub async fn a_field_that_apply_would_leave_behind(world: &World) {
    let gateway = &world.gateway;
    let spec = json!({"hosts": ["checkout"], "exportTo": ["."], "http": to("checkout")});
    let before = world.apply_as("kubectl", &object("leftover", spec)).await;
    let canary = canary("leftover");
    refused(gateway.plan(&canary, &STEPS).await, Reason::ExposureUnsupported);
    let (plan, baseline) = gateway.plan(&canary, &[10_000]).await.expect("all at once works");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let (applied, proof) = gateway.expose("100 % with a field less", &at(1, 10_000)).await;
    assert_eq!((applied.writes, proof.state()), (1, State::Live));
    assert_eq!(world.live("leftover").await.expect("it is there")["spec"], canary["spec"], "exportTo is gone");
    let restored = gateway.restore(&at(2, 0)).await.expect("it is restored");
    let proof = gateway.verify(&at(2, 0), &restored.objects).await;
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    let after = world.live("leftover").await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before));
    world.delete("leftover").await;
}

pub async fn a_restore_that_crashes_half_way_is_finished(world: &World) {
    let gateway = &world.gateway;
    let before = given(world, "crash").await;
    let canary = canary("crash");
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    gateway.apply(&intent(&canary, &plan, &baseline, 1, 1000)).await.expect("it is applied");
    let undo = intent(&canary, &plan, &baseline, 2, 0);

    let options = KubeOptions { kubeconfig: Some(world.stack.kubeconfig().to_owned()), timeout: PATIENCE };
    let cluster = KubeCluster::new(&options).await.expect("a cluster");
    let losing = Losing::new(Arc::new(cluster), 0);
    let parsed = ExposureIntent::try_from(undo.clone()).expect("an intent");
    apply::restore(&losing, &parsed, 0).await.expect_err("the answer to the first write is lost");
    let half = world.live("crash").await.expect("it is there");
    assert_eq!(half["spec"], before["spec"], "the traffic is as before");
    assert_ne!(half["metadata"]["managedFields"], before["metadata"]["managedFields"]);

    assert_eq!(gateway.restore(&undo).await.expect("it is finished").writes, 1);
    let after = world.live("crash").await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before));
    world.delete("crash").await;
}

pub async fn an_absence_is_restored(world: &World) {
    let gateway = &world.gateway;
    let canary = canary("new");
    refused(gateway.plan(&canary, &STEPS).await, Reason::ExposureUnsupported);
    let (plan, baseline) = gateway.plan(&canary, &[10_000]).await.expect("a plan");
    assert_eq!((plan.mechanism(), baseline.absent), (Mechanism::None, true));
    let create = intent(&canary, &plan, &baseline, 1, 10_000);
    let (applied, proof) = gateway.expose("created", &create).await;
    assert_eq!((applied.writes, proof.state(), proof.concerned), (1, State::Live, 1));
    assert_eq!(gateway.apply(&create).await.expect("again").writes, 0);

    let undo = intent(&canary, &plan, &baseline, 2, 0);
    let restored = gateway.restore(&undo).await.expect("it is removed");
    assert!(restored.writes == 2 && restored.objects[0].absent, "it is recorded and deleted: {restored:?}");
    let proof = gateway.verify(&undo, &restored.objects).await;
    println!("removed: {}", proof.message);
    assert_eq!((proof.state(), proof.concerned), (State::Live, 1));
    assert_eq!(world.live("new").await, None);
    assert_eq!(gateway.restore(&undo).await.expect("again").writes, 0);
}

pub async fn drift_is_named(world: &World) {
    let gateway = &world.gateway;
    given(world, "drift").await;
    let canary = canary("drift");
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let applied = gateway.apply(&at(1, 1000)).await.expect("it is applied");
    world.apply_as("argocd", &object("drift", json!({"hosts": ["checkout"], "http": to("catalog")}))).await;

    assert_eq!(refused(gateway.apply(&at(2, 3000)).await, Reason::Drift).0["manager"], "argocd");
    assert_eq!(refused(gateway.restore(&at(3, 0)).await, Reason::Drift).0["manager"], "argocd");
    let proof = gateway.verify(&at(1, 1000), &applied.objects).await;
    assert_eq!((proof.state(), &*proof.drift_manager), (State::Drifted, "argocd"), "{proof:?}");
    world.delete("drift").await;
    let proof = gateway.verify(&at(1, 1000), &applied.objects).await;
    assert_eq!(proof.state(), State::Drifted, "{proof:?}");
}

pub async fn a_proxys_refusal_is_reported_in_its_words(world: &World) {
    let gateway = &world.gateway;
    let before = given(world, "refused").await;
    let mut http = to("checkout-next");
    http[0]["match"] = json!([{"headers": {"x-name": {"regex": REGEX_THAT_ENVOY_REFUSES}}}]);
    let canary = object("refused", json!({"hosts": ["checkout"], "http": http}));
    let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let (_, proof) = gateway.expose("refused", &at(1, 1000)).await;
    assert_eq!(proof.state(), State::Refused, "{proof:?}");
    assert_eq!(proof.refusals[0].proxy, format!("storefront-0.{NAMESPACE}"));
    assert!(proof.refusals[0].message.contains(ENVOY_REFUSAL), "{proof:?}");

    let restored = gateway.restore(&at(2, 0)).await.expect("it is restored");
    let proof = gateway.verify(&at(2, 0), &restored.objects).await;
    println!("restored after a refusal: {}", proof.message);
    assert_eq!(proof.state(), State::Live, "{proof:?}");
    assert_eq!(without_counters(&world.live("refused").await.expect("it is there")), without_counters(&before));
    world.delete("refused").await;
}

pub async fn dry_runs_say_what_production_would_say(world: &World) {
    let gateway = &world.gateway;
    let good = canary("dry");
    let mut no_weight = good.clone();
    let weightless = |host: &str| json!({"destination": {"host": host}, "weight": 0});
    no_weight["spec"]["http"] = json!([{"route": [weightless("a"), weightless("b")]}]);
    let mut unknown_field = good.clone();
    unknown_field["spec"]["htpp"] = json!([]);
    let mut wrong_type = good.clone();
    wrong_type["spec"]["hosts"] = json!("checkout");
    let mut no_namespace = good.clone();
    no_namespace["metadata"]["namespace"] = "nowhere".into();
    for (object, refused_by, words) in [
        (&good, "", ""),
        (&no_weight, "admission", "denied the request"),
        (&unknown_field, "schema", "htpp"),
        (&wrong_type, "schema", "hosts"),
        (&no_namespace, "schema", "nowhere"),
    ] {
        let request = pb::DryRunApplyRequest { cluster: String::new(), object_json: object.to_string() };
        let answer =
            gateway.client.clone().dry_run_apply(gateway.request(request)).await.expect("an answer").into_inner();
        assert_eq!((answer.admitted, &*answer.refused_by), (refused_by.is_empty(), refused_by), "{answer:?}");
        assert!(answer.message.contains(words), "{answer:?}");
    }
    assert_eq!(world.live("dry").await, None, "nothing is stored");

    // The same refusals when it is for real.
    let (plan, baseline) = gateway.plan(&good, &[10_000]).await.expect("a plan");
    let create = |canary: &Value| intent(canary, &plan, &baseline, 1, 10_000);
    let (metadata, message) = refused(gateway.apply(&create(&no_weight)).await, Reason::AdmissionDenied);
    assert!(metadata["refused_by"] == "admission" && message.contains("weight"), "{message}");
    refused(gateway.apply(&create(&unknown_field)).await, Reason::AdmissionDenied);
    let mut unserved = good.clone();
    unserved["kind"] = "Sandwich".into();
    assert_eq!(refused(gateway.plan(&unserved, &[10_000]).await, Reason::KindNotServed).0["kind"], "Sandwich");
}

pub async fn a_control_plane_that_cannot_be_asked_is_unknown(world: &World) {
    given(world, "unknown").await;
    let canary = canary("unknown");
    let running = world.stack.istiod_debug_url();
    for (istiod, words) in
        [(&[&*running, "http://127.0.0.1:9"][..], "127.0.0.1:9"), (&[][..], "start the gateway with --istiod")]
    {
        let gateway = world.gateway(world.stack.kubeconfig(), istiod).await;
        let (plan, baseline) = gateway.plan(&canary, &STEPS).await.expect("a plan");
        let intent = intent(&canary, &plan, &baseline, 1, 1000);
        let (_, proof) = gateway.expose("unknown", &intent).await;
        assert_eq!(proof.state(), State::Unknown, "{proof:?}");
        assert!(proof.message.contains(words), "{proof:?}");
        gateway.restore(&intent).await.expect("the cluster is there");
    }
    world.delete("unknown").await;

    let nowhere = world.gateway(&kubeconfig(world, "down", "https://127.0.0.1:9", ""), &[]).await;
    refused(nowhere.plan(&canary, &STEPS).await, Reason::ClusterUnreachable);
    let clusters = nowhere.client.clone().list_clusters(nowhere.request(pb::ListClustersRequest {})).await;
    let clusters = clusters.expect("an answer").into_inner().clusters;
    assert_eq!((clusters.len(), clusters[0].reachable), (1, false));
}

/// A kubeconfig for the stack's API server, or another one, with a token.
fn kubeconfig(world: &World, name: &str, server: &str, token: &str) -> std::path::PathBuf {
    let admin = std::fs::read_to_string(world.stack.kubeconfig()).expect("a kubeconfig");
    let line = admin.lines().find(|line| line.contains("certificate-authority-data")).expect("an authority");
    let authority = line.split_once(':').expect("a value").1.trim();
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    world.file(&format!("{name}.kubeconfig"), &content)
}

/// A gateway with an account of its own, which may do nothing yet.
pub async fn gateway_without_rights(world: &World, name: &str) -> Gateway {
    let client = world.stack.client();
    let post = |path: String, body: Value| {
        http::Request::post(path).header("content-type", "application/json").body(body.to_string().into_bytes())
    };
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    client.request::<Value>(post(accounts.clone(), account).expect("a request")).await.expect("an account");
    let wish = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let request = post(format!("{accounts}/{name}/token"), wish).expect("a request");
    let token = client.request::<Value>(request).await.expect("a token");
    let token = token["status"]["token"].as_str().expect("a token");
    let file = kubeconfig(world, name, world.stack.apiserver_url(), token);
    world.gateway(&file, &[]).await
}

pub async fn missing_rights_are_named(world: &World) {
    let gateway = gateway_without_rights(world, "nobody").await;
    let canary = canary("forbidden");
    let (metadata, _) = refused(gateway.plan(&canary, &[10_000]).await, Reason::ClusterForbidden);
    assert_eq!((&*metadata["verb"], &*metadata["resource"]), ("get", "virtualservices.networking.istio.io"));
    let request = pb::DryRunApplyRequest { cluster: String::new(), object_json: canary.to_string() };
    let answer = gateway.client.clone().dry_run_apply(gateway.request(request)).await.expect("an answer").into_inner();
    assert_eq!((answer.admitted, &*answer.refused_by), (false, "rbac"), "{answer:?}");
}

pub async fn callers_are_held_to_their_roles(world: &World) {
    let gateway = &world.gateway;
    let canary = canary("roles");
    let (plan, baseline) = gateway.plan(&canary, &[10_000]).await.expect("a plan");
    let intent = intent(&canary, &plan, &baseline, 1, 10_000);
    for role in [Role::Viewer, Role::Developer, Role::Admin] {
        let request =
            authorized(pb::ApplyExposureRequest { intent: Some(intent.clone()), phase: 0 }, &world.token(role));
        refused(gateway.client.clone().apply_exposure(request).await, Reason::RoleMissing);
    }
    let request = authorized(pb::GetObjectRequest { target: Some(target(&canary)) }, &world.token(Role::Viewer));
    refused(gateway.client.clone().get_object(request).await, Reason::ResourceNotFound);
    let mut elsewhere = target(&canary);
    elsewhere.cluster = "mars".to_owned();
    let request = authorized(pb::GetObjectRequest { target: Some(elsewhere) }, &world.token(Role::Viewer));
    let (_, message) = refused(gateway.client.clone().get_object(request).await, Reason::ClusterUnknown);
    assert!(message.contains("known: default"), "{message}");
    let falling = gateway.plan(&canary, &[3000, 1000]).await;
    refused(falling, Reason::FieldInvalid);
}
