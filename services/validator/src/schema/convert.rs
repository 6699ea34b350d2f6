//! From the OpenAPI dialect of CustomResourceDefinitions to JSON Schema.

use serde_json::{Map, Value, json};

/// Keywords that mean the same in both.
const SAME: [&str; 14] = [
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "required",
    "const",
];

/// The schema of a whole object. Kinds leave apiVersion, kind and metadata to the API server.
pub(super) fn root(openapi: &Value) -> Value {
    let mut schema = structural(openapi);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        properties.insert("metadata".to_owned(), metadata());
    }
    schema
}

/// What the API server knows of an object's metadata.
fn metadata() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string"},
            "generateName": {"type": "string"},
            "namespace": {"type": "string"},
            "labels": texts,
            "annotations": texts,
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "ownerReferences": {"type": "array"},
            "managedFields": {"type": "array"},
            "uid": {"type": "string"},
            "resourceVersion": {"type": "string"},
            "generation": {"type": "integer"},
            "creationTimestamp": {"type": "string"},
            "deletionTimestamp": {"type": "string"},
            "deletionGracePeriodSeconds": {"type": "integer"},
            "selfLink": {"type": "string"},
        },
    })
}

/// A schema that describes structure: fields that it does not name are unknown.
fn structural(openapi: &Value) -> Value {
    let mut schema = Map::new();
    let is = |name: &str| openapi.get(name).and_then(Value::as_bool) == Some(true);
    let open = is("x-kubernetes-preserve-unknown-fields");
    let declared = openapi.get("type").and_then(Value::as_str);
    let types: Vec<&str> =
        if is("x-kubernetes-int-or-string") { vec!["integer", "string"] } else { declared.into_iter().collect() };
    if !types.is_empty() {
        let nullable = is("nullable").then_some("null");
        schema.insert("type".to_owned(), json!(types.into_iter().chain(nullable).collect::<Vec<_>>()));
    }
    values(openapi, &mut schema);
    if let Some(items) = openapi.get("items") {
        schema.insert("items".to_owned(), structural(items));
    }
    let properties = openapi.get("properties").and_then(Value::as_object);
    if declared == Some("object") || properties.is_some() {
        let fields = properties.into_iter().flatten().map(|(name, field)| (name.clone(), structural(field)));
        schema.insert("properties".to_owned(), Value::Object(fields.collect()));
        let others = match openapi.get("additionalProperties") {
            Some(Value::Bool(allowed)) => Value::Bool(*allowed || open),
            Some(others) => structural(others),
            None => Value::Bool(open),
        };
        schema.insert("additionalProperties".to_owned(), others);
    }
    Value::Object(schema)
}

/// What limits a value without describing structure, the same in both dialects.
fn values(openapi: &Value, schema: &mut Map<String, Value>) {
    for keyword in SAME {
        if let Some(value) = openapi.get(keyword) {
            schema.insert(keyword.to_owned(), value.clone());
        }
    }
    for (exclusive, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if openapi.get(exclusive).and_then(Value::as_bool) == Some(true) {
            schema.extend(openapi.get(bound).map(|bound| (exclusive.to_owned(), bound.clone())));
        }
    }
    for keyword in ["oneOf", "anyOf", "allOf"] {
        if let Some(branches) = openapi.get(keyword).and_then(Value::as_array) {
            schema.insert(keyword.to_owned(), branches.iter().map(limits).collect());
        }
    }
    if let Some(not) = openapi.get("not") {
        schema.insert("not".to_owned(), limits(not));
    }
}

/// A branch of oneOf and its like: it limits what the structure around it describes, so it knows no unknown fields.
fn limits(openapi: &Value) -> Value {
    let mut schema = Map::new();
    values(openapi, &mut schema);
    if let Some(kind) = openapi.get("type") {
        schema.insert("type".to_owned(), kind.clone());
    }
    if let Some(fields) = openapi.get("properties").and_then(Value::as_object) {
        let fields = fields.iter().map(|(name, field)| (name.clone(), limits(field))).collect();
        schema.insert("properties".to_owned(), Value::Object(fields));
    }
    schema.extend(openapi.get("items").map(|items| ("items".to_owned(), limits(items))));
    Value::Object(schema)
}
