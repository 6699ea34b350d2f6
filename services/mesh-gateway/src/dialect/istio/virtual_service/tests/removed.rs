//! A VirtualService that shall be gone.

use super::*;

fn live() -> Value {
    json!({"hosts": ["checkout"], "http": [
        {"match": [{"uri": {"prefix": "/v1"}}], "timeout": "3s", "route": [to("checkout-old")]},
        {"route": [{"destination": {"host": "checkout", "subset": "v1"}}]},
    ]})
}

fn with(spec: &Value, field: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    spec[field] = value;
    spec
}

/// A Service of the host, with one port of this name.
fn service(port: &str, more: &Value) -> Value {
    let mut spec = json!({"ports": [{"name": port, "port": 8080}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"kind": "Service", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec})
}

fn ask_for(
    stable: &Value,
    (wanted, audience): (Option<Mechanism>, Audience),
    around: &[Value],
) -> Result<ExposurePlan, Unsupported> {
    let weights = [bp(0), bp(1000), bp(5000), Weight::FULL];
    let planned = Istio.plan(&Question {
        target: &target(),
        baseline: &Baseline::of(Some(object(stable.clone()))),
        canary: &Value::Null,
        weights: &weights,
        wanted,
        audience: &audience,
        neighbours: around.into(),
    });
    planned.map(|planned| planned.plan)
}

fn ask_by(stable: &Value, wanted: Option<Mechanism>, around: &[Value]) -> Result<ExposurePlan, Unsupported> {
    ask_for(stable, (wanted, Audience::default()), around)
}

#[test]
fn a_cohort_gets_what_the_mesh_does_without_it_and_at_the_end_it_goes() {
    let plan = ask_by(&live(), None, &[service("http", &json!({}))]).unwrap();
    assert_eq!(plan.mechanism, Mechanism::Request);
    let [none, tenth, half, full] = &plan.steps[..] else { panic!("four steps") };
    assert_eq!(none.writes[0].object["spec"], live());
    let default = json!([{"route": [to("checkout")]}]);
    for (step, bp) in [(tenth, bp(1000)), (half, bp(5000))] {
        let as_changed = request::compose(&live(), &with(&live(), "http", default.clone()), bp);
        assert_eq!(step.writes[0].object["spec"], as_changed, "like a change to the default route");
    }
    assert_eq!((full.writes.len(), full.writes[0].operation), (1, Operation::Delete));
    assert_eq!(plan.metrics_target.hosts, ["checkout.shop.svc.cluster.local"]);
    assert_eq!(plan.metrics_target.canary_series, "canary");
}

#[test]
fn by_weight_only_destinations_are_taken_away() {
    let stable = json!({"hosts": ["checkout"], "gateways": ["mesh"], "http": [{"route": [to("checkout-old")]}]});
    let around = [service("http", &json!({}))];
    let plan = ask_by(&stable, Some(Mechanism::Weight), &around).unwrap();
    let part = |host: &str, weight: i64| json!({"destination": {"host": host}, "weight": weight});
    let blended = json!([{"route": [part("checkout-old", 9000), part("checkout", 1000)]}]);
    assert_eq!(plan.steps[1].writes[0].object["spec"], with(&stable, "http", blended));
    assert_eq!(plan.steps[3].writes[0].operation, Operation::Delete);
    let refusal = ask_by(&live(), Some(Mechanism::Weight), &around).unwrap_err();
    assert!(refusal.reason.contains("more of spec.http than the destinations"), "{refusal}");
}

#[test]
fn an_absence_that_is_something_else_is_refused() {
    let known = || service("http", &json!({}));
    let mut not_everybodys = known();
    not_everybodys["metadata"]["annotations"] = json!({"networking.istio.io/exportTo": "."});
    let other = |place: &str, spec: Value| json!({"kind": "VirtualService", "metadata": {"name": "other", "namespace": place}, "spec": spec});
    let delegating = json!([{"delegate": {"name": "leaf"}}]);
    let by_id = json!([{"match": [{"headers": {"x-request-id": {"exact": "1"}}}], "route": [to("a")]}]);
    for (stable, around, reason) in [
        (with(&live(), "gateways", json!(["edge"])), vec![known()], "a gateway finds no host"),
        (with(&live(), "gateways", json!(["mesh", "edge"])), vec![known()], "a gateway finds no host"),
        (with(&live(), "hosts", json!(["checkout", "catalog"])), vec![known()], "it has 2 hosts"),
        (with(&live(), "hosts", json!([])), vec![known()], "delegated to"),
        (with(&live(), "http", delegating), vec![known()], "that delegates"),
        (with(&live(), "http", by_id), vec![known()], "of the live version uses x-request-id"),
        (with(&live(), "tls", json!([{"route": [to("a")]}])), vec![known()], "it has spec.tls"),
        (with(&live(), "hosts", json!(["*.shop.svc.cluster.local"])), vec![known()], "is no Service of namespace shop"),
        (with(&live(), "hosts", json!(["checkout.example.com"])), vec![known()], "is no Service of namespace shop"),
        (with(&live(), "hosts", json!(["checkout.far.svc.cluster.local"])), vec![known()], "is no Service"),
        (live(), vec![], "is no Service of namespace shop"),
        (live(), vec![service("http", &json!({"clusterIP": "None"}))], "headless"),
        (live(), vec![service("http", &json!({"type": "ExternalName"}))], "another name"),
        (live(), vec![not_everybodys], "is not everybody's"),
        (live(), vec![service("tcp-db", &json!({}))], "no port of checkout.shop.svc.cluster.local takes requests"),
        (live(), vec![known(), other("shop", live())], "VirtualService shop/other has checkout.shop"),
        (live(), vec![known(), other("far", json!({"hosts": ["*"]}))], "VirtualService far/other has checkout.shop"),
    ] {
        let refusal = ask_by(&stable, None, &around).unwrap_err();
        assert!(refusal.reason.contains(reason), "{reason}: {refusal}");
    }
    let on_gateways = other("far", json!({"hosts": ["*"], "gateways": ["edge"]}));
    assert!(ask_by(&live(), None, &[known(), on_gateways]).is_ok(), "for others than sidecars");
    for wanted in [Mechanism::Namespace, Mechanism::Instance] {
        let refusal = ask_by(&live(), Some(wanted), &[known()]).unwrap_err();
        assert!(refusal.would_work.contains("ask for REQUEST or WEIGHT"), "{refusal}");
    }
}
