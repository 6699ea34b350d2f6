//! Plans as tables: what is written in which order, and what is refused with which words.

use meshward_model::{Baseline, PlannedStep};

use super::*;
use crate::dialect::{Audience, Dialect as _, Istio};

fn object(kind: &str, place: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": place},
           "spec": spec})
}

fn gateway(port: u64, host: &str) -> Value {
    let server = json!({"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": [host]});
    json!({"selector": {"app": "edge"}, "servers": [server]})
}

fn pod(place: &str, name: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": place, "labels": {"app": "edge"}}})
}

fn two_pods() -> Vec<Value> {
    vec![pod("ingress", "edge-0"), pod("ingress", "edge-1")]
}

fn ask(versions: [&Value; 2], around: &[Value]) -> Result<Planned, Unsupported> {
    let target = Target::new("", "networking.istio.io/v1", "Gateway", "ingress", "edge").unwrap();
    let [stable, canary] = versions
        .map(|spec| if spec.is_null() { Value::Null } else { object("Gateway", "ingress", "edge", spec.clone()) });
    Istio.plan(&Question {
        target: &target,
        baseline: &Baseline::of((!stable.is_null()).then_some(stable)),
        canary: &canary,
        weights: &[Weight::from_basis_points(5000).unwrap(), Weight::FULL],
        wanted: None,
        audience: &Audience::default(),
        neighbours: around.into(),
    })
}

/// "phase operation namespace/name" of a step's writes, then its cohorts.
fn order(step: &PlannedStep) -> Vec<String> {
    let writes = step
        .writes
        .iter()
        .map(|write| format!("{} {:?} {}/{}", write.phase, write.operation, write.target.namespace, write.target.name));
    let share = |share: Option<Weight>| share.map_or_else(|| "no label".to_owned(), |share| share.to_string());
    writes.chain(step.cohorts.iter().map(|one| format!("{} pods: {}", one.phase, share(one.share)))).collect()
}

#[test]
fn what_is_bound_to_it_names_both_before_there_are_two() {
    let routes = json!({"hosts": ["shop.example.com"], "gateways": ["mesh", "ingress/edge"],
                        "http": [{"match": [{"gateways": ["ingress/edge"]}, {"uri": {"prefix": "/"}}], "route": []}]});
    let around = [
        two_pods(),
        vec![
            object("VirtualService", "shop", "routes", routes),
            object("VirtualService", "shop", "others", json!({"gateways": ["edge"]})),
        ],
    ];
    let planned = ask([&gateway(80, "*"), &gateway(8080, "*")], &around.concat()).unwrap();
    let [half, full] = &planned.plan.steps[..] else { panic!("two steps") };
    assert_eq!(
        order(half),
        [
            "1 Apply ingress/edge",
            "1 Apply shop/routes",
            "1 Create ingress/edge-meshward-canary",
            "0 pods: 0 %",
            "2 pods: 50 %"
        ]
    );
    assert_eq!(
        order(full),
        ["0 Apply ingress/edge", "1 Delete ingress/edge-meshward-canary", "2 Apply shop/routes", "3 pods: no label"]
    );
    let [stable, both, canary] = [0, 1, 2].map(|index| half.writes[index].object["spec"].clone());
    let names = json!(["ingress/edge", "ingress/edge-meshward-canary"]);
    assert_eq!(both["gateways"], json!(["mesh", "ingress/edge", "ingress/edge-meshward-canary"]));
    assert_eq!(both["http"][0]["match"], json!([{"gateways": names}, {"uri": {"prefix": "/"}}]));
    let key = cohort_key(&half.writes[0].target);
    assert_eq!(stable["selector"], json!({"app": "edge", &key: "stable"}));
    assert_eq!(
        (&canary["selector"], &canary["servers"]),
        (&json!({"app": "edge", &key: "canary"}), &gateway(8080, "*")["servers"])
    );
    assert_eq!(planned.related.len(), 1);
}

#[test]
fn what_the_pods_of_a_gateway_cannot_divide_is_refused() {
    let (one, two) = (gateway(80, "a.example.com"), gateway(8080, "a.example.com"));
    let with = |selector: Value| {
        let mut spec = two.clone();
        spec["selector"] = selector;
        spec
    };
    let other = |host: &str| object("Gateway", "shop", "other", gateway(8080, host));
    let bound =
        |index: usize| object("VirtualService", "shop", &format!("v{index}"), json!({"gateways": ["ingress/edge"]}));
    let bare = |spec: &Value| {
        let mut spec = spec.clone();
        spec["selector"] = json!({});
        spec
    };
    for (stable, canary, around, reason) in [
        (&Value::Null, &two, two_pods(), "does not exist"),
        (&one, &with(json!({"app": "other"})), two_pods(), "differ in spec.selector"),
        (&bare(&one), &bare(&two), two_pods(), "no selector of its own"),
        (&one, &two, vec![pod("ingress", "edge-0")], "1 pods of namespace ingress"),
        (&one, &two, [two_pods(), vec![pod("shop", "edge-9")]].concat(), "pod shop/edge-9 is selected too"),
        (&one, &two, [two_pods(), vec![other("shop/a.example.com")]].concat(), "Gateway shop/other serves a host"),
        (&one, &two, [two_pods(), (0..11).map(bound).collect()].concat(), "11 VirtualServices are bound to it"),
    ] {
        let refusal = ask([stable, canary], &around).unwrap_err();
        assert!(refusal.reason.contains(reason), "{refusal}");
    }
    let beside = [two_pods(), vec![other("b.example.com")]].concat();
    assert!(ask([&one, &two], &beside).is_ok(), "another host on the same port");
}
