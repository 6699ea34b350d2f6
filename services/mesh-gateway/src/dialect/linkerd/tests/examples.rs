//! For the table of kinds and mechanisms: pairs of versions that show each.

use super::*;

/// A pair of versions, and what stands around it.
type Example = ([Value; 2], Vec<Value>);

/// Examples that together show every mechanism of a kind, the first one its best.
pub(in crate::dialect) fn examples(group: &str, kind: &str) -> Vec<Example> {
    let kind = Kind::of(group, kind).unwrap();
    let pair = |of: &dyn Fn(&str) -> Value| ["a", "b"].map(|which| stored(&of(which)));
    match kind {
        Kind::Server => vec![(pair(&an_open_server), around(&[]))],
        Kind::PolicyRoute | Kind::HttpRoute | Kind::GrpcRoute => vec![
            (pair(&|which| route(kind, &service(), which)), namespaces(&["c"])),
            (pair(&|which| route(kind, &on_server(), which)), around(&[])),
        ],
        Kind::TlsRoute | Kind::TcpRoute => vec![(pair(&|which| route(kind, &service(), which)), Vec::new())],
        Kind::Profile | Kind::Split => vec![(pair(&|which| destinations(kind, which)), namespaces(&["c"]))],
        Kind::Egress => {
            let of = |which: &str| named(kind, "linkerd-egress", &json!({"trafficPolicy": which}));
            vec![(pair(&of), namespaces(&["c"]))]
        }
        Kind::AuthorizationPolicy => {
            let opened = |which: &str| match which {
                "a" => authorization("x", "Server", "web", &json!([])),
                _ => authorization("x", "Server", "web", &account("b")),
            };
            let ports = json!([{"port": 80, "targetPort": 80}]);
            let service = object("v1", "Service", "web", &json!({"selector": {"app": "web"}, "ports": ports}));
            let more = [vec![service], clients(&["front", "back"])].concat();
            vec![(pair(&|which| hanging(kind, which)), around(&[])), (pair(&opened), around(&more))]
        }
        _ => {
            let asks = json!([{"group": group, "kind": kind.row().name, "name": "x"}]);
            vec![(pair(&|which| hanging(kind, which)), around(&[authorization("asks", "Server", "web", &asks)]))]
        }
    }
}

fn stored(object: &Value) -> Value {
    Linkerd.stored(&full_target(object), object)
}

fn named(kind: Kind, namespace: &str, spec: &Value) -> Value {
    let row = kind.row();
    let mut object = object(&format!("{}/{}", row.group, row.versions[0]), row.name, "x", spec);
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// The Server `web` with its pods, and more.
fn around(more: &[Value]) -> Vec<Value> {
    let server = stored(&server("web", 80, "deny"));
    let callers = authorization("callers", "Server", "web", &account("front"));
    let for_target = authorization("for-target", "Server", "x", &account("front"));
    [server, callers, for_target].into_iter().chain(more.iter().cloned()).chain(pods(2)).collect()
}

/// The second one denies, on the same port of other pods than those of `web`.
fn an_open_server(which: &str) -> Value {
    let access = if which == "a" { "all-unauthenticated" } else { "deny" };
    server("x", 8080, access)
}

fn on_server() -> Value {
    json!([{"group": "policy.linkerd.io", "kind": "Server", "name": "web"}])
}

fn service() -> Value {
    json!([{"group": "core", "kind": "Service", "name": "web", "port": 80}])
}

fn route(kind: Kind, parents: &Value, which: &str) -> Value {
    let rules = json!([{"backendRefs": [{"name": which, "port": 80}]}]);
    named(kind, "shop", &json!({"parentRefs": parents, "rules": rules}))
}

fn destinations(kind: Kind, which: &str) -> Value {
    let spec = match kind {
        Kind::Profile => json!({"dstOverrides": [{"authority": which, "weight": 1}]}),
        _ => json!({"service": "web", "backends": [{"service": which, "weight": 1}]}),
    };
    let mut object = named(kind, "shop", &spec);
    object["metadata"]["name"] = "web.shop.svc.cluster.local".into();
    object
}

fn hanging(kind: Kind, which: &str) -> Value {
    let about = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "web"});
    let spec = json!({
        "targetRef": about,
        "requiredAuthenticationRefs": account(which),
        "server": {"name": "web"},
        "client": {"unauthenticated": which == "a"},
        "identities": [which],
        "networks": [{"cidr": if which == "a" { "10.0.0.0/8" } else { "10.1.0.0/16" }}],
        "total": {"requestsPerSecond": which.len()},
    });
    named(kind, "shop", &spec)
}
