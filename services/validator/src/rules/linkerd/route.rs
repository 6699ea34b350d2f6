//! What Linkerd checks in every route: its parents, its backends, and its annotations on retries and timeouts.

use super::{Judge, Object, POLICY_GROUP, connection_route, grpc_route, http_route, reference::CORE};
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
};

/// The group of the Gateway API.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Whether an object is a route of the Gateway API that is meant for Linkerd: one of its parents or backends is
/// Linkerd's or a Service, or an annotation is Linkerd's. Other routes may be for any controller.
#[must_use]
pub fn is_for_linkerd(object: &Object<'_>) -> bool {
    family(object).is_some()
}

/// The rules for such a route.
pub(super) fn family(object: &Object<'_>) -> Option<Judge> {
    judge_of(object.group(), &object.head.kind).filter(|_| names_linkerd(object))
}

/// The rules for a kind of route of the Gateway API.
pub(super) fn judge_of(group: &str, kind: &str) -> Option<Judge> {
    match (group, kind) {
        (GATEWAY_GROUP, "HTTPRoute") => Some(http_route::gateway),
        (GATEWAY_GROUP, "GRPCRoute") => Some(grpc_route::check),
        (GATEWAY_GROUP, "TLSRoute" | "TCPRoute") => Some(connection_route::check),
        _ => None,
    }
}

fn names_linkerd(object: &Object<'_>) -> bool {
    let spec = object.root().get("spec");
    let is_linkerds = |reference: &Field<'_>| reference.get("group").text().eq_ignore_ascii_case(POLICY_GROUP);
    let rules = spec.get("rules").items();
    let annotations = object.root().get("metadata").get("annotations").entries();
    let parents = spec.get("parentRefs").items();
    parents.iter().any(|parent| is_linkerds(parent) || is_service(parent))
        || rules.iter().any(|rule| rule.get("backendRefs").items().iter().any(is_linkerds))
        || annotations
            .iter()
            .any(|(name, _)| name.split('/').next().is_some_and(|domain| domain.ends_with("linkerd.io")))
}

/// A parent that is a Service; the group of one that names none is that of the Gateway API.
fn is_service(parent: &Field<'_>) -> bool {
    let group = parent.get("group");
    group.is_set() && is_a(parent, GATEWAY_GROUP, &["", CORE], "Service")
}

/// Parents that are EgressNetworks without a port. `group` is the group of a parent that names none.
pub(super) fn parents(object: &Object<'_>, group: &str) -> Vec<Hit> {
    let parents = object.root().get("spec").get("parentRefs").items();
    let portless = parents.iter().filter(|parent| is_egress_network(parent, group) && !parent.get("port").is_set());
    let hit = |parent: &Field<'_>| {
        let message = format!("the EgressNetwork {} is a parent without a port", quote(parent.get("name").text()));
        Hit::new(rule::LD_PARENT_PORT, parent.path(), message).suggest("name the port that the route is for")
    };
    portless.map(hit).collect()
}

fn is_egress_network(parent: &Field<'_>, group: &str) -> bool {
    is_a(parent, group, &[POLICY_GROUP], "EgressNetwork")
}

fn is_a(reference: &Field<'_>, default: &str, groups: &[&str], kind: &str) -> bool {
    let group = reference.get("group");
    let given = if group.is_set() { group.text() } else { default };
    groups.iter().any(|group| group.eq_ignore_ascii_case(given))
        && reference.get("kind").text().eq_ignore_ascii_case(kind)
}

/// Backends that are Services without a port.
pub(super) fn backends(rule_of_route: &Field<'_>) -> Vec<Hit> {
    let is_service = |backend: &Field<'_>| {
        let (group, kind) = (backend.get("group").text(), backend.get("kind"));
        [CORE, ""].contains(&group) && (!kind.is_set() || kind.text() == "Service")
    };
    let portless = |backend: &Field<'_>| !backend.get("port").is_set() || backend.get("port").integer() == Some(0);
    let backends = rule_of_route.get("backendRefs").items();
    let bad = backends.iter().filter(|backend| is_service(backend) && portless(backend));
    let hit = |backend: &Field<'_>| {
        let message = format!("the Service {} is a backend without a port", quote(backend.get("name").text()));
        Hit::new(rule::LD_BACKEND_PORT, backend.path(), message).suggest("name the Service's port")
    };
    bad.map(hit).collect()
}

