//! AuthorizationPolicy, RequestAuthentication, PeerAuthentication, Telemetry and extensions.

use serde_json::{Value, json};

use super::{hits_of, hits_of_object};

const SECURITY: &str = "security.istio.io/v1";
const EXTENSIONS: &str = "extensions.istio.io/v1alpha1";

/// A rule and a path below `spec`, or nothing at all.
type Expected = Option<(&'static str, &'static str)>;

fn expect(group: &str, kind: &str, spec: &Value, expected: Expected) {
    let expected: Vec<_> = expected.iter().map(|(id, path)| (*id, format!("spec{path}"))).collect();
    assert_eq!(hits_of(group, kind, spec), expected, "{kind}: {spec}");
}

#[test]
fn authorization_policies() {
    let from = |source: Value| json!({"rules": [{"from": [{"source": source}]}]});
    let to = |operation: Value| json!({"rules": [{"to": [{"operation": operation}]}]});
    let when = |key: &str, values: Value| json!({"rules": [{"when": [{"key": key, "values": values}]}]});
    let custom = |rule: Value| json!({"action": "CUSTOM", "provider": {"name": "p"}, "rules": [rule]});
    for (spec, expected) in [
        (json!({}), None),
        (json!({"rules": []}), None),
        (from(json!({"principals": ["a"], "ipBlocks": ["1.1.1.1", "fd00::/8"]})), None),
        (from(json!({"serviceAccounts": ["a", "b/c"]})), None),
        (to(json!({"paths": ["/a*", "/{*}/b/{**}"], "ports": ["0", "80"]})), None),
        (when("request.auth.claims[a][b]", json!(["x"])), None),
        (custom(json!({})), None),
        (json!({"action": "DENY"}), Some(("MW3130", ".rules"))),
        (json!({"action": "CUSTOM", "rules": [{}]}), Some(("MW3130", ".provider.name"))),
        (json!({"provider": {"name": "a"}}), Some(("MW3130", ".provider"))),
        (
            custom(json!({"from": [{"source": {"namespaces": ["a"]}}]})),
            Some(("MW3131", ".rules[0].from[0].source.namespaces")),
        ),
        (
            custom(json!({"when": [{"key": "request.auth.claims[a]", "values": ["b"]}]})),
            Some(("MW3131", ".rules[0].when[0].key")),
        ),
        (json!({"rules": [{"from": [{}]}]}), Some(("MW3132", ".rules[0].from[0].source"))),
        (to(json!({})), Some(("MW3132", ".rules[0].to[0].operation"))),
        (to(json!({"methods": []})), Some(("MW3132", ".rules[0].to[0].operation"))),
        (from(json!({"principals": ["a", ""]})), Some(("MW3133", ".rules[0].from[0].source.principals[1]"))),
        (to(json!({"hosts": [""]})), Some(("MW3133", ".rules[0].to[0].operation.hosts[0]"))),
        (to(json!({"paths": ["/{a}"]})), Some(("MW3133", ".rules[0].to[0].operation.paths[0]"))),
        (to(json!({"paths": ["/{**}/{*}"]})), Some(("MW3133", ".rules[0].to[0].operation.paths[0]"))),
        (to(json!({"paths": ["/{*}/*"]})), Some(("MW3133", ".rules[0].to[0].operation.paths[0]"))),
        (from(json!({"serviceAccounts": ["a/b/c"]})), Some(("MW3133", ".rules[0].from[0].source.serviceAccounts[0]"))),
        (from(json!({"ipBlocks": ["x"]})), Some(("MW3165", ".rules[0].from[0].source.ipBlocks[0]"))),
        (to(json!({"ports": ["65536"]})), Some(("MW3163", ".rules[0].to[0].operation.ports[0]"))),
        (when("", json!(["x"])), Some(("MW3134", ".rules[0].when[0].key"))),
        (when("source.ip", json!([])), Some(("MW3134", ".rules[0].when[0]"))),
        (when("key1", json!(["x"])), Some(("MW3134", ".rules[0].when[0].key"))),
        (when("request.headers[]", json!(["x"])), Some(("MW3134", ".rules[0].when[0].key"))),
        (when("request.headers[a]", json!([""])), Some(("MW3134", ".rules[0].when[0].values[0]"))),
        (when("source.ip", json!(["a.b"])), Some(("MW3165", ".rules[0].when[0].values[0]"))),
        (when("destination.port", json!(["x"])), Some(("MW3163", ".rules[0].when[0].values[0]"))),
        (
            from(json!({"serviceAccounts": ["a"], "namespaces": ["b"]})),
            Some(("MW3135", ".rules[0].from[0].source.serviceAccounts")),
        ),
        (
            json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}),
            Some(("MW3136", ".rules[0]")),
        ),
        (json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"], "ports": ["1"]}}]}]}), None),
    ] {
        expect(SECURITY, "AuthorizationPolicy", &spec, expected);
    }
}

