//! What is refused with which words, and that what is composed decides every request and connection as it must.

mod evaluate;
mod situations;

use meshward_model::{Baseline, Target};

use serde_json::json;

use super::*;
use crate::dialect::{Audience, Dialect as _, Istio, only_object};
use evaluate::{Connection, Request, Rolls, id, request_ids};

fn target() -> Target {
    Target::new("", "security.istio.io/v1", "AuthorizationPolicy", "shop", "ledger").unwrap()
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": "ledger", "namespace": "shop"}, "spec": spec})
}

fn bp(value: i64) -> Weight {
    Weight::from_basis_points(value).unwrap()
}

fn ask(stable: Option<&Value>, canary: &Value, wanted: Option<Mechanism>) -> Result<ExposurePlan, Unsupported> {
    ask_among(&[], stable, canary, wanted).map(|planned| planned.plan)
}

fn ask_among(
    neighbours: &[Value],
    stable: Option<&Value>,
    canary: &Value,
    wanted: Option<Mechanism>,
) -> Result<Planned, Unsupported> {
    let (target, baseline) = (target(), Baseline::of(stable.cloned()));
    let weights = [bp(1000), bp(5000), Weight::FULL];
    let question = Question {
        target: &target,
        baseline: &baseline,
        canary,
        weights: &weights,
        wanted,
        audience: &Audience::default(),
        neighbours: neighbours.into(),
    };
    Istio.plan(&question)
}

fn get(path: &str) -> Value {
    json!({"to": [{"operation": {"methods": ["GET"], "paths": [path]}}]})
}

fn allow(rules: Value) -> Value {
    json!({"selector": {"matchLabels": {"app": "ledger"}}, "action": "ALLOW", "rules": rules})
}

#[test]
fn rules_are_narrowed_to_the_cohort_and_its_complement() {
    let both = json!({"from": [{"source": {"namespaces": ["admin"]}}]});
    let conditional = json!({"when": [{"key": "request.headers[x-team]", "values": ["a"]}]});
    let stable = object(allow(json!([both, get("/old"), conditional])));
    let mut canary = object(allow(json!([get("/new"), both])));
    canary["metadata"]["labels"] = json!({"team": "ledger"});
    let plan = ask(Some(&stable), &canary, None).unwrap();
    assert_eq!(plan.mechanism, Mechanism::Request);
    let cohort = json!(["*0", "*1", "*2", "*3", "*4", "*5", "*6", "*7"]);
    let inside = json!({"key": REQUEST_ID, "values": cohort});
    let outside = json!({"key": REQUEST_ID, "notValues": cohort});
    let with = |rule: &Value, conditions: Value| {
        let mut rule = rule.clone();
        rule["when"] = conditions;
        rule
    };
    let expected = allow(json!([
        both,
        with(&get("/old"), json!([outside])),
        with(&conditional, json!([conditional["when"][0], outside])),
        with(&get("/new"), json!([inside])),
    ]));
    assert_eq!(plan.steps[1].writes[0].object["spec"], expected);
    assert_eq!(plan.steps[2].writes[0].object, canary, "the last step is the approved version itself");
    assert_eq!(plan.steps[0].nominal_share, bp(1016));
    assert_eq!((&*plan.metrics_target.canary_series, &*plan.metrics_target.control_series), ("", ""));
    let sentence = &plan.not_covered[0];
    assert!(sentence.contains("nothing judges it") && sentence.contains("SHADOW first"), "{sentence}");
    let intent = |weight| meshward_model::ExposureIntent {
        deployment_id: "d".into(),
        generation: 1,
        target: target(),
        baseline: Baseline::of(Some(stable.clone())),
        canary: canary.clone(),
        mechanism: Mechanism::Request,
        weight,
    };
    for step in &plan.steps {
        assert_eq!(only_object(Istio.render(&intent(step.weight))), step.writes[0].object, "{}", step.weight);
    }
    assert_eq!(only_object(Istio.render(&intent(Weight::ZERO)))["spec"], stable["spec"]);
}

