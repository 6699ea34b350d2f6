//! Copies of a rule for some callers: what is written in which order, and what is refused with which words.

use meshward_model::{Baseline, PlannedStep};
use serde_json::json;

use super::super::*;
use crate::dialect::{Audience, Dialect as _, Istio};

fn object(kind: &str, place: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": place},
           "spec": spec})
}

fn rule(spec: Value) -> Value {
    object("DestinationRule", "shop", "checkout", spec)
}

/// A rule with a limit, shown to some.
fn limit(number: u32, export_to: Value) -> Value {
    let mut spec =
        json!({"host": "checkout", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": number}}}});
    if !export_to.is_null() {
        spec["exportTo"] = export_to;
    }
    spec
}

/// Pods of two namespaces, which have proxies.
fn around() -> Vec<Value> {
    let places = ["shop", "web"];
    let pods =
        places.iter().flat_map(|place| (0..4).map(move |index| object("Pod", place, &format!("p{index}"), json!({}))));
    let namespaces = places
        .iter()
        .map(|place| json!({"kind": "Namespace", "metadata": {"name": place, "labels": {"istio.io/rev": "default"}}}));
    pods.chain(namespaces).collect()
}

/// A question about two versions of a rule.
struct Case {
    mechanism: Mechanism,
    callers: &'static [&'static str],
    versions: [Value; 2],
    around: Vec<Value>,
}

impl Case {
    fn new(mechanism: Mechanism, callers: &'static [&'static str]) -> Self {
        let versions = [limit(10, Value::Null), limit(20, Value::Null)];
        Self { mechanism, callers, versions, around: around() }
    }

    fn among(mut self, other: Value) -> Self {
        self.around.push(other);
        self
    }

    fn of(self, stable: Value, canary: Value) -> Self {
        Self { versions: [stable, canary], ..self }
    }

    fn ask(&self) -> Result<Planned, Unsupported> {
        let target = Target::new("", "networking.istio.io/v1", "DestinationRule", "shop", "checkout").unwrap();
        let [stable, canary] = self.versions.each_ref().map(|spec| match spec {
            Value::Null => Value::Null,
            spec => rule(spec.clone()),
        });
        let namespaces = self.callers.iter().map(|name| (*name).to_owned()).collect();
        Istio.plan(&Question {
            target: &target,
            baseline: &Baseline::of((!stable.is_null()).then_some(stable)),
            canary: &canary,
            weights: &[Weight::ZERO, Weight::from_basis_points(5000).unwrap(), Weight::FULL],
            wanted: Some(self.mechanism),
            audience: &Audience { header: None, namespaces },
            neighbours: (&self.around).into(),
        })
    }
}

/// "phase operation namespace/name" of a step's writes, then its cohorts.
fn order(step: &PlannedStep) -> Vec<String> {
    let writes = step
        .writes
        .iter()
        .map(|write| format!("{} {:?} {}/{}", write.phase, write.operation, write.target.namespace, write.target.name));
    writes.chain(step.cohorts.iter().map(|one| format!("{} pods of {}", one.phase, one.namespace))).collect()
}

#[test]
fn a_rule_for_selected_callers_says_all_that_the_new_version_says() {
    let planned = Case::new(Mechanism::Instance, &[]).ask().unwrap();
    let [zero, half, full] = &planned.plan.steps[..] else { panic!("three steps") };
    assert_eq!(order(zero), ["0 Apply shop/checkout", "0 Delete shop/checkout-meshward-canary", "1 pods of shop"]);
    assert_eq!(order(half), ["0 Apply shop/checkout", "0 Create shop/checkout-meshward-canary", "1 pods of shop"]);
    assert_eq!(
        order(full),
        ["0 Apply shop/checkout", "1 Delete shop/checkout-meshward-canary", "2 pods of shop"],
        "both say the new version before one goes"
    );
    let key = crate::dialect::steps::cohort_key(&half.writes[0].target);
    let mut expected = limit(20, json!(["."]));
    expected["host"] = "checkout.shop.svc.cluster.local".into();
    expected["workloadSelector"] = json!({"matchLabels": {key: "canary"}});
    assert_eq!(half.writes[1].object["spec"], expected);
    assert_eq!(half.nominal_share, Weight::from_basis_points(5000).unwrap());
}

