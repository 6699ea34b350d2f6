//! What an AuthorizationPolicy has become in a proxy's listeners.
//!
//! Istio makes one Envoy policy of each rule and names it after its source, `ns[shop]-policy[ledger]-rule[0]`. A policy
//! without rules becomes one that never matches. So the names tell whom the object concerns and how many rules it has,
//! and inside are the values: those on the request id, which every weight has its own of, and others that are carried
//! over as they are. Values that Istio rewrites (principals, addresses, ports) are not predicted, and cost time.
//!
//! What an acknowledgement does not tell: an Envoy with a new listener goes on with the old one on connections that are
//! open, until it has drained them. New connections were seen to be decided by what was acknowledged, at once.
//!
//! Only filters for requests are compared: for TCP connections Istio leaves out what they do not have.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{LISTENER, REQUEST_ID, Seen, resources, sync};
use crate::proof::{Content, Expected};

/// The type of the filter for requests.
const HTTP_FILTER: &str = ".filters.http.rbac.v3.RBAC";
/// What the names of a policy with the action CUSTOM begin with.
const CUSTOM: &str = "istio-ext-authz-";

/// One rule of the object in one filter.
struct Found<'a> {
    rule: usize,
    policy: &'a Value,
    is_for_requests: bool,
}

/// `None` if the object cannot concern the proxy.
pub(in super::super) fn read(dump: &Value, expected: &Expected) -> Option<Seen<'static>> {
    let name = format!("ns[{}]-policy[{}]", expected.target.namespace, expected.target.name);
    let mut found = Vec::new();
    for listener in resources(dump, LISTENER) {
        collect(listener, &name, false, &mut found);
    }
    // Who does not use it may have to, and not know of it yet, only if the workloads are what changed.
    if found.is_empty() && !expected.rebinds {
        return None;
    }
    let content = match &expected.object {
        _ if found.is_empty() => Content::Unused,
        None => Content::Older,
        Some(object) => compare(&object["spec"], &expected.others, &found),
    };
    Some(Seen { content, kinds: vec![sync::LISTENERS] })
}

fn collect<'a>(value: &'a Value, name: &str, is_for_requests: bool, found: &mut Vec<Found<'a>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, is_for_requests, found)),
        Value::Object(fields) => {
            let kind = fields.get("@type").and_then(Value::as_str);
            let is_for_requests = kind.map_or(is_for_requests, |kind| kind.ends_with(HTTP_FILTER));
            for (key, policy) in fields {
                match rule(key, name) {
                    Some(rule) => found.push(Found { rule, policy, is_for_requests }),
                    None => collect(policy, name, is_for_requests, found),
                }
            }
        }
        _ => {}
    }
}

/// The number of the rule, if a key is one of the object's.
fn rule(key: &str, name: &str) -> Option<usize> {
    let (source, number) = key.strip_suffix(']')?.rsplit_once("-rule[")?;
    let is_it = source == name || source.starts_with(CUSTOM) && source.ends_with(&format!("-{name}"));
    is_it.then(|| number.parse().ok()).flatten()
}

