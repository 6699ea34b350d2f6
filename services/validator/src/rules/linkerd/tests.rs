use meshward_model::ObjectRef;
use serde_json::{Value, json};

use crate::rules::{Object, catalogue, check};

fn judge(api_version: &str, kind: &str, object: &Value) -> Vec<(&'static str, String)> {
    let head = ObjectRef {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
    };
    let hits = check(&Object { head: &head, value: object }).expect("rules for the kind");
    assert!(hits.iter().all(|hit| catalogue::ALL.contains(&hit.rule) && !hit.message.is_empty()));
    hits.into_iter().map(|hit| (hit.rule.id, hit.path.to_string())).collect()
}

/// The cases of one kind: a spec, and the one hit that it has: id and path below `spec`; or none.
fn table(api_version: &str, kind: &str, cases: &[(Value, &str, &str)]) {
    for (spec, id, path) in cases {
        let expected = if id.is_empty() { vec![] } else { vec![(*id, format!("spec{path}"))] };
        assert_eq!(judge(api_version, kind, &json!({"spec": spec})), expected, "{kind}: {spec}");
    }
}

const POLICY: &str = "policy.linkerd.io/v1alpha1";
const GATEWAY: &str = "gateway.networking.k8s.io/v1";

fn reference(group: &str, kind: &str, name: &str) -> Value {
    json!({"group": group, "kind": kind, "name": name})
}

fn policy(kind: &str, name: &str) -> Value {
    reference("policy.linkerd.io", kind, name)
}

#[test]
fn kinds_and_versions_are_known_without_definitions() {
    for (api_version, kind, id, path) in [
        ("policy.linkerd.io/v1beta3", "Servr", "MW2002", "kind"),
        ("policy.linkerd.io/v9", "Server", "MW2003", "apiVersion"),
        ("linkerd.io/v1alpha2", "Server", "MW2002", "kind"),
    ] {
        assert_eq!(judge(api_version, kind, &json!({})), [(id, path.to_owned())], "{api_version} {kind}");
    }
}

#[test]
fn what_a_kind_looks_like_is_known_without_definitions() {
    let network = |value: Value| json!({"networks": [value]});
    table(
        POLICY,
        "NetworkAuthentication",
        &[
            (network(json!({"cidr": "10.0.0.0/8"})), "", ""),
            (json!({}), "MW2005", ".networks"),
            (json!({"networks": null}), "MW2005", ".networks"),
            (json!({"networks": {}}), "MW2006", ".networks"),
            (json!({"networks": [null]}), "MW2006", ".networks[0]"),
            (network(json!({})), "MW2005", ".networks[0].cidr"),
            (network(json!({"cidr": 10})), "MW2006", ".networks[0].cidr"),
            (network(json!({"cidr": "::/0", "expect": []})), "MW2004", ".networks[0].expect"),
        ],
    );
    table(
        POLICY,
        "EgressNetwork",
        &[
            (json!({"trafficPolicy": "Allow"}), "", ""),
            (json!({"trafficPolicy": "allow"}), "MW2007", ".trafficPolicy"),
            (json!({}), "MW2005", ".trafficPolicy"),
            (json!({"trafficPolicy": "Deny", "networks": []}), "MW3213", ".networks"),
        ],
    );
    assert_eq!(judge(POLICY, "EgressNetwork", &json!({})), [("MW2005", "spec".to_owned())]);
}

#[test]
fn servers() {
    table(
        "policy.linkerd.io/v1beta3",
        "Server",
        &[
            (json!({"podSelector": {}, "port": 80}), "", ""),
            (json!({"podSelector": {"matchLabels": {"app": "cart"}}, "port": "http", "proxyProtocol": "gRPC"}), "", ""),
            (json!({"externalWorkloadSelector": {}, "port": 80, "accessPolicy": "audit"}), "", ""),
            (json!({"port": 80}), "MW2010", ""),
            (
                json!({"port": 80, "podSelector": {}, "externalWorkloadSelector": {}}),
                "MW2010",
                ".externalWorkloadSelector",
            ),
            (json!({"podSelector": {}}), "MW2005", ".port"),
            (json!({"podSelector": {}, "port": 0}), "MW3202", ".port"),
            (json!({"podSelector": {}, "port": 65536}), "MW3202", ".port"),
            (json!({"podSelector": {}, "port": "8080"}), "MW3203", ".port"),
            (json!({"podSelector": {}, "port": 80, "proxyProtocol": "http"}), "MW2007", ".proxyProtocol"),
            (json!({"podSelector": {}, "port": 80, "accessPolicy": "allow"}), "MW3201", ".accessPolicy"),
            (json!({"podSelector": {"matchLabels": {"a": true}}, "port": 80}), "MW2006", ".podSelector.matchLabels.a"),
            (
                json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "in"}]}, "port": 80}),
                "MW2007",
                ".podSelector.matchExpressions[0].operator",
            ),
        ],
    );
}

