//! One rule as a condition.

use crate::{
    explain::{
        condition::Condition,
        words::{any_like, any_of, texts},
    },
    report::quote,
    rules::field::Field,
};

/// How the values of a field are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    /// As they are.
    Exactly,
    /// A star stands for anything.
    Stars,
}

/// A field, the words before its values, what all values together are called, and how they are compared.
type Phrase = (&'static str, &'static str, &'static str, Compare);

const SOURCE: [Phrase; 6] = [
    ("principals", "from principal", "from any principal", Compare::Stars),
    ("requestPrincipals", "with a token of", "with any valid token", Compare::Stars),
    ("namespaces", "from namespace", "from any namespace of the mesh", Compare::Stars),
    ("serviceAccounts", "from service account", "from any service account", Compare::Exactly),
    ("ipBlocks", "from address", "from any address", Compare::Exactly),
    ("remoteIpBlocks", "from original client address", "from any original client address", Compare::Exactly),
];

const OPERATION: [Phrase; 4] = [
    ("methods", "with method", "with any method", Compare::Stars),
    ("hosts", "for host", "for any host", Compare::Stars),
    ("ports", "to port", "to any port", Compare::Exactly),
    ("paths", "to path", "to any path", Compare::Stars),
];

/// Fields that only HTTP has.
const HTTP: [&str; 8] =
    ["requestPrincipals", "notRequestPrincipals", "methods", "notMethods", "hosts", "notHosts", "paths", "notPaths"];
/// Fields that are known of callers with mutual TLS only.
const IDENTITY: [&str; 6] =
    ["principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts"];

/// A rule, and what the traps have to know of it.
pub(super) struct Rule {
    /// When it matches.
    pub(super) condition: Condition,
    /// It says from whom.
    pub(super) has_from: bool,
    /// It says to what or when.
    pub(super) has_to: bool,
    /// A source of `from` says only who is not meant.
    pub(super) is_negative: bool,
    /// The fields of it that only HTTP has.
    pub(super) http: Vec<String>,
    /// It looks at identities that mutual TLS shows.
    pub(super) by_identity: bool,
    /// It looks at tokens.
    pub(super) by_token: bool,
    /// It looks at ports.
    pub(super) by_port: bool,
}

impl Rule {
    pub(super) fn read(rule: &Field<'_>) -> Self {
        let inner = |list: &str, item: &str| -> Vec<Field<'_>> {
            rule.get(list).items().iter().map(|one| one.get(item)).collect()
        };
        let (sources, operations) = (inner("from", "source"), inner("to", "operation"));
        let conditions = rule.get("when").items();
        let mut parts = Vec::new();
        parts.extend(any(&sources, &SOURCE));
        parts.extend(any(&operations, &OPERATION));
        parts.extend(conditions.iter().flat_map(when));
        let fields: Vec<&str> =
            sources.iter().chain(&operations).flat_map(Field::entries).map(|(name, _)| name).collect();
        let keys: Vec<&str> = conditions.iter().map(|one| one.get("key").text()).collect();
        let only_not = |source: &Field<'_>| {
            !source.entries().is_empty() && source.entries().iter().all(|(name, _)| name.starts_with("not"))
        };
        let has = |names: &[&str]| fields.iter().any(|field| names.contains(field));
        let key = |start: &str| keys.iter().any(|key| key.starts_with(start));
        let http_fields = fields.iter().filter(|field| HTTP.contains(field));
        let mut http: Vec<String> = http_fields
            .chain(keys.iter().filter(|key| key.starts_with("request.")))
            .map(|name| quote_free(name))
            .collect();
        http.dedup();
        Self {
            condition: Condition::All(parts).simple(),
            has_from: !sources.is_empty(),
            has_to: !operations.is_empty() || !conditions.is_empty(),
            is_negative: sources.iter().any(only_not),
            http,
            by_identity: has(&IDENTITY) || key("source.principal") || key("source.namespace"),
            by_token: has(&["requestPrincipals", "notRequestPrincipals"]) || key("request.auth."),
            by_port: has(&["ports", "notPorts"]) || key("destination.port"),
        }
    }
}

/// A name of a field or key as it stands, cut to a readable length.
fn quote_free(name: &str) -> String {
    name.chars().take(80).collect()
}

/// One of several sources or operations; nothing if one of them is met by every request.
fn any(list: &[Field<'_>], phrases: &[Phrase]) -> Option<Condition> {
    let all: Vec<Condition> = list.iter().map(|one| Condition::All(fields(one, phrases))).collect();
    (!all.is_empty() && !all.iter().any(Condition::is_always)).then_some(Condition::Any(all))
}

fn fields(one: &Field<'_>, phrases: &[Phrase]) -> Vec<Condition> {
    let mut parts = Vec::new();
    for (name, words, everything, compare) in phrases {
        let (values, others) = (texts(&one.get(name)), texts(&one.get(&negated(name))));
        if !values.is_empty() {
            parts.push(Condition::Is(phrase(&values, words, everything, *compare)));
        }
        if !others.is_empty() {
            parts.push(Condition::not(&phrase(&others, words, everything, *compare)));
        }
    }
    parts
}

/// "methods" → "notMethods".
fn negated(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("not{}{rest}", first.to_uppercase())
}

fn phrase(values: &[&str], words: &str, everything: &str, compare: Compare) -> String {
    match compare {
        Compare::Stars if values.contains(&"*") => everything.to_owned(),
        Compare::Stars => format!("{words} {}", any_like(values)),
        Compare::Exactly => format!("{words} {}", any_of(values)),
    }
}

fn when(condition: &Field<'_>) -> Vec<Condition> {
    let key = quote_free(condition.get("key").text());
    let is = |values: &[&str]| {
        if values.contains(&"*") { format!("{key} is there") } else { format!("{key} is {}", any_like(values)) }
    };
    let (values, others) = (texts(&condition.get("values")), texts(&condition.get("notValues")));
    let positive = (!values.is_empty()).then(|| Condition::Is(is(&values)));
    let negative = (!others.is_empty()).then(|| Condition::not(&is(&others)));
    if values.is_empty() && others.is_empty() {
        return vec![Condition::Is(format!("{} has no values", quote(&key)))];
    }
    positive.into_iter().chain(negative).collect()
}
