//! What an AuthorizationPolicy does that its author may not have meant.

use super::{Action, ROOT, Rule, Scope};
use crate::{
    explain::{Explanation, words},
    report::list,
    rules::Object,
};

/// Marks a policy that is tried and not enforced.
const DRY_RUN: &str = "istio.io/dry-run";

/// Adds the warnings and notes.
pub(super) fn find(action: Action, scope: &Scope, rules: &[Rule], object: &Object<'_>, out: &mut Explanation) {
    emptiness(action, scope, rules, out);
    split_rule(rules, out);
    negation(action, rules, out);
    protocol(action, rules, out);
    knowledge(rules, out);
    if scope.is_mesh {
        out.note(format!("a policy in {ROOT} is for all namespaces, unless the mesh has another root namespace"));
    }
    if object.root().get("metadata").get("annotations").get(DRY_RUN).text() == "true" {
        out.note(format!("{DRY_RUN} is set, so the policy is only logged and not enforced"));
    }
}

/// Rules that are empty, and an empty list of them.
fn emptiness(action: Action, scope: &Scope, rules: &[Rule], out: &mut Explanation) {
    if rules.is_empty() {
        match action {
            Action::Allow if scope.is_everything => {
                let where_ = if scope.is_mesh { "the whole mesh" } else { "the whole namespace" };
                out.warn(format!("without rules and without a selector it closes {where_}"));
            }
            Action::Allow => out.warn("without rules it closes these workloads"),
            Action::Deny | Action::Audit | Action::Custom => out.warn("without rules it has no effect"),
        }
    }
    let empty: Vec<usize> = numbers(rules, |rule| rule.condition.is_always());
    if empty.is_empty() {
        return;
    }
    let which = words::rules(&empty);
    let effect = match action {
        Action::Allow => "lets everyone in, without any identity too",
        Action::Deny => "lets nothing through",
        Action::Audit | Action::Custom => "is about every request",
    };
    let rest = if rules.len() > empty.len() { "; the other rules change nothing" } else { "" };
    out.warn(format!("{which} demands nothing, so the policy {effect}{rest}"));
}

/// `from` in one rule and `to` in another: one dash too many makes two rules of one.
fn split_rule(rules: &[Rule], out: &mut Explanation) {
    let who = numbers(rules, |rule| rule.has_from && !rule.has_to);
    let what = numbers(rules, |rule| rule.has_to && !rule.has_from);
    if who.is_empty() || what.is_empty() {
        return;
    }
    let (who, what) = (words::rules(&who), words::rules(&what));
    out.warn(format!(
        "{who} only says from whom and {what} only says to what, and rules are joined by OR; if both must hold, write from \
         and to in one rule, with one dash"
    ));
}

/// Sources that say only who is not meant.
fn negation(action: Action, rules: &[Rule], out: &mut Explanation) {
    let negative = numbers(rules, |rule| rule.is_negative);
    if negative.is_empty() {
        return;
    }
    let which = words::rules(&negative);
    match action {
        Action::Allow => out.warn(format!(
            "a source of {which} only says who is not let in, so everyone else is, callers without mutual TLS too"
        )),
        Action::Deny => out
            .note(format!("{which} also denies callers whose identity is unknown, for they are not the excepted ones")),
        Action::Audit | Action::Custom => {}
    }
}

/// Fields that a connection without HTTP does not have.
fn protocol(action: Action, rules: &[Rule], out: &mut Explanation) {
    let mut fields: Vec<&str> = rules.iter().flat_map(|rule| &rule.http).map(String::as_str).collect();
    fields.sort_unstable();
    fields.dedup();
    fields.truncate(10);
    if fields.is_empty() {
        return;
    }
    let fields = list(&fields, " and ");
    match action {
        Action::Allow => out.note(format!(
            "on a port that is not HTTP nothing can match {fields}, so the rules that name them let nothing in there"
        )),
        Action::Deny => out.note(format!(
            "on a port that is not HTTP the rules are applied without {fields}, so more is denied there than is said here"
        )),
        Action::Audit | Action::Custom => out.note(format!("{fields} can be compared on HTTP ports only")),
    }
}

/// What has to be set up elsewhere for the rules to see anything.
fn knowledge(rules: &[Rule], out: &mut Explanation) {
    if rules.iter().any(|rule| rule.by_identity) {
        out.note("principals, namespaces and service accounts are known of callers with mutual TLS only");
    }
    if rules.iter().any(|rule| rule.by_token) {
        out.note("tokens are checked only where a RequestAuthentication says how");
    }
    if rules.iter().any(|rule| rule.by_port) {
        out.note("ports are those of the pods, not of the Service");
    }
}

/// The rules of which something is true, counted from 1.
fn numbers(rules: &[Rule], is: impl Fn(&Rule) -> bool) -> Vec<usize> {
    rules.iter().enumerate().filter(|(_, rule)| is(rule)).map(|(index, _)| index + 1).collect()
}
