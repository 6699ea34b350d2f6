//! Plans as tables: what is composed, and what is refused with which words.

use meshward_model::{Baseline, ExposureIntent, ExposurePlan, Operation};
use serde_json::json;

use super::*;
use crate::dialect::{Audience, Dialect as _, Istio, Neighbours, only_object};

mod counted;
mod removed;
mod whom;

fn target() -> Target {
    Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "checkout").unwrap()
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec})
}

fn bp(value: i64) -> Weight {
    Weight::from_basis_points(value).unwrap()
}

fn ask(
    stable: &Value,
    canary: &Value,
    wanted: Option<Mechanism>,
    neighbours: &[Value],
) -> Result<ExposurePlan, Unsupported> {
    let (target, baseline) = (target(), Baseline::of(Some(object(stable.clone()))));
    let weights = [bp(1000), bp(5000), Weight::FULL];
    let canary = object(canary.clone());
    let question = Question {
        target: &target,
        baseline: &baseline,
        canary: &canary,
        weights: &weights,
        wanted,
        audience: &Audience::default(),
        neighbours: neighbours.into(),
    };
    Istio.plan(&question).map(|planned| planned.plan)
}

fn to(host: &str) -> Value {
    json!({"destination": {"host": host}})
}

#[test]
fn every_match_of_both_versions_is_narrowed() {
    let stable = json!({"hosts": ["checkout"], "http": [
        {"match": [{"uri": {"prefix": "/api"}, "statPrefix": "mine"}, {"headers": {"a": {"exact": "b"}}}],
         "route": [to("a")]},
        {"name": "rest", "route": [to("b")]},
    ]});
    let canary = json!({"hosts": ["checkout"], "http": [
        {"match": [{"withoutHeaders": {"c": {"exact": "d"}}}], "route": [to("c")]},
        {"name": "gone", "redirect": {"uri": "/new"}},
    ]});
    let plan = ask(&stable, &canary, None, &[]).unwrap();
    assert_eq!(plan.mechanism, Mechanism::Request);
    let half = json!({"regex": "(?i).*[0-7]"});
    assert_eq!(
        plan.steps[1].writes[0].object["spec"],
        json!({"hosts": ["checkout"], "http": [
            {"match": [{"withoutHeaders": {"c": {"exact": "d"}}, "headers": {"x-request-id": half},
                        "statPrefix": "canary"}], "route": [to("c")]},
            {"name": "gone", "match": [{"headers": {"x-request-id": half}, "statPrefix": "canary"}],
             "redirect": {"uri": "/new"}},
            {"match": [{"uri": {"prefix": "/api"}, "withoutHeaders": {"x-request-id": half}, "statPrefix": "stable"},
                       {"headers": {"a": {"exact": "b"}}, "withoutHeaders": {"x-request-id": half},
                        "statPrefix": "stable"}], "route": [to("a")]},
            {"name": "rest", "match": [{"withoutHeaders": {"x-request-id": half}, "statPrefix": "stable"}],
             "route": [to("b")]},
        ]})
    );
    assert_eq!(plan.steps[2].writes[0].object, object(canary), "the last step is the approved version itself");
    assert_eq!(plan.steps[0].nominal_share, bp(1016));
    assert_eq!(plan.metrics_target.hosts, ["checkout.shop.svc.cluster.local"]);
    assert_eq!((&*plan.metrics_target.canary_series, &*plan.metrics_target.control_series), ("canary", "stable"));
    let admitted = plan.not_covered.join("\n");
    for part in ["without a sidecar", "can choose their version", "redirect", "statPrefix of your routes"] {
        assert!(admitted.contains(part), "{part} is not in {admitted}");
    }
}

