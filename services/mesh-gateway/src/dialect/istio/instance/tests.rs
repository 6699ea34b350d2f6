use meshward_model::{Baseline, Target};

use serde_json::json;

use super::*;
use crate::dialect::{Audience, Dialect as _, Istio};

const NAMESPACE: &str = "shop";

fn api_version(kind: &str) -> &'static str {
    match kind {
        "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication" => "security.istio.io/v1",
        "Telemetry" => "telemetry.istio.io/v1",
        "WasmPlugin" | "TrafficExtension" => "extensions.istio.io/v1alpha1",
        "EnvoyFilter" => "networking.istio.io/v1alpha3",
        _ => "networking.istio.io/v1",
    }
}

fn target(kind: &str) -> Target {
    Target::new("", api_version(kind), kind, NAMESPACE, "ledger").unwrap()
}

fn named(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": api_version(kind), "kind": kind, "spec": spec,
           "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "a", "istio.io/rev": "x"}}})
}

fn pod(name: &str, app: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Running"},
           "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": app}}})
}

fn pods(count: usize) -> Vec<Value> {
    (0..count).map(|index| pod(&format!("ledger-{index}"), "ledger")).collect()
}

fn with_app(mut spec: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": "ledger"}});
    spec
}

fn weight(basis_points: i64) -> Weight {
    Weight::from_basis_points(basis_points).unwrap()
}

fn plan_of(kind: &str, stable: Option<Value>, canary: &Value, around: &[Value]) -> Result<ExposurePlan, Unsupported> {
    let baseline = Baseline::of(stable.map(|spec| named(kind, "ledger", &spec)));
    let canary = if canary.is_null() { Value::Null } else { named(kind, "ledger", canary) };
    let question = Question {
        target: &target(kind),
        baseline: &baseline,
        canary: &canary,
        weights: &[1000, 5000, 10_000].map(weight),
        wanted: Some(Mechanism::Instance),
        audience: &Audience::default(),
        neighbours: around.into(),
    };
    Istio.plan(&question).map(|planned| planned.plan)
}

fn intent(kind: &str, stable: Option<&Value>, canary: &Value, weight: Weight) -> ExposureIntent {
    ExposureIntent {
        deployment_id: "d1".into(),
        generation: 1,
        target: target(kind),
        baseline: Baseline::of(stable.map(|spec| named(kind, "ledger", spec))),
        canary: if canary.is_null() { Value::Null } else { named(kind, "ledger", canary) },
        mechanism: Mechanism::Instance,
        weight,
    }
}

/// One line for each phase: what is done to which object, or to the pods.
fn story(phases: &[Phase]) -> Vec<String> {
    let object = |desired: &Desired| {
        let name = &desired.target.name;
        let spec = object::spec(desired.object());
        let cohort = ["/selector/matchLabels", "/workloadSelector/labels"].iter().find_map(|path| {
            let labels = spec.pointer(path)?.as_object()?;
            labels.iter().find(|(key, _)| key.starts_with("meshward.io/"))?.1.as_str()
        });
        let version = spec["version"].as_str().unwrap_or_default();
        match &desired.wanted {
            Wanted::Step(_) => format!("{name}: {version} for {}", cohort.unwrap_or("all")),
            Wanted::Helper(_) => format!("{name} made: {version} for {}", cohort.unwrap_or("all")),
            Wanted::Final(_) => format!("{name}: {version} in the end, for {}", cohort.unwrap_or("all")),
            other => format!("{name}: {other:?}"),
        }
    };
    let line = |phase: &Phase| match phase {
        Phase::Objects(objects) => objects.iter().map(object).collect::<Vec<_>>().join(", "),
        Phase::Pods(PodCohorts { share, label_stable, .. }) => match share {
            Some(share) => format!("pods: {share}{}", if *label_stable { ", stable ones labelled" } else { "" }),
            None => "pods: no label".to_owned(),
        },
    };
    phases.iter().map(line).collect()
}

