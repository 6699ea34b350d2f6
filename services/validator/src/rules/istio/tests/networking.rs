//! Gateway, Sidecar, ServiceEntry, EnvoyFilter, workloads and ProxyConfig.

use serde_json::{Value, json};

use super::hits_of;

const GROUP: &str = "networking.istio.io/v1";

/// A port name that a Service may have, and a workload may not.
const LONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const LONG_AT: &str = ".ports.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A rule and a path below `spec`, or nothing at all.
type Expected = Option<(&'static str, &'static str)>;

fn expect(kind: &str, spec: &Value, expected: Expected) {
    let expected: Vec<_> = expected.iter().map(|(id, path)| (*id, format!("spec{path}"))).collect();
    let mut hits = hits_of(GROUP, kind, spec);
    // What nearly every EnvoyFilter and egressProxy gets has a table of its own.
    hits.retain(|(id, _)| !["MW3502", "MW3508", "MW3511"].contains(id));
    assert_eq!(hits, expected, "{kind}: {spec}");
}

#[test]
fn what_is_ignored_or_depends_on_the_order() {
    let filter = |target: &str, patch: Value| json!({"configPatches": [{"applyTo": target, "patch": patch}]});
    let remove = json!({"operation": "REMOVE"});
    let with = |operation: &str| json!({"operation": operation, "value": {"name": "a"}});
    let operation = "spec.configPatches[0].patch.operation";
    let versioned = json!({"configPatches": [
        {"applyTo": "HTTP_FILTER", "match": {"proxy": {"proxyVersion": "1"}}, "patch": with("INSERT_FIRST")},
        {"applyTo": "HTTP_FILTER", "patch": with("INSERT_AFTER")},
    ]});
    for (spec, id, path) in [
        (filter("HTTP_FILTER", remove.clone()), "MW3502", operation),
        (filter("HTTP_FILTER", with("INSERT_BEFORE")), "MW3502", operation),
        (filter("CLUSTER", with("REPLACE")), "MW3503", operation),
        (filter("HTTP_ROUTE", with("ADD")), "MW3504", operation),
        (filter("ROUTE_CONFIGURATION", remove.clone()), "MW3505", operation),
        (versioned, "MW3506", "spec.configPatches[1].patch.operation"),
        (filter("CLUSTER", remove), "MW3511", "kind"),
    ] {
        let hits = hits_of(GROUP, "EnvoyFilter", &spec);
        assert!(hits.contains(&(id, path.to_owned())), "{spec}: {hits:?}");
    }
    let mut prioritized = filter("HTTP_FILTER", with("INSERT_BEFORE"));
    prioritized["priority"] = json!(-1);
    assert_eq!(hits_of(GROUP, "EnvoyFilter", &prioritized), [("MW3511", "kind".to_owned())]);
    let proxy =
        json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": {"host": "a", "port": {"number": 1}}}});
    let ignored = ("MW3508", "spec.outboundTrafficPolicy.egressProxy".to_owned());
    assert_eq!(hits_of(GROUP, "Sidecar", &proxy), [ignored]);
}

/// A Gateway with one good server that is changed.
fn server(change: Value) -> Value {
    let mut server = json!({"hosts": ["a.b"], "port": {"number": 80, "name": "http", "protocol": "HTTP"}});
    for (name, value) in change.as_object().expect("fields") {
        server[name] = value.clone();
    }
    json!({"servers": [server]})
}

fn https(tls: Value) -> Value {
    server(json!({"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": tls}))
}

