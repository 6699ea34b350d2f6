//! What decides, in which order, and what cannot be told.

use serde_json::json;

use super::*;

fn read(object: &Value) -> Result<Policy, Invalid> {
    Policy::new(object, &TrustDomains::default())
}

fn policy(name: &str, spec: Value) -> Policy {
    read(&json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})).unwrap()
}

fn workload() -> Workload {
    Workload { namespace: "shop".into(), labels: BTreeMap::from([("app".into(), "cart".into())]) }
}

fn call(method: &str, path: &str) -> Call {
    Call {
        principal: "cluster.local/ns/web/sa/front".to_owned().into(),
        source_ip: "10.1.2.3".parse::<IpAddr>().unwrap().into(),
        remote_ip: "203.0.113.9".parse::<IpAddr>().unwrap().into(),
        destination_ip: "10.9.9.9".parse::<IpAddr>().unwrap().into(),
        port: 8080.into(),
        sni: Fact::Absent,
        host: "Cart.example.com".to_owned().into(),
        method: method.to_owned().into(),
        path: path.to_owned().into(),
        headers: BTreeMap::from([("x-team".into(), "red".into())]),
        all_headers: true,
        token: Token {
            claims: json!({"iss": "https://issuer/a", "sub": "ann", "aud": ["one", "two"], "azp": "app",
                                      "scope": "read write", "role": "a b", "realm": {"roles": ["admin"]}}),
        }
        .into(),
    }
}

fn meets(rule: Value, call: &Call) -> Option<bool> {
    policy("p", json!({"rules": [rule]})).meets(call)
}

#[test]
fn every_field_and_condition_is_read_as_envoy_does() {
    let from = |name: &str, value: &str| json!({"from": [{"source": {name: [value]}}]});
    let to = |name: &str, value: &str| json!({"to": [{"operation": {name: [value]}}]});
    let when = |key: &str, value: &str| json!({"when": [{"key": key, "values": [value]}]});
    let call = call("GET", "/cart/7/items");
    for (rule, met) in [
        (from("principals", "cluster.local/ns/web/sa/front"), true),
        (from("principals", "cluster.local/ns/web/*"), true),
        (from("principals", "*/sa/front"), true),
        (from("principals", "*"), true),
        (from("principals", "spiffe://cluster.local/ns/web/sa/front"), false),
        (from("namespaces", "web"), true),
        (from("namespaces", "we"), false),
        (from("namespaces", "w*"), true),
        (from("serviceAccounts", "web/front"), true),
        (from("serviceAccounts", "front"), false),
        (from("trustDomains", "cluster.local"), true),
        (from("trustDomains", "*.local"), true),
        (from("ipBlocks", "10.1.0.0/16"), true),
        (from("ipBlocks", "10.1.2.3"), true),
        (from("notIpBlocks", "10.1.0.0/16"), false),
        (from("remoteIpBlocks", "203.0.113.0/24"), true),
        (from("remoteIpBlocks", "0.0.0.0/0"), true),
        (from("remoteIpBlocks", "::/0"), false),
        (from("requestPrincipals", "https://issuer/a/ann"), true),
        (from("requestPrincipals", "https://issuer/a/*"), true),
        (from("requestPrincipals", "*/ann"), true),
        (from("requestPrincipals", "*"), true),
        (from("notRequestPrincipals", "*"), false),
        (to("hosts", "cart.EXAMPLE.com"), true),
        (to("hosts", "*.example.com"), true),
        (to("hosts", "cart.example.com:*"), false),
        (to("methods", "GET"), true),
        (to("methods", "get"), false),
        (to("paths", "/cart/*"), true),
        (to("paths", "*/items"), true),
        (to("paths", "/cart/{*}/items"), true),
        (to("paths", "/{**}/items"), true),
        (to("paths", "/cart/{*}"), false),
        (to("notPaths", "/admin*"), true),
        (to("ports", "8080"), true),
        (to("notPorts", "8080"), false),
        (when("request.headers[X-Team]", "red"), true),
        (when("request.headers[x-other]", "*"), false),
        (when("source.ip", "10.0.0.0/8"), true),
        (when("destination.ip", "10.9.9.9"), true),
        (when("destination.port", "8080"), true),
        (when("connection.sni", "*"), false),
        (when("request.auth.audiences", "two"), true),
        (when("request.auth.presenter", "app"), true),
        (when("request.auth.claims[scope]", "write"), true),
        (when("request.auth.claims[role]", "a"), false),
        (when("request.auth.claims[role]", "a b"), true),
        (when("request.auth.claims[realm][roles]", "admin"), true),
        (when("request.auth.claims[realm][roles]", "user"), false),
        (json!({"when": [{"key": "request.headers[x-other]", "notValues": ["*"]}]}), true),
        (json!({"from": [{"source": {"namespaces": ["web"], "notPrincipals": ["*/sa/front"]}}]}), false),
        (json!({}), true),
        (json!({"to": [{"operation": {"methods": ["PUT"]}}, {"operation": {"paths": ["/cart*"]}}]}), true),
    ] {
        assert_eq!(meets(rule.clone(), &call), Some(met), "{rule}");
    }
}

