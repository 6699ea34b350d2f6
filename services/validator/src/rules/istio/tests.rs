use meshward_model::ObjectRef;
use serde_json::{Value, json};

use crate::rules::{Object, catalogue, check};

mod networking;
mod security;

fn hits(kind: &str, spec: &Value) -> Vec<(&'static str, String)> {
    hits_of("networking.istio.io/v1", kind, spec)
}

fn hits_of(api_version: &str, kind: &str, spec: &Value) -> Vec<(&'static str, String)> {
    hits_of_object(api_version, kind, &json!({"spec": spec}))
}

fn hits_of_object(api_version: &str, kind: &str, object: &Value) -> Vec<(&'static str, String)> {
    let head = ObjectRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: "checkout".to_owned(),
    };
    let hits = check(&Object { head: &head, value: object }).expect("rules for the kind");
    assert!(hits.iter().all(|hit| catalogue::ALL.contains(&hit.rule) && !hit.message.is_empty()));
    hits.into_iter().map(|hit| (hit.rule.id, hit.path.to_string())).collect()
}

/// A VirtualService with one HTTP route, to which a field is added.
fn route(field: &str, value: Value) -> Vec<(&'static str, String)> {
    let mut route = json!({"route": [{"destination": {"host": "checkout"}}]});
    if ["redirect", "directResponse", "delegate"].contains(&field) {
        route = json!({});
    }
    route[field] = value;
    hits("VirtualService", &json!({"hosts": ["checkout"], "http": [route]}))
}

fn policy(value: Value) -> Vec<(&'static str, String)> {
    hits("DestinationRule", &json!({"host": "checkout", "trafficPolicy": value}))
}

#[test]
fn routes_that_istio_takes_have_no_hits() {
    for (field, value) in [
        ("timeout", json!("10s")),
        ("match", json!([{"uri": {"prefix": ""}, "headers": {"x-user": {"exact": "a"}}}])),
        ("retries", json!({"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,reset,503"})),
        ("redirect", json!({"uri": "/x", "redirectCode": 308})),
        ("directResponse", json!({"status": 503, "body": {"string": "later"}})),
        ("fault", json!({"abort": {"httpStatus": 503, "percentage": {"value": 10}}, "delay": {"fixedDelay": "5s"}})),
        ("mirrorPercentage", json!({"value": 100})),
        ("rewrite", json!({"uriRegexRewrite": {"match": "^/a/(.*)", "rewrite": "/\\1"}})),
        ("headers", json!({"request": {"set": {"x-a": "%REQ(X)%"}, "remove": ["x-b"]}})),
        ("corsPolicy", json!({"allowOrigins": [{"exact": "*"}], "allowMethods": ["GET"], "maxAge": "24h"})),
    ] {
        assert_eq!(route(field, value.clone()), [], "{field}: {value}");
    }
}

