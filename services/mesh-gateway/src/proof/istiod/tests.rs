//! The pages of a real istiod 1.32, shortened, and what is read from them.

use meshward_model::Target;
use serde_json::{Value, json};

use super::*;
use crate::proof::Content;

const VERSION: &str = "2026-11-23T12:25:29Z/3";

fn nonce(counter: u64) -> String {
    format!("2026-11-23T12:25:29Z/{counter}ad46f630-f117-4e73-9bcc-87a4b69ad6dd")
}

fn spec(http: Value) -> Value {
    json!({"hosts": ["checkout"], "http": http})
}

fn to(host: &str, timeout: &str) -> Value {
    json!({"route": [{"destination": {"host": host}}], "timeout": timeout})
}

fn expected(object: Option<Value>, others: Vec<Value>, rebinds: bool) -> Expected {
    let target = Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "checkout").unwrap();
    let object = object.map(|spec| json!({"metadata": {"resourceVersion": "9"}, "spec": spec}));
    Expected {
        target,
        object,
        others,
        rebinds,
        through: Vec::new(),
        cohorts: None,
        beside: Vec::new(),
        readers: crate::dialect::Readers::default(),
    }
}

fn route(host: &str, timeout: &str, regex: Option<&str>) -> Value {
    let mut route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": format!("outbound|8080||{host}.shop.svc.cluster.local"), "timeout": timeout},
        "metadata": {"filterMetadata": {"istio": {
            "config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/checkout"}}},
    });
    if let Some(regex) = regex {
        let regex = json!({"safeRegex": {"regex": regex}});
        route["match"]["headers"] = json!([{"name": "x-request-id", "stringMatch": regex}]);
    }
    route
}

fn dump(routes: Value) -> Value {
    let domains = ["checkout.shop.svc.cluster.local", "checkout"];
    json!({"configs": [{
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "virtualHosts": [{"domains": domains, "routes": routes}],
    }]})
}

fn syncz(sent: u64, acked: u64, error: Option<&str>) -> Value {
    let mut status = json!({"sent": nonce(sent), "acked": nonce(acked)});
    if let Some(error) = error {
        status["lastError"] = error.into();
    }
    json!([{"proxy": "storefront-0.shop", "resources": {
        "type.googleapis.com/envoy.config.route.v3.RouteConfiguration": status}}])
}

fn look(dump: &Value, syncz: &Value, expected: &Expected) -> Option<ProxyLook> {
    let reading = Reading { seen: content::read(dump, expected), version: sync::parse(VERSION) };
    look_at_proxy("storefront-0.shop", Some(&reading), syncz, expected)
}

#[test]
fn content_tells_new_from_old() {
    let (a, b) = (to("checkout", "1s"), to("next", "1s"));
    let narrowed = |regex: &str| {
        let mut route = a.clone();
        route["match"] = json!([{"headers": {"x-request-id": {"regex": regex}}}]);
        spec(json!([route]))
    };
    let (old, new) = (spec(json!([a])), spec(json!([b])));
    let retried = spec(json!([{"route": a["route"], "timeout": "1s", "retries": {"attempts": 1}}]));
    for (name, written, other, generated, content) in [
        ("its expression", narrowed("R10"), &old, route("checkout", "1s", Some("R10")), Content::Shows),
        ("another weight's", narrowed("R30"), &old, route("checkout", "1s", Some("R10")), Content::Older),
        ("not exposed yet", narrowed("R10"), &old, route("checkout", "1s", None), Content::Older),
        ("still exposed", old.clone(), &new, route("checkout", "1s", Some("R10")), Content::Older),
        ("its destination", new.clone(), &old, route("next", "1s", None), Content::Shows),
        ("the other's destination", new.clone(), &old, route("checkout", "1s", None), Content::Older),
        (
            "its timeout",
            spec(json!([to("checkout", "1500ms")])),
            &old,
            route("checkout", "1.500s", None),
            Content::Shows,
        ),
        ("both alike", retried, &old, route("checkout", "1s", None), Content::Unclear),
        ("neither's destination", new.clone(), &old, route("third", "1s", None), Content::Older),
        ("neither's timeout", new.clone(), &old, route("next", "7s", None), Content::Unclear),
    ] {
        let expected = expected(Some(written), vec![other.clone()], false);
        let seen = look(&dump(json!([generated])), &syncz(3, 3, None), &expected).unwrap();
        assert_eq!(seen.content, content, "{name}");
    }
}

