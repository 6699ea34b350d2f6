//! A WorkloadEntry: the new version beside the live one, and the weight shared between the two.
//!
//! What else its service has is not touched, so together the two keep the weight that the one had. A weight of 1, which
//! is also that of who has none, cannot be divided.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, Target, Weight};
use serde_json::{Value, json};

use super::{alternatives, check_places, metrics_target, no_versions, not_covered, weight};
use crate::{
    dialect::{
        Phase, Planned, Question, Unsupported, direct,
        istio::copy_of,
        steps::{ALL_AT_ONCE, Wording, approved, baseline, gone, helper_name, planned, step},
    },
    object,
};

/// Whoever registers itself writes its entry itself.
const REGISTERED: &str = "istio.io/autoRegistrationGroup";

pub(in crate::dialect::istio) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let Some(live) = question.baseline.object.as_ref().filter(|_| !question.canary.is_null()) else {
        return Err(no_versions(question));
    };
    if object::metadata_map(live, "annotations").is_some_and(|map| map.contains_key(REGISTERED)) {
        return Err(Unsupported::new(
            format!("{} was made by a workload that registered itself ({REGISTERED})", question.target),
            "release its WorkloadGroup, and let workloads register anew",
        ));
    }
    let (stable, canary) = (object::spec(live), object::spec(question.canary));
    if stable["address"] == canary["address"] && stable["ports"] == canary["ports"] {
        return Err(Unsupported::new(
            "both versions have one address and the same ports, and callers know an endpoint by these: of two they \
             ignore one",
            format!("change the address as well, or {ALL_AT_ONCE}"),
        ));
    }
    check_places([stable, canary].into_iter())?;
    for share in question.weights.iter().filter(|share| ![Weight::ZERO, Weight::FULL].contains(share)) {
        check_divisible(stable, canary, *share)?;
    }
    let exposed = |share: Weight| {
        let (kept, given) = divided(stable, canary, share);
        format!("Of what reaches this endpoint, {given} of {} parts go to the new version's.", kept + given)
    };
    let share = |share: Weight| {
        let (kept, given) = divided(stable, canary, share);
        let basis_points = (given * 10_000 + (kept + given) / 2).checked_div(kept + given).unwrap_or_default();
        i64::try_from(basis_points).ok().and_then(|share| Weight::from_basis_points(share).ok()).unwrap_or(share)
    };
    let mechanism = Mechanism::Weight;
    let wording = Wording { mechanism, share: &share, exposed: &exposed };
    let mut admitted = not_covered();
    admitted.push("The share is one of what reaches this endpoint, not of the whole service.".to_owned());
    admitted.push(
        "It is none where callers balance by RANDOM, by a hash or by locality, which do not look at weights alone."
            .to_owned(),
    );
    let plan = ExposurePlan {
        mechanism,
        reason: "By weights: the new version stands beside the live one, and the two share its weight.".to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered: admitted,
        alternatives: alternatives(Mechanism::Weight, "An entry is read by all callers alike."),
        metrics_target: metrics_target(question, Mechanism::Weight, Vec::new()),
    };
    Ok(plan.into())
}

/// What the live version keeps of its weight, and what the new one gets of its own.
fn divided(stable: &Value, canary: &Value, share: Weight) -> (u64, u64) {
    let part = |weight: u64, basis_points: u64| (weight * basis_points + 5_000) / 10_000;
    let share = u64::from(share.basis_points());
    (part(weight(stable), 10_000 - share), part(weight(canary), share))
}

fn check_divisible(stable: &Value, canary: &Value, share: Weight) -> Result<(), Unsupported> {
    let (kept, given) = divided(stable, canary, share);
    if kept > 0 && given > 0 {
        return Ok(());
    }
    Err(Unsupported::new(
        format!(
            "a weight of {} to {} cannot be divided at {share}: one part would be 0, which Istio reads as 1",
            weight(stable),
            weight(canary)
        ),
        format!("first give this entry and all others of its service a hundred times their weight, or {ALL_AT_ONCE}"),
    ))
}

fn copy(target: &Target) -> Target {
    Target { name: helper_name(&target.name), ..target.clone() }
}

/// The phases of a step.
pub(in crate::dialect::istio) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    let (stable, canary) = (object::spec(stable), object::spec(&intent.canary));
    let (target, copy) = (&intent.target, copy(&intent.target));
    let with_weight = |version: &Value, weight: u64| {
        let mut spec = version.clone();
        spec["weight"] = json!(weight);
        spec
    };
    Ok(match intent.weight {
        Weight::FULL => {
            vec![Phase::Objects(vec![approved(target, &intent.canary)]), Phase::Objects(vec![gone(&copy)])]
        }
        Weight::ZERO => vec![Phase::Objects(vec![step(target, stable.clone()), gone(&copy)])],
        share => {
            let (kept, given) = divided(stable, canary, share);
            let live = step(target, with_weight(stable, kept));
            vec![Phase::Objects(vec![live, copy_of(&copy, &intent.canary, with_weight(canary, given))])]
        }
    })
}

/// The phases of the way back.
pub(in crate::dialect::istio) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    vec![Phase::Objects(vec![gone(&copy(&intent.target)), baseline(&intent.target)])]
}
