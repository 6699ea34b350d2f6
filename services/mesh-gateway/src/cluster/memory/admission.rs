//! What the admission policy that comes with Meshward does to a new pod, once it is installed here. No other policy is
//! known: a pod is refused while one is bound, as `failurePolicy: Fail` does. Pure.

use std::collections::BTreeMap;

use meshward_model::Target;
use serde_json::Value;

use super::Key;
use crate::{
    cluster::ClusterError,
    dialect::STABLE,
    newcomers::admission::{NAME, PARAMETER, manifests},
    object::{metadata_map, spec},
};

const GROUP: &str = "admissionregistration.k8s.io";
const BINDINGS: &str = "mutatingadmissionpolicybindings";
const POLICIES: &str = "mutatingadmissionpolicies";

/// Changes an object that is about to be made as the policies that are bound ask for.
pub(super) fn admit(objects: &BTreeMap<Key, Value>, target: &Target, object: &mut Value) -> Result<(), ClusterError> {
    if (&*target.api_version, &*target.kind) != ("v1", "Pod") {
        return Ok(());
    }
    let bindings = objects.iter().filter(|(key, _)| (&*key.0, &*key.1) == (GROUP, BINDINGS));
    for ((.., name), binding) in bindings {
        check_known(objects, name, binding)?;
        for key in asked_for(objects, target, object) {
            object["metadata"]["labels"][key] = STABLE.into();
        }
    }
    Ok(())
}

fn check_known(objects: &BTreeMap<Key, Value>, name: &str, binding: &Value) -> Result<(), ClusterError> {
    let policy = objects.get(&(GROUP.to_owned(), POLICIES.to_owned(), String::new(), NAME.to_owned()));
    let found = [policy.map(spec), Some(spec(binding))];
    let known = manifests();
    if known.iter().map(|object| Some(spec(object))).eq(found) {
        return Ok(());
    }
    Err(ClusterError::Admission(format!("{name} asks for what is not known here")))
}

/// The labels that the parameters of a pod's namespace ask for.
fn asked_for(objects: &BTreeMap<Key, Value>, target: &Target, pod: &Value) -> Vec<String> {
    let labels = metadata_map(pod, "labels");
    let has = |term: &str| {
        term.split_once('=')
            .is_some_and(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(&value.into())))
    };
    let of_namespace = |key: &Key| (&*key.0, &*key.1, &*key.2) == ("", "configmaps", &*target.namespace);
    let parameters = objects.iter().filter(|(key, _)| of_namespace(key)).map(|(_, object)| object);
    let parameters = parameters.filter(|object| object["metadata"]["labels"][PARAMETER] == STABLE);
    let asked = parameters.filter_map(|parameter| {
        let data = &parameter["data"];
        let (key, selector) = (data["key"].as_str()?, data["selector"].as_str()?);
        let is_selected = selector.is_empty() || selector.split(',').all(has);
        (key.starts_with("meshward.io/cohort-") && is_selected).then(|| key.to_owned())
    });
    asked.collect()
}
