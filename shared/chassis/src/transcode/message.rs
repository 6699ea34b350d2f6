//! From path, query and body to one request message.
//!
//! Everything is put together as JSON first and then read as ProtoJSON once, so that numbers, enums, timestamps and
//! unknown fields follow one set of rules wherever they stood in the request.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::routes::{BodyRule, Match, resolve};
use crate::problem::Problem;

/// The encoded request message.
///
/// # Errors
/// INVALID_ARGUMENT that names the field.
pub(super) fn build(found: &Match<'_>, query: &str, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let input = found.method.input();
    let mut fields = from_body(&input, found.body, body)?;
    if *found.body != BodyRule::Whole {
        add_query(&input, &mut fields, query)?;
    } else if !query.is_empty() {
        return Err(Problem::invalid_argument("query", "this call takes no query parameters; send a body"));
    }
    for (path, value) in &found.bound {
        put(&input, &mut fields, path, value, false)?;
    }
    let message = DynamicMessage::deserialize(input, Value::Object(fields));
    let message = message.map_err(|error| Problem::invalid_argument("body", error.to_string()))?;
    Ok(message.encode_to_vec())
}

/// A gRPC frame: not compressed, length, message.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("the body limit is below 4 GiB");
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

fn from_body(input: &MessageDescriptor, rule: &BodyRule, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if *rule == BodyRule::None || body.is_empty() {
        return match body.is_empty() {
            true => Ok(Map::new()),
            false => Err(Problem::invalid_argument("body", "this call takes no body")),
        };
    }
    let json = serde_json::from_slice(body);
    let json: Value = json.map_err(|error| Problem::invalid_argument("body", format!("not JSON: {error}")))?;
    match (rule, json) {
        (BodyRule::Field(name), json) => {
            let field = resolve(input, name).map_err(|why| Problem::invalid_argument("body", why))?;
            Ok(Map::from_iter([(field.json_name().to_owned(), json)]))
        }
        (_, Value::Object(fields)) => Ok(fields),
        _ => Err(Problem::invalid_argument("body", "not a JSON object")),
    }
}

fn add_query(input: &MessageDescriptor, fields: &mut Map<String, Value>, query: &str) -> Result<(), Problem> {
    if query.is_empty() {
        return Ok(());
    }
    let url = reqwest::Url::parse(&format!("http://localhost/?{query}"));
    let url = url.map_err(|error| Problem::invalid_argument("query", error.to_string()))?;
    for (path, value) in url.query_pairs() {
        put(input, fields, &path, &value, true)?;
    }
    Ok(())
}

/// Sets the field at a dotted path to a text from the path or the query. A repeated field grows if `may_repeat`.
fn put(
    input: &MessageDescriptor,
    fields: &mut Map<String, Value>,
    path: &str,
    text: &str,
    may_repeat: bool,
) -> Result<(), Problem> {
    let field = resolve(input, path).map_err(|why| Problem::invalid_argument(path, why))?;
    let value = leaf(&field, text).map_err(|why| Problem::invalid_argument(path, why))?;
    let mut message = input.clone();
    let mut object = fields;
    let (parents, _) = path.rsplit_once('.').unwrap_or(("", path));
    for step in parents.split('.').filter(|step| !step.is_empty()) {
        let parent = resolve(&message, step).map_err(|why| Problem::invalid_argument(path, why))?;
        let inner = slot(object, &parent).or_insert_with(|| Value::Object(Map::new()));
        object = inner.as_object_mut().ok_or_else(|| Problem::invalid_argument(step, "not a JSON object"))?;
        if let Kind::Message(next) = parent.kind() {
            message = next;
        }
    }
    if field.is_list() && may_repeat {
        let list = slot(object, &field).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().ok_or_else(|| Problem::invalid_argument(path, "not a JSON array"))?.push(value);
    } else {
        object.remove(field.name());
        object.insert(field.json_name().to_owned(), value);
    }
    Ok(())
}

/// The entry of a field under whichever of its two names it has already.
fn slot<'a>(object: &'a mut Map<String, Value>, field: &FieldDescriptor) -> serde_json::map::Entry<'a> {
    let name = if object.contains_key(field.name()) { field.name() } else { field.json_name() };
    object.entry(name)
}

/// ProtoJSON takes numbers, enums, bytes and timestamps as strings; only booleans must be converted.
fn leaf(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    match field.kind() {
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| format!("{text:?} is not true or false")),
        Kind::Message(message) if !is_text_form(message.full_name()) => {
            Err("a message cannot be a parameter".to_owned())
        }
        _ if field.is_map() => Err("a map cannot be a parameter".to_owned()),
        _ => Ok(Value::from(text)),
    }
}

fn is_text_form(message: &str) -> bool {
    ["google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"].contains(&message)
}
