//! Semantic rules: what a schema cannot say.
//!
//! A rule is a pure function from one object to hits; [`catalogue`] names them all. One file per family (kind), and
//! what several families check the same way (durations, hosts, regular expressions…) beside them in [`istio`] and
//! [`linkerd`]. To add a family: its rules in the catalogue, its file, one line in Istio's or Linkerd's table.

pub mod catalogue;
pub mod cross;
pub mod docs;
pub mod field;
pub mod istio;
pub mod linkerd;

use meshward_model::{Mesh, ObjectRef};
use serde_json::Value;

use crate::report::Hit;
use catalogue::Rule;
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

/// Whether the object is one of a mesh. Routes of the Gateway API are if they are meant for Linkerd; its other kinds
/// may be for any controller.
#[must_use]
pub fn is_governed(object: &Object<'_>) -> bool {
    let of_the_gateway_api = object.group() == linkerd::route::GATEWAY_GROUP;
    let of_a_mesh = Mesh::of_api_version(&object.head.api_version).is_some();
    of_a_mesh && !of_the_gateway_api || linkerd::route::is_for_linkerd(object)
}

/// More regular expressions than any mesh can serve. Each is compiled to be checked, which takes up to a millisecond:
/// without a bound, 1 MiB of them would keep the validator busy for most of a minute.
const MOST_EXPRESSIONS: usize = 1000;
/// The fields that hold one.
const EXPRESSIONS: [&str; 2] = ["regex", "proxyVersion"];

/// Rules that some definitions hold too, in CEL. Without a definition they are all that is known.
pub const DEFINED_TOO: [&Rule; 13] = [
    catalogue::AP_ACCOUNTS,
    catalogue::PA_PORT_LEVEL,
    catalogue::TM_METRIC,
    catalogue::PORT,
    catalogue::SELECTOR,
    catalogue::TARGET_REF,
    catalogue::PORT_NAME,
    catalogue::SERVER_TLS,
    catalogue::SE_PORT,
    catalogue::SE_ENDPOINT,
    catalogue::EF_MATCH,
    catalogue::WL_ADDRESS,
    catalogue::LD_PATH,
];

/// The hits of all semantic rules, or `None` if there are none for this kind yet.
#[must_use]
pub fn check(object: &Object<'_>) -> Option<Vec<Hit>> {
    let expressions = expressions(object.value);
    if expressions > MOST_EXPRESSIONS {
        let message =
            format!("{expressions} regular expressions; at most {MOST_EXPRESSIONS} are allowed in one object");
        let hit = Hit::new(catalogue::EXPRESSIONS, object.root().path(), message);
        return Some(vec![hit.suggest("Use prefixes or exact values, or split the object")]);
    }
    match (object.group(), object.head.kind.as_str()) {
        (group, _) if group.ends_with(".istio.io") => istio::check(object),
        _ => linkerd::check(object),
    }
}

/// Fields that hold a regular expression, anywhere in a value.
fn expressions(value: &Value) -> usize {
    match value {
        Value::Object(fields) => {
            let below = |(key, value): (&String, &Value)| {
                usize::from(EXPRESSIONS.contains(&key.as_str()) && value.is_string()) + expressions(value)
            };
            fields.iter().map(below).sum()
        }
        Value::Array(items) => items.iter().map(expressions).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flood_of_expressions_is_refused_before_any_is_compiled() {
        let head = ObjectRef {
            api_version: "networking.istio.io/v1".into(),
            kind: "VirtualService".into(),
            ..ObjectRef::default()
        };
        for (count, refused) in [(MOST_EXPRESSIONS, false), (MOST_EXPRESSIONS + 1, true)] {
            let matches: Vec<_> = (0..count).map(|n| json!({"uri": {"regex": format!("/{n}/\\pL*")}})).collect();
            let value = json!({"spec": {"hosts": ["a"], "http": [{"match": matches, "route": [{"destination": {"host": "a"}}]}]}});
            let hits = check(&Object { head: &head, value: &value }).unwrap_or_default();
            assert_eq!(hits.iter().any(|hit| hit.rule.id == "MW3166"), refused, "{count}");
            assert_eq!(hits.len(), usize::from(refused), "{count}");
        }
    }
}
