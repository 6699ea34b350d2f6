//! Canonical JSON and its digest: the identity of a version's content.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// "sha256:" + 64 hex digits over canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is no digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a digest is \"sha256:\" and 64 lower-case hex digits, not {0:?}")]
pub struct InvalidDigest(String);

impl Digest {
    /// Digest of an object: over its canonical JSON, so that neither key order nor layout matters.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let digits =
            |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
        let hash = Sha256::digest(canonical_json(object));
        Self("sha256:".chars().chain(hash.iter().flat_map(digits)).collect())
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_hex =
            |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.strip_prefix("sha256:").is_some_and(is_hex) { Ok(Self(text)) } else { Err(InvalidDigest(text)) }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// JSON with sorted keys and no spaces. Equal objects give equal text.
#[must_use]
pub fn canonical_json(object: &Value) -> String {
    match object {
        // Sorted here, because serde_json keeps the order of insertion as soon as any crate of the build asks it to.
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let fields = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical_json(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical_json).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_key_order_do_not_matter() {
        let a: Value = serde_json::from_str(r#"{"b": [1, 2], "a": {"y": 1, "x": "é"}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":{"x":"é","y":1},"b":[1,2]}"#).unwrap();
        assert_eq!(canonical_json(&a), r#"{"a":{"x":"é","y":1},"b":[1,2]}"#);
        assert_eq!(Digest::of(&a), Digest::of(&b));
        assert_ne!(Digest::of(&a), Digest::of(&serde_json::json!({"a": {"x": "é", "y": 1}, "b": [2, 1]})));
    }

    #[test]
    fn only_whole_digests_parse() {
        let digest = Digest::of(&Value::Null);
        assert_eq!(Digest::try_from(digest.as_str().to_owned()), Ok(digest.clone()));
        for text in ["", "sha256:", "sha256:ABC", &digest.as_str()[7..], &format!("{digest}0")] {
            assert!(Digest::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
