//! The second world: what the canary's pods are governed by.
//!
//! Linkerd chooses a Server by the labels of a pod, and everything else hangs on the Server: routes name it as their
//! parent, policies and limits name it or one of its routes, policies name authentications. So a canary of any of these
//! kinds is a second Server that selects only the canary's pods, and beside each object that hangs on the first Server a
//! twin that hangs on the second: the same object, but the new version of the one that the deployment is about. Without
//! the twins the canary's pods would have no authorizations and deny everything, or lose their routes.
//!
//! The first Server gets an expression more, `NotIn [canary]`, and keeps its age. That matters: of two Servers for one
//! port the older one wins, and one that was deleted and made again is younger than all.

use std::collections::BTreeMap;

use meshward_model::{ExposureIntent, Target};
use serde_json::{Map, Value, json};

use super::{
    kind::{Kind, POLICY},
    object::{
        Parent, default_group, helper, kind_of, list, name, namespace, parents, refers, selects, twin_name, twin_of,
    },
};
use crate::{dialect::CANARY, object::spec};

/// An object in both versions; where it does not change they are the same. A canary that is null has no twin.
#[derive(Clone, Debug)]
pub(super) struct Source<'a> {
    pub(super) target: &'a Target,
    pub(super) stable: Option<&'a Value>,
    pub(super) canary: &'a Value,
}

impl<'a> Source<'a> {
    /// The new version; the live one if the new one is that the object is gone.
    pub(super) fn version(&self) -> &'a Value {
        self.stable.filter(|_| self.canary.is_null()).unwrap_or(self.canary)
    }

    fn kind(&self) -> Option<Kind> {
        Kind::of_target(self.target)
    }

    pub(super) fn is_server(&self) -> bool {
        self.kind() == Some(Kind::Server)
    }
}

/// The objects of an intent: the one that it is about, then the others.
pub(super) fn sources(intent: &ExposureIntent) -> Vec<Source<'_>> {
    let stable = intent.baseline.object.as_ref();
    let own = Source { target: &intent.target, stable, canary: &intent.canary };
    let others = intent.baseline.related.iter().filter_map(|related| {
        let object = related.object.as_ref()?;
        Some(Source { target: &related.target, stable: Some(object), canary: object })
    });
    std::iter::once(own).chain(others).collect()
}

/// The label that tells the cohorts of a deployment apart: one per target, since a target has one deployment at a time.
pub(super) fn cohort_key(target: &Target) -> String {
    format!("meshward.io/cohort-{}", super::object::hash(&target.key()))
}

/// The spec of a Server for all pods but the canary's, or only for the canary's.
pub(super) fn for_cohort(server: &Value, key: &str, operator: &str) -> Value {
    let mut spec = spec(server).clone();
    let mut expressions = list(&spec["podSelector"], "matchExpressions").to_vec();
    expressions.push(json!({"key": key, "operator": operator, "values": [CANARY]}));
    if !spec["podSelector"].is_object() {
        spec["podSelector"] = json!({});
    }
    spec["podSelector"]["matchExpressions"] = expressions.into();
    spec
}

/// The twins in the order of writing: what is referred to comes first, the Servers last.
pub(super) fn twins(sources: &[Source<'_>], key: &str) -> Vec<(Target, Value)> {
    let mut ordered: Vec<_> = sources.iter().filter(|source| !source.canary.is_null()).collect();
    ordered.sort_by_key(|source| source.kind());
    let twin = |source: &&Source<'_>| {
        let target = twin_of(source.target);
        let spec = match source.kind()? {
            Kind::Server => for_cohort(source.canary, key, "In"),
            kind => renamed(kind, source.canary, sources),
        };
        let helper = helper(&target, source.canary, spec);
        Some((target, helper))
    };
    ordered.iter().filter_map(twin).collect()
}

