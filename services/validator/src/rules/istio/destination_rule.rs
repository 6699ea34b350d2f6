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
    hits.extend(without_ca(&spec));
    hits
}

/// TLS that verifies nobody. Proxies beside workloads read credentialName only in a rule with a workloadSelector.
fn without_ca(spec: &Field<'_>) -> Vec<Hit> {
    let selected = spec.get("workloadSelector").is_set();
    let bare = |tls: &Field<'_>| {
        let verifies = !tls.get("caCertificates").text().is_empty()
            || tls.get("insecureSkipVerify").is_true()
            || (selected && !tls.get("credentialName").text().is_empty());
        ["SIMPLE", "MUTUAL"].contains(&tls.get("mode").text()) && !verifies
    };
    let subsets = spec.get("subsets").items();
    let policies =
        [spec.get("trafficPolicy")].into_iter().chain(subsets.iter().map(|subset| subset.get("trafficPolicy")));
    let mut hits = Vec::new();
    for policy in policies {
        let ports = policy.get("portLevelSettings").items();
        let of_ports = ports.iter().map(|port| (rule::DR_NO_CA_PORT, port.get("tls")));
        for (id, tls) in [(rule::DR_NO_CA, policy.get("tls"))].into_iter().chain(of_ports).filter(|(_, tls)| bare(tls))
        {
            let message =
                format!("mode {} without caCertificates trusts the system's CAs, or none", tls.get("mode").text());
            hits.push(
                Hit::new(id, tls.path(), message)
                    .suggest("set caCertificates, or credentialName in a rule with a workloadSelector"),
            );
        }
    }
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
