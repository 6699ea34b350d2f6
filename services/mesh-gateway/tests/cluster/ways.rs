//! The ways that a deployment can go: for each adapter and mechanism what stands there, what shall, and what is around.

use meshward_mesh_gateway::dialect::{self, Audience, HeaderMatch, HeaderValue};
use meshward_model::{Mechanism, Mesh, Target};
use serde_json::{Value, json};

use super::contract::target_of;

/// Where the lives are led.
pub const NAMESPACE: &str = "life";
/// Where callers are.
pub const CALLERS: [&str; 2] = ["life-a", "life-b"];
/// The pod of each that has a proxy of Linkerd's.
pub const CALLER: &str = "caller";
const HOST: &str = "life.life.svc.cluster.local";

/// One way of an adapter.
#[derive(Clone)]
pub struct Way {
    pub name: &'static str,
    pub mechanism: Mechanism,
    pub target: Target,
    /// Null = it does not exist.
    pub before: Value,
    /// Null = it shall be gone.
    pub canary: Value,
    /// What somebody else makes of it meanwhile.
    pub theirs: Value,
    /// To whom the canary is given.
    pub audience: Audience,
    /// What else must be there.
    pub around: Vec<Value>,
}

/// Kinds of which a deployment makes helpers, besides the kinds of its way.
fn helpers(mesh: Mesh) -> &'static [(&'static str, &'static str)] {
    match mesh {
        Mesh::Istio => &[("v1", "Pod"), ("v1", "ConfigMap"), ("networking.istio.io/v1", "VirtualService")],
        Mesh::Linkerd => &[
            ("v1", "Pod"),
            ("v1", "ConfigMap"),
            ("policy.linkerd.io/v1beta3", "HTTPRoute"),
            ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ],
    }
}

impl Way {
    /// The kinds that it is about, each once.
    pub fn kinds(&self) -> Vec<(String, String)> {
        let pair = |object: &Value| {
            let target = target_of(object);
            (target.api_version, target.kind)
        };
        let own = (self.target.api_version.clone(), self.target.kind.clone());
        let mut kinds: Vec<_> = self.around.iter().map(pair).chain([own]).collect();
        let helpers = helpers(self.target.mesh).iter();
        kinds.extend(helpers.map(|(api_version, kind)| ((*api_version).to_owned(), (*kind).to_owned())));
        kinds.sort();
        kinds.dedup();
        kinds
    }

    fn new(name: &'static str, mechanism: Mechanism, before: Value, canary: Value) -> Self {
        let target = target_of(if before.is_null() { &canary } else { &before });
        // As the API server fills in its defaults, also where no definition does so.
        let stored = |object: Value| dialect::of(target.mesh).stored(&target, &object);
        let (before, canary) = (stored(before), stored(canary));
        Self {
            name,
            mechanism,
            target,
            before,
            theirs: canary.clone(),
            canary,
            audience: Audience::default(),
            around: Vec::new(),
        }
    }

    /// A way to the absence of the object.
    fn removed(name: &'static str, mechanism: Mechanism, before: Value, theirs: Value) -> Self {
        Self { theirs, ..Self::new(name, mechanism, before, Value::Null) }
    }

    fn given_to(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }

    fn among(mut self, around: impl IntoIterator<Item = Value>) -> Self {
        let stored = |object: Value| match object["apiVersion"] == "v1" {
            true => object,
            false => dialect::of(target_of(&object).mesh).stored(&target_of(&object), &object),
        };
        self.around.extend(around.into_iter().map(stored));
        self
    }
}

fn object(api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "spec": spec,
           "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"team": "a"}, "annotations": {"note": "by hand"}}})
}

/// A pod that nothing runs.
pub fn pod(namespace: &str, index: usize) -> Value {
    let metadata = json!({"name": format!("life-{index}"), "namespace": namespace, "labels": {"app": namespace}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
           "spec": {"containers": [{"name": "app", "image": "none"}]}})
}

/// A pod with a proxy of Linkerd's that nothing runs, in a namespace of callers.
pub fn caller(namespace: &str) -> Value {
    let metadata =
        json!({"name": CALLER, "namespace": namespace, "labels": {"linkerd.io/control-plane-ns": "linkerd"}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
           "spec": {"containers": [{"name": "app", "image": "none"}]}})
}

