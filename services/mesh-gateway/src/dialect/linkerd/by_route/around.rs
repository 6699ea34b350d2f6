//! What a policy is laid on, and what stands in the way of routes.

use std::collections::BTreeSet;

use meshward_model::{PlannedStep, RelatedBaseline};
use serde_json::Value;

use super::{
    super::{
        blend::first_difference,
        instance,
        kind::Kind,
        object::{About, Parent, about, kind_of, list, name, namespace, selects, target_of},
        route::{self, Place},
        twins::names_server,
    },
    world::{CLIENT_HEADER, COHORT_HEADER, expression},
};
use crate::{
    dialect::{HeaderMatch, Question, Unsupported, callers, steps::ALL_AT_ONCE},
    object::{self, full_name, metadata_map, spec},
};

/// What the schema allows in a header's value.
const LONGEST_VALUE: usize = 4096;
/// What the schema allows in one match.
const MOST_HEADERS: usize = 16;
/// A pod with a proxy.
const MESHED: &str = "linkerd.io/control-plane-ns";
const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

pub(super) fn refuse<T>(reason: impl Into<String>, would_work: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported::new(reason, would_work))
}

/// What a plan by route builds on.
pub(super) struct Around<'a> {
    /// The Server, if the policy is about all of it; else it is about a route.
    pub(super) server: Option<String>,
    /// The Servers that it is about, or that have the route.
    servers: Vec<&'a Value>,
    /// The route, and the other policies about it: they are copied.
    pub(super) related: Vec<RelatedBaseline>,
}

pub(super) fn look<'a>(question: &Question<'a>, stable: &Value) -> Result<Around<'a>, Unsupported> {
    let (before, after) = (about(spec(stable)), about(spec(question.canary)));
    if before != after {
        let field = first_difference(&spec(stable)["targetRef"], &spec(question.canary)["targetRef"], "spec.targetRef");
        return refuse(
            format!("the versions differ in {field}, and a request is governed by one policy of the two alone"),
            format!("leave targetRef as it is and release a second policy, or {ALL_AT_ONCE}"),
        );
    }
    instance::check_references(question)?;
    match after {
        About::Server(name) => {
            let server = server(question, &name)?;
            check_server(question, server)?;
            Ok(Around { server: Some(name), servers: vec![server], related: Vec::new() })
        }
        About::Route(kind, name) => on_route(question, kind, &name),
        About::Namespace => refuse(
            "the policy is about the whole Namespace, and would have to be laid on every route of it",
            "write it as one AuthorizationPolicy for each Server; these can be exposed by request",
        ),
        About::Other(kind) => refuse(format!("its targetRef is to {kind}, which has no routes"), ALL_AT_ONCE),
    }
}

/// The objects of the namespace that are not the target.
fn others<'a>(question: &Question<'a>) -> impl Iterator<Item = &'a Value> {
    let target = question.target;
    let neighbours = question.neighbours.iter();
    neighbours.filter(|one| namespace(one) == target.namespace && !object::is_of(one, target))
}

fn server<'a>(question: &Question<'a>, wanted: &str) -> Result<&'a Value, Unsupported> {
    let mut servers = others(question).filter(|one| kind_of(one) == Some(Kind::Server));
    servers.find(|server| name(server) == wanted).ok_or_else(|| {
        let reason = format!("it is about the Server {wanted}, which does not exist, so it decides nothing");
        Unsupported::new(reason, "make the Server first")
    })
}

fn pods<'a>(question: &Question<'a>, server: &Value) -> Vec<&'a Value> {
    let selector = spec(server)["podSelector"].clone();
    let is_its = |one: &&Value| one["kind"] == "Pod" && selects(&selector, metadata_map(one, "labels"));
    others(question).filter(is_its).collect()
}