/// The spec of an object with every reference to an object of the second world turned to its twin.
fn renamed(kind: Kind, object: &Value, sources: &[Source<'_>]) -> Value {
    let mut spec = spec(object).clone();
    match kind {
        Kind::AuthorizationPolicy => {
            rename(&mut spec["targetRef"], namespace(object), sources);
            for reference in spec["requiredAuthenticationRefs"].as_array_mut().into_iter().flatten() {
                rename(reference, namespace(object), sources);
            }
        }
        Kind::RateLimit => rename(&mut spec["targetRef"], namespace(object), sources),
        Kind::ServerAuthorization => {
            let server = sources.iter().find(|source| source.is_server() && is_chosen(&spec["server"], source.canary));
            if let Some(server) = server {
                spec["server"] = json!({"name": twin_name(&server.target.name)});
            }
        }
        kind if kind.is_http_route() => {
            if let Some(parents) = spec["parentRefs"].as_array_mut() {
                // What the definition fills in.
                let groupless = parents.iter_mut().filter(|parent| parent["group"].is_null());
                groupless.for_each(|parent| parent["group"] = default_group(kind).into());
                parents.retain(|parent| is_of(parent, namespace(object), sources));
                for parent in parents {
                    rename(parent, namespace(object), sources);
                }
            }
        }
        _ => {}
    }
    spec
}

/// Whether a ServerAuthorization's `server` is this one.
pub(super) fn is_chosen(choice: &Value, server: &Value) -> bool {
    match choice["name"].as_str() {
        Some(chosen) => chosen == name(server),
        None => choice["selector"].is_object() && selects(&choice["selector"], labels(server)),
    }
}

fn labels(object: &Value) -> Option<&Map<String, Value>> {
    crate::object::metadata_map(object, "labels")
}

fn is_of(reference: &Value, own: &str, sources: &[Source<'_>]) -> bool {
    sources.iter().any(|source| {
        refers(reference, source.target.group(), &source.target.kind)
            && reference["name"] == *source.target.name
            && reference["namespace"].as_str().unwrap_or(own) == source.target.namespace
    })
}

fn rename(reference: &mut Value, own: &str, sources: &[Source<'_>]) {
    if is_of(reference, own, sources)
        && let Some(name) = reference["name"].as_str().map(twin_name)
    {
        reference["name"] = name.into();
    }
}

/// The labels that all pods of a Server carry, if that is all that it asks of them.
pub(super) fn pod_labels(server: &Value) -> Option<BTreeMap<String, String>> {
    let selector = &spec(server)["podSelector"];
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut labels: BTreeMap<String, String> =
        equal.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
    for expression in list(selector, "matchExpressions") {
        let (key, values) = (expression["key"].as_str()?, list(expression, "values"));
        let value = values.first().and_then(Value::as_str).filter(|_| values.len() == 1)?;
        let is_new = || labels.get(key).is_none_or(|known| known == value);
        if expression["operator"] != "In" || !is_new() {
            return None;
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Some(labels)
}

/// Whether two Servers may select one pod on one port: nothing that they say excludes it.
pub(super) fn may_overlap(a: &Value, b: &Value) -> bool {
    let (a, b) = (spec(a), spec(b));
    if a["podSelector"].is_object() != b["podSelector"].is_object() {
        return false;
    }
    let same_port = a["port"] == b["port"] || a["port"].is_string() != b["port"].is_string();
    let of = |spec: &'_ Value| spec["podSelector"]["matchLabels"].as_object().cloned().unwrap_or_default();
    let (mine, theirs) = (of(a), of(b));
    same_port && mine.iter().all(|(key, value)| theirs.get(key).is_none_or(|other| other == value))
}

/// Whether an object names one of these Servers of its own namespace, by itself.
pub(super) fn names_server(object: &Value, servers: &[&Value]) -> bool {
    let is_one = |wanted: &str| servers.iter().any(|server| name(server) == wanted);
    let spec = spec(object);
    match kind_of(object) {
        Some(Kind::AuthorizationPolicy | Kind::RateLimit) => {
            refers(&spec["targetRef"], POLICY, "Server") && spec["targetRef"]["name"].as_str().is_some_and(is_one)
        }
        Some(Kind::ServerAuthorization) => servers.iter().any(|server| is_chosen(&spec["server"], server)),
        Some(kind) if kind.is_http_route() => {
            let parents = parents(kind, spec, namespace(object));
            parents.iter().any(|parent| matches!(parent, Parent::Server(name) if is_one(name)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_known_by_labels_alone() {
        let of = |selector: Value| pod_labels(&json!({"spec": {"podSelector": selector}}));
        let web = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let one_of = |values: Value| json!({"matchExpressions": [{"key": "app", "operator": "In", "values": values}]});
        assert_eq!(of(json!({})), Some(BTreeMap::new()));
        assert_eq!(of(json!({"matchLabels": {"app": "web"}})), Some(web.clone()));
        assert_eq!(of(one_of(json!(["web"]))), Some(web));
        assert_eq!(of(one_of(json!(["web", "api"]))), None);
        assert_eq!(of(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]})), None);
    }

    #[test]
    fn servers_overlap_unless_something_excludes_it() {
        let server =
            |port: Value, app: &str| json!({"spec": {"port": port, "podSelector": {"matchLabels": {"app": app}}}});
        let first = server(json!(8080), "web");
        for (second, overlap) in [
            (server(json!(8080), "web"), true),
            (server(json!("http"), "web"), true),
            (server(json!(9090), "web"), false),
            (server(json!(8080), "api"), false),
            (json!({"spec": {"port": 8080, "podSelector": {}}}), true),
            (json!({"spec": {"port": 8080, "externalWorkloadSelector": {}}}), false),
        ] {
            assert_eq!(may_overlap(&first, &second), overlap, "{second}");
        }
    }
}