/// A namespace whose pods get a proxy of Linkerd's.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
           "metadata": {"name": name, "annotations": {"linkerd.io/inject": "enabled"}}})
}

fn service() -> Value {
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]);
    object("v1", "Service", "life", json!({"selector": {"app": "life"}, "ports": ports}))
}

pub fn ways() -> Vec<Way> {
    let all = [
        routes(),
        policies(),
        rules(),
        entries(),
        linkerd_by_pods(),
        linkerd_by_requests(),
        linkerd_by_callers(),
        pod_by_pod(),
    ];
    all.into_iter().flatten().collect()
}

fn virtual_service(host: &str, more: &Value) -> Value {
    let mut route = json!({"route": [{"destination": {"host": host}}]});
    route.as_object_mut().expect("a route").extend(more.as_object().expect("a map").clone());
    object("networking.istio.io/v1", "VirtualService", "life", json!({"hosts": ["life"], "http": [route]}))
}

fn routes() -> Vec<Way> {
    let before = virtual_service("a", &json!({"timeout": "1s"}));
    let canary = virtual_service("b", &json!({"retries": {"attempts": 2}}));
    let (a, b) = (virtual_service("a", &json!({})), virtual_service("b", &json!({})));
    let header = HeaderMatch { name: "x-beta".into(), is_cookie: false, value: HeaderValue::Any };
    let way = |mechanism| Way::new("Istio VirtualService", mechanism, before.clone(), canary.clone());
    vec![
        way(Mechanism::Request),
        Way::new("Istio VirtualService", Mechanism::Weight, a, b),
        way(Mechanism::Header).given_to(Audience { header: Some(header), ..Audience::default() }),
        way(Mechanism::Namespace).given_to(callers_named()),
        way(Mechanism::Instance),
    ]
}

/// Which namespaces call.
fn callers_named() -> Audience {
    Audience { namespaces: CALLERS.map(str::to_owned).into(), ..Audience::default() }
}

fn policy(name: &str, action: &str, methods: &[&str]) -> Value {
    let spec = json!({"selector": {"matchLabels": {"app": "life"}}, "action": action,
                      "rules": [{"to": [{"operation": {"methods": methods}}]}]});
    object("security.istio.io/v1", "AuthorizationPolicy", name, spec)
}

fn policies() -> Vec<Way> {
    let (get, post) = (|| policy("life", "ALLOW", &["GET"]), || policy("life", "ALLOW", &["GET", "POST"]));
    let denial = policy("life", "DENY", &["DELETE"]);
    vec![
        Way::new("Istio AuthorizationPolicy", Mechanism::Request, get(), post()),
        Way::new("Istio AuthorizationPolicy, another action", Mechanism::Request, get(), denial).among([service()]),
        Way::new("Istio AuthorizationPolicy, a first one", Mechanism::Request, Value::Null, get()).among([service()]),
        Way::removed("Istio AuthorizationPolicy, removed", Mechanism::Request, get(), post()).among([service()]),
        Way::new("Istio AuthorizationPolicy, a first one", Mechanism::Instance, Value::Null, get()),
        Way::new("Istio AuthorizationPolicy", Mechanism::Shadow, get(), post()).among([policy(
            "another",
            "ALLOW",
            &["PUT"],
        )]),
    ]
}

