//! The rules that a definition has in CEL (`x-kubernetes-validations`), evaluated as the API server does.
//!
//! The definition's schema becomes a tree of [`Node`]s; an object is walked beside it, and every rule sees the value at its
//! node as `self`. As in the API server, fields that are absent first get their defaults, and an object whose values have wrong
//! types or sizes is not asked at all: the sizes are what bounds a rule's work.
//!
//! What cannot be evaluated here is said, never guessed: functions that are not known, rules that compare with the object before
//! the change, and rules that would take too long ([`MOST_STEPS`]).

mod program;
mod value;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::explain::{described, has_nulls, without_nulls};
use crate::{
    path::Path,
    report::{Hit, MAX_FINDINGS, quote},
    rules::catalogue as rule,
};
use program::{Failure, Program};

/// Most rounds of all loops in the rules on one object. The longest lists that the definitions of Istio and of the Gateway
/// API allow take 65,536.
const MOST_STEPS: usize = 200_000;

/// One place in a schema, with what is below it.
#[derive(Debug, Default)]
pub(super) struct Node {
    rules: Vec<Rule>,
    /// Fields that the schema names.
    fields: BTreeMap<String, Self>,
    /// All other fields, where names are data.
    values: Option<Box<Self>>,
    items: Option<Box<Self>>,
    shape: Shape,
    default: Option<Value>,
    /// Here or below.
    has_rules: bool,
    has_defaults: bool,
}

/// What a value becomes in CEL if its type in JSON does not tell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Shape {
    #[default]
    Plain,
    Double,
    Bytes,
    DateTime,
    Duration,
}

/// A rule as it stands in the definition.
#[derive(Debug)]
struct Rule {
    text: String,
    message: Option<String>,
    /// Where to point, if not at the node itself.
    field: Option<Path>,
    /// Or why it cannot be used.
    program: Compiled,
    message_program: Option<Arc<Program>>,
}

type Compiled = Result<Arc<Program>, String>;

/// What is compiled of a definition already: it repeats its rules wherever it repeats a field, some of them dozens of times.
#[derive(Default)]
struct Programs<'t>(HashMap<&'t str, Compiled>);

impl<'t> Programs<'t> {
    fn of(&mut self, text: &'t str) -> Compiled {
        self.0.entry(text).or_insert_with(|| Program::compile(text).map(Arc::new)).clone()
    }
}

/// What the rules say of an object.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) hits: Vec<Hit>,
    /// Rules that did not run, each with the reason.
    pub(super) skipped: BTreeSet<String>,
}

impl Node {
    /// The tree of a whole object's schema.
    pub(super) fn root(openapi: &Value) -> Self {
        Self::of(openapi, &mut Programs::default()).identified()
    }

    /// The same with what rules may ask of every object, whether its schema says so or not.
    fn identified(mut self) -> Self {
        for name in ["apiVersion", "kind"] {
            self.fields.entry(name.to_owned()).or_default();
        }
        let metadata = self.fields.entry("metadata".to_owned()).or_default();
        for name in ["name", "generateName"] {
            metadata.fields.entry(name.to_owned()).or_default();
        }
        self
    }

    fn of<'t>(openapi: &'t Value, programs: &mut Programs<'t>) -> Self {
        let properties = openapi.get("properties").and_then(Value::as_object).into_iter().flatten();
        let fields: BTreeMap<_, _> =
            properties.map(|(name, field)| (name.clone(), Self::of(field, programs))).collect();
        let values = openapi.get("additionalProperties").filter(|values| **values != Value::Bool(false));
        let values = values.map(|values| Box::new(Self::of(values, programs)));
        let items = openapi.get("items").map(|items| Box::new(Self::of(items, programs)));
        let rules = openapi.get("x-kubernetes-validations").and_then(Value::as_array);
        let rules: Vec<_> = rules.into_iter().flatten().map(|raw| Rule::of(raw, programs)).collect();
        let default = openapi.get("default").cloned();
        let below = || fields.values().chain(values.as_deref()).chain(items.as_deref());
        let has_rules = !rules.is_empty() || below().any(|node| node.has_rules);
        let has_defaults = below().any(|node| node.default.is_some() || node.has_defaults);
        let shape = Shape::of(openapi);
        let node = Self { rules, fields, values, items, shape, default, has_rules, has_defaults };
        let is_object = openapi.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
        if is_object { node.identified() } else { node }
    }

    fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name).or(self.values.as_deref())
    }

    /// An object as the API server reads it: without nulls, and with the defaults. Most objects are that as they are.
    pub(super) fn filled<'v>(&self, object: &'v Value) -> Cow<'v, Value> {
        if !self.has_defaults && !has_nulls(object) {
            return Cow::Borrowed(object);
        }
        let mut object = without_nulls(object);
        self.fill(&mut object);
        Cow::Owned(object)
    }

    /// Sets the fields that are absent and have a default.
    fn fill(&self, value: &mut Value) {
        if !self.has_defaults {
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, node) in &self.fields {
                    if let Some(default) = node.default.as_ref().filter(|_| !fields.contains_key(name)) {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in fields {
                    self.field(name).into_iter().for_each(|node| node.fill(value));
                }
            }
            Value::Array(items) => {
                self.items.iter().for_each(|node| items.iter_mut().for_each(|item| node.fill(item)));
            }
            _ => {}
        }
    }

    /// What the rules say of an object that has its defaults.
    pub(super) fn judge(&self, object: &Value) -> Outcome {
        let mut walk = Walk { outcome: Outcome::default(), steps: MOST_STEPS };
        walk.visit(self, object, &Path::root());
        walk.outcome
    }
}