#[test]
fn gateways() {
    let tcp = json!({"number": 1, "name": "t", "protocol": "TCP"});
    for (spec, expected) in [
        (server(json!({})), None),
        (server(json!({"hosts": ["*", "./*", "ns/*.a.b", "10.0.0.1"]})), None),
        (server(json!({"tls": {"httpsRedirect": true}})), None),
        (server(json!({"bind": "unix:///a", "port": {"number": 0, "name": "a", "protocol": "HTTP"}})), None),
        (json!({}), Some(("MW3180", ".servers"))),
        (server(json!({"hosts": []})), Some(("MW3180", ".servers[0].hosts"))),
        (server(json!({"hosts": ["a"]})), Some(("MW3181", ".servers[0].hosts[0]"))),
        (server(json!({"hosts": ["a.b", "*a.b"]})), Some(("MW3181", ".servers[0].hosts[1]"))),
        (server(json!({"hosts": ["N_S/a.b"]})), Some(("MW3181", ".servers[0].hosts[0]"))),
        (server(json!({"port": null})), Some(("MW3182", ".servers[0].port"))),
        (server(json!({"port": {"number": 1, "protocol": "TCP"}})), Some(("MW3182", ".servers[0].port.name"))),
        (server(json!({"port": {"name": "a", "protocol": "TCP"}})), Some(("MW3163", ".servers[0].port"))),
        (
            server(json!({"port": {"number": 65536, "name": "a", "protocol": "TCP"}})),
            Some(("MW3163", ".servers[0].port.number")),
        ),
        (
            server(json!({"port": {"number": 1, "name": "a", "protocol": "FOO"}})),
            Some(("MW3170", ".servers[0].port.protocol")),
        ),
        (
            server(json!({"port": {"number": 1, "name": "a", "protocol": "TCP", "targetPort": 2}})),
            Some(("MW3182", ".servers[0].port.targetPort")),
        ),
        (server(json!({"bind": "a.b"})), Some(("MW3172", ".servers[0].bind"))),
        (server(json!({"bind": "unix:///a"})), Some(("MW3182", ".servers[0].port.number"))),
        (
            server(json!({"bind": "unix://a", "port": {"number": 0, "name": "a", "protocol": "HTTP"}})),
            Some(("MW3172", ".servers[0].bind")),
        ),
        (https(json!(null)), Some(("MW3183", ".servers[0]"))),
        (server(json!({"tls": {"mode": "SIMPLE", "credentialName": "a"}})), Some(("MW3183", ".servers[0].tls"))),
        (server(json!({"port": tcp, "tls": {"mode": "PASSTHROUGH"}})), Some(("MW3183", ".servers[0].tls"))),
    ] {
        expect("Gateway", &spec, expected);
    }
    let twice = json!({"servers": [server(json!({}))["servers"][0], server(json!({}))["servers"][0]]});
    expect("Gateway", &twice, Some(("MW3182", ".servers[1].port.name")));
}

#[test]
fn tls_of_servers() {
    let files = |mode: &str| json!({"mode": mode, "serverCertificate": "a", "privateKey": "b", "caCertificates": "c"});
    let with = |mut tls: Value, name: &str, value: Value| {
        tls[name] = value;
        https(tls)
    };
    let at = |path: &'static str| Some(("MW3174", path));
    for (spec, expected) in [
        (https(files("SIMPLE")), None),
        (https(files("MUTUAL")), None),
        (https(json!({"mode": "ISTIO_MUTUAL"})), None),
        (https(json!({"mode": "OPTIONAL_MUTUAL", "credentialNames": ["a", "b"]})), None),
        (https(json!({"mode": "PASSTHROUGH"})), None),
        (with(files("SIMPLE"), "privateKey", json!("")), at(".servers[0].tls.privateKey")),
        (with(files("SIMPLE"), "serverCertificate", json!("")), at(".servers[0].tls.serverCertificate")),
        (with(files("MUTUAL"), "caCertificates", json!("")), at(".servers[0].tls.caCertificates")),
        (with(files("SIMPLE"), "caCrl", json!("a")), at(".servers[0].tls.caCrl")),
        (with(files("MUTUAL"), "credentialName", json!("a")), at(".servers[0].tls.serverCertificate")),
        (
            https(json!({"mode": "SIMPLE", "credentialName": "a", "credentialNames": ["a"]})),
            at(".servers[0].tls.credentialNames"),
        ),
        (
            https(json!({"mode": "SIMPLE", "tlsCertificates": [{"serverCertificate": "a"}]})),
            at(".servers[0].tls.tlsCertificates[0].privateKey"),
        ),
        (https(json!({"mode": "ISTIO_MUTUAL", "credentialName": "a"})), at(".servers[0].tls.credentialName")),
        (https(json!({"mode": "PASSTHROUGH", "caCrl": "a", "credentialName": "b"})), at(".servers[0].tls.caCrl")),
        (
            https(json!({"mode": "PASSTHROUGH", "credentialName": "a"})),
            Some(("MW3175", ".servers[0].tls.credentialName")),
        ),
        (
            with(files("SIMPLE"), "cipherSuites", json!(["AES128-SHA", "AES128-SHA"])),
            Some(("MW3175", ".servers[0].tls.cipherSuites[1]")),
        ),
        (
            with(files("SIMPLE"), "minProtocolVersion", json!("TLSV1_0")),
            Some(("MW3175", ".servers[0].tls.minProtocolVersion")),
        ),
        (with(files("SIMPLE"), "httpsRedirect", json!(true)), Some(("MW3175", ".servers[0].tls.httpsRedirect"))),
    ] {
        expect("Gateway", &spec, expected);
    }
}