fn pod_by_pod() -> Vec<Way> {
    let peers = |selector: Value, mode: &str| {
        let mut spec = json!({"mtls": {"mode": mode}});
        if !selector.is_null() {
            spec["selector"] = selector;
        }
        object("security.istio.io/v1", "PeerAuthentication", "life", spec)
    };
    let selected = || json!({"matchLabels": {"app": "life"}});
    let filter = |value: &str| {
        let patch = json!({"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"connect_timeout": value}}});
        let spec = json!({"workloadSelector": {"labels": {"app": "life"}}, "configPatches": [patch]});
        object("networking.istio.io/v1alpha3", "EnvoyFilter", "life", spec)
    };
    let gateway = |port: u32| {
        let server =
            json!({"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["life.example.com"]});
        // The label of the pods of one namespace alone.
        let spec = json!({"selector": {"app": "life"}, "servers": [server]});
        object("networking.istio.io/v1", "Gateway", "edge", spec)
    };
    let bound = json!({"hosts": ["life.example.com"], "gateways": ["edge"],
                       "http": [{"route": [{"destination": {"host": "life"}}]}]});
    let bound = object("networking.istio.io/v1", "VirtualService", "bound", bound);
    let of_pods = [peers(selected(), "PERMISSIVE"), peers(selected(), "STRICT")];
    let of_all = [peers(Value::Null, "PERMISSIVE"), peers(Value::Null, "STRICT")];
    let way = |name, [before, canary]: [Value; 2]| Way::new(name, Mechanism::Instance, before, canary);
    let (get, post) = (|| policy("life", "ALLOW", &["GET"]), || policy("life", "ALLOW", &["GET", "POST"]));
    let beside = way("Istio PeerAuthentication, of a namespace", of_all);
    let divided = [
        way("Istio AuthorizationPolicy", [get(), post()]),
        Way::removed("Istio AuthorizationPolicy, removed", Mechanism::Instance, get(), post()),
        way("Istio PeerAuthentication", of_pods),
        way("Istio EnvoyFilter", [filter("1s"), filter("2s")]),
        way("Istio Gateway", [gateway(80), gateway(8080)]).among([bound]),
    ];
    divided.into_iter().chain([beside]).collect()
}

fn rules() -> Vec<Way> {
    let rule = |limit: u32| {
        let policy = json!({"connectionPool": {"tcp": {"maxConnections": limit}}});
        let subsets = json!([{"name": "v1", "labels": {"version": "v1"}}]);
        let spec = json!({"host": "life", "trafficPolicy": policy, "subsets": subsets});
        object("networking.istio.io/v1", "DestinationRule", "life", spec)
    };
    let bare = || {
        let policy = json!({"connectionPool": {"tcp": {"maxConnections": 7}}});
        object("networking.istio.io/v1", "DestinationRule", "life", json!({"host": "life", "trafficPolicy": policy}))
    };
    let routes = virtual_service("life", &json!({}));
    let way = |name, before, canary| Way::new(name, Mechanism::Subset, before, canary).among([service()]);
    let copied = |name, mechanism| Way::new(name, mechanism, rule(10), rule(20));
    let elsewhere = Audience { namespaces: vec![CALLERS[0].to_owned()], ..Audience::default() };
    vec![
        copied("Istio DestinationRule", Mechanism::Instance),
        // Two copies for each namespace of callers.
        copied("Istio DestinationRule, callers elsewhere", Mechanism::Instance).given_to(elsewhere),
        copied("Istio DestinationRule", Mechanism::Namespace).given_to(callers_named()),
        way("Istio DestinationRule, with routes", rule(10), rule(20)).among([routes]),
        way("Istio DestinationRule, without routes", rule(10), rule(20)),
        way("Istio DestinationRule, a first one", Value::Null, bare()),
        Way::removed("Istio DestinationRule, removed", Mechanism::Subset, bare(), rule(20)).among([service()]),
    ]
}

fn entries() -> Vec<Way> {
    let bank = |address: &str| {
        let ports = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
        let spec = json!({"hosts": ["bank.example.com"], "resolution": "STATIC", "ports": ports,
                          "endpoints": [{"address": address}]});
        object("networking.istio.io/v1", "ServiceEntry", "life", spec)
    };
    let machine = |address: &str| {
        let spec = json!({"address": address, "weight": 100, "labels": {"app": "life"}});
        object("networking.istio.io/v1", "WorkloadEntry", "life", spec)
    };
    vec![
        Way::new("Istio ServiceEntry", Mechanism::Weight, bank("10.0.0.1"), bank("10.0.0.2")),
        Way::new("Istio ServiceEntry", Mechanism::Namespace, bank("10.0.0.1"), bank("10.0.0.2"))
            .given_to(callers_named()),
        Way::new("Istio WorkloadEntry", Mechanism::Weight, machine("10.0.0.1"), machine("10.0.0.2")),
    ]
}

fn server(access: &str, protocol: &str) -> Value {
    let spec = json!({"podSelector": {"matchLabels": {"app": "life"}}, "port": 8080, "proxyProtocol": protocol,
                      "accessPolicy": access});
    object("policy.linkerd.io/v1beta3", "Server", "life", spec)
}

fn callers(name: &str, account: &str) -> Value {
    let spec = json!({"targetRef": {"group": "policy.linkerd.io", "kind": "Server", "name": "life"},
                      "requiredAuthenticationRefs": [{"kind": "ServiceAccount", "name": account}]});
    object("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", name, spec)
}

fn linkerd_by_pods() -> Vec<Way> {
    let way = |name, before, canary| Way::new(name, Mechanism::Instance, before, canary);
    let denying = || server("deny", "HTTP/1");
    let (front, back) = (|| callers("life", "front"), || callers("life", "back"));
    let others = || callers("others", "front");
    vec![
        way("Linkerd Server", denying(), server("deny", "HTTP/2")).among([others()]),
        way("Linkerd AuthorizationPolicy", front(), back()).among([denying(), others()]),
        way("Linkerd AuthorizationPolicy, a first one", Value::Null, back()).among([denying(), others()]),
        Way::removed("Linkerd AuthorizationPolicy, removed", Mechanism::Instance, front(), back())
            .among([denying(), others()]),
        Way::new("Linkerd Server", Mechanism::Shadow, server("all-unauthenticated", "HTTP/1"), denying())
            .among([others()]),
    ]
}

fn linkerd_by_requests() -> Vec<Way> {
    let denying = || server("deny", "HTTP/1");
    let others = || callers("others", "front");
    let parent = json!({"group": "policy.linkerd.io", "kind": "Server", "name": "life"});
    let route = |value: &str| {
        let set = json!({"type": "RequestHeaderModifier",
                         "requestHeaderModifier": {"set": [{"name": "version", "value": value}]}});
        let spec = json!({"parentRefs": [parent], "rules": [{"filters": [set]}]});
        object("policy.linkerd.io/v1beta3", "HTTPRoute", "all", spec)
    };
    let about_route = |name: &str, account: &str| {
        let mut policy = callers(name, account);
        policy["spec"]["targetRef"] = json!({"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "all"});
        policy
    };
    let mut open = callers("life", "front");
    open["spec"]["requiredAuthenticationRefs"] = json!([]);
    let way =
        |mechanism| {
            Way::new("Linkerd AuthorizationPolicy", mechanism, callers("life", "front"), callers("life", "back"))
                .among([denying(), others(), service()])
        };
    let (front, back) = (about_route("life", "front"), about_route("life", "back"));
    vec![
        way(Mechanism::Header),
        way(Mechanism::Weight),
        Way::new("Linkerd AuthorizationPolicy, of a route", Mechanism::Header, front, back).among([
            denying(),
            route("1"),
            about_route("others", "front"),
        ]),
        Way::new("Linkerd HTTPRoute, of a Server", Mechanism::Header, route("1"), route("2"))
            .among([denying(), about_route("others", "front")]),
        Way::new("Linkerd AuthorizationPolicy", Mechanism::Shadow, open, callers("life", "back"))
            .among([denying(), others()]),
    ]
}

fn linkerd_by_callers() -> Vec<Way> {
    let route = |backend: &str| {
        let parent = json!({"group": "", "kind": "Service", "name": "life", "port": 80});
        let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": [{"name": backend, "port": 80}]}]});
        object("gateway.networking.k8s.io/v1", "HTTPRoute", "life", spec)
    };
    let profile = |authority: &str| {
        let spec = json!({"dstOverrides": [{"authority": authority, "weight": 1}]});
        object("linkerd.io/v1alpha2", "ServiceProfile", HOST, spec)
    };
    let by_route = |mechanism| Way::new("Linkerd HTTPRoute", mechanism, route("a"), route("b"));
    let (a, b) = ("a.life.svc.cluster.local:80", "b.life.svc.cluster.local:80");
    let by_profile = |mechanism| Way::new("Linkerd ServiceProfile", mechanism, profile(a), profile(b));
    vec![
        by_route(Mechanism::Weight),
        by_route(Mechanism::Header),
        by_route(Mechanism::Namespace),
        by_profile(Mechanism::Weight),
        by_profile(Mechanism::Namespace),
    ]
}