#[test]
fn attachments_and_annotations() {
    let target = |target: Value| json!({"targetRefs": [target]});
    for (spec, expected) in [
        (target(json!({"kind": "Service", "name": "a"})), None),
        (target(json!({"group": "core", "kind": "Service", "name": "a"})), None),
        (target(json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "a"})), None),
        (json!({"selector": {"matchLabels": {"a": ""}}}), None),
        (target(json!({"kind": "Service"})), Some(("MW3169", ".targetRefs[0].name"))),
        (target(json!({"kind": "Gateway", "name": "a"})), Some(("MW3169", ".targetRefs[0].kind"))),
        (
            target(json!({"kind": "Service", "name": "a", "namespace": "b"})),
            Some(("MW3169", ".targetRefs[0].namespace")),
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}, "targetRef": {"kind": "Service", "name": "a"}}),
            Some(("MW3169", ".targetRef")),
        ),
        (json!({"selector": {"matchLabels": {"": "a"}}}), Some(("MW3167", ".selector.matchLabels[\"\"]"))),
        (json!({"selector": {"matchLabels": {"a*": "a"}}}), Some(("MW3167", ".selector.matchLabels.a*"))),
    ] {
        expect(SECURITY, "AuthorizationPolicy", &spec, expected);
    }
    let path = "metadata.annotations[\"istio.io/dry-run\"]";
    for (kind, spec, value, good) in [
        ("AuthorizationPolicy", json!({}), "true", true),
        ("AuthorizationPolicy", json!({}), "foo", false),
        ("AuthorizationPolicy", json!({"action": "AUDIT"}), "true", false),
        ("RequestAuthentication", json!({}), "true", false),
    ] {
        let object = json!({"metadata": {"annotations": {"istio.io/dry-run": value}}, "spec": spec});
        let expected = if good { vec![] } else { vec![("MW3173", path.to_owned())] };
        assert_eq!(hits_of_object(SECURITY, kind, &object), expected, "{object}");
    }
}

#[test]
fn authentication() {
    let jwt = |change: Value| {
        let mut rule = json!({"issuer": "a"});
        for (name, value) in change.as_object().expect("fields") {
            rule[name] = value.clone();
        }
        json!({"jwtRules": [rule]})
    };
    for (spec, expected) in [
        (jwt(json!({"jwksUri": "https://a.b/c", "timeout": "5s", "fromHeaders": [{"name": "a"}]})), None),
        (jwt(json!({"jwks": "{\"keys\":[]}"})), None),
        (jwt(json!({"issuer": ""})), Some(("MW3137", ".jwtRules[0]"))),
        (jwt(json!({"jwksUri": "a.b"})), Some(("MW3176", ".jwtRules[0].jwksUri"))),
        (jwt(json!({"jwksUri": "https://a:b"})), Some(("MW3176", ".jwtRules[0].jwksUri"))),
        (jwt(json!({"jwks": "foo"})), Some(("MW3138", ".jwtRules[0].jwks"))),
        (jwt(json!({"jwks": "{\"keys\":[]}", "jwksUri": "https://a"})), Some(("MW3137", ".jwtRules[0].jwks"))),
        (jwt(json!({"audiences": [""]})), Some(("MW3137", ".jwtRules[0].audiences[0]"))),
        (jwt(json!({"fromHeaders": [{}]})), Some(("MW3137", ".jwtRules[0].fromHeaders[0].name"))),
        (jwt(json!({"fromCookies": ["a", ""]})), Some(("MW3137", ".jwtRules[0].fromCookies[1]"))),
        (
            jwt(json!({"outputClaimToHeaders": [{"claim": "a"}]})),
            Some(("MW3137", ".jwtRules[0].outputClaimToHeaders[0]")),
        ),
        (
            jwt(json!({"outputClaimToHeaders": [{"claim": "a", "header": "a b"}]})),
            Some(("MW3177", ".jwtRules[0].outputClaimToHeaders[0].header")),
        ),
        (jwt(json!({"timeout": "apple"})), Some(("MW3160", ".jwtRules[0].timeout"))),
    ] {
        expect(SECURITY, "RequestAuthentication", &spec, expected);
    }
    let ports = json!({"80": {"mode": "STRICT"}});
    let selector = json!({"matchLabels": {"a": "b"}});
    for (spec, expected) in [
        (json!({"selector": selector, "portLevelMtls": ports}), None),
        (json!({"portLevelMtls": ports}), Some(("MW3139", ".portLevelMtls"))),
        (json!({"selector": selector, "portLevelMtls": {"65536": {}}}), Some(("MW3163", ".portLevelMtls.65536"))),
        (json!({"selector": selector, "portLevelMtls": {"x": {}}}), Some(("MW3163", ".portLevelMtls.x"))),
        (json!({"selector": selector, "portLevelMtls": {}}), Some(("MW3139", ".portLevelMtls"))),
    ] {
        expect(SECURITY, "PeerAuthentication", &spec, expected);
    }
}

