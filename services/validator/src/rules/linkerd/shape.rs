//! What an object of a kind looks like, written down by hand.
//!
//! Linkerd's definitions are in no package registry, so a validator without the cluster at hand has no schema of its
//! kinds. The families say here what Linkerd itself demands of the structure before it judges the meaning: fields,
//! types, enums, bounds. The findings carry the ids of the schema layer, and where a schema is there too, the same
//! field is reported once.

use meshward_model::ObjectRef;
use serde_json::Value;

use crate::{
    path::Path,
    report::{Hit, MAX_FINDINGS, list, quote},
    rules::{catalogue as rule, field::Field},
    schema::{described, unknown},
};

/// What a value has to be.
#[derive(Debug)]
pub(super) enum Shape {
    /// Anything.
    Any,
    /// A text of a form.
    Text(Form),
    /// One of some words.
    Words(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number within bounds, both included.
    Whole(i64, i64),
    /// A number.
    Number,
    /// A whole number or a text.
    WholeOrText,
    /// A mapping whose values are texts.
    Texts,
    /// A list of at most so many items.
    List(&'static Shape, usize),
    /// A mapping with these fields and no others.
    Map(&'static [Entry]),
    /// What another shape says, so that a shape can hold itself.
    Inner(&'static Shape),
}

/// A field of a mapping.
pub(super) type Entry = (&'static str, Need, Shape);

/// Whether a field must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It must.
    Must,
    /// It may.
    May,
}

/// What a text has to look like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Anything.
    Free,
    /// At least one character.
    Filled,
    /// Letters, digits and inner dashes, beginning with a letter: the name of a kind.
    Kind,
    /// A DNS name in lower case, or nothing: the name of an API group.
    Group,
    /// A DNS label in lower case: a namespace, or the name of a Server or ServiceAccount.
    Label,
}

/// No bound on a list but that of the text.
pub(super) const ANY: usize = usize::MAX;

/// What an object of a kind must look like below `spec`, if `shape` describes that.
pub(super) fn check(spec: &Field<'_>, shape: &'static Shape) -> Vec<Hit> {
    let mut hits = Vec::new();
    match spec.value() {
        Some(value) => shape.walk(value, spec.path(), &mut hits),
        None => hits.push(missing(spec.path(), "spec")),
    }
    hits
}

/// A kind that the group does not have, or not in this version.
pub(super) fn head(head: &ObjectRef, versions: Option<&[&str]>, kinds: &[&str]) -> Option<Hit> {
    let root = Path::root();
    let (kind, api_version) = (quote(&head.kind), quote(&head.api_version));
    let Some(versions) = versions else {
        let message = format!("{api_version} has no kind {kind}");
        let advice = format!("its kinds are {}", list(kinds, " and "));
        return Some(Hit::new(rule::UNKNOWN_KIND, &root.field("kind"), message).suggest(advice));
    };
    let version = head.api_version.split_once('/').map_or("", |(_, version)| version);
    if versions.contains(&version) {
        return None;
    }
    let message = format!("{kind} is not served as {api_version}");
    let advice = format!("its versions are {}", list(versions, " and "));
    Some(Hit::new(rule::UNKNOWN_VERSION, &root.field("apiVersion"), message).suggest(advice))
}

/// The hit of a field that has to be there.
pub(super) fn missing(path: &Path, name: &str) -> Hit {
    Hit::new(rule::REQUIRED, path, format!("the field {name} is missing"))
}

/// The hit of a mapping that needs exactly one of some fields, unless it has exactly one.
pub(super) fn exactly_one(field: &Field<'_>, names: &[&str]) -> Option<Hit> {
    let set = field.set_among(names);
    let names = list(names, " and ");
    match set.as_slice() {
        [_] => None,
        [] => Some(Hit::new(rule::ONE_OF, field.path(), format!("one of {names} must be set")).at_key()),
        [_, second, ..] => {
            let message = format!("only one of {names} may be set, and {} are", list(&set, " and "));
            Some(Hit::new(rule::ONE_OF, &field.path().field(second), message).at_key())
        }
    }
}

impl Shape {
    fn walk(&self, value: &Value, path: &Path, hits: &mut Vec<Hit>) {
        // One more than is listed, so that the answer says that there are more.
        if hits.len() > MAX_FINDINGS {
            return;
        }
        match (self, value) {
            (Self::Inner(shape), value) => shape.walk(value, path, hits),
            (Self::Map(entries), Value::Object(_)) => fields(entries, value, path, hits),
            (Self::List(item, most), Value::Array(items)) => {
                if items.len() > *most {
                    let message = format!("a list has {} items, more than {most}", items.len());
                    hits.push(Hit::new(rule::BOUNDS, path, message));
                }
                items.iter().enumerate().for_each(|(index, value)| item.walk(value, &path.index(index), hits));
            }
            (Self::Texts, Value::Object(texts)) => {
                for (name, value) in texts.iter().filter(|(_, value)| !value.is_null()) {
                    Self::Text(Form::Free).walk(value, &path.field(name), hits);
                }
            }
            (scalar, value) => hits.extend(scalar.scalar(value, path)),
        }
    }

    /// The hit of a value that is no list and no mapping, or should be one and is not.
    fn scalar(&self, value: &Value, path: &Path) -> Option<Hit> {
        match (self, value) {
            (Self::Any, _)
            | (Self::Flag, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::WholeOrText, Value::String(_)) => None,
            (Self::Text(form), Value::String(text)) => form.problem(text).map(|what| {
                let message = format!("{} is not {what}", quote(text));
                Hit::new(rule::PATTERN, path, message)
            }),
            (Self::Words(words), Value::String(text)) => (!words.contains(&text.as_str())).then(|| {
                let message = format!("{} is not one of {}", quote(text), list(words, " and "));
                Hit::new(rule::ENUM, path, message)
            }),
            (Self::Whole(least, most), Value::Number(number)) if is_whole(number) => {
                let fits = number.as_i64().is_some_and(|number| (*least..=*most).contains(&number));
                (!fits).then(|| Hit::new(rule::BOUNDS, path, format!("{number} is not within {least} to {most}")))
            }
            (Self::WholeOrText, Value::Number(number)) if is_whole(number) => None,
            _ => Some(Hit::new(rule::TYPE, path, format!("must be {}, and is {}", self.word(), described(value)))),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Text(_) | Self::Words(_) => "a text",
            Self::Flag => "true or false",
            Self::Whole(..) => "a whole number",
            Self::Number => "a number",
            Self::WholeOrText => "a whole number or a text",
            Self::List(..) => "a list",
            Self::Texts | Self::Map(_) | Self::Inner(_) => "a mapping",
        }
    }
}

fn fields(entries: &'static [Entry], value: &Value, path: &Path, hits: &mut Vec<Hit>) {
    let set = |name: &str| value.get(name).filter(|value| !value.is_null());
    for (name, need, shape) in entries {
        match set(name) {
            Some(value) => shape.walk(value, &path.field(name), hits),
            None if *need == Need::Must => hits.push(missing(&path.field(name), name)),
            None => {}
        }
    }
    let known: Vec<&str> = entries.iter().map(|(name, ..)| *name).collect();
    let given = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let unknown_names = given.map(|(name, _)| name.as_str()).filter(|name| !known.contains(name));
    hits.extend(unknown_names.take(MAX_FINDINGS + 1).map(|name| unknown(path, name, &known)));
}

impl Form {
    /// What a text should be and is not.
    fn problem(self, text: &str) -> Option<&'static str> {
        let dashed = |text: &str, good: fn(u8) -> bool| {
            !text.is_empty()
                && text.bytes().all(|c| good(c) || c == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        let is_label = |text: &str| dashed(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit());
        match self {
            Self::Free => None,
            Self::Filled => (text.is_empty() || text.len() > 253).then_some("a name of 1 to 253 characters"),
            Self::Kind => {
                let good = text.len() <= 63
                    && text.starts_with(|c: char| c.is_ascii_alphabetic())
                    && dashed(text, |c| c.is_ascii_alphanumeric());
                (!good).then_some("the name of a kind")
            }
            Self::Group => {
                let good = text.len() <= 253 && (text.is_empty() || text.split('.').all(is_label));
                (!good).then_some("the name of an API group")
            }
            Self::Label => {
                let good = text.len() <= 253 && is_label(text);
                (!good).then_some("a name of lower-case letters, digits and inner dashes")
            }
        }
    }
}

/// A number written without a fraction; to the API server 5.0 is no whole number.
fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64()
}
