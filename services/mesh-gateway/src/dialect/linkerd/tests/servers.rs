//! Servers: by pods, and by audit.

use super::*;

fn hanging() -> Vec<Value> {
    let route = policy(
        "v1beta3",
        "HTTPRoute",
        "paths",
        &json!({"parentRefs": [{"group": "policy.linkerd.io", "kind": "Server", "name": "web"},
                               {"group": "policy.linkerd.io", "kind": "Server", "name": "other"}],
                "rules": [{"matches": [{"path": {"value": "/"}}]}]}),
    );
    let by_labels = policy(
        "v1beta1",
        "ServerAuthorization",
        "by-labels",
        &json!({"server": {"selector": {"matchLabels": {"team": "shop"}}}, "client": {"unauthenticated": true}}),
    );
    let limit = policy(
        "v1alpha1",
        "HTTPLocalRateLimitPolicy",
        "limit",
        &json!({"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "web"},
                "total": {"requestsPerSecond": 10}}),
    );
    vec![
        limit,
        by_labels,
        authorization("callers", "Server", "web", &account("front")),
        authorization("for-paths", "HTTPRoute", "paths", &account("back")),
        authorization("for-all", "Namespace", "shop", &account("admin")),
        authorization("for-other", "Server", "other", &account("front")),
        route,
    ]
}

fn labelled(mut server: Value) -> Value {
    server["metadata"]["labels"] = json!({"team": "shop"});
    server
}

fn by_pods() -> Answer {
    let (stable, mut canary) =
        (labelled(server("web", 8080, "all-unauthenticated")), labelled(server("web", 8080, "deny")));
    canary["spec"]["proxyProtocol"] = "HTTP/2".into();
    Case::new(Some(stable), canary).among(hanging()).among(pods(10)).ask().unwrap()
}

#[test]
fn a_second_server_has_its_authorizations_before_it_has_pods() {
    let answer = by_pods();
    let plan = &answer.planned.plan;
    assert_eq!(plan.mechanism, Mechanism::Instance);
    assert_eq!(
        plan.steps.iter().map(|step| step.nominal_share.basis_points()).collect::<Vec<_>>(),
        [1000, 5000, 10_000]
    );
    assert_eq!(
        answer.step(1000),
        [
            vec![
                "step Server web",
                "helper HTTPRoute paths-meshward",
                "helper AuthorizationPolicy callers-meshward",
                "helper AuthorizationPolicy for-paths-meshward",
                "helper ServerAuthorization by-labels-meshward",
                "helper HTTPLocalRateLimitPolicy limit-meshward",
                "helper Server web-meshward",
            ],
            vec!["pods app=web 10 %"],
        ]
    );
    assert_eq!(
        answer.step(10_000),
        [
            vec!["final Server web"],
            vec!["pods app=web none"],
            vec![
                "gone Server web-meshward",
                "gone HTTPLocalRateLimitPolicy limit-meshward",
                "gone ServerAuthorization by-labels-meshward",
                "gone AuthorizationPolicy for-paths-meshward",
                "gone AuthorizationPolicy callers-meshward",
                "gone HTTPRoute paths-meshward",
            ],
        ]
    );
    let undo = answer.undo();
    assert_eq!(
        (&*undo[0][0], &*undo[1][0], &*undo[2][0]),
        ("baseline Server web", "gone Server web-meshward", "pods app=web none")
    );
    assert_eq!((&*plan.metrics_target.canary_series, &*plan.metrics_target.control_series), ("web-meshward", "web"));
    assert!(
        plan.not_covered.iter().any(|one| one.contains("Open connections keep their protocol")),
        "{:?}",
        plan.not_covered
    );
}

