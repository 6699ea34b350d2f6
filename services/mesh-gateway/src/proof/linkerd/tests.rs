//! Kinds that the tests' own controller does not serve, and the corners of shapes.

use linkerd2_proxy_api::{
    destination::{DestinationProfile, RequestMatch, Route, WeightedDst, request_match},
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    meta::{Metadata, Resource, metadata},
    outbound::{
        Backend, GrpcRoute, OutboundPolicy, ProxyProtocol,
        grpc_route::{Distribution, Retry, RouteBackend, Rule, WeightedRouteBackend, distribution, retry::Conditions},
        proxy_protocol,
    },
};
use meshward_model::{AppliedObject, Mesh, Target};

use super::{
    facts::Kind,
    shape::{fits, milliseconds_of},
    *,
};
use crate::proof::{CohortPod, Cohorts};

fn expected(api_version: &str, kind: &str, name: &str, object: Value, others: Vec<Value>) -> Expected {
    let target = Target {
        cluster: String::new(),
        mesh: Mesh::Linkerd,
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    };
    Expected {
        target,
        object: Some(object),
        others,
        rebinds: false,
        through: Vec::new(),
        cohorts: None,
        beside: Vec::new(),
        readers: crate::dialect::Readers::default(),
    }
}

fn named(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// A client in each of two namespaces, and a service.
fn facts() -> Facts {
    let client = |namespace: &str| json!({"metadata": {"name": "client-0", "namespace": namespace}});
    let service = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    let mut service = named("till", &service);
    service["metadata"]["annotations"] = json!({"timeout.linkerd.io/response": "2s"});
    Facts::of([(Kind::Client, vec![client("shop"), client("web")]), (Kind::Service, vec![service])])
}

fn metadata(group: &str, kind: &str, name: &str, port: u32) -> Option<Metadata> {
    let resource = Resource {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        section: String::new(),
        port,
    };
    Some(Metadata { kind: Some(metadata::Kind::Resource(resource)) })
}

fn rpc_route(canary: u32, annotations: &Value) -> Value {
    let to = |name: &str, weight: u32| json!({"name": name, "port": 80, "weight": weight});
    let mut route = named(
        "calls",
        &json!({"parentRefs": [{"group": "", "kind": "Service", "name": "till"}],
                "rules": [{"matches": [{"method": {"service": "shop.Till", "method": "Pay"}}],
                           "backendRefs": [to("till", 100 - canary), to("till-next", canary)]}]}),
    );
    route["metadata"]["annotations"] = annotations.clone();
    route
}

fn rpc_policy(canary: u32, response: u64, retry: Option<Retry>) -> OutboundPolicy {
    let backend = |name: &str, weight: u32| {
        let backend = Backend { metadata: metadata("core", "Service", name, 80), ..Backend::default() };
        WeightedRouteBackend { backend: Some(RouteBackend { backend: Some(backend), ..Default::default() }), weight }
    };
    let random =
        distribution::RandomAvailable { backends: vec![backend("till", 100 - canary), backend("till-next", canary)] };
    let rpc = GrpcRpcMatch { service: "shop.Till".to_owned(), method: "Pay".to_owned() };
    let rule = Rule {
        matches: vec![GrpcRouteMatch { rpc: Some(rpc), headers: Vec::new() }],
        backends: Some(Distribution { kind: Some(distribution::Kind::RandomAvailable(random)) }),
        timeouts: Some(linkerd2_proxy_api::http_route::Timeouts {
            response: Duration::from_secs(response).try_into().ok(),
            ..Default::default()
        }),
        retry,
        ..Rule::default()
    };
    let metadata = metadata("gateway.networking.k8s.io", "GRPCRoute", "calls", 0);
    let routes = vec![GrpcRoute { metadata, rules: vec![rule], ..GrpcRoute::default() }];
    let kind = proxy_protocol::Kind::Grpc(proxy_protocol::Grpc { routes, failure_accrual: None });
    OutboundPolicy { protocol: Some(ProxyProtocol { kind: Some(kind) }), metadata: None }
}

#[test]
fn calls_by_weight_with_timeouts_and_retries() {
    let before = rpc_route(10, &json!({}))["spec"].clone();
    let of = |annotations: &Value| {
        let object = rpc_route(30, annotations);
        let expected = expected("gateway.networking.k8s.io/v1", "GRPCRoute", "calls", object, vec![before.clone()]);
        let questions = questions(&facts(), &expected);
        assert_eq!(questions.len(), 2, "a client of each namespace");
        (expected, questions)
    };
    let conditions = Conditions { unavailable: true, ..Conditions::default() };
    let retry = || Some(Retry { max_retries: 2, conditions: Some(conditions), ..Retry::default() });
    let retried = json!({"retry.linkerd.io/grpc": "unavailable", "retry.linkerd.io/limit": "2"});
    let own_timeout = json!({"timeout.linkerd.io/response": "5s"});
    for (what, annotations, policy, content) in [
        ("the service's timeout", json!({}), rpc_policy(30, 2, None), Content::Shows),
        ("the old weight", json!({}), rpc_policy(10, 2, None), Content::Older),
        ("some other weight", json!({}), rpc_policy(20, 2, None), Content::Older),
        ("its own timeout", own_timeout.clone(), rpc_policy(30, 5, None), Content::Shows),
        ("not its own timeout yet", own_timeout, rpc_policy(30, 2, None), Content::Older),
        ("its retries", retried.clone(), rpc_policy(30, 2, retry()), Content::Shows),
        ("no retries yet", retried, rpc_policy(30, 2, None), Content::Older),
        ("retries that it lost", json!({}), rpc_policy(30, 2, retry()), Content::Older),
    ] {
        let (expected, questions) = of(&annotations);
        let found = outbound::found(&expected, &policy);
        assert_eq!(questions[0].content(&found), content, "{what}: {found}");
    }
}

#[test]
fn what_cannot_be_converted_is_never_shown() {
    let mut object = rpc_route(30, &json!({}));
    object["spec"]["rules"][0]["matches"][0]["method"]["type"] = "RegularExpression".into();
    let expected = expected("gateway.networking.k8s.io/v1", "GRPCRoute", "calls", object, Vec::new());
    let found = outbound::found(&expected, &rpc_policy(30, 2, None));
    assert_eq!(questions(&facts(), &expected)[0].content(&found), Content::Older);
}

#[test]
fn profiles() {
    let name = "till.shop.svc.cluster.local";
    let spec = |canary: u32| {
        json!({"routes": [{"name": "pay", "condition": {"pathRegex": "/pay", "method": "post"}, "timeout": "300ms"}],
               "dstOverrides": [{"authority": "till.shop.svc.cluster.local", "weight": "900m"},
                                {"authority": "till-next.shop.svc.cluster.local:80", "weight": format!("{canary}m")}]})
    };
    let expected = expected("linkerd.io/v1alpha2", "ServiceProfile", name, named(name, &spec(100)), vec![spec(300)]);
    let told = |canary: u32| {
        let matches = [
            request_match::Match::Method(http::Method::POST.into()),
            request_match::Match::Path(linkerd2_proxy_api::destination::PathMatch { regex: "/pay".to_owned() }),
        ]
        .map(|one| RequestMatch { r#match: Some(one) });
        let all = request_match::Match::All(request_match::Seq { matches: matches.to_vec() });
        let route = Route {
            condition: Some(RequestMatch { r#match: Some(all) }),
            metrics_labels: [("route".to_owned(), "pay".to_owned())].into(),
            timeout: Duration::from_millis(300).try_into().ok(),
            ..Route::default()
        };
        let to = |name: &str, weight: u32| WeightedDst {
            authority: format!("{name}.shop.svc.cluster.local:80"),
            weight,
            backend_ref: None,
        };
        DestinationProfile {
            routes: vec![route],
            dst_overrides: vec![to("till", 9000), to("till-next", canary * 10)],
            profile_ref: metadata("linkerd.io", "ServiceProfile", name, 0),
            ..DestinationProfile::default()
        }
    };
    let questions = questions(&facts(), &expected);
    assert_eq!(questions.len(), 2, "a client of each namespace");
    for (told, content) in [
        (told(100), Content::Shows),
        (told(300), Content::Older),
        (DestinationProfile { profile_ref: None, ..told(100) }, Content::Older),
    ] {
        let found = profile::found(&expected, &told);
        assert_eq!(questions[0].content(&found), content, "{found}");
    }
}

#[test]
fn an_annotation_alone_is_unclear() {
    let object = rpc_route(30, &json!({}));
    let spec = object["spec"].clone();
    let expected = expected("gateway.networking.k8s.io/v1", "GRPCRoute", "calls", object, vec![spec]);
    let found = outbound::found(&expected, &rpc_policy(30, 2, None));
    assert_eq!(questions(&facts(), &expected)[0].content(&found), Content::Unclear, "it must stand still for a while");
}

#[test]
fn shapes_fit_by_value_and_by_what_only_the_controller_knows() {
    for (wanted, found, is_it) in [
        (json!(["a.b.serviceaccount.identity.*"]), json!(["a.b.serviceaccount.identity.linkerd.cluster.local"]), true),
        (json!("a.b.serviceaccount.identity.*"), json!("c.b.serviceaccount.identity.linkerd.cluster.local"), false),
        (json!("(any)"), json!([1, 2]), true),
        (json!("*"), json!("a"), false),
        (json!({"a": 1}), json!({"a": 1, "b": 2}), false),
        (json!([1]), json!([1, 2]), false),
        (json!(null), json!(null), true),
    ] {
        assert_eq!(fits(&wanted, &found), is_it, "{wanted} {found}");
    }
}

#[test]
fn durations() {
    let known = [("10s", Some(10_000)), ("1m30s", Some(90_000)), ("1.5s", Some(1500)), ("250ms", Some(250))];
    for (text, milliseconds) in known.into_iter().chain([("0s", None), ("10", None), ("s", None), ("10y", None)]) {
        assert_eq!(milliseconds_of(text), milliseconds, "{text}");
    }
}

/// What was written beside the object of a proof.
fn beside(kind: &str, name: &str, resource_version: &str) -> AppliedObject {
    AppliedObject {
        target: expected("policy.linkerd.io/v1beta3", kind, name, Value::Null, Vec::new()).target,
        resource_version: resource_version.to_owned(),
        object_generation: 1,
        absent: resource_version.is_empty(),
        pods_version: String::new(),
    }
}

#[test]
fn a_view_from_before_what_the_deployment_wrote_is_not_taken() {
    let policy = named("callers", &json!({}));
    let mut expected = expected("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", "callers", policy, Vec::new());
    expected.beside =
        vec![beside("Server", "till", "9"), beside("Server", "next", "10"), beside("HTTPRoute", "all", "7")];
    assert_eq!(Kind::Server.written(&expected), "10", "as numbers");
    assert_eq!((Kind::PolicyRoute.written(&expected), Kind::Pod.written(&expected)), ("7".to_owned(), String::new()));

    // A list that is behind: a helper is gone already, and the pods are labelled otherwise.
    let pod = |name: &str, cohort: &Value| json!({"metadata": {"name": name, "namespace": "shop", "labels": {"cohort": cohort}}});
    let pods = vec![pod("till-0", &json!("canary")), pod("till-1", &json!("stable")), pod("new", &json!("stable"))];
    let mut facts =
        Facts::of([(Kind::Server, vec![named("till", &json!({})), named("gone", &json!({}))]), (Kind::Pod, pods)]);
    expected.beside.push(beside("Server", "gone", ""));
    let known =
        |name: &str, cohort: &str| CohortPod { proxy: format!("{name}.shop"), cohort: cohort.to_owned(), ready: true };
    let pods = vec![known("till-0", ""), known("till-1", "canary")];
    expected.cohorts = Some(Cohorts { key: "cohort".to_owned(), pods });
    facts.bring_up_to_date(&expected);
    let names = |kind| facts.all(kind).map(|one| one["metadata"]["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(Kind::Server), ["till"]);
    let cohorts: Vec<_> = facts.all(Kind::Pod).map(|pod| pod["metadata"]["labels"]["cohort"].clone()).collect();
    assert_eq!(cohorts, [json!(null), json!("canary"), json!("stable")]);
}