/// Whether a Server can be given its first routes.
pub(super) fn check_server(question: &Question<'_>, server: &Value) -> Result<(), Unsupported> {
    let protocol = spec(server)["proxyProtocol"].as_str().unwrap_or("unknown");
    if !["HTTP/1", "HTTP/2"].contains(&protocol) {
        return refuse(
            format!(
                "Server {} has proxyProtocol {protocol}: only of HTTP/1 and HTTP/2 each request is one of an HTTPRoute, \
                 and what is none would be governed by neither version",
                name(server)
            ),
            "say HTTP/1 or HTTP/2 if that is what its pods speak, or ask for INSTANCE",
        );
    }
    let is_route = |one: &&Value| kind_of(one).is_some_and(Kind::is_http_route) && names_server(one, &[server]);
    if let Some(route) = others(question).find(is_route) {
        return refuse(
            format!(
                "Server {} has routes ({}), and a policy about all of them cannot be moved to each in one update",
                name(server),
                full_name(route)
            ),
            "write it as one AuthorizationPolicy for each route, or ask for INSTANCE",
        );
    }
    for pod in pods(question, server) {
        if let Some(path) = probed_path(pod, &spec(server)["port"]) {
            return refuse(
                format!(
                    "the kubelet probes {path} on the port of Server {}: its first route takes away Linkerd's own for the \
                     probes, and until another is read they would be denied",
                    name(server)
                ),
                "give the Server a route for the probes and one for every path, each with its policies, and release the \
                 policy about the latter; or ask for INSTANCE",
            );
        }
    }
    Ok(())
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers"].into_iter().flat_map(|field| list(&pod["spec"], field))
}

/// The number of a port that is given by number or by name.
fn number<'a>(mut containers: impl Iterator<Item = &'a Value>, port: &Value) -> Option<u64> {
    let Some(wanted) = port.as_str() else { return port.as_u64() };
    let is_it = |port: &&Value| port["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
    containers.find_map(|container| list(container, "ports").iter().find(is_it)?["containerPort"].as_u64())
}

/// A path that the kubelet asks by HTTP on this port.
fn probed_path<'a>(pod: &'a Value, port: &Value) -> Option<&'a str> {
    let port = number(containers(pod), port)?;
    let probes = containers(pod).flat_map(|container| PROBES.map(|probe| (container, &container[probe]["httpGet"])));
    let mut asked = probes.filter(|(_, get)| get.is_object());
    let found = asked.find(|(container, get)| number(std::iter::once(*container), &get["port"]) == Some(port));
    found.map(|(_, get)| get["path"].as_str().unwrap_or("/"))
}

fn on_route<'a>(question: &Question<'a>, kind: Kind, wanted: &str) -> Result<Around<'a>, Unsupported> {
    let is_it = |one: &&Value| kind_of(one) == Some(kind) && name(one) == wanted;
    let Some(route) = others(question).find(is_it) else {
        return refuse(
            format!("its targetRef is to the {} {wanted}, which does not exist", kind.row().name),
            "make the route first",
        );
    };
    if route::place(kind, route)? != Place::Inbound {
        return refuse(
            format!(
                "{} {wanted} is a route of a Service, and only those of a Server have authorizations",
                kind.row().name
            ),
            "let the policy be about a Server or one of its routes",
        );
    }
    let servers = servers_of(question, route);
    check_headers(question, route)?;
    check_order(question, kind, route, &servers)?;
    let copied = std::iter::once(route).chain(policies_about(question, kind, wanted));
    Ok(Around { server: None, servers, related: baselines(question, copied) })
}

/// A route of Servers in both versions.
pub(super) fn look_at_route<'a>(
    question: &Question<'a>,
    kind: Kind,
    stable: &Value,
) -> Result<Around<'a>, Unsupported> {
    let (before, after) = (spec(stable), spec(question.canary));
    route::check_same_requests(before, after)?;
    if let Some(missing) = route::uncovered(kind, before, after) {
        return refuse(
            format!("the new version has no match {missing}, which the live one has: such requests would stay stable"),
            "keep the match and change what its rule does, or ask for INSTANCE",
        );
    }
    let servers = servers_of(question, question.canary);
    for version in [stable, question.canary] {
        check_headers(question, version)?;
        check_order(question, kind, version, &servers)?;
    }
    let copied = policies_about(question, kind, &question.target.name);
    Ok(Around { server: None, servers, related: baselines(question, copied) })
}

