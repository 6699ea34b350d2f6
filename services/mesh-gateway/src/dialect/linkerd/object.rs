//! What an object of Linkerd refers to, and what is written in its stead.
//!
//! Kinds and groups are compared as Linkerd does it: in either case. A group that a parent of a route leaves out is the
//! one that the route's definition fills in; any other reference without a group is to the core group.

use meshward_model::{Digest, Mesh, Target};
use serde_json::{Map, Value, json};

use super::kind::{GATEWAY, Kind, POLICY};
use crate::object;

/// What a helper's name ends with.
const SUFFIX: &str = "-meshward";
/// Longest name of an object.
const LONGEST_NAME: usize = 253;

/// The name of the helper that stands beside an object.
pub(super) fn twin_name(name: &str) -> String {
    if name.len() + SUFFIX.len() <= LONGEST_NAME {
        return format!("{name}{SUFFIX}");
    }
    let hash = hash(name);
    let room = LONGEST_NAME - SUFFIX.len() - hash.len() - 1;
    format!("{}-{hash}{SUFFIX}", name.chars().take(room).collect::<String>())
}

/// Eight letters that follow from a text.
pub(super) fn hash(text: &str) -> String {
    let digest = Digest::of(&Value::from(text));
    digest.as_str().chars().skip("sha256:".len()).take(8).collect()
}

/// The helper that stands beside an object, in its namespace.
pub(super) fn twin_of(target: &Target) -> Target {
    Target { name: twin_name(&target.name), ..target.clone() }
}

/// The name of a live object; its API version is the one in which it was read.
pub(super) fn target_of(object: &Value, cluster: &str) -> Target {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Target {
        cluster: cluster.to_owned(),
        mesh: Mesh::Linkerd,
        api_version: text(&object["apiVersion"]),
        kind: text(&object["kind"]),
        namespace: text(&object["metadata"]["namespace"]),
        name: name(object).to_owned(),
    }
}

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// The kind of a live object.
pub(super) fn kind_of(object: &Value) -> Option<Kind> {
    let api_version = object["apiVersion"].as_str()?;
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Kind::of(group, object["kind"].as_str()?)
}

/// A list in a spec; no list is an empty one.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// Whether a reference is to an object of this group and kind. No group is the core group.
pub(super) fn refers(reference: &Value, group: &str, kind: &str) -> bool {
    let given = match reference["group"].as_str() {
        None | Some("") => "core",
        Some(given) => given,
    };
    let wanted = if group.is_empty() { "core" } else { group };
    given.eq_ignore_ascii_case(wanted)
        && reference["kind"].as_str().is_some_and(|given| given.eq_ignore_ascii_case(kind))
}

/// The name that a reference is to, if it is to an object of this kind.
fn named<'a>(reference: &'a Value, group: &str, kind: &str) -> Option<&'a str> {
    reference["name"].as_str().filter(|_| refers(reference, group, kind))
}

/// What a policy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About {
    Server(String),
    Route(Kind, String),
    Namespace,
    Other(String),
}

/// What the `targetRef` of a policy or of a limit is to.
pub(super) fn about(spec: &Value) -> About {
    let reference = &spec["targetRef"];
    if let Some(name) = named(reference, POLICY, "Server") {
        return About::Server(name.to_owned());
    }
    if refers(reference, "", "Namespace") {
        return About::Namespace;
    }
    for kind in [Kind::PolicyRoute, Kind::HttpRoute, Kind::GrpcRoute] {
        let row = kind.row();
        if let Some(name) = named(reference, row.group, row.name) {
            return About::Route(kind, name.to_owned());
        }
    }
    About::Other(reference["kind"].as_str().unwrap_or("nothing").to_owned())
}

/// A parent of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// Of the route's own namespace.
    Server(String),
    Service {
        namespace: String,
        name: String,
        port: Option<i64>,
    },
    Egress {
        namespace: String,
        name: String,
        port: Option<i64>,
    },
    Other(String),
}

/// The parents of a route of this kind that stands in `namespace`.
pub(super) fn parents(kind: Kind, spec: &Value, namespace: &str) -> Vec<Parent> {
    list(spec, "parentRefs").iter().map(|reference| parent(kind, reference, namespace)).collect()
}

/// The group of a parent that names none.
pub(super) fn default_group(kind: Kind) -> &'static str {
    if kind == Kind::PolicyRoute { POLICY } else { GATEWAY }
}