#[test]
fn actions_are_asked_in_their_order() {
    let rule = |path: &str| json!([{"to": [{"operation": {"paths": [path]}}]}]);
    let allow = policy("allow", json!({"rules": rule("/cart*")}));
    let deny = policy("deny", json!({"action": "DENY", "rules": rule("/cart/secret")}));
    let custom = policy("ask", json!({"action": "CUSTOM", "rules": rule("/cart/ask")}));
    let audit = policy("audit", json!({"action": "AUDIT", "rules": [{}]}));
    let nothing = policy("nothing", json!({}));
    let other = policy("other", json!({"selector": {"matchLabels": {"app": "pay"}}}));
    let dry = read(&json!({"metadata": {"namespace": "shop", "name": "dry",
        "annotations": {"istio.io/dry-run": "true"}}, "spec": {"action": "DENY", "rules": [{}]}}))
    .unwrap();
    let root = read(&json!({"metadata": {"namespace": "istio-system", "name": "all"}, "spec": {}})).unwrap();
    let name = |name: &str| format!("shop/{name}");
    for (policies, path, expected) in [
        (vec![], "/", Decision::Allowed(vec![])),
        (vec![&audit, &other, &dry], "/", Decision::Allowed(vec![])),
        (vec![&deny], "/", Decision::Allowed(vec![])),
        (vec![&deny], "/cart/secret", Decision::Denied(Some(name("deny")))),
        (vec![&allow, &deny], "/cart/secret", Decision::Denied(Some(name("deny")))),
        (vec![&allow, &deny], "/cart/x", Decision::Allowed(vec![name("allow")])),
        (vec![&allow], "/x", Decision::Denied(None)),
        (vec![&nothing], "/", Decision::Denied(None)),
        (vec![&nothing, &allow], "/cart", Decision::Allowed(vec![name("allow")])),
        (vec![&root], "/", Decision::Denied(None)),
        (vec![&custom, &allow], "/cart/ask", Decision::Asked(name("ask"))),
        (vec![&custom, &allow], "/cart/x", Decision::Allowed(vec![name("allow")])),
    ] {
        let policies: Vec<_> = policies.into_iter().cloned().collect();
        assert_eq!(decide(&policies, "istio-system", &workload(), &call("GET", path)), expected, "{path}");
    }
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let unknown_path = Call { path: Fact::Unknown, ..call("GET", "") };
    let rule = |method: &str, path: &str| json!([{"to": [{"operation": {"methods": [method], "paths": [path]}}]}]);
    let allow = |method| policy("allow", json!({"rules": rule(method, "/a")}));
    let deny = |method| policy("deny", json!({"action": "DENY", "rules": rule(method, "/a")}));
    let everything = policy("everything", json!({"rules": [{}]}));
    let decided = |policies: &[Policy]| decide(policies, "istio-system", &workload(), &unknown_path);
    assert_eq!(decided(&[allow("GET")]), Decision::Depends("shop/allow".into()));
    assert_eq!(decided(&[allow("PUT")]), Decision::Denied(None), "the method alone settles it");
    assert_eq!(decided(&[allow("GET"), everything.clone()]), Decision::Allowed(vec!["shop/everything".into()]));
    assert_eq!(decided(&[deny("GET"), everything.clone()]), Decision::Depends("shop/deny".into()));
    assert_eq!(decided(&[deny("PUT"), everything]), Decision::Allowed(vec!["shop/everything".into()]));
    assert_eq!(decided(&[deny("GET"), allow("PUT")]), Decision::Denied(None), "denied either way");
    let headless = Call { all_headers: false, ..call("GET", "/") };
    assert_eq!(meets(json!({"when": [{"key": "request.headers[x-a]", "values": ["1"]}]}), &headless), None);
    assert_eq!(meets(json!({"when": [{"key": "experimental.envoy.filters.a[b]", "values": ["1"]}]}), &headless), None);
}