#[test]
fn what_does_not_apply_is_not_said() {
    let spec =
        |host: &str| json!({"hosts": ["shop.example.com"], "gateways": ["edge"], "http": [{"route": [to(host)]}]});
    let plan = ask(&spec("a"), &spec("b"), None, &[]).unwrap();
    assert_eq!(plan.not_covered, [""; 0]);
    assert_eq!(plan.metrics_target.hosts, ["shop.example.com"]);
    assert_eq!(plan.alternatives[0].mechanism, Mechanism::Weight);
}

#[test]
fn what_cannot_be_exposed_is_refused_with_the_way_out() {
    let route = || json!([{"route": [to("a")]}]);
    let plain = || json!({"hosts": ["checkout"], "http": [{"route": [to("a")]}]});
    let with = |field: &str, value: Value| {
        let mut spec = json!({"hosts": ["checkout"], "http": [{"route": [to("a")], "timeout": "3s"}]});
        spec[field] = value;
        spec
    };
    let matching = |one: Value| json!({"hosts": ["checkout"], "http": [{"match": [one], "route": [to("a")]}]});
    for (stable, canary, reason) in [
        (plain(), with("hosts", json!(["other"])), "differ in spec.hosts,"),
        (plain(), with("gateways", json!(["g"])), "differ in spec.gateways,"),
        (plain(), with("exportTo", json!(["."])), "differ in spec.exportTo,"),
        (plain(), with("tcp", json!([])), "differ in spec.tcp,"),
        (plain(), with("tls", json!([])), "differ in spec.tls,"),
        (
            matching(json!({"headers": {"X-Request-ID": {"exact": "1"}}})),
            plain(),
            "match[0].headers of the live version",
        ),
        (
            plain(),
            matching(json!({"withoutHeaders": {"x-request-id": {"exact": "1"}}})),
            "match[0].withoutHeaders of the new version",
        ),
        (json!({"http": route()}), json!({"http": [{"route": [to("a")], "timeout": "1s"}]}), "has no hosts"),
        (
            json!({"hosts": ["a"], "tcp": [{"route": [to("a")]}]}),
            json!({"hosts": ["a"], "tcp": [{"match": [{"port": 1}], "route": [to("a")]}]}),
            "neither version has spec.http",
        ),
    ] {
        let unsupported = ask(&stable, &canary, None, &[]).unwrap_err();
        assert!(unsupported.reason.contains(reason), "{unsupported}");
        assert!(!unsupported.would_work.is_empty(), "{unsupported}");
    }
    for wanted in [Mechanism::Shadow, Mechanism::Subset] {
        let unsupported = ask(&plain(), &with("x", Value::Null), Some(wanted), &[]).unwrap_err();
        assert!(unsupported.reason.contains("not exposed by"), "{unsupported}");
    }
}