#[test]
fn sidecars() {
    let port = json!({"number": 80, "protocol": "HTTP", "name": "http"});
    let ingress = |change: Value| {
        let mut listener = json!({"port": port, "defaultEndpoint": "127.0.0.1:8080"});
        for (name, value) in change.as_object().expect("fields") {
            listener[name] = value.clone();
        }
        json!({"ingress": [listener]})
    };
    let egress = |listener: Value| json!({"egress": [listener]});
    let proxy = |proxy: Value| json!({"outboundTrafficPolicy": {"mode": "ALLOW_ANY", "egressProxy": proxy}});
    for (spec, expected) in [
        (egress(json!({"hosts": ["./*", "~/*", "~a/*", "ns/a.b"]})), None),
        (ingress(json!({"defaultEndpoint": "unix:///a"})), None),
        (ingress(json!({"defaultEndpoint": "[::1]:1"})), None),
        (proxy(json!({"host": "a.b", "port": {"number": 1}})), None),
        (json!({}), Some(("MW3184", ""))),
        (
            json!({"workloadSelector": {"labels": {"a": "*"}}, "egress": [{"hosts": ["./*"]}]}),
            Some(("MW3167", ".workloadSelector.labels.a")),
        ),
        (egress(json!({"hosts": []})), Some(("MW3185", ".egress[0].hosts"))),
        (egress(json!({"hosts": ["a.b"]})), Some(("MW3185", ".egress[0].hosts[0]"))),
        (egress(json!({"hosts": ["./*", "./a.b"]})), Some(("MW3189", ".egress[0].hosts[1]"))),
        (egress(json!({"hosts": ["*/*", "a/b.c"]})), Some(("MW3189", ".egress[0].hosts"))),
        (json!({"egress": [{"hosts": ["./*"]}, {"hosts": ["./*"]}]}), Some(("MW3186", ".egress[0]"))),
        (egress(json!({"port": {"number": 0}, "hosts": ["./*"]})), Some(("MW3186", ".egress[0].bind"))),
        (
            egress(json!({"port": {"number": 0}, "bind": "unix:///a", "captureMode": "IPTABLES", "hosts": ["./*"]})),
            Some(("MW3186", ".egress[0].captureMode")),
        ),
        (
            json!({"egress": [{"port": {"number": 1}, "hosts": ["./*"]}, {"port": {"number": 1}, "hosts": ["./*"]}]}),
            Some(("MW3186", ".egress[1].port.number")),
        ),
        (
            json!({"egress": [
                {"port": {"number": 0}, "bind": "unix:///a", "hosts": ["./*"]},
                {"port": {"number": 0}, "bind": "unix:///a", "hosts": ["./*"]},
            ]}),
            Some(("MW3186", ".egress[1].bind")),
        ),
        (ingress(json!({"port": null})), Some(("MW3186", ".ingress[0].port"))),
        (ingress(json!({"port": {"number": 1, "protocol": "FOO"}})), Some(("MW3170", ".ingress[0].port.protocol"))),
        (ingress(json!({"port": {"number": 1, "name": "a_b"}})), Some(("MW3171", ".ingress[0].port.name"))),
        (ingress(json!({"bind": "unix:///a"})), Some(("MW3172", ".ingress[0].bind"))),
        (ingress(json!({"defaultEndpoint": "10.0.0.1:1"})), Some(("MW3186", ".ingress[0].defaultEndpoint"))),
        (ingress(json!({"defaultEndpoint": "127.0.0.1:x"})), Some(("MW3186", ".ingress[0].defaultEndpoint"))),
        (ingress(json!({"connectionPool": {}})), Some(("MW3142", ".ingress[0].connectionPool"))),
        (
            ingress(json!({"tls": {"mode": "SIMPLE", "credentialName": "a"}})),
            Some(("MW3187", ".ingress[0].tls.credentialName")),
        ),
        (ingress(json!({"tls": {"mode": "ISTIO_MUTUAL"}})), Some(("MW3187", ".ingress[0].tls.mode"))),
        (
            json!({"outboundTrafficPolicy": {"egressProxy": {"host": "a.b", "port": {"number": 1}}}}),
            Some(("MW3188", ".outboundTrafficPolicy.egressProxy")),
        ),
        (proxy(json!({"host": "a.b"})), Some(("MW3188", ".outboundTrafficPolicy.egressProxy.port"))),
        (proxy(json!({"host": "a_b"})), Some(("MW3188", ".outboundTrafficPolicy.egressProxy.host"))),
    ] {
        expect("Sidecar", &spec, expected);
    }
}

