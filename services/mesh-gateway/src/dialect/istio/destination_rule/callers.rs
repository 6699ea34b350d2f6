//! INSTANCE: the new version for some of the pods that call.
//!
//! A rule can be for the callers with certain labels of its own namespace (`workloadSelector`), and for those it takes
//! the place of one without, whole: nothing is inherited, not even subsets. So a second rule with all that the new
//! version says is for the pods with the cohort's label; a pod without it is governed by the live one.
//!
//! A trap lies where the callers are in another namespace than the rule: a rule there, for whichever pods, makes Istio
//! look no further, and the other pods there would be left with none. So a copy of the live version for all goes before
//! it, says the new version at the end until the selecting one is gone, and goes after it.
//!
//! A second trap is Istio's merging of rules that are shown to the same namespaces. A rule with a selector counts as
//! shown to `.`, and one that says the same of itself would be merged into it and be gone for everybody else.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Target, Weight};
use serde_json::{Value, json};

use super::{ALL_AT_ONCE, Rule, copies, shown_to, words};
use crate::{
    cohorts::nominal_share,
    dialect::{
        CANARY, Desired, Phase, Planned, Question, Unsupported, callers as namespaces, direct,
        istio::{callers, copy_of},
        steps::{Wording, approved, baseline, cohort_key, gone, helper_name, planned, step},
    },
    object,
};

/// Two helpers are made of a name; one as long as this leaves room for both.
const LONGEST_NAME: usize = 200;

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let mut host = String::new();
    let rule = copies::rule(question, &mut host)?;
    let place = callers::namespace(question);
    check(&rule, place)?;
    let count = callers::count(question)?;
    let key = cohort_key(question.target);
    let exposed = |weight| {
        let share = nominal_share(weight, count);
        format!("The callers in {place} with the label {key}={CANARY}: {share} of the {count} pods that there are now.")
    };
    let mechanism = Mechanism::Instance;
    let wording = Wording { mechanism, share: &|weight| nominal_share(weight, count), exposed: &exposed };
    let facts = namespaces::to_facts(&[place.to_owned()]);
    let mut not_covered = callers::pods_not_covered(place);
    not_covered.extend(words::copies_not_covered(&rule));
    let plan = ExposurePlan {
        mechanism,
        reason: "By the pods that call: each of them is governed by exactly one whole version.".to_owned(),
        steps: planned(question, (&[], &facts), &wording, render)?,
        not_covered,
        alternatives: words::alternatives(mechanism),
        metrics_target: copies::metrics_target(&rule, mechanism),
    };
    Ok(Planned { facts, ..plan.into() })
}

fn check(rule: &Rule<'_>, place: &str) -> Result<(), Unsupported> {
    let own = &rule.target.namespace;
    if rule.target.name.len() > LONGEST_NAME {
        let reason = format!("the name of {} is too long to make two others of it", rule.target);
        return Err(Unsupported::new(reason, ALL_AT_ONCE));
    }
    if place != own {
        return copies::check_governs(rule, place);
    }
    if shown_to(rule.stable, own).is_some_and(|shown| !shown.contains(own)) {
        return Err(Unsupported::new(
            format!("the rule is not shown to {own} itself (spec.exportTo), so the callers there do not use it"),
            "name the namespace of the callers in audience.namespaces",
        ));
    }
    if rule.stable["exportTo"].as_array().is_some_and(|names| names.contains(&json!("."))) {
        return Err(Unsupported::new(
            "the rule is shown to \".\" (spec.exportTo), and Istio would merge it with one for selected callers, which \
             would leave all others without",
            format!("write {own:?} in its place, which means the same, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(())
}

/// The rules beside the live one.
struct Copies<'a> {
    intent: &'a ExposureIntent,
    place: String,
}

impl<'a> Copies<'a> {
    fn of(intent: &'a ExposureIntent) -> Self {
        Self { intent, place: callers::divided(intent, None).namespace }
    }

    fn target(&self, name: &str) -> Target {
        Target { namespace: self.place.clone(), name: helper_name(name), ..self.intent.target.clone() }
    }

    /// For the canaries.
    fn selecting(&self) -> Target {
        self.target(&self.intent.target.name)
    }

    /// For all others, where the live one does not govern them any more.
    fn for_all(&self) -> Option<Target> {
        let target = &self.intent.target;
        (self.place != target.namespace).then(|| self.target(&format!("{}-all", target.name)))
    }

    fn for_all_as(&self, version: &Value) -> Option<Desired> {
        let spec = copies::within(object::spec(version), &self.intent.target, &self.place);
        Some(copy_of(&self.for_all()?, version, spec))
    }

    fn there(&self, stable: &Value) -> Vec<Desired> {
        let canary = &self.intent.canary;
        let mut spec = copies::within(object::spec(canary), &self.intent.target, ".");
        spec["workloadSelector"] = json!({"matchLabels": {cohort_key(&self.intent.target): CANARY}});
        self.for_all_as(stable).into_iter().chain([copy_of(&self.selecting(), canary, spec)]).collect()
    }

    /// The selecting one first: what is for all others must not be missing while it is there.
    fn gone(&self) -> Vec<Desired> {
        [self.selecting()].iter().chain(&self.for_all()).map(gone).collect()
    }
}

/// The phases of a step: both versions before any pod is the canary.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    let copies = Copies::of(intent);
    if intent.weight == Weight::FULL {
        let approved = std::iter::once(approved(&intent.target, &intent.canary));
        let objects = approved.chain(copies.for_all_as(&intent.canary)).collect();
        return Ok(vec![Phase::Objects(objects), Phase::Objects(copies.gone()), callers::cohorts(intent, None)]);
    }
    let live = step(&intent.target, object::spec(stable).clone());
    let copies = if intent.weight == Weight::ZERO { copies.gone() } else { copies.there(stable) };
    let objects = std::iter::once(live).chain(copies).collect();
    Ok(vec![Phase::Objects(objects), callers::cohorts(intent, Some(intent.weight))])
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let mut objects = Copies::of(intent).gone();
    objects.push(baseline(&intent.target));
    vec![Phase::Objects(objects), callers::cohorts(intent, None)]
}