fn compare(written: &Value, others: &[Value], found: &[Found<'_>]) -> Content {
    let found: Vec<_> = found.iter().filter(|found| found.is_for_requests).collect();
    if found.is_empty() {
        return Content::Unclear;
    }
    let ends: BTreeSet<_> = found.iter().flat_map(|found| generated_suffixes(found.policy)).collect();
    if suffixes(written) != ends {
        return Content::Older;
    }
    let fits = |spec: &Value| suffixes(spec) == ends && fits(spec, &found);
    match (fits(written), others.iter().any(fits)) {
        (true, false) => Content::Shows,
        (false, true) => Content::Older,
        _ => Content::Unclear,
    }
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// How ids end, in a spec.
fn suffixes(spec: &Value) -> BTreeSet<&str> {
    let key = format!("request.headers[{REQUEST_ID}]");
    let conditions = items(spec, "rules").flat_map(|rule| items(rule, "when"));
    let ours = conditions.filter(|condition| condition["key"] == key.as_str());
    let values = ours.flat_map(|condition| items(condition, "values").chain(items(condition, "notValues")));
    values.filter_map(|value| value.as_str()?.strip_prefix('*')).collect()
}

/// How ids end, in a generated policy.
fn generated_suffixes(policy: &Value) -> BTreeSet<&str> {
    match policy {
        Value::Array(items) => items.iter().flat_map(generated_suffixes).collect(),
        Value::Object(fields) if fields.get("name").is_some_and(|name| name == REQUEST_ID) => {
            fields.get("stringMatch").and_then(|matcher| matcher["suffix"].as_str()).into_iter().collect()
        }
        Value::Object(fields) => fields.values().flat_map(generated_suffixes).collect(),
        _ => BTreeSet::new(),
    }
}

/// Whether generated policies can come from a spec: as many rules, and each with the values that are certain.
fn fits(spec: &Value, found: &[&Found<'_>]) -> bool {
    let rules: Vec<_> = items(spec, "rules").collect();
    let numbers: BTreeSet<_> = found.iter().map(|found| found.rule).collect();
    numbers.into_iter().eq(0..rules.len().max(1))
        && found.iter().all(|found| {
            let mut texts = BTreeSet::new();
            collect_texts(found.policy, &mut texts);
            rules.get(found.rule).is_none_or(|rule| certain_values(rule).iter().all(|value| texts.contains(value)))
        })
}

/// The values of a rule that are in the generated policy as they are, without the star for what may stand before or
/// after.
fn certain_values(rule: &Value) -> Vec<&str> {
    const FIELDS: [&str; 6] = ["methods", "notMethods", "paths", "notPaths", "hosts", "notHosts"];
    let operations = items(rule, "to").flat_map(|to| FIELDS.iter().flat_map(|field| items(&to["operation"], field)));
    let is_header =
        |condition: &&Value| condition["key"].as_str().is_some_and(|key| key.starts_with("request.headers"));
    let headers = items(rule, "when").filter(is_header);
    let headers = headers.flat_map(|condition| items(condition, "values").chain(items(condition, "notValues")));
    let texts = operations.chain(headers).filter_map(Value::as_str).map(|value| value.trim_matches('*'));
    // A template of a path is rewritten.
    texts.filter(|text| !text.is_empty() && !text.contains(['*', '{'])).collect()
}

fn collect_texts<'a>(value: &'a Value, texts: &mut BTreeSet<&'a str>) {
    match value {
        Value::String(text) => drop(texts.insert(text)),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect_texts(field, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use meshward_model::Target;
    use serde_json::json;

    use super::*;

    fn rule(path: &str, suffixes: &[&str]) -> Value {
        let mut rule = json!({"to": [{"operation": {"methods": ["GET"], "paths": [path]}}]});
        if !suffixes.is_empty() {
            rule["when"] = json!([{"key": "request.headers[x-request-id]", "values": suffixes}]);
        }
        rule
    }

    /// As istiod 1.32 generates it, without what is not read.
    fn policy(path: &str, suffixes: &[&str]) -> Value {
        let header =
            |suffix: &&str| json!({"header": {"name": "x-request-id", "stringMatch": {"suffix": suffix[1..]}}});
        let ids: Vec<_> = suffixes.iter().map(header).collect();
        json!({
            "permissions": [{"andRules": {"rules": [
                {"orRules": {"rules": [{"urlPath": {"path": {"exact": path}}}]}},
                {"orRules": {"rules": [{"header": {"name": ":method", "stringMatch": {"exact": "GET"}}}]}}]}}],
            "principals": [{"andIds": {"ids": [{"orIds": {"ids": ids}}]}}],
        })
    }

    fn dump(filter: &str, policies: &[Value], name: &str) -> Value {
        let named =
            |(index, policy): (usize, &Value)| (format!("ns[shop]-policy[{name}]-rule[{index}]"), policy.clone());
        let policies: serde_json::Map<_, _> = policies.iter().enumerate().map(named).collect();
        let config = json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.{filter}.rbac.v3.RBAC"),
                            "rules": {"policies": policies}});
        let manager = json!({"@type": "HttpConnectionManager", "httpFilters": [{"typedConfig": config}]});
        json!({"configs": [{
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "filterChains": [{"filters": [{"typedConfig": manager}]}],
        }]})
    }

    fn expected(object: Option<&[Value]>, others: &[&[Value]], rebinds: bool) -> Expected {
        let spec = |rules: &[Value]| json!({"rules": rules});
        Expected {
            target: Target::new("", "security.istio.io/v1", "AuthorizationPolicy", "shop", "ledger").unwrap(),
            object: object.map(|rules| json!({"spec": spec(rules)})),
            others: others.iter().map(|rules| spec(rules)).collect(),
            rebinds,
            through: Vec::new(),
            cohorts: None,
            beside: Vec::new(),
            readers: crate::dialect::Readers::default(),
        }
    }

    #[test]
    fn content_tells_new_from_old() {
        let (ten, half) = (["*0", "*01"], ["*0", "*1"]);
        let (a, b) = (rule("/a", &[]), rule("/b", &[]));
        let other_port = json!({"to": [{"operation": {"ports": ["80"]}}]});
        for (name, written, other, generated, content) in [
            ("its cohort", vec![rule("/a", &ten)], &a, policy("/a", &ten), Content::Shows),
            ("another weight's", vec![rule("/a", &half)], &a, policy("/a", &ten), Content::Older),
            ("not exposed yet", vec![rule("/a", &ten)], &a, policy("/a", &[]), Content::Older),
            ("still exposed", vec![a.clone()], &b, policy("/a", &ten), Content::Older),
            (
                "its cohort, with other rules",
                vec![rule("/a", &ten), b.clone()],
                &a,
                policy("/a", &ten),
                Content::Unclear,
            ),
            ("its path", vec![b.clone()], &a, policy("/b", &[]), Content::Shows),
            ("the other's path", vec![b.clone()], &a, policy("/a", &[]), Content::Older),
            ("what is not predicted", vec![other_port.clone()], &other_port, policy("/a", &[]), Content::Unclear),
            ("no rule at all", vec![], &a, json!({"permissions": [{"notRule": {"any": true}}]}), Content::Shows),
            ("neither", vec![b.clone()], &a, policy("/c", &[]), Content::Unclear),
        ] {
            let expected = expected(Some(&written), &[std::slice::from_ref(other)], false);
            let seen = read(&dump("http", &[generated], "ledger"), &expected).unwrap();
            assert_eq!((seen.content, seen.kinds), (content, vec![sync::LISTENERS]), "{name}");
        }
    }

    #[test]
    fn who_is_concerned() {
        let rules = [rule("/a", &[])];
        let written = expected(Some(&rules), &[], false);
        let content = |dump: &Value, expected: &Expected| read(dump, expected).map(|seen| seen.content);
        let (ours, foreign) =
            (dump("http", &[policy("/a", &[])], "ledger"), dump("http", &[policy("/a", &[])], "other"));
        assert_eq!(content(&ours, &written), Some(Content::Shows));
        assert_eq!(content(&foreign, &written), None, "another policy's");
        assert_eq!(content(&foreign, &expected(Some(&rules), &[], true)), Some(Content::Unused));
        assert_eq!(content(&ours, &expected(None, &[&rules], true)), Some(Content::Older), "it is still there");
        let connections = dump("network", &[policy("/a", &[])], "ledger");
        assert_eq!(content(&connections, &written), Some(Content::Unclear), "connections tell nothing");
    }

    #[test]
    fn names_are_those_of_the_object() {
        let name = "ns[shop]-policy[a]";
        for (key, number) in [
            ("ns[shop]-policy[a]-rule[12]", Some(12)),
            ("istio-ext-authz-p-ns[shop]-policy[a]-rule[0]", Some(0)),
            ("ns[shop]-policy[ba]-rule[0]", None),
            ("xns[shop]-policy[a]-rule[0]", None),
            ("ns[shop]-policy[a]", None),
        ] {
            assert_eq!(super::rule(key, name), number, "{key}");
        }
    }
}
