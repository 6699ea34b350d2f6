//! One rule: sources, operations and conditions, with three values.

use serde_json::Value;

use super::{
    Call, Token, TrustDomains,
    pattern::{Network, Text},
};

/// What must hold: any of these, or (negated) none.
#[derive(Debug, Clone)]
struct Clause {
    test: Test,
    negated: bool,
}

#[derive(Debug, Clone)]
enum Test {
    Principal(Vec<Text>),
    SourceIp(Vec<Network>),
    RemoteIp(Vec<Network>),
    DestinationIp(Vec<Network>),
    Port(Vec<u16>),
    Sni(Vec<Text>),
    Host(Vec<Text>),
    Method(Vec<Text>),
    Path(Vec<Text>),
    Header(String, Vec<Text>),
    /// Issuer and subject.
    RequestPrincipal(Vec<(Text, Text)>),
    Claim(Vec<String>, Vec<Text>),
    /// Envoy's own metadata: nobody can tell.
    Untold,
}

/// What the words of a rule depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Of its policy.
    pub(super) namespace: &'a str,
    /// Of the mesh.
    pub(super) trust: &'a TrustDomains,
}

/// A rule of a policy.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Any of these alternatives, each a list of clauses that must all hold.
    sources: Vec<Vec<Clause>>,
    operations: Vec<Vec<Clause>>,
    conditions: Vec<Clause>,
}

/// True if any is, else unknown if any is.
pub(crate) fn any(all: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut known = Some(false);
    for one in all {
        match one {
            Some(true) => return Some(true),
            None => known = None,
            Some(false) => {}
        }
    }
    known
}

/// False if any is, else unknown if any is.
pub(crate) fn every(all: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    any(all.map(|one| one.map(|value| !value))).map(|value| !value)
}

impl Rule {
    /// A rule as it stands in a policy.
    pub(super) fn new(rule: &Value, place: Place<'_>) -> Result<Self, String> {
        let mut conditions = Vec::new();
        for condition in list(&rule["when"]) {
            let key = condition["key"].as_str().unwrap_or_default();
            for (field, negated) in [("values", false), ("notValues", true)] {
                let values = texts(&condition[field]);
                if !values.is_empty() {
                    conditions.push(Clause { test: condition_test(key, &values, place)?, negated });
                }
            }
        }
        Ok(Self {
            sources: alternatives(&rule["from"], "source", place)?,
            operations: alternatives(&rule["to"], "operation", place)?,
            conditions,
        })
    }

    /// Whether it meets a call; `None` = that depends on what is not known.
    pub(super) fn meets(&self, call: &Call) -> Option<bool> {
        let one_of = |alternatives: &[Vec<Clause>]| {
            if alternatives.is_empty() {
                return Some(true);
            }
            any(alternatives.iter().map(|clauses| every(clauses.iter().map(|clause| clause.holds(call)))))
        };
        let parts = [one_of(&self.sources), one_of(&self.operations)];
        every(parts.into_iter().chain(self.conditions.iter().map(|clause| clause.holds(call))))
    }
}

fn alternatives(entries: &Value, inner: &str, place: Place<'_>) -> Result<Vec<Vec<Clause>>, String> {
    let mut all = Vec::new();
    for entry in list(entries) {
        let mut clauses = Vec::new();
        for (name, values) in entry[inner].as_object().into_iter().flatten() {
            let values = texts(values);
            if values.is_empty() {
                continue;
            }
            let plain = name.strip_prefix("not").map(|rest| {
                let mut letters = rest.chars();
                letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
            });
            let negated = plain.is_some();
            let test = field_test(plain.as_deref().unwrap_or(name), &values, place)?;
            clauses.push(Clause { test, negated });
        }
        all.push(clauses);
    }
    Ok(all)
}

