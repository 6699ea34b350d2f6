//! JSON patches (RFC 6902): the operations that are sent here. Pure.

use serde_json::Value;

/// Applies them all, or says which cannot be.
pub(super) fn apply(object: &Value, operations: &Value) -> Result<Value, String> {
    let mut patched = object.clone();
    for operation in operations.as_array().ok_or("a JSON patch is a list")? {
        let why = || format!("the operation {operation} does not fit the object");
        let path = operation["path"].as_str().ok_or_else(why)?;
        let (parent, key) = path.rsplit_once('/').ok_or_else(why)?;
        let key = key.replace("~1", "/").replace("~0", "~");
        let is_there = patched.pointer(path).is_some();
        let parent = patched.pointer_mut(parent).ok_or_else(why)?;
        match (operation["op"].as_str(), parent) {
            (Some("add"), Value::Object(map)) => drop(map.insert(key, operation["value"].clone())),
            (Some("replace"), Value::Object(map)) if is_there => drop(map.insert(key, operation["value"].clone())),
            (Some("remove"), Value::Object(map)) if is_there => drop(map.remove(&key)),
            (Some("test"), Value::Object(map)) if map.get(&key) == operation.get("value") => {}
            (Some("add"), Value::Array(list)) if key == "-" => list.push(operation["value"].clone()),
            _ => return Err(why()),
        }
    }
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_fit_or_nothing_is_done() {
        let object = json!({"a": {"b/c": 1}, "l": []});
        for (operations, expected) in [
            (json!([{"op": "add", "path": "/a/x", "value": 2}]), Some(json!({"a": {"b/c": 1, "x": 2}, "l": []}))),
            (json!([{"op": "replace", "path": "/a/b~1c", "value": 2}]), Some(json!({"a": {"b/c": 2}, "l": []}))),
            (json!([{"op": "remove", "path": "/a"}]), Some(json!({"l": []}))),
            (json!([{"op": "add", "path": "/l/-", "value": 1}]), Some(json!({"a": {"b/c": 1}, "l": [1]}))),
            (json!([{"op": "test", "path": "/a", "value": {"b/c": 1}}]), Some(object.clone())),
            (json!([{"op": "test", "path": "/a", "value": 7}]), None),
            (json!([{"op": "replace", "path": "/none", "value": 1}]), None),
            (json!([{"op": "remove", "path": "/none"}]), None),
            (json!([{"op": "add", "path": "/none/x", "value": 1}]), None),
        ] {
            assert_eq!(apply(&object, &operations).ok(), expected, "{operations}");
        }
    }
}
