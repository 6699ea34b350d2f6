//! Schema rules: an object against the CustomResourceDefinition of its kind, as the API server will check it with strict
//! field validation.
//!
//! The definitions are not part of Meshward. Those of the cluster that a text is meant for are read through mesh-gateway
//! (`live/definitions.rs`); for a text that is meant for none, and if they cannot be read, those count that the operator keeps of the
//! meshes in use (`--crds`): they are read at start, each version of a kind when it is first needed (`outline.rs`). `convert.rs`
//! turns their OpenAPI dialect into JSON Schema, `explain.rs` turns the errors into sentences, and `cel.rs` evaluates the rules that
//! they hold as expressions.

mod catalogue;
mod cel;
mod convert;
mod explain;
mod outline;

pub use catalogue::{Catalogue, CatalogueError, Checked, Lookup, Schema};

pub(crate) use explain::{described, nearest, unknown};

#[cfg(test)]
mod tests;
