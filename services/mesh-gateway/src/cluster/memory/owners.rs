//! Who owns which field, as `managedFields` tells it. Pure.
//!
//! A field is the path to a value that is no map, or an empty map: lists are owned as a whole, as those of Istio's and
//! Linkerd's kinds are. Only the last writers of a value own it; one that applies what is there already owns it too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// A path of keys.
pub(super) type Path = Vec<String>;

/// An entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    /// "Apply" or "Update".
    pub(super) operation: String,
    api_version: String,
    time: String,
    pub(super) fields: BTreeSet<Path>,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owners(pub(super) Vec<Entry>);

/// The fields of an object that can be owned, and their values.
pub(super) fn fields(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
                    if let Some(value) = value.get(field) {
                        descend(vec![key.clone(), field.to_owned()], value, &mut found);
                    }
                }
            }
            _ => descend(vec![key.clone()], value, &mut found),
        }
    }
    found
}

fn descend(path: Path, value: &Value, found: &mut BTreeMap<Path, Value>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        None => drop(found.insert(path, value.clone())),
        Some(map) => {
            for (key, value) in map {
                let mut path = path.clone();
                path.push(key.clone());
                descend(path, value, found);
            }
        }
    }
}

/// The value at a path.
pub(super) fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// Puts a value at a path; maps on the way are made.
pub(super) fn put(object: &mut Value, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else { return *object = value };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    put(&mut object[key.as_str()], rest, value);
}

/// Removes the value at a path, and the maps that are empty without it.
pub(super) fn remove(object: &mut Value, path: &[String]) {
    let Some((key, rest)) = path.split_first() else { return };
    let Some(map) = object.as_object_mut() else { return };
    if rest.is_empty() {
        map.remove(key);
    } else if let Some(child) = map.get_mut(key) {
        remove(child, rest);
        if child.as_object().is_some_and(Map::is_empty) {
            map.remove(key);
        }
    }
}

impl Owners {
    /// Of a live object, or of a list that a patch brings. An entry without a manager is none.
    pub(super) fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        let named = entries.filter(|entry| entry["manager"].is_string());
        let entry = |entry: &Value| {
            let mut fields = BTreeSet::new();
            decode(&entry["fieldsV1"], &mut Vec::new(), &mut fields);
            Entry {
                manager: text(&entry["manager"]),
                operation: text(&entry["operation"]),
                api_version: text(&entry["apiVersion"]),
                time: text(&entry["time"]),
                fields,
            }
        };
        Self(named.map(entry).collect())
    }

    /// What one manager owns by one operation.
    pub(super) fn fields_of(&self, manager: &str, operation: &str) -> BTreeSet<Path> {
        let is_it = |entry: &&Entry| entry.manager == manager && entry.operation == operation;
        self.0.iter().find(is_it).map(|entry| entry.fields.clone()).unwrap_or_default()
    }

    /// Whether anybody owns a field or something in it.
    pub(super) fn has(&self, path: &[String]) -> bool {
        self.0.iter().any(|entry| entry.fields.iter().any(|field| field.starts_with(path)))
    }

    /// Takes fields, and what is in them or around them, from everybody.
    pub(super) fn take_away<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>) {
        for path in paths {
            for entry in &mut self.0 {
                entry.fields.retain(|field| !field.starts_with(path) && !path.starts_with(field));
            }
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    /// Makes these all that a manager owns by an operation. An entry that stays as it is keeps its time.
    pub(super) fn set(&mut self, who: (&str, &str), api_version: &str, time: &str, fields: BTreeSet<Path>, anew: bool) {
        let (manager, operation) = who;
        let is_it = |entry: &Entry| entry.manager == manager && entry.operation == operation;
        let known = self.0.iter().position(is_it).map(|index| self.0.remove(index));
        let same = known.as_ref().filter(|entry| entry.fields == fields && !anew);
        let time = same.map_or_else(|| time.to_owned(), |entry| entry.time.clone());
        if !fields.is_empty() {
            let (manager, operation) = (manager.to_owned(), operation.to_owned());
            self.0.push(Entry { manager, operation, api_version: api_version.to_owned(), time, fields });
        }
        let order = |entry: &Entry| (entry.operation.clone(), entry.time.clone(), entry.manager.clone());
        self.0.sort_by_key(order);
    }

    /// As an object carries them; null if there are none.
    pub(super) fn to_json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let entry = |entry: &Entry| {
            let Entry { manager, operation, api_version, time, fields } = entry;
            let mut tree = json!({});
            for path in fields {
                put(&mut tree, &path.iter().map(|key| format!("f:{key}")).collect::<Vec<_>>(), json!({}));
            }
            json!({"manager": manager, "operation": operation, "apiVersion": api_version, "time": time,
                   "fieldsType": "FieldsV1", "fieldsV1": tree})
        };
        self.0.iter().map(entry).collect()
    }
}

fn decode(tree: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    let Some(map) = tree.as_object() else { return };
    let children: Vec<_> = map.iter().filter_map(|(key, child)| Some((key.strip_prefix("f:")?, child))).collect();
    if children.is_empty() && !path.is_empty() {
        found.insert(path.clone());
    }
    for (key, child) in children {
        path.push(key.to_owned());
        decode(child, path, found);
        path.pop();
    }
}