#[test]
fn callers_elsewhere_keep_the_live_version_by_a_copy_for_all() {
    let planned = Case::new(Mechanism::Instance, &["web"]).ask().unwrap();
    let [zero, half, full] = &planned.plan.steps[..] else { panic!("three steps") };
    let (selecting, all) = ("web/checkout-meshward-canary", "web/checkout-all-meshward-canary");
    let names = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let copies = |first: &str, second: &str| [names(&["0 Apply shop/checkout"]), names(&[first, second])].concat();
    assert_eq!(order(half)[..3], copies(&format!("0 Create {all}"), &format!("0 Create {selecting}")));
    assert_eq!(order(zero)[..3], copies(&format!("0 Delete {selecting}"), &format!("0 Delete {all}")));
    assert_eq!(
        order(full)[1..4],
        names(&[&format!("0 Create {all}"), &format!("1 Delete {selecting}"), &format!("1 Delete {all}"),])
    );
    let maximum = |step: &PlannedStep, index: usize| {
        step.writes[index].object["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"].clone()
    };
    assert_eq!([maximum(half, 1), maximum(half, 2)], [json!(10), json!(20)]);
    assert_eq!(maximum(full, 1), json!(20), "who is left without the selecting one at the end has the new version");
    assert_eq!(
        half.writes[1].object["spec"]["exportTo"],
        json!(["web"]),
        "\".\" would be merged with the selecting one"
    );
}

#[test]
fn a_copy_in_a_namespace_of_callers_takes_the_place_of_the_rule() {
    let planned = Case::new(Mechanism::Namespace, &["web", "jobs"]).ask().unwrap();
    let [_, half, full] = &planned.plan.steps[..] else { panic!("three steps") };
    let (web, jobs) = ("web/checkout-meshward-canary", "jobs/checkout-meshward-canary");
    assert_eq!(order(half), ["0 Apply shop/checkout".into(), format!("0 Create {web}"), format!("0 Delete {jobs}")]);
    assert_eq!(order(full), ["0 Apply shop/checkout".into(), format!("1 Delete {web}"), format!("1 Delete {jobs}")]);
    let spec = &half.writes[1].object["spec"];
    assert_eq!((&spec["host"], &spec["exportTo"]), (&json!("checkout.shop.svc.cluster.local"), &json!(["."])));
    let found = Case::new(Mechanism::Namespace, &[]).ask().unwrap();
    assert_eq!(found.plan.steps[1].exposed, "Callers in web.", "the rule's own namespace cannot have a copy");
    let external = |host: &str| json!({"host": host, "trafficPolicy": {}});
    let entry = object("ServiceEntry", "shop", "api", json!({"hosts": ["api.example.com"]}));
    let outside = Case::new(Mechanism::Namespace, &["web"]).of(
        external("api.example.com"),
        json!({"host": "api.example.com", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}),
    );
    assert!(outside.ask().unwrap_err().reason.contains("is no host of namespace shop"));
    assert!(outside.among(entry).ask().is_ok());
}

#[test]
fn where_a_copy_would_not_govern_or_would_strip_others_is_refused() {
    let (by_pods, by_places) = (Mechanism::Instance, Mechanism::Namespace);
    let other = |place: &str, host: &str| object("DestinationRule", place, "other", json!({"host": host}));
    let shown = |names: Value| [limit(10, names.clone()), limit(20, names)];
    let case = |mechanism, callers, names: Value| {
        let [stable, canary] = shown(names);
        Case::new(mechanism, callers).of(stable, canary)
    };
    let subset = |names: &[&str]| {
        let subsets: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"host": "checkout", "subsets": subsets})
    };
    let routes = json!({"hosts": ["checkout"],
                        "http": [{"route": [{"destination": {"host": "checkout", "subset": "v1"}}]}]});
    let wide = "*.shop.svc.cluster.local";
    for (case, reason) in [
        (case(by_pods, &[], json!(["."])), "the rule is shown to \".\""),
        (case(by_pods, &[], json!(["web"])), "not shown to shop itself"),
        (case(by_pods, &["web"], json!(["shop"])), "the rule is not shown to web"),
        (case(by_places, &["web"], json!(["."])), "the rule is not shown to web"),
        (Case::new(by_pods, &["web"]).among(other("web", wide)), "use DestinationRule web/other"),
        (Case::new(by_places, &["web"]).among(other("web", wide)), "use DestinationRule web/other"),
        (Case::new(by_places, &["shop"]), "would be merged with the rule itself"),
        (Case::new(by_pods, &[]).among(other("shop", "checkout")), "Istio merges the two"),
        (Case::new(by_pods, &["none"]), "there are 0 pods in namespace none"),
        (Case::new(by_pods, &[]).of(Value::Null, limit(1, Value::Null)), "does not exist, or shall be gone"),
        (Case::new(by_pods, &[]).of(limit(1, Value::Null), Value::Null), "does not exist, or shall be gone"),
        (
            Case::new(by_places, &["web"]).of(subset(&["v1"]), subset(&["v2"])).among(object(
                "VirtualService",
                "shop",
                "routes",
                routes,
            )),
            "the new version has no subset v1",
        ),
    ] {
        let unsupported = case.ask().unwrap_err();
        assert!(unsupported.reason.contains(reason), "{unsupported}");
        assert!(!unsupported.would_work.is_empty());
    }
    let by_name = case(by_pods, &[], json!(["shop"]));
    assert!(by_name.ask().is_ok(), "its own name is not \".\" to Istio");
}
