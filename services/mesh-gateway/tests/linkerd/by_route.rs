//! AuthorizationPolicies by request, seen from the pods: every message of their policy streams is read as a proxy reads
//! it, from before the plan to after the way back, and asked whom it lets in.

use std::sync::Arc;

use linkerd2_proxy_api::{
    http_route::header_match,
    inbound::{HttpRoute, Server as Policy, authn::Permit, authn::permit_mesh_tls::Clients, proxy_protocol::Kind},
    meta::metadata,
};
use meshward_mesh_gateway::clusters::Member;
use meshward_model::Mechanism;
use serde_json::{Value, json};

use super::{
    moments::{PODS, Pods, given, given_a_server, server, unchanged},
    release::{Release, gateway},
    world::{NAMESPACE, World, named},
};

/// A request: the account of its client, and a header.
#[derive(Clone, Copy, Debug)]
struct Asked {
    account: &'static str,
    header: (&'static str, &'static str),
}

fn identity(account: &str) -> String {
    format!("{account}.shop.serviceaccount.identity.linkerd.cluster.local")
}

impl Asked {
    /// As the proxy sees it: it sets the identity itself.
    fn value(&self, name: &str) -> Option<String> {
        match name {
            "l5d-client-id" => Some(identity(self.account)),
            _ => (self.header.0 == name).then(|| self.header.1.to_owned()),
        }
    }
}

/// Under the name of which authorization the request is let in: of the first of its route's and then its Server's that
/// fits. `None` = denied. The route is the one with most headers of those that fit; all paths here are the same.
fn decides(policy: &Policy, asked: &Asked) -> Option<String> {
    let Some(Kind::Http1(http)) = policy.protocol.as_ref()?.kind.as_ref() else { panic!("not HTTP/1") };
    let fitting = http.routes.iter().filter_map(|route| Some((headers_of(route, asked)?, route)));
    let (_, route) = fitting.max_by_key(|(headers, _)| *headers).expect("a route: else it is answered with 404");
    let mut authorizations = route.authorizations.iter().chain(&policy.authorizations);
    let found = authorizations.find(|authorization| {
        match authorization.authentication.as_ref().and_then(|one| one.permit.as_ref()) {
            Some(Permit::Unauthenticated(_)) => true,
            Some(Permit::MeshTls(tls)) => match &tls.clients {
                Some(Clients::Identities(all)) => all.identities.iter().any(|one| one.name == identity(asked.account)),
                _ => true,
            },
            None => false,
        }
    })?;
    match found.metadata.as_ref()?.kind.as_ref()? {
        metadata::Kind::Resource(resource) => Some(resource.name.clone()),
        metadata::Kind::Default(name) => Some(name.clone()),
    }
}

/// How many headers the route's best fitting match has.
fn headers_of(route: &HttpRoute, asked: &Asked) -> Option<usize> {
    let matches = route.rules.iter().flat_map(|rule| &rule.matches);
    let fits = |one: &linkerd2_proxy_api::http_route::HttpRouteMatch| {
        one.headers.iter().all(|header| {
            let value = asked.value(&header.name);
            match header.value.as_ref().expect("a value") {
                header_match::Value::Exact(exact) => value.is_some_and(|value| value.as_bytes() == exact),
                header_match::Value::Regex(regex) => {
                    let regex = regex::Regex::new(regex).expect("an expression");
                    value.is_some_and(|value| regex.is_match(&value))
                }
            }
        })
    };
    matches.filter(|one| fits(one)).map(|one| one.headers.len()).max()
}

fn policy(references: &Value) -> Value {
    let target = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "desk"});
    let spec = json!({"targetRef": target, "requiredAuthenticationRefs": references});
    named("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", "desk", &spec)
}

fn account(name: &str) -> Value {
    json!([{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}])
}

/// The pods of the Server, its policy, and those of the clients `front` and `back`.
struct Given {
    before: Value,
    pods: Pods,
    gateway: Arc<meshward_mesh_gateway::app::Gateway>,
}

impl Given {
    async fn by(world: &World, references: &Value) -> Self {
        given_a_server(world, "deny").await;
        let before = given(world, &policy(references), 4).await;
        let gateway = gateway(Member::new("", Arc::clone(&world.cluster), Arc::new(world.plane())));
        Self { before, pods: Pods::watch(world).await, gateway: Arc::new(gateway) }
    }

    /// What each pod decides now; all decide the same.
    async fn decide(&self, asked: &Asked) -> Option<String> {
        let decided: Vec<_> = self.pods.now().await.iter().map(|policy| decides(policy, asked)).collect();
        assert_eq!(decided.len(), PODS.len());
        assert!(decided.iter().all(|one| *one == decided[0]), "{decided:?}");
        decided[0].clone()
    }

    async fn end(self, world: &World) {
        unchanged(world, &self.before).await;
        self.pods.stop().await;
        world.remove(&self.before).await;
        world.remove(&server("deny")).await;
    }
}

/// Neither version lets in `nobody`; `front` is let in by the live one alone, and `back` by the new one alone. So a client
/// that is let in by the union, or by none, is seen in a message where both or neither are.
fn never_both_never_none(given: &Given, stable: &Asked, canary: &Asked) {
    let nobody = Asked { account: "nobody", header: stable.header };
    for policy in given.pods.every_message() {
        let [stable, canary] = [stable, canary].map(|cohort| {
            let by = |account| decides(&policy, &Asked { account, ..*cohort });
            let (front, back) = (by("front"), by("back"));
            assert!(front.is_some() != back.is_some(), "{cohort:?}: front {front:?}, back {back:?}: {policy:?}");
            front.is_some()
        });
        assert!(decides(&policy, &nobody).is_none());
        assert!(stable || !canary, "the cohort gets the new version, and no one else before the end: {policy:?}");
    }
}

