//! One match of a route, with three values.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::Request;
use crate::{
    access::{Fact, every},
    rules::istio::regexp,
};

/// Memory that one expression may take; one that needs more is not tried, and what it matches is unknown.
const REGEX_BYTES: usize = 1 << 20;

/// A text that a request must have.
#[derive(Debug, Clone)]
enum Text {
    /// Any; for a header, that it is there.
    Present,
    Exact(String),
    Prefix(String),
    /// `None` = it cannot be tried.
    Regex(Option<Regex>),
}

impl Text {
    fn new(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        match (text("exact"), text("prefix"), text("regex")) {
            (Some(exact), ..) => Self::Exact(exact),
            (_, Some(prefix), _) => Self::Prefix(prefix),
            // Istio takes this, which is no expression, for "it is there".
            (.., Some(regex)) if regex == "*" => Self::Present,
            // Envoy's classes (\w) and cases are those of ASCII, so beyond it nothing is told.
            (.., Some(regex)) => Self::Regex(regex.is_ascii().then(|| regexp::whole(&regex, REGEX_BYTES)).flatten()),
            _ => Self::Present,
        }
    }

    fn matches(&self, text: &str) -> Option<bool> {
        match self {
            Self::Present => Some(true),
            Self::Exact(exact) => Some(text == exact),
            Self::Prefix(prefix) => Some(text.starts_with(prefix.as_str())),
            Self::Regex(regex) => regex.as_ref().filter(|_| text.is_ascii()).map(|regex| regex.is_match(text)),
        }
    }

    /// A path without regard to case; an expression keeps its own.
    fn matches_path(&self, text: &str, ignore_case: bool) -> Option<bool> {
        let starts = |prefix: &str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        match self {
            Self::Exact(exact) if ignore_case => Some(text.eq_ignore_ascii_case(exact)),
            Self::Prefix(prefix) if ignore_case => Some(starts(prefix)),
            _ => self.matches(text),
        }
    }
}

/// A match, read once.
#[derive(Debug, Clone)]
pub(super) struct Match {
    /// As it stands in the object, without its name.
    pub(super) value: Value,
    port: Option<u64>,
    gateways: Vec<String>,
    source_labels: BTreeMap<String, String>,
    source_namespace: Option<String>,
    uri: Option<Text>,
    ignore_case: bool,
    method: Option<Text>,
    authority: Option<Text>,
    scheme: Option<Text>,
    headers: Vec<(String, Text)>,
    without: Vec<(String, Text)>,
    query: Vec<(String, Text)>,
}

impl Match {
    /// A match of an object in this namespace.
    pub(super) fn new(value: &Value, namespace: &str) -> Self {
        let one = |field: &str| (!value[field].is_null()).then(|| Text::new(&value[field]));
        let map = |field: &str| {
            let entries = value[field].as_object().into_iter().flatten();
            entries.map(|(name, text)| (name.clone(), Text::new(text))).collect::<Vec<_>>()
        };
        let headers = |field: &str| {
            map(field).into_iter().map(|(name, text)| (name.to_ascii_lowercase(), text)).collect::<Vec<_>>()
        };
        let labels = value["sourceLabels"].as_object().into_iter().flatten();
        let mut named = value.clone();
        if let Some(fields) = named.as_object_mut() {
            fields.retain(|name, _| name != "name" && name != "statPrefix");
        }
        Self {
            value: named,
            port: value["port"].as_u64().filter(|port| *port > 0),
            gateways: gateways(&value["gateways"], namespace),
            source_labels: labels
                .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            source_namespace: value["sourceNamespace"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
            uri: one("uri"),
            ignore_case: value["ignoreUriCase"] == true,
            method: one("method"),
            authority: one("authority"),
            scheme: one("scheme"),
            headers: headers("headers"),
            without: headers("withoutHeaders"),
            query: map("queryParams"),
        }
    }

    /// Whether the route is there at all for this caller and port: istiod decides that, not the proxy.
    pub(super) fn is_for(&self, request: &Request) -> Option<bool> {
        let port = self.port.map(|port| request.port.test(|own| u64::from(*own) == port));
        // A gateway's own pods have labels and a namespace that nobody looked at.
        let (labels, namespace) = match request.is_at_gateway() {
            true => (&Fact::Unknown, &Fact::Unknown),
            false => (&request.labels, &request.namespace),
        };
        let source = if self.gateways.is_empty() {
            let has = |own: &BTreeMap<String, String>| {
                self.source_labels.iter().all(|(key, value)| own.get(key) == Some(value))
            };
            let labelled = (!self.source_labels.is_empty()).then(|| labels.test(has));
            let within = self.source_namespace.as_ref().map(|name| namespace.test(|own| own == name));
            every([labelled, within].into_iter().flatten())
        } else {
            // As soon as a match names gateways, its labels and namespace are not asked for.
            Some(self.gateways.contains(&request.gateway))
        };
        every([port, Some(source)].into_iter().flatten())
    }

    /// Whether a request meets it, in a proxy that has the route.
    pub(super) fn meets(&self, request: &Request) -> Option<bool> {
        let uri = self.uri.as_ref().map(|text| match &request.path {
            Fact::Known(path) => text.matches_path(path, self.ignore_case),
            _ if matches!(text, Text::Present) => Some(true),
            _ => None,
        });
        let whole =
            [(&self.method, &request.method), (&self.authority, &request.authority), (&self.scheme, &request.scheme)];
        let whole = whole.into_iter().filter_map(|(text, fact)| text.as_ref().map(|text| asked(text, fact)));
        let headers = self.headers.iter().map(|(name, text)| header(name, text, request));
        let without = self.without.iter().map(|(name, text)| without(name, text, request));
        let query = self.query.iter().map(|(name, text)| held(text, request.of(&request.query, name)));
        every(uri.into_iter().chain(whole).chain(headers).chain(without).chain(query))
    }
}

/// The gateways that a list names, each as "namespace/name" or "mesh".
pub(super) fn gateways(list: &Value, namespace: &str) -> Vec<String> {
    let names = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    let full = |name: &str| match name {
        super::MESH => name.to_owned(),
        _ if name.contains('/') => name.to_owned(),
        _ => format!("{namespace}/{name}"),
    };
    names.map(full).collect()
}

fn asked(text: &Text, fact: &Fact<String>) -> Option<bool> {
    match fact {
        Fact::Known(value) => text.matches(value),
        Fact::Absent => Some(false),
        Fact::Unknown => None,
    }
}

fn held(text: &Text, fact: Fact<&str>) -> Option<bool> {
    match fact {
        Fact::Known(value) => text.matches(value),
        Fact::Absent => Some(false),
        Fact::Unknown => None,
    }
}

/// Claims of tokens are written as headers too; nobody looked at them.
fn is_claim(name: &str) -> bool {
    name.starts_with("@request.auth.claims")
}

fn header(name: &str, text: &Text, request: &Request) -> Option<bool> {
    if is_claim(name) { None } else { held(text, request.of(&request.headers, name)) }
}

/// A header that is not there is an empty one to an expression, and simply not there to "any".
fn without(name: &str, text: &Text, request: &Request) -> Option<bool> {
    let met = match (is_claim(name), request.of(&request.headers, name)) {
        (true, _) => None,
        (_, Fact::Absent) if !matches!(text, Text::Present) => text.matches(""),
        (_, fact) => held(text, fact),
    };
    met.map(|met| !met)
}