#[test]
fn networks_and_their_exceptions() {
    let at = ".networks[0]";
    for (cidr, except, id, path) in [
        ("10.1.0.0/16", "10.1.2.0/24", "", ""),
        ("10.1.0.0/16", "10.1.2.3", "", ""),
        ("10.1.2.3", "10.1.2.4", "MW3212", ".except[0]"),
        ("10.1.0.0/16", "10.2.0.0/24", "MW3212", ".except[0]"),
        ("10.1.0.0/16", "10.0.0.0/8", "MW3212", ".except[0]"),
        ("10.1.0.0/16", "10.1.0.0/16", "MW3212", ".except[0]"),
        ("10.1.0.0/16", "fd00::/8", "MW3212", ".except[0]"),
        ("::/0", "fd00::/8", "", ""),
        ("0.0.0.0/0", "10.0.0.0/8", "", ""),
        ("10.1.0.0/33", "10.1.0.0/24", "MW3211", ".cidr"),
        ("10.1.0/16", "10.1.0.0/24", "MW3211", ".cidr"),
        ("10.1.0.0/", "10.1.0.0/24", "MW3211", ".cidr"),
        ("10.1.0.0/16", "10.1.0.0/-1", "MW3211", ".except[0]"),
    ] {
        let spec = json!({"networks": [{"cidr": cidr, "except": [except]}]});
        let path = if id.is_empty() { String::new() } else { format!("{at}{path}") };
        table(POLICY, "NetworkAuthentication", &[(spec, id, &path)]);
    }
}

#[test]
fn authorizations_of_servers() {
    let with = |client: Value| json!({"server": {"name": "cart"}, "client": client});
    table(
        "policy.linkerd.io/v1beta1",
        "ServerAuthorization",
        &[
            (with(json!({"unauthenticated": true, "networks": [{"cidr": "10.0.0.0/8"}]})), "", ""),
            (with(json!({"meshTLS": {"identities": ["*"]}})), "", ""),
            (with(json!({"meshTLS": {"unauthenticatedTLS": true}})), "", ""),
            (with(json!({"meshTLS": {"serviceAccounts": [{"name": "web"}]}})), "", ""),
            (with(json!({"meshTLS": {"identities": ["a_b"]}})), "MW3209", ".client.meshTLS.identities[0]"),
            (
                with(json!({"unauthenticated": true, "meshTLS": {"identities": ["*"]}})),
                "MW3204",
                ".client.unauthenticated",
            ),
            (
                with(json!({"meshTLS": {"unauthenticatedTLS": true, "serviceAccounts": [{"name": "web"}]}})),
                "MW3204",
                ".client.meshTLS.unauthenticatedTLS",
            ),
            (with(json!({})), "MW3205", ".client"),
            (with(json!({"unauthenticated": true, "networks": [{"cidr": "x"}]})), "MW3211", ".client.networks[0].cidr"),
            (json!({"server": {}, "client": {"unauthenticated": true}}), "MW2010", ".server"),
            (json!({"server": {"name": "A"}, "client": {"unauthenticated": true}}), "MW2008", ".server.name"),
        ],
    );
}

