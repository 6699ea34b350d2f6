//! Which route a request takes, what becomes of it there, and what cannot be told.

use serde_json::{Value, json};

use super::*;

fn object(name: &str, spec: Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("shop", name));
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

/// A route to a subset of the host.
fn to(subset: &str) -> Value {
    json!([{"destination": {"host": "cart", "subset": subset}}])
}

fn routes(http: Value) -> Vec<VirtualService> {
    VirtualService::all(&[object("cart", json!({"hosts": ["cart"], "http": http}))])
}

/// All is known of it.
fn request() -> Request {
    Request {
        host: "cart.shop.svc.cluster.local".into(),
        gateway: MESH.into(),
        namespace: "web".to_owned().into(),
        labels: BTreeMap::from([("app".to_owned(), "front".to_owned())]).into(),
        port: 8080.into(),
        protocol: Protocol::Http,
        sni: Fact::Absent,
        method: "GET".to_owned().into(),
        path: "/Cart/7".to_owned().into(),
        authority: "cart".to_owned().into(),
        scheme: "http".to_owned().into(),
        headers: BTreeMap::from([("x-team".to_owned(), "red".to_owned())]),
        query: BTreeMap::from([("page".to_owned(), "2".to_owned())]),
        complete: true,
    }
}

/// Nothing is known but the host.
fn seen() -> Request {
    Request { host: request().host, gateway: MESH.into(), ..Request::default() }
}

/// Whether a match takes a request: its route has the one subset, the next the other.
fn meets(own: &Value, request: &Request) -> Option<bool> {
    let ways = decide(&routes(json!([{"match": [own], "route": to("hit")}, {"route": to("else")}])), request);
    ways.decided().map(|way| way.outcome.words().ends_with("subset hit"))
}

#[test]
fn every_field_of_a_match_is_read_as_envoy_does() {
    for (own, met) in [
        (json!({}), true),
        (json!({"uri": {"exact": "/Cart/7"}}), true),
        (json!({"uri": {"exact": "/cart/7"}}), false),
        (json!({"uri": {"exact": "/cart/7"}, "ignoreUriCase": true}), true),
        (json!({"uri": {"prefix": "/Car"}}), true),
        (json!({"uri": {"prefix": "/car"}}), false),
        (json!({"uri": {"prefix": "/car"}, "ignoreUriCase": true}), true),
        (json!({"uri": {"regex": "/[A-Z]art"}}), false),
        (json!({"uri": {"regex": "/[A-Z]art/.*"}}), true),
        (json!({"uri": {"regex": "/cart/.*"}, "ignoreUriCase": true}), false),
        (json!({"uri": {}}), true),
        (json!({"method": {"exact": "GET"}}), true),
        (json!({"method": {"regex": "P.*"}}), false),
        (json!({"authority": {"prefix": "ca"}}), true),
        (json!({"scheme": {"exact": "https"}}), false),
        (json!({"headers": {"X-Team": {"exact": "red"}}}), true),
        (json!({"headers": {"x-team": {}}}), true),
        (json!({"headers": {"x-team": {"regex": "*"}}}), true),
        (json!({"headers": {"x-other": {}}}), false),
        (json!({"headers": {"x-other": {"regex": ".*"}}}), false),
        (json!({"headers": {"x-team": {"prefix": "r"}, "x-other": {"prefix": ""}}}), false),
        (json!({"withoutHeaders": {"x-team": {"exact": "red"}}}), false),
        (json!({"withoutHeaders": {"x-team": {}}}), false),
        (json!({"withoutHeaders": {"x-other": {}}}), true),
        (json!({"withoutHeaders": {"x-other": {"exact": "red"}}}), true),
        (json!({"withoutHeaders": {"x-other": {"regex": ".*"}}}), false),
        (json!({"queryParams": {"page": {"exact": "2"}}}), true),
        (json!({"queryParams": {"page": {}}}), true),
        (json!({"queryParams": {"sort": {}}}), false),
        (json!({"port": 8080}), true),
        (json!({"port": 80}), false),
        (json!({"sourceLabels": {"app": "front"}}), true),
        (json!({"sourceLabels": {"app": "back"}}), false),
        (json!({"sourceLabels": {"app": "back"}, "gateways": ["mesh"]}), true),
        (json!({"sourceNamespace": "web"}), true),
        (json!({"sourceNamespace": "shop"}), false),
        (json!({"gateways": ["edge"]}), false),
        (json!({"method": {"exact": "GET"}, "uri": {"prefix": "/x"}}), false),
    ] {
        assert_eq!(meets(&own, &request()), Some(met), "{own}");
        // Of a request of which only the host is known, a match that asks for anything says nothing.
        let is_open = own != json!({}) && own != json!({"uri": {}}) && own["gateways"].is_null();
        assert_eq!(meets(&own, &seen()), (!is_open).then_some(met), "{own}");
    }
}

