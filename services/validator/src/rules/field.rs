//! A cursor into an object that knows its path.

use serde_json::Value;

use crate::path::Path;

/// A field that may or may not be there. Every step is allowed: what is not there has no fields and no items, so rules read
/// like the path that they look at.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    value: Option<&'a Value>,
    path: Path,
}

impl<'a> Field<'a> {
    /// The object itself.
    #[must_use]
    pub fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: Path::root() }
    }

    /// A cursor at nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self { value: None, path: Path::root() }
    }

    /// A field of this mapping. `null` counts as absent, as the API server treats it.
    #[must_use]
    pub fn get(&self, name: &str) -> Self {
        let value = self.value.and_then(|value| value.get(name)).filter(|value| !value.is_null());
        Self { value, path: self.path.field(name) }
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// Where it is, or would be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The items, if it is a list.
    #[must_use]
    pub fn items(&self) -> Vec<Self> {
        let items = self.value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let at = |(index, value)| Self { value: Some(value), path: self.path.index(index) };
        items.iter().enumerate().map(at).collect()
    }

    /// One item, if it is a list that has so many.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        Self { value: self.value.and_then(|value| value.get(index)), path: self.path.index(index) }
    }

    /// The keys and values, if it is a mapping.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'a str, Self)> {
        let Some(fields) = self.value.and_then(Value::as_object) else { return Vec::new() };
        fields
            .iter()
            .map(|(key, value)| (key.as_str(), Self { value: Some(value), path: self.path.field(key) }))
            .collect()
    }

    /// The text; "" if it is absent or no text. An absent text and an empty one are the same to every mesh.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.as_text().unwrap_or_default()
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&'a str> {
        self.value.and_then(Value::as_str)
    }

    /// The whole number, if it is one.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// The number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        self.value.and_then(Value::as_f64)
    }

    /// Whether it is `true`.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.value.and_then(Value::as_bool) == Some(true)
    }

    /// The value itself, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// The names of `candidates` that are set here.
    #[must_use]
    pub fn set_among<'n>(&self, candidates: &[&'n str]) -> Vec<&'n str> {
        candidates.iter().copied().filter(|name| self.get(name).is_set()).collect()
    }
}
