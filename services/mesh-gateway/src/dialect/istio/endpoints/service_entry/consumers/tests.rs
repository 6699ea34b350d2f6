//! Plans as tables: what is written in which order, who reads what, and what is refused with which words.

use meshward_model::{Baseline, Target, Weight};

use super::*;
use crate::dialect::{Audience, Dialect as _, Istio, Readers};

fn object(kind: &str, place: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "bank", "namespace": place},
           "spec": spec})
}

fn entry(address: &str) -> Value {
    json!({"hosts": ["bank.example.com"], "ports": [{"number": 80, "protocol": "http"}], "resolution": "STATIC",
           "endpoints": [{"address": address}]})
}

fn with(spec: &Value, field: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    spec[field] = value;
    spec
}

fn target() -> Target {
    Target::new("", "networking.istio.io/v1", "ServiceEntry", "shop", "bank").unwrap()
}

fn weights() -> [Weight; 3] {
    [5000, 10_000, 0].map(|bp| Weight::from_basis_points(bp).unwrap())
}

fn ask(versions: [&Value; 2], around: &[Value], namespaces: &[&str]) -> Result<Planned, Unsupported> {
    let [stable, canary] =
        versions.map(|spec| if spec.is_null() { Value::Null } else { object("ServiceEntry", "shop", spec.clone()) });
    let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
    Istio.plan(&Question {
        target: &target(),
        baseline: &Baseline::of((!stable.is_null()).then_some(stable)),
        canary: &canary,
        weights: &weights(),
        wanted: Some(Mechanism::Namespace),
        audience: &Audience { header: None, namespaces },
        neighbours: around.into(),
    })
}

/// "phase operation namespace/name" of each write.
fn order(step: &meshward_model::PlannedStep) -> Vec<String> {
    let told = step
        .writes
        .iter()
        .map(|write| format!("{} {:?} {}/{}", write.phase, write.operation, write.target.namespace, write.target.name));
    told.collect()
}

#[test]
fn a_copy_is_kept_in_each_namespace_that_joins() {
    // All of it may differ, since a copy is whole.
    let canary = with(&entry("bank.example.org"), "resolution", json!("DNS"));
    let planned = ask([&entry("10.0.0.1"), &canary], &[], &["a", "b"]).unwrap();
    let [half, full, none] = &planned.plan.steps[..] else { panic!("three steps") };
    let copy = "bank-meshward-canary";
    assert_eq!(
        order(half),
        ["0 Apply shop/bank".to_owned(), format!("0 Create a/{copy}"), format!("0 Delete b/{copy}")]
    );
    assert_eq!(
        order(full),
        ["0 Apply shop/bank".to_owned(), format!("1 Delete a/{copy}"), format!("1 Delete b/{copy}")]
    );
    assert_eq!(
        order(none),
        ["0 Apply shop/bank".to_owned(), format!("0 Delete a/{copy}"), format!("0 Delete b/{copy}")]
    );
    assert_eq!(half.writes[0].object["spec"], entry("10.0.0.1"), "the live one stays");
    assert_eq!(half.writes[1].object["spec"], with(&canary, "exportTo", json!(["."])));
}

#[test]
fn a_copy_is_read_in_its_namespace_and_the_live_one_elsewhere() {
    let (stable, canary) = (entry("10.0.0.1"), object("ServiceEntry", "shop", entry("10.0.0.2")));
    let intent = |weight| ExposureIntent {
        deployment_id: "d".into(),
        generation: 1,
        target: target(),
        baseline: Baseline {
            facts: chosen::to_facts(&["a".to_owned(), "b".to_owned()]),
            ..Baseline::of(Some(object("ServiceEntry", "shop", stable.clone())))
        },
        canary: canary.clone(),
        mechanism: Mechanism::Namespace,
        weight,
    };
    let [half, full, none] = weights().map(intent);
    let copy = |place: &str| Target { namespace: place.into(), name: "bank-meshward-canary".into(), ..target() };
    for (name, intent, target, readers, older) in [
        ("a copy", &half, copy("a"), (Some("a"), &[][..]), vec![stable.clone()]),
        ("one that is still to come", &half, copy("b"), (Some("b"), &[]), vec![]),
        ("one that is gone at the end", &full, copy("a"), (Some("a"), &[]), vec![]),
        ("one that is gone on the way back", &none, copy("a"), (Some("a"), &[]), vec![]),
        ("the live one beside copies", &half, target(), (None, &["a", "b"]), vec![]),
        ("the live one at the end", &full, target(), (None, &[]), vec![]),
        ("the live one on the way back", &none, target(), (None, &[]), vec![]),
    ] {
        let (within, except) = readers;
        let except = except.iter().map(|name: &&str| (*name).to_owned()).collect();
        let expected = Readers { within: within.map(str::to_owned), except };
        assert_eq!((Istio.readers(intent, &target), Istio.older(intent, &target)), (expected, older), "{name}");
    }
}

