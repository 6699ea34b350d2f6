//! Values as they are collected, before aliases are expanded.

use std::rc::Rc;

use meshward_model::SourceRange;
use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::place::{Inside, Named, Places};

/// A value and what it will cost once it is expanded.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) at: SourceRange,
    pub(super) content: Content,
    /// This value and all in it.
    pub(super) nodes: usize,
    /// Bytes of all keys and texts in it.
    pub(super) bytes: usize,
    /// Levels of lists and mappings: 0 for a scalar.
    pub(super) height: usize,
}

/// What a value is.
#[derive(Clone)]
pub(super) enum Content {
    Scalar(Value),
    Items(Vec<Rc<Node>>),
    /// In the order of their keys; of one key, the last one counts.
    Fields(Vec<(Key, Rc<Node>)>),
}

/// A key and where it stands.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) name: SmolStr,
    pub(super) at: SourceRange,
    /// It came with `<<`.
    pub(super) merged: bool,
}

/// A text in a list that ends with a colon, as in `[fd00::]`, which the parser takes for a mapping without braces, of one key
/// without a value. Kubernetes tools read the text, for to them a colon means something only before a space. `end` is where
/// the mapping ends, which is the next sign behind the colon.
pub(super) fn text_with_colon(start: SourceRange, fields: &[(Key, Rc<Node>)], end: SourceRange) -> Option<Node> {
    let [(key, value)] = fields else { return None };
    let is_empty = |at: SourceRange| (at.line, at.column) == (at.end_line, at.end_column);
    let has_no_value = matches!(value.content, Content::Scalar(Value::Null)) && is_empty(value.at);
    let follows = end.line == key.at.end_line && end.column == key.at.end_column + 1;
    // A key over several lines may end in a smaller column than it begins in.
    let width = key.at.end_column.checked_sub(key.at.column).and_then(|width| usize::try_from(width).ok());
    let is_plain = key.at.line == key.at.end_line && width == Some(key.name.chars().count());
    if !(is_empty(start) && has_no_value && follows && is_plain) {
        return None;
    }
    let text = format!("{}:", key.name);
    let at = SourceRange { end_column: end.column, ..key.at };
    Some(Node { at, nodes: 1, bytes: text.len(), height: 0, content: Content::Scalar(Value::from(text)) })
}

/// The JSON value of a node and the places beside it. As deep as [`MAX_DEPTH`](super::MAX_DEPTH) allows. What nothing else
/// refers to is taken apart instead of copied.
pub(super) fn expand(node: Rc<Node>) -> (Value, Places) {
    let Node { at, content, .. } = Rc::unwrap_or_clone(node);
    let (value, inside) = match content {
        Content::Scalar(value) => (value, Inside::Nothing),
        Content::Items(items) => {
            let (values, places) = items.into_iter().map(expand).unzip();
            (Value::Array(values), Inside::Items(places))
        }
        Content::Fields(fields) => {
            let mut places = Vec::with_capacity(fields.len());
            let field = |(Key { name, at, .. }, node)| {
                let (value, inner) = expand(node);
                let text = name.to_string();
                places.push(Named { name, key: at, value: inner });
                (text, value)
            };
            let object: Map<String, Value> = fields.into_iter().map(field).collect();
            (Value::Object(object), Inside::fields(places))
        }
    };
    (value, Places { at, inside })
}

/// A scalar as it was written, or as JSON writes it.
pub(super) fn scalar_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