#[test]
fn identities() {
    let identity = |text: &str| json!({"identities": [text]});
    let at = ".identities[0]";
    table(
        POLICY,
        "MeshTLSAuthentication",
        &[
            (identity("*"), "", ""),
            (identity("*.shop.serviceaccount.identity.linkerd.cluster.local"), "", ""),
            (identity("spiffe://mesh.test/ns/shop"), "", ""),
            (identity("spiffe://mesh.test"), "", ""),
            (identity("a.*"), "MW3209", at),
            (identity("a..b"), "MW3209", at),
            (identity("A"), "MW3209", at),
            (identity("http://a"), "MW3209", at),
            (identity("spiffe://"), "MW3209", at),
            (identity("spiffe:///a"), "MW3209", at),
            (identity("spiffe://Mesh/a"), "MW3209", at),
            (identity("spiffe://mesh/a/"), "MW3209", at),
            (identity("spiffe://mesh//a"), "MW3209", at),
            (identity("spiffe://mesh/../a"), "MW3209", at),
            (identity("spiffe://mesh/a?b"), "MW3209", at),
            (json!({}), "MW2010", ""),
            (json!({"identities": []}), "MW2009", ".identities"),
            (
                json!({"identities": ["*"], "identityRefs": [{"kind": "Namespace", "name": "a"}]}),
                "MW2010",
                ".identityRefs",
            ),
            (json!({"identityRefs": [{"kind": "ServiceAccount", "name": "a", "namespace": "b"}]}), "", ""),
            (json!({"identityRefs": [{"kind": "serviceaccount", "group": "core", "name": "a"}]}), "", ""),
            (json!({"identityRefs": [{"kind": "Namespace"}]}), "MW2005", ".identityRefs[0].name"),
            (
                json!({"identityRefs": [{"kind": "Namespace", "name": "a", "namespace": "a"}]}),
                "MW3210",
                ".identityRefs[0].namespace",
            ),
            (json!({"identityRefs": [{"kind": "Pod", "name": "a"}]}), "MW3210", ".identityRefs[0].kind"),
        ],
    );
}

#[test]
fn authorization_policies() {
    let with = |target: Value, needs: Value| json!({"targetRef": target, "requiredAuthenticationRefs": needs});
    let mesh = || policy("MeshTLSAuthentication", "clients");
    let network = || policy("NetworkAuthentication", "cluster");
    let account = || json!({"kind": "ServiceAccount", "name": "web"});
    let server = || policy("Server", "cart");
    table(
        POLICY,
        "AuthorizationPolicy",
        &[
            (with(server(), json!([mesh(), network()])), "", ""),
            (with(server(), json!([account(), network()])), "", ""),
            (with(policy("HttpRoute", "cart"), json!([mesh()])), "", ""),
            (with(reference("gateway.networking.k8s.io", "GRPCRoute", "cart"), json!([mesh()])), "", ""),
            (with(json!({"kind": "Namespace", "name": "shop"}), json!([mesh()])), "", ""),
            (with(json!({"kind": "Namespace", "name": "other"}), json!([mesh()])), "MW3206", ".targetRef.name"),
            (with(reference("apps", "Deployment", "cart"), json!([mesh()])), "MW3206", ".targetRef.kind"),
            (with(json!({"kind": "Server", "name": "cart"}), json!([mesh()])), "MW3206", ".targetRef.kind"),
            (with(server(), json!([])), "MW3208", ".requiredAuthenticationRefs"),
            (json!({"targetRef": server()}), "MW2005", ".requiredAuthenticationRefs"),
            (with(server(), json!([mesh(), mesh()])), "MW3207", ".requiredAuthenticationRefs[1]"),
            (with(server(), json!([account(), account()])), "MW3207", ".requiredAuthenticationRefs[1]"),
            (with(server(), json!([mesh(), account()])), "MW3207", ".requiredAuthenticationRefs[1]"),
            (with(server(), json!([network(), network()])), "MW3207", ".requiredAuthenticationRefs[1]"),
            (with(server(), json!([{"kind": "Pod", "name": "a"}])), "MW3207", ".requiredAuthenticationRefs[0].kind"),
        ],
    );
}