#[test]
fn what_is_beyond_the_bounds_is_not_guessed() {
    let huge = format!("(?:{}){{900}}", "[a-z]{900}");
    for own in [
        json!({"uri": {"regex": huge}}),
        json!({"uri": {"regex": "/(?<!x)"}}),
        json!({"uri": {"regex": "/é+"}}),
        json!({"headers": {"@request.auth.claims.group": {"exact": "a"}}}),
        json!({"withoutHeaders": {"@request.auth.claims[group]": {"exact": "a"}}}),
    ] {
        assert_eq!(meets(&own, &request()), None, "{own}");
    }
    let ways = decide(&routes(json!([{"match": [{"uri": {"prefix": "/a"}}], "route": to("hit")}])), &seen());
    assert_eq!(ways.words(), "not known, for shop/cart http[0] asks for what is not known of it");
    assert_eq!(compare(&ways, &ways), None, "the same question on both sides");
}

#[test]
fn a_route_does_what_it_says() {
    let two = |first: i64, second: i64| json!([{"destination": {"host": "cart"}, "weight": first}, {"destination": {"host": "next.example", "port": {"number": 9}}, "weight": second}]);
    let abort = |percent: f64| json!({"abort": {"httpStatus": 503, "percentage": {"value": percent}}});
    let own = "cart.shop.svc.cluster.local";
    for (http, words) in [
        (json!([{"route": to("v1")}]), format!("sent to {own} subset v1 by shop/cart http[0]")),
        (
            json!([{"name": "all", "route": [{"destination": {"host": "cart", "port": {"number": 8080}}, "weight": 0}]}]),
            format!("sent to {own} by shop/cart http[0] all"),
        ),
        (json!([{"route": two(1, 3)}]), format!("sent to {own} (25 %) and next.example:9 (75 %) by shop/cart http[0]")),
        (json!([{"route": two(0, 3)}]), "sent to next.example:9 by shop/cart http[0]".to_owned()),
        (
            json!([{"redirect": {"uri": "/new", "redirectCode": 307}}]),
            "redirected (redirectCode 307, uri /new) by shop/cart http[0]".to_owned(),
        ),
        (json!([{"directResponse": {"status": 410}}]), "answered with 410 by shop/cart http[0]".to_owned()),
        (
            json!([{"route": to("v1"), "fault": abort(25.0)}]),
            format!("aborted with 503 (25 %), else sent to {own} subset v1 by shop/cart http[0]"),
        ),
        (
            json!([{"route": to("v1"), "fault": {"abort": {"httpStatus": 503}}}]),
            format!("sent to {own} subset v1 by shop/cart http[0]"),
        ),
        (
            json!([{"match": [{"method": {"exact": "PUT"}}], "route": to("v1")}]),
            "left without a route (404) by shop/cart".to_owned(),
        ),
        // No route is for this caller, so it is as if the object were not there.
        (
            json!([{"match": [{"sourceNamespace": "shop"}], "route": to("v1")}]),
            format!("sent to {own} by no VirtualService"),
        ),
        (
            json!([{"match": [{"method": {"exact": "PUT"}}, {"uri": {"prefix": "/C"}}], "route": to("v1")}, {"route": to("v2")}]),
            format!("sent to {own} subset v1 by shop/cart http[0]"),
        ),
        (
            json!([{"match": [{"uri": {"prefix": "/C"}}], "delegate": {"name": "gone"}}]),
            "not known, for shop/cart http[0]".to_owned(),
        ),
        (
            json!([{"match": [{"uri": {"prefix": "/x"}}], "delegate": {"name": "gone"}}, {"route": to("v2")}]),
            format!("sent to {own} subset v2 by shop/cart http[1]"),
        ),
    ] {
        assert_eq!(decide(&routes(http.clone()), &request()).words(), words, "{http}");
    }
}