#[test]
fn a_gateway_host_that_another_one_serves_is_refused() {
    let spec = |host: &str, timeout: &str| {
        let http = json!([{"route": [to("a")], "timeout": timeout}]);
        json!({"hosts": [host], "gateways": ["edge"], "http": http})
    };
    let neighbour = |namespace: &str, gateway: &str, host: &str| {
        let spec = json!({"hosts": [host], "gateways": [gateway]});
        json!({"metadata": {"name": "n", "namespace": namespace}, "spec": spec})
    };
    let own = json!({"metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec("shop.example.com", "1s")});
    for (other, refused) in [
        (neighbour("shop", "edge", "shop.example.com"), true),
        (neighbour("web", "shop/edge", "*.example.com"), true),
        (neighbour("web", "edge", "shop.example.com"), false),
        (neighbour("shop", "edge", "other.example.com"), false),
        (own, false),
    ] {
        let result =
            ask(&spec("shop.example.com", "1s"), &spec("shop.example.com", "2s"), None, std::slice::from_ref(&other));
        assert_eq!(result.is_err(), refused, "{other}");
    }
}

#[test]
fn weights_are_blended_per_destination() {
    let weighted = |host: &str, subset: &str, weight: i64| {
        let destination = json!({"host": host, "subset": subset});
        json!({"destination": destination, "weight": weight})
    };
    let spec = |route: Value| json!({"hosts": ["a"], "tcp": [{"match": [{"port": 1}], "route": route}]});
    for (stable, canary, half) in [
        // 80/20 to 20/80 of any totals, a new destination, one that goes, and a single one whose weight does not count.
        (
            json!([weighted("a", "1", 8), weighted("a", "2", 2)]),
            json!([weighted("a", "1", 20), weighted("a", "2", 80)]),
            json!([weighted("a", "1", 5000), weighted("a", "2", 5000)]),
        ),
        (
            json!([weighted("a", "1", 7)]),
            json!([weighted("a", "1", 1), weighted("b", "1", 2)]),
            json!([weighted("a", "1", 6667), weighted("b", "1", 3333)]),
        ),
        (
            json!([weighted("a", "1", 0), weighted("a", "2", 1)]),
            json!([weighted("a", "2", 1), weighted("a", "3", 1)]),
            json!([weighted("a", "2", 7500), weighted("a", "3", 2500)]),
        ),
    ] {
        let plan = ask(&spec(stable), &spec(canary), None, &[]).unwrap();
        assert_eq!(plan.mechanism, Mechanism::Weight);
        assert_eq!(plan.steps[1].writes[0].object["spec"], spec(half));
        assert_eq!((&*plan.metrics_target.canary_series, &*plan.metrics_target.control_series), ("", ""));
        assert!(plan.not_covered.join("\n").contains("Open connections stay"));
    }
}

#[test]
fn weight_is_for_destinations_only() {
    let spec = |route: Value| json!({"hosts": ["a"], "http": [route]});
    let asked = |stable: Value, canary: Value| ask(&spec(stable), &spec(canary), Some(Mechanism::Weight), &[]);
    let headers =
        |value: &str| json!({"route": [{"destination": {"host": "a"}, "headers": {"request": {"set": {"k": value}}}}]});
    let plan = asked(headers("1"), headers("2")).unwrap();
    let route = &plan.steps[0].writes[0].object["spec"]["http"][0]["route"];
    assert_eq!(
        [&route[0]["weight"], &route[1]["weight"]],
        [&json!(9000), &json!(1000)],
        "headers tell destinations apart"
    );
    for (stable, canary) in [
        (json!({"route": [to("a")]}), json!({"route": [to("b")], "timeout": "1s"})),
        (json!({"route": [to("a")]}), json!({"redirect": {"uri": "/"}})),
        (json!({"name": "x", "route": [to("a")]}), json!({"name": "y", "route": [to("a")]})),
    ] {
        assert!(asked(stable, canary).unwrap_err().reason.contains("spec.http"));
    }
}

#[test]
fn an_object_that_does_not_exist_can_only_be_created() {
    let (target, canary) = (target(), object(json!({"hosts": ["a"]})));
    let baseline = Baseline::of(None);
    let ask = |weights: &[Weight]| {
        Istio.plan(&Question {
            target: &target,
            baseline: &baseline,
            canary: &canary,
            weights,
            wanted: None,
            audience: &Audience::default(),
            neighbours: Neighbours::default(),
        })
    };
    let plan = ask(&[Weight::FULL]).unwrap().plan;
    assert_eq!((plan.mechanism, plan.steps[0].writes[0].operation), (Mechanism::None, Operation::Create));
    assert!(ask(&[bp(1000), Weight::FULL]).unwrap_err().reason.contains("does not exist"));
}

#[test]
fn what_is_rendered_is_what_was_planned() {
    let spec = |timeout: &str| json!({"hosts": ["a"], "http": [{"route": [to("a")], "timeout": timeout}]});
    let plan = ask(&spec("1s"), &spec("2s"), None, &[]).unwrap();
    let mut intent = ExposureIntent {
        deployment_id: "d".into(),
        generation: 1,
        target: target(),
        baseline: Baseline::of(Some(object(spec("1s")))),
        canary: object(spec("2s")),
        mechanism: plan.mechanism,
        weight: Weight::ZERO,
    };
    assert_eq!(only_object(Istio.render(&intent)), object(spec("1s")), "nobody: the content of before");
    for step in &plan.steps {
        intent.weight = step.weight;
        assert_eq!(only_object(Istio.render(&intent)), step.writes[0].object, "{}", step.weight);
    }
}

fn named(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

#[test]
fn delegates_and_their_roots_are_narrowed_where_the_merge_stays_exact() {
    let root = |one: Value| json!({"hosts": ["shop"], "http": [{"match": [one], "delegate": {"name": "d"}}]});
    let leaf = |one: Value| json!({"http": [{"match": [one], "route": [to("a")]}]});
    let (prefix, cased) = (json!({"uri": {"prefix": "/a"}}), json!({"uri": {"prefix": "/a"}, "ignoreUriCase": true}));
    let by_id = json!({"headers": {"x-request-id": {"exact": "1"}}});
    let marked = |mut object: Value| {
        object["metadata"]["annotations"] = json!({"meshward.io/deployment": "d2"});
        object
    };
    let roots_of = |name: &str, one: Value| {
        let mut spec = root(one);
        spec["http"][0]["delegate"]["name"] = name.into();
        named("root", spec)
    };
    let own = target().name;
    let bare = json!({"http": [{"route": [to("a")], "timeout": "1s"}]});
    let later = json!({"http": [{"route": [to("a")], "timeout": "2s"}]});
    let both_delegated = |one: &Value| {
        let mut spec = root(one.clone());
        spec["http"][0]["delegate"]["name"] = own.clone().into();
        spec["http"].as_array_mut().unwrap().push(json!({"delegate": {"name": "sibling"}}));
        named("root", spec)
    };
    let with_series = leaf(json!({"uri": {"prefix": "/a"}, "statPrefix": "mine"}));
    let bare_root = |name: &str| json!({"hosts": ["shop"], "http": [{"delegate": {"name": name}}]});
    for (name, stable, canary, neighbours, reason) in [
        ("a root", root(prefix.clone()), root(json!({})), vec![named("d", leaf(prefix.clone()))], None),
        ("whose delegate is not there", root(prefix.clone()), root(json!({})), vec![], None),
        ("a delegate", bare.clone(), later.clone(), vec![roots_of(&own, prefix.clone())], None),
        ("of nobody", bare.clone(), later.clone(), vec![roots_of("d", prefix.clone())], Some("none delegates to it")),
        (
            "of a root by id",
            bare.clone(),
            later.clone(),
            vec![roots_of(&own, by_id.clone())],
            Some("matches x-request-id"),
        ),
        (
            "a root of one by id",
            root(prefix.clone()),
            root(json!({})),
            vec![named("d", leaf(by_id))],
            Some("VirtualService shop/d matches"),
        ),
        ("case", bare.clone(), later.clone(), vec![roots_of(&own, cased.clone())], Some("ignoreUriCase")),
        ("case of a delegate", bare_root("d"), bare_root("e"), vec![named("d", leaf(cased))], Some("ignoreUriCase")),
        ("series", root(prefix.clone()), root(json!({})), vec![named("d", with_series)], Some("has a statPrefix")),
        (
            "a sibling under way",
            bare.clone(),
            later.clone(),
            vec![both_delegated(&prefix), marked(named("sibling", bare.clone()))],
            Some("shop/sibling is under a deployment"),
        ),
    ] {
        match (ask(&stable, &canary, Some(Mechanism::Request), &neighbours), reason) {
            (Ok(_), None) => {}
            (Err(unsupported), Some(reason)) => assert!(unsupported.reason.contains(reason), "{name}: {unsupported}"),
            (plan, _) => panic!("{name}: {plan:?}"),
        }
    }
    let plan = ask(&bare, &later, None, &[roots_of(&own, prefix)]).unwrap();
    assert_eq!(plan.metrics_target.hosts, ["shop.shop.svc.cluster.local"], "those of its root");
}
