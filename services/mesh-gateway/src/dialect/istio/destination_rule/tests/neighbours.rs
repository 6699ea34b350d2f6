//! Plans in a cluster of a few objects.

use meshward_model::{Baseline, Operation};
use serde_json::json;

use super::super::*;
use crate::dialect::{Audience, Dialect as _, Istio};

fn target() -> Target {
    Target::new("", "networking.istio.io/v1", "DestinationRule", "shop", "checkout").unwrap()
}

fn object(kind: &str, place: &str, name: &str, spec: Value) -> Value {
    let api_version = if kind == "Service" { "v1" } else { "networking.istio.io/v1" };
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": place}, "spec": spec})
}

fn rule(spec: Value) -> Value {
    object("DestinationRule", "shop", "checkout", spec)
}

fn service(ports: Value) -> Value {
    object("Service", "shop", "checkout", json!({"ports": ports}))
}

fn http_service() -> Value {
    service(json!([{"name": "http", "port": 8080}]))
}

fn virtual_service(place: &str, name: &str, spec: Value) -> Value {
    object("VirtualService", place, name, spec)
}

/// A rule whose connectionPool is some number; `Null` = none.
fn pool(number: u32) -> Value {
    json!({"host": "checkout", "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": number}}}})
}

fn bp(value: i64) -> Weight {
    Weight::from_basis_points(value).unwrap()
}

fn planned_for(before: Option<Value>, canary: &Value, neighbours: &[Value]) -> Result<Planned, Unsupported> {
    let (target, baseline) = (target(), Baseline::of(before));
    let weights = [Weight::ZERO, bp(1000), bp(5000), Weight::FULL];
    Istio.plan(&Question {
        target: &target,
        baseline: &baseline,
        canary,
        weights: &weights,
        wanted: None,
        audience: &Audience::default(),
        neighbours: neighbours.into(),
    })
}

fn ask(stable: Value, canary: Value, neighbours: &[Value]) -> Result<Planned, Unsupported> {
    planned_for(Some(rule(stable)), &rule(canary), neighbours)
}

/// "phase operation kind/name" of a step's writes.
fn order(planned: &Planned, step: usize) -> Vec<String> {
    let writes = planned.plan.steps[step].writes.iter();
    writes.map(|write| format!("{} {:?} {}", write.phase, write.operation, write.target)).collect()
}

