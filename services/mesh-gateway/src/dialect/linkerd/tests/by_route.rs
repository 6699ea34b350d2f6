//! An AuthorizationPolicy by requests: what is written in which order, who is governed by what, and what is refused.

use super::*;

fn callers(references: &Value) -> Value {
    authorization("callers", "Server", "web", references)
}

fn server_of(protocol: &str) -> Value {
    let mut server = server("web", 8080, "deny");
    server["spec"]["proxyProtocol"] = protocol.into();
    server
}

fn service() -> Value {
    let ports = json!([{"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": 9090}]);
    object("v1", "Service", "web", &json!({"selector": {"app": "web"}, "ports": ports}))
}

/// A pod of the Server whose container says this besides.
fn pod_with(more: &Value) -> Value {
    let mut pod = pods(1).remove(0);
    pod["metadata"]["name"] = "probed".into();
    let mut container = json!({"name": "app", "ports": [{"name": "http", "containerPort": 8080}]});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pod["spec"] = json!({"containers": [container]});
    pod
}

/// From `front` to `back`, on the Server `web`, which another policy is about as well.
fn case(mechanism: Mechanism) -> Case {
    let others = authorization("others", "Server", "web", &account("other"));
    Case::new(Some(callers(&account("front"))), callers(&account("back")))
        .among([server_of("HTTP/1"), others, service()])
        .among(pods(2))
        .among(clients(&["front", "back", "other", "more"]))
        .by(mechanism)
}

fn on_route(path: &str) -> Value {
    let parent = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "web"});
    let rule = json!({"matches": [{"path": {"value": path}}, {"path": {"value": path}, "method": "GET"}]});
    let name = if path == "/" { "all" } else { "other" };
    policy("v1beta3", "HTTPRoute", name, &json!({"parentRefs": [parent], "rules": [rule]}))
}

/// The same about a route, which another policy is about as well.
fn case_on_route(mechanism: Mechanism) -> Case {
    let about = |name: &str, who: &str| authorization(name, "HTTPRoute", "all", &account(who));
    Case::new(Some(about("callers", "front")), about("callers", "back"))
        .among([server_of("HTTP/1"), on_route("/"), about("others", "other"), service()])
        .among(pods(2))
        .among(clients(&["front", "back", "other", "more"]))
        .by(mechanism)
}

fn header_of(spec: &Value) -> Value {
    spec["rules"][0]["matches"][0]["headers"][0].clone()
}

#[test]
fn a_policy_of_a_server_moves_to_routes_before_the_new_version_comes() {
    let answer = case(Mechanism::Header).ask().unwrap();
    let canary = ["helper HTTPRoute callers-meshward"];
    let policies = ["helper AuthorizationPolicy callers-meshward", "step AuthorizationPolicy callers"];
    let expected = [&["helper HTTPRoute callers-rest-meshward"][..], &policies, &canary];
    assert_eq!(answer.step(1000), expected);
    let gone = answer.step(0);
    assert_eq!(
        (&gone[..2], &gone[2][..]),
        (&answer.step(1000)[..2], &["gone HTTPRoute callers-meshward".to_owned()][..])
    );
    // Both routes take every path of the Server; the one with a header more comes first.
    for (name, headers) in [("callers-meshward", 1), ("callers-rest-meshward", 0)] {
        let route = answer.written(1000, "HTTPRoute", name);
        assert_eq!(route["parentRefs"][0]["name"], "web");
        let matches = route["rules"][0]["matches"].as_array().unwrap();
        assert_eq!((matches.len(), &matches[0]["path"]), (1, &json!({"type": "PathPrefix", "value": "/"})));
        assert_eq!(matches[0]["headers"].as_array().map_or(0, Vec::len), headers);
    }
    // Each version is about its route, and neither about the Server.
    for (name, route, who) in
        [("callers", "callers-rest-meshward", "front"), ("callers-meshward", "callers-meshward", "back")]
    {
        let policy = answer.written(1000, "AuthorizationPolicy", name);
        assert_eq!(policy["targetRef"], json!({"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": route}));
        assert_eq!(policy["requiredAuthenticationRefs"], account(who));
    }
    assert_eq!(
        answer.step(10_000),
        [
            vec!["final AuthorizationPolicy callers"],
            vec!["gone HTTPRoute callers-meshward"],
            vec!["gone AuthorizationPolicy callers-meshward", "gone HTTPRoute callers-rest-meshward"],
        ]
    );
    assert_eq!(
        answer.undo(),
        [
            vec!["gone HTTPRoute callers-meshward"],
            vec!["gone AuthorizationPolicy callers-meshward", "baseline AuthorizationPolicy callers"],
            vec!["gone HTTPRoute callers-rest-meshward"],
        ]
    );
}

