//! From JSON to the values of CEL, as a schema tells to read them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use kube_cel::cel::{
    Value as Cel,
    objects::{Key, Map},
};
use serde_json::Value;

use super::{Node, Shape, program};
use crate::cel::RESERVED;

/// Constants, which are no names either.
const CONSTANTS: [&str; 3] = ["true", "false", "null"];

/// A value at its place in a schema. Of an object only the fields that a rule looks at are needed. Fields that the schema
/// does not describe are not seen by rules.
pub(super) fn convert(value: &Value, node: Option<&Node>, needed: Option<&BTreeSet<String>>) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(bool) => Cel::Bool(*bool),
        Value::Number(number) => self::number(number, node),
        Value::String(text) => self::text(text, node.map(|node| node.shape).unwrap_or_default()),
        Value::Array(items) => {
            let below = node.and_then(|node| node.items.as_deref());
            Cel::List(Arc::new(items.iter().map(|item| convert(item, below, None)).collect()))
        }
        Value::Object(fields) => {
            let mut map = HashMap::with_capacity(fields.len());
            for (name, value) in fields {
                // Names that are data stay as they are; names of the schema must be names of CEL.
                let named = node.and_then(|node| node.fields.get(name));
                let values = node.and_then(|node| node.values.as_deref());
                let key = if named.is_some() { escaped(name) } else { name.clone() };
                let seen = needed.is_none_or(|needed| needed.contains(&key));
                if seen && (named.is_some() || values.is_some() || node.is_none()) {
                    map.insert(Key::String(Arc::new(key)), convert(value, named.or(values), None));
                }
            }
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

fn number(number: &serde_json::Number, node: Option<&Node>) -> Cel {
    let is_double = node.is_some_and(|node| node.shape == Shape::Double);
    match (number.as_i64().filter(|_| !is_double), number.as_u64().filter(|_| !is_double)) {
        (Some(int), _) => Cel::Int(int),
        (None, Some(uint)) => Cel::UInt(uint),
        (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// Texts of some formats are values of their own. One that is not of its format stays a text.
fn text(text: &str, shape: Shape) -> Cel {
    let read = match shape {
        Shape::Bytes => program::read("base64.decode", text),
        Shape::DateTime => program::read("timestamp", text),
        Shape::Duration => program::read("duration", text),
        Shape::Plain | Shape::Double => None,
    };
    read.unwrap_or_else(|| Cel::String(Arc::new(text.to_owned())))
}

/// A field's name as an expression can write it: one that is no name is read as `__in__` and so on.
fn escaped(name: &str) -> String {
    if CONSTANTS.contains(&name) || RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    let escapes = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];
    escapes.iter().fold(name.to_owned(), |name, (sign, word)| name.replace(sign, word))
}