#[test]
fn every_rule_of_an_http_route() {
    let at = "spec.http[0]";
    for (field, value, id, path) in [
        ("redirect", json!({"uri": "/", "redirectCode": 200}), "MW3114", ".redirect.redirectCode"),
        ("redirect", json!({}), "MW3114", ".redirect"),
        ("redirect", json!({"uri": "/", "prefixRewrite": "/"}), "MW3114", ".redirect.prefixRewrite"),
        ("redirect", json!({"scheme": "ftp"}), "MW3114", ".redirect.scheme"),
        ("directResponse", json!({"status": 99}), "MW3113", ".directResponse.status"),
        ("route", json!([]), "MW3107", ""),
        ("route", json!([{"destination": {"host": "a"}, "weight": -1}]), "MW3109", ".route[0].weight"),
        ("route", json!([{"destination": {"host": "a"}, "weight": 3_000_000_000_u64}]), "MW3109", ".route[0].weight"),
        ("route", json!([{"destination": {"host": "a"}}, {"destination": {"host": "b"}}]), "MW3110", ".route"),
        ("route", json!([{"destination": {"host": "*"}}]), "MW3108", ".route[0].destination.host"),
        ("route", json!([{"weight": 1}]), "MW3108", ".route[0].destination"),
        (
            "route",
            json!([{"destination": {"host": "a", "port": {"number": 0}}}]),
            "MW3163",
            ".route[0].destination.port.number",
        ),
        ("route", json!([{"destination": {"host": "a", "subset": "v_1"}}]), "MW3164", ".route[0].destination.subset"),
        ("timeout", json!("0s"), "MW3160", ".timeout"),
        ("timeout", json!("10"), "MW3160", ".timeout"),
        ("timeout", json!("1500us"), "MW3160", ".timeout"),
        ("retries", json!({"attempts": -1}), "MW3116", ".retries.attempts"),
        ("retries", json!({"retryOn": "5xx"}), "MW3116", ".retries"),
        ("retries", json!({"attempts": 1, "retryOn": "5xx,nonsense"}), "MW3117", ".retries.retryOn"),
        ("retries", json!({"attempts": 1, "perTryTimeout": "x"}), "MW3160", ".retries.perTryTimeout"),
        ("fault", json!({}), "MW3112", ".fault"),
        ("fault", json!({"abort": {"httpStatus": 700}}), "MW3113", ".fault.abort.httpStatus"),
        ("fault", json!({"abort": {"grpcStatus": "NOPE"}}), "MW3113", ".fault.abort.grpcStatus"),
        ("fault", json!({"abort": {}}), "MW3129", ".fault.abort"),
        ("fault", json!({"delay": {"percentage": {"value": 101}}}), "MW3111", ".fault.delay.percentage.value"),
        (
            "fault",
            json!({"abort": {"httpStatus": 500, "percentage": {"value": 0.00001}}}),
            "MW3111",
            ".fault.abort.percentage.value",
        ),
        ("mirrorPercentage", json!({"value": 101}), "MW3111", ".mirrorPercentage.value"),
        ("mirrorPercent", json!(50), "MW3128", ".mirrorPercent"),
        ("mirrors", json!([{}]), "MW3108", ".mirrors[0].destination"),
        ("rewrite", json!({}), "MW3115", ".rewrite"),
        ("rewrite", json!({"uriRegexRewrite": {"match": "a"}}), "MW3115", ".rewrite.uriRegexRewrite"),
        (
            "rewrite",
            json!({"uriRegexRewrite": {"match": "[", "rewrite": "a"}}),
            "MW3161",
            ".rewrite.uriRegexRewrite.match",
        ),
        ("match", json!([{"uri": {"regex": "("}}]), "MW3161", ".match[0].uri.regex"),
        ("match", json!([{"uri": {"regex": "a".repeat(1025)}}]), "MW3161", ".match[0].uri.regex"),
        ("match", json!([{"method": {"prefix": ""}}]), "MW3118", ".match[0].method.prefix"),
        ("match", json!([{"headers": {"a b": {"exact": "x"}}}]), "MW3119", ".match[0].headers[\"a b\"]"),
        (
            "match",
            json!([{"headers": {"@request.auth.claims.a": {"exact": "x"}}}]),
            "MW3125",
            ".match[0].headers[\"@request.auth.claims.a\"]",
        ),
        ("match", json!([{"port": 70000}]), "MW3163", ".match[0].port"),
        ("match", json!([{"sourceNamespace": "A_B"}]), "MW3164", ".match[0].sourceNamespace"),
        ("match", json!([{"sourceLabels": {"a": "b c"}}]), "MW3164", ".match[0].sourceLabels.a"),
        ("headers", json!({"request": {"set": {":path": "x"}}}), "MW3119", ".headers.request.set.:path"),
        ("headers", json!({"request": {"set": {"x": "100%"}}}), "MW3120", ".headers.request.set.x"),
        (
            "headers",
            json!({"request": {"set": {"host": "a", ":authority": "b"}}}),
            "MW3121",
            ".headers.request.set.host",
        ),
        ("corsPolicy", json!({"allowOrigins": [{}]}), "MW3122", ".corsPolicy.allowOrigins[0]"),
        ("corsPolicy", json!({"allowMethods": ["get"]}), "MW3122", ".corsPolicy.allowMethods[0]"),
        ("corsPolicy", json!({"maxAge": "1500ms"}), "MW3122", ".corsPolicy.maxAge"),
        ("delegate", json!({"name": "x"}), "", ""),
    ] {
        let expected = if id.is_empty() { vec![] } else { vec![(id, format!("{at}{path}"))] };
        assert_eq!(route(field, value.clone()), expected, "{field}: {value}");
    }
}