fn field_test(name: &str, values: &[&str], place: Place<'_>) -> Result<Test, String> {
    let texts = || values.iter().map(|value| Text::new(value)).collect::<Vec<_>>();
    Ok(match name {
        "principals" => condition_test("source.principal", values, place)?,
        "namespaces" => condition_test("source.namespace", values, place)?,
        "serviceAccounts" => condition_test("source.serviceAccount", values, place)?,
        "trustDomains" => condition_test("source.trustDomain", values, place)?,
        "requestPrincipals" => condition_test("request.auth.principal", values, place)?,
        "ipBlocks" => condition_test("source.ip", values, place)?,
        "remoteIpBlocks" => condition_test("remote.ip", values, place)?,
        "ports" => condition_test("destination.port", values, place)?,
        "hosts" => Test::Host(values.iter().map(|value| Text::host(value)).collect()),
        "methods" => Test::Method(texts()),
        "paths" => Test::Path(values.iter().map(|value| Text::path(value)).collect::<Result<_, _>>()?),
        other => return Err(format!("{other:?} is no field of a rule that is known here")),
    })
}

fn condition_test(key: &str, values: &[&str], place: Place<'_>) -> Result<Test, String> {
    let texts = || values.iter().map(|value| Text::new(value)).collect::<Vec<_>>();
    let networks = || values.iter().map(|value| Network::new(value)).collect::<Result<Vec<_>, _>>();
    let of_principal = |values: &[&str], text: &dyn Fn(&str) -> Result<Text, String>| {
        values.iter().map(|value| text(value)).collect::<Result<Vec<_>, _>>().map(Test::Principal)
    };
    Ok(match key {
        "source.principal" => {
            let told = place.trust.principals(values);
            of_principal(&told.iter().map(String::as_str).collect::<Vec<_>>(), &principal)?
        }
        "source.namespace" => {
            of_principal(values, &|value| Text::regex(&format!(".*/ns/{}/.*", globbed(value, ".*"))))?
        }
        "source.serviceAccount" => of_principal(values, &|value| {
            let (namespace, name) = value.split_once('/').unwrap_or((place.namespace, value));
            let (namespace, name) = (regex::escape(namespace), regex::escape(name));
            Text::regex(&format!(".+/ns/{namespace}/(.+/|)sa/{name}(/.+)?"))
        })?,
        "source.trustDomain" => of_principal(&place.trust.domains(values), &|value| {
            Text::regex(&format!("{}/.*", globbed(value, "[^/]*")))
        })?,
        "source.ip" => Test::SourceIp(networks()?),
        "remote.ip" => Test::RemoteIp(networks()?),
        "destination.ip" => Test::DestinationIp(networks()?),
        "destination.port" => {
            let port = |value: &&str| value.parse().map_err(|_| format!("{value:?} is no port"));
            Test::Port(values.iter().map(port).collect::<Result<_, _>>()?)
        }
        "connection.sni" => Test::Sni(texts()),
        "request.auth.principal" => {
            Test::RequestPrincipal(values.iter().map(|value| issuer_and_subject(value)).collect())
        }
        "request.auth.audiences" => Test::Claim(vec!["aud".to_owned()], texts()),
        "request.auth.presenter" => Test::Claim(vec!["azp".to_owned()], texts()),
        key => match (key.strip_prefix("request.headers["), key.strip_prefix("request.auth.claims[")) {
            (Some(name), _) => Test::Header(name.trim_end_matches(']').to_owned(), texts()),
            (_, Some(path)) => {
                Test::Claim(path.trim_end_matches(']').split("][").map(str::to_owned).collect(), texts())
            }
            _ if key.starts_with("experimental.") => Test::Untold,
            _ => return Err(format!("{key:?} is no condition that is known here")),
        },
    })
}

/// "*" in the middle too, as Istio reads names of namespaces and trust domains.
fn globbed(value: &str, glob: &str) -> String {
    value.split('*').map(regex::escape).collect::<Vec<_>>().join(glob)
}

