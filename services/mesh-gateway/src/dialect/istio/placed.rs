//! Copies of the new version in namespaces of callers, each kept there: what is written, and who reads what.
//!
//! Of the objects for one host Istio takes what stands in the caller's own namespace before what is shown to it. So a
//! copy takes the place of the live object, whole, for the callers of its namespace and for nobody else.

use meshward_model::{ExposureIntent, Target, Weight};
use serde_json::Value;

use super::copy_of;
use crate::{
    dialect::{
        Desired, Phase, Readers, Unsupported, callers, direct,
        steps::{approved, baseline, gone, helper_name, step},
    },
    object,
};

fn copy(target: &Target, place: &str) -> Target {
    Target { namespace: place.to_owned(), name: helper_name(&target.name), ..target.clone() }
}

fn all_gone<'a>(intent: &'a ExposureIntent, places: &'a [String]) -> impl Iterator<Item = Desired> + use<'a> {
    places.iter().map(|place| gone(&copy(&intent.target, place)))
}

/// The phases of a step; `spec` is that of a copy.
pub(super) fn render(intent: &ExposureIntent, spec: Value) -> Result<Vec<Phase>, Unsupported> {
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    let places = callers::of_facts(&intent.baseline.facts);
    if intent.weight == Weight::FULL {
        let approved = approved(&intent.target, &intent.canary);
        return Ok(vec![Phase::Objects(vec![approved]), Phase::Objects(all_gone(intent, &places).collect())]);
    }
    let (with, without) = callers::split(&places, intent.weight);
    let live = step(&intent.target, object::spec(stable).clone());
    let there = with.iter().map(|place| copy_of(&copy(&intent.target, place), &intent.canary, spec.clone()));
    Ok(vec![Phase::Objects(std::iter::once(live).chain(there).chain(all_gone(intent, without)).collect())])
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let places = callers::of_facts(&intent.baseline.facts);
    vec![Phase::Objects(all_gone(intent, &places).chain([baseline(&intent.target)]).collect())]
}

/// A copy is for its namespace. The live object is for all others while there are copies, also for those that get one
/// or lose one at this step: of them the copy tells.
pub(super) fn readers(intent: &ExposureIntent, target: &Target) -> Readers {
    if !intent.is_about(target) {
        return Readers { within: Some(target.namespace.clone()), except: Vec::new() };
    }
    let has_copies = ![Weight::ZERO, Weight::FULL].contains(&intent.weight);
    let except = if has_copies { callers::of_facts(&intent.baseline.facts) } else { Vec::new() };
    Readers { within: None, except }
}

/// What the readers of a copy had before it came.
pub(super) fn older(intent: &ExposureIntent, target: &Target) -> Vec<Value> {
    let places = callers::of_facts(&intent.baseline.facts);
    let is_there =
        intent.weight != Weight::FULL && callers::split(&places, intent.weight).0.contains(&target.namespace);
    let stable = intent.baseline.object.as_ref().filter(|_| is_there && !intent.is_about(target));
    stable.map(object::spec).cloned().into_iter().collect()
}