#[test]
fn actions_exclude_each_other() {
    let mut route =
        json!({"route": [{"destination": {"host": "a"}}], "redirect": {"uri": "/"}, "fault": {"delay": {}}});
    let virtual_service = |route: &Value| hits("VirtualService", &json!({"hosts": ["a"], "http": [route]}));
    let conflict = |field: &str| ("MW3106", format!("spec.http[0].{field}"));
    assert_eq!(virtual_service(&route), [conflict("route"), conflict("fault")]);
    route = json!({"route": [{"destination": {"host": "a"}}], "delegate": {"name": "b"}});
    assert_eq!(virtual_service(&route), [conflict("route")]);
    route = json!({"route": [{"destination": {"host": "a"}}], "mirror": {"host": "b"}, "mirrors": [{"destination": {"host": "c"}}]});
    assert_eq!(virtual_service(&route), [conflict("mirrors")]);
}

#[test]
fn the_top_of_a_virtual_service() {
    let http = json!([{"route": [{"destination": {"host": "a"}}]}]);
    for (spec, id, path) in [
        (json!({"hosts": ["*"], "http": http}), "MW3103", "spec.hosts[0]"),
        (json!({"hosts": ["*"], "gateways": ["a/b"], "http": http}), "", ""),
        (json!({"hosts": ["a_b"], "http": http}), "MW3102", "spec.hosts[0]"),
        (json!({"hosts": ["10.0.0.1"], "http": http}), "", ""),
        (json!({"hosts": ["*.foo.bar", "*.bar"], "http": http}), "MW3104", "spec.hosts[0]"),
        (json!({"hosts": ["a", "a"], "http": http}), "MW3104", "spec.hosts[1]"),
        (json!({"hosts": ["a", "*.b", "x.b"], "http": http}), "MW3104", "spec.hosts[2]"),
        (json!({"hosts": ["a", "b"], "http": http}), "", ""),
        (json!({"hosts": ["a"]}), "MW3105", "spec"),
        (json!({"hosts": ["a"], "gateways": ["a/b/c"], "http": http}), "MW3123", "spec.gateways[0]"),
        (json!({"hosts": ["a"], "gateways": ["b.a"], "http": http}), "MW3128", "spec.gateways[0]"),
        (json!({"http": http, "gateways": ["a/b"]}), "MW3101", "spec.gateways"),
        (json!({"hosts": ["a"], "http": [http[0], http[0]]}), "MW3127", "spec.http[1]"),
        (json!({"hosts": ["a"], "http": http, "exportTo": ["*", "b"]}), "MW3162", "spec.exportTo"),
        (json!({"hosts": ["a"], "http": http, "exportTo": [".", "shop"]}), "MW3162", "spec.exportTo[1]"),
        (json!({"hosts": ["a"], "http": http, "exportTo": ["~"]}), "MW3162", "spec.exportTo[0]"),
        (json!({"hosts": ["a"], "tcp": [{}]}), "MW3107", "spec.tcp[0].route"),
        (
            json!({"hosts": ["a"], "tcp": [{"match": [{"destinationSubnets": ["x"]}], "route": [{"destination": {"host": "a"}}]}]}),
            "MW3165",
            "spec.tcp[0].match[0].destinationSubnets[0]",
        ),
        (
            json!({"hosts": ["a"], "tls": [{"match": [{"sniHosts": ["b"]}], "route": [{"destination": {"host": "a"}}]}]}),
            "MW3124",
            "spec.tls[0].match[0].sniHosts[0]",
        ),
        (
            json!({"hosts": ["*.a"], "tls": [{"match": [{"sniHosts": ["b.a"]}], "route": [{"destination": {"host": "a"}}]}]}),
            "",
            "",
        ),
    ] {
        let expected = if id.is_empty() { vec![] } else { vec![(id, path.to_owned())] };
        assert_eq!(hits("VirtualService", &spec), expected, "{spec}");
    }
}

