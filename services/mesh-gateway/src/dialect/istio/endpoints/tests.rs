//! Weights as tables: what is written, and what is refused with which words.

use meshward_model::{Baseline, ExposurePlan, Target, Weight};
use serde_json::json;

use super::*;
use crate::dialect::{Audience, Dialect as _, Istio};

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
           "spec": spec})
}

fn ask(kind: &str, versions: [&Value; 2], around: &[Value]) -> Result<ExposurePlan, Unsupported> {
    let target = Target::new("", "networking.istio.io/v1", kind, "shop", "bank").unwrap();
    let [stable, canary] =
        versions.map(|spec| if spec.is_null() { Value::Null } else { object(kind, "bank", spec.clone()) });
    let planned = Istio.plan(&Question {
        target: &target,
        baseline: &Baseline::of((!stable.is_null()).then_some(stable)),
        canary: &canary,
        weights: &[0, 1000, 10_000].map(|bp| Weight::from_basis_points(bp).unwrap()),
        wanted: Some(Mechanism::Weight),
        audience: &Audience::default(),
        neighbours: around.into(),
    });
    planned.map(|planned| planned.plan)
}

fn entry(endpoints: Value) -> Value {
    json!({"hosts": ["bank.example.com"], "resolution": "STATIC", "endpoints": endpoints})
}

fn at(address: &str, weight: i64) -> Value {
    json!({"address": address, "weight": weight})
}

#[test]
fn endpoints_of_both_versions_are_blended() {
    let bare = |address: &str| json!({"address": address});
    for (stable, canary, tenth) in [
        (json!([bare("10.0.0.1")]), json!([bare("10.0.0.2")]), json!([at("10.0.0.1", 9000), at("10.0.0.2", 1000)])),
        // None and 0 count as 1; what both have is one.
        (
            json!([at("10.0.0.1", 0), bare("10.0.0.2")]),
            json!([bare("10.0.0.2"), at("10.0.0.3", 3)]),
            json!([at("10.0.0.1", 4500), at("10.0.0.2", 4750), at("10.0.0.3", 750)]),
        ),
        // Never 0, which would be 1 of however many.
        (
            json!([at("10.0.0.1", 1), at("10.0.0.2", 1_000_000)]),
            json!([bare("10.0.0.3")]),
            json!([at("10.0.0.1", 1), at("10.0.0.2", 9000), at("10.0.0.3", 1000)]),
        ),
    ] {
        let plan = ask("ServiceEntry", [&entry(stable.clone()), &entry(canary.clone())], &[]).unwrap();
        let specs: Vec<_> = plan.steps.iter().map(|step| step.writes[0].object["spec"].clone()).collect();
        assert_eq!(specs, [entry(stable), entry(tenth), entry(canary)]);
        assert!(plan.steps.iter().all(|step| step.writes.len() == 1));
    }
}

#[test]
fn what_the_weights_of_endpoints_would_not_decide_is_refused() {
    let (one, two) = (entry(json!([at("10.0.0.1", 1)])), entry(json!([at("10.0.0.2", 1)])));
    let with = |spec: &Value, field: &str, value: Value| {
        let mut spec = spec.clone();
        spec[field] = value;
        spec
    };
    let labelled = entry(json!([{"address": "10.0.0.1", "labels": {"version": "2"}}]));
    let far = entry(json!([{"address": "10.0.0.2", "locality": "region/zone"}]));
    let rule = |more: Value| {
        let mut spec = json!({"host": "*.example.com"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        vec![object("DestinationRule", "rule", spec)]
    };
    let balancer =
        |balancer: Value| rule(json!({"trafficPolicy": {"portLevelSettings": [{"loadBalancer": balancer}]}}));
    let same_host = vec![object("ServiceEntry", "other", one.clone())];
    let subsets = rule(json!({"subsets": [{"name": "v1", "labels": {"version": "1"}}]}));
    for (stable, canary, around, reason) in [
        (&Value::Null, &two, vec![], "does not exist"),
        (&one, &Value::Null, vec![], "shall be gone"),
        (&one, &with(&two, "ports", json!([])), vec![], "differ in spec.ports"),
        (&with(&one, "resolution", json!("DNS")), &with(&two, "resolution", json!("DNS")), vec![], "resolved by DNS"),
        (&one, &entry(json!([])), vec![], "lists no endpoints"),
        (&one, &labelled, vec![], "has one address in both versions"),
        (&one, &far, vec![], "different localities"),
        (&one, &two, same_host, "ServiceEntry shop/other has a host in common"),
        (&one, &two, balancer(json!({"simple": "RANDOM"})), "without looking at their weights"),
        (&one, &two, balancer(json!({"consistentHash": {}})), "without looking at their weights"),
        (&one, &two, subsets, "divides the endpoints by their labels"),
    ] {
        let refusal = ask("ServiceEntry", [stable, canary], &around).unwrap_err();
        assert!(refusal.reason.contains(reason), "{refusal}");
    }
    assert!(ask("ServiceEntry", [&one, &two], &balancer(json!({"simple": "ROUND_ROBIN"}))).is_ok());
}

#[test]
fn two_workload_entries_share_the_weight_of_one() {
    let plan = ask("WorkloadEntry", [&at("10.0.0.1", 200), &at("10.0.0.2", 200)], &[]).unwrap();
    let told = plan.steps.iter().flat_map(|step| &step.writes).map(|write| {
        let weight = &write.object["spec"]["weight"];
        format!("{} {:?} {} {weight}", write.phase, write.operation, write.target.name)
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "0 Apply bank 200",
            "0 Delete bank-meshward-canary null",
            "0 Apply bank 180",
            "0 Create bank-meshward-canary 20",
            "0 Apply bank 200",
            "1 Delete bank-meshward-canary null",
        ]
    );
    assert_eq!(plan.steps[1].nominal_share, Weight::from_basis_points(1000).unwrap());
    let uneven = ask("WorkloadEntry", [&at("10.0.0.1", 14), &at("10.0.0.2", 14)], &[]).unwrap();
    assert_eq!(uneven.steps[1].nominal_share, Weight::from_basis_points(714).unwrap(), "1 of 14, and it says so");
}

#[test]
fn an_endpoint_that_cannot_be_divided_is_refused() {
    let at_port = |port: u32| json!({"address": "10.0.0.1", "ports": {"http": port}, "weight": 100});
    let far = json!({"address": "10.0.0.2", "weight": 100, "network": "far"});
    for (stable, canary, reason) in [
        (&Value::Null, &at("10.0.0.2", 100), "does not exist"),
        (&at("10.0.0.1", 0), &at("10.0.0.2", 0), "a weight of 1 to 1 cannot be divided at 10 %"),
        (&at("10.0.0.1", 100), &at("10.0.0.2", 4), "a weight of 100 to 4 cannot be divided"),
        (&at("10.0.0.1", 100), &at("10.0.0.1", 50), "one address and the same ports"),
        (&at("10.0.0.1", 100), &far, "different localities or networks"),
    ] {
        let refusal = ask("WorkloadEntry", [stable, canary], &[]).unwrap_err();
        assert!(refusal.reason.contains(reason), "{refusal}");
    }
    assert!(ask("WorkloadEntry", [&at_port(1), &at_port(2)], &[]).is_ok(), "another port is another endpoint");
}
