//! Everything that a release may touch in the cluster, at one moment, and what of Meshward is in it.

use std::collections::BTreeMap;

use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::Value;

use crate::{
    demo::{
        Mesh,
        object::{TEAM, compare, without_counters},
    },
    stack::NAMESPACE,
};

/// Kinds that Meshward writes, helps itself with, or labels.
const KINDS: [(&str, &str); 8] = [
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("networking.istio.io/v1", "Sidecar"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("v1", "ConfigMap"),
    ("v1", "Pod"),
];

fn api(mesh: &Mesh, api_version: &str, kind: &str) -> Api<DynamicObject> {
    // "v1" is of no group.
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(mesh.client().clone(), NAMESPACE, &resource)
}

fn api_of(mesh: &Mesh, object: &Value) -> Api<DynamicObject> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    api(mesh, &text(&object["apiVersion"]), &text(&object["kind"]))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn comparable(object: &Value) -> Value {
    let mut object = without_counters(object);
    let entries = object["metadata"]["managedFields"].as_array_mut().into_iter().flatten();
    for entry in entries.filter(|entry| entry["manager"] == "meshward") {
        entry["time"].take();
    }
    object
}

/// Applies an object as the platform team would.
pub async fn apply(mesh: &Mesh, object: &Value) -> anyhow::Result<()> {
    let parameters = PatchParams::apply(TEAM).force();
    api_of(mesh, object).patch(name(object), &parameters, &Patch::Apply(object)).await?;
    Ok(())
}

/// Changes a live object as somebody else would, past Meshward.
pub async fn edit(mesh: &Mesh, object: &Value, manager: &str, change: &Value) -> anyhow::Result<()> {
    let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    api_of(mesh, object).patch(name(object), &parameters, &Patch::Merge(change)).await?;
    Ok(())
}

/// What would become of an object that is made now: admission has its say, and nothing is made.
pub async fn admitted(mesh: &Mesh, object: &Value) -> anyhow::Result<Value> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let made = api_of(mesh, object).create(&dry, &serde_json::from_value(object.clone())?).await?;
    Ok(serde_json::to_value(made)?)
}

/// The live object of the kind and name of this one.
pub async fn read(mesh: &Mesh, object: &Value) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(api_of(mesh, object).get(name(object)).await?)?)
}

/// Every object of the namespace that Meshward could touch, whole.
pub struct Everything(BTreeMap<String, Value>);

impl Everything {
    /// Reads it.
    pub async fn read(mesh: &Mesh) -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        for (api_version, kind) in KINDS {
            for object in api(mesh, api_version, kind).list(&ListParams::default()).await? {
                let object = serde_json::to_value(object)?;
                all.insert(format!("{kind} {}", name(&object)), object);
            }
        }
        Ok(Self(all))
    }

    /// What is different now, beyond counters; empty = byte for byte the same, managed fields included. Only the time at which
    /// Meshward wrote what it owned before cannot be put back.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let whole = |all: &Self| -> Value {
            all.0
                .iter()
                .map(|(name, object)| (name.clone(), comparable(object)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let mut found = Vec::new();
        compare("", &whole(self), &whole(now), &mut found);
        found
    }

    /// Whether an object is there, by kind and name.
    pub fn has(&self, object: &str) -> bool {
        self.0.contains_key(object)
    }

    /// What of Meshward is in it. That Meshward owns the spec of an object that it has promoted is as it should be.
    pub fn ours(&self, promoted: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for (name, object) in &self.0 {
            let metadata = &object["metadata"];
            let keys = ["labels", "annotations"].into_iter().filter_map(|field| metadata[field].as_object());
            let keys = keys.flat_map(|map| map.keys()).filter(|key| key.contains("meshward"));
            found.extend(keys.map(|key| format!("{name}: {key}")));
            let managers = metadata["managedFields"].as_array().into_iter().flatten();
            let is_manager = managers.into_iter().any(|entry| entry["manager"] == "meshward");
            if name.contains("meshward") || (is_manager && !promoted.contains(name)) {
                found.push(name.clone());
            }
        }
        found
    }
}