#[test]
fn clients_are_known_by_the_identity_that_the_proxy_has_verified() {
    let answer = case(Mechanism::Header).ask().unwrap();
    let shares: Vec<_> = answer.planned.plan.steps.iter().map(|step| step.nominal_share.basis_points()).collect();
    assert_eq!(shares, [2500, 5000, 10_000], "of four accounts");
    let header = |weight| header_of(&answer.written(weight, "HTTPRoute", "callers-meshward"));
    assert_eq!((&header(1000)["name"], &header(1000)["type"]), (&json!("l5d-client-id"), &json!("RegularExpression")));
    let chosen = |weight| {
        let value = header(weight)["value"].as_str().unwrap().to_owned();
        let accounts = ["front", "back", "other", "more"].map(str::to_owned);
        accounts.into_iter().filter(|name| value.contains(&format!(r"{name}\.callers"))).collect::<Vec<_>>()
    };
    let (few, half) = (chosen(1000), chosen(5000));
    assert_eq!((few.len(), half.len()), (1, 2));
    assert!(half.contains(&few[0]), "who is in the cohort stays in it");
    let value = header(1000)["value"].as_str().unwrap().to_owned();
    assert_eq!(value, format!(r"^(?:(?:{}\.callers)\.serviceaccount\.identity\..+)$", few[0]), "the whole value");
}

#[test]
fn an_audience_is_known_by_its_header() {
    for (name, is_cookie, value, expected) in [
        ("x-beta", false, HeaderValue::Exact("1".to_owned()), json!({"name": "x-beta", "type": "Exact", "value": "1"})),
        (
            "l5d-client-id",
            false,
            HeaderValue::Prefix("front.web.".to_owned()),
            json!({"name": "l5d-client-id", "type": "RegularExpression", "value": r"^(?:front\.web\..*)$"}),
        ),
        (
            "beta",
            true,
            HeaderValue::Exact("on".to_owned()),
            json!({"name": "cookie", "type": "RegularExpression", "value": r"^(?:(?:.*;\s*)?beta=on\s*(?:;.*)?)$"}),
        ),
    ] {
        let mut case = case(Mechanism::Header).for_header(name, is_cookie, value.clone());
        case.wanted = None;
        let answer = case.ask().unwrap();
        assert_eq!(answer.planned.plan.mechanism, Mechanism::Header, "that is what a header asks for");
        for weight in [1000, 5000] {
            assert_eq!(header_of(&answer.written(weight, "HTTPRoute", "callers-meshward")), expected);
        }
        assert_eq!(answer.step(0)[2], ["gone HTTPRoute callers-meshward"]);
        // A route of a Service as well.
        let route = |to: &str| {
            let parent = json!({"group": "core", "kind": "Service", "name": "web", "port": 80});
            let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": [{"name": to, "port": 80}]}]});
            gateway("HTTPRoute", "web", &spec)
        };
        let outbound = Case::new(Some(route("a")), route("b")).for_header(name, is_cookie, value).ask().unwrap();
        assert_eq!(header_of(&outbound.written(1000, "HTTPRoute", "web-meshward")), expected);
        assert_eq!(outbound.step(0), [["step HTTPRoute web", "gone HTTPRoute web-meshward"]]);
    }
    let reason = case(Mechanism::Weight).for_header("x-beta", false, HeaderValue::Any).refused();
    assert!(reason.contains("WEIGHT asks no header"), "{reason}");
    let mut traced = case_on_route(Mechanism::Header).for_header("x-beta", false, HeaderValue::Any);
    traced.neighbours[1]["spec"]["rules"][0]["matches"][0]["headers"] = json!([{"name": "X-Beta", "value": "1"}]);
    let reason = traced.refused();
    assert!(reason.contains("asks for x-beta itself"), "{reason}");
}

