//! What is called live, and what is not.

use std::time::Duration;

use meshward_local::linkerd::Controller;
use meshward_model::PropagationState;
use serde_json::{Value, json};

use super::world::{NAMESPACE, PATIENCE, World, assert_live, assert_pending, named, target};

const POLICY: &str = "policy.linkerd.io/v1alpha1";
const GATEWAY: &str = "gateway.networking.k8s.io/v1";
/// Long enough for whoever could show it to show it.
const A_MOMENT: Duration = Duration::from_millis(700);

fn server(name: &str, operator: &str, access: &str) -> Value {
    named(
        "policy.linkerd.io/v1beta3",
        "Server",
        name,
        &json!({"port": "http", "accessPolicy": access, "podSelector": {
            "matchLabels": {"app": "till"},
            "matchExpressions": [{"key": "cohort", "operator": operator, "values": ["canary"]}]}}),
    )
}

fn policy(name: &str, target: &Value, references: &Value) -> Value {
    named(POLICY, "AuthorizationPolicy", name, &json!({"targetRef": target, "requiredAuthenticationRefs": references}))
}

fn on_server(name: &str) -> Value {
    json!({"group": "policy.linkerd.io", "kind": "Server", "name": name})
}

pub async fn a_partition_of_servers(world: &World) {
    let whole = named(
        "policy.linkerd.io/v1beta3",
        "Server",
        "till",
        &json!({"port": 8080, "proxyProtocol": "HTTP/1", "podSelector": {"matchLabels": {"app": "till"}}}),
    );
    let (whole, proof) = world.write(&whole, None).await;
    assert_live(&proof, 2);

    // Narrowed: one pod keeps it, the other falls to the next server. Neither is the other's business.
    let (narrowed, proof) = world.write(&server("till", "NotIn", "deny"), Some(&whole)).await;
    assert_live(&proof, 2);
    let (next, proof) = world.write(&server("till-next", "In", "all-unauthenticated"), None).await;
    assert_live(&proof, 1);

    // The older one wins where both select: the younger one's pod is then none of its own.
    let (_, proof) = world.write(&server("till", "Exists", "deny"), Some(&narrowed)).await;
    assert_live(&proof, 2);
    let younger = world.prove(&world.plane(), &target(&next), Some(&next), Some(&next), A_MOMENT).await;
    assert_live(&younger, 0);

    let (_, proof) = world.write(&server("till", "NotIn", "deny"), Some(&narrowed)).await;
    assert_live(&proof, 1);
    assert_live(&world.remove(&next).await, 1);
}

pub async fn who_is_let_in(world: &World) {
    let references = json!([{"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": "callers"},
                            {"group": "policy.linkerd.io", "kind": "NetworkAuthentication", "name": "near"}]);
    let policy_of = policy("callers", &on_server("till"), &references);
    let live = world.apply(&policy_of).await;
    let plane = world.plane();
    let gone = world.prove(&plane, &target(&live), Some(&live), None, A_MOMENT).await;
    assert_live(&gone, 0);

    let networks = |cidr: &str| {
        named(POLICY, "NetworkAuthentication", "near", &json!({"networks": [{"cidr": cidr, "except": ["10.9.0.1"]}]}))
    };
    world.apply(&networks("10.0.0.0/8")).await;
    let callers = |names: &Value| named(POLICY, "MeshTLSAuthentication", "callers", &json!({"identityRefs": names}));
    let first = json!([{"kind": "ServiceAccount", "name": "front", "namespace": "web"}]);
    let (first, proof) = world.write(&callers(&first), None).await;
    assert_live(&proof, 1);
    let proof = world.prove(&plane, &target(&live), Some(&live), None, PATIENCE).await;
    assert_live(&proof, 1);

    let second = json!([{"kind": "ServiceAccount", "name": "front", "namespace": "web"},
                        {"group": "", "kind": "Namespace", "name": "books"}]);
    let (_, proof) = world.write(&callers(&second), Some(&first)).await;
    assert_live(&proof, 1);
    let (_, proof) = world.write(&networks("10.0.0.0/16"), Some(&networks("10.0.0.0/8"))).await;
    assert_live(&proof, 1);

    let namespace = json!({"kind": "Namespace", "name": NAMESPACE});
    let (_, proof) = world.write(&policy("callers", &namespace, &json!([])), Some(&live)).await;
    assert_live(&proof, 1);
    assert_live(&world.remove(&live).await, 1);

    let old = |accounts: &Value| {
        let client = json!({"meshTLS": {"serviceAccounts": accounts}});
        named(
            "policy.linkerd.io/v1beta1",
            "ServerAuthorization",
            "old",
            &json!({"server": {"name": "till"}, "client": client}),
        )
    };
    let (one, proof) = world.write(&old(&json!([{"name": "front"}])), None).await;
    assert_live(&proof, 1);
    let (_, proof) = world.write(&old(&json!([{"name": "front"}, {"name": "back"}])), Some(&one)).await;
    assert_live(&proof, 1);
}