#[test]
fn weights_and_headers_are_content() {
    let weighted = |a: u64, b: u64| {
        spec(json!([{"headers": {"response": {"set": {"X-V": "2"}}}, "route": [
            {"destination": {"host": "a", "subset": "s"}, "weight": a}, {"destination": {"host": "b"}, "weight": b}]}]))
    };
    let mut generated = route("x", "0s", None);
    generated["responseHeadersToAdd"] = json!([{"header": {"key": "x-v", "value": "2"}}]);
    generated["route"] = json!({"timeout": "0s", "weightedClusters": {"clusters": [
        {"name": "outbound|80|s|a.shop.svc.cluster.local", "weight": 80},
        {"name": "outbound|80||b.shop.svc.cluster.local", "weight": 20}]}});
    let content = |written, other| {
        let expected = expected(Some(written), vec![other], false);
        look(&dump(json!([generated])), &syncz(3, 3, None), &expected).unwrap().content
    };
    assert_eq!(content(weighted(80, 20), weighted(20, 80)), Content::Shows);
    assert_eq!(content(weighted(20, 80), weighted(80, 20)), Content::Older);
    assert_eq!(content(weighted(30, 70), weighted(10, 90)), Content::Older, "a step before");
}

/// As istiod 1.32 generates them, without what is not read.
#[test]
fn connections_tell_new_from_old_where_their_listener_sends_them() {
    let to = |entries: &[(&str, u64)]| {
        let entry = |(host, weight): &(&str, u64)| json!({"destination": {"host": host}, "weight": weight});
        entries.iter().map(entry).collect::<Vec<_>>()
    };
    let written = |tls: &[(&str, u64)], tcp: &[(&str, u64)]| {
        json!({"hosts": ["ledger", "vault"], "tls": [{"match": [{"port": 1, "sniHosts": ["a"]}, {"port": 2, "sniHosts": ["a"]}], "route": to(tls)}],
               "tcp": [{"match": [{"port": 3}], "route": to(tcp)}]})
    };
    let chain = |entries: &[(&str, u64)]| {
        let name = |host: &str| format!("outbound|3||{host}.shop.svc.cluster.local");
        let cluster = |(host, weight): &(&str, u64)| json!({"name": name(host), "weight": weight});
        let mut proxy = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"});
        match entries {
            [(host, _)] => proxy["cluster"] = name(host).into(),
            _ => proxy["weightedClusters"] = json!({"clusters": entries.iter().map(cluster).collect::<Vec<_>>()}),
        }
        let source = "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/checkout";
        json!({"filters": [{"typedConfig": proxy}], "metadata": {"filterMetadata": {"istio": {"config": source}}}})
    };
    let foreign = json!({"filters": [{"typedConfig": {"@type": "x.TcpProxy", "cluster": "PassthroughCluster"}}]});
    let (vault, ledger) = ([("vault", 1)], [("ledger", 1)]);
    let (old, new) = (written(&vault, &ledger), written(&vault, &[("next", 1)]));
    let half = [("ledger", 5000), ("next", 5000)];
    let tenth = [("ledger", 9000), ("next", 1000)];
    for (name, written, others, listeners, content) in [
        ("its weights", written(&vault, &half), vec![&old, &new], vec![vec![chain(&half)]], Content::Shows),
        ("the step before", written(&vault, &half), vec![&old, &new], vec![vec![chain(&tenth)]], Content::Older),
        ("before all steps", written(&vault, &half), vec![&old, &new], vec![vec![chain(&ledger)]], Content::Older),
        ("promoted", new.clone(), vec![&old], vec![vec![chain(&[("next", 1)])]], Content::Shows),
        ("not promoted yet", new.clone(), vec![&old], vec![vec![chain(&half)]], Content::Older),
        ("put back", old.clone(), vec![&new], vec![vec![chain(&ledger)]], Content::Shows),
        (
            "on each listener",
            written(&vault, &half),
            vec![&old, &new],
            vec![vec![chain(&vault), foreign.clone()], vec![chain(&vault), chain(&half)]],
            Content::Shows,
        ),
        (
            "on one listener only",
            written(&half, &half),
            vec![&old, &new],
            vec![vec![chain(&half)], vec![chain(&vault)]],
            Content::Older,
        ),
        ("nothing that differs", written(&vault, &half), vec![&old, &new], vec![vec![chain(&vault)]], Content::Unclear),
    ] {
        let listener = |chains: Vec<Value>| json!({"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "filterChains": chains});
        let dump = json!({"configs": listeners.into_iter().map(listener).collect::<Vec<_>>()});
        let syncz = json!([{"proxy": "storefront-0.shop", "resources": {
            "type.googleapis.com/envoy.config.listener.v3.Listener": {"sent": nonce(3), "acked": nonce(3)}}}]);
        let expected = expected(Some(written), others.into_iter().cloned().collect(), false);
        let seen = look(&dump, &syncz, &expected).unwrap();
        assert_eq!((seen.content, seen.pushed, seen.acknowledged), (content, true, true), "{name}");
    }
}

#[test]
fn pushes_are_compared_with_the_state_that_was_dumped() {
    let expected = expected(Some(spec(json!([to("checkout", "1s")]))), Vec::new(), false);
    let dump = dump(json!([route("checkout", "1s", None)]));
    for (sent, acked, error, pushed, acknowledged) in [
        (3, 3, None, true, true),
        (4, 3, None, true, false),
        (10, 10, None, true, true),
        (2, 2, None, false, true),
        (3, 2, Some("too big"), true, false),
        (3, 3, Some("too big"), true, false),
    ] {
        let seen = look(&dump, &syncz(sent, acked, error), &expected).unwrap();
        assert_eq!((seen.pushed, seen.acknowledged, seen.error.as_deref()), (pushed, acknowledged, error), "{sent}");
    }
    let version = sync::parse(VERSION).unwrap();
    assert!(sync::is_at_least(&nonce(1).replace("12:25:29", "13:00:00"), &version), "istiod began to count anew");
    assert!(!sync::is_at_least("nonsense", &version));
    assert_eq!(look(&dump, &json!([]), &expected), None, "it went away");
}

#[test]
fn who_is_concerned() {
    let foreign =
        json!({"match": {"prefix": "/"}, "route": {"cluster": "outbound|8080||checkout.shop.svc.cluster.local"}});
    let ours = route("checkout", "1s", None);
    let written = || Some(spec(json!([to("checkout", "1s")])));
    let content =
        |routes: Value, expected: &Expected| look(&dump(routes), &syncz(3, 3, None), expected).map(|seen| seen.content);
    let old = || vec![spec(json!([]))];
    let elsewhere = expected(Some(json!({"hosts": ["other"], "http": [to("checkout", "1s")]})), Vec::new(), false);
    let rebound = Expected { rebinds: true, ..elsewhere.clone() };
    for (name, routes, expected, seen) in [
        ("serves the host, perhaps not yet", &foreign, &expected(written(), Vec::new(), false), Some(Content::Unused)),
        ("serves another host", &foreign, &elsewhere, None),
        ("hosts are what changed", &foreign, &rebound, Some(Content::Unused)),
        ("it is gone there", &foreign, &expected(None, old(), true), Some(Content::Shows)),
        ("it is still there", &ours, &expected(None, old(), true), Some(Content::Older)),
    ] {
        assert_eq!(content(json!([routes]), expected), seen, "{name}");
    }
}

#[test]
fn taken_in_means_this_version_of_this_object() {
    let config = |kind: &str, version: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": kind,
               "metadata": {"name": "checkout", "namespace": "shop", "resourceVersion": version}})
    };
    let present = expected(Some(spec(json!([]))), Vec::new(), false);
    let gone = expected(None, Vec::new(), false);
    for (configs, expected, taken_in) in [
        (json!([config("Gateway", "9"), config("VirtualService", "9")]), &present, true),
        (json!([config("VirtualService", "8")]), &present, false),
        (json!([]), &present, false),
        (json!([config("VirtualService", "8")]), &gone, false),
        (json!([config("Gateway", "9")]), &gone, true),
    ] {
        assert_eq!(has_taken_in(&configs, expected), taken_in, "{configs}");
    }
}