#[test]
fn what_is_referred_to_comes_first_and_goes_last() {
    let routes = json!({"hosts": ["checkout"], "http": [{"route": [{"destination": {"host": "checkout"}}]}]});
    let own = virtual_service("shop", "routes", routes);
    let planned = ask(pool(1), pool(2), &[http_service(), own]).unwrap();
    assert_eq!(planned.plan.mechanism, Mechanism::Subset);
    let (rule, routes) = ("Apply DestinationRule shop/checkout", "Apply VirtualService shop/routes");
    let numbered = |names: &[&str]| {
        let numbered = names.iter().enumerate().map(|(phase, name)| format!("{phase} {name}"));
        numbered.collect::<Vec<_>>()
    };
    for (step, expected) in
        [(0, vec![routes, rule]), (1, vec![rule, routes]), (2, vec![rule, routes]), (3, vec![rule, routes, rule])]
    {
        assert_eq!(order(&planned, step), numbered(&expected), "step {step}");
    }
    assert_eq!(planned.plan.steps[1].nominal_share, bp(1016));
    let target = &planned.plan.metrics_target;
    assert_eq!((&*target.canary_series, &*target.control_series), ("canary", "stable"));
    assert_eq!(target.hosts, ["checkout.shop.svc.cluster.local"]);
    assert_eq!(target.canary_clusters, ["canary|checkout.shop.svc.cluster.local"]);
    assert_eq!(target.control_clusters, ["|checkout.shop.svc.cluster.local"]);

    let half = json!({"x-request-id": {"regex": "(?i).*[0-7]"}});
    let write = |step: usize, index: usize| &planned.plan.steps[step].writes[index].object["spec"];
    assert_eq!(
        write(2, 1)["http"],
        json!([
            {"match": [{"headers": half, "statPrefix": "canary"}],
             "route": [{"destination": {"host": "checkout", "subset": "canary"}}]},
            {"match": [{"withoutHeaders": half, "statPrefix": "stable"}],
             "route": [{"destination": {"host": "checkout"}}]},
        ])
    );
    assert_eq!(write(2, 0), write(1, 0), "the rule is the same at every share");
    assert_eq!(write(3, 0)["subsets"], json!([{"name": "canary"}]), "the twins outlive the routes to them");
    assert_eq!(write(3, 2), &pool(2));

    let mut intent = ExposureIntent {
        deployment_id: "d".into(),
        generation: 1,
        target: super::neighbours::target(),
        baseline: Baseline {
            object: Some(super::neighbours::rule(pool(1))),
            related: planned.related.clone(),
            facts: planned.facts.clone(),
        },
        canary: super::neighbours::rule(pool(2)),
        mechanism: Mechanism::Subset,
        weight: bp(1000),
    };
    let undo = Istio.undo(&intent).unwrap();
    let wanted = |phase: &Phase| match phase {
        Phase::Objects(objects) => objects.iter().map(|one| (one.target.kind.clone(), one.wanted.clone())).collect(),
        Phase::Pods(_) => Vec::new(),
    };
    let back: Vec<_> = undo.iter().flat_map(wanted).collect();
    assert_eq!(
        back,
        [("VirtualService".to_owned(), Wanted::Baseline), ("DestinationRule".to_owned(), Wanted::Baseline)]
    );
    intent.mechanism = Mechanism::None;
    assert_eq!(Istio.undo(&intent).unwrap().len(), 1);
}

#[test]
fn every_way_to_the_host_is_split_and_nothing_else() {
    let to = |host: &str, subset: &str| json!({"destination": {"host": host, "subset": subset}});
    let spec = json!({"hosts": ["checkout", "shop.example.com"], "gateways": ["mesh", "edge"],
        "http": [
            {"match": [{"uri": {"prefix": "/a"}}], "route": [{"destination": {"host": "other"}}]},
            {"match": [{"uri": {"prefix": "/b"}}], "route": [to("checkout.shop.svc.cluster.local", "v1"), to("other", "v1")],
             "mirror": {"host": "checkout"}, "mirrors": [{"destination": {"host": "checkout", "subset": "v1"}}]},
            {"redirect": {"uri": "/c"}},
        ],
        "tcp": [{"match": [{"port": 1}], "route": [to("checkout", "v1")]}],
        "tls": [{"match": [{"sniHosts": ["a"]}], "route": [to("other", "v1")]}]});
    let with_subset = |number| {
        let mut rule = pool(number);
        rule["subsets"] = json!([{"name": "v1", "labels": {"version": "1"}}]);
        rule
    };
    let planned =
        ask(with_subset(1), with_subset(2), &[http_service(), virtual_service("shop", "routes", spec.clone())])
            .unwrap();
    let split = &planned.plan.steps[2].writes[1].object["spec"];
    let half = json!({"x-request-id": {"regex": "(?i).*[0-7]"}});
    assert_eq!(
        split["http"],
        json!([
            spec["http"][0],
            {"match": [{"uri": {"prefix": "/b"}, "headers": half, "statPrefix": "canary"}],
             "route": [to("checkout.shop.svc.cluster.local", "v1-canary"), to("other", "v1")],
             "mirror": {"host": "checkout", "subset": "canary"},
             "mirrors": [{"destination": {"host": "checkout", "subset": "v1-canary"}}]},
            {"match": [{"uri": {"prefix": "/b"}, "withoutHeaders": half, "statPrefix": "stable"}],
             "route": spec["http"][1]["route"], "mirror": spec["http"][1]["mirror"],
             "mirrors": spec["http"][1]["mirrors"]},
            spec["http"][2],
        ])
    );
    let weighted = |subset: &str| json!({"destination": {"host": "checkout", "subset": subset}, "weight": 5000});
    assert_eq!(split["tcp"][0]["route"], json!([weighted("v1"), weighted("v1-canary")]));
    assert_eq!(split["tls"], spec["tls"]);
    let rule = &planned.plan.steps[2].writes[0].object["spec"]["subsets"];
    assert_eq!(rule[2]["name"], "v1-canary");
    assert_eq!(rule[2]["labels"], json!({"version": "1"}));
    assert_eq!(planned.plan.metrics_target.hosts, ["checkout.shop.svc.cluster.local", "shop.example.com"]);
    assert!(
        planned.plan.not_covered.iter().any(|words| words.contains("drawn anew")),
        "{:?}",
        planned.plan.not_covered
    );
}

