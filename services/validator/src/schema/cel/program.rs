//! One rule, ready to be evaluated.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use kube_cel::{
    KubeCelExt as _,
    cel::{
        self, Context, ExecutionError, FunctionContext,
        common::ast::{EntryExpr, Expr, IdedExpr},
        extractors::This,
    },
};
use regex::Regex;
use serde_json::Value;

use super::{Node, value};
use crate::report::quote;

/// The functions of CEL and those that Kubernetes adds.
static FUNCTIONS: LazyLock<Context<'static>> = LazyLock::new(|| {
    let mut context = Context::default().with_all();
    context.add_function("matches", matches);
    context
});

/// Regular expressions that were compiled: they stand in definitions, so there are few, and compiling takes far longer than
/// matching.
static PATTERNS: LazyLock<Mutex<HashMap<Arc<String>, Option<Regex>>>> = LazyLock::new(Mutex::default);
const MOST_PATTERNS: usize = 256;

fn matches(
    context: &FunctionContext,
    This(text): This<Arc<String>>,
    pattern: Arc<String>,
) -> Result<bool, ExecutionError> {
    // What a panic elsewhere left behind is still a map of patterns.
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if patterns.len() >= MOST_PATTERNS {
        patterns.clear();
    }
    let compiled = patterns.entry(Arc::clone(&pattern)).or_insert_with(|| Regex::new(&pattern).ok()).clone();
    drop(patterns);
    let compiled = compiled.ok_or_else(|| context.error(format!("{} is no regular expression", quote(&pattern))))?;
    Ok(compiled.is_match(&text))
}

/// What a function of CEL makes of a text; none if it refuses it.
pub(super) fn read(function: &str, text: &str) -> Option<cel::Value> {
    let program = cel::Program::compile(&format!("{function}(text)")).ok()?;
    let mut context = FUNCTIONS.new_inner_scope();
    context.add_variable_from_value("text", text.to_owned());
    program.execute(&context).ok()
}

/// Why a rule does not hold.
#[derive(Debug)]
pub(super) enum Failure {
    /// The object breaks it; with the reason, where evaluating it came to an error as it does in the API server.
    Object(Option<String>),
    /// It cannot be evaluated here.
    Unknown(String),
}

/// An expression over `self`.
#[derive(Debug)]
pub(super) struct Program {
    program: cel::Program,
    /// The fields of `self` that it looks at; none: at all of it.
    fields: Option<BTreeSet<String>>,
    /// How deep its loops are nested.
    depth: u32,
}

impl Program {
    /// # Errors
    /// A sentence, if the text is no expression or needs what is not known here.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let program = cel::Program::compile(text).map_err(|_| "it cannot be read as CEL".to_owned())?;
        if program.references().has_variable("oldSelf") {
            return Err("it compares with the object before the change".to_owned());
        }
        let mut needs = Needs { fields: Some(BTreeSet::new()), depth: 0 };
        needs.visit(program.expression(), 0);
        let Needs { fields, depth } = needs;
        Ok(Self { program, fields, depth })
    }

    /// An upper bound on the rounds of its loops.
    pub(super) fn steps(&self, value: &Value) -> usize {
        if self.depth == 0 {
            return 0;
        }
        let longest = match (value, &self.fields) {
            (Value::Object(all), Some(fields)) => fields.iter().filter_map(|name| all.get(name)).map(longest).max(),
            _ => Some(longest(value)),
        };
        longest.unwrap_or_default().saturating_pow(self.depth)
    }

    /// Whether a value is as the rule demands.
    pub(super) fn holds(&self, node: &Node, value: &Value) -> Result<bool, Failure> {
        match self.evaluate(node, value) {
            Ok(cel::Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err(Failure::Unknown("its result is neither true nor false".to_owned())),
            Err(error) => Err(failure(error)),
        }
    }

    /// The text that it makes of a value; an empty one or one of several lines counts as none, as in the API server.
    pub(super) fn text(&self, node: &Node, value: &Value) -> Option<String> {
        match self.evaluate(node, value) {
            Ok(cel::Value::String(text)) => {
                Some(text.trim().to_owned()).filter(|text| !text.is_empty() && !text.contains('\n'))
            }
            _ => None,
        }
    }

    fn evaluate(&self, node: &Node, value: &Value) -> Result<cel::Value, ExecutionError> {
        let mut context = FUNCTIONS.new_inner_scope();
        context.add_variable_from_value("self", value::convert(value, Some(node), self.fields.as_ref()));
        self.program.execute(&context)
    }
}

/// The object is to blame for what a function refuses to read and for what is not there; everything else may be a gap in the
/// interpreter.
fn failure(error: ExecutionError) -> Failure {
    match error {
        ExecutionError::FunctionError { function, message } => Failure::Object(Some(format!("{function}: {message}"))),
        ExecutionError::NoSuchKey(name) => Failure::Object(Some(format!("{name} is not set"))),
        ExecutionError::IndexOutOfBounds(_) => Failure::Object(Some("an item is not there".to_owned())),
        ExecutionError::UndeclaredReference(name) => Failure::Unknown(format!("{name} is not known")),
        other => Failure::Unknown(cut(&other.to_string())),
    }
}

/// Errors of the interpreter print whole values.
fn cut(text: &str) -> String {
    const LONGEST: usize = 120;
    text.chars().take(LONGEST).collect()
}

/// The longest list or mapping in a value; at least 1.
fn longest(value: &Value) -> usize {
    let below: Option<usize> = match value {
        Value::Object(fields) => fields.values().map(longest).max().max(Some(fields.len())),
        Value::Array(items) => items.iter().map(longest).max().max(Some(items.len())),
        _ => None,
    };
    below.unwrap_or_default().max(1)
}

/// What an expression needs of `self`, and how deep its loops go.
struct Needs {
    fields: Option<BTreeSet<String>>,
    depth: u32,
}

impl Needs {
    fn visit(&mut self, expression: &IdedExpr, depth: u32) {
        self.depth = self.depth.max(depth);
        match &expression.expr {
            Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "self") => {
                self.fields.iter_mut().for_each(|fields| {
                    fields.insert(select.field.clone());
                });
            }
            Expr::Ident(name) if name == "self" => self.fields = None,
            Expr::Select(select) => self.visit(&select.operand, depth),
            Expr::Call(call) => {
                call.target.iter().for_each(|target| self.visit(target, depth));
                self.all(&call.args, depth);
            }
            Expr::List(list) => self.all(&list.elements, depth),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr, depth)),
            Expr::Struct(fields) => fields.entries.iter().for_each(|entry| self.entry(&entry.expr, depth)),
            Expr::Comprehension(each) => {
                self.visit(&each.iter_range, depth);
                for inner in [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result] {
                    self.visit(inner, depth + 1);
                }
            }
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn all(&mut self, expressions: &[IdedExpr], depth: u32) {
        expressions.iter().for_each(|expression| self.visit(expression, depth));
    }

    fn entry(&mut self, entry: &EntryExpr, depth: u32) {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value, depth),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key, depth);
                self.visit(&entry.value, depth);
            }
        }
    }
}