/// No phase writes many objects.
fn few(writes: &[u32]) {
    assert!(writes.iter().all(|writes| *writes <= 3), "{writes:?}");
}

pub async fn a_share_of_the_requests(world: &World) {
    let given = Given::by(world, &account("front")).await;
    let service = json!({"clusterIP": "10.96.7.9", "selector": {"app": "desk"},
                         "ports": [{"port": 80, "targetPort": 8080}]});
    world.stack.apply(&named("v1", "Service", "desk", &service)).await.expect("a service");
    let of = |cohort| Asked { account: "front", header: ("x-meshward-cohort", cohort) };
    let (stable, canary) = (of("stable"), of("canary"));
    let mut release =
        Release::by(&given.gateway, &policy(&account("back")), &[1000, 3000, 5000, 10_000], Some(Mechanism::Weight))
            .await;
    for share in [1000, 3000, 5000] {
        let writes = release.expose(share).await;
        few(&writes);
        assert_eq!(given.decide(&stable).await.as_deref(), Some("desk"));
        assert_eq!(given.decide(&Asked { account: "back", ..canary }).await.as_deref(), Some("desk-meshward"));
        assert_eq!(drawn(world).await, [("stable".to_owned(), 10_000 - share), ("canary".to_owned(), share)]);
    }
    few(&release.restore().await);
    assert_eq!(given.decide(&canary).await.as_deref(), Some("desk"));
    never_both_never_none(&given, &stable, &canary);

    let mut release = Release::by(&given.gateway, &release.canary, &[5000, 10_000], Some(Mechanism::Weight)).await;
    release.expose(5000).await;
    let writes = release.expose(10_000).await;
    few(&writes);
    for cohort in [stable, canary] {
        assert_eq!(given.decide(&cohort).await, None);
        assert_eq!(given.decide(&Asked { account: "back", ..cohort }).await.as_deref(), Some("desk"));
    }
    few(&release.restore().await);
    given.end(world).await;
}

/// What the callers' policy says of the Service, by the header that it sets.
async fn drawn(world: &World) -> Vec<(String, i64)> {
    let routes =
        world.cluster.list("gateway.networking.k8s.io/v1", "HTTPRoute", Some(NAMESPACE)).await.expect("a list");
    let route = routes.iter().find(|route| route["metadata"]["name"] == "desk-meshward").expect("it is there");
    let backends = route["spec"]["rules"][0]["backendRefs"].as_array().expect("backends");
    let one = |to: &Value| {
        let set = &to["filters"][0]["requestHeaderModifier"]["set"][0];
        (set["value"].as_str().unwrap_or_default().to_owned(), to["weight"].as_i64().unwrap_or_default())
    };
    backends.iter().map(one).collect()
}

pub async fn some_of_the_clients(world: &World) {
    let given = Given::by(world, &account("front")).await;
    let of = |account| Asked { account, header: ("", "") };
    // The accounts of the world's pods are the defaults of two namespaces: neither is one of these, unless it is said so.
    for (name, account) in [("front-0", "front"), ("back-0", "back")] {
        world.stack.pod_of(NAMESPACE, name, &json!({"app": "client"}), "10.1.2.1", account).await.expect("a pod");
    }
    let weights = [2500, 5000, 7500, 10_000];
    let mut release = Release::by(&given.gateway, &policy(&account("back")), &weights, Some(Mechanism::Header)).await;
    let clients = release.baseline.facts["clients"].as_array().cloned().expect("clients");
    let is_in = |weight: i64, account: &str| {
        let count = (clients.len() * usize::try_from(weight).expect("a weight") / 10_000).max(1);
        clients[..count].contains(&format!("{account}.{NAMESPACE}").into())
    };
    for share in [2500, 5000, 7500] {
        let writes = release.expose(share).await;
        few(&writes);
        // The live version lets in `front`, and the new one `back`: each is let in by the version of its own cohort.
        let expected = |account: &str, by_stable: bool| match (is_in(share, account), by_stable) {
            (false, true) => Some("desk".to_owned()),
            (true, false) => Some("desk-meshward".to_owned()),
            _ => None,
        };
        assert_eq!(given.decide(&of("front")).await, expected("front", true), "at {share} of {clients:?}");
        assert_eq!(given.decide(&of("back")).await, expected("back", false), "at {share} of {clients:?}");
    }
    few(&release.expose(10_000).await);
    assert_eq!((given.decide(&of("front")).await, given.decide(&of("back")).await.as_deref()), (None, Some("desk")));
    few(&release.restore().await);
    assert_eq!((given.decide(&of("front")).await.as_deref(), given.decide(&of("back")).await), (Some("desk"), None));
    // Whoever is in neither, by no message.
    for policy in given.pods.every_message() {
        assert!(decides(&policy, &of("nobody")).is_none());
    }
    given.end(world).await;
}

pub async fn a_count_of_what_would_be_denied(world: &World) {
    let given = Given::by(world, &json!([])).await;
    let of = |account| Asked { account, header: ("", "") };
    let mut release =
        Release::by(&given.gateway, &policy(&account("back")), &[1000, 10_000], Some(Mechanism::Shadow)).await;
    release.expose(1000).await;
    assert_eq!(given.decide(&of("back")).await.as_deref(), Some("desk-meshward"), "both versions let it in");
    assert_eq!(given.decide(&of("front")).await.as_deref(), Some("desk"), "the new one would not, and that is counted");
    few(&release.restore().await);
    for policy in given.pods.every_message() {
        assert!(decides(&policy, &of("front")).is_some(), "nobody is denied anything: {policy:?}");
    }
    given.end(world).await;
}
