//! What a MutatingAdmissionPolicy does to a new pod: of all that such policies can do only what Meshward's own ask for,
//! to add labels. One that asks for anything else refuses the pod, as `failurePolicy: Fail` does. Pure.

use std::collections::BTreeMap;

use meshward_model::Target;
use serde_json::{Map, Value};

use super::Key;
use crate::{cluster::ClusterError, object::metadata_map};

const GROUP: &str = "admissionregistration.k8s.io";
const BINDINGS: &str = "mutatingadmissionpolicybindings";
const POLICIES: &str = "mutatingadmissionpolicies";

/// Changes an object that is about to be made as the policies that are bound ask for.
pub(super) fn admit(objects: &BTreeMap<Key, Value>, target: &Target, object: &mut Value) -> Result<(), ClusterError> {
    if (&*target.api_version, &*target.kind) != ("v1", "Pod") {
        return Ok(());
    }
    for (_, binding) in objects.iter().filter(|(key, _)| (&*key.0, &*key.1) == (GROUP, BINDINGS)) {
        let name = binding["spec"]["policyName"].as_str().unwrap_or_default();
        let policy = objects.get(&(GROUP.to_owned(), POLICIES.to_owned(), String::new(), name.to_owned()));
        let Some(policy) = policy.filter(|policy| matches(policy, target, object)) else { continue };
        for mutation in policy["spec"]["mutations"].as_array().into_iter().flatten() {
            let expression = mutation["applyConfiguration"]["expression"].as_str().unwrap_or_default();
            let not_known = || ClusterError::Admission(format!("{name} asks for what is not known here: {expression}"));
            for (key, value) in labels(expression).ok_or_else(not_known)? {
                object["metadata"]["labels"][key] = value;
            }
        }
    }
    Ok(())
}

fn matches(policy: &Value, target: &Target, object: &Value) -> bool {
    let constraints = &policy["spec"]["matchConstraints"];
    let of = |selector: &str| constraints[selector]["matchLabels"].as_object().cloned().unwrap_or_default();
    let labels = metadata_map(object, "labels").cloned().unwrap_or_default();
    let is_near = of("namespaceSelector")
        .iter()
        .all(|(key, value)| key == "kubernetes.io/metadata.name" && *value == *target.namespace);
    is_near && of("objectSelector").iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The labels that an expression adds.
fn labels(expression: &str) -> Option<Map<String, Value>> {
    let labels = expression.strip_prefix("Object{metadata: Object.metadata{labels: ")?.strip_suffix("}}")?;
    serde_json::from_str(labels).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(expression: &str, object: Value) -> Result<Value, ClusterError> {
        let spec = json!({
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
                "objectSelector": {"matchLabels": {"app": "a"}},
            },
            "mutations": [{"applyConfiguration": {"expression": expression}}],
        });
        let key = |plural: &str| (GROUP.to_owned(), plural.to_owned(), String::new(), "p".to_owned());
        let binding = json!({"spec": {"policyName": "p"}});
        let objects = BTreeMap::from([(key(POLICIES), json!({"spec": spec})), (key(BINDINGS), binding)]);
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let target = Target {
            cluster: String::new(),
            mesh: meshward_model::Mesh::Istio,
            api_version: "v1".to_owned(),
            kind: text("kind"),
            namespace: object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned(),
            name: "x".to_owned(),
        };
        let mut made = object.clone();
        admit(&objects, &target, &mut made)?;
        Ok(made["metadata"]["labels"].clone())
    }

    #[test]
    fn a_new_pod_that_is_selected_gets_the_labels() {
        let pod = |kind: &str, namespace: &str, app: &str| json!({"kind": kind, "metadata": {"namespace": namespace, "labels": {"app": app}}});
        let expression = r#"Object{metadata: Object.metadata{labels: {"k/x":"stable"}}}"#;
        let both = json!({"app": "a", "k/x": "stable"});
        for (object, expected) in [
            (pod("Pod", "shop", "a"), both),
            (pod("Pod", "shop", "b"), json!({"app": "b"})),
            (pod("Pod", "other", "a"), json!({"app": "a"})),
            (pod("Service", "shop", "a"), json!({"app": "a"})),
        ] {
            assert_eq!(with(expression, object.clone()), Ok(expected), "{object}");
        }
        let other = with("Object{spec: Object.spec{}}", pod("Pod", "shop", "a"));
        assert!(matches!(other, Err(ClusterError::Admission(_))), "{other:?}");
    }
}