#[test]
fn readers_are_known_by_their_namespaces() {
    let within = Readers { within: Some("a".into()), except: Vec::new() };
    let except = Readers { within: None, except: vec!["a".into()] };
    for (readers, in_a, in_b) in [(within, true, false), (except, false, true), (Readers::default(), true, true)] {
        assert_eq!((readers.are_in("a"), readers.are_in("b")), (in_a, in_b), "{readers:?}");
    }
}

#[test]
fn what_would_be_another_host_in_another_namespace_is_refused() {
    let (one, two) = (entry("10.0.0.1"), entry("10.0.0.2"));
    let both = |field: &str, value: Value| [with(&one, field, value.clone()), with(&two, field, value)];
    let pair = || [one.clone(), two.clone()];
    let tcp = json!([{"number": 5432, "protocol": "TCP"}]);
    let account = json!([{"address": "10.0.0.2", "serviceAccount": "bank"}]);
    let rule = |place: &str| object("DestinationRule", place, json!({"host": "*.example.com"}));
    let other = |place: &str, shown: &str| object("ServiceEntry", place, with(&one, "exportTo", json!([shown])));
    let sidecar = |place: &str, hosts: Value| object("Sidecar", place, json!({"egress": [{"hosts": hosts}]}));
    for ([stable, canary], around, place, reason) in [
        ([Value::Null, two.clone()], vec![], "a", "does not exist"),
        ([one.clone(), with(&two, "hosts", json!(["other.example.com"]))], vec![], "a", "differ in spec.hosts"),
        (both("exportTo", json!(["a"])), vec![], "a", "shown to namespaces by name"),
        (both("hosts", json!(["bank.shop.svc.cluster.local"])), vec![], "a", "Kubernetes' own"),
        (both("location", json!("MESH_INTERNAL")), vec![], "a", "workloads of the mesh"),
        (both("workloadSelector", json!({})), vec![], "a", "workloads of the mesh"),
        ([one.clone(), with(&two, "endpoints", account)], vec![], "a", "has an identity"),
        ([one.clone(), with(&two, "ports", tcp.clone())], vec![], "a", "port 5432 is found by an address"),
        (pair(), vec![other("else", "*")], "a", "ServiceEntry else/bank has a host in common"),
        (pair(), vec![other("a", ".")], "a", "callers in a use ServiceEntry a/bank"),
        (pair(), vec![other("else", "a")], "a", "callers in a use ServiceEntry else/bank"),
        (pair(), vec![rule("shop")], "a", "DestinationRule shop/bank is for the host"),
        (pair(), vec![], "shop", "add its endpoints"),
        (pair(), vec![sidecar("a", json!(["./*"]))], "a", "Sidecar a/bank does not show"),
        (pair(), vec![sidecar("a", json!(["shop/bank.example.com"]))], "a", "Sidecar a/bank does not show"),
        (pair(), vec![sidecar("a", json!(["*/*", "~shop/bank.example.com"]))], "a", "Sidecar a/bank does not show"),
        (pair(), vec![sidecar("istio-system", json!(["./*"]))], "a", "Sidecar istio-system/bank does not show"),
    ] {
        let refusal = ask([&stable, &canary], &around, &[place]).unwrap_err();
        assert!(refusal.reason.contains(reason), "{refusal}");
    }
    let with_address = |spec: &Value| with(&with(spec, "ports", tcp.clone()), "addresses", json!(["10.9.9.9"]));
    for (name, [stable, canary], around) in [
        ("an address of its own", [with_address(&one), with_address(&two)], vec![]),
        ("others elsewhere", pair(), vec![other("b", "."), rule("a"), rule("istio-system")]),
        ("all hosts", pair(), vec![sidecar("a", json!(["*/*"]))]),
        ("both", pair(), vec![sidecar("a", json!(["./*", "shop/*"])), sidecar("istio-system", json!(["./*"]))]),
        ("neither", pair(), vec![sidecar("a", json!(["~/*"]))]),
    ] {
        assert!(ask([&stable, &canary], &around, &["a"]).is_ok(), "{name}");
    }
}

#[test]
fn namespaces_that_cannot_take_part_are_left_out() {
    let place =
        |name: &str| json!({"kind": "Namespace", "metadata": {"name": name, "labels": {"istio-injection": "enabled"}}});
    let blind = object("Sidecar", "blind", json!({"egress": [{"hosts": ["./*"]}]}));
    let around: Vec<_> = ["shop", "a", "blind"].iter().map(|name| place(name)).chain([blind]).collect();
    let planned = ask([&entry("10.0.0.1"), &entry("10.0.0.2")], &around, &[]).unwrap();
    assert_eq!(chosen::of_facts(&planned.facts), ["a"]);
}