pub async fn limits_and_routes_on_a_server(world: &World) {
    let limit = |name: &str, total: u32| {
        let overrides = json!([{"requestsPerSecond": 5, "clientRefs": [{"kind": "ServiceAccount", "name": "front", "namespace": "web"}]}]);
        let spec =
            json!({"targetRef": on_server("till"), "total": {"requestsPerSecond": total}, "overrides": overrides});
        named(POLICY, "HTTPLocalRateLimitPolicy", name, &spec)
    };
    let (hundred, proof) = world.write(&limit("limit", 100), None).await;
    assert_live(&proof, 1);
    let (_, proof) = world.write(&limit("limit", 200), Some(&hundred)).await;
    assert_live(&proof, 1);

    let route = |paths: &[&str]| {
        let rules: Vec<_> = paths
            .iter()
            .map(|path| {
                json!({"matches": [{"path": {"type": "Exact", "value": path},
                "headers": [{"name": "X-Who", "type": "RegularExpression", "value": "a.*"}], "method": "GET"}]})
            })
            .collect();
        let parent = on_server("till");
        named("policy.linkerd.io/v1beta3", "HTTPRoute", "paths", &json!({"parentRefs": [parent], "rules": rules}))
    };
    let (one, proof) = world.write(&route(&["/a"]), None).await;
    assert_live(&proof, 1);
    let (_, proof) = world.write(&route(&["/a", "/b"]), Some(&one)).await;
    assert_live(&proof, 1);
    let on_route = json!({"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "paths"});
    let front = json!([{"kind": "ServiceAccount", "name": "front", "namespace": "web"}]);
    // A second server of the namespace has no such route, so nothing of it is expected there.
    let books = json!({"port": 8080, "podSelector": {"matchLabels": {"app": "books"}}});
    let (books, proof) = world.write(&named("policy.linkerd.io/v1beta3", "Server", "books", &books), None).await;
    assert_live(&proof, 1);
    let (_, proof) = world.write(&policy("on-route", &on_route, &front), None).await;
    assert_live(&proof, 1);
    world.remove(&books).await;
    assert_live(&world.remove(&one).await, 1);
}

/// A route on the service, of the Gateway API; its filters are those of its only rule.
fn weighted(namespace: &str, name: &str, canary: u32, filters: &Value) -> Value {
    let to = |name: &str, weight: u32| json!({"name": name, "namespace": NAMESPACE, "port": 80, "weight": weight});
    let parent = json!({"group": "", "kind": "Service", "name": "till", "namespace": NAMESPACE, "port": 80});
    let rule = json!({"filters": filters, "timeouts": {"request": "10s"},
                      "backendRefs": [to("till", 100 - canary), to("till-next", canary)]});
    let mut route = named(GATEWAY, "HTTPRoute", name, &json!({"parentRefs": [parent], "rules": [rule]}));
    route["metadata"]["namespace"] = namespace.into();
    route
}

pub async fn weights_of_a_service(world: &World) {
    let (mut before, proof) = world.write(&weighted(NAMESPACE, "split", 0, &json!([])), None).await;
    assert_live(&proof, 2);
    for canary in [10, 30, 50] {
        let (live, proof) = world.write(&weighted(NAMESPACE, "split", canary, &json!([])), Some(&before)).await;
        assert_live(&proof, 2);
        before = live;
    }
    // A consumer's route is given to its own namespace only, beside the producer's.
    let filters = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-Cohort", "value": "v2"}]}}]);
    let (_, proof) = world.write(&weighted("web", "own", 100, &filters), None).await;
    assert_live(&proof, 1);
    assert_live(&world.remove(&weighted("web", "own", 100, &filters)).await, 1);
}

pub async fn what_the_controller_ignores_is_never_live(world: &World) {
    let before = weighted(NAMESPACE, "split", 50, &json!([]));
    let rewrite = json!([{"type": "URLRewrite", "urlRewrite": {"hostname": "elsewhere"}}]);
    let stale = world.apply(&weighted(NAMESPACE, "split", 90, &rewrite)).await;
    let proof = world.prove(&world.plane(), &target(&stale), Some(&stale), Some(&before), A_MOMENT).await;
    assert_pending(&proof, &["books-0.shop", "front-0.web"]);
    let (_, proof) = world.write(&weighted(NAMESPACE, "split", 90, &json!([])), Some(&before)).await;
    assert_live(&proof, 2);
}

pub async fn connections(world: &World) {
    assert_live(&world.remove(&weighted(NAMESPACE, "split", 0, &json!([]))).await, 2);
    let connections = |kind: &str, canary: u32| {
        let to = |name: &str, weight: u32| json!({"name": name, "port": 80, "weight": weight});
        let parent = json!({"group": "", "kind": "Service", "name": "till", "port": 80});
        let rules = json!([{"backendRefs": [to("till", 100 - canary), to("till-next", canary)]}]);
        let mut spec = json!({"parentRefs": [parent], "rules": rules});
        if kind == "TLSRoute" {
            spec["hostnames"] = json!(["till.example.org", "*.example.net"]);
        }
        named("gateway.networking.k8s.io/v1alpha2", kind, "lines", &spec)
    };
    for kind in ["TCPRoute", "TLSRoute"] {
        let (before, proof) = world.write(&connections(kind, 10), None).await;
        assert_live(&proof, 2);
        let (_, proof) = world.write(&connections(kind, 30), Some(&before)).await;
        assert_live(&proof, 2);
    }
    // Names of servers come before none: the older TCPRoute is no more served, and nothing tells so but the stream.
    let hidden = world.apply(&connections("TCPRoute", 60)).await;
    let proof = world.prove(&world.plane(), &target(&hidden), Some(&hidden), None, A_MOMENT).await;
    assert_pending(&proof, &["books-0.shop", "front-0.web"]);
}

pub async fn networks_outside(world: &World) {
    let network = |policy: &str| {
        let networks = json!([{"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}]);
        named(POLICY, "EgressNetwork", "partners", &json!({"trafficPolicy": policy, "networks": networks}))
    };
    let (allow, proof) = world.write(&network("Allow"), None).await;
    assert_live(&proof, 1);
    let (_, proof) = world.write(&network("Deny"), Some(&allow)).await;
    assert_live(&proof, 1);

    let partners = json!({"group": "policy.linkerd.io", "kind": "EgressNetwork", "name": "partners", "port": 443});
    let route = |path: &str| {
        let rule = json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [partners]});
        let spec = json!({"parentRefs": [partners], "rules": [rule]});
        named("policy.linkerd.io/v1beta3", "HTTPRoute", "out", &spec)
    };
    let (one, proof) = world.write(&route("/one"), None).await;
    assert_live(&proof, 1);
    let (_, proof) = world.write(&route("/two"), Some(&one)).await;
    assert_live(&proof, 1);
}

pub async fn a_controller_that_is_behind_is_waited_for(world: &World) {
    let before = server("till", "NotIn", "deny");
    let plane = world.plane();
    world.stack.controller.hold();
    let written = world.apply(&server("till", "NotIn", "all-authenticated")).await;
    let proof = world.prove(&plane, &target(&written), Some(&written), Some(&before), A_MOMENT).await;
    assert_pending(&proof, &["till-0.shop"]);
    assert!(proof.message.contains("waiting for till-0.shop"), "{}", proof.message);
    world.stack.controller.release();
    let proof = world.prove(&plane, &target(&written), Some(&written), Some(&before), PATIENCE).await;
    assert_live(&proof, 1);
}

pub async fn every_replica_counts(world: &World) {
    let second = Controller::start(world.stack.client()).await.expect("a second one");
    let plane = world.plane_at(&[world.stack.controller.url(), second.url()]);
    let before = server("till", "NotIn", "all-authenticated");
    let live = world.apply(&before).await;
    assert_live(&world.prove(&plane, &target(&live), Some(&live), None, PATIENCE).await, 1);

    second.hold();
    let written = world.apply(&server("till", "NotIn", "deny")).await;
    let proof = world.prove(&plane, &target(&written), Some(&written), Some(&before), A_MOMENT).await;
    assert_pending(&proof, &["till-0.shop"]);
    second.release();
    assert_live(&world.prove(&plane, &target(&written), Some(&written), Some(&before), PATIENCE).await, 1);

    let url = second.url();
    second.stop().await;
    let proof = world.prove(&plane, &target(&written), Some(&written), Some(&before), PATIENCE).await;
    assert_eq!(proof.state, PropagationState::Unknown, "{proof:?}");
    assert!(proof.message.contains(&format!("{url}: tcp connect error: Connection refused")), "{}", proof.message);
}

pub async fn a_controller_that_is_down_is_unknown(world: &mut World) {
    let plane = world.plane();
    let written = world.apply(&server("till", "NotIn", "deny")).await;
    world.stack.restart_controller().await.expect("another one");
    let proof = world.prove(&plane, &target(&written), Some(&written), None, PATIENCE).await;
    assert_eq!(proof.state, PropagationState::Unknown, "{proof:?}");
    let nobody = world.plane_at(&[]);
    let proof = world.prove(&nobody, &target(&written), Some(&written), None, PATIENCE).await;
    assert!(proof.message.contains("--linkerd-policy"), "{}", proof.message);
    assert_live(&world.prove(&world.plane(), &target(&written), Some(&written), None, PATIENCE).await, 1);
}
