//! What stands around a DestinationRule: the host that it is for, and the rules that some callers may use instead.
//!
//! A request that is sent to a subset which its caller's proxy does not have is lost (503, counted nowhere). So nobody
//! may get the routes who does not get the rule. Which rule a caller uses, Istio finds out by namespace: the first that
//! has any for the host, of the caller's, the service's and the root namespace. Hence the rule must stand in the
//! namespace of its host, and no namespace of callers may have another one. (Assumed: the root namespace is
//! `istio-system`, and what names no `exportTo` is for everybody, as both are by default.)

use serde_json::Value;

use super::{ALL_AT_ONCE, Rule, routes::Port};
use crate::{
    dialect::{
        Neighbours, Unsupported,
        istio::virtual_service::{overlap, qualified},
    },
    object::{full_name, spec},
};

/// Where rules for the whole mesh are.
const ROOT: &str = "istio-system";
/// How the name of every service of the cluster ends.
const CLUSTER_LOCAL: &str = ".svc.cluster.local";

/// The neighbours of a kind.
pub(super) fn of_kind<'a>(neighbours: Neighbours<'a>, kind: &str) -> impl Iterator<Item = &'a Value> {
    neighbours.iter().filter(move |object| object["kind"] == kind)
}

pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// The ports of the host, from the Service or the ServiceEntries of the rule's namespace that have it.
pub(super) fn ports(rule: &Rule<'_>) -> Result<Vec<Port>, Unsupported> {
    let mut ports = Vec::new();
    if let Some(service) = service(rule) {
        check_service(rule, service)?;
        ports.extend(listed(spec(service)).filter(|port| port["protocol"] != "UDP").filter_map(service_port));
    }
    for entry in entries(rule) {
        check_entry(rule, entry)?;
        ports.extend(listed(spec(entry)).filter_map(entry_port));
    }
    ports.sort_by_key(|port: &Port| port.number);
    ports.dedup_by_key(|port| port.number);
    if ports.is_empty() {
        return Err(Unsupported::new(
            format!(
                "no Service and no ServiceEntry in the namespace {} has the host {}, so its ports, which the canary needs \
                 settings for, are not known",
                rule.target.namespace, rule.host
            ),
            format!("put the rule into the namespace of its host, under the host's full name, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(ports)
}

fn listed(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["ports"].as_array().into_iter().flatten()
}

fn service<'a>(rule: &Rule<'a>) -> Option<&'a Value> {
    let is_it = |service: &&Value| {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        namespace(service) == rule.target.namespace
            && rule.host == format!("{name}.{}{CLUSTER_LOCAL}", rule.target.namespace)
    };
    of_kind(rule.neighbours, "Service").find(is_it)
}

fn entries<'a>(rule: &Rule<'a>) -> impl Iterator<Item = &'a Value> {
    let has_host = |entry: &&Value| {
        let hosts = spec(entry)["hosts"].as_array().into_iter().flatten();
        namespace(entry) == rule.target.namespace && hosts.into_iter().any(|host| *host == *rule.host)
    };
    of_kind(rule.neighbours, "ServiceEntry").filter(has_host)
}

fn check_service(rule: &Rule<'_>, service: &Value) -> Result<(), Unsupported> {
    let what = match (spec(service)["clusterIP"].as_str(), spec(service)["type"].as_str()) {
        (Some("None"), _) => "headless",
        (_, Some("ExternalName")) => "another name for a host elsewhere",
        _ => return Ok(()),
    };
    Err(Unsupported::new(
        format!("the Service of {} is {what}, so a subset is not what the host is", rule.host),
        ALL_AT_ONCE,
    ))
}

/// A cluster with names to look up is not there before it has looked them up, whatever its proxy acknowledged.
fn check_entry(rule: &Rule<'_>, entry: &Value) -> Result<(), Unsupported> {
    let resolution = spec(entry)["resolution"].as_str().unwrap_or("NONE");
    if resolution == "STATIC" {
        return Ok(());
    }
    Err(Unsupported::new(
        format!(
            "the ServiceEntry {} resolves {} by {resolution}: no acknowledgement tells when a proxy has the canary's \
             endpoints",
            full_name(entry),
            rule.host
        ),
        ALL_AT_ONCE,
    ))
}

fn service_port(port: &Value) -> Option<Port> {
    let name = port["name"].as_str().unwrap_or_default();
    let protocol = port["appProtocol"].as_str().unwrap_or_else(|| name.split('-').next().unwrap_or_default());
    Some(of_protocol(port["port"].as_u64()?, protocol))
}

/// Whether any port of a Service takes requests, as far as Istio can know.
pub(in super::super) fn takes_requests(service: &Value) -> bool {
    listed(spec(service)).filter_map(service_port).any(|port| port.http)
}

fn entry_port(port: &Value) -> Option<Port> {
    Some(of_protocol(port["number"].as_u64()?, port["protocol"].as_str().unwrap_or_default()))
}

/// Istio looks at the first bytes itself if it is told nothing that it knows.
fn of_protocol(number: u64, protocol: &str) -> Port {
    let (http, tcp) = match protocol.to_ascii_lowercase().as_str() {
        "http" | "http2" | "grpc" | "grpc-web" | "kubernetes.io/h2c" => (true, false),
        "tcp" | "mongo" | "redis" | "mysql" => (false, true),
        "https" | "tls" => (false, false),
        _ => (true, true),
    };
    Port { number, http, tcp }
}

/// Refuses other rules that some callers may use for the host.
pub(super) fn check_rules(rule: &Rule<'_>) -> Result<(), Unsupported> {
    let own = format!("{}/{}", rule.target.namespace, rule.target.name);
    for other in of_kind(rule.neighbours, "DestinationRule").filter(|other| full_name(other) != own) {
        let host = qualified(spec(other)["host"].as_str().unwrap_or_default(), namespace(other));
        if !overlap(&host, rule.host) {
            continue;
        }
        if let Some(why) = why_it_counts(rule, other, &host) {
            return Err(Unsupported::new(
                format!("DestinationRule {} is for {host} as well: {why}", full_name(other)),
                format!("put what it says into one rule, or {ALL_AT_ONCE}"),
            ));
        }
    }
    Ok(())
}

/// Why another rule for the host is in the way; `None` if this rule wins for all callers, with and without us.
fn why_it_counts(rule: &Rule<'_>, other: &Value, host: &str) -> Option<&'static str> {
    let place = namespace(other);
    if place != rule.target.namespace && place != ROOT {
        return Some("callers in that namespace use it instead, and would be sent to subsets that they do not have");
    }
    if place == rule.target.namespace && host == rule.host {
        return Some(match spec(other)["workloadSelector"].is_null() {
            true => "Istio merges the two, and the older one's policy wins",
            false => "the callers that it selects use it instead, and would be sent to subsets that they do not have",
        });
    }
    if place == ROOT && place != rule.target.namespace && is_private(other) {
        return Some("proxies in that namespace use it instead, and would be sent to subsets that they do not have");
    }
    if !rule.is_there_before_and_after {
        return Some("it holds where this one is not, and would be replaced as a whole");
    }
    None
}

fn is_private(object: &Value) -> bool {
    super::shown_to(spec(object), namespace(object)).is_some_and(|shown| shown.iter().eq([namespace(object)]))
}
