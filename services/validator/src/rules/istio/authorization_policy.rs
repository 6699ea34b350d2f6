//! AuthorizationPolicy: what each action needs, and rules that say something.

use super::{common, selector};
use crate::{
    path::Path,
    report::{Hit, list, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// Whom the proxy knows only after an external authorizer was asked.
const IDENTITY: [&str; 8] = [
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
];
const ADDRESSES: [&str; 4] = ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"];
const ACCOUNTS: [&str; 2] = ["serviceAccounts", "notServiceAccounts"];
/// What excludes service accounts, which say both already.
const WITHOUT_ACCOUNTS: [&str; 4] = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
const PORTS: [&str; 2] = ["ports", "notPorts"];
const PATHS: [&str; 2] = ["paths", "notPaths"];

/// Attributes of a condition that are texts.
const TEXTS: [&str; 8] = [
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "connection.sni",
];
/// Attributes of a condition that are addresses.
const ADDRESS_KEYS: [&str; 3] = ["source.ip", "remote.ip", "destination.ip"];
/// Attributes of a condition that have a name in brackets.
const MAPS: [&str; 3] = ["request.headers", "request.auth.claims", "experimental.envoy.filters."];

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let action = match spec.get("action").text() {
        "" => "ALLOW",
        action => action,
    };
    let rules = spec.get("rules").items();
    let mut hits = selector::attachment(&spec);
    hits.extend(action_fits(&spec, action, rules.is_empty()));
    for rule in &rules {
        if action == "CUSTOM" {
            hits.extend(not_for_custom(rule));
        }
        hits.extend(rule.get("from").items().iter().flat_map(source));
        hits.extend(rule.get("to").items().iter().flat_map(operation));
        hits.extend(rule.get("when").items().iter().flat_map(condition));
        if action == "DENY" {
            hits.extend(denies_tcp(rule));
        }
    }
    hits
}

fn action_fits(spec: &Field<'_>, action: &str, no_rules: bool) -> Vec<Hit> {
    let mut hits = Vec::new();
    if no_rules && ["DENY", "CUSTOM"].contains(&action) {
        let message = format!("the action {action} without rules matches no request");
        let hit = Hit::new(rule::AP_ACTION, spec.get("rules").path(), message);
        hits.push(hit.suggest("add rules; the empty rule {} matches every request"));
    }
    let provider = spec.get("provider");
    if action == "CUSTOM" && !no_rules && provider.get("name").text().is_empty() {
        let message = "the action CUSTOM needs the name of a provider";
        let hit = Hit::new(rule::AP_ACTION, provider.get("name").path(), message);
        hits.push(hit.suggest("name one of meshConfig.extensionProviders"));
    }
    if action != "CUSTOM" && provider.is_set() {
        let message = format!("a provider is for the action CUSTOM, not for {action}");
        hits.push(Hit::new(rule::AP_ACTION, provider.path(), message).at_key().suggest("remove provider"));
    }
    hits
}

fn not_for_custom(rule: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut hit = |field: &Field<'_>, what: &str| {
        let message = format!("{what} is not known before the external authorizer is asked");
        hits.push(Hit::new(rule::AP_CUSTOM, field.path(), message).suggest("let the authorizer decide on it"));
    };
    for from in rule.get("from").items() {
        let source = from.get("source");
        for name in IDENTITY {
            if !source.get(name).items().is_empty() {
                hit(&source.get(name), name);
            }
        }
    }
    for when in rule.get("when").items() {
        let key = when.get("key");
        let identity = ["source.namespace", "source.serviceAccount", "source.principal"].contains(&key.text());
        if identity || key.text().starts_with("request.auth.") {
            hit(&key, key.text());
        }
    }
    hits
}

fn source(from: &Field<'_>) -> Vec<Hit> {
    let source = from.get("source");
    let Err(hit) = says_something(from, "source") else {
        let mut hits = empty_values(&source, &IDENTITY);
        hits.extend(
            ADDRESSES.iter().flat_map(|name| source.get(name).items()).filter_map(|item| common::subnet(&item)),
        );
        hits.extend(accounts(&source));
        return hits;
    };
    vec![hit]
}

fn operation(to: &Field<'_>) -> Vec<Hit> {
    let operation = to.get("operation");
    let Err(hit) = says_something(to, "operation") else {
        let mut hits = empty_values(&operation, &["methods", "notMethods", "hosts", "notHosts", "paths", "notPaths"]);
        hits.extend(PORTS.iter().flat_map(|name| operation.get(name).items()).filter_map(|item| port(&item)));
        hits.extend(PATHS.iter().flat_map(|name| operation.get(name).items()).filter_map(|item| path(&item)));
        return hits;
    };
    vec![hit]
}

/// A source or operation with at least one list that has items.
fn says_something(around: &Field<'_>, name: &str) -> Result<(), Hit> {
    let field = around.get(name);
    let (message, advice) = if !field.is_set() {
        (format!("{name} is missing"), format!("add {name}"))
    } else if field.entries().iter().all(|(_, list)| list.items().is_empty()) {
        (format!("the {name} says nothing"), format!("fill it, or remove it: a rule without {name} matches every one"))
    } else {
        return Ok(());
    };
    Err(Hit::new(rule::AP_EMPTY, field.path(), message).suggest(advice))
}

fn empty_values(around: &Field<'_>, names: &[&str]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for name in names {
        for item in around.get(name).items().iter().filter(|item| item.text().is_empty()) {
            hits.push(Hit::new(rule::AP_VALUE, item.path(), format!("an item of {name} is empty")));
        }
    }
    hits
}

