//! Reading a Kubernetes object that is plain JSON. Unknown fields survive because nothing is ever parsed into a type.

use meshward_model::Target;
use serde_json::{Map, Value};

/// The field manager under which Meshward writes.
pub const FIELD_MANAGER: &str = "meshward";

/// `spec`; null if there is none.
#[must_use]
pub fn spec(object: &Value) -> &Value {
    &object["spec"]
}

/// `metadata.resourceVersion`; empty if there is none.
#[must_use]
pub fn resource_version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// `metadata.uid`; empty if there is none.
#[must_use]
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// `metadata.generation`: what the API server counts up whenever the spec changes; 0 if there is none.
#[must_use]
pub fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_default()
}

/// "namespace/name".
#[must_use]
pub fn full_name(object: &Value) -> String {
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

/// Whether it is the object that a target names, in whatever version of its API.
#[must_use]
pub fn is_of(object: &Value, target: &Target) -> bool {
    let metadata = &object["metadata"];
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    group == target.group()
        && object["kind"] == *target.kind
        && metadata["namespace"].as_str().unwrap_or_default() == target.namespace
        && metadata["name"] == *target.name
}

/// A map of `metadata`: `labels` or `annotations`. No map and an empty map are the same.
#[must_use]
pub fn metadata_map<'a>(object: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    object["metadata"][field].as_object().filter(|map| !map.is_empty())
}

/// Who changed the object last, other than Meshward and other than what `before` knows of already: the newest entry in
/// `managedFields`. Times there have seconds only; of two in one second the later in the list counts. "somebody" if the
/// object does not say.
#[must_use]
pub fn other_manager(object: &Value, before: Option<&Value>) -> String {
    let known = before.map_or(&[][..], entries);
    let same = |a: &Value, b: &Value| ["manager", "operation", "time"].iter().all(|field| a[*field] == b[*field]);
    let others = || entries(object).iter().filter(|entry| entry["manager"] != FIELD_MANAGER);
    let newest = |entry: &&Value| entry["time"].as_str().unwrap_or_default().to_owned();
    let since = others().filter(|entry| !known.iter().any(|old| same(old, entry))).max_by_key(newest);
    let entry = since.or_else(|| others().max_by_key(newest));
    entry.and_then(|entry| entry["manager"].as_str()).unwrap_or("somebody").to_owned()
}

/// Who else owns a label or annotation (`field` says which); of several the one that wrote last.
#[must_use]
pub fn owner_of<'a>(object: &'a Value, field: &str, key: &str) -> Option<&'a str> {
    let owns = |entry: &&Value| {
        let map = &entry["fieldsV1"]["f:metadata"][format!("f:{field}")];
        entry["manager"] != FIELD_MANAGER && !map[format!("f:{key}")].is_null()
    };
    let newest = |entry: &&Value| entry["time"].as_str().unwrap_or_default().to_owned();
    entries(object).iter().filter(owns).max_by_key(newest)?["manager"].as_str()
}

/// Who else has written the object, status aside: manager, operation and time of each entry that is not Meshward's.
pub fn other_writes(object: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    let others =
        entries(object).iter().filter(|entry| entry["manager"] != FIELD_MANAGER && entry["subresource"].is_null());
    others.map(|entry| {
        let part = |field: &str| entry[field].as_str().unwrap_or_default();
        (part("manager"), part("operation"), part("time"))
    })
}

fn entries(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether `managedFields` has an entry of Meshward's; `operation` is "Apply", "Update" or `None` for either.
#[must_use]
pub fn managed_by_us(object: &Value, operation: Option<&str>) -> bool {
    let fits = |entry: &Value| operation.is_none_or(|operation| entry["operation"] == operation);
    entries(object).iter().any(|entry| entry["manager"] == FIELD_MANAGER && fits(entry))
}

/// Whether the same managers own the same fields of two objects, whenever they wrote them: a write that changes nothing but these times
/// is none to the API server.
#[must_use]
pub fn same_owners(one: &Value, other: &Value) -> bool {
    let timeless = |entry: &Value| {
        let mut entry = entry.clone();
        entry["time"].take();
        entry
    };
    entries(one).iter().map(timeless).eq(entries(other).iter().map(timeless))
}

/// The labels or annotations that server-side apply of ours has set before and would take away if it left them out.
#[must_use]
pub fn applied_by_us(object: &Value, field: &str) -> Map<String, Value> {
    let ours = entries(object).iter().find(|entry| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply");
    let owned = ours.and_then(|entry| entry["fieldsV1"]["f:metadata"][format!("f:{field}")].as_object());
    let is_ours = |key: &str| owned.is_some_and(|owned| owned.contains_key(&format!("f:{key}")));
    let map = metadata_map(object, field).into_iter().flatten();
    map.filter(|(key, _)| is_ours(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_other_manager_is_named() {
        let entry = |manager: &str, time: &str| json!({"manager": manager, "operation": "Apply", "time": time});
        let object = json!({"metadata": {"managedFields": [
            entry("kubectl", "2026-01-01T00:00:03Z"),
            entry("argocd", "2026-01-01T00:00:03Z"),
            entry("helm", "2026-01-01T00:00:01Z"),
            entry("meshward", "2026-01-01T00:00:09Z"),
        ]}});
        assert_eq!(other_manager(&object, None), "argocd");
        let before = json!({"metadata": {"managedFields": [entry("argocd", "2026-01-01T00:00:03Z")]}});
        assert_eq!(other_manager(&object, Some(&before)), "kubectl", "argocd was there before");
        assert_eq!(other_manager(&json!({}), None), "somebody");
        assert!(managed_by_us(&object, Some("Apply")) && !managed_by_us(&object, Some("Update")));
    }
}