#[test]
fn what_cannot_be_exposed_is_refused_with_the_way_out() {
    let with = |field: &str, value: Value| {
        let mut spec = allow(json!([get("/b")]));
        spec[field] = value;
        object(spec)
    };
    let of = |action: &str, rules: Value| object(json!({"action": action, "rules": rules}));
    let from = |namespace: &str| json!({"from": [{"source": {"namespaces": [namespace]}}]});
    let plain = || object(allow(json!([get("/a")])));
    let dry = |mut object: Value| {
        object["metadata"]["annotations"] = json!({DRY_RUN: "true"});
        object
    };
    let custom = |provider: &str| {
        let mut object = of("CUSTOM", json!([get("/a")]));
        object["spec"]["provider"] = json!({"name": provider});
        object
    };
    let many = |prefix: &str| (0..300).map(|index| get(&format!("/{prefix}/{index}"))).collect::<Vec<_>>();
    let by_id = json!([{"when": [{"key": "request.headers[X-Request-Id]", "values": ["a*"]}]}]);
    for (stable, canary, reason) in [
        (None, plain(), "selects no pod now"),
        (None, of("DENY", json!([get("/a")])), "selects no pod now"),
        (Some(plain()), with("action", json!("DENY")), "selects no pod now"),
        (Some(plain()), Value::Null, "selects no pod now"),
        (Some(of("AUDIT", json!([get("/a")]))), of("CUSTOM", json!([get("/a")])), "has the action CUSTOM"),
        (Some(custom("a")), custom("b"), "differ in spec.provider"),
        (Some(plain()), with("selector", json!({"matchLabels": {"app": "b"}})), "differ in spec.selector"),
        (Some(plain()), with("targetRefs", json!([])), "differ in spec.targetRefs"),
        (Some(plain()), dry(plain()), "is a dry run"),
        (Some(dry(plain())), plain(), "is a dry run"),
        (Some(plain()), with("rules", by_id.clone()), "spec.rules[0] of the new version has a condition on"),
        (Some(with("rules", by_id)), plain(), "spec.rules[0] of the live version has a condition on"),
        (Some(plain()), with("rules", json!([null])), "is no list of rules"),
        (Some(plain()), with("rules", json!({"a": 1})), "is no list of rules"),
        (Some(object(allow(json!(many("a"))))), object(allow(json!(many("b")))), "together have 600 rules"),
        (Some(plain()), with("rules", json!([get("/a"), from("b")])), "spec.rules[1] of the new version allows TCP"),
        (Some(with("rules", json!([{}]))), plain(), "spec.rules[0] of the live version allows TCP"),
        (
            Some(of("DENY", json!([get("/a")]))),
            of("DENY", json!([get("/a"), {"to": [{"operation": {"ports": ["9000"]}}]}])),
            "spec.rules[1] of the new version would meet TCP connections with the action DENY",
        ),
        (Some(of("DENY", json!([from("a"), from("b")]))), of("DENY", json!([from("a")])), "DENY meets fewer TCP"),
    ] {
        let unsupported = ask(stable.as_ref(), &canary, None).unwrap_err();
        assert!(unsupported.reason.contains(reason), "{unsupported}");
        assert!(!unsupported.would_work.is_empty(), "{unsupported}");
    }
    for wanted in [Mechanism::Subset, Mechanism::Weight, Mechanism::Header] {
        let unsupported = ask(Some(&plain()), &with("action", json!("ALLOW")), Some(wanted)).unwrap_err();
        assert!(unsupported.reason.contains("is not exposed by"), "{unsupported}");
    }
}

#[test]
fn what_is_no_pitfall_is_not_refused() {
    let from = |namespace: &str| json!({"from": [{"source": {"namespaces": [namespace]}}]});
    let of = |action: &str, rules: Value| json!({"action": action, "rules": rules});
    let implicit = |rules: Value| json!({"rules": rules});
    for (name, stable, canary) in [
        ("a default that is written out", implicit(json!([get("/a")])), of("ALLOW", json!([get("/b")]))),
        ("nothing allowed before", json!({}), implicit(json!([get("/a")]))),
        ("nothing allowed afterwards", implicit(json!([get("/a")])), json!({})),
        (
            "a rule of connections in both",
            implicit(json!([from("a"), get("/a")])),
            implicit(json!([get("/b"), from("a")])),
        ),
        ("the same to connections", of("DENY", json!([get("/a")])), of("DENY", json!([get("/b")]))),
        ("audited", of("AUDIT", json!([get("/a")])), of("AUDIT", json!([get("/b"), get("/c")]))),
    ] {
        ask(Some(&object(stable)), &object(canary), None).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Every pair of random versions that is not refused, at many weights, for requests with every pair of last digits.
#[test]
fn each_request_is_decided_by_one_version_and_each_connection_as_before() {
    let mut rolls = Rolls::new(7);
    let (mut planned, mut told_apart, mut refused) = (0, 0, 0);
    while planned < 300 {
        let action = ["ALLOW", "DENY", "AUDIT"][rolls.below(3)];
        let (stable, canary) = (rolls.rules(), rolls.rules());
        let spec = |rules: &[Value]| json!({"action": action, "rules": rules});
        let (before, after) = (spec(&stable), spec(&canary));
        if ask(Some(&object(before.clone())), &object(after.clone()), None).is_err() {
            refused += 1;
            continue;
        }
        planned += 1;
        let weight = bp([1, 1000, 2500, 3000, 5000, 9000, 9999][rolls.below(7)]);
        let cohort = Cohort::of(weight);
        let composed = compose::both(&before, &after, cohort, None);
        let expression = evaluate::expression(cohort);
        for id in request_ids() {
            let request = rolls.request(id.clone());
            let is_inside = id.is_some_and(|id| expression.is_match(&id));
            let (version, other) = if is_inside { (&after, &before) } else { (&before, &after) };
            let expected = evaluate::meets(version, &request);
            told_apart += usize::from(expected != evaluate::meets(other, &request));
            assert_eq!(evaluate::meets(&composed, &request), expected, "{request:?} at {weight}: {composed:#}");
        }
        for _ in 0..20 {
            let connection = rolls.connection();
            let expected = evaluate::meets_connection(&before, &connection);
            assert_eq!(evaluate::meets_connection(&composed, &connection), expected, "{connection:?}: {composed:#}");
            assert_eq!(evaluate::meets_connection(&after, &connection), expected, "{connection:?}: {after:#}");
        }
    }
    assert!(
        told_apart > 10_000 && refused > 100,
        "{told_apart} told apart, {refused} refused: the test sees something"
    );
}

#[test]
fn the_evaluation_is_that_of_istio() {
    let spec = json!({"action": "DENY", "rules": [{
        "from": [{"source": {"namespaces": ["a"]}}], "to": [{"operation": {"methods": ["GET"]}}]}]});
    let request = |namespace: &'static str, method: &'static str| Request {
        connection: Connection { namespace, port: "80" },
        method,
        path: "/a",
        id: id("00"),
    };
    let connection = |namespace| Connection { namespace, port: "80" };
    assert!(evaluate::meets(&spec, &request("a", "GET")) && !evaluate::meets(&spec, &request("a", "POST")));
    assert!(evaluate::meets_connection(&spec, &connection("a")), "the method is not asked");
    assert!(!evaluate::meets_connection(&spec, &connection("b")));
    let allow = json!({"rules": spec["rules"]});
    assert!(!evaluate::meets_connection(&allow, &connection("a")), "the rule is left out");
}