#[test]
fn rate_limits() {
    let rate = |number: i64| json!({"requestsPerSecond": number});
    let target = || policy("Server", "cart");
    let client = json!([{"kind": "ServiceAccount", "name": "web"}]);
    let with = |clients: &Value, number: i64| json!([{"requestsPerSecond": number, "clientRefs": clients}]);
    let pods = json!([{"kind": "Pod", "name": "web"}]);
    table(
        POLICY,
        "HTTPLocalRateLimitPolicy",
        &[
            (
                json!({"targetRef": target(), "total": rate(10), "identity": rate(10), "overrides": with(&client, 10)}),
                "",
                "",
            ),
            (json!({"targetRef": target()}), "", ""),
            (json!({"targetRef": target(), "identity": rate(10)}), "", ""),
            (json!({"targetRef": reference("apps", "Deployment", "a")}), "MW3214", ".targetRef.kind"),
            (json!({"targetRef": target(), "total": rate(0)}), "MW3215", ".total.requestsPerSecond"),
            (json!({"targetRef": target(), "identity": rate(0)}), "MW3215", ".identity.requestsPerSecond"),
            (
                json!({"targetRef": target(), "total": rate(5), "identity": rate(6)}),
                "MW3215",
                ".identity.requestsPerSecond",
            ),
            (
                json!({"targetRef": target(), "total": rate(5), "overrides": with(&client, 6)}),
                "MW3215",
                ".overrides[0].requestsPerSecond",
            ),
            (json!({"targetRef": target(), "overrides": with(&pods, 1)}), "MW3216", ".overrides[0].clientRefs[0].kind"),
            (json!({"targetRef": target(), "total": rate(-1)}), "MW2009", ".total.requestsPerSecond"),
        ],
    );
}

/// An HTTPRoute of Linkerd's own with one rule, below which the paths of the cases are.
fn rules(cases: &[(Value, &str, &str)]) {
    for (rule, id, path) in cases {
        let spec = json!({"parentRefs": [policy("Server", "cart")], "rules": [rule]});
        let path = if id.is_empty() { String::new() } else { format!(".rules[0]{path}") };
        table("policy.linkerd.io/v1beta3", "HTTPRoute", &[(spec, id, &path)]);
    }
}

#[test]
fn rules_of_http_routes() {
    let path = |kind: &str, value: &str| json!({"matches": [{"path": {"type": kind, "value": value}}]});
    let header = |kind: &str, name: &str, value: &str| json!({"matches": [{"headers": [{"type": kind, "name": name, "value": value}]}]});
    let redirect = |path: Value| json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"path": path}}]});
    let set = |name: &str, value: &str| json!({"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": name, "value": value}]}}]});
    let timeouts = |request: &str, backend: &str| json!({"timeouts": {"request": request, "backendRequest": backend}});
    rules(&[
        (path("Exact", "/cart"), "", ""),
        (path("RegularExpression", "cart.*"), "", ""),
        (path("Exact", "cart"), "MW3221", ".matches[0].path.value"),
        (json!({"matches": [{"path": {"value": ""}}]}), "MW3221", ".matches[0].path.value"),
        (path("RegularExpression", "("), "MW3222", ".matches[0].path.value"),
        (path("Prefix", "/cart"), "MW2007", ".matches[0].path.type"),
        (json!({"matches": [{"method": "get"}]}), "MW2007", ".matches[0].method"),
        (header("Exact", "x-user", "a b"), "", ""),
        (header("Exact", "x user", "a"), "MW3223", ".matches[0].headers[0].name"),
        (header("Exact", "x-user", "ä"), "MW3223", ".matches[0].headers[0].value"),
        (header("RegularExpression", "x-user", "["), "MW3222", ".matches[0].headers[0].value"),
        (
            json!({"matches": [{"queryParams": [{"type": "RegularExpression", "name": "q", "value": "["}]}]}),
            "MW3222",
            ".matches[0].queryParams[0].value",
        ),
        (redirect(json!({"type": "ReplaceFullPath", "replaceFullPath": "/a"})), "", ""),
        (
            redirect(json!({"type": "ReplaceFullPath", "replaceFullPath": "a"})),
            "MW3224",
            ".filters[0].requestRedirect.path.replaceFullPath",
        ),
        (redirect(json!({"type": "ReplaceFullPath"})), "MW3224", ".filters[0].requestRedirect.path"),
        (set("x-a", "b"), "", ""),
        (set("x a", "b"), "MW3223", ".filters[0].requestHeaderModifier.set[0].name"),
        (json!({"filters": [{"type": "RequestRedirect"}]}), "MW2005", ".filters[0].requestRedirect"),
        (json!({"filters": [{"type": "URLRewrite"}]}), "MW2007", ".filters[0].type"),
        (timeouts("10s", "10s"), "", ""),
        (timeouts("1s", "2s"), "MW3226", ".timeouts.backendRequest"),
        (timeouts("1s", "-1s"), "MW3226", ".timeouts.backendRequest"),
        (timeouts("1", "1s"), "MW3226", ".timeouts.request"),
        (json!({"backendRefs": [{"name": "cart", "port": 0}]}), "MW2009", ".backendRefs[0].port"),
        (json!({"matches": (0..9).map(|_| json!({})).collect::<Vec<_>>()}), "MW2009", ".matches"),
    ]);
}

