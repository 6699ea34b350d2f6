//! Routes of a Service or of a network outside: who calls reads them, so it is requests that are shared, not pods.
//!
//! What Linkerd takes in and does not do is refused here for every mechanism, all at once included: its status says
//! `Accepted` for objects that it cannot convert, and goes on with what it had.

use serde_json::{Value, json};

use super::{
    blend,
    kind::{Kind, POLICY},
    object::{Parent, kind_of, linkerds_annotations, list, name, namespace, parents},
};
use crate::{
    dialect::{Question, Unsupported, steps::ALL_AT_ONCE},
    object::{self, spec},
};

fn refuse<T>(reason: impl Into<String>, would_work: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported::new(reason, would_work))
}

/// Where a route is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// By the proxies of the pods that a Server selects.
    Inbound,
    /// By the proxies of those who call.
    Outbound,
}

/// Where a route is read, if it is one of Linkerd's.
pub(super) fn place(kind: Kind, route: &Value) -> Result<Place, Unsupported> {
    let parents = parents(kind, spec(route), namespace(route));
    if let Some(Parent::Other(other)) = parents.iter().find(|parent| matches!(parent, Parent::Other(_))) {
        return refuse(
            format!(
                "a parent is the {other}, so the route is not Linkerd's to read: its parents are Services, Servers \
                     and EgressNetworks"
            ),
            "Meshward exposes routes of the Gateway API for Linkerd only; leave a route of a gateway to its controller",
        );
    }
    let servers = parents.iter().filter(|parent| matches!(parent, Parent::Server(_))).count();
    match servers {
        _ if parents.is_empty() => {
            refuse("the route has no parent, so nobody reads it", "name its Service in parentRefs")
        }
        0 => Ok(Place::Outbound),
        all if all == parents.len() => Ok(Place::Inbound),
        _ => refuse(
            "the route is about a Server and about a Service, and the two are read by different proxies",
            "write it as two routes, and release them one after the other",
        ),
    }
}

/// Which of two routes of one parent is served: the higher one.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::GrpcRoute => 3,
        Kind::TlsRoute => 1,
        Kind::TcpRoute => 0,
        _ => 2,
    }
}

/// The parents of a route that are not Servers.
pub(super) fn outside(kind: Kind, route: &Value) -> Vec<Parent> {
    let parents = parents(kind, spec(route), namespace(route)).into_iter();
    parents.filter(|parent| !matches!(parent, Parent::Server(_))).collect()
}

/// Whether two parents are the same, as far as their ports go.
fn same_parent(a: &Parent, b: &Parent) -> bool {
    let parts = |parent: &Parent| match parent {
        Parent::Service { namespace, name, port } => Some(("Service", namespace.clone(), name.clone(), *port)),
        Parent::Egress { namespace, name, port } => Some(("EgressNetwork", namespace.clone(), name.clone(), *port)),
        _ => None,
    };
    match (parts(a), parts(b)) {
        (Some(a), Some(b)) => {
            (&a.0, &a.1, &a.2) == (&b.0, &b.1, &b.2) && (a.3.is_none() || b.3.is_none() || a.3 == b.3)
        }
        _ => false,
    }
}

/// The other routes that have a parent in common with this one, each with its kind.
pub(super) fn rivals<'a>(question: &Question<'a>, kind: Kind) -> Vec<(Kind, &'a Value)> {
    let own = outside(kind, question.canary);
    let others = question.neighbours.iter().filter(|other| !object::is_of(other, question.target));
    let routes = others.filter_map(|other| Some((kind_of(other).filter(|kind| kind.is_route())?, other)));
    routes
        .filter(|(kind, other)| {
            outside(*kind, other).iter().any(|theirs| own.iter().any(|mine| same_parent(mine, theirs)))
        })
        .collect()
}

/// Whether Linkerd will do what the new version says, however it is exposed.
pub(super) fn check_in_force(question: &Question<'_>, kind: Kind) -> Result<(), Unsupported> {
    place(kind, question.canary)?;
    if place(kind, question.canary)? == Place::Inbound {
        return Ok(());
    }
    for rule in list(spec(question.canary), "rules") {
        check_rule(kind, rule)?;
    }
    check_rank(question, kind)?;
    check_profiles(question, kind)
}