#[test]
fn a_proxy_that_connected_anew_is_the_one_that_acknowledges() {
    let entry = |acked: u64, error: Value| {
        let sent = nonce(4);
        json!({"proxy": "storefront-0.shop", "resources": {sync::ROUTES: {"sent": sent, "acked": nonce(acked),
                                                                          "lastError": error}}})
    };
    let (dead, anew, refusing) = (entry(3, json!("")), entry(4, json!("")), entry(3, json!("too big")));
    for (name, entries, acknowledged, error) in [
        ("dead first", [dead.clone(), anew.clone()], true, None),
        ("dead last", [anew, dead.clone()], true, None),
        ("it refuses", [refusing, dead], false, Some("too big")),
    ] {
        let syncz = Value::from(entries.to_vec());
        let push = sync::last_push(&syncz, "storefront-0.shop", &[sync::ROUTES]).unwrap();
        assert_eq!((push.acknowledged, push.error.as_deref()), (acknowledged, error), "{name}");
        assert_eq!(sync::proxies(&syncz).len(), 1, "{name}");
    }
}

#[test]
fn a_proxy_is_asked_for_by_its_newest_connection() {
    let ids = ["cart-0.shop-9", "minicart-0.shop-30", "cart-0.shop-11", "cart-0.shop2-12", "nonsense"];
    let clients: Vec<_> = ids.iter().map(|id| json!({"connectionId": id})).collect();
    let connections = json!({"clients": clients});
    for (name, id) in
        [("cart-0.shop", Some("cart-0.shop-11")), ("minicart-0.shop", Some("minicart-0.shop-30")), ("art-0.shop", None)]
    {
        assert_eq!(connection(&connections, name), id, "{name}");
    }
}

