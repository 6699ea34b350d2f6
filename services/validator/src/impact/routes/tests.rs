//! What is told of many edges.

use serde_json::{Value, json};

use super::*;
use crate::impact::labels::Open;
use crate::{
    access::{Call, Workload},
    routing::MESH,
};

fn cart(http: Value) -> Vec<VirtualService> {
    VirtualService::all(&[json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
               "metadata": {"namespace": "shop", "name": "cart"}, "spec": {"hosts": ["cart"], "http": http}})])
}

fn to(host: &str) -> Value {
    json!([{"destination": {"host": host}}])
}

fn edge(service: &str, path: &str, rate: f64) -> Edge {
    let request = Request {
        host: format!("{service}.shop.svc.cluster.local"),
        gateway: MESH.into(),
        path: if path.is_empty() { Default::default() } else { path.to_owned().into() },
        ..Request::default()
    };
    let workload = Workload { namespace: "shop".into(), ..Workload::default() };
    Edge { workload, open: Open::None, service: service.into(), call: Call::default(), request, asked: false, rate }
}

#[test]
fn what_is_lost_is_told_first_and_what_is_not_known_apart() {
    let edges = [
        edge("cart", "/a", 90.0),
        edge("cart", "/b", 6.0),
        edge("cart", "/c", 2.0),
        edge("cart", "", 1.0),
        edge("pay", "/a", 1.0),
    ];
    let all = || json!([{"route": to("cart")}]);
    let new = json!([
        {"match": [{"uri": {"prefix": "/a"}}], "route": to("next")},
        {"match": [{"uri": {"prefix": "/b"}}], "route": to("cart")},
    ]);
    let impact = analyze(&cart(all()), &cart(new.clone()), &edges);
    assert_eq!(
        impact.summary(),
        "2 of 5 edges change route, 92.0 % of requests: 1 get no route (404), 1 go elsewhere; \
         the route of 1 of 5 edges cannot be decided, 1.0 % of requests."
    );
    let told: Vec<_> = impact.affected.iter().map(|one| (one.edge, one.change.effect)).collect();
    assert_eq!(told, [(2, Effect::NoRoute), (3, Effect::Undecided), (0, Effect::Moved)]);
    assert_eq!(
        impact.affected[0].reason,
        "Now it is sent to cart.shop.svc.cluster.local by shop/cart http[0]; then it is left without a route (404) by shop/cart."
    );
    assert_eq!(impact.services, BTreeSet::from(["shop/cart".to_owned()]));
    assert_eq!(analyze(&cart(new.clone()), &cart(new), &edges).summary(), "None of 5 edges changes route.");
    assert_eq!(analyze(&[], &[], &[]).summary(), "No traffic was given.");
    assert_eq!(analyze(&cart(all()), &[], &edges).summary(), "None of 5 edges changes route.", "the host itself");
}

#[test]
fn where_requests_were_seen_is_not_what_they_asked_for() {
    let shares = |first: i64| json!([{"route": [{"destination": {"host": "cart"}, "weight": first}, {"destination": {"host": "next"}, "weight": 100 - first}]}]);
    let edges = [edge("cart", "/", 90.0), edge("next", "/", 10.0)];
    let impact = analyze(&cart(shares(90)), &cart(shares(80)), &edges);
    let told: Vec<_> = impact.affected.iter().map(|one| (one.edge, one.change.effect)).collect();
    assert_eq!(told, [(1, Effect::Undecided), (0, Effect::Moved)], "who calls next may have asked for cart");
    assert!(
        impact.affected[0].reason.starts_with("It was seen at next.shop.svc.cluster.local"),
        "{:?}",
        impact.affected[0]
    );
    // Nobody who asks for cart comes to pay before the change, so who is seen there asked for pay.
    let impact = analyze(&cart(shares(90)), &cart(json!([{"route": to("pay")}])), &[edge("pay", "/", 1.0)]);
    assert_eq!(impact.summary(), "None of 1 edges changes route.");
    let asked = [Edge { asked: true, ..edge("next", "/", 10.0) }];
    assert_eq!(analyze(&cart(shares(90)), &cart(shares(80)), &asked).summary(), "None of 1 edges changes route.");
}

#[test]
fn requests_that_may_come_through_a_gateway_are_tried_at_it() {
    let service = |gateways: Value, to: Value| {
        VirtualService::all(&[
            json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"namespace": "shop", "name": "edge"},
                   "spec": {"hosts": ["shop.example"], "gateways": gateways, "http": [{"route": to}]}}),
        ])
    };
    let unknown = {
        let edge = edge("cart", "/", 1.0);
        Edge { request: Request { gateway: ANY_GATEWAY.into(), ..edge.request.clone() }, ..edge }
    };
    let edges = [unknown, edge("cart", "/", 1.0)];
    let impact = analyze(&service(json!(["door"]), to("cart")), &service(json!(["door"]), to("next")), &edges);
    let told: Vec<_> = impact.affected.iter().map(|one| (one.edge, one.change.effect)).collect();
    assert_eq!(told, [(0, Effect::Undecided)], "who comes from the mesh asked for cart itself");
}