#[test]
fn of_several_servers_the_pods_label_tells_what_is_the_canarys() {
    let chosen = |by: &str| {
        let client = json!({"unauthenticated": by == "everybody", "networks": [{"cidr": "10.0.0.0/8"}]});
        let server = json!({"selector": {"matchLabels": {"team": "shop"}}});
        policy("v1beta1", "ServerAuthorization", "callers", &json!({"server": server, "client": client}))
    };
    let servers = [("web", 8080), ("web-admin", 9090)].map(|(name, port)| labelled(server(name, port, "deny")));
    let case = Case::new(Some(chosen("network")), chosen("everybody")).among(servers).among(pods(4));
    let answer = case.ask().unwrap();
    let (plan, metrics) = (&answer.planned.plan, &answer.planned.plan.metrics_target);
    let host = |name: &str| format!("{name}.shop.svc.cluster.local");
    assert_eq!(metrics.hosts, ["web", "web-admin", "web-meshward", "web-admin-meshward"].map(host));
    assert_eq!((&*metrics.canary_series, &*metrics.control_series), ("canary", ""));
    assert_eq!(metrics.cohort_label, plan.steps[0].cohorts[0].label_key);
}

#[test]
fn the_two_servers_share_the_pods_without_a_rest() {
    let answer = by_pods();
    let key = twins::cohort_key(&answer.target);
    let expression = |operator: &str| json!([{"key": key, "operator": operator, "values": ["canary"]}]);
    let stable = answer.written(1000, "Server", "web");
    assert_eq!(stable["podSelector"], json!({"matchLabels": {"app": "web"}, "matchExpressions": expression("NotIn")}));
    assert_eq!((&stable["accessPolicy"], &stable["proxyProtocol"]), (&json!("all-unauthenticated"), &json!("HTTP/1")));
    let canary = answer.object(1000, "Server", "web-meshward");
    assert_eq!(canary["spec"]["podSelector"]["matchExpressions"], expression("In"));
    assert_eq!((&canary["spec"]["accessPolicy"], &canary["spec"]["proxyProtocol"]), (&json!("deny"), &json!("HTTP/2")));
    assert_eq!(canary["metadata"]["labels"], Value::Null, "who selects Servers by labels does not select the second");
    for (kind, name, pointer, expected) in [
        ("AuthorizationPolicy", "callers-meshward", "/targetRef/name", json!("web-meshward")),
        ("AuthorizationPolicy", "for-paths-meshward", "/targetRef/name", json!("paths-meshward")),
        ("ServerAuthorization", "by-labels-meshward", "/server", json!({"name": "web-meshward"})),
        ("HTTPLocalRateLimitPolicy", "limit-meshward", "/targetRef/name", json!("web-meshward")),
        (
            "HTTPRoute",
            "paths-meshward",
            "/parentRefs",
            json!([{"group": "policy.linkerd.io", "kind": "Server", "name": "web-meshward"}]),
        ),
    ] {
        assert_eq!(answer.written(1000, kind, name).pointer(pointer), Some(&expected), "{kind} {name}");
    }
}

#[test]
fn a_first_server_and_one_that_goes_are_shared_as_well() {
    let callers = || vec![authorization("callers", "Server", "web", &account("front"))];
    let first = Case::new(None, server("web", 8080, "deny")).among(callers()).among(pods(4)).ask().unwrap();
    assert_eq!(first.step(5000)[0], ["helper AuthorizationPolicy callers-meshward", "helper Server web-meshward"]);
    assert_eq!(first.step(10_000)[0], ["final Server web"]);

    let mut gone = Case::new(Some(server("web", 8080, "deny")), server("web", 8080, "deny"));
    gone.canary = Value::Null;
    let gone = gone.among(callers()).among(pods(4)).ask().unwrap();
    assert_eq!(
        gone.step(5000),
        [vec!["step Server web", "helper AuthorizationPolicy callers-meshward"], vec!["pods app=web 50 %"]],
        "the canary's pods have no Server"
    );
    assert_eq!(gone.step(10_000)[0], ["removed Server web"]);
}