#[test]
fn parents_and_annotations() {
    let egress = || json!([policy("EgressNetwork", "internet")]);
    let route = "policy.linkerd.io/v1beta3";
    table(
        route,
        "HTTPRoute",
        &[
            (
                json!({"parentRefs": [{"group": "policy.linkerd.io", "kind": "EgressNetwork", "name": "a", "port": 443}]}),
                "",
                "",
            ),
            (json!({"parentRefs": egress()}), "MW3220", ".parentRefs[0]"),
            (json!({"parentRefs": [{"kind": "EgressNetwork", "name": "a"}]}), "MW3220", ".parentRefs[0]"),
            (json!({"parentRefs": [reference("core", "EgressNetwork", "a")]}), "", ""),
        ],
    );
    let service = json!({"parentRefs": [reference("core", "Service", "cart")]});
    let server = json!({"parentRefs": [policy("Server", "cart")]});
    for (name, good, bad) in [
        ("retry.linkerd.io/limit", "3", "-1"),
        ("retry.linkerd.io/http", "5xx,gateway-error,429,500-504", "5xx, 503"),
        ("retry.linkerd.io/http", "599", "600"),
        ("retry.linkerd.io/timeout", "300ms", "1.5s"),
        ("timeout.linkerd.io/request", "1d", "1w"),
        ("timeout.linkerd.io/response", "0", "5"),
        ("timeout.linkerd.io/idle", " 2h ", "1h30m"),
    ] {
        let judge = |value: &str, spec: &Value| {
            judge(route, "HTTPRoute", &json!({"metadata": {"annotations": {name: value}}, "spec": spec}))
        };
        assert_eq!(judge(good, &service), [], "{name}: {good}");
        assert_eq!(judge(bad, &service), [("MW3227", format!("metadata.annotations[{name:?}]"))], "{name}: {bad}");
        assert_eq!(judge(bad, &server), [], "Linkerd reads {name} for Services and EgressNetworks only");
    }
}

#[test]
fn routes_of_the_gateway_api() {
    let server = || policy("Server", "cart");
    for (kind, spec, id, path) in [
        ("HTTPRoute", json!({"parentRefs": [server()], "rules": [{"matches": [{"path": {"value": "/"}}]}]}), "", ""),
        ("HTTPRoute", json!({"parentRefs": [server()], "anything": 1}), "", ""),
        (
            "HTTPRoute",
            json!({"parentRefs": [server()], "rules": [{"matches": [{"path": {"value": "a"}}]}]}),
            "MW3221",
            "spec.rules[0].matches[0].path.value",
        ),
        (
            "HTTPRoute",
            json!({"parentRefs": [server()], "rules": [{"backendRefs": [{"name": "a"}]}]}),
            "MW3225",
            "spec.rules[0].backendRefs[0]",
        ),
        (
            "HTTPRoute",
            json!({"parentRefs": [server()], "rules": [{"backendRefs": [reference("core", "Service", "a")]}]}),
            "MW3225",
            "spec.rules[0].backendRefs[0]",
        ),
        (
            "HTTPRoute",
            json!({"parentRefs": [server()], "rules": [{"backendRefs": [reference("b", "A", "a")]}]}),
            "",
            "",
        ),
        (
            "GRPCRoute",
            json!({"parentRefs": [server()], "rules": [{"matches": [{"method": {"type": "RegularExpression", "service": "a"}}]}]}),
            "MW3229",
            "spec.rules[0].matches[0].method.type",
        ),
        ("GRPCRoute", json!({"parentRefs": [policy("EgressNetwork", "a")]}), "MW3220", "spec.parentRefs[0]"),
        ("TLSRoute", json!({"parentRefs": [server()], "rules": [{}]}), "", ""),
        ("TLSRoute", json!({"parentRefs": [server()], "rules": [{}, {}]}), "MW3228", "spec.rules"),
        ("TCPRoute", json!({"parentRefs": [server()]}), "MW3228", "spec.rules"),
    ] {
        let expected: Vec<_> = (!id.is_empty()).then(|| (id, path.to_owned())).into_iter().collect();
        assert_eq!(judge(GATEWAY, kind, &json!({"spec": spec})), expected, "{kind}: {spec}");
    }
}

