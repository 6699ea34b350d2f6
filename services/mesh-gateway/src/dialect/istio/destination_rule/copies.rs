//! Copies of a rule for some callers, whether pods or namespaces: for whom the rule is now, and what a copy says.
//!
//! Istio takes the rules of a host from the first namespace that has any for it: the caller's, the service's, the root
//! namespace. So a rule governs callers of its own namespace, and others only if it stands beside the service and is
//! shown to them. A copy in a namespace of callers governs all of them, whole.

use meshward_model::{MetricsTarget, Target};
use serde_json::Value;

use super::{
    ALL_AT_ONCE, Rule,
    around::{namespace, of_kind},
    check_same_callers, shown_to,
    virtual_services::check_subsets,
};
use crate::{
    dialect::{
        Question, Unsupported,
        istio::virtual_service::{overlap, qualified},
    },
    object::{self, full_name, is_of, spec},
};

/// The rule of a plan; both versions exist.
pub(super) fn rule<'a>(question: &'a Question<'_>, host: &'a mut String) -> Result<Rule<'a>, Unsupported> {
    let Some(stable) = question.baseline.object.as_ref().filter(|_| !question.canary.is_null()) else {
        return Err(Unsupported::new(
            format!(
                "{} does not exist, or shall be gone, and a copy for some callers stands for neither",
                question.target
            ),
            format!("ask for SUBSET, or {ALL_AT_ONCE}"),
        ));
    };
    let (stable, canary) = (object::spec(stable), object::spec(question.canary));
    *host = check_same_callers(stable, canary, &question.target.namespace)?;
    let rule = Rule {
        target: question.target,
        host,
        stable,
        canary,
        neighbours: question.neighbours,
        is_there_before_and_after: true,
    };
    let all: Vec<_> = of_kind(rule.neighbours, "VirtualService").collect();
    check_subsets(&rule, &all)?;
    check_alone(&rule)?;
    Ok(rule)
}

/// Other rules of the namespace for the same host are merged, so that no one object says what holds.
fn check_alone(rule: &Rule<'_>) -> Result<(), Unsupported> {
    let is_merged = |other: &&Value| {
        namespace(other) == rule.target.namespace && host_of(other) == rule.host && !is_of(other, rule.target)
    };
    match of_kind(rule.neighbours, "DestinationRule").find(is_merged) {
        None => Ok(()),
        Some(other) => Err(Unsupported::new(
            format!("DestinationRule {} is for {} as well, and Istio merges the two", full_name(other), rule.host),
            format!("put what it says into one rule, or {ALL_AT_ONCE}"),
        )),
    }
}

fn host_of(other: &Value) -> String {
    qualified(spec(other)["host"].as_str().unwrap_or_default(), namespace(other))
}

/// Whether the callers of another namespace use the rule.
pub(super) fn check_governs(rule: &Rule<'_>, place: &str) -> Result<(), Unsupported> {
    let refuse = |reason: String| Err(Unsupported::new(reason, format!("name other namespaces, or {ALL_AT_ONCE}")));
    let own = &rule.target.namespace;
    if !is_beside_its_host(rule) {
        return refuse(format!("{} is no host of namespace {own}, and only callers there use the rule", rule.host));
    }
    if shown_to(rule.stable, own).is_some_and(|shown| !shown.contains(place)) {
        return refuse(format!("the rule is not shown to {place} (spec.exportTo)"));
    }
    match own_rule(rule, place) {
        None => Ok(()),
        Some(other) => {
            refuse(format!("the callers in {place} use DestinationRule {}, which is there", full_name(other)))
        }
    }
}

/// The rule that the callers of a namespace use instead.
pub(super) fn own_rule<'a>(rule: &Rule<'a>, place: &str) -> Option<&'a Value> {
    of_kind(rule.neighbours, "DestinationRule")
        .find(|other| namespace(other) == place && overlap(&host_of(other), rule.host))
}

fn is_beside_its_host(rule: &Rule<'_>) -> bool {
    let own = &rule.target.namespace;
    let has_host = |entry: &Value| {
        let hosts = spec(entry)["hosts"].as_array().into_iter().flatten();
        namespace(entry) == own && hosts.into_iter().any(|host| *host == *rule.host)
    };
    rule.host.ends_with(&format!(".{own}.svc.cluster.local")) || of_kind(rule.neighbours, "ServiceEntry").any(has_host)
}

/// What a version says, for the callers of one namespace.
pub(super) fn within(version: &Value, target: &Target, shown: &str) -> Value {
    let mut spec = version.clone();
    spec["host"] = qualified(version["host"].as_str().unwrap_or_default(), &target.namespace).into();
    spec["exportTo"] = serde_json::json!([shown]);
    spec
}

/// Nothing tells the versions apart where requests are counted.
pub(super) fn metrics_target(rule: &Rule<'_>, mechanism: meshward_model::Mechanism) -> MetricsTarget {
    MetricsTarget {
        hosts: vec![rule.host.to_owned()],
        ..MetricsTarget::uncounted(rule.target.mesh, mechanism, &rule.target.cluster)
    }
}