#[test]
fn a_proxy_that_cannot_be_asked_yet_is_waited_for() {
    let expected = expected(Some(spec(json!([to("checkout", "1s")]))), Vec::new(), false);
    let unread = look_at_proxy("storefront-0.shop", None, &syncz(3, 3, None), &expected).unwrap();
    assert_eq!((unread.content, unread.pushed), (Content::Unread, false));
    assert_eq!(look_at_proxy("storefront-0.shop", None, &json!([]), &expected), None, "it went away");
}

#[test]
fn only_the_types_that_tell_of_an_object_are_asked_for() {
    let of = |api_version: &str, kind: &str, spec: Value| Expected {
        target: Target::new("", api_version, kind, "shop", "checkout").unwrap(),
        ..expected(Some(spec), Vec::new(), false)
    };
    let networking = "networking.istio.io/v1";
    let pods = |expected: Expected| Expected { cohorts: Some(crate::proof::Cohorts::default()), ..expected };
    for (expected, types) in [
        (of(networking, "VirtualService", json!({})), Some("rds,lds")),
        (of(networking, "DestinationRule", json!({})), Some("cds")),
        (of(networking, "ServiceEntry", json!({"resolution": "STATIC"})), Some("eds")),
        (of("security.istio.io/v1", "AuthorizationPolicy", json!({})), Some("lds")),
        (pods(of("security.istio.io/v1", "AuthorizationPolicy", json!({}))), Some("lds")),
        (
            pods(of(networking, "DestinationRule", json!({"workloadSelector": {"matchLabels": {"a": "b"}}}))),
            Some("cds"),
        ),
        (pods(of("telemetry.istio.io/v1", "Telemetry", json!({}))), None),
    ] {
        assert_eq!(content::types(&expected), types, "{}", expected.target.kind);
    }
}

#[test]
fn only_who_may_be_concerned_is_looked_at() {
    let readers = crate::dialect::Readers { within: None, except: vec!["batch".into()] };
    let others = Expected { readers, ..expected(None, Vec::new(), false) };
    let pod = crate::proof::CohortPod { proxy: "cart-0.batch".into(), cohort: "canary".into(), ready: true };
    let known = crate::proof::Cohorts { key: "cohort".into(), pods: vec![pod] };
    let pods = Expected { cohorts: Some(known), ..others.clone() };
    for (name, expected, is_one) in [
        ("cart-0.shop", &others, true),
        ("cart-0.batch", &others, false),
        ("cart-0.shop", &pods, false),
        ("cart-0.batch", &pods, true),
    ] {
        assert_eq!(is_looked_at(name, expected), is_one, "{name}");
    }
}