#[test]
fn a_share_is_drawn_by_the_callers_proxies() {
    let answer = case(Mechanism::Weight).ask().unwrap();
    let step = answer.step(1000);
    assert_eq!(step[2], ["helper HTTPRoute callers-meshward", "helper HTTPRoute web-meshward"]);
    let header = header_of(&answer.written(5000, "HTTPRoute", "callers-meshward"));
    assert_eq!(header, json!({"name": "x-meshward-cohort", "type": "Exact", "value": "canary"}));
    for weight in [1000, 5000] {
        let route = answer.written(weight, "HTTPRoute", "web-meshward");
        let parent = json!({"group": "core", "kind": "Service", "name": "web", "port": 80});
        assert_eq!(route["parentRefs"], json!([parent]), "the port that leads to the Server's, and no other");
        let drawn = |index: usize| {
            let to = &route["rules"][0]["backendRefs"][index];
            let set = &to["filters"][0]["requestHeaderModifier"]["set"][0];
            assert_eq!((&to["name"], &to["port"], &set["name"]), (&json!("web"), &json!(80), &header["name"]));
            (set["value"].clone(), to["weight"].clone())
        };
        assert_eq!(drawn(0), (json!("stable"), json!(10_000 - weight)), "whoever sends it himself is overruled");
        assert_eq!(drawn(1), (json!("canary"), json!(weight)));
    }
    assert_eq!(answer.step(0)[2][1], "gone HTTPRoute web-meshward", "weights of zero make proxies panic");
    assert_eq!(answer.undo()[0], ["gone HTTPRoute web-meshward", "gone HTTPRoute callers-meshward"]);
    assert_eq!(answer.planned.plan.metrics_target.hosts, ["web.shop.svc.cluster.local"]);
}

#[test]
fn a_policy_of_a_route_stays_and_a_copy_of_the_route_has_the_new_version() {
    let answer = case_on_route(Mechanism::Header).ask().unwrap();
    assert_eq!(
        answer.step(1000),
        [
            &[
                "step AuthorizationPolicy callers",
                "helper AuthorizationPolicy callers-meshward",
                "helper AuthorizationPolicy others-meshward",
            ][..],
            &["helper HTTPRoute all-meshward"],
        ]
    );
    assert_eq!(
        answer.written(1000, "AuthorizationPolicy", "callers")["targetRef"]["name"],
        "all",
        "it goes on as it was"
    );
    for (name, who) in [("callers-meshward", "back"), ("others-meshward", "other")] {
        let policy = answer.written(1000, "AuthorizationPolicy", name);
        assert_eq!(
            (&policy["targetRef"]["name"], &policy["requiredAuthenticationRefs"]),
            (&json!("all-meshward"), &account(who))
        );
    }
    let copy = answer.written(1000, "HTTPRoute", "all-meshward");
    let matches = copy["rules"][0]["matches"].as_array().unwrap();
    assert_eq!((matches.len(), &matches[1]["method"]), (2, &json!("GET")));
    assert!(matches.iter().all(|one| one["headers"][0]["name"] == "l5d-client-id"));
    let gone = ["gone AuthorizationPolicy callers-meshward", "gone AuthorizationPolicy others-meshward"];
    assert_eq!(
        answer.step(10_000),
        [&["final AuthorizationPolicy callers"][..], &["gone HTTPRoute all-meshward"], &gone],
        "the route goes before its authorizations"
    );
    let undone = [&gone[..], &["baseline AuthorizationPolicy callers"]].concat();
    assert_eq!(answer.undo(), [&["gone HTTPRoute all-meshward"][..], &undone]);
}

