//! From the errors of a JSON Schema to sentences that a person can act on.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

use super::catalogue::Compiled;
use crate::{
    path::Path,
    report::{Hit, MAX_FINDINGS, list, quote},
    rules::catalogue::{self as rule, Rule},
};

/// Longer names are no typing errors of anything.
const LONGEST_NAME: usize = 40;

/// What the schema says of an object without nulls.
pub(super) fn hits(compiled: &Compiled, object: &Value) -> Vec<Hit> {
    let mut hits = Vec::new();
    for error in compiled.validator.iter_errors(object) {
        let path = Path::from_pointer(error.instance_path().as_str(), object);
        explain(&error, &path, compiled, &mut hits);
        // One more than is listed, so that the answer says that there are more.
        if hits.len() > MAX_FINDINGS {
            break;
        }
    }
    hits
}

/// An object as the API server reads it: fields that are null count as absent.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        scalar => scalar.clone(),
    }
}

/// Whether a value has a null anywhere in it.
pub(super) fn has_nulls(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().any(has_nulls),
        Value::Array(items) => items.iter().any(has_nulls),
        scalar => scalar.is_null(),
    }
}

fn explain(error: &ValidationError<'_>, path: &Path, compiled: &Compiled, hits: &mut Vec<Hit>) {
    use ValidationErrorKind as Kind;
    let instance = error.instance().as_ref();
    let hit = |rule: &'static Rule, message: String| Hit::new(rule, path, message);
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let known = known_fields(error, compiled);
            hits.extend(unexpected.iter().take(MAX_FINDINGS + 1).map(|name| unknown(path, name, &known)));
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            hits.push(Hit::new(rule::REQUIRED, &path.field(name), format!("the field {name} is missing")));
        }
        Kind::Type { kind } => {
            let message = format!("must be {}, and is {}", expected(kind), described(instance));
            let quoting = matches!(instance, Value::Bool(_) | Value::Number(_)) && expected(kind).contains("a text");
            let advice = if quoting { "put it in quotes" } else { "" };
            hits.push(hit(rule::TYPE, message).suggest(advice));
        }
        Kind::Enum { options } => {
            let options: Vec<String> = options.as_array().into_iter().flatten().map(plain).collect();
            let names: Vec<&str> = options.iter().map(String::as_str).collect();
            let message = format!("{} is not one of {}", described(instance), list(&names, " and "));
            let advice = nearest(&plain(instance), &names).map(|name| format!("did you mean {name}?"));
            hits.push(hit(rule::ENUM, message).suggest(advice.unwrap_or_default()));
        }
        Kind::Pattern { pattern } => {
            hits.push(hit(rule::PATTERN, format!("{} does not match {}", described(instance), quote(pattern))));
        }
        Kind::OneOfNotValid { .. } | Kind::OneOfMultipleValid { .. } | Kind::AnyOf { .. } => {
            hits.extend(one_of(error, path, compiled));
        }
        kind => match bound(kind) {
            Some(bound) => hits.push(hit(rule::BOUNDS, format!("{} {bound}", described(instance)))),
            None => hits.push(hit(rule::OTHER_SCHEMA, error.masked().to_string())),
        },
    }
}

/// The fields that the schema knows where an unknown one was found.
fn known_fields<'c>(error: &ValidationError<'_>, compiled: &'c Compiled) -> Vec<&'c str> {
    let place = error.schema_path().as_str();
    let around = place.strip_suffix("/additionalProperties").unwrap_or(place);
    let fields = compiled.schema.pointer(&format!("{around}/properties")).and_then(Value::as_object);
    fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// A field that is not among the known ones.
pub(crate) fn unknown(path: &Path, name: &str, known: &[&str]) -> Hit {
    let advice = nearest(name, known).map(|near| format!("did you mean {near}?"));
    let around = path.to_string();
    let place = if around.is_empty() { "the object".to_owned() } else { around };
    Hit::new(rule::UNKNOWN_FIELD, &path.field(name), format!("{place} has no field {}", quote(name)))
        .at_key()
        .suggest(advice.unwrap_or_default())
}

/// Fields of which one, or at most one, may be set.
fn one_of(error: &ValidationError<'_>, path: &Path, compiled: &Compiled) -> Option<Hit> {
    let branches = compiled.schema.pointer(error.schema_path().as_str()).and_then(Value::as_array);
    let required = |branch: &'_ Value| branch.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut names: Vec<String> = branches.into_iter().flatten().flat_map(required).map(|name| plain(&name)).collect();
    names.dedup();
    if names.is_empty() {
        return Some(Hit::new(rule::ONE_OF, path, error.masked().to_string()));
    }
    // A value of a wrong type has its own hit.
    let fields = error.instance().as_object()?;
    let set: Vec<&String> = names.iter().filter(|name| fields.contains_key(*name)).collect();
    let message = match set.as_slice() {
        [] => format!("one of {} must be set", list(&names, " and ")),
        set => format!("only one of {} may be set, and {} are", list(&names, " and "), list(set, " and ")),
    };
    let at = set.get(1).map_or_else(|| path.clone(), |second| path.field(second));
    Some(Hit::new(rule::ONE_OF, &at, message).at_key())
}

fn bound(kind: &ValidationErrorKind) -> Option<String> {
    use ValidationErrorKind as Kind;
    Some(match kind {
        Kind::Minimum { limit } => format!("is less than {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("is not more than {limit}"),
        Kind::Maximum { limit } => format!("is more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("is not less than {limit}"),
        Kind::MinLength { limit } => format!("has fewer than {limit} characters"),
        Kind::MaxLength { limit } => format!("has more than {limit} characters"),
        Kind::MinItems { limit } => format!("has fewer than {limit} items"),
        Kind::MaxItems { limit } => format!("has more than {limit} items"),
        Kind::MinProperties { limit } => format!("has fewer than {limit} fields"),
        Kind::MaxProperties { limit } => format!("has more than {limit} fields"),
        Kind::UniqueItems => "has an item twice".to_owned(),
        _ => return None,
    })
}

fn expected(kind: &TypeKind) -> String {
    let types: Vec<String> = match kind {
        TypeKind::Single(single) => vec![single.to_string()],
        TypeKind::Multiple(set) => set.iter().map(|single| single.to_string()).collect(),
    };
    let words: Vec<&str> = types.iter().map(|name| type_word(name)).collect();
    list(&words, " or ")
}

fn type_word(name: &str) -> &str {
    match name {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        other => other,
    }
}

/// What a value is, as a part of a sentence.
pub(crate) fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the text {}", quote(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The known name that a wrong one is most likely meant to be: at most a third of it differs.
pub(crate) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let length = name.chars().count();
    if length > LONGEST_NAME {
        return None;
    }
    let (distance, best) = known.iter().map(|other| (distance(name, other), *other)).min()?;
    (distance <= length.max(3) / 3).then_some(best)
}

/// Levenshtein's distance, upper and lower case being the same.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = before + usize::from(c != *other);
            before = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