#[test]
fn service_entries() {
    let entry = |change: Value| {
        let mut spec = json!({"hosts": ["a.b"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]});
        for (name, value) in change.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        spec
    };
    let dynamic = |change: Value| {
        let mut spec = entry(json!({"hosts": ["*.a.b"], "resolution": "DYNAMIC_DNS"}));
        for (name, value) in change.as_object().expect("fields") {
            spec[name] = value.clone();
        }
        spec
    };
    let fixed = |address: &str| entry(json!({"resolution": "STATIC", "endpoints": [{"address": address}]}));
    let named = |address: &str| entry(json!({"resolution": "DNS", "endpoints": [{"address": address}]}));
    for (spec, expected) in [
        (entry(json!({})), None),
        (entry(json!({"resolution": "DNS", "hosts": ["*.a.b"]})), Some(("MW3190", ".hosts[0]"))),
        (fixed("1.1.1.1"), None),
        (fixed("unix:///a"), None),
        (named("c.d"), None),
        (dynamic(json!({})), None),
        (entry(json!({"exportTo": ["~"]})), None),
        (entry(json!({"exportTo": ["~", "a"]})), Some(("MW3162", ".exportTo"))),
        (entry(json!({"hosts": []})), Some(("MW3190", ".hosts"))),
        (entry(json!({"hosts": ["*"]})), Some(("MW3190", ".hosts[0]"))),
        (entry(json!({"hosts": ["a_b"]})), Some(("MW3190", ".hosts[0]"))),
        (entry(json!({"hosts": ["*a.b"]})), Some(("MW3194", ".hosts[0]"))),
        (entry(json!({"hosts": ["*a.b"], "resolution": "DNS"})), Some(("MW3190", ".hosts[0]"))),
        (entry(json!({"addresses": ["a"]})), Some(("MW3165", ".addresses[0]"))),
        (entry(json!({"addresses": ["1.1.1.0/24"], "resolution": "DNS"})), Some(("MW3193", ".addresses[0]"))),
        (
            entry(json!({"ports": [{"number": 1, "name": "a"}, {"number": 2, "name": "a"}]})),
            Some(("MW3191", ".ports[1].name")),
        ),
        (
            entry(json!({"ports": [{"number": 1, "name": "a"}, {"number": 1, "name": "b"}]})),
            Some(("MW3191", ".ports[1].number")),
        ),
        (
            entry(json!({"ports": [{"number": 1, "name": "a", "targetPort": 65536}]})),
            Some(("MW3163", ".ports[0].targetPort")),
        ),
        (
            entry(json!({"ports": [{"number": 1, "name": "a", "protocol": "FOO"}]})),
            Some(("MW3170", ".ports[0].protocol")),
        ),
        (
            entry(json!({"hosts": ["a.b", "c.d"], "resolution": "DNS", "ports": [{"number": 1, "name": "a"}]})),
            Some(("MW3191", ".ports[0]")),
        ),
        (entry(json!({"endpoints": [{"address": "1.1.1.1"}]})), Some(("MW3192", ".endpoints"))),
        (
            entry(json!({"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a"}, {"address": "b"}]})),
            Some(("MW3192", ".endpoints[1]")),
        ),
        (fixed("a.b"), Some(("MW3198", ".endpoints[0].address"))),
        (named("unix:///a"), Some(("MW3198", ".endpoints[0].address"))),
        (named("*.a"), Some(("MW3198", ".endpoints[0].address"))),
        (
            entry(json!({"resolution": "STATIC", "endpoints": [{"address": "1.1.1.1", "ports": {"x": 1}}]})),
            Some(("MW3192", ".endpoints[0].ports.x")),
        ),
        (
            entry(json!({"resolution": "STATIC", "ports": [], "endpoints": [{"address": "unix:///a"}]})),
            Some(("MW3192", ".endpoints[0].address")),
        ),
        (
            entry(json!({"resolution": "STATIC", "workloadSelector": {"labels": {"a": "b"}}, "endpoints": []})),
            Some(("MW3192", ".endpoints")),
        ),
        (dynamic(json!({"hosts": ["a.b"]})), Some(("MW3190", ".hosts[0]"))),
        (dynamic(json!({"addresses": ["1.1.1.1"]})), Some(("MW3193", ".addresses"))),
        (dynamic(json!({"endpoints": [{"address": "1.1.1.1"}]})), Some(("MW3192", ".endpoints"))),
        (
            dynamic(json!({"ports": [{"number": 1, "name": "a", "protocol": "TCP"}]})),
            Some(("MW3193", ".ports[0].protocol")),
        ),
    ] {
        expect("ServiceEntry", &spec, expected);
    }
}