fn check_rule(kind: Kind, rule: &Value) -> Result<(), Unsupported> {
    let backends = list(rule, "backendRefs").iter().flat_map(|backend| list(backend, "filters"));
    for filter in list(rule, "filters").iter().chain(backends) {
        match filter["type"].as_str().unwrap_or_default() {
            "RequestHeaderModifier" | "RequestRedirect" => {}
            "ResponseHeaderModifier" if kind != Kind::PolicyRoute => {}
            "ResponseHeaderModifier" => {
                return refuse(
                    "the filter ResponseHeaderModifier of a route of policy.linkerd.io is served as one that modifies \
                     the request",
                    "write the route as HTTPRoute of gateway.networking.k8s.io",
                );
            }
            other => {
                return refuse(
                    format!(
                        "Linkerd cannot convert the filter {other} of a route of a Service: it takes the object in, says \
                         Accepted, and goes on serving what it had"
                    ),
                    "leave the filter out; Linkerd knows RequestHeaderModifier, ResponseHeaderModifier and \
                     RequestRedirect",
                );
            }
        }
    }
    let is_regex = |one: &Value| kind == Kind::GrpcRoute && one["method"]["type"] == "RegularExpression";
    if list(rule, "matches").iter().any(is_regex) {
        return refuse("Linkerd refuses a GRPCRoute that matches methods by an expression", "name the methods");
    }
    Ok(())
}

fn check_rank(question: &Question<'_>, kind: Kind) -> Result<(), Unsupported> {
    let rivals = rivals(question, kind);
    let describe = |(kind, route): &(Kind, &Value)| format!("{} {}", kind.row().name, object::full_name(route));
    if let Some(higher) = rivals.iter().find(|(other, _)| rank(*other) > rank(kind)) {
        return refuse(
            format!("{} has the same parent, and Linkerd then serves no route of the kinds below it", describe(higher)),
            format!("write the route as {}, or remove the other one", higher.0.row().name),
        );
    }
    let is_new = question.baseline.object.is_none();
    if let Some(lower) = rivals.iter().find(|(other, _)| is_new && rank(*other) < rank(kind)) {
        return refuse(
            format!("it would be the first of its kind for this parent, and put {} out of force", describe(lower)),
            format!("write {} as {} too, and make them together", describe(lower), kind.row().name),
        );
    }
    let age =
        |route: &Value| (route["metadata"]["creationTimestamp"].as_str().map(str::to_owned), name(route).to_owned());
    let is_older = |other: &Value| question.baseline.object.as_ref().is_none_or(|own| age(other) < age(own));
    let older = rivals.iter().find(|(other, route)| kind == Kind::TcpRoute && *other == kind && is_older(route));
    match older {
        Some(older) => refuse(
            format!(
                "{} is older, and of the TCPRoutes of a parent only the oldest is served, whatever their status says",
                describe(older)
            ),
            "change that one",
        ),
        None => Ok(()),
    }
}

/// A ServiceProfile that says where requests go takes the place of all routes of its Service.
fn check_profiles(question: &Question<'_>, kind: Kind) -> Result<(), Unsupported> {
    for parent in outside(kind, question.canary) {
        let Parent::Service { namespace: within, name: service, .. } = parent else { continue };
        let start = format!("{service}.{within}.svc.");
        let is_it = |one: &&Value| {
            kind_of(one) == Some(Kind::Profile)
                && name(one).starts_with(&start)
                && (namespace(one) == within || namespace(one) == question.target.namespace)
                && !is_empty_profile(spec(one))
        };
        if let Some(profile) = question.neighbours.iter().find(is_it) {
            return refuse(
                format!(
                    "ServiceProfile {} takes the place of all routes of the Service, so the route is not in force",
                    object::full_name(profile)
                ),
                "release the change as a new version of the ServiceProfile, or remove its routes and dstOverrides first",
            );
        }
    }
    Ok(())
}

/// Whether a ServiceProfile leaves the routes of its Service in force.
pub(super) fn is_empty_profile(spec: &Value) -> bool {
    list(spec, "routes").is_empty() && list(spec, "dstOverrides").is_empty()
}

/// The destination that a rule without destinations has: the parent itself, if it is one, with a port.
pub(super) fn own_destination(kind: Kind, route: &Value) -> Option<Value> {
    if !kind.is_route() {
        return None;
    }
    let (within, name, port, is_service) = match &outside(kind, route)[..] {
        [Parent::Service { namespace, name, port: Some(port) }] => (namespace.clone(), name.clone(), *port, true),
        [Parent::Egress { namespace, name, port: Some(port) }] => (namespace.clone(), name.clone(), *port, false),
        _ => return None,
    };
    let (group, kind) = if is_service { ("", "Service") } else { (POLICY, "EgressNetwork") };
    let mut destination = json!({"group": group, "kind": kind, "name": name, "port": port});
    if within != namespace(route) {
        destination["namespace"] = within.into();
    }
    Some(destination)
}

/// Timeouts and retries are annotations of the whole route.
pub(super) fn check_annotations(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    let (before, after) = (linkerds_annotations(stable), linkerds_annotations(canary));
    let differing = before.keys().chain(after.keys()).find(|key| before.get(*key) != after.get(*key));
    match differing {
        None => Ok(()),
        Some(key) => refuse(
            format!(
                "the versions differ in the annotation {key}, and timeouts and retries belong to the whole route: no \
                     weight chooses among them"
            ),
            format!("ask for HEADER or NAMESPACE, or {ALL_AT_ONCE}"),
        ),
    }
}

