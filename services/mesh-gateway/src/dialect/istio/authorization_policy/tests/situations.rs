//! Policies that come, go and change their action, and rules that also decide connections: with pods whose ports are
//! known.

use super::{
    evaluate::{self, Connection, Request, Rolls, request_ids},
    *,
};

/// Two pods that take HTTP on port 80 and connections on port 90, and one of another application.
fn neighbours() -> Vec<Value> {
    let pod = |name: &str, app: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
               "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 80}]}]}})
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ledger", "namespace": "shop"},
        "spec": {"selector": {"app": "ledger"}, "ports": [
            {"name": "http-web", "port": 8000, "targetPort": "web"}, {"name": "tcp-db", "port": 90}]}});
    vec![pod("ledger-0", "ledger"), pod("ledger-1", "ledger"), pod("other-0", "other"), service]
}

fn policy_of(name: &str, selector: Value, action: &str) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": selector, "action": action}})
}

fn spec(action: &str, rules: &[Value]) -> Value {
    json!({"selector": {"matchLabels": {"app": "ledger"}}, "action": action, "rules": rules})
}

/// What a set of policies decides, as Istio does: a DENY that is met denies; without any ALLOW the rest is allowed.
fn lets_in(policies: &[Value], meets: impl Fn(&Value) -> bool) -> bool {
    let of = |wanted: &str| policies.iter().filter(|spec| action(spec) == wanted).collect::<Vec<_>>();
    let allows = of("ALLOW");
    !of("DENY").into_iter().any(&meets) && (allows.is_empty() || allows.into_iter().any(&meets))
}

/// The objects that stand there at a weight, target and helper.
fn standing(planned: &Planned, stable: Option<&Value>, canary: &Value, weight: Weight) -> Vec<Value> {
    let intent = ExposureIntent {
        deployment_id: "d".into(),
        generation: 1,
        target: target(),
        baseline: Baseline { facts: planned.facts.clone(), ..Baseline::of(stable.cloned()) },
        canary: canary.clone(),
        mechanism: Mechanism::Request,
        weight,
    };
    let phases = Istio.render(&intent).unwrap();
    let [Phase::Objects(objects)] = &phases[..] else { panic!("{phases:?}") };
    objects.iter().map(|desired| object::spec(desired.object()).clone()).collect()
}

/// Every pair of random versions, also "none", with and without another ALLOW policy beside it.
#[test]
fn whatever_changes_each_request_is_decided_by_one_version_and_each_connection_as_before() {
    let mut rolls = Rolls::new(11);
    let (mut planned, mut told_apart) = ([0; 4], 0);
    for _ in 0..300 {
        let mut version = || match rolls.below(4) {
            0 => None,
            some => Some(object(spec(["ALLOW", "ALLOW", "DENY"][some - 1], &rolls.rules()))),
        };
        let (stable, canary) = (version(), version());
        if stable.is_none() && canary.is_none() {
            continue;
        }
        let other = (rolls.below(2) == 0).then(|| spec("ALLOW", &rolls.rules()));
        let mut around = neighbours();
        around.extend(other.clone().map(|spec| {
            json!({"apiVersion": "security.istio.io/v1", "spec": spec,
            "kind": "AuthorizationPolicy", "metadata": {"name": "other", "namespace": "shop"}})
        }));
        let canary = canary.unwrap_or(Value::Null);
        let plan = ask_among(&around, stable.as_ref(), &canary, None).unwrap();
        planned[Change::of(stable.as_ref(), &canary) as usize] += 1;
        let weight = bp([1, 1000, 3000, 5000, 9999][rolls.below(5)]);
        let cohort = Cohort::of(weight);
        let beside = |own: Vec<Value>| own.into_iter().chain(other.clone()).collect::<Vec<_>>();
        let now = beside(standing(&plan, stable.as_ref(), &canary, weight));
        let before = beside(stable.iter().map(|object| object::spec(object).clone()).collect());
        let after = beside([&canary].into_iter().filter(|v| !v.is_null()).map(|v| object::spec(v).clone()).collect());
        let expression = evaluate::expression(cohort);
        for id in request_ids() {
            let request = Request { connection: Connection { port: "80", ..rolls.connection() }, ..rolls.request(id) };
            let is_inside = request.id.as_ref().is_some_and(|id| expression.is_match(id));
            let decided = |policies: &[Value]| lets_in(policies, |spec| evaluate::meets(spec, &request));
            let expected = decided(if is_inside { &after } else { &before });
            told_apart += usize::from(expected != decided(if is_inside { &before } else { &after }));
            assert_eq!(decided(&now), expected, "{request:?} at {weight}: {now:#?}");
        }
        for port in ["90", "100"] {
            let connection = Connection { port, ..rolls.connection() };
            let decided = |policies: &[Value]| lets_in(policies, |spec| evaluate::meets_connection(spec, &connection));
            assert_eq!(decided(&now), decided(&before), "{connection:?} at {weight}: {now:#?}");
        }
        let nobody = beside(standing(&plan, stable.as_ref(), &canary, Weight::ZERO));
        for id in [None, evaluate::id("00"), evaluate::id("ff")] {
            let request = Request { connection: Connection { port: "80", ..rolls.connection() }, ..rolls.request(id) };
            let decided = |policies: &[Value]| lets_in(policies, |spec| evaluate::meets(spec, &request));
            assert_eq!(decided(&nobody), decided(&before), "{request:?} at 0 %: {nobody:#?}");
        }
    }
    assert!(planned.iter().all(|count| *count > 15) && told_apart > 5_000, "{planned:?}, {told_apart} told apart");
}