fn servers_of<'a>(question: &Question<'a>, route: &Value) -> Vec<&'a Value> {
    others(question).filter(|one| kind_of(one) == Some(Kind::Server) && names_server(route, &[one])).collect()
}

/// The policies of the namespace about a route, besides the target.
fn policies_about<'a>(question: &Question<'a>, kind: Kind, route: &str) -> impl Iterator<Item = &'a Value> {
    let about_it = About::Route(kind, route.to_owned());
    others(question).filter(move |one| kind_of(one) == Some(Kind::AuthorizationPolicy) && about(spec(one)) == about_it)
}

pub(super) fn baselines<'a>(question: &Question<'_>, objects: impl Iterator<Item = &'a Value>) -> Vec<RelatedBaseline> {
    let one = |object: &Value| RelatedBaseline {
        target: target_of(object, &question.target.cluster),
        object: Some(object.clone()),
    };
    objects.map(one).collect()
}

/// Whether each match of the route has room for one header more.
fn check_headers(question: &Question<'_>, route: &Value) -> Result<(), Unsupported> {
    let named = question.audience.header.as_ref().map_or(CLIENT_HEADER, HeaderMatch::header);
    let matches = list(spec(route), "rules").iter().flat_map(|rule| list(rule, "matches"));
    for headers in matches.map(|one| list(one, "headers")) {
        let is_ours = |header: &Value| {
            let name = header["name"].as_str().unwrap_or_default();
            [named, COHORT_HEADER].iter().any(|ours| name.eq_ignore_ascii_case(ours))
        };
        if headers.iter().any(is_ours) || headers.len() >= MOST_HEADERS {
            return refuse(
                format!("a match of {} asks for {named} itself, or has {MOST_HEADERS} headers", full_name(route)),
                "ask for INSTANCE",
            );
        }
    }
    Ok(())
}

/// Whether a match with one header more than the route's wins over nothing that the route's would lose to. Paths are
/// compared first, so it matters only where another route has a path of that length.
fn check_order(question: &Question<'_>, kind: Kind, route: &Value, servers: &[&Value]) -> Result<(), Unsupported> {
    let own: Vec<_> = list(spec(route), "rules").iter().flat_map(|rule| route::matches(kind, rule)).collect();
    for rival in others(question).filter(|one| name(one) != name(route) || kind_of(one) != Some(kind)) {
        let Some(other) = kind_of(rival).filter(|kind| kind.is_http_route()) else { continue };
        if !names_server(rival, servers) {
            continue;
        }
        let mut theirs = list(spec(rival), "rules").iter().flat_map(|rule| route::matches(other, rule));
        if theirs.any(|theirs| own.iter().any(|own| may_tie(own, &theirs))) {
            return refuse(
                format!(
                    "route {} of the same Server has paths like those of {}, and a copy with one header more would take \
                     its requests",
                    full_name(rival),
                    full_name(route)
                ),
                "put the rules of both into one route, or ask for INSTANCE",
            );
        }
    }
    Ok(())
}

/// Whether one request may fit two matches whose paths count the same. Calls of gRPC are not told apart here.
fn may_tie(a: &Value, b: &Value) -> bool {
    let path = |one: &'_ Value| {
        let path = &one["path"];
        let is_plain = matches!(path["type"].as_str(), Some("Exact" | "PathPrefix"));
        path["value"].as_str().filter(|_| is_plain).map(|value| value.trim_end_matches('/').to_owned())
    };
    match (path(a), path(b)) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

