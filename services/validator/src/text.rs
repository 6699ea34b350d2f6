//! From bytes to objects that remember where each of their values stands.
//!
//! The text comes from strangers, so every quantity has a bound that is checked while reading, not after: size, depth, number
//! of values and bytes once aliases are expanded, number of documents. Whatever is wrong is a finding of layer 1 with line and
//! column; nothing here panics or fails in another way.
//!
//! 1. `check.rs` looks at the bytes: size, UTF-8, characters that YAML forbids.
//! 2. `compose.rs` turns the parser's events into trees of nodes (`node.rs`); aliases share the tree of their anchor.
//! 3. `scalar.rs` reads plain scalars as kubectl does.
//! 4. `place.rs` holds the positions beside the JSON value.

mod check;
mod compose;
mod node;
mod place;
mod scalar;

use serde_json::Value;

use crate::report::Findings;

pub use place::Places;

/// Largest text, in bytes; also the bound on the texts of all scalars together once aliases are expanded.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// Most values of all documents together once aliases are expanded.
pub const MAX_NODES: usize = 200_000;
/// Most documents.
pub const MAX_DOCUMENTS: usize = 1_000;

/// One document that is not empty.
#[derive(Debug)]
pub struct Document {
    /// Its content, a JSON object.
    pub value: Value,
    /// Where each value of it stands.
    pub places: Places,
}

/// Reads a text. What could be read before the first error of syntax is returned, the errors go to `findings`.
#[must_use]
pub fn load(bytes: &[u8], findings: &mut Findings) -> Vec<Document> {
    let Some(text) = check::text(bytes, findings) else { return Vec::new() };
    let documents = compose::documents(text, findings);
    if documents.is_empty() && !findings.has_errors() {
        findings.no_object();
    }
    documents
}

#[cfg(test)]
mod tests;