/// How a route may say when to try again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Protocol {
    /// By status code.
    Http,
    /// By gRPC status.
    Grpc,
}

/// Annotations on retries and timeouts. Linkerd reads them if a parent is a Service or an EgressNetwork.
pub(super) fn annotations(object: &Object<'_>, group: &str, protocol: Protocol) -> Vec<Hit> {
    let root = object.root();
    let parents = root.get("spec").get("parentRefs").items();
    let outbound = |parent: &Field<'_>| is_egress_network(parent, group) || is_a(parent, group, &[CORE, ""], "Service");
    if !parents.iter().any(outbound) {
        return Vec::new();
    }
    let annotations = root.get("metadata").get("annotations");
    let (conditions, is_condition): (_, fn(&str) -> bool) = match protocol {
        Protocol::Http => ("retry.linkerd.io/http", is_http_condition),
        Protocol::Grpc => ("retry.linkerd.io/grpc", is_grpc_condition),
    };
    let mut hits = Vec::new();
    let mut hit = |field: &Field<'_>, problem: String, advice: &str| {
        hits.push(Hit::new(rule::LD_ANNOTATION, field.path(), problem).suggest(advice));
    };
    let limit = annotations.get("retry.linkerd.io/limit");
    if let Some(text) = text(&limit).filter(|text| text.parse::<u16>().is_err()) {
        hit(&limit, format!("{} is no number of retries", quote(text)), "write e.g. \"2\"");
    }
    let conditions = annotations.get(conditions);
    let unknown = text(&conditions).and_then(|text| text.split(',').find(|one| !is_condition(one)));
    if let Some(condition) = unknown {
        let advice = match protocol {
            Protocol::Http => "write e.g. \"5xx\", \"gateway-error\", \"503\" or \"500-504\", separated by commas only",
            Protocol::Grpc => {
                "write cancelled, deadline-exceeded, internal, resource-exhausted or unavailable, separated by commas \
                 only"
            }
        };
        hit(&conditions, format!("{} is no condition to retry on", quote(condition)), advice);
    }
    let durations = [
        "retry.linkerd.io/timeout",
        "timeout.linkerd.io/request",
        "timeout.linkerd.io/response",
        "timeout.linkerd.io/idle",
    ];
    for name in durations {
        let field = annotations.get(name);
        if let Some(text) = text(&field).filter(|text| !is_duration(text)) {
            let problem = format!("{} is no duration that Linkerd reads here", quote(text));
            hit(&field, problem, "write a whole number and ms, s, m, h or d, e.g. \"300ms\"");
        }
    }
    hits
}

fn text<'a>(field: &Field<'a>) -> Option<&'a str> {
    field.value()?.as_str()
}

fn is_http_condition(text: &str) -> bool {
    let code = |text: &str| text.parse::<u32>().ok().filter(|code| (100..600).contains(code));
    let range = || text.split_once('-').and_then(|(first, last)| Some((code(first)?, code(last)?)));
    text.eq_ignore_ascii_case("5xx")
        || text.eq_ignore_ascii_case("gateway-error")
        || code(text).is_some()
        || range().is_some_and(|(first, last)| first <= last)
}

fn is_grpc_condition(text: &str) -> bool {
    const CONDITIONS: [&str; 5] = ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"];
    CONDITIONS.iter().any(|condition| condition.eq_ignore_ascii_case(text))
}

/// A whole number and one unit, or 0. Unlike a Go duration it knows days, and no parts.
fn is_duration(text: &str) -> bool {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let millis: u64 = match unit {
        "" => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return false,
    };
    number.parse::<u64>().is_ok_and(|number| (millis > 0 || number == 0) && number.checked_mul(millis).is_some())
}

/// A route that must have exactly one rule and has another number.
pub(super) fn single_rule(object: &Object<'_>) -> Option<Hit> {
    let rules = object.root().get("spec").get("rules");
    let count = rules.items().len();
    (count != 1).then(|| {
        let message = format!("the route has {count} rules, and Linkerd takes exactly one");
        Hit::new(rule::LD_SINGLE_RULE, rules.path(), message).suggest("write a route for each rule")
    })
}