impl Around<'_> {
    /// The Services that send to the port of the Servers' pods, each with its port.
    pub(super) fn services(&self, question: &Question<'_>) -> Result<BTreeSet<(String, u64)>, Unsupported> {
        let mut found = BTreeSet::new();
        for server in &self.servers {
            let pods = pods(question, server);
            for service in others(question).filter(|one| one["kind"] == "Service" && one["apiVersion"] == "v1") {
                let selector = serde_json::json!({"matchLabels": spec(service)["selector"]});
                let selected = |pod: &&&Value| {
                    spec(service)["selector"].is_object() && selects(&selector, metadata_map(pod, "labels"))
                };
                let Some(pod) = pods.iter().find(selected) else { continue };
                let wanted = number(containers(pod), &spec(server)["port"]);
                let sends = |port: &&Value| {
                    let to = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
                    number(containers(pod), to) == wanted
                };
                for port in list(spec(service), "ports").iter().filter(sends).filter_map(|port| port["port"].as_u64()) {
                    check_service(question, service)?;
                    found.insert((name(service).to_owned(), port));
                }
            }
        }
        if found.is_empty() {
            return refuse(
                "no Service sends to the port of the Server, so no caller's proxy can draw a share of the requests",
                "ask for HEADER or INSTANCE",
            );
        }
        Ok(found)
    }

    /// Whether the names of the helpers are free.
    pub(super) fn check_names(&self, question: &Question<'_>, steps: &[PlannedStep]) -> Result<(), Unsupported> {
        let written = steps.iter().flat_map(|step| &step.writes).map(|write| &write.target);
        let mut helpers = written.filter(|target| target.key() != question.target.key());
        match helpers.find(|helper| question.neighbours.iter().any(|one| object::is_of(one, helper))) {
            Some(taken) => refuse(
                format!("{taken} exists already, and the deployment needs that name"),
                "remove it if it is left from a deployment, or give it another name",
            ),
            None => Ok(()),
        }
    }
}

/// Whether a Service can be given a route: it has none, and no profile that would take its place.
fn check_service(question: &Question<'_>, service: &Value) -> Result<(), Unsupported> {
    let (within, own) = (namespace(service), name(service));
    let is_it = |parent: &Parent| matches!(parent, Parent::Service { namespace, name, .. } if namespace == within && name == own);
    let start = format!("{own}.{within}.svc.");
    let is_in_the_way = |one: &&Value| match kind_of(one) {
        Some(Kind::Profile) => name(one).starts_with(&start) && !route::is_empty_profile(spec(one)),
        Some(kind) if kind.is_route() => route::outside(kind, one).iter().any(is_it),
        _ => false,
    };
    match question.neighbours.iter().find(is_in_the_way) {
        Some(other) => refuse(
            format!(
                "Service {own} has {} {}, beside which no other route of Meshward's would draw a share of all requests",
                other["kind"].as_str().unwrap_or_default(),
                full_name(other)
            ),
            "ask for HEADER or INSTANCE",
        ),
        None => Ok(()),
    }
}

/// The accounts of all pods that have a proxy ("front.web"), in an order that differs from policy to policy.
pub(super) fn clients(question: &Question<'_>) -> Result<Vec<String>, Unsupported> {
    let is_meshed = |pod: &&Value| metadata_map(pod, "labels").is_some_and(|labels| labels.contains_key(MESHED));
    let pods = question.neighbours.iter().filter(|one| one["kind"] == "Pod" && one["apiVersion"] == "v1");
    let account = |pod: &Value| {
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        format!("{account}.{}", namespace(pod))
    };
    let accounts: BTreeSet<_> = pods.filter(is_meshed).map(account).collect();
    let mut accounts: Vec<_> = accounts.into_iter().collect();
    if accounts.len() < 2 {
        return refuse(
            format!(
                "{} account with a proxy is known, and one client cannot be both stable and canary",
                accounts.len()
            ),
            "ask for WEIGHT or INSTANCE",
        );
    }
    if expression(&accounts).is_some_and(|value| value.len() > LONGEST_VALUE) {
        return refuse(
            format!(
                "{} accounts have a proxy, more than one expression of {LONGEST_VALUE} letters can name",
                accounts.len()
            ),
            "ask for WEIGHT or INSTANCE",
        );
    }
    callers::shuffle(&mut accounts, question.target);
    Ok(accounts)
}