#[test]
fn two_actions_take_two_objects_and_the_new_one_comes_first_and_goes_last() {
    let (stable, canary) = (object(spec("ALLOW", &[get("/a")])), object(spec("DENY", &[get("/b")])));
    let planned = ask_among(&neighbours(), Some(&stable), &canary, None).unwrap();
    let told = |step: usize| {
        let writes = planned.plan.steps[step].writes.iter();
        writes.map(|write| format!("{} {:?} {}", write.phase, write.operation, write.target.name)).collect::<Vec<_>>()
    };
    assert_eq!(told(0), ["0 Create ledger-meshward-canary", "0 Apply ledger"]);
    let end = ["0 Create ledger-meshward-canary", "1 Apply ledger", "2 Delete ledger-meshward-canary"];
    assert_eq!(told(2), end);
    assert!(planned.plan.not_covered.iter().any(|sentence| sentence.contains("the stricter one wins")));
}

#[test]
fn workloads_that_cannot_be_told_are_refused() {
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    let with = |object: Value| neighbours().into_iter().chain([object]).collect::<Vec<_>>();
    let service = |port: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "more", "namespace": "shop"},
               "spec": {"selector": {"app": "ledger"}, "ports": [port]}})
    };
    let entry = json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
        "metadata": {"name": "vm", "namespace": "shop"}, "spec": {"labels": {"app": "ledger"}}});
    let sidecar = |protocol: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": "s", "namespace": "shop"},
               "spec": {"workloadSelector": {"labels": {"app": "ledger"}},
                        "ingress": [{"port": {"number": 8080, "protocol": protocol, "name": "x"}}]}})
    };
    let mut one_pod = policy_of("other", app("ledger"), "ALLOW");
    one_pod["spec"]["selector"] = json!({"matchLabels": {"app": "ledger", "only": "one"}});
    let mut marked = neighbours();
    marked[0]["metadata"]["labels"]["only"] = "one".into();
    marked.push(one_pod);
    let canary = object(spec("ALLOW", &[get("/a")]));
    for (around, reason) in [
        (neighbours()[2..].to_vec(), "selects no pod now"),
        (with(service(json!({"port": 7000}))), "port 7000 of Service shop/more does not say its protocol"),
        (with(service(json!({"name": "tcp", "port": 80}))), "port 80 of Service shop/more is said to be HTTP and not"),
        (with(service(json!({"name": "http", "port": 1, "targetPort": "x"}))), "a port whose number is not known"),
        (with(entry), "selects a WorkloadEntry"),
        (with(sidecar("TCP")), "no port that is declared to take HTTP"),
        (marked, "other ALLOW policies select 1 of its 2 pods"),
    ] {
        let unsupported = ask_among(&around, None, &canary, Some(Mechanism::Request)).unwrap_err();
        assert!(unsupported.reason.contains(reason), "{unsupported}");
    }
    let facts = |around: Vec<Value>| ask_among(&around, None, &canary, None).unwrap().facts;
    assert_eq!(facts(neighbours()), json!({"http_ports": ["80"], "alone": true}));
    assert_eq!(facts(with(sidecar("HTTP2"))), json!({"http_ports": ["8080"], "alone": true}), "its own listeners");
    assert_eq!(facts(with(policy_of("a", app("ledger"), "ALLOW")))["alone"], false);
    assert_eq!(facts(with(policy_of("a", app("ledger"), "DENY")))["alone"], true);
    assert_eq!(facts(with(policy_of("a", app("other"), "ALLOW")))["alone"], true);
}