#[test]
fn telemetry() {
    let tag = |change: Value| json!({"metrics": [{"overrides": [{"tagOverrides": {"t": change}}]}]});
    let filter = |text: &str| json!({"accessLogging": [{"filter": {"expression": text}}]});
    for (spec, expected) in [
        (tag(json!({"value": "a"})), None),
        (tag(json!({"operation": "REMOVE"})), None),
        (filter("response.code >= 400"), None),
        (tag(json!({})), Some(("MW3156", ".metrics[0].overrides[0].tagOverrides.t.value"))),
        (
            tag(json!({"operation": "REMOVE", "value": "a"})),
            Some(("MW3156", ".metrics[0].overrides[0].tagOverrides.t.value")),
        ),
        (filter(")++++"), Some(("MW3157", ".accessLogging[0].filter.expression"))),
        (json!({"metrics": [{"reportingInterval": "0s"}]}), Some(("MW3160", ".metrics[0].reportingInterval"))),
        (json!({"tracing": [{"providers": [{}]}]}), Some(("MW3158", ".tracing[0].providers[0].name"))),
        (
            json!({"tracing": [{"customTags": {"t": {"literal": {}}}}]}),
            Some(("MW3158", ".tracing[0].customTags.t.literal.value")),
        ),
        (
            json!({"tracing": [{"randomSamplingPercentage": 101}]}),
            Some(("MW3158", ".tracing[0].randomSamplingPercentage")),
        ),
        (json!({"tracing": [{}, {}]}), Some(("MW3159", ".tracing[1]"))),
    ] {
        expect("telemetry.istio.io/v1", "Telemetry", &spec, expected);
    }
}

#[test]
fn extensions() {
    let plugin = |change: Value| {
        let mut spec = json!({"url": "oci://a/b"});
        for (name, value) in change.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        spec
    };
    let variable = |variable: Value| plugin(json!({"vmConfig": {"env": [{"name": "a"}, variable]}}));
    for (spec, expected) in [
        (plugin(json!({"sha256": "0".repeat(64)})), None),
        (plugin(json!({"url": "a.b/c"})), None),
        (plugin(json!({"url": ""})), Some(("MW3176", ".url"))),
        (plugin(json!({"url": "ftp://a"})), Some(("MW3176", ".url"))),
        (plugin(json!({"sha256": "0"})), Some(("MW3178", ".sha256"))),
        (plugin(json!({"sha256": "A".repeat(64)})), Some(("MW3178", ".sha256"))),
        (plugin(json!({"pluginName": "a".repeat(257)})), Some(("MW3178", ".pluginName"))),
        (variable(json!({"name": "a"})), Some(("MW3178", ".vmConfig.env[1].name"))),
        (variable(json!({})), Some(("MW3178", ".vmConfig.env[1].name"))),
        (variable(json!({"name": "b", "valueFrom": "HOST", "value": "c"})), Some(("MW3178", ".vmConfig.env[1].value"))),
        (plugin(json!({"match": [{"ports": [{"number": 0}]}]})), Some(("MW3163", ".match[0].ports[0].number"))),
    ] {
        expect(EXTENSIONS, "WasmPlugin", &spec, expected);
    }
    for (spec, expected) in [
        (json!({"wasm": {"url": "oci://a"}}), None),
        (json!({"lua": {"inlineCode": "x"}}), None),
        (json!({}), Some(("MW3178", ""))),
        (json!({"wasm": {"url": "oci://a"}, "lua": {"inlineCode": "x"}}), Some(("MW3178", ""))),
        (json!({"lua": {}}), Some(("MW3178", ".lua.inlineCode"))),
        (json!({"wasm": {"url": "ftp://a"}}), Some(("MW3176", ".wasm.url"))),
    ] {
        expect(EXTENSIONS, "TrafficExtension", &spec, expected);
    }
}