#[test]
fn the_object_that_istiod_takes_decides() {
    let one = |name: &str, host: &str, more: Value| {
        let mut object = object(
            name,
            json!({"hosts": [host], "http": [{"route": [{"destination": {"host": format!("by-{}", name.replace('/', "-")), "subset": ""}}]}]}),
        );
        for field in ["exportTo", "gateways"] {
            object["spec"][field] = more[field].clone();
        }
        object["metadata"]["creationTimestamp"] = more["age"].clone();
        object
    };
    let (full, old, young) = ("cart.shop.svc.cluster.local", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let age = |age: &str| json!({"age": age});
    for (objects, by) in [
        (vec![one("a", "cart", age(young)), one("b", full, age(old))], "sent to by-b"),
        (vec![one("a", "cart", json!(null)), one("b", "other", json!(null))], "sent to by-a"),
        (
            vec![one("a", "cart", age(old)), one("b", "cart", json!({"age": young, "exportTo": ["web"]}))],
            "sent to by-b",
        ),
        (vec![one("a", "cart", age(young)), one("b", "cart", json!({"age": old, "exportTo": ["."]}))], "sent to by-a"),
        (vec![one("a", "cart", age(young)), one("b", "*.shop.svc.cluster.local", age(old))], "sent to by-a"),
        (
            vec![one("a", "*.svc.cluster.local", age(old)), one("b", "*.shop.svc.cluster.local", age(young))],
            "sent to by-b",
        ),
        (vec![one("a", "cart", json!({"gateways": ["edge"]}))], "sent to cart.shop.svc.cluster.local"),
        (vec![one("a", "cart", json!({"gateways": ["edge", "mesh"]}))], "sent to by-a"),
        (vec![one("web/a", "cart", json!({}))], "sent to cart.shop.svc.cluster.local"),
        (
            vec![one("a", "cart", json!(null)), one("b", "cart", json!(null))],
            "not known, for shop/a and shop/b name the host",
        ),
    ] {
        let words = decide(&VirtualService::all(&objects), &request()).words();
        assert!(words.starts_with(by), "{words}, and not {by}");
    }
    let hidden = [one("a", "cart", json!({"exportTo": ["web"]}))];
    assert_eq!(decide(&VirtualService::all(&hidden), &seen()).decided(), None, "nobody knows the caller's namespace");
    let at = |gateway: &str| Request { gateway: gateway.into(), ..request() };
    let edge = [one("a", full, json!({"gateways": ["edge"]}))];
    assert!(decide(&VirtualService::all(&edge), &at("shop/edge")).words().starts_with("sent to by-a"));
    assert!(decide(&VirtualService::all(&edge), &at("web/edge")).words().starts_with("left without a route"));
    let shared = [one("a", full, json!({"gateways": ["edge"]})), one("b", full, json!({"gateways": ["edge"]}))];
    assert!(
        decide(&VirtualService::all(&shared), &at("shop/edge"))
            .words()
            .starts_with("not known, for shop/a and shop/b share")
    );
}

#[test]
fn delegates_are_put_in_their_places() {
    let root = |own: Value| {
        object(
            "root",
            json!({"hosts": ["cart"], "http": [{"name": "r", "match": own, "timeout": "5s", "delegate": {"name": "inner", "namespace": "team"}}, {"route": to("rest")}]}),
        )
    };
    let inner = |own: Value| {
        object(
            "team/inner",
            json!({"http": [{"name": "i", "match": own, "route": [{"destination": {"host": "cart"}}]}]}),
        )
    };
    let prefix = |path: &str| json!([{"uri": {"prefix": path}}]);
    let (own, rest) = (
        "sent to cart.team.svc.cluster.local by shop/root http[0] r-i",
        "sent to cart.shop.svc.cluster.local subset rest by shop/root http[1]",
    );
    for (outer, inside, words) in [
        (prefix("/C"), prefix("/Cart/"), own),
        (prefix("/C"), json!([]), own),
        (json!([]), prefix("/Cart"), own),
        (prefix("/Cart/"), prefix("/C"), rest),
        (prefix("/C"), json!([{"method": {"exact": "PUT"}}]), rest),
        (json!([{"uri": {"regex": "/.*"}}]), prefix("/Cart"), rest),
        (prefix("/C"), json!([{"uri": {"prefix": "/Cart"}, "ignoreUriCase": true}]), rest),
        (json!([{"headers": {"x-team": {"prefix": "r"}}}]), json!([{"headers": {"x-team": {"exact": "red"}}}]), own),
        (json!([{"headers": {"x-team": {"exact": "green"}}}]), prefix("/Cart"), rest),
        (json!([{"port": 80}]), prefix("/Cart"), rest),
        (json!([{"port": 8080}]), json!([{"port": 80}]), rest),
        (json!([{"sourceLabels": {"app": "front"}}]), json!([{"sourceLabels": {"app": "back"}}]), rest),
        (json!([{"gateways": ["mesh"]}]), json!([{"gateways": ["edge"]}]), rest),
    ] {
        let objects = [root(outer.clone()), inner(inside.clone())];
        assert_eq!(decide(&VirtualService::all(&objects), &request()).words(), words, "{outer} {inside}");
    }
    let mut hidden = inner(json!([]));
    hidden["spec"]["exportTo"] = json!(["."]);
    let ways = decide(&VirtualService::all(&[root(json!([])), hidden]), &request());
    assert_eq!(ways.words(), rest, "the delegate is not exported to the root's namespace");
}

#[test]
fn connections_are_routed_by_port_caller_and_server_name() {
    let tcp = json!({"hosts": ["cart"], "tcp": [
        {"match": [{"port": 80}], "route": to("other")},
        {"match": [{"port": 8080, "sourceLabels": {"app": "front"}}], "route": to("front")},
    ]});
    let tls = json!({"hosts": ["cart"], "tls": [
        {"match": [{"port": 8080, "sniHosts": ["*.shop.example"]}], "route": to("wild")},
        {"match": [{"port": 8080, "sniHosts": ["cart.shop.example"]}], "route": to("cart")},
    ]});
    let of = |protocol, sni: &str| Request { protocol, sni: sni.to_owned().into(), ..request() };
    let all = [object("cart", tcp)];
    let words = |objects: &[Value], request: &Request| decide(&VirtualService::all(objects), request).words();
    assert!(words(&all, &of(Protocol::Tcp, "")).contains("subset front by shop/cart tcp[1]"));
    let other = Request { labels: BTreeMap::new().into(), ..of(Protocol::Tcp, "") };
    assert!(words(&all, &other).ends_with("by no VirtualService"));
    assert!(words(&all, &Request { port: Fact::Unknown, ..of(Protocol::Tcp, "") }).starts_with("not known"));
    assert!(words(&all, &request()).ends_with("by no VirtualService"), "requests of HTTP take no route of TCP");
    let all = [object("cart", tls)];
    assert!(words(&all, &of(Protocol::Tls, "cart.shop.example")).contains("subset cart"));
    assert!(words(&all, &of(Protocol::Tls, "pay.shop.example")).contains("subset wild"));
    assert!(words(&all, &of(Protocol::Tls, "else.example")).starts_with("not known"));
    assert!(words(&all, &Request { sni: Fact::Unknown, ..of(Protocol::Tls, "") }).starts_with("not known"));
}

#[test]
fn a_change_is_told_by_the_worst_of_it() {
    let shares = |first: i64| json!([{"route": [{"destination": {"host": "cart"}, "weight": first}, {"destination": {"host": "next"}, "weight": 100 - first}]}]);
    let v1 = || json!([{"route": to("v1")}]);
    let none = || json!([{"match": [{"method": {"exact": "PUT"}}], "route": to("v1")}]);
    let with = |field: &str, value: Value| {
        let mut http = v1();
        http[0][field] = value;
        http
    };
    let abort = |percent: f64| with("fault", json!({"abort": {"httpStatus": 503, "percentage": {"value": percent}}}));
    let redirect = |uri: &str| json!([{"redirect": {"uri": uri}}]);
    for (before, after, expected) in [
        (v1(), v1(), None),
        (v1(), json!([{"name": "other", "match": [{"uri": {"prefix": "/"}}], "route": to("v1")}]), None),
        (v1(), json!([{"route": to("v2")}]), Some((Effect::Moved, 1.0))),
        (shares(90), shares(80), Some((Effect::Moved, 0.1))),
        (v1(), none(), Some((Effect::NoRoute, 1.0))),
        (none(), v1(), Some((Effect::Restored, 1.0))),
        (v1(), abort(25.0), Some((Effect::Aborted, 0.25))),
        (abort(25.0), abort(5.0), Some((Effect::Restored, 0.2))),
        (v1(), redirect("/a"), Some((Effect::Redirected, 1.0))),
        (redirect("/a"), redirect("/b"), Some((Effect::Redirected, 1.0))),
        (v1(), json!([{"directResponse": {"status": 410}}]), Some((Effect::Answered, 1.0))),
        (v1(), with("timeout", json!("1s")), Some((Effect::Settings, 1.0))),
        (v1(), with("mirror", json!({"host": "shadow"})), Some((Effect::Settings, 1.0))),
        (none(), none(), None),
    ] {
        let of = |http: &Value| decide(&routes(http.clone()), &request());
        let told = compare(&of(&before), &of(&after));
        let rounded = |share: f64| (share * 1e6).round() / 1e6;
        assert_eq!(told.map(|change| (change.effect, rounded(change.share))), expected, "{before} {after}");
    }
    let of = |http: Value| decide(&routes(http), &request());
    let change = compare(&of(with("retries", json!({"attempts": 3}))), &of(with("timeout", json!("1s")))).unwrap();
    assert_eq!(change.settings, ["retries", "timeout"]);
}
