//! A policy, read once and asked often.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Call, TrustDomains, Workload, rule,
    rule::{Place, Rule},
};

/// Whether a label that is not told is one that nobody knows, rather than absent.
pub type IsOpen<'a> = &'a dyn Fn(&str) -> bool;

/// What a policy does with a request that it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Lets it through.
    Allow,
    /// Refuses it.
    Deny,
    /// Asks a provider.
    Custom,
    /// Nothing: it is an audit or a dry run.
    Nothing,
}

/// A policy that cannot be evaluated: which, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("AuthorizationPolicy {name} cannot be evaluated: {why}")]
pub struct Invalid {
    /// "namespace/name".
    pub name: String,
    /// In one clause.
    pub why: String,
}

/// An AuthorizationPolicy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// "namespace/name".
    pub name: String,
    /// Its action.
    pub action: Action,
    namespace: String,
    selector: BTreeMap<String, String>,
    /// It is for a gateway or waypoint, not for sidecars.
    is_attached: bool,
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads an object of Istio's kind AuthorizationPolicy, for a mesh with these trust domains.
    ///
    /// # Errors
    /// [`Invalid`], for a field or value that has no meaning here.
    pub fn new(object: &Value, trust: &TrustDomains) -> Result<Self, Invalid> {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let namespace = text(&metadata["namespace"]);
        let name = format!("{namespace}/{}", text(&metadata["name"]));
        let invalid = |why: String| Invalid { name: name.clone(), why };
        let dry_run = metadata["annotations"]["istio.io/dry-run"].as_str();
        let action = match spec["action"].as_str().unwrap_or("ALLOW") {
            // As Go reads a truth value.
            _ if dry_run.is_some_and(|said| ["1", "t", "T", "true", "TRUE", "True"].contains(&said)) => Action::Nothing,
            "ALLOW" => Action::Allow,
            "DENY" => Action::Deny,
            "CUSTOM" => Action::Custom,
            "AUDIT" => Action::Nothing,
            other => return Err(invalid(format!("{other:?} is no action"))),
        };
        let rules = spec["rules"].as_array().into_iter().flatten();
        let place = Place { namespace: &namespace, trust };
        let rules = rules.map(|rule| Rule::new(rule, place)).collect::<Result<_, _>>().map_err(invalid)?;
        let labels = spec["selector"]["matchLabels"].as_object().into_iter().flatten();
        Ok(Self {
            name: name.clone(),
            action,
            selector: labels.map(|(key, value)| (key.clone(), text(value))).collect(),
            is_attached: ["targetRef", "targetRefs"].iter().any(|field| !spec[*field].is_null()),
            namespace,
            rules,
        })
    }

    /// Whether it is for a workload's sidecar: one of its own namespace, or of any if it lies in the root namespace.
    #[must_use]
    pub fn selects(&self, workload: &Workload, root: &str) -> bool {
        self.may_select(workload, root, &|_| false) == Some(true)
    }

    /// The same for a workload of which some labels are open; `None` = that depends on them.
    #[must_use]
    pub fn may_select(&self, workload: &Workload, root: &str, is_open: IsOpen<'_>) -> Option<bool> {
        if self.is_attached || self.namespace != workload.namespace && self.namespace != root {
            return Some(false);
        }
        rule::every(self.selector.iter().map(|(key, value)| match workload.labels.get(key) {
            Some(own) => Some(own == value),
            None if is_open(key) => None,
            None => Some(false),
        }))
    }

    /// Whether any of its rules meets a call. Without rules it meets none.
    #[must_use]
    pub fn meets(&self, call: &Call) -> Option<bool> {
        rule::any(self.rules.iter().map(|rule| rule.meets(call)))
    }
}