fn told(kind: &str, stable: Option<&Value>, canary: &Value, basis_points: i64) -> Vec<String> {
    story(&render(&intent(kind, stable, canary, weight(basis_points))).unwrap())
}

#[test]
fn a_partition_has_each_pod_under_one_version() {
    let (v1, v2) = (with_app(json!({"version": "v1"})), with_app(json!({"version": "v2"})));
    for kind in ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication", "Telemetry", "WasmPlugin"] {
        assert_eq!(
            told(kind, Some(&v1), &v2, 3000),
            [
                "pods: 0 %, stable ones labelled",
                "ledger-meshward-canary made: v2 for canary, ledger: v1 for stable",
                "pods: 30 %, stable ones labelled",
            ],
            "{kind}"
        );
    }
    let back = |kind| story(&undo(&intent(kind, Some(&v1), &v2, weight(3000))).unwrap());
    for kind in ["AuthorizationPolicy", "PeerAuthentication"] {
        assert_eq!(back(kind), ["ledger: Baseline, ledger-meshward-canary: Gone", "pods: no label"], "{kind}");
    }
    let by_label =
        ["pods: 0 %, stable ones labelled", "ledger: Baseline", "ledger-meshward-canary: Gone", "pods: no label"];
    for kind in ["RequestAuthentication", "Telemetry", "WasmPlugin"] {
        assert_eq!(back(kind), by_label, "{kind}");
    }
    let at_once = ["ledger: v2 in the end, for all", "ledger-meshward-canary: Gone", "pods: no label"];
    assert_eq!(told("AuthorizationPolicy", Some(&v1), &v2, 10_000), at_once);
    let by_label = [
        "ledger: v2 for stable",
        "pods: 0 %, stable ones labelled",
        "ledger: v2 in the end, for all",
        "ledger-meshward-canary: Gone",
        "pods: no label",
    ];
    assert_eq!(told("WasmPlugin", Some(&v1), &v2, 10_000), by_label, "no pod ever has it twice");
}

#[test]
fn an_object_for_the_whole_namespace_stays_where_a_narrower_one_takes_its_place() {
    let spec = |version: &str| json!({"version": version, "mtls": {"mode": "STRICT"}});
    let expected = ["ledger-meshward-canary made: v2 for canary, ledger: v1 for all", "pods: 10 %"];
    for kind in ["PeerAuthentication", "Sidecar"] {
        assert_eq!(told(kind, Some(&spec("v1")), &spec("v2"), 1000), expected, "{kind}");
    }
    let narrowed = told("Telemetry", Some(&spec("v1")), &spec("v2"), 1000);
    assert_eq!(narrowed[1], "ledger-meshward-canary made: v2 for canary, ledger: v1 for stable", "others add up");
}

#[test]
fn the_first_and_the_last_version_are_exposed_too() {
    let spec = with_app(json!({"version": "v1"}));
    let kind = "AuthorizationPolicy";
    assert_eq!(told(kind, None, &spec, 1000), ["ledger-meshward-canary made: v1 for canary", "pods: 10 %"]);
    assert_eq!(
        told(kind, Some(&spec), &Value::Null, 1000),
        ["pods: 0 %, stable ones labelled", "ledger: v1 for stable", "pods: 10 %, stable ones labelled"]
    );
    assert_eq!(told(kind, Some(&spec), &Value::Null, 10_000), ["ledger: Removed", "pods: no label"]);
}

#[test]
fn a_helper_belongs_to_nobody_else() {
    let spec = with_app(json!({}));
    let phases = render(&intent("AuthorizationPolicy", Some(&spec), &spec, weight(1000))).unwrap();
    let Phase::Objects(objects) = &phases[1] else { panic!("{phases:?}") };
    assert_eq!(objects[0].object()["metadata"]["labels"], json!({"istio.io/rev": "x"}), "only what Istio reads");
}