#[test]
fn routes_that_name_nothing_of_linkerd_are_not_judged() {
    let head = ObjectRef { api_version: GATEWAY.into(), kind: "HTTPRoute".into(), ..ObjectRef::default() };
    let mut route = json!({"spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": [{"name": "a"}]}]}});
    assert!(check(&Object { head: &head, value: &route }).is_none());
    let of_service = json!({"spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "a", "port": 80}]}});
    assert!(check(&Object { head: &head, value: &of_service }).is_some());
    route["metadata"] = json!({"annotations": {"retry.linkerd.io/limit": "1"}});
    assert!(check(&Object { head: &head, value: &route }).is_some());
}

#[test]
fn service_profiles() {
    let with = |condition: Value| json!({"routes": [{"name": "a", "condition": condition}]});
    let class = |condition: Value| json!({"routes": [{"name": "a", "condition": {"method": "GET"}, "responseClasses": [{"condition": condition}]}]});
    let budget =
        |ratio: f64, ttl: &str| json!({"retryBudget": {"retryRatio": ratio, "minRetriesPerSecond": 5, "ttl": ttl}});
    let at = ".routes[0].condition";
    let response = ".routes[0].responseClasses[0].condition";
    table(
        "linkerd.io/v1alpha2",
        "ServiceProfile",
        &[
            (with(json!({"method": "GET", "any": [{"all": [{"not": {"pathRegex": "/a"}}]}]})), "", ""),
            (with(json!({})), "MW3241", at),
            (with(json!({"method": ""})), "MW3241", at),
            (with(json!({"all": []})), "", ""),
            (with(json!({"all": [{}]})), "MW3241", &format!("{at}.all[0]")),
            (with(json!({"any": [null]})), "MW2006", &format!("{at}.any[0]")),
            (
                with(json!({"any": [{"not": {"path": "/a", "method": "GET"}}]})),
                "MW2004",
                &format!("{at}.any[0].not.path"),
            ),
            (with(json!({"pathRegex": "("})), "MW3246", &format!("{at}.pathRegex")),
            (with(json!({"method": "GET", "not": {"method": "PUT"}})), "MW2006", &format!("{at}.not")),
            (json!({"routes": [{"name": "", "condition": {"method": "GET"}}]}), "MW3240", ".routes[0].name"),
            (json!({"routes": [{"name": "a", "condition": null}]}), "MW2005", at),
            (json!({"routes": [null]}), "MW2006", ".routes[0]"),
            (
                json!({"routes": [{"name": "a", "condition": {"method": "GET"}, "timeout": "5"}]}),
                "MW3243",
                ".routes[0].timeout",
            ),
            (class(json!({"status": {"min": 500, "max": 599}})), "", ""),
            (class(json!({"status": {"min": 500}})), "", ""),
            (class(json!({})), "MW3241", response),
            (class(json!({"status": {"min": 99}})), "MW3242", &format!("{response}.status.min")),
            (class(json!({"status": {"max": 600}})), "MW3242", &format!("{response}.status.max")),
            (class(json!({"status": {"min": 500, "max": 499}})), "MW3242", &format!("{response}.status.max")),
            (class(json!({"not": {"status": {"min": false}}})), "MW2006", &format!("{response}.not.status.min")),
            (budget(0.2, "10s"), "", ""),
            (budget(-0.2, "10s"), "MW3244", ".retryBudget.retryRatio"),
            (budget(0.2, "10"), "MW3243", ".retryBudget.ttl"),
            (json!({"retryBudget": {"retryRatio": 0.2, "ttl": "1s"}}), "MW2005", ".retryBudget.minRetriesPerSecond"),
            (json!({"opaquePorts": ["3306"]}), "MW3245", ".opaquePorts"),
            (json!({"routs": []}), "MW2004", ".routs"),
        ],
    );
}

#[test]
fn a_flood_of_expressions_is_refused_before_any_is_compiled() {
    let routes: Vec<_> =
        (0..1001).map(|n| json!({"name": "a", "condition": {"pathRegex": format!("/{n}/\\pL*")}})).collect();
    assert_eq!(
        judge("linkerd.io/v1alpha2", "ServiceProfile", &json!({"spec": {"routes": routes}})),
        [("MW3247", String::new())]
    );
}
