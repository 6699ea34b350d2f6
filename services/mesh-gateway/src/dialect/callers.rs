//! Namespaces of callers as the unit of exposure: how many of them a weight is, and which.
//!
//! The namespaces of the plan stay the ones of the deployment ([`meshward_model::Baseline::facts`]), in their order, so
//! that a higher weight only adds some; one that is made later is stable.

use meshward_model::{Digest, Target, Weight};
use serde_json::{Value, json};

/// How many of so many namespaces: at least one, unless nobody shall be.
fn count(weight: Weight, all: usize) -> usize {
    match weight {
        Weight::ZERO => 0,
        weight => (all * usize::from(weight.basis_points()) / 10_000).max(1),
    }
}

/// The share that a weight is of so many namespaces.
pub(super) fn nominal_share(weight: Weight, all: usize) -> Weight {
    let basis_points = (count(weight, all) * 10_000).checked_div(all).unwrap_or_default();
    i64::try_from(basis_points).ok().and_then(|share| Weight::from_basis_points(share).ok()).unwrap_or(weight)
}

/// Those that get the canary at a weight, and the others.
pub(super) fn split(callers: &[String], weight: Weight) -> (&[String], &[String]) {
    callers.split_at(count(weight, callers.len()).min(callers.len()))
}

/// In an order that differs from object to object.
pub(super) fn shuffle(names: &mut [String], target: &Target) {
    names.sort_by_key(|name| Digest::of(&Value::from(format!("{}/{name}", target.key()))).to_string());
}

/// As what a plan remembers.
pub(super) fn to_facts(callers: &[String]) -> Value {
    json!({"namespaces": callers})
}

/// What a plan has remembered.
pub(super) fn of_facts(facts: &Value) -> Vec<String> {
    let names = facts["namespaces"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}