/// The identity begins with `spiffe://`, which policies leave out; "*" stands for any.
fn principal(value: &str) -> Result<Text, String> {
    match value.strip_prefix('*') {
        Some("") => Ok(Text::Any),
        Some(end) => Text::regex(&format!(".*{}", regex::escape(end))),
        None => Ok(Text::new(value)),
    }
}

/// "issuer/subject", of which one can be open. An issuer may be a URL, so the last slash parts them.
fn issuer_and_subject(value: &str) -> (Text, Text) {
    match (value, value.rsplit_once('/')) {
        ("*", _) => (Text::Any, Text::Any),
        (_, Some((issuer, subject))) if value.starts_with('*') => (Text::new(issuer), Text::Exact(subject.to_owned())),
        (_, Some((issuer, subject))) if value.ends_with('*') => (Text::Exact(issuer.to_owned()), Text::new(subject)),
        (_, Some((issuer, subject))) => (Text::Exact(issuer.to_owned()), Text::Exact(subject.to_owned())),
        (_, None) if value.starts_with('*') => (Text::Any, Text::new(value)),
        (_, None) if value.ends_with('*') => (Text::new(value), Text::Any),
        (_, None) => (Text::Exact(value.to_owned()), Text::Exact(String::new())),
    }
}

impl Clause {
    fn holds(&self, call: &Call) -> Option<bool> {
        let met = |patterns: &[Text], text: &str| patterns.iter().any(|pattern| pattern.is_met_by(text));
        let within =
            |networks: &[Network], address: &std::net::IpAddr| networks.iter().any(|one| one.contains(address));
        let held = match &self.test {
            Test::Principal(patterns) => call.principal.test(|text| met(patterns, text)),
            Test::SourceIp(networks) => call.source_ip.test(|address| within(networks, address)),
            Test::RemoteIp(networks) => call.remote_ip.test(|address| within(networks, address)),
            Test::DestinationIp(networks) => call.destination_ip.test(|address| within(networks, address)),
            Test::Port(ports) => call.port.test(|port| ports.contains(port)),
            Test::Sni(patterns) => call.sni.test(|text| met(patterns, text)),
            Test::Host(patterns) => call.host.test(|text| met(patterns, &text.to_lowercase())),
            Test::Method(patterns) => call.method.test(|text| met(patterns, text)),
            Test::Path(patterns) => call.path.test(|text| met(patterns, text)),
            Test::Header(name, patterns) => call.header(name).test(|text| met(patterns, text)),
            Test::RequestPrincipal(patterns) => call.token.test(|token| is_principal(token, patterns)),
            Test::Claim(path, patterns) => call.token.test(|token| has_claim(token, path, patterns)),
            Test::Untold => None,
        };
        held.map(|held| held != self.negated)
    }
}

fn is_principal(token: &Token, patterns: &[(Text, Text)]) -> bool {
    let claim = |name: &str| token.claims[name].as_str().filter(|text| !text.is_empty());
    let meets = |pattern: &Text, text: Option<&str>| text.is_some_and(|text| pattern.is_met_by(text));
    patterns.iter().any(|(issuer, subject)| meets(issuer, claim("iss")) && meets(subject, claim("sub")))
}

/// A claim that is a list has each of its values. Istio lets Envoy take `scope` and `permission` for lists of words; any
/// other text is one value. An empty one meets nothing, not even "*".
fn has_claim(token: &Token, path: &[String], patterns: &[Text]) -> bool {
    let claim = path.iter().fold(&token.claims, |claims, name| &claims[name.as_str()]);
    let met = |text: &str| !text.is_empty() && patterns.iter().any(|pattern| pattern.is_met_by(text));
    let is_words = matches!(path, [name] if name == "scope" || name == "permission");
    match claim {
        Value::String(text) if is_words => text.split(' ').any(met),
        Value::String(text) => met(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).any(met),
        _ => false,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<&str> {
    list(value).iter().filter_map(Value::as_str).collect()
}