#[test]
fn what_two_servers_cannot_share_is_refused() {
    let stable = || server("web", 8080, "all-unauthenticated");
    let with = |pointer: &str, value: Value| {
        let mut canary = stable();
        *canary.pointer_mut(pointer).unwrap() = value;
        canary
    };
    let open = || authorization("callers", "Server", "web", &account("front"));
    let external = |app: &str| {
        let selector = json!({"matchLabels": {"app": app}});
        policy("v1beta3", "Server", "web", &json!({"externalWorkloadSelector": selector, "port": 1}))
    };
    let expressions = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
    let by_expressions = |protocol: &str| {
        let spec = json!({"podSelector": expressions, "port": 1, "proxyProtocol": protocol});
        policy("v1beta3", "Server", "web", &spec)
    };
    for (stable, canary, neighbours, reason) in [
        (
            stable(),
            with("/spec/podSelector", json!({"matchLabels": {"app": "api"}})),
            vec![],
            "differ in spec.podSelector",
        ),
        (stable(), with("/spec/accessPolicy", json!("deny")), vec![], "no policy authorizes anybody for the Server"),
        (external("a"), external("b"), vec![open()], "selects ExternalWorkloads"),
        (by_expressions("HTTP/1"), by_expressions("HTTP/2"), vec![open()], "selects its pods by expressions"),
        (
            stable(),
            with("/spec/port", json!("http")),
            vec![server("older", 8080, "deny")],
            "Server older selects pods of Server web on the same port: the older one of two wins",
        ),
        (
            stable(),
            with("/spec/accessPolicy", json!("audit")),
            vec![server("web-meshward", 1, "deny")],
            "Server web-meshward exists already",
        ),
    ] {
        let refused = Case::new(Some(stable), canary).among(neighbours).among(pods(4)).refused();
        assert!(refused.contains(reason), "{reason} is not in: {refused}");
    }
    let alone = Case::new(Some(stable()), with("/spec/accessPolicy", json!("audit"))).among(pods(1)).refused();
    assert!(alone.contains("one pod cannot be both"), "{alone}");
    let moved = Case::new(Some(stable()), with("/spec/port", json!(9090))).among(pods(2)).ask().unwrap();
    assert_eq!(moved.written(5000, "Server", "web-meshward")["port"], 9090, "another port is exact: each pod has one");
}

fn audited(neighbours: Vec<Value>) -> Result<Answer, Unsupported> {
    let (stable, canary) = (server("web", 8080, "all-unauthenticated"), server("web", 8080, "deny"));
    Case::new(Some(stable), canary).among(neighbours).by(Mechanism::Shadow).ask()
}

#[test]
fn an_audit_counts_what_would_be_denied_and_no_more() {
    let answer = audited(vec![authorization("callers", "Server", "web", &account("front"))]).unwrap();
    assert_eq!(
        answer.step(1000),
        [["step Server web", "helper HTTPRoute web-meshward", "helper AuthorizationPolicy callers-meshward"]]
    );
    assert_eq!(answer.written(1000, "Server", "web")["accessPolicy"], "audit");
    assert_eq!(
        answer.written(1000, "AuthorizationPolicy", "callers-meshward")["targetRef"],
        json!({"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "web-meshward"})
    );
    assert_eq!(
        answer.step(10_000),
        [vec!["gone AuthorizationPolicy callers-meshward", "gone HTTPRoute web-meshward"], vec!["final Server web"]],
        "the probes' own routes are back before anything is denied"
    );
    assert_eq!(answer.undo()[0].last().unwrap(), "baseline Server web");
    assert!(answer.planned.plan.steps.iter().take(2).all(|step| step.nominal_share == Weight::ZERO));
}

#[test]
fn an_audit_that_counts_too_much_says_so() {
    let answer = audited(hanging()).unwrap();
    assert_eq!(answer.step(1000), [["step Server web"]]);
    let admitted = answer.planned.plan.not_covered.join("\n");
    assert!(admitted.contains("the count is an upper bound"), "{admitted}");
}

#[test]
fn an_audit_that_would_open_something_is_refused() {
    for (before, after, reason) in [
        ("deny", "deny", "an audit allows everybody"),
        ("all-unauthenticated", "cluster-authenticated", "an audit shows what deny does"),
    ] {
        let case = Case::new(Some(server("web", 8080, before)), server("web", 8080, after));
        let refused = case.by(Mechanism::Shadow).refused();
        assert!(refused.contains(reason), "{refused}");
    }
    let case = Case::new(Some(server("web", 8080, "audit")), server("web", 8081, "deny"));
    assert!(case.by(Mechanism::Shadow).refused().contains("differ in spec.port too"));
}
