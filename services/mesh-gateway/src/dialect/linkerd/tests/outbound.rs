//! What callers read: routes of a Service, profiles, networks, splits.

use super::*;

fn service() -> Value {
    json!([{"group": "", "kind": "Service", "name": "web", "port": 80}])
}

fn to(name: &str) -> Value {
    json!([{"name": name, "port": 80}])
}

/// A route of the Service `web` with one rule.
fn route(rule: &Value) -> Value {
    gateway("HTTPRoute", "web", &json!({"parentRefs": service(), "rules": [rule]}))
}

fn of_kind(kind: &str, rule: &Value) -> Value {
    let mut route = gateway(kind, "web", &json!({"parentRefs": service(), "rules": [rule]}));
    if kind.starts_with('T') {
        route["apiVersion"] = "gateway.networking.k8s.io/v1alpha2".into();
    }
    route
}

#[test]
fn destinations_are_blended_in_the_one_object() {
    for (kind, drawn) in
        [("HTTPRoute", "request"), ("GRPCRoute", "request"), ("TLSRoute", "connection"), ("TCPRoute", "connection")]
    {
        let (stable, canary) = (json!({"backendRefs": to("web")}), json!({"backendRefs": to("web-v2")}));
        let answer = Case::new(Some(of_kind(kind, &stable)), of_kind(kind, &canary)).ask().unwrap();
        let plan = &answer.planned.plan;
        assert_eq!(plan.mechanism, Mechanism::Weight, "{kind}");
        let backend = |name: &str, weight: u32| json!({"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight});
        assert_eq!(
            answer.written(1000, kind, "web")["rules"][0]["backendRefs"],
            json!([backend("web", 9000), backend("web-v2", 1000)])
        );
        assert_eq!(answer.step(10_000), [[format!("final {kind} web")]]);
        assert_eq!(answer.undo(), [[format!("baseline {kind} web")]]);
        assert!(plan.steps[0].exposed.starts_with(&format!("Each {drawn}")), "{}", plan.steps[0].exposed);
        let metrics = &plan.metrics_target;
        assert_eq!((&*metrics.canary_series, &*metrics.control_series), ("web-v2", "web"));
        assert_eq!(metrics.hosts, ["web.shop.svc.cluster.local"]);
    }
    // No destination is the Service itself.
    let answer = Case::new(Some(route(&json!({}))), route(&json!({"backendRefs": to("web-v2")}))).ask().unwrap();
    assert_eq!(answer.written(5000, "HTTPRoute", "web")["rules"][0]["backendRefs"][0]["name"], "web");
    assert_eq!(answer.planned.plan.mechanism, Mechanism::Weight);
}

#[test]
fn a_change_of_more_than_destinations_goes_by_traces() {
    let rule = |request: &str| json!({"matches": [{"path": {"value": "/api"}}], "timeouts": {"request": request}});
    let answer = Case::new(Some(route(&rule("1s"))), route(&rule("2s"))).ask().unwrap();
    let plan = &answer.planned.plan;
    assert_eq!(plan.mechanism, Mechanism::Header);
    assert_eq!(answer.step(1000), [["step HTTPRoute web", "helper HTTPRoute web-meshward"]]);
    assert_eq!(answer.written(1000, "HTTPRoute", "web")["rules"][0]["timeouts"]["request"], "1s");
    let copy = answer.written(1000, "HTTPRoute", "web-meshward");
    let one = &copy["rules"][0]["matches"][0];
    let expression = "^(?:(?i).*(?:[0-9a-f]0|[0-9]1)-[0-9a-f]{16}-[0-9a-f]{2})$";
    assert_eq!(one["headers"], json!([{"name": "traceparent", "type": "RegularExpression", "value": expression}]));
    assert_eq!(one["path"]["value"], "/api");
    let regex = regex::Regex::new(expression).unwrap();
    for (id, is_canary) in [("00", true), ("f0", true), ("91", true), ("a1", false), ("02", false)] {
        let header = format!("00-4bf92f3577b34da6a3ce929d0e0e47{id}-00f067aa0ba902b7-01");
        assert_eq!(regex.is_match(&header), is_canary, "{header}");
    }
    assert!(!regex.is_match("00-4bf92f3577b34da6a3ce929d0e0e4700-00f067aa0ba902b7-01x"), "the whole value");
    assert_eq!(answer.step(0), [["step HTTPRoute web", "gone HTTPRoute web-meshward"]]);
    assert_eq!(answer.step(10_000), [["final HTTPRoute web"], ["gone HTTPRoute web-meshward"]]);
    assert_eq!(answer.undo(), [["gone HTTPRoute web-meshward", "baseline HTTPRoute web"]]);
    assert_eq!((&*plan.metrics_target.canary_series, &*plan.metrics_target.control_series), ("web-meshward", "web"));
}

#[test]
fn timeouts_and_retries_in_annotations_go_with_their_version() {
    let with = |timeout: &str| {
        let mut route = route(&json!({"backendRefs": to("web")}));
        route["metadata"]["annotations"] = json!({"timeout.linkerd.io/request": timeout, "note": "mine"});
        route
    };
    let refused = Case::new(Some(with("1s")), with("2s")).by(Mechanism::Weight).refused();
    assert!(refused.contains("differ in the annotation timeout.linkerd.io/request"), "{refused}");
    let answer = Case::new(Some(with("1s")), with("2s")).ask().unwrap();
    assert_eq!(answer.planned.plan.mechanism, Mechanism::Header);
    let copy = answer.object(1000, "HTTPRoute", "web-meshward");
    assert_eq!(copy["metadata"]["annotations"], json!({"timeout.linkerd.io/request": "2s"}));
}

#[test]
fn callers_get_a_more_specific_route_of_their_own() {
    let rule = |path: &str, request: &str| json!({"matches": [{"path": {"value": path}}], "timeouts": {"request": request}, "backendRefs": to("web")});
    let case = |canary: Value| {
        let callers = namespaces(&["shop", "a", "b", "c", "d"]);
        Case::new(Some(route(&rule("/api", "1s"))), canary).among(callers).by(Mechanism::Namespace)
    };
    let answer = case(route(&rule("/", "2s"))).ask().unwrap();
    let plan = &answer.planned.plan;
    assert_eq!(plan.steps[0].nominal_share, bp(2500), "at least one of four");
    assert_eq!(plan.steps[1].nominal_share, bp(5000));
    let steps = answer.step(5000);
    let helpers: Vec<_> = steps[0].iter().filter(|line| line.starts_with("helper")).cloned().collect();
    assert_eq!((helpers.len(), steps[0].len(), &*steps[0][0]), (2, 5, "step HTTPRoute web"));
    assert!(answer.step(1000)[0].contains(&helpers[0]), "who has it keeps it");
    let copy = answer.written(1000, "HTTPRoute", "web-meshward");
    assert_eq!(copy["hostnames"], json!(["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"]));
    assert_eq!(copy["parentRefs"][0]["namespace"], "shop");
    assert_eq!(copy["rules"][0]["backendRefs"][0]["namespace"], "shop");
    assert_eq!(answer.step(10_000)[0], ["final HTTPRoute web"]);
    assert_eq!(answer.step(10_000)[1].len(), 4);
    assert_eq!(answer.undo()[0].last().unwrap(), "baseline HTTPRoute web");

    let mut hosted = route(&rule("/", "2s"));
    hosted["spec"]["hostnames"] = json!(["web"]);
    for (canary, reason) in [
        (hosted, "asks for the host \"web\" already, so a copy would be no more specific"),
        (route(&rule("/other", "2s")), "such requests would stay stable"),
    ] {
        let refused = case(canary).refused();
        assert!(refused.contains(reason), "{refused}");
    }
    let alone = Case::new(Some(route(&rule("/api", "1s"))), route(&rule("/api", "2s")));
    assert!(alone.by(Mechanism::Namespace).refused().contains("no other namespace"));
}

#[test]
fn what_linkerd_takes_in_and_does_not_do_is_refused_also_all_at_once() {
    let plain = || route(&json!({"backendRefs": to("web")}));
    let other = |kind: &str, created: &str| {
        let mut other = of_kind(kind, &json!({"backendRefs": to("web")}));
        other["metadata"]["name"] = "rival".into();
        other["metadata"]["creationTimestamp"] = created.into();
        other
    };
    let filter = |kind: &str| json!({"filters": [{"type": kind}], "backendRefs": to("web")});
    let mut own = route(&filter("ResponseHeaderModifier"));
    own["apiVersion"] = "policy.linkerd.io/v1beta3".into();
    let of_gateway = gateway("HTTPRoute", "web", &json!({"parentRefs": [{"name": "edge"}]}));
    let by_method =
        of_kind("GRPCRoute", &json!({"matches": [{"method": {"type": "RegularExpression", "service": "a.*"}}]}));
    let profile = object(
        "linkerd.io/v1alpha2",
        "ServiceProfile",
        "web.shop.svc.cluster.local",
        &json!({"routes": [{"name": "x"}]}),
    );
    let tcp = || of_kind("TCPRoute", &json!({"backendRefs": to("web-v2")}));
    for (stable, canary, neighbours, reason) in [
        (Some(plain()), route(&filter("URLRewrite")), vec![], "cannot convert the filter URLRewrite"),
        (Some(plain()), route(&filter("RequestMirror")), vec![], "cannot convert the filter RequestMirror"),
        (None, own, vec![], "is served as one that modifies the request"),
        (None, of_gateway, vec![], "the route is not Linkerd's to read"),
        (None, by_method, vec![], "matches methods by an expression"),
        (Some(plain()), plain(), vec![other("GRPCRoute", "")], "GRPCRoute shop/rival has the same parent"),
        (None, of_kind("GRPCRoute", &json!({})), vec![other("HTTPRoute", "")], "the first of its kind for this parent"),
        (Some(tcp()), tcp(), vec![other("TLSRoute", "")], "TLSRoute shop/rival has the same parent"),
        (None, tcp(), vec![other("TCPRoute", "2026-01-01T00:00:00Z")], "only the oldest is served"),
        (Some(plain()), plain(), vec![profile], "takes the place of all routes of the Service"),
    ] {
        for wanted in [None, Some(Mechanism::None)] {
            let mut case = Case::new(stable.clone(), canary.clone()).among(neighbours.clone());
            case.wanted = wanted;
            let Unsupported { reason: refused, .. } = case.ask_for(&[Weight::FULL]).map(|_| ()).unwrap_err();
            assert!(refused.contains(reason), "{reason} is not in: {refused}");
        }
    }
}

#[test]
fn what_cannot_stand_beside_the_live_route_is_refused() {
    let rule =
        |path: &str, request: &str| json!({"matches": [{"path": {"value": path}}], "timeouts": {"request": request}});
    let stable = || route(&rule("/api", "1s"));
    let mut rival = stable();
    rival["metadata"]["name"] = "rival".into();
    let traced =
        json!({"matches": [{"headers": [{"name": "TraceParent", "value": "x"}]}], "timeouts": {"request": "1s"}});
    for (stable, canary, neighbours, reason) in [
        (stable(), route(&rule("/", "2s")), vec![], "such requests would stay stable"),
        (stable(), route(&rule("/api", "2s")), vec![rival], "would also win over its rules"),
        (route(&traced), route(&json!({"matches": traced["matches"]})), vec![], "asks for traceparent itself"),
    ] {
        let refused = Case::new(Some(stable), canary).among(neighbours).by(Mechanism::Header).refused();
        assert!(refused.contains(reason), "{reason} is not in: {refused}");
    }
    let inbound = json!({"parentRefs": [{"group": "policy.linkerd.io", "kind": "Server", "name": "s"}]});
    let refused = Case::new(None, gateway("HTTPRoute", "web", &inbound)).by(Mechanism::Namespace).refused();
    assert!(refused.contains("cannot be exposed by NAMESPACE: a Server's pods do not ask"), "{refused}");
}

#[test]
fn a_profile_is_blended_or_copied_whole() {
    let profile = |namespace: &str, spec: Value| {
        let mut profile = object("linkerd.io/v1alpha2", "ServiceProfile", "web.shop.svc.cluster.local", &spec);
        profile["metadata"]["namespace"] = namespace.into();
        profile
    };
    let over =
        |name: &str| json!({"dstOverrides": [{"authority": format!("{name}.shop.svc.cluster.local:80"), "weight": 1}]});
    let answer = Case::new(Some(profile("shop", over("web"))), profile("shop", over("v2"))).ask().unwrap();
    assert_eq!(answer.planned.plan.mechanism, Mechanism::Weight);
    let blended = answer.written(1000, "ServiceProfile", "web.shop.svc.cluster.local");
    assert_eq!(blended["dstOverrides"][1], json!({"authority": "v2.shop.svc.cluster.local:80", "weight": 1000}));

    let routes =
        |timeout: &str| json!({"routes": [{"name": "r", "condition": {"pathRegex": "/"}, "timeout": timeout}]});
    let stable = profile("shop", routes("1s"));
    let callers = || namespaces(&["a", "b", "c"]);
    let has_own = profile("b", routes("9s"));
    let case = Case::new(Some(stable.clone()), profile("shop", routes("2s"))).among(callers()).among([has_own]);
    let answer = case.ask().unwrap();
    assert_eq!(answer.planned.plan.mechanism, Mechanism::Namespace);
    assert_eq!(answer.step(5000)[0].iter().filter(|line| line.starts_with("helper")).count(), 1, "one of a and c");
    assert!(!answer.step(5000)[0].join(" ").contains(" b/"), "who has one keeps it");
    assert!(answer.planned.plan.not_covered.join(" ").contains("takes the place of all HTTPRoutes"));

    let to_empty =
        Case::new(Some(stable), profile("shop", json!({}))).among(callers()).by(Mechanism::Namespace).refused();
    assert!(to_empty.contains("busy ones would not see the change"), "{to_empty}");
    let of_caller =
        Case::new(Some(profile("a", routes("1s"))), profile("a", routes("2s"))).by(Mechanism::Namespace).refused();
    assert!(of_caller.contains("serves only that one"), "{of_caller}");
}

#[test]
fn everybodys_network_is_copied_to_some() {
    let network = |namespace: &str, policy_of: &str| {
        let mut network = policy("v1alpha1", "EgressNetwork", "all", &json!({"trafficPolicy": policy_of}));
        network["metadata"]["namespace"] = namespace.into();
        network
    };
    let case = || {
        let case = Case::new(Some(network("linkerd-egress", "Allow")), network("linkerd-egress", "Deny"));
        case.among(namespaces(&["a", "b", "c"])).among([network("c", "Allow")])
    };
    let answer = case().ask().unwrap();
    assert_eq!(answer.planned.plan.mechanism, Mechanism::Namespace);
    assert_eq!(answer.step(5000)[0].iter().filter(|line| line.starts_with("helper EgressNetwork")).count(), 1);
    let mut second = network("linkerd-egress", "Deny");
    second["metadata"]["name"] = "second".into();
    let parent = json!([{"group": "policy.linkerd.io", "kind": "EgressNetwork", "name": "all", "namespace": "linkerd-egress", "port": 443}]);
    let on_it = gateway("HTTPRoute", "out", &json!({"parentRefs": parent}));
    for (neighbour, reason) in [(second, "is everybody's too"), (on_it, "has it as its parent")] {
        let refused = case().among([neighbour]).refused();
        assert!(refused.contains(reason), "{refused}");
    }
    let own = Case::new(Some(network("shop", "Allow")), network("shop", "Deny")).refused();
    assert!(own.contains("of the namespace shop alone"), "{own}");
}

#[test]
fn a_split_is_blended_where_its_kind_is_installed() {
    let split = |v2: u32| {
        let backends = json!([{"service": "web-v1", "weight": 100 - v2}, {"service": "web-v2", "weight": v2}]);
        object("split.smi-spec.io/v1alpha2", "TrafficSplit", "web", &json!({"service": "web", "backends": backends}))
    };
    let answer = Case::new(Some(split(0)), split(100)).ask().unwrap();
    assert_eq!(answer.planned.plan.mechanism, Mechanism::Weight);
    let backends = answer.written(1000, "TrafficSplit", "web")["backends"].clone();
    assert_eq!(backends, json!([{"service": "web-v1", "weight": 9000}, {"service": "web-v2", "weight": 1000}]));
    let target = full_target(&split(0));
    assert!(Linkerd.instead(&target, &split(10)).unwrap().would_work.contains("\"kind\":\"HTTPRoute\""));
    assert_eq!(Linkerd.instead(&full_target(&server("web", 1, "deny")), &Value::Null), None);
}

#[test]
fn nothing_is_shared_with_a_version_that_is_not_there() {
    let rule = json!({"backendRefs": to("web")});
    assert!(Case::new(None, route(&rule)).refused().contains("no version to share the traffic with"));
    let mut gone = Case::new(Some(route(&rule)), route(&rule));
    gone.canary = Value::Null;
    assert!(gone.refused().contains("shall be gone"));
}
