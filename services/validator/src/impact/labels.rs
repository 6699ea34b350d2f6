//! Labels of a workload of which not all are known, for observed traffic names services and no pods.
//!
//! The pods that a Service selects are its workload. Where they differ, and where no pod or Service is at hand, a label is
//! open: whether a policy that asks for it is theirs cannot be told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Labels that every pod has with a value of its own; nobody chooses workloads by them.
const OF_PODS: [&str; 4] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

/// Which labels of a workload are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// None is: those that are told are all.
    None,
    /// These.
    Some(BTreeSet<String>),
    /// All of them.
    All,
}

impl Open {
    /// Whether a label is not known.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::None => false,
            Self::Some(keys) => keys.contains(key),
            Self::All => true,
        }
    }
}

/// The labels of a service's workload, and which of them are open, as far as objects tell.
#[must_use]
pub fn of_service<'a>(
    objects: impl Iterator<Item = &'a Value> + Clone,
    namespace: &str,
    name: &str,
) -> (BTreeMap<String, String>, Open) {
    let here = |object: &&Value, kind: &str| {
        object["kind"] == kind && object["apiVersion"] == "v1" && object["metadata"]["namespace"] == namespace
    };
    let service = objects.clone().find(|object| here(object, "Service") && object["metadata"]["name"] == name);
    let selector = service.map(|service| texts(&service["spec"]["selector"])).unwrap_or_default();
    if selector.is_empty() {
        return (BTreeMap::new(), Open::All);
    }
    let pods = objects.filter(|object| here(object, "Pod")).map(|pod| texts(&pod["metadata"]["labels"]));
    let is_of = |labels: &BTreeMap<String, String>| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let mut pods = pods.filter(is_of);
    let Some(first) = pods.next() else { return (selector, Open::All) };
    let mut open: BTreeSet<String> = OF_PODS.iter().map(|key| (*key).to_owned()).collect();
    for other in pods {
        let keys = first.keys().chain(other.keys());
        open.extend(keys.filter(|key| first.get(*key) != other.get(*key)).cloned());
    }
    (first.into_iter().filter(|(key, _)| !open.contains(key)).collect(), Open::Some(open))
}

fn texts(map: &Value) -> BTreeMap<String, String> {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_those_that_all_pods_of_a_service_have() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "cart"},
                             "spec": {"selector": {"app": "cart"}}});
        let pod = |version: &str, hash: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop",
                   "labels": {"app": "cart", "version": version, "pod-template-hash": hash}}})
        };
        let of = |objects: &[Value]| of_service(objects.iter(), "shop", "cart");
        assert_eq!(of(&[]), (BTreeMap::new(), Open::All));
        let app = BTreeMap::from([("app".to_owned(), "cart".to_owned())]);
        assert_eq!(
            of(std::slice::from_ref(&service)),
            (app.clone(), Open::All),
            "no pod is at hand, but each has these"
        );
        let (labels, open) = of(&[service.clone(), pod("v1", "a"), pod("v1", "b")]);
        assert_eq!((labels["version"].as_str(), open.has("version"), open.has("team")), ("v1", false, false));
        let (labels, open) = of(&[service, pod("v1", "a"), pod("v2", "a")]);
        assert_eq!((labels, open.has("version"), open.has("app")), (app, true, false));
    }
}