/// What the two versions must have in common so that a more specific copy of the new one can stand beside the live one.
pub(super) fn check_beside(question: &Question<'_>, kind: Kind, stable: &Value) -> Result<(), Unsupported> {
    let (before, after) = (spec(stable), spec(question.canary));
    if let Some((other, rival)) = rivals(question, kind).first() {
        return refuse(
            format!(
                "{} {} has the same parent, and a more specific copy would also win over its rules",
                other.row().name,
                object::full_name(rival)
            ),
            format!("put the rules of both into one route, ask for WEIGHT, or {ALL_AT_ONCE}"),
        );
    }
    check_same_requests(before, after)
}

/// Whether two versions differ in their rules alone.
pub(super) fn check_same_requests(before: &Value, after: &Value) -> Result<(), Unsupported> {
    let without_rules = |spec: &Value| {
        let mut spec = spec.clone();
        spec["rules"] = Value::Null;
        spec
    };
    let (a, b) = (without_rules(before), without_rules(after));
    if a != b {
        let field = blend::first_difference(&a, &b, "spec");
        return refuse(
            format!("the versions differ in {field}, and both must be about the same requests"),
            format!("leave {field} as it is, or {ALL_AT_ONCE}"),
        );
    }
    Ok(())
}

/// The matches of a rule as Linkerd reads them: with what the definitions fill in.
pub(super) fn matches(kind: Kind, rule: &Value) -> Vec<Value> {
    match list(rule, "matches") {
        [] => vec![filled(kind, &json!({}))],
        matches => matches.iter().map(|one| filled(kind, one)).collect(),
    }
}

/// A route's spec with this header in every match.
pub(super) fn narrowed(kind: Kind, route: &Value, header: &Value) -> Value {
    let mut spec = spec(route).clone();
    for rule in spec["rules"].as_array_mut().into_iter().flatten() {
        let matches = matches(kind, rule).into_iter().map(|mut one| {
            let mut headers = list(&one, "headers").to_vec();
            headers.push(header.clone());
            one["headers"] = headers.into();
            one
        });
        rule["matches"] = matches.collect();
    }
    spec
}

fn filled(kind: Kind, one: &Value) -> Value {
    let mut one = one.clone();
    if kind != Kind::GrpcRoute {
        let path = &one["path"];
        let part = |field: &str, usual: &str| path[field].as_str().unwrap_or(usual).to_owned();
        one["path"] = json!({"type": part("type", "PathPrefix"), "value": part("value", "/")});
    } else if one["method"].is_object() && one["method"]["type"].is_null() {
        one["method"]["type"] = "Exact".into();
    }
    for field in ["headers", "queryParams"] {
        for entry in one[field].as_array_mut().into_iter().flatten() {
            if entry["type"].is_null() {
                entry["type"] = "Exact".into();
            }
        }
        if one[field].is_null()
            && let Some(fields) = one.as_object_mut()
        {
            fields.remove(field);
        }
    }
    one
}

/// Whether a rule matches every request.
pub(super) fn is_catch_all(rule: &Value) -> bool {
    let is_wide = |one: &Value| {
        let path = &one["path"];
        let is_any_path = path.is_null()
            || path["type"].as_str().unwrap_or("PathPrefix") == "PathPrefix"
                && path["value"].as_str().unwrap_or("/") == "/";
        let has_no = |field: &str| one[field].is_null() || one[field].as_array().is_some_and(Vec::is_empty);
        is_any_path && one["method"].is_null() && has_no("headers") && has_no("queryParams")
    };
    match list(rule, "matches") {
        [] => true,
        matches => matches.iter().any(is_wide),
    }
}

/// A match of the live version that the new one has not: such requests would go on to be served as before.
pub(super) fn uncovered(kind: Kind, stable: &Value, canary: &Value) -> Option<Value> {
    let of = |spec: &Value| list(spec, "rules").iter().flat_map(|rule| matches(kind, rule)).collect::<Vec<_>>();
    let after = of(canary);
    of(stable).into_iter().find(|one| !after.contains(one))
}

/// The names under which a Service is called.
pub(super) fn hosts(kind: Kind, route: &Value) -> Vec<String> {
    let parents = outside(kind, route).into_iter();
    parents
        .filter_map(|parent| match parent {
            Parent::Service { namespace, name, .. } => Some(format!("{name}.{namespace}.svc.cluster.local")),
            _ => None,
        })
        .collect()
}

/// The first host that a route asks for, if any.
pub(super) fn first_hostname(route: &Value) -> Option<&str> {
    list(spec(route), "hostnames").first().and_then(Value::as_str)
}
