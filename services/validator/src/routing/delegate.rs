//! Routes that are delegated, put together with those of the delegate as istiod does it.
//!
//! Each match of the root is united with each match of the delegate that is within it; a pair that is not is left out, and a
//! route of the delegate with a match that finds no partner is left out whole (`mergeHTTPRoutes`, `hasConflict`).

use serde_json::{Map, Value, json};

/// What a delegate's route takes from the root where it has none of its own.
const INHERITED: [&str; 11] = [
    "rewrite",
    "directResponse",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrorPercent",
    "mirrorPercentage",
    "mirrors",
    "corsPolicy",
    "headers",
];
const TEXTS: [&str; 4] = ["uri", "scheme", "method", "authority"];
const MAPS: [&str; 4] = ["headers", "withoutHeaders", "queryParams", "sourceLabels"];
/// What a match of the delegate has of its own, or else takes from the root's.
const SINGLE: [&str; 8] = ["uri", "scheme", "method", "authority", "port", "sourceNamespace", "gateways", "statPrefix"];

/// The routes of a delegate in place of the root's route that names it.
pub(super) fn merged(root: &Value, delegate: &[Value]) -> Vec<Value> {
    delegate.iter().filter_map(|route| route_of(root, route)).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_set(value: &Value) -> bool {
    !(value.is_null() || value == "" || *value == json!([]) || *value == json!({}) || *value == json!(0))
}

fn route_of(root: &Value, own: &Value) -> Option<Value> {
    let matches = matches(list(&root["match"]), list(&own["match"]))?;
    let mut route = own.clone();
    let fields = route.as_object_mut()?;
    for name in INHERITED {
        if own[name].is_null() && !root[name].is_null() {
            fields.insert(name.to_owned(), root[name].clone());
        }
    }
    fields.insert("match".to_owned(), Value::Array(matches));
    fields.insert("name".to_owned(), Value::String(name(root, own)));
    Some(route)
}

fn name(root: &Value, own: &Value) -> String {
    let parts = [root, own].map(|route| route["name"].as_str().unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// `None` if the delegate's route is left out.
fn matches(root: &[Value], own: &[Value]) -> Option<Vec<Value>> {
    if root.is_empty() || own.is_empty() {
        return Some(if root.is_empty() { own.to_vec() } else { root.to_vec() });
    }
    let mut all = Vec::new();
    for inner in own {
        let before = all.len();
        all.extend(root.iter().filter(|outer| !conflict(outer, inner)).map(|outer| united(outer, inner)));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

fn united(root: &Value, own: &Value) -> Value {
    let mut fields = own.as_object().cloned().unwrap_or_default();
    for name in SINGLE {
        if !is_set(&own[name]) && is_set(&root[name]) {
            fields.insert(name.to_owned(), root[name].clone());
        }
    }
    for name in MAPS {
        let entries = [root, own].map(|one| one[name].as_object().cloned().unwrap_or_default());
        let both: Map<String, Value> = entries.into_iter().flatten().collect();
        if !both.is_empty() {
            fields.insert(name.to_owned(), Value::Object(both));
        }
    }
    Value::Object(fields)
}

/// Whether requests of `own` need not be requests of `root`.
fn conflict(root: &Value, own: &Value) -> bool {
    let differs = |name: &str| is_set(&root[name]) && root[name] != own[name];
    let texts = TEXTS.iter().any(|name| text_conflict(&root[*name], &own[*name]));
    let maps = MAPS[..3].iter().any(|name| {
        let entries = own[*name].as_object().into_iter().flatten();
        entries.into_iter().any(|(key, text)| text_conflict(&root[*name][key], text))
    });
    let case = (root["ignoreUriCase"] == true) != (own["ignoreUriCase"] == true);
    let port = is_set(&own["port"]) && differs("port");
    let labels = own["sourceLabels"].as_object().into_iter().flatten();
    let labels = labels.into_iter().any(|(key, value)| {
        let outer = &root["sourceLabels"][key];
        !outer.is_null() && outer != value
    });
    let (outer, inner) = (list(&root["gateways"]), list(&own["gateways"]));
    let gateways = !outer.is_empty()
        && !inner.is_empty()
        && (outer.len() < inner.len() || inner.iter().any(|name| !outer.contains(name)));
    texts || maps || case || port || differs("sourceNamespace") || labels || gateways
}

fn text_conflict(root: &Value, own: &Value) -> bool {
    if root.is_null() || own.is_null() {
        return false;
    }
    let get = |value: &Value, field: &str| value[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (outer, inner) = (|field: &str| get(root, field), |field: &str| get(own, field));
    let any = |value: &Value| ["exact", "prefix", "regex"].iter().any(|field| get(value, field).is_some());
    if outer("regex").is_some() && any(own) || inner("regex").is_some() && any(root) {
        return true;
    }
    if let Some(exact) = outer("exact") {
        return inner("prefix").is_some() || inner("exact") != Some(exact);
    }
    match (outer("prefix"), inner("prefix").or_else(|| inner("exact"))) {
        (Some(prefix), Some(text)) => !text.starts_with(&prefix),
        _ => true,
    }
}