#[test]
fn what_has_no_meaning_is_named() {
    for (spec, why) in [
        (json!({"action": "MAYBE"}), "\"MAYBE\" is no action"),
        (json!({"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.0/33"]}}]}]}), "longer than 32"),
        (json!({"rules": [{"to": [{"operation": {"ports": ["http"]}}]}]}), "\"http\" is no port"),
        (json!({"rules": [{"when": [{"key": "request.size", "values": ["1"]}]}]}), "no condition that is known"),
    ] {
        let error = read(&json!({"metadata": {"namespace": "shop", "name": "p"}, "spec": spec})).unwrap_err();
        assert!(error.to_string().contains(why) && error.name == "shop/p", "{error}");
    }
}

/// In a mesh that was renamed, a policy that was written before goes on meaning the same callers, and nobody else.
#[test]
fn principals_are_those_of_the_mesh() {
    let mesh = json!({"trustDomain": "new.example", "trustDomainAliases": ["old.example"]});
    let trust = TrustDomains::of_mesh(&mesh);
    let meets = |rule: Value, principal: &str| {
        let object = json!({"metadata": {"namespace": "shop", "name": "p"}, "spec": {"rules": [rule]}});
        let call = Call { principal: principal.to_owned().into(), ..Call::default() };
        Policy::new(&object, &trust).unwrap().meets(&call)
    };
    let from = |name: &str, value: &str| json!({"from": [{"source": {name: [value]}}]});
    let when = |key: &str, field: &str, value: &str| json!({"when": [{"key": key, field: [value]}]});
    let (principal, front) = ("source.principal", "cluster.local/ns/web/sa/front");
    for (rule, [new, old, local]) in [
        (from("principals", front), [true, true, false]),
        (from("notPrincipals", front), [false, false, true]),
        (when(principal, "values", "old.example/ns/web/sa/front"), [true, true, false]),
        (when(principal, "notValues", "old.example/ns/web/sa/front"), [false, false, true]),
        (from("principals", "cluster.local/ns/web/*"), [false, false, true]),
        (from("principals", "*/ns/web/sa/front"), [true, true, true]),
        (from("trustDomains", "old.example"), [true, true, false]),
        (from("notTrustDomains", "old.example"), [false, false, true]),
        (from("namespaces", "web"), [true, true, true]),
        (from("serviceAccounts", "web/front"), [true, true, true]),
    ] {
        for (domain, expected) in [("new.example", new), ("old.example", old), ("cluster.local", local)] {
            let met = meets(rule.clone(), &format!("{domain}/ns/web/sa/front"));
            assert_eq!(met, Some(expected), "{domain} by {rule}");
        }
    }
}