impl Shape {
    fn of(openapi: &Value) -> Self {
        let text = |key: &str| openapi.get(key).and_then(Value::as_str);
        match (text("type"), text("format")) {
            (Some("number"), _) => Self::Double,
            (Some("string"), Some("byte")) => Self::Bytes,
            (Some("string"), Some("date-time")) => Self::DateTime,
            (Some("string"), Some("duration")) => Self::Duration,
            _ => Self::Plain,
        }
    }
}

impl Rule {
    fn of<'t>(raw: &'t Value, programs: &mut Programs<'t>) -> Self {
        let text = |key: &str| raw.get(key).and_then(Value::as_str);
        let source = text("rule").unwrap_or_default();
        let field = text("fieldPath").and_then(|path| Path::parse(path.strip_prefix('.').unwrap_or(path)));
        Self {
            text: source.to_owned(),
            message: text("message").map(str::to_owned),
            field,
            program: programs.of(source),
            message_program: text("messageExpression").and_then(|source| programs.of(source).ok()),
        }
    }

    /// What is wrong, in the words of the definition if it has any.
    fn message(&self, told: Option<String>, reason: Option<String>, value: &Value) -> String {
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let demand = told.or_else(|| self.message.clone());
        let demand = demand.unwrap_or_else(|| format!("the kind's definition demands {}{reason}", quote(&self.text)));
        match value {
            Value::Object(_) | Value::Array(_) => demand,
            scalar => format!("{}: {demand}", described(scalar)),
        }
    }
}

struct Walk {
    outcome: Outcome,
    /// How many rounds of loops are left.
    steps: usize,
}

impl Walk {
    fn visit(&mut self, node: &Node, value: &Value, path: &Path) {
        // One more than is listed, so that the answer says that there are more.
        if !node.has_rules || self.outcome.hits.len() > MAX_FINDINGS {
            return;
        }
        node.rules.iter().for_each(|rule| self.apply(rule, node, value, path));
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(below) = node.field(name).filter(|below| below.has_rules) {
                        self.visit(below, value, &path.field(name));
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    node.items.iter().for_each(|below| self.visit(below, item, &path.index(index)));
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, rule: &Rule, node: &Node, value: &Value, path: &Path) {
        let failure = match &rule.program {
            Err(problem) => Failure::Unknown(problem.clone()),
            Ok(program) => {
                let steps = program.steps(value);
                if steps > self.steps {
                    Failure::Unknown("it would take too long on an object this large".to_owned())
                } else {
                    self.steps -= steps;
                    match program.holds(node, value) {
                        Ok(true) => return,
                        Ok(false) => Failure::Object(None),
                        Err(failure) => failure,
                    }
                }
            }
        };
        match failure {
            Failure::Unknown(reason) => {
                self.outcome.skipped.insert(format!("rule {} of the definition: {reason}", quote(&rule.text)));
            }
            Failure::Object(reason) => {
                let told = rule.message_program.as_ref().and_then(|program| program.text(node, value));
                let message = rule.message(told, reason, value);
                let at = rule.field.iter().flat_map(Path::steps).fold(path.clone(), |at, step| at.step(step));
                self.outcome.hits.push(Hit::new(rule::DEFINITION_RULE, &at, message));
            }
        }
    }
}

#[cfg(test)]
mod tests;