#[test]
fn a_plan_names_the_pods_that_there_are() {
    let (v1, v2) = (with_app(json!({"version": "v1"})), with_app(json!({"version": "v2"})));
    let mut around = pods(3);
    around.push(pod("other", "other"));
    around.push(json!({"kind": "Service", "metadata": {"name": "ledger", "namespace": NAMESPACE},
                       "spec": {"selector": {"app": "ledger"}}}));
    let plan = plan_of("AuthorizationPolicy", Some(v1), &v2, &around).unwrap();
    assert_eq!(plan.steps[0].nominal_share, weight(3333), "one of three");
    assert!(plan.steps[0].exposed.contains("of the 3 pods"), "{}", plan.steps[0].exposed);
    assert_eq!((plan.steps[0].writes.len(), plan.steps[0].cohorts.len()), (2, 2));
    assert_eq!(plan.steps[0].cohorts[1].selector, "app=ledger");
    assert_eq!(plan.metrics_target.hosts, ["ledger.shop.svc.cluster.local"]);
    assert_eq!(plan.metrics_target.pod_labels, BTreeMap::from([("app".to_owned(), "ledger".to_owned())]));
    assert_eq!(plan.metrics_target.cohort_label, plan.steps[0].cohorts[1].label_key, "where the pods are counted");
    assert!(plan.not_covered.iter().any(|sentence| sentence.contains("MutatingAdmissionPolicy")));
}

#[test]
fn what_cannot_be_exact_is_refused_with_its_reason() {
    let plain = |kind: &str, app: Value| named(kind, "other", &json!({"selector": {"matchLabels": app}}));
    let entry = json!({"kind": "WorkloadEntry", "metadata": {"name": "vm", "namespace": NAMESPACE},
                       "spec": {"labels": {"app": "ledger"}}});
    let mut ambient = pod("ledger-9", "ledger");
    ambient["metadata"]["annotations"] = json!({"ambient.istio.io/redirection": "enabled"});
    let (v1, v2) = (with_app(json!({"version": "v1"})), with_app(json!({"version": "v2"})));
    let mode = |mode: &str| json!({"mtls": {"mode": mode}});
    let bound = json!({"targetRefs": [{"kind": "Gateway", "name": "edge"}]});
    let elsewhere = json!({"selector": {"matchLabels": {"app": "other"}}});
    let ap = "AuthorizationPolicy";
    for (kind, stable, canary, around, expected) in [
        (ap, Some(v1.clone()), &v2, vec![], "1 pods are selected"),
        (ap, Some(v1.clone()), &v2, vec![entry], "WorkloadEntry shop/vm is selected too"),
        (ap, Some(v1.clone()), &v2, vec![ambient], "ambient mode"),
        (ap, Some(v1.clone()), &bound, pods(2), "bound by spec.targetRefs"),
        (ap, Some(v1.clone()), &elsewhere, pods(2), "the versions select other pods"),
        ("Telemetry", None, &v2, pods(2), "at 100 % the canaries would have it twice"),
        ("Telemetry", Some(v1.clone()), &v2, vec![plain("Telemetry", json!({"tier": "web"}))], "depends on chance"),
        (
            "PeerAuthentication",
            Some(v1.clone()),
            &v2,
            vec![plain("PeerAuthentication", json!({"tier": "web"}))],
            "oldest",
        ),
        ("PeerAuthentication", Some(mode("STRICT")), &mode("UNSET"), pods(2), "leaves spec.mtls.mode to the mesh"),
        ("ProxyConfig", Some(v1.clone()), &v2, pods(2), "read when a pod is injected"),
    ] {
        // One pod, unless the case brings its own.
        let around: Vec<_> = around.into_iter().chain(pods(1)).collect();
        let refusal = plan_of(kind, stable, canary, &around).expect_err(expected);
        assert!(refusal.reason.contains(expected) && !refusal.would_work.is_empty(), "{kind}: {refusal}");
    }
    let elsewhere = plain("PeerAuthentication", json!({"app": "other"}));
    let around: Vec<_> = pods(2).into_iter().chain([elsewhere]).collect();
    assert!(plan_of("PeerAuthentication", Some(v1), &v2, &around).is_ok(), "it cannot select the same pods");
}
