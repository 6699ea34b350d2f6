//! JSON patches (RFC 6902) that change an object only if it is still the one that was read.

use serde_json::{Map, Value, json};

use crate::object;

/// A patch of one object. Replacing the resourceVersion makes the API server answer 409 if the object has moved on; a
/// `test` would do as well, but fails with the same status as an object that is refused.
pub(super) struct ObjectPatch<'a> {
    live: &'a Value,
    operations: Vec<Value>,
}

impl<'a> ObjectPatch<'a> {
    pub(super) fn new(live: &'a Value) -> Self {
        let version = object::resource_version(live);
        let fence = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version});
        Self { live, operations: vec![fence] }
    }

    /// Replaces the whole spec.
    pub(super) fn spec(mut self, spec: &Value) -> Self {
        self.operations.push(json!({"op": "add", "path": "/spec", "value": spec}));
        self
    }

    /// Makes `labels` or `annotations` exactly this.
    pub(super) fn metadata_map(mut self, field: &str, wanted: Option<Map<String, Value>>) -> Self {
        let path = format!("/metadata/{field}");
        match wanted.filter(|map| !map.is_empty()) {
            Some(map) => self.operations.push(json!({"op": "add", "path": path, "value": map})),
            None if object::metadata_map(self.live, field).is_some() => {
                self.operations.push(json!({"op": "remove", "path": path}));
            }
            None => {}
        }
        self
    }

    /// Replaces who owns which field. An empty list would be ignored; one empty entry clears it.
    pub(super) fn managed_fields(mut self, saved: &Value) -> Self {
        let value = match saved.as_array() {
            Some(entries) if !entries.is_empty() => saved.clone(),
            _ => json!([{}]),
        };
        self.operations.push(json!({"op": "replace", "path": "/metadata/managedFields", "value": value}));
        self
    }

    pub(super) fn build(self) -> Value {
        Value::Array(self.operations)
    }
}