fn accounts(source: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let filled = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| source.get(name).is_set()).collect()
    };
    let (accounts, others) = (filled(&ACCOUNTS), filled(&WITHOUT_ACCOUNTS));
    if let (Some(first), Some(other)) = (accounts.first(), others.first()) {
        let message = format!("{first} exclude {other}, because they name the namespace already");
        hits.push(Hit::new(rule::AP_ACCOUNTS, source.get(first).path(), message).at_key());
    }
    for item in accounts.iter().flat_map(|name| source.get(name).items()) {
        let parts: Vec<&str> = item.text().split('/').collect();
        if !item.text().is_empty() && (parts.len() > 2 || parts.contains(&"")) {
            let message = format!("{} is not of the form ACCOUNT or NAMESPACE/ACCOUNT", quote(item.text()));
            hits.push(Hit::new(rule::AP_VALUE, item.path(), message));
        }
    }
    hits
}

/// Ports are texts here, and 0 is one.
fn port(field: &Field<'_>) -> Option<Hit> {
    let text = field.text();
    let good = text.bytes().all(|c| c.is_ascii_digit()) && text.parse::<u16>().is_ok();
    (!good).then(|| Hit::new(rule::PORT, field.path(), format!("{} is no port", quote(text))))
}

/// A path, which is a template if a segment is `{*}` or `{**}`.
fn path(field: &Field<'_>) -> Option<Hit> {
    let text = field.text();
    let is_template = ["{*}", "{**}"].iter().any(|operator| text.contains(operator));
    let mut rest_is_taken = false;
    let problem = text.trim_matches('/').split('/').find_map(|segment| match segment {
        "{*}" | "{**}" if rest_is_taken => Some("{**} takes the rest of the path, so it must be the last operator"),
        "{*}" => None,
        "{**}" => {
            rest_is_taken = true;
            None
        }
        _ if segment.contains(['{', '}']) => Some("braces are for a whole segment {*} or {**}"),
        _ if is_template && segment.contains('*') => Some("a template has {*} and {**} instead of *"),
        _ if is_template && !segment.bytes().all(is_literal) => {
            Some("a template's segment has a character that needs an escape")
        }
        _ => None,
    });
    let message = format!("the path {} cannot be used: {}", quote(text), problem?);
    Some(Hit::new(rule::AP_VALUE, field.path(), message))
}

/// RFC 3986's characters of a path segment.
fn is_literal(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&c)
}

fn condition(when: &Field<'_>) -> Vec<Hit> {
    let key = when.get("key");
    let hit = |path: &Path, message: String| Hit::new(rule::AP_CONDITION, path, message);
    if key.text().is_empty() {
        return vec![hit(key.path(), "the condition has no key".to_owned())];
    }
    let mut values = when.get("values").items();
    values.extend(when.get("notValues").items());
    if values.is_empty() {
        let message = format!("the condition on {} needs values or notValues", quote(key.text()));
        return vec![hit(when.path(), message)];
    }
    if let Err(problem) = attribute(key.text()) {
        return vec![hit(key.path(), format!("the key {} cannot be used: {problem}", quote(key.text())))];
    }
    let wrong = |value: &Field<'_>| match key.text() {
        _ if value.text().is_empty() => Some(hit(value.path(), "the value is empty".to_owned())),
        name if ADDRESS_KEYS.contains(&name) => common::subnet(value),
        "destination.port" => port(value),
        _ => None,
    };
    values.iter().filter_map(wrong).collect()
}

/// Why a key is no attribute, if it is none.
fn attribute(key: &str) -> Result<(), String> {
    if MAPS.iter().any(|start| key.starts_with(start)) {
        let named =
            key.strip_suffix(']').and_then(|start| start.split_once('[')).is_some_and(|(_, name)| !name.is_empty());
        return if named {
            Ok(())
        } else {
            Err("it needs a name in brackets, e.g. request.headers[x-user]".to_owned())
        };
    }
    match key {
        "destination.port" => Ok(()),
        _ if TEXTS.contains(&key) || ADDRESS_KEYS.contains(&key) => Ok(()),
        "destination.namespace" => Err("the policy's own namespace decides".to_owned()),
        "destination.name" | "destination.user" => Err("it is gone since v1alpha1".to_owned()),
        _ if key.starts_with("destination.labels") => Err("the policy's selector decides".to_owned()),
        _ => Err(format!(
            "the attributes are {}, destination.port, {} and {}",
            list(&TEXTS, ", "),
            ADDRESS_KEYS.join(", "),
            MAPS.join("[], ")
        )),
    }
}

/// A DENY rule whose fields are all of HTTP matches everything where there is no HTTP.
fn denies_tcp(rule: &Field<'_>) -> Option<Hit> {
    let sources: Vec<Field<'_>> = rule.get("from").items().iter().map(|from| from.get("source")).collect();
    let operations: Vec<Field<'_>> = rule.get("to").items().iter().map(|to| to.get("operation")).collect();
    let tcp_source =
        |source: &Field<'_>| IDENTITY[..6].iter().chain(&ADDRESSES).any(|name| !source.get(name).items().is_empty());
    let tcp_operation = |operation: &Field<'_>| PORTS.iter().any(|name| !operation.get(name).items().is_empty());
    let from_http = !sources.is_empty() && operations.is_empty() && !sources.iter().any(tcp_source);
    let to_http = !operations.is_empty() && !operations.iter().any(tcp_operation);
    let message = "all fields of this rule are of HTTP, so it denies everything on ports that carry no HTTP";
    (from_http || to_http)
        .then(|| Hit::new(rule::AP_HTTP_ONLY, rule.path(), message).suggest("name the ports in to.operation.ports"))
}