#[test]
fn envoy_filters() {
    let patch = |change: Value| json!({"configPatches": [change]});
    let removed =
        |target: &str, on: Value| patch(json!({"applyTo": target, "match": on, "patch": {"operation": "REMOVE"}}));
    let added = |value: Value| patch(json!({"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": value}}));
    let filter = |filter: Value| json!({"listener": {"filterChain": {"filter": filter}}});
    let manager = "envoy.filters.network.http_connection_manager";
    let old = "type.googleapis.com/envoy.config.filter.network.ext_authz.v2.ExtAuthz";
    for (spec, expected) in [
        (json!({}), None),
        (removed("CLUSTER", json!({"cluster": {}})), None),
        (removed("CLUSTER", json!({"context": "WAYPOINT", "waypoint": {}})), None),
        (removed("HTTP_FILTER", filter(json!({"name": manager, "subFilter": {"name": "a"}}))), None),
        (added(json!({"typed_config": {"@type": "type.googleapis.com/envoy.extensions.a.v3.B"}})), None),
        (patch(json!({})), Some(("MW3195", ".configPatches[0].applyTo"))),
        (patch(json!({"applyTo": "CLUSTER"})), Some(("MW3195", ".configPatches[0].patch"))),
        (patch(json!({"applyTo": "CLUSTER", "patch": {}})), Some(("MW3195", ".configPatches[0].patch.operation"))),
        (
            patch(json!({"applyTo": "CLUSTER", "patch": {"operation": "ADD"}})),
            Some(("MW3195", ".configPatches[0].patch.value")),
        ),
        (
            removed("CLUSTER", json!({"proxy": {"proxyVersion": "a++"}})),
            Some(("MW3161", ".configPatches[0].match.proxy.proxyVersion")),
        ),
        (removed("LISTENER", json!({"cluster": {}})), Some(("MW3196", ".configPatches[0].match.cluster"))),
        (removed("VIRTUAL_HOST", json!({"listener": {}})), Some(("MW3196", ".configPatches[0].match.listener"))),
        (
            removed("LISTENER", filter(json!({}))),
            Some(("MW3196", ".configPatches[0].match.listener.filterChain.filter.name")),
        ),
        (
            removed("NETWORK_FILTER", filter(json!({"name": manager, "subFilter": {}}))),
            Some(("MW3196", ".configPatches[0].match.listener.filterChain.filter.subFilter")),
        ),
        (
            removed("HTTP_FILTER", filter(json!({"name": "a", "subFilter": {"name": "b"}}))),
            Some(("MW3196", ".configPatches[0].match.listener.filterChain.filter.name")),
        ),
        (
            removed("HTTP_FILTER", filter(json!({"name": manager, "subFilter": {}}))),
            Some(("MW3196", ".configPatches[0].match.listener.filterChain.filter.subFilter.name")),
        ),
        (removed("CLUSTER", json!({"context": "WAYPOINT"})), Some(("MW3196", ".configPatches[0].match.context"))),
        (added(json!({"name": false})), Some(("MW3197", ".configPatches[0].patch.value.name"))),
        (added(json!({"a": [{"@type": old}]})), Some(("MW3197", ".configPatches[0].patch.value.a[0].@type"))),
        (
            json!({"workloadSelector": {"labels": {"a": "b"}}, "targetRefs": [{"kind": "Gateway", "name": "a"}]}),
            Some(("MW3169", ".targetRefs")),
        ),
    ] {
        expect("EnvoyFilter", &spec, expected);
    }
}