#[test]
fn what_a_stricter_version_would_deny_is_counted() {
    let open = authorization("of-all", "Namespace", "shop", &account("admin"));
    let shadow = |before: &Value, after: &Value| {
        let mut case = case(Mechanism::Shadow).among([open.clone()]);
        let of = |references: &Value| callers(references);
        (case.baseline, case.canary) = (Baseline::of(Some(of(before))), of(after));
        case
    };
    let answer = shadow(&json!([]), &account("back")).ask().unwrap();
    let helpers = [
        "step AuthorizationPolicy callers",
        "helper AuthorizationPolicy callers-meshward",
        "helper AuthorizationPolicy others-meshward",
        "helper AuthorizationPolicy of-all-meshward",
        "helper HTTPRoute callers-meshward",
    ];
    assert_eq!(answer.step(1000), [helpers]);
    assert_eq!(
        answer.written(1000, "AuthorizationPolicy", "callers")["targetRef"]["kind"],
        "Server",
        "it goes on as it was"
    );
    for name in ["callers-meshward", "others-meshward", "of-all-meshward"] {
        let about = answer.written(1000, "AuthorizationPolicy", name)["targetRef"].clone();
        assert_eq!(about, json!({"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "callers-meshward"}));
    }
    assert_eq!(answer.step(10_000)[0], ["final AuthorizationPolicy callers"]);
    assert_eq!(answer.undo()[0].last().unwrap(), "baseline AuthorizationPolicy callers");
    assert_eq!(answer.planned.plan.steps[0].nominal_share, Weight::ZERO);

    let reason = shadow(&account("front"), &account("back")).refused();
    assert!(reason.contains("would let in back.shop.serviceaccount.identity"), "{reason}");
    let older = policy("v1beta1", "ServerAuthorization", "old", &json!({"server": {"name": "web"}, "client": {}}));
    let reason = shadow(&json!([]), &account("back")).among([older]).refused();
    assert!(reason.contains("ServerAuthorization shop/old lets clients in too"), "{reason}");
    let mut audited = shadow(&json!([]), &account("back"));
    audited.neighbours[0]["spec"]["accessPolicy"] = "audit".into();
    let reason = audited.refused();
    assert!(reason.contains("has accessPolicy audit, which lets in others"), "{reason}");
    let reason = case_on_route(Mechanism::Shadow).refused();
    assert!(reason.contains("are in no order"), "{reason}");
}

#[test]
fn what_would_be_governed_by_neither_version_is_refused() {
    let on_server = |change: &dyn Fn(&mut Case)| {
        let mut case = case(Mechanism::Header);
        change(&mut case);
        case.refused()
    };
    let put = |case: &mut Case, object: Value| case.neighbours.push(object);
    let nobody = json!([{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": "nobody"}]);
    let probe = |path: &str, port: Value| json!({"readinessProbe": {"httpGet": {"path": path, "port": port}}});
    for (change, expected) in [
        (&(|case: &mut Case| case.neighbours[0] = server_of("unknown")) as &dyn Fn(&mut Case), "proxyProtocol unknown"),
        (&|case| case.neighbours[0] = server_of("gRPC"), "proxyProtocol gRPC"),
        (&|case| put(case, on_route("/")), "Server web has routes (shop/all)"),
        (
            &|case| put(case, pod_with(&probe("/ready", json!(8080)))),
            "the kubelet probes /ready on the port of Server web",
        ),
        (&|case| put(case, pod_with(&probe("/ready", json!("http")))), "the kubelet probes /ready"),
        (&|case| drop(case.neighbours.remove(0)), "the Server web, which does not exist"),
        (&|case| case.canary["spec"]["targetRef"]["name"] = "x".into(), "the versions differ in spec.targetRef.name"),
        (
            &|case| case.canary["spec"]["requiredAuthenticationRefs"] = nobody.clone(),
            "it asks for the MeshTLSAuthentication shop/nobody, which does not exist",
        ),
        (&|case| case.neighbours.retain(|one| one["metadata"]["namespace"] != "callers"), "0 account with a proxy"),
        (&|case| put(case, policy("v1beta3", "HTTPRoute", "callers-meshward", &json!({}))), "exists already"),
    ] {
        let reason = on_server(change);
        assert!(reason.contains(expected), "{reason}");
    }
    // On another port it is none of the Server's.
    case(Mechanism::Header).among([pod_with(&probe("/ready", json!(4191)))]).ask().unwrap();

    let many: Vec<_> = (0..200).map(|index| format!("account-{index}")).collect();
    let many = clients(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let reason = case(Mechanism::Header).among(many).refused();
    assert!(reason.contains("204 accounts have a proxy, more than one expression"), "{reason}");
    let whole = |who: &str| authorization("callers", "Namespace", "shop", &account(who));
    let reason = Case::new(Some(whole("front")), whole("back")).by(Mechanism::Weight).refused();
    assert!(reason.contains("about the whole Namespace"), "{reason}");
    let reason = Case::new(None, callers(&account("front"))).by(Mechanism::Header).refused();
    assert!(reason.contains("no version to share the traffic with"), "{reason}");
}

#[test]
fn a_copy_that_would_take_the_requests_of_another_route_is_refused() {
    let reason = case_on_route(Mechanism::Header).among([{
        let mut rival = on_route("/");
        rival["metadata"]["name"] = "rival".into();
        rival
    }]);
    let reason = reason.refused();
    assert!(reason.contains("route shop/rival of the same Server has paths like those of shop/all"), "{reason}");
    // A longer path comes first with or without the header: the probes', say.
    case_on_route(Mechanism::Header).among([on_route("/ready")]).ask().unwrap();
    let mut by_itself = case_on_route(Mechanism::Header);
    let header = json!([{"name": "L5D-Client-Id", "type": "Exact", "value": "front"}]);
    by_itself.neighbours[1]["spec"]["rules"][0]["matches"][0]["headers"] = header;
    let reason = by_itself.refused();
    assert!(reason.contains("asks for l5d-client-id itself"), "{reason}");
}

#[test]
fn a_service_that_is_routed_already_is_refused() {
    let parent = json!({"group": "core", "kind": "Service", "name": "web"});
    let route = gateway("HTTPRoute", "web", &json!({"parentRefs": [parent], "rules": []}));
    let profile =
        object("linkerd.io/v1alpha2", "ServiceProfile", "web.shop.svc.cluster.local", &json!({"routes": [{}]}));
    for (object, expected) in
        [(route, "Service web has HTTPRoute shop/web"), (profile, "Service web has ServiceProfile")]
    {
        let reason = case(Mechanism::Weight).among([object]).refused();
        assert!(reason.contains(expected), "{reason}");
    }
    let mut without = case(Mechanism::Weight);
    without.neighbours.retain(|one| one["kind"] != "Service");
    let reason = without.refused();
    assert!(reason.contains("no Service sends to the port"), "{reason}");
    // Of a route as well.
    let answer = case_on_route(Mechanism::Weight).ask().unwrap();
    assert_eq!(answer.step(1000)[1], ["helper HTTPRoute all-meshward", "helper HTTPRoute web-meshward"]);
}

#[test]
fn a_route_of_a_server_is_narrowed_to_the_cohort_with_its_policies() {
    let route = |filters: Value| {
        let mut route = on_route("/");
        route["spec"]["rules"][0]["filters"] = filters;
        route
    };
    let set =
        json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "2"}]}}]);
    let case = |canary: Value, mechanism| {
        let about = authorization("callers", "HTTPRoute", "all", &account("front"));
        Case::new(Some(route(Value::Null)), canary)
            .among([server_of("HTTP/1"), about, service()])
            .among(pods(2))
            .among(clients(&["front", "back"]))
            .by(mechanism)
    };
    let answer = case(route(set.clone()), Mechanism::Header).ask().unwrap();
    assert_eq!(
        answer.step(1000),
        [
            &["step HTTPRoute all", "helper AuthorizationPolicy callers-meshward"][..],
            &["helper HTTPRoute all-meshward"],
        ]
    );
    let copy = answer.written(1000, "HTTPRoute", "all-meshward");
    assert_eq!(copy["rules"][0]["filters"], set, "the new version");
    assert!(
        copy["rules"][0]["matches"].as_array().unwrap().iter().all(|one| one["headers"][0]["name"] == "l5d-client-id")
    );
    assert_eq!(answer.written(1000, "HTTPRoute", "all")["rules"][0]["filters"], Value::Null);
    let (gone, policies) = (["gone HTTPRoute all-meshward"], ["gone AuthorizationPolicy callers-meshward"]);
    assert_eq!(answer.step(10_000), [&["final HTTPRoute all"][..], &gone, &policies]);
    assert_eq!(answer.undo(), [&gone[..], &[policies[0], "baseline HTTPRoute all"]]);
    let drawn = case(route(set.clone()), Mechanism::Weight).ask().unwrap();
    assert_eq!(drawn.step(1000)[1], ["helper HTTPRoute all-meshward", "helper HTTPRoute web-meshward"]);

    let mut without = route(set.clone());
    without["spec"]["rules"][0]["matches"].as_array_mut().unwrap().pop();
    let reason = case(without, Mechanism::Header).refused();
    assert!(reason.contains("the new version has no match"), "{reason}");
    let mut elsewhere = route(set);
    elsewhere["spec"]["parentRefs"][0]["name"] = "x".into();
    let reason = case(elsewhere, Mechanism::Header).refused();
    assert!(reason.contains("the versions differ in spec.parentRefs[0].name"), "{reason}");
}

#[test]
fn what_a_kind_cannot_do_is_refused_with_the_reason() {
    let parent = json!({"group": "core", "kind": "Service", "name": "web", "port": 80});
    let route = |kind: &str, to: &str| {
        let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": [{"name": to, "port": 80}]}]});
        object("gateway.networking.k8s.io/v1alpha2", kind, "x", &spec)
    };
    let network = |policy_of: &str| policy("v1alpha1", "EgressNetwork", "x", &json!({"trafficPolicy": policy_of}));
    let limit = |limit: u32| {
        let target = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "web"});
        policy(
            "v1alpha1",
            "HTTPLocalRateLimitPolicy",
            "x",
            &json!({"targetRef": target, "total": {"requestsPerSecond": limit}}),
        )
    };
    for (stable, canary, wanted, expected) in [
        (
            route("TLSRoute", "a"),
            route("TLSRoute", "b"),
            Mechanism::Namespace,
            "wins only by a more specific server name",
        ),
        (route("TLSRoute", "a"), route("TLSRoute", "b"), Mechanism::Header, "a connection has no headers"),
        (route("TCPRoute", "a"), route("TCPRoute", "b"), Mechanism::Namespace, "only the oldest is served"),
        (network("Allow"), network("Deny"), Mechanism::Weight, "for a smaller range comes before this one"),
        (limit(1), limit(2), Mechanism::Header, "spec.overrides names clients"),
        (
            callers(&account("a")),
            callers(&account("b")),
            Mechanism::Namespace,
            "a Server's pods do not ask in which namespace a caller is",
        ),
    ] {
        let reason = Case::new(Some(stable), canary).by(wanted).refused();
        assert!(reason.contains(expected), "{reason}");
    }
}
