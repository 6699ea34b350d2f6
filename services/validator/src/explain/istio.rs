//! Istio's AuthorizationPolicy.
//!
//! Rules are joined by OR. In a rule `from`, `to` and `when` are joined by AND; the sources of `from` and the
//! operations of `to` by OR; the fields of one source or operation by AND; the values of one field by OR.

mod rule;
mod traps;

use self::rule::Rule;
use super::{
    Explanation,
    condition::Condition,
    words::{self, labels},
};
use crate::{
    report::{list, quote},
    rules::{Object, field::Field},
};

/// The namespace whose policies are for all namespaces, unless the mesh is configured otherwise.
const ROOT: &str = "istio-system";

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
    Audit,
    Custom,
}

/// Which requests a policy is about.
struct Scope {
    /// "pods with app=cart in namespace shop".
    what: String,
    /// All workloads of the mesh.
    is_mesh: bool,
    /// No selector and no target.
    is_everything: bool,
}

/// The policy as a sentence.
pub(super) fn explain(object: &Object<'_>) -> Explanation {
    let spec = object.root().get("spec");
    let scope = scope(&spec, &object.head.namespace);
    let action = match spec.get("action").text() {
        "DENY" => Action::Deny,
        "AUDIT" => Action::Audit,
        "CUSTOM" => Action::Custom,
        _ => Action::Allow,
    };
    let rules: Vec<Rule> = spec.get("rules").items().iter().map(Rule::read).collect();
    let mut explanation = Explanation::new(sentence(action, &scope, &rules, &spec));
    traps::find(action, &scope, &rules, object, &mut explanation);
    explanation
}

fn sentence(action: Action, scope: &Scope, rules: &[Rule], spec: &Field<'_>) -> String {
    let what = &scope.what;
    if rules.is_empty() {
        return match action {
            Action::Allow => format!(
                "ALLOW nothing: every request to {what} is denied once this policy exists, unless another ALLOW policy lets it \
                 in."
            ),
            Action::Deny | Action::Audit | Action::Custom => format!("no rule, so no request to {what} is affected."),
        };
    }
    let everything = rules.iter().any(|rule| rule.condition.is_always());
    let conditions = rules.iter().map(|rule| rule.condition.clone()).collect();
    let which = if everything {
        format!("every request to {what}")
    } else {
        format!("a request to {what} if {}", Condition::Any(conditions).simple())
    };
    match action {
        Action::Allow if everything => format!("ALLOW {which}."),
        Action::Allow => format!(
            "ALLOW {which}. Everything else is denied there once this policy exists, unless another ALLOW policy lets \
             it in."
        ),
        Action::Deny => format!("DENY {which}, whatever ALLOW policies say. It lets nothing in by itself."),
        Action::Audit => format!("AUDIT {which}: it is recorded, and neither let in nor denied by this policy."),
        Action::Custom => {
            let provider = quote(spec.get("provider").get("name").text());
            format!(
                "ASK the provider {provider} about {which}; what it refuses is denied, and the rest is up to \
                 DENY and ALLOW policies."
            )
        }
    }
}

fn scope(spec: &Field<'_>, namespace: &str) -> Scope {
    let here = words::namespace(namespace);
    let mut targets = spec.get("targetRefs").items();
    targets.extend(Some(spec.get("targetRef")).filter(Field::is_set));
    if !targets.is_empty() {
        let names: Vec<String> = targets
            .iter()
            .map(|target| format!("{} {}", target.get("kind").text(), quote(target.get("name").text())))
            .collect();
        let what = format!("whatever goes through {} in {here}", list(&names, " or "));
        return Scope { what, is_mesh: false, is_everything: false };
    }
    let is_mesh = namespace == ROOT;
    let where_ = if is_mesh { "the whole mesh" } else { &here };
    match labels(&spec.get("selector")) {
        Some(labels) => Scope { what: format!("pods with {labels} in {where_}"), is_mesh, is_everything: false },
        None => Scope { what: format!("any workload of {where_}"), is_mesh, is_everything: true },
    }
}