#[test]
fn workloads() {
    for (spec, expected) in [
        (json!({"address": "1.1.1.1", "ports": {"http": 80}, "labels": {"a": "b"}}), None),
        (json!({"address": "a.b"}), None),
        (json!({"address": "unix://@a"}), None),
        (json!({"network": "a"}), None),
        (json!({}), Some(("MW3198", ".address"))),
        (json!({"address": "a.b:80"}), Some(("MW3198", ".address"))),
        (json!({"address": "unix:///a/"}), Some(("MW3172", ".address"))),
        (json!({"address": "unix:///a", "ports": {"a": 1}}), Some(("MW3198", ".ports"))),
        (json!({"address": "1.1.1.1", "ports": {"@": 80}}), Some(("MW3171", ".ports.@"))),
        (json!({"address": "1.1.1.1", "ports": {"a": 0}}), Some(("MW3163", ".ports.a"))),
        (json!({"address": "1.1.1.1", "ports": {LONG: 1}}), Some(("MW3171", LONG_AT))),
        (json!({"address": "1.1.1.1", "labels": {"a": "~"}}), Some(("MW3164", ".labels.a"))),
    ] {
        expect("WorkloadEntry", &spec, expected);
    }
    let probe = |probe: Value| json!({"template": {}, "probe": probe});
    for (spec, expected) in [
        (probe(json!({"tcpSocket": {"port": 1}, "periodSeconds": 5})), None),
        (json!({}), Some(("MW3198", ".template"))),
        (json!({"template": {"ports": {"@": 80}}}), Some(("MW3171", ".template.ports.@"))),
        (json!({"template": {}, "metadata": {"labels": {".": "a"}}}), Some(("MW3164", ".metadata.labels[\".\"]"))),
        (probe(json!({})), Some(("MW3199", ".probe"))),
        (probe(json!({"exec": {}})), Some(("MW3199", ".probe.exec.command"))),
        (probe(json!({"exec": {"command": ["a"]}, "timeoutSeconds": -1})), Some(("MW3199", ".probe.timeoutSeconds"))),
        (probe(json!({"tcpSocket": {"port": 65536}})), Some(("MW3163", ".probe.tcpSocket.port"))),
        (probe(json!({"httpGet": {"port": 1, "scheme": "FTP"}})), Some(("MW3199", ".probe.httpGet.scheme"))),
        (
            probe(json!({"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}})),
            Some(("MW3177", ".probe.httpGet.httpHeaders[0].name")),
        ),
    ] {
        expect("WorkloadGroup", &spec, expected);
    }
    expect("ProxyConfig", &json!({"concurrency": 0}), None);
    expect("ProxyConfig", &json!({"concurrency": -1}), Some(("MW3179", ".concurrency")));
    expect("ProxyConfig", &json!({"selector": {}}), Some(("MW3168", ".selector")));
}
