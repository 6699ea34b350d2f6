//! The questions that the world answers, and which of them an object answers.

use serde_json::{Map, Value};

use super::{Entry, Kind, Workload, host};
use crate::rules::field::Field;

/// A question whose answer is a list of objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// All of a kind.
    All(Kind),
    /// Whether there is any of a kind.
    Presence(Kind),
    /// All of a kind in a namespace.
    In(Kind, String),
    /// The one of that namespace and name.
    Named(Kind, String, String),
    /// All of a kind that define or configure this host (full name; wildcards under "*").
    Host(Kind, String),
    /// All of a kind that refer to something: a host by its full name, another object as "Kind/namespace/name".
    Refers(Kind, String),
    /// All of a kind in a namespace that are found under a label ("name=value"): workloads under each label of their Pods,
    /// Services under each of their selector, policies under one of theirs, or under "" if they have none.
    Labelled(Kind, String, String),
    /// No list: what time it is.
    Time,
}

/// How an object is named as what others refer to.
#[must_use]
pub(crate) fn object(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", kind.name())
}

/// Under which keys an object is found; the first is the one that names it.
pub(super) fn of(entry: &Entry) -> Vec<Key> {
    let (kind, namespace) = (entry.kind, entry.head.namespace.clone());
    let named = Key::Named(kind, namespace.clone(), entry.head.name.clone());
    let mut keys = vec![named, Key::All(kind), Key::In(kind, namespace)];
    let bucket = |name: String| if name.starts_with('*') { "*".to_owned() } else { name };
    keys.extend(hosts(entry).into_iter().map(|name| Key::Host(kind, bucket(name))));
    keys.extend(references(entry).into_iter().map(|to| Key::Refers(kind, to)));
    keys.extend(under(entry).into_iter().map(|label| Key::Labelled(kind, entry.head.namespace.clone(), label)));
    keys
}

/// A label as a part of a key. Other labels may come to the same text, so whoever looks there compares what is found.
pub(super) fn label(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

/// The labels under which an object is found.
fn under(entry: &Entry) -> Vec<String> {
    let each = |labels: Option<&Map<String, Value>>| -> Vec<String> {
        let labels = labels.into_iter().flatten();
        labels.map(|(name, value)| label(name, value.as_str().unwrap_or_default())).collect()
    };
    match entry.kind {
        Kind::Workload => each(Workload::labels_of(entry)),
        Kind::Service => each(entry.value.pointer("/spec/selector").and_then(Value::as_object)),
        Kind::AuthorizationPolicy | Kind::PeerAuthentication => {
            let labels = entry.value.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
            vec![each(labels).into_iter().next().unwrap_or_default()]
        }
        _ => Vec::new(),
    }
}

/// The full names of the hosts that an object defines or configures.
pub(crate) fn hosts(entry: &Entry) -> Vec<String> {
    let spec = entry.spec();
    let namespace = entry.namespace();
    let of_list = || spec.get("hosts").items().iter().map(|name| host::full(name.text(), namespace)).collect();
    match entry.kind {
        Kind::Service => vec![host::full(&entry.head.name, namespace)],
        Kind::ServiceProfile => vec![entry.head.name.to_ascii_lowercase()],
        Kind::DestinationRule => vec![host::full(spec.get("host").text(), namespace)],
        Kind::VirtualService | Kind::ServiceEntry => of_list(),
        _ => Vec::new(),
    }
}

/// What an object refers to.
fn references(entry: &Entry) -> Vec<String> {
    match entry.kind {
        Kind::VirtualService => of_virtual_service(entry),
        Kind::Workload => vec![object(Kind::ServiceAccount, entry.namespace(), Workload::account(entry))],
        Kind::LinkerdAuthorizationPolicy | Kind::RateLimit => {
            target(&entry.spec().get("targetRef"), entry.namespace()).into_iter().collect()
        }
        Kind::ServerAuthorization => {
            let name = entry.spec().get("server").get("name").text();
            vec![object(Kind::Server, entry.namespace(), name)]
        }
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::LinkerdHttpRoute => {
            let group =
                if entry.kind == Kind::LinkerdHttpRoute { "policy.linkerd.io" } else { "gateway.networking.k8s.io" };
            let parents = entry.spec().get("parentRefs").items();
            parents.iter().filter_map(|parent| parent_of(parent, group, entry.namespace())).collect()
        }
        _ => Vec::new(),
    }
}

fn of_virtual_service(entry: &Entry) -> Vec<String> {
    let spec = entry.spec();
    let namespace = entry.namespace();
    let gateways = spec.get("gateways").items();
    let delegates = spec.get("http").items();
    let gateways = gateways.iter().map(|name| gateway(name.text(), namespace));
    let delegates = delegates.iter().map(|route| route.get("delegate")).filter(Field::is_set);
    let delegates = delegates.map(|to| {
        let own = to.get("namespace").text();
        object(Kind::VirtualService, if own.is_empty() { namespace } else { own }, to.get("name").text())
    });
    let hosts = destinations(&spec).into_iter().map(|to| host::full(to.get("host").text(), namespace));
    gateways.chain(delegates).chain(hosts).collect()
}

/// The key of a gateway that a VirtualService of a namespace names.
pub(crate) fn gateway(name: &str, namespace: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or((namespace, name));
    object(Kind::Gateway, namespace, name)
}

/// Every destination of a VirtualService, mirrors too.
pub(crate) fn destinations<'a>(spec: &Field<'a>) -> Vec<Field<'a>> {
    let routes = ["tcp", "tls", "http"].iter().flat_map(|protocol| spec.get(protocol).items());
    let mut found = Vec::new();
    for route in routes {
        found.extend(route.get("route").items().iter().map(|item| item.get("destination")));
        found.push(route.get("mirror"));
        found.extend(route.get("mirrors").items().iter().map(|item| item.get("destination")));
    }
    found.retain(|to| to.is_set() && !to.get("host").text().is_empty());
    found
}

/// What a `targetRef` of Linkerd refers to.
fn target(reference: &Field<'_>, namespace: &str) -> Option<String> {
    let kind = Kind::named(reference.get("group").text(), reference.get("kind").text())?;
    let own = reference.get("namespace").text();
    let namespace = if own.is_empty() { namespace } else { own };
    let namespace = if kind.is_cluster_wide() { "" } else { namespace };
    Some(object(kind, namespace, reference.get("name").text()))
}

/// What a parent of a route refers to. `group` is the one of a parent that names none.
pub(crate) fn parent_of(parent: &Field<'_>, group: &str, namespace: &str) -> Option<String> {
    let given = parent.get("group");
    let group = if given.is_set() { given.text() } else { group };
    let kind = if parent.get("kind").is_set() { parent.get("kind").text() } else { "Gateway" };
    let own = parent.get("namespace").text();
    let kind = Kind::named(group, kind)?;
    Some(object(kind, if own.is_empty() { namespace } else { own }, parent.get("name").text()))
}
