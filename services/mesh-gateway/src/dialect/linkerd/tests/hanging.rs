//! What hangs on a Server: policies, authentications, limits, routes.

use super::*;

fn open_server() -> Value {
    server("web", 8080, "deny")
}

/// A question about an object that hangs on the Server `web`, which two callers may reach.
fn case(stable: Option<Value>, canary: Value) -> Case {
    let others = [open_server(), authorization("others", "Server", "web", &account("other"))];
    Case::new(stable, canary).among(others).among(pods(4))
}

fn authentication(name: &str, identity: &str) -> Value {
    policy("v1alpha1", "MeshTLSAuthentication", name, &json!({"identities": [identity]}))
}

fn requires(name: &str) -> Value {
    json!([{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": name}])
}

#[test]
fn a_policy_is_exposed_on_a_second_server_that_the_live_one_does_not_cover() {
    let policy = |account_name: &str| authorization("callers", "Server", "web", &account(account_name));
    let answer = case(Some(policy("front")), policy("back")).ask().unwrap();
    assert_eq!(
        answer.step(1000)[0],
        [
            "step AuthorizationPolicy callers",
            "step Server web",
            "helper AuthorizationPolicy callers-meshward",
            "helper AuthorizationPolicy others-meshward",
            "helper Server web-meshward",
        ]
    );
    assert_eq!(answer.written(1000, "AuthorizationPolicy", "callers"), policy("front")["spec"], "it goes on as it was");
    let second = answer.written(1000, "AuthorizationPolicy", "callers-meshward");
    assert_eq!(
        (&second["targetRef"]["name"], &second["requiredAuthenticationRefs"]),
        (&json!("web-meshward"), &account("back"))
    );
    assert_eq!(
        answer.step(10_000),
        [
            vec!["final AuthorizationPolicy callers"],
            vec!["baseline Server web"],
            vec!["pods app=web none"],
            vec![
                "gone Server web-meshward",
                "gone AuthorizationPolicy others-meshward",
                "gone AuthorizationPolicy callers-meshward",
            ],
        ]
    );
    assert_eq!(
        answer.undo(),
        [
            vec!["baseline AuthorizationPolicy callers", "baseline Server web"],
            vec![
                "gone Server web-meshward",
                "gone AuthorizationPolicy others-meshward",
                "gone AuthorizationPolicy callers-meshward",
            ],
            vec!["pods app=web none"],
        ]
    );
    let related: Vec<_> = answer.planned.related.iter().map(|one| one.target.to_string()).collect();
    assert_eq!(related, ["Server shop/web", "AuthorizationPolicy shop/others"]);
}

#[test]
fn however_much_hangs_on_a_server_a_phase_of_the_plan_is_three_writes() {
    let policy = |account_name: &str| authorization("callers", "Server", "web", &account(account_name));
    let more = ["a", "b", "c", "d"].map(|name| authorization(name, "Server", "web", &account("other")));
    let answer = case(Some(policy("front")), policy("back")).among(more).ask().unwrap();
    let [ten, .., full] = &answer.planned.plan.steps[..] else { panic!("steps") };
    let told = |step: &PlannedStep| -> Vec<_> {
        step.phases.iter().map(|phase| (phase.purpose, phase.most_writes, phase.exposed.clone())).collect()
    };
    let prepare = (Purpose::Prepare, 3, "Who has it already.".to_owned());
    let expose = (Purpose::Expose, 1, ten.exposed.clone());
    assert_eq!(told(ten), [prepare.clone(), prepare.clone(), prepare, expose]);
    assert_eq!(ten.writes.iter().map(|write| write.phase).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    assert_eq!((ten.writes.len(), ten.cohorts[0].phase), (9, 3));
    let clean_up = |most_writes| (Purpose::Cleanup, most_writes, "Everybody.".to_owned());
    assert_eq!(
        told(full),
        [(Purpose::Promote, 1, full.exposed.clone()), clean_up(2), clean_up(1), clean_up(3), clean_up(3), clean_up(1)]
    );
    let intent = answer.intent(0);
    let back = Linkerd.undo(&intent).unwrap();
    let parts = parts::back(&intent, &back).len();
    assert_eq!(parts, 5, "at once what was there before, then seven helpers, then the labels");
}

#[test]
fn a_first_policy_and_one_that_goes_are_exposed_as_well() {
    let policy = || authorization("callers", "Server", "web", &account("front"));
    let first = case(None, policy()).ask().unwrap();
    assert_eq!(first.step(1000)[0][0], "step Server web", "the Server holds late writers back");
    assert_eq!(first.step(10_000)[0], ["final AuthorizationPolicy callers"]);
    let mut gone = case(Some(policy()), policy());
    gone.canary = Value::Null;
    let gone = gone.ask().unwrap();
    let names = gone.step(1000)[0].join(", ");
    assert!(!names.contains("callers-meshward") && names.contains("others-meshward"), "{names}");
}

#[test]
fn an_authentication_is_exposed_by_twins_of_those_who_ask_for_it() {
    let authentications = [authentication("apps", "a.shop"), authentication("apps", "b.shop")];
    let [stable, canary] = authentications;
    let asking = authorization("callers", "Server", "web", &requires("apps"));
    let answer = case(Some(stable), canary).among([asking]).ask().unwrap();
    assert_eq!(
        answer.step(1000)[0],
        [
            "step MeshTLSAuthentication apps",
            "step Server web",
            "helper MeshTLSAuthentication apps-meshward",
            "helper AuthorizationPolicy others-meshward",
            "helper AuthorizationPolicy callers-meshward",
            "helper Server web-meshward",
        ],
        "what is referred to comes first"
    );
    let second = answer.written(1000, "AuthorizationPolicy", "callers-meshward");
    assert_eq!(second["requiredAuthenticationRefs"][0]["name"], "apps-meshward");
    assert_eq!(answer.written(1000, "MeshTLSAuthentication", "apps-meshward")["identities"], json!(["b.shop"]));

    let network =
        |cidr: &str| policy("v1alpha1", "NetworkAuthentication", "nets", &json!({"networks": [{"cidr": cidr}]}));
    let refused = case(Some(network("10.0.0.0/8")), network("10.1.0.0/16")).refused();
    assert!(refused.contains("concerns no Server"), "{refused}");
    let mut elsewhere = authorization(
        "callers",
        "Server",
        "web",
        &json!([{"group": "policy.linkerd.io",
        "kind": "NetworkAuthentication", "name": "nets", "namespace": "shop"}]),
    );
    elsewhere["metadata"]["namespace"] = "other".into();
    let refused = case(Some(network("10.0.0.0/8")), network("10.1.0.0/16")).among([elsewhere]).refused();
    assert!(refused.contains("other/callers of another namespace asks for it"), "{refused}");
}

#[test]
fn limits_routes_and_older_authorizations_are_exposed_too() {
    let about = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "web"});
    let limit = |rate: u32| {
        let spec = json!({"targetRef": about, "total": {"requestsPerSecond": rate}});
        policy("v1alpha1", "HTTPLocalRateLimitPolicy", "limit", &spec)
    };
    let answer = case(Some(limit(10)), limit(5)).ask().unwrap();
    assert_eq!(answer.written(1000, "HTTPLocalRateLimitPolicy", "limit-meshward")["total"]["requestsPerSecond"], 5);
    assert_eq!(answer.written(1000, "HTTPLocalRateLimitPolicy", "limit")["total"]["requestsPerSecond"], 10);

    let route = |path: &str| {
        let spec = json!({"parentRefs": [about], "rules": [{"matches": [{"path": {"value": path}}]}]});
        policy("v1beta3", "HTTPRoute", "paths", &spec)
    };
    let for_route = authorization("for-paths", "HTTPRoute", "paths", &account("back"));
    let answer = case(Some(route("/a")), route("/b")).among([for_route]).ask().unwrap();
    assert_eq!(answer.planned.plan.mechanism, Mechanism::Instance);
    assert_eq!(answer.written(1000, "HTTPRoute", "paths-meshward")["rules"][0]["matches"][0]["path"]["value"], "/b");
    assert_eq!(
        answer.written(1000, "AuthorizationPolicy", "for-paths-meshward")["targetRef"]["name"],
        "paths-meshward"
    );

    let older = |open: bool| {
        let spec = json!({"server": {"name": "web"}, "client": {"unauthenticated": open}});
        policy("v1beta1", "ServerAuthorization", "older", &spec)
    };
    let answer = case(Some(older(false)), older(true)).ask().unwrap();
    assert_eq!(answer.written(1000, "ServerAuthorization", "older-meshward")["server"]["name"], "web-meshward");
}

#[test]
fn what_would_add_up_or_decide_nothing_is_refused() {
    let on = |kind: &str, target: &str, references: &Value| authorization("callers", kind, target, references);
    let front = account("front");
    let pair = |canary: Value| (Some(on("Server", "web", &front)), canary);
    let older = |open: bool, selector: Value| {
        let spec = json!({"server": {"selector": selector}, "client": {"unauthenticated": open}});
        policy("v1beta1", "ServerAuthorization", "older", &spec)
    };
    let first_route = |path: &str| {
        let parent = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "web"});
        let spec = json!({"parentRefs": [parent], "rules": [{"matches": [{"path": {"value": path}}]}]});
        policy("v1beta3", "HTTPRoute", "paths", &spec)
    };
    for ((stable, canary), reason) in [
        (
            (Some(on("Namespace", "shop", &front)), on("Namespace", "shop", &account("back"))),
            "policies add up, so whatever a second one says, this one goes on allowing",
        ),
        (pair(on("Server", "other", &front)), "are not about the same Servers"),
        (pair(on("Server", "web", &requires("nowhere"))), "which does not exist: Linkerd drops such a policy"),
        ((None, on("HTTPRoute", "nowhere", &front)), "the HTTPRoute nowhere, which does not exist"),
        ((None, on("Server", "nowhere", &front)), "the Server nowhere, which does not exist"),
        ((Some(older(false, json!({}))), older(true, json!({}))), "go on to authorize for the canary's Server"),
        ((None, first_route("/a")), "takes away the default route and those for the kubelet's probes"),
    ] {
        let refused = case(stable, canary).refused();
        assert!(refused.contains(reason), "{reason} is not in: {refused}");
    }
    assert!(case(None, first_route("/")).ask().is_ok(), "a route for every path");
    let open = case(Some(on("Server", "web", &front)), on("Server", "web", &json!([]))).ask().unwrap();
    let admitted = open.planned.plan.not_covered.join("\n");
    assert!(admitted.contains("it allows everyone"), "{admitted}");
}
