//! Checks of single request fields. All wrong fields of a request are told at once.

use meshward_model::Target;

use super::NewVersion;
use crate::{
    error::Error,
    policy::{MAX_OBJECT_BYTES, MAX_YAML_BYTES, is_dns_label},
    ports::CheckedObject,
};

/// Longest sentence that people write, bytes.
const MAX_TEXT: usize = 4096;
/// Longest id that can be one.
const MAX_ID: usize = 128;
/// Longest name of a cluster, or of anything in Kubernetes.
const MAX_NAME: usize = 253;

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    pub(super) fn add(&mut self, path: &'static str, what: impl Into<String>) {
        self.0.push((path, what.into()));
    }

    /// A sentence that may be empty.
    pub(super) fn text(mut self, path: &'static str, value: &str) -> Self {
        if value.len() > MAX_TEXT {
            self.add(path, format!("has {} bytes; at most {MAX_TEXT} are allowed", value.len()));
        }
        self
    }

    /// A sentence that must be there.
    pub(super) fn reason(mut self, path: &'static str, value: &str) -> Self {
        if value.trim().is_empty() {
            self.add(path, "is required");
        }
        self.text(path, value)
    }

    /// An id of another service.
    pub(super) fn foreign_id(mut self, path: &'static str, value: &str) -> Self {
        if value.is_empty() || value.len() > MAX_ID {
            self.add(path, format!("must have 1 to {MAX_ID} bytes"));
        }
        self
    }

    /// A policy's name, or none.
    pub(super) fn name(mut self, value: &str) -> Self {
        if !value.is_empty() && !is_dns_label(value) {
            self.add(
                "name",
                "must be a DNS label: 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            );
        }
        self
    }

    /// A cluster's name, or none.
    pub(super) fn cluster(mut self, value: &str) -> Self {
        if value.len() > MAX_NAME {
            self.add("cluster", format!("has {} bytes; at most {MAX_NAME} are allowed", value.len()));
        }
        self
    }

    /// All is well, or all that is not.
    pub(super) fn done(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Fields(self.0)) }
    }
}

/// A policy text, before anybody parses it.
pub(super) fn yaml(text: &str) -> Result<(), Error> {
    if text.len() > MAX_YAML_BYTES {
        let what = format!("text, at {},", position(text, MAX_YAML_BYTES));
        return Err(Error::TooLarge { what, bytes: text.len(), limit: MAX_YAML_BYTES });
    }
    if text.trim().is_empty() {
        return Err(Error::field("yaml", "is required"));
    }
    Ok(())
}

/// What a version is made of: a text, or that there is none.
pub(super) fn content(new: &NewVersion) -> Result<(), Error> {
    match (new.deletion, new.yaml.is_empty()) {
        (false, _) => yaml(&new.yaml),
        (true, true) => Ok(()),
        (true, false) => Err(Error::field("yaml", "contradicts deletion; leave one of them out")),
    }
}

/// Line and column, from 1, of a byte; columns count characters.
fn position(text: &str, byte: usize) -> String {
    let before = &text.as_bytes()[..byte];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    format!("line {line}, column {column}")
}

/// The object of a text: its size, and its names, which become part of messages and keys.
pub(super) fn object(object: &CheckedObject) -> Result<(), Error> {
    let bytes = object.canonical_json.len();
    if bytes > MAX_OBJECT_BYTES {
        return Err(Error::TooLarge { what: "object, as JSON,".into(), bytes, limit: MAX_OBJECT_BYTES });
    }
    let Target { api_version, kind, namespace, name, .. } = &object.target;
    let long =
        [("apiVersion", api_version), ("kind", kind), ("metadata.namespace", namespace), ("metadata.name", name)];
    match long.into_iter().find(|(_, value)| value.len() > MAX_NAME) {
        Some((field, value)) => {
            let what = format!("has a {field} of {} bytes; at most {MAX_NAME} are allowed", value.len());
            Err(Error::field("yaml", what))
        }
        None => Ok(()),
    }
}

/// A sentence that another service wrote: cut, because what it tells of must be recorded however long it talks.
pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

pub(super) fn id(id: &str) -> Result<(), Error> {
    Fields::default().foreign_id("id", id).done()
}

/// A version number; 0 = the newest.
pub(super) fn version(number: i64) -> Result<(), Error> {
    if number < 0 { Err(Error::field("version", format!("must not be negative; it is {number}"))) } else { Ok(()) }
}

/// A version number that must be said.
pub(super) fn version_said(number: i64) -> Result<(), Error> {
    if number < 1 { Err(Error::field("version", format!("must be 1 or more; it is {number}"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use meshward_model::Digest;

    use super::*;

    #[test]
    fn objects_have_limits() {
        let long = "a".repeat(MAX_NAME + 1);
        for (name, bytes, good) in [
            ("a", MAX_OBJECT_BYTES, true),
            ("a", MAX_OBJECT_BYTES + 1, false),
            (&*long, 1, false),
            (&long[1..], 1, true),
        ] {
            let checked = CheckedObject {
                target: Target::new("", "networking.istio.io/v1", "VirtualService", "shop", name).unwrap(),
                canonical_json: " ".repeat(bytes),
                digest: Digest::of(&serde_json::Value::Null),
            };
            assert_eq!(object(&checked).is_ok(), good, "{} {bytes}", name.len());
        }
    }

    #[test]
    fn what_others_wrote_is_cut_between_characters() {
        assert_eq!(shortened("why"), "why");
        assert_eq!(shortened(&"ü".repeat(4096)), "ü".repeat(2048));
        assert_eq!(shortened(&format!("a{}", "ü".repeat(4096))).len(), 4095);
    }
}
