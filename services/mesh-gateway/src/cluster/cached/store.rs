//! The objects of a cache, by namespace and name, and pages of them. Pure.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{
    super::{Change, Selected, Selection, selector::Selector},
    version_of,
};
use crate::object;

/// How the place of a page begins that was cut here. It is a name, so it stays good when the API server's would not.
const OURS: &str = "after:";

/// Objects, as they were at a version.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<(String, String), Arc<Value>>,
    version: u64,
}

/// Whether a page begins where a page of ours ended.
pub(super) fn is_ours(from: &str) -> bool {
    from.starts_with(OURS)
}

fn key(object: &Value) -> (String, String) {
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (part("namespace"), part("name"))
}

impl Store {
    /// What a LIST told.
    pub(super) fn of(plural: &str, listed: Selected) -> Self {
        let version = version_of(&listed.resource_version).unwrap_or_default();
        let objects = listed
            .objects
            .into_iter()
            .map(|object| (key(&object), Arc::new(slim(plural, Arc::unwrap_or_clone(object)))));
        Self { objects: objects.collect(), version }
    }

    pub(super) fn take(&mut self, plural: &str, change: Change) {
        let version = match &change {
            Change::Stored(object) | Change::Deleted(object) => version_of(object::resource_version(object)),
            Change::Bookmark(version) => version_of(version),
        };
        match change {
            Change::Stored(object) => drop(self.objects.insert(key(&object), Arc::new(slim(plural, object)))),
            Change::Deleted(object) => drop(self.objects.remove(&key(&object))),
            Change::Bookmark(_) => {}
        }
        self.version = self.version.max(version.unwrap_or_default());
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn page(&self, selection: &Selection, selector: &Selector) -> Selected {
        let limit = if selection.limit == 0 { usize::MAX } else { selection.limit as usize };
        let after = selection.from.strip_prefix(OURS).and_then(|place| place.split_once('/'));
        let after = after.map_or(Unbounded, |(namespace, name)| Excluded((namespace.to_owned(), name.to_owned())));
        let is_here = |namespace: &str| selection.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
        let mut fitting = self
            .objects
            .range((after, Unbounded))
            .filter(|((namespace, _), object)| is_here(namespace) && selector.fits(object));
        let (mut objects, mut last) = (Vec::new(), None);
        for (key, object) in fitting.by_ref().take(limit) {
            objects.push(Arc::clone(object));
            last = Some(key);
        }
        let next = match last {
            Some((namespace, name)) if fitting.next().is_some() => format!("{OURS}{namespace}/{name}"),
            _ => String::new(),
        };
        Selected { objects, next, resource_version: self.version.to_string() }
    }
}

/// Without what nobody asks a cache for.
fn slim(plural: &str, mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if plural == "pods" { slim_pod(&mut object) } else { object }
}

fn slim_pod(pod: &mut Value) -> Value {
    let containers = |list: &mut Value| {
        let containers = list.as_array_mut().map(std::mem::take).unwrap_or_default();
        Value::Array(containers.into_iter().map(slim_container).collect())
    };
    let mut spec = only(&mut pod["spec"], &["nodeName", "serviceAccountName", "containers", "initContainers"]);
    for field in ["containers", "initContainers"] {
        if spec[field].is_array() {
            spec[field] = containers(&mut spec[field]);
        }
    }
    let status = only(&mut pod["status"], &["phase", "conditions", "podIP", "startTime"]);
    let mut slim = only(pod, &["apiVersion", "kind", "metadata"]);
    slim["spec"] = spec;
    slim["status"] = status;
    slim
}

/// Its ports have names that policies use, and its probes are requests.
fn slim_container(mut container: Value) -> Value {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"];
    let mut slim = only(&mut container, &[&["name", "image", "ports"][..], &probes].concat());
    for probe in probes {
        if slim[probe].is_object() {
            slim[probe] = only(&mut slim[probe], &["httpGet"]);
        } else if let Some(fields) = slim.as_object_mut() {
            fields.remove(probe);
        }
    }
    slim
}

/// Those fields of a map that are there.
fn only(value: &mut Value, fields: &[&str]) -> Value {
    let map = value.as_object_mut().map(std::mem::take).unwrap_or_default();
    Value::Object(map.into_iter().filter(|(key, _)| fields.contains(&key.as_str())).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, version: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name, "resourceVersion": version,
                            "labels": {"app": name}, "managedFields": [{}]},
               "spec": {"nodeName": "n", "volumes": [{}],
                        "containers": [{"name": "c", "image": "i", "env": [], "ports": [{"containerPort": 80}],
                                        "readinessProbe": {"httpGet": {"path": "/"}, "periodSeconds": 1}}]},
               "status": {"phase": "Running", "conditions": [], "containerStatuses": [{}]}})
    }

    fn store() -> Store {
        let objects = ["a", "b", "c", "d"].map(|name| pod("shop", name, "5")).into_iter();
        let objects = objects.chain([pod("other", "x", "6")]).map(Arc::new).collect();
        Store::of("pods", Selected { objects, next: String::new(), resource_version: "10".into() })
    }

    fn names(selected: &Selected) -> String {
        selected.objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect()
    }

    #[test]
    fn pages_go_on_by_name_whatever_happens_in_between() {
        let mut store = store();
        let first = Selection { limit: 2, ..Selection::of("v1", "pods").within("shop") };
        let page = store.page(&first, &Selector::default());
        assert_eq!((names(&page), &*page.next), ("ab".into(), "after:shop/b"));
        store.take("pods", Change::Deleted(pod("shop", "b", "11")));
        let second = Selection { from: page.next, ..first };
        let page = store.page(&second, &Selector::default());
        assert_eq!((names(&page), &*page.next, &*page.resource_version), ("cd".into(), "", "11"));
        let all = store.page(&Selection::of("v1", "pods"), &Selector::parse("app!=c", "").unwrap());
        assert_eq!(names(&all), "xad");
    }

    #[test]
    fn versions_only_rise_and_a_pod_is_cut_to_what_is_asked_for() {
        let mut store = store();
        store.take("pods", Change::Stored(pod("shop", "e", "12")));
        store.take("pods", Change::Bookmark("7".into()));
        assert_eq!((store.version(), store.len()), (12, 6));
        store.take("pods", Change::Bookmark("20".into()));
        let page = store.page(&Selection::of("v1", "pods"), &Selector::parse("app=e", "").unwrap());
        let metadata = json!({"namespace": "shop", "name": "e", "resourceVersion": "12", "labels": {"app": "e"}});
        let expected = json!({"metadata": metadata,
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
                                                      "readinessProbe": {"httpGet": {"path": "/"}}}]},
            "status": {"phase": "Running", "conditions": []}});
        assert_eq!((&page.objects[..], &*page.resource_version), (&[Arc::new(expected)][..], "20"));
    }
}
