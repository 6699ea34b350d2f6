//! What several kinds share: references, selectors, conditions.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A DNS name in lower case, or nothing: an API group.
pub(super) const GROUP: &str = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A kind.
pub(super) const KIND: &str = "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$";
/// A label as DNS has it.
pub(super) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// An object that another one names; its namespace is the other's if it says none.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Reference {
    #[schemars(regex(pattern = GROUP), length(max = 253))]
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[schemars(regex(pattern = KIND), length(min = 1, max = 63))]
    pub(crate) kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub(crate) name: String,
    #[schemars(length(max = 253))]
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

/// The same within one namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LocalReference {
    #[schemars(regex(pattern = GROUP), length(max = 253))]
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[schemars(regex(pattern = KIND), length(min = 1, max = 63))]
    pub(crate) kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub(crate) name: String,
}

/// A label selector; both halves must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Selector {
    #[serde(default)]
    match_labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut wanted = self.match_labels.iter().flatten();
        let mut expressions = self.match_expressions.iter().flatten();
        wanted.all(|(key, value)| labels.get(key) == Some(value)) && expressions.all(|one| one.matches(labels))
    }
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.iter().flatten().any(|listed| listed == value));
        match self.operator {
            Operator::In => is_listed,
            Operator::NotIn => !is_listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// A network and what of it is left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Network {
    pub(crate) cidr: String,
    #[serde(default)]
    pub(crate) except: Option<Vec<String>>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Port {
    Number(u16),
    Name(String),
}

impl JsonSchema for Port {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

/// Whatever an object says there.
pub(super) fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A list of such.
pub(super) fn list_of_anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}})
}

/// What the controller thinks of the object; only it writes there.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Conditions {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
    #[schemars(schema_with = "anything")]
    #[serde(default)]
    target_ref: Option<Value>,
}

/// The same for each parent of a route.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct Parents {
    parents: Vec<Parent>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Parent {
    #[schemars(schema_with = "anything")]
    parent_ref: Value,
    controller_name: String,
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Condition {
    r#type: String,
    status: Truth,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    last_transition_time: Option<String>,
    #[serde(default)]
    observed_generation: Option<i64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Truth {
    True,
    False,
    Unknown,
}
