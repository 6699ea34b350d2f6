//! NAMESPACE: a copy of the new version in some of the namespaces that call, where it takes the place of the live one.
//!
//! A copy is a whole rule under its own name, shown to its namespace alone. In the namespace of the live rule no copy
//! can stand, since Istio would merge the two: callers there are stable until the end.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Target, Weight};

use super::{ALL_AT_ONCE, copies, words};
use crate::{
    dialect::{
        Desired, Phase, Planned, Question, Unsupported, callers as chosen, direct,
        istio::{callers, copy_of},
        steps::{Wording, approved, baseline, gone, helper_name, planned, step},
    },
    object,
};

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let mut host = String::new();
    let rule = copies::rule(question, &mut host)?;
    let own = &question.target.namespace;
    for place in &question.audience.namespaces {
        if place == own {
            return Err(Unsupported::new(
                format!("a copy in {own} would be merged with the rule itself"),
                format!("name other namespaces, ask for SUBSET or INSTANCE, or {ALL_AT_ONCE}"),
            ));
        }
        copies::check_governs(&rule, place)?;
    }
    let names = callers::namespaces(question, |place| place == own || copies::check_governs(&rule, place).is_err())?;
    let exposed = |weight| format!("Callers in {}.", chosen::split(&names, weight).0.join(", "));
    let mechanism = Mechanism::Namespace;
    let share = |weight| chosen::nominal_share(weight, names.len());
    let wording = Wording { mechanism, share: &share, exposed: &exposed };
    let facts = chosen::to_facts(&names);
    let mut not_covered = callers::namespaces_not_covered();
    not_covered.push(format!("Callers in {own} itself are governed by the live version until 100 %."));
    not_covered.push("Each namespace that joins takes a write of its own.".to_owned());
    not_covered.extend(words::copies_not_covered(&rule));
    let plan = ExposurePlan {
        mechanism,
        reason: "By the caller's namespace: each caller is governed by exactly one whole version.".to_owned(),
        steps: planned(question, (&[], &facts), &wording, render)?,
        not_covered,
        alternatives: words::alternatives(mechanism),
        metrics_target: copies::metrics_target(&rule, mechanism),
    };
    Ok(Planned { facts, ..plan.into() })
}

fn copy(target: &Target, place: &str) -> Target {
    Target { namespace: place.to_owned(), name: helper_name(&target.name), ..target.clone() }
}

fn there(intent: &ExposureIntent, place: &str) -> Desired {
    let spec = copies::within(object::spec(&intent.canary), &intent.target, ".");
    copy_of(&copy(&intent.target, place), &intent.canary, spec)
}

fn all_gone<'a>(intent: &'a ExposureIntent, places: &'a [String]) -> impl Iterator<Item = Desired> + use<'a> {
    places.iter().map(|place| gone(&copy(&intent.target, place)))
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    let places = chosen::of_facts(&intent.baseline.facts);
    if intent.weight == Weight::FULL {
        let approved = approved(&intent.target, &intent.canary);
        return Ok(vec![Phase::Objects(vec![approved]), Phase::Objects(all_gone(intent, &places).collect())]);
    }
    let (with, without) = chosen::split(&places, intent.weight);
    let live = step(&intent.target, object::spec(stable).clone());
    let copies = with.iter().map(|place| there(intent, place)).chain(all_gone(intent, without));
    Ok(vec![Phase::Objects(std::iter::once(live).chain(copies).collect())])
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let places = chosen::of_facts(&intent.baseline.facts);
    vec![Phase::Objects(all_gone(intent, &places).chain([baseline(&intent.target)]).collect())]
}
