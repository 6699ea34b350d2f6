//! What Istio and Envoy make of rules, for requests and for connections, in the fewest words; and random rules to try
//! it.
//!
//! Written from `pilot/pkg/security/authz/model` of Istio 1.32, independently of how versions are composed.

use std::cell::Cell;

use regex::Regex;
use serde_json::{Value, json};

use super::super::super::Cohort;

#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) namespace: &'static str,
    pub(super) port: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) connection: Connection,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: Option<String>,
}

/// Asked of one field of a rule: its name, its values, and whether it names what must not be.
type Ask<'a> = &'a dyn Fn(&str, &[Value], bool) -> bool;

/// Whether any rule of a policy meets a request.
pub(super) fn meets(spec: &Value, request: &Request) -> bool {
    let value = |key: &str| match key {
        "methods" => Some(request.method),
        "paths" => Some(request.path),
        "request.headers[x-request-id]" => request.id.as_deref(),
        other => Some(of_connection(&request.connection, other)),
    };
    let ask = |key: &str, values: &[Value], negated| value(key).is_some_and(|text| matches(text, values)) != negated;
    list(&spec["rules"]).iter().any(|rule| meets_rule(rule, &ask))
}

/// Whether any rule of a policy meets a connection, after Istio has left out what connections do not have.
pub(super) fn meets_connection(spec: &Value, connection: &Connection) -> bool {
    let is_allow = spec["action"].as_str().unwrap_or("ALLOW") == "ALLOW";
    list(&spec["rules"]).iter().any(|rule| {
        let leaves_out = Cell::new(false);
        let ask = |key: &str, values: &[Value], negated| {
            if ["methods", "paths"].contains(&key) || key.starts_with("request.") {
                leaves_out.set(true);
                return true;
            }
            matches(of_connection(connection, key), values) != negated
        };
        // An allowing rule is dropped as a whole.
        meets_rule(rule, &ask) && !(is_allow && leaves_out.get())
    })
}

fn of_connection(connection: &Connection, key: &str) -> &'static str {
    match key {
        "namespaces" | "source.namespace" => connection.namespace,
        "ports" | "destination.port" => connection.port,
        other => panic!("{other} is not evaluated"),
    }
}

/// A rule is met if one of its sources, one of its operations and all of its conditions are. Asks about every part,
/// also when the answer is known already.
fn meets_rule(rule: &Value, ask: Ask<'_>) -> bool {
    let any = |field: &str, inner: &str| {
        let met: Vec<_> = list(&rule[field]).iter().map(|part| meets_fields(&part[inner], ask)).collect();
        met.is_empty() || met.contains(&true)
    };
    let mut conditions = Vec::new();
    for condition in list(&rule["when"]) {
        let key = condition["key"].as_str().expect("a key");
        for (field, negated) in [("values", false), ("notValues", true)] {
            let values = list(&condition[field]);
            conditions.push(values.is_empty() || ask(key, values, negated));
        }
    }
    let (from, to) = (any("from", "source"), any("to", "operation"));
    from && to && !conditions.contains(&false)
}

fn meets_fields(fields: &Value, ask: Ask<'_>) -> bool {
    let met = fields.as_object().expect("fields").iter().map(|(name, values)| {
        let negative = name.strip_prefix("not").map(str::to_lowercase);
        ask(negative.as_deref().unwrap_or(name), list(values), negative.is_some())
    });
    !met.collect::<Vec<_>>().contains(&false)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether a text is one of the values: exactly, or by its beginning or end.
fn matches(text: &str, values: &[Value]) -> bool {
    let is = |value: &str| match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(end), _) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == value,
    };
    values.iter().any(|value| is(value.as_str().expect("a text")))
}

/// The expression that VirtualServices have for a cohort, as Envoy reads it: against the whole id.
pub(super) fn expression(cohort: Cohort) -> Regex {
    let pattern = cohort.regex().expect("the cohort is not empty");
    Regex::new(&format!("^(?:{pattern})$")).expect("an expression")
}

pub(super) fn id(last: &str) -> Option<String> {
    Some(format!("6a1f2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b{last}"))
}

/// No id, one that is no id, and every pair of last digits in both cases.
pub(super) fn request_ids() -> Vec<Option<String>> {
    let pairs = (0..256).flat_map(|pair| [format!("{pair:02x}"), format!("{pair:02X}")]);
    [None, Some(String::new()), Some("request-x".to_owned())].into_iter().chain(pairs.map(|pair| id(&pair))).collect()
}

/// Numbers that look random and are the same every time.
pub(super) struct Rolls(u64);

impl Rolls {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % count
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    /// Up to three rules; few values, so that rules of two versions meet each other.
    pub(super) fn rules(&mut self) -> Vec<Value> {
        (0..self.below(4)).map(|_| self.rule()).collect()
    }

    fn rule(&mut self) -> Value {
        let mut rule = json!({});
        if self.one_in(4) {
            let name = self.pick(&["namespaces", "notNamespaces"]);
            rule["from"] = json!([{"source": {name: [self.pick(&["a", "b"])]}}]);
        }
        if !self.one_in(5) {
            let operations = (0..=self.below(2)).map(|_| json!({"operation": self.operation()}));
            rule["to"] = operations.collect();
        }
        if self.one_in(4) {
            let name = self.pick(&["values", "notValues"]);
            rule["when"] = json!([{"key": "destination.port", name: [self.pick(&["80", "90"])]}]);
        }
        rule
    }

    fn operation(&mut self) -> Value {
        let mut operation = json!({});
        if !self.one_in(3) {
            let name = self.pick(&["methods", "notMethods"]);
            operation[name] = json!([self.pick(&["GET", "POST"])]);
        }
        if operation == json!({}) || self.one_in(2) {
            let name = self.pick(&["paths", "notPaths"]);
            operation[name] = json!([self.pick(&["/a", "/a*", "*b", "/c"])]);
        }
        operation
    }

    pub(super) fn request(&mut self, id: Option<String>) -> Request {
        let (method, path) = (self.pick(&["GET", "POST", "PUT"]), self.pick(&["/a", "/a/b", "/c", "/d"]));
        Request { connection: self.connection(), method, path, id }
    }

    pub(super) fn connection(&mut self) -> Connection {
        Connection { namespace: self.pick(&["a", "b", "c"]), port: self.pick(&["80", "90", "100"]) }
    }
}
