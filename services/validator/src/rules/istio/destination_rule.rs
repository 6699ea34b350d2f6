//! DestinationRule: host, subsets and where it is visible. What a traffic policy says is in `traffic_policy.rs`.

use std::collections::HashMap;

use super::{
    common::{self, Audience},
    selector, traffic_policy,
};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let namespace = object.head.namespace.as_str();
    let mut hits = Vec::new();
    let host = spec.get("host");
    if let Err(problem) = common::wildcard_name(host.text()) {
        let message = format!("the host {} cannot be used: {problem}", quote(host.text()));
        hits.push(Hit::new(rule::DR_HOST, host.path(), message));
    }
    hits.extend(traffic_policy::check(&spec.get("trafficPolicy"), namespace));
    hits.extend(subsets(&spec.get("subsets").items(), namespace));
    let selector = spec.get("workloadSelector");
    let audience = if selector.is_set() { Audience::OnlyHere } else { Audience::Anyone };
    hits.extend(common::export_to(&spec.get("exportTo"), namespace, audience));
    hits.extend(selector::by_labels(&selector, "matchLabels"));
    hits
}

fn subsets(subsets: &[Field<'_>], namespace: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut seen: HashMap<&str, String> = HashMap::new();
    for subset in subsets {
        let name = subset.get("name");
        if let Some(first) = seen.get(name.text()) {
            let message = format!("the subset {} is there already, at {first}", quote(name.text()));
            hits.push(Hit::new(rule::DR_SUBSET, name.path(), message).suggest("give each subset its own name"));
        } else {
            seen.insert(name.text(), subset.path().to_string());
        }
        if !common::is_label(name.text()) {
            let message = format!("{} is no subset name", quote(name.text()));
            hits.push(Hit::new(rule::DR_SUBSET, name.path(), message).suggest("letters, digits and inner dashes"));
        }
        hits.extend(common::label_map(&subset.get("labels")));
        hits.extend(traffic_policy::check(&subset.get("trafficPolicy"), namespace));
    }
    hits
}