#[test]
fn every_rule_of_a_traffic_policy() {
    let at = "spec.trafficPolicy";
    for (value, id, path) in [
        (json!({"loadBalancer": {"simple": "ROUND_ROBIN"}}), "", ""),
        (json!({"tls": {"mode": "ISTIO_MUTUAL"}}), "", ""),
        (json!({}), "MW3142", ""),
        (json!({"connectionPool": {}}), "MW3142", ".connectionPool"),
        (json!({"connectionPool": {"tcp": {"maxConnections": -1}}}), "MW3143", ".connectionPool.tcp.maxConnections"),
        (json!({"connectionPool": {"http": {"maxRetries": -1}}}), "MW3143", ".connectionPool.http.maxRetries"),
        (json!({"connectionPool": {"tcp": {"idleTimeout": "0s"}}}), "", ""),
        (json!({"connectionPool": {"tcp": {"connectTimeout": "0s"}}}), "MW3160", ".connectionPool.tcp.connectTimeout"),
        (
            json!({"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": true}}}),
            "MW3144",
            ".connectionPool.http.useClientProtocol",
        ),
        (
            json!({"connectionPool": {"http": {"http2KeepAlive": {"interval": "1s"}}}}),
            "MW3145",
            ".connectionPool.http.http2KeepAlive.timeout",
        ),
        (json!({"outlierDetection": {"maxEjectionPercent": 101}}), "MW3146", ".outlierDetection.maxEjectionPercent"),
        (
            json!({"outlierDetection": {"consecutiveLocalOriginFailures": 1}}),
            "MW3147",
            ".outlierDetection.consecutiveLocalOriginFailures",
        ),
        (json!({"outlierDetection": {"consecutiveErrors": 1}}), "MW3153", ".outlierDetection.consecutiveErrors"),
        (
            json!({"tls": {"mode": "MUTUAL", "clientCertificate": "a", "caCertificates": "b"}}),
            "MW3148",
            ".tls.privateKey",
        ),
        (
            json!({"tls": {"mode": "SIMPLE", "credentialName": "a", "caCertificates": "b"}}),
            "MW3148",
            ".tls.caCertificates",
        ),
        (
            json!({"tls": {"mode": "SIMPLE", "insecureSkipVerify": true, "caCertificates": "b"}}),
            "MW3148",
            ".tls.caCertificates",
        ),
        (json!({"tls": {"mode": "SIMPLE"}}), "MW3154", ".tls"),
        (json!({"portLevelSettings": [{"loadBalancer": {}}]}), "MW3149", ".portLevelSettings[0]"),
        (
            json!({"loadBalancer": {"consistentHash": {"httpCookie": {"ttl": "0s"}}}}),
            "MW3150",
            ".loadBalancer.consistentHash.httpCookie",
        ),
        (
            json!({"loadBalancer": {"consistentHash": {"maglev": {"tableSize": 1000}}}}),
            "MW3150",
            ".loadBalancer.consistentHash.maglev.tableSize",
        ),
        (
            json!({"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a/*", "to": {"b/*": 50}}]}}}),
            "MW3151",
            ".loadBalancer.localityLbSetting.distribute[0].to",
        ),
        (
            json!({"loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "b"}]}}}),
            "MW3155",
            ".loadBalancer.localityLbSetting",
        ),
        (json!({"loadBalancer": {"warmup": {}}}), "MW3150", ".loadBalancer.warmup.duration"),
        (json!({"tunnel": {"targetHost": "a", "targetPort": 0}}), "MW3152", ".tunnel.targetPort"),
        (json!({"tunnel": {"targetHost": "a", "targetPort": 1}, "proxyProtocol": {}}), "MW3144", ".proxyProtocol"),
    ] {
        let expected = if id.is_empty() { vec![] } else { vec![(id, format!("{at}{path}"))] };
        assert_eq!(policy(value.clone()), expected, "{value}");
    }
}

#[test]
fn the_top_of_a_destination_rule() {
    for (spec, id, path) in [
        (json!({"host": "a"}), "", ""),
        (json!({}), "MW3140", "spec.host"),
        (json!({"host": "a", "subsets": [{"name": "v1"}, {"name": "v1"}]}), "MW3141", "spec.subsets[1].name"),
        (json!({"host": "a", "subsets": [{"name": ""}]}), "MW3141", "spec.subsets[0].name"),
        (
            json!({"host": "a", "subsets": [{"name": "v1", "trafficPolicy": {}}]}),
            "MW3142",
            "spec.subsets[0].trafficPolicy",
        ),
        (
            json!({"host": "a", "workloadSelector": {"matchLabels": {"app": "a"}}, "exportTo": ["b"]}),
            "MW3162",
            "spec.exportTo",
        ),
    ] {
        let expected = if id.is_empty() { vec![] } else { vec![(id, path.to_owned())] };
        assert_eq!(hits("DestinationRule", &spec), expected, "{spec}");
    }
}
