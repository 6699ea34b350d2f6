//! The live object, seen from outside of Meshward: read straight from the API server.

use anyhow::Context as _;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use super::{Mesh, policies};
use crate::stack::NAMESPACE;

/// Istio's kinds of which Meshward could leave helpers behind.
const HELPERS: [(&str, &str); 4] = [
    ("networking.istio.io", "VirtualService"),
    ("networking.istio.io", "DestinationRule"),
    ("networking.istio.io", "ServiceEntry"),
    ("security.istio.io", "AuthorizationPolicy"),
];
/// Field manager of the platform team, before Meshward comes.
pub(super) const TEAM: &str = "platform-team";

fn api(mesh: &Mesh, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(mesh.client().clone(), NAMESPACE, &resource)
}

/// Applies an object as the platform team would.
///
/// # Errors
/// If the API server refuses it.
pub async fn apply(mesh: &Mesh, object: &Value) -> anyhow::Result<()> {
    let api = api(mesh, "networking.istio.io", "VirtualService");
    api.patch(policies::NAME, &PatchParams::apply(TEAM).force(), &Patch::Apply(object)).await?;
    Ok(())
}

/// The live object, whole.
///
/// # Errors
/// If it is not there.
pub async fn read(mesh: &Mesh) -> anyhow::Result<Value> {
    let object =
        api(mesh, "networking.istio.io", "VirtualService").get(policies::NAME).await.context("the live object")?;
    Ok(serde_json::to_value(object)?)
}

/// Everything that a rollback must put back, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    object: Value,
    helpers: Vec<String>,
}

impl Snapshot {
    /// Takes it.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub async fn take(mesh: &Mesh) -> anyhow::Result<Self> {
        let mut helpers = Vec::new();
        for (group, kind) in HELPERS {
            let list = api(mesh, group, kind).list(&ListParams::default()).await?;
            helpers.extend(
                list.items.iter().map(|object| format!("{kind} {}", object.metadata.name.clone().unwrap_or_default())),
            );
        }
        Ok(Self { object: read(mesh).await?, helpers })
    }

    /// What is different now, beyond `generation` and `resourceVersion`; empty = byte for byte the same.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let (before, after) = (without_counters(&self.object), without_counters(&now.object));
        compare("", &before, &after, &mut found);
        if self.helpers != now.helpers {
            found.push(format!("objects: {:?} before, {:?} now", self.helpers, now.helpers));
        }
        found
    }
}

/// An object without what every write changes.
pub(super) fn without_counters(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("generation");
        metadata.remove("resourceVersion");
    }
    object
}

/// Adds what differs between two values, by its path.
pub(super) fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(&format!("{path}/{key}"), &before[key], &after[key], found);
            }
        }
        (before, after) if before != after => found.push(format!("{path}: {before} became {after}")),
        _ => {}
    }
}