#[test]
fn a_host_without_routes_is_given_some() {
    let ports = json!([{"name": "http", "port": 80}, {"name": "tcp-db", "port": 81}, {"name": "tls", "port": 82},
                       {"port": 83}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let planned = ask(pool(1), pool(2), &[service(ports)]).unwrap();
    assert_eq!(order(&planned, 1)[1], "1 Create VirtualService shop/checkout-meshward-canary");
    assert_eq!(order(&planned, 0)[0], "0 Delete VirtualService shop/checkout-meshward-canary");
    assert_eq!(order(&planned, 3)[1], "1 Delete VirtualService shop/checkout-meshward-canary");
    let made = &planned.plan.steps[2].writes[1].object["spec"];
    assert_eq!(made["hosts"], json!(["checkout.shop.svc.cluster.local"]));
    let to = |route: &Value| {
        let destination = &route["route"][0]["destination"];
        (route["match"][0]["port"].as_u64(), destination["port"]["number"].as_u64(), destination["subset"].clone())
    };
    let http: Vec<_> = made["http"].as_array().unwrap().iter().map(to).collect();
    let (canary, none) = (json!("canary"), Value::Null);
    let pair = |port| [(Some(port), Some(port), canary.clone()), (Some(port), Some(port), none.clone())];
    assert_eq!(http, [pair(80), pair(83)].concat());
    let tcp: Vec<_> = made["tcp"].as_array().unwrap().iter().map(to).collect();
    assert_eq!(tcp, [(Some(81), Some(81), none.clone()), (Some(83), Some(83), none.clone())]);
    let admitted = planned.plan.not_covered.join("\n");
    assert!(admitted.contains("TLS ports [82]") && admitted.contains("one is made"), "{admitted}");
    let one = ask(pool(1), pool(2), &[http_service()]).unwrap();
    let made = &one.plan.steps[1].writes[1].object["spec"];
    assert_eq!(made["http"][0]["match"][0]["port"], Value::Null, "one port needs no telling apart");
    assert_eq!(made["tcp"], Value::Null);
}

#[test]
fn a_rule_that_is_new_or_shall_be_gone_is_a_version_without_policy() {
    let made = planned_for(None, &rule(pool(2)), &[http_service()]).unwrap();
    let first = &made.plan.steps[1].writes[0];
    assert_eq!(first.operation, Operation::Create);
    assert_eq!(first.object["spec"]["trafficPolicy"], Value::Null, "the host itself has none until the end");
    assert_eq!(first.object["spec"]["subsets"][0]["trafficPolicy"], pool(2)["trafficPolicy"]);
    assert_eq!(order(&made, 0)[1], "1 Delete DestinationRule shop/checkout");

    let gone = planned_for(Some(rule(pool(1))), &Value::Null, &[http_service()]).unwrap();
    let twin = &gone.plan.steps[1].writes[0].object["spec"]["subsets"][0];
    assert_eq!(twin["trafficPolicy"]["portLevelSettings"][0]["connectionPool"], json!({"tcp": {}}));
    assert_eq!(order(&gone, 3)[2], "2 Delete DestinationRule shop/checkout");
    assert_eq!(
        gone.plan.steps[3].writes[0].object["spec"],
        json!({"host": "checkout", "subsets": [{"name": "canary"}]})
    );

    let wide = object("DestinationRule", "istio-system", "all", json!({"host": "*.local"}));
    let neighbours = [http_service(), wide];
    assert!(ask(pool(1), pool(2), &neighbours).is_ok(), "it is hidden before and after");
    for refused in
        [planned_for(None, &rule(pool(2)), &neighbours), planned_for(Some(rule(pool(1))), &Value::Null, &neighbours)]
    {
        assert!(refused.unwrap_err().reason.contains("istio-system/all is for *.local as well"));
    }
    assert!(planned_for(None, &Value::Null, &[]).unwrap_err().reason.contains("does not exist"));
}

#[test]
fn what_would_leave_somebody_without_the_canary_is_refused() {
    let with = |field: &str, value: Value| {
        let mut spec = pool(2);
        spec[field] = value;
        spec
    };
    let another = |place: &str, host: &str, more: Value| {
        let mut spec = json!({"host": host});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        object("DestinationRule", place, "other", spec)
    };
    let full = "checkout.shop.svc.cluster.local";
    let routed = |place: &str, name: &str, hosts: Value, more: Value| {
        let mut spec = json!({"hosts": hosts, "http": [{"route": [{"destination": {"host": full}}]}]});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        virtual_service(place, name, spec)
    };
    let entry = |resolution: &str| {
        let spec = json!({"hosts": [full], "resolution": resolution, "ports": [{"number": 80, "protocol": "HTTP"}]});
        object("ServiceEntry", "shop", "e", spec)
    };
    let mut subset = pool(1);
    subset["subsets"] = json!([{"name": "v1"}]);
    let to_subset = json!({"hosts": [full], "http": [{"route": [{"destination": {"host": full, "subset": "v1"}}]}]});
    let by_id = json!({"http": [{"match": [{"headers": {"X-Request-Id": {"exact": "1"}}}],
                                 "route": [{"destination": {"host": full}}]}]});
    let delegating = json!({"http": [{"delegate": {"name": "d"}}]});
    let headless = object("Service", "shop", "checkout", json!({"clusterIP": "None", "ports": [{"port": 80}]}));
    for (stable, canary, neighbours, words) in [
        (pool(1), with("host", json!("other")), vec![], "differ in spec.host"),
        (pool(1), with("exportTo", json!(["."])), vec![], "differ in spec.exportTo"),
        (pool(1), with("workloadSelector", json!({"matchLabels": {}})), vec![], "differ in spec.workloadSelector"),
        (with("workloadSelector", json!({})), with("workloadSelector", json!({})), vec![], "for selected callers only"),
        (with("host", json!("*.shop")), with("host", json!("*.shop")), vec![], "stands for many hosts"),
        (pool(1), pool(2), vec![], "no Service and no ServiceEntry"),
        (pool(1), pool(2), vec![headless], "is headless"),
        (pool(1), pool(2), vec![entry("DNS")], "resolves checkout.shop.svc.cluster.local by DNS"),
        (
            pool(1),
            pool(2),
            vec![another("web", full, json!({}))],
            "web/other is for checkout.shop.svc.cluster.local as",
        ),
        (pool(1), pool(2), vec![another("web", "*.cluster.local", json!({}))], "callers in that namespace use it"),
        (pool(1), pool(2), vec![another("shop", "checkout", json!({}))], "Istio merges the two"),
        (
            pool(1),
            pool(2),
            vec![another("shop", "checkout", json!({"workloadSelector": {"matchLabels": {"a": "b"}}}))],
            "the callers that it selects use it",
        ),
        (
            pool(1),
            pool(2),
            vec![another("istio-system", "*.local", json!({"exportTo": ["."]}))],
            "proxies in that namespace use it",
        ),
        (
            pool(1),
            pool(2),
            vec![routed("shop", "a", json!(["checkout"]), json!({})), routed("shop", "b", json!([full]), json!({}))],
            "shop/a and shop/b both have the host",
        ),
        (pool(1), pool(2), vec![routed("web", "a", json!([full]), json!({}))], "web/a is in another namespace"),
        (
            pool(1),
            pool(2),
            vec![routed("shop", "a", json!(["*.shop.svc.cluster.local"]), json!({}))],
            "under a wider name",
        ),
        (with("exportTo", json!(["."])), with("exportTo", json!(["shop"])), vec![], "differ in spec.exportTo"),
        (
            with("exportTo", json!(["."])),
            {
                let mut spec = pool(3);
                spec["exportTo"] = json!(["."]);
                spec
            },
            vec![routed("shop", "a", json!([full]), json!({}))],
            "is shown to namespaces that the rule is not shown to",
        ),
        (pool(1), pool(2), vec![routed("shop", "a", json!([full]), by_id)], "uses x-request-id"),
        (
            pool(1),
            pool(2),
            vec![routed("shop", "a", json!([full]), delegating)],
            "no VirtualService of the namespace shop",
        ),
        (subset, pool(2), vec![virtual_service("web", "a", to_subset)], "no subset v1, to which VirtualService web/a"),
    ] {
        let named = neighbours.iter().any(|one| ["Service", "ServiceEntry"].iter().any(|kind| one["kind"] == *kind));
        let service = (!named && !words.starts_with("no Service")).then(http_service);
        let neighbours: Vec<_> = neighbours.into_iter().chain(service).collect();
        let unsupported = ask(stable, canary, &neighbours).unwrap_err();
        assert!(unsupported.reason.contains(words), "{unsupported} instead of {words}");
        assert!(!unsupported.would_work.is_empty(), "{unsupported}");
    }
}

#[test]
fn who_is_not_exposed_is_told() {
    let full = "checkout.shop.svc.cluster.local";
    let routed = |place: &str, spec: Value| {
        let mut spec = spec;
        spec["http"] = json!([{"route": [{"destination": {"host": full}}]}]);
        virtual_service(place, "other", spec)
    };
    for (other, words) in [
        (
            routed("web", json!({"hosts": ["shop.example.com"], "gateways": ["edge"]})),
            "web/other is in another namespace",
        ),
        (routed("web", json!({"hosts": [full], "exportTo": ["."]})), "web/other is in another namespace"),
        (routed("shop", json!({})), "shop/other is a delegate"),
    ] {
        let planned = ask(pool(1), pool(2), &[http_service(), other]).unwrap();
        let admitted = planned.plan.not_covered.join("\n");
        assert!(admitted.contains(words) && admitted.contains("until the last step"), "{admitted}");
        assert_eq!(planned.related.len(), 1, "only the one that is made");
    }
    let own = routed("shop", json!({"hosts": [full], "exportTo": ["."]}));
    let planned = ask(pool(1), pool(2), &[http_service(), own]).unwrap();
    assert!(planned.plan.not_covered.join("\n").contains("shop/other is shown to shop only"));
    // One that a gateway has is changed as well.
    let edge = routed("shop", json!({"hosts": ["shop.example.com"], "gateways": ["edge"]}));
    let planned = ask(pool(1), pool(2), &[http_service(), edge]).unwrap();
    assert_eq!(planned.related.len(), 2);
    assert_eq!(planned.plan.metrics_target.hosts, [full, "shop.example.com"]);
    assert!(planned.plan.not_covered.join("\n").contains("what the servers' own sidecars hand on"));
}

#[test]
fn entries_of_fixed_addresses_are_hosts_as_well() {
    let spec =
        json!({"hosts": ["pay.example.com"], "resolution": "STATIC", "ports": [{"number": 80, "protocol": "HTTP"}]});
    let entry = object("ServiceEntry", "shop", "e", spec);
    let with_host = |number| {
        let mut spec = pool(number);
        spec["host"] = json!("pay.example.com");
        spec
    };
    let planned = ask(with_host(1), with_host(2), &[entry]).unwrap();
    assert_eq!(planned.facts["ports"], json!([80]));
    assert_eq!(planned.plan.metrics_target.hosts, ["pay.example.com"]);
}
