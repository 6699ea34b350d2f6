//! Semantic rules: what a schema cannot say.
//!
//! A rule is a pure function from one object to hits; [`catalogue`] names them all. One file per family (kind), and what
//! several families check the same way (durations, hosts, regular expressions…) beside them in [`istio`]. To add a family:
//! its rules in the catalogue, its file, one line in [`check`].

pub mod catalogue;
pub mod field;
pub mod istio;

use meshward_model::ObjectRef;
use serde_json::Value;

use crate::report::Hit;
use field::Field;

/// One object to judge.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// What it is.
    pub head: &'a ObjectRef,
    /// All of it.
    pub value: &'a Value,
}

impl<'a> Object<'a> {
    /// A cursor at the object itself.
    #[must_use]
    pub fn root(&self) -> Field<'a> {
        Field::root(self.value)
    }

    /// API group, e.g. "networking.istio.io".
    #[must_use]
    pub fn group(&self) -> &'a str {
        self.head.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// The hits of all semantic rules, or `None` if there are none for this kind yet.
#[must_use]
pub fn check(object: &Object<'_>) -> Option<Vec<Hit>> {
    match (object.group(), object.head.kind.as_str()) {
        ("networking.istio.io", "VirtualService") => Some(istio::virtual_service::check(object)),
        ("networking.istio.io", "DestinationRule") => Some(istio::destination_rule::check(object)),
        _ => None,
    }
}