fn parent(kind: Kind, reference: &Value, own: &str) -> Parent {
    let group = reference["group"].as_str().unwrap_or(default_group(kind));
    let kind = reference["kind"].as_str().unwrap_or("Gateway");
    let name = reference["name"].as_str().unwrap_or_default().to_owned();
    let namespace = reference["namespace"].as_str().unwrap_or(own).to_owned();
    let port = reference["port"].as_i64();
    let is = |wanted: &str| kind.eq_ignore_ascii_case(wanted);
    match group.to_ascii_lowercase().as_str() {
        POLICY if is("Server") => Parent::Server(name),
        POLICY if is("EgressNetwork") => Parent::Egress { namespace, name, port },
        "" | "core" if is("Service") => Parent::Service { namespace, name, port },
        group => Parent::Other(format!("{kind} of {group:?}")),
    }
}

/// Whether a policy asks for an authentication that stands in `namespace` under this kind and name.
pub(super) fn asks_for(policy: &Value, kind: Kind, namespace: &str, name: &str) -> bool {
    let own = self::namespace(policy);
    list(object::spec(policy), "requiredAuthenticationRefs").iter().any(|reference| {
        named(reference, POLICY, kind.row().name) == Some(name)
            && reference["namespace"].as_str().unwrap_or(own) == namespace
    })
}

/// Whether a label selector selects these labels. What cannot be read selects nothing.
pub(super) fn selects(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = list(selector, "matchExpressions");
    equal.into_iter().all(|(key, wanted)| value(key) == Some(wanted))
        && expressions.iter().all(|expression| {
            let value = expression["key"].as_str().and_then(value);
            let is_listed = value.is_some_and(|value| list(expression, "values").contains(value));
            match expression["operator"].as_str() {
                Some("In") => is_listed,
                Some("NotIn") => !is_listed,
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => false,
            }
        })
}

/// A helper with this spec. It takes over the annotations that Linkerd reads (timeouts, retries), and no labels: who
/// selects the original by its labels must not select the helper.
pub(super) fn helper(target: &Target, like: &Value, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": target.api_version,
        "kind": target.kind,
        "metadata": {"name": target.name, "namespace": target.namespace},
        "spec": spec,
    });
    let annotations = linkerds_annotations(like);
    if !annotations.is_empty() {
        object["metadata"]["annotations"] = annotations.into();
    }
    object
}

/// The annotations that Linkerd reads.
pub(super) fn linkerds_annotations(object: &Value) -> Map<String, Value> {
    let map = object::metadata_map(object, "annotations").into_iter().flatten();
    let is_linkerds = |key: &str| key.split('/').next().is_some_and(|domain| domain.ends_with("linkerd.io"));
    map.filter(|(key, _)| is_linkerds(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helpers_name_fits() {
        assert_eq!(twin_name("web"), "web-meshward");
        let long = "a".repeat(250);
        assert_eq!(twin_name(&long).len(), LONGEST_NAME);
        assert_ne!(twin_name(&long), twin_name(&"a".repeat(251)));
    }

    #[test]
    fn a_selector_selects_as_kubernetes_does() {
        let labels = json!({"app": "web", "tier": "front"});
        for (selector, selected) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "web", "x": "y"}}), false),
            (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "web"]}]}), true),
            (json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}), true),
            (json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "x", "operator": "Gt"}]}), false),
        ] {
            assert_eq!(selects(&selector, labels.as_object()), selected, "{selector}");
        }
    }

    #[test]
    fn references_are_read_as_linkerd_reads_them() {
        for (reference, expected) in [
            (json!({"group": "policy.linkerd.io", "kind": "server", "name": "a"}), About::Server("a".to_owned())),
            (json!({"group": "core", "kind": "Namespace", "name": "shop"}), About::Namespace),
            (json!({"kind": "Namespace", "name": "shop"}), About::Namespace),
            (
                json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}),
                About::Route(Kind::HttpRoute, "r".to_owned()),
            ),
            (json!({"group": "apps", "kind": "Deployment", "name": "r"}), About::Other("Deployment".to_owned())),
        ] {
            assert_eq!(about(&json!({"targetRef": reference})), expected);
        }
        let spec = json!({"parentRefs": [
            {"group": "core", "kind": "Service", "name": "web", "port": 80},
            {"group": "policy.linkerd.io", "kind": "Server", "name": "s"},
            {"name": "edge"},
        ]});
        let expected = [
            Parent::Service { namespace: "shop".to_owned(), name: "web".to_owned(), port: Some(80) },
            Parent::Server("s".to_owned()),
            Parent::Other("Gateway of \"gateway.networking.k8s.io\"".to_owned()),
        ];
        assert_eq!(parents(Kind::HttpRoute, &spec, "shop"), expected);
    }
}
