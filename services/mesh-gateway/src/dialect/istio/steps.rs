//! What every way of exposing an object of Istio's has in common: one object, changed in place, a write a step.

use meshward_model::{Operation, PlannedStep, PlannedWrite, Target, Weight};
use serde_json::Value;

use super::direct;
use crate::dialect::{Desired, Question};

/// What would work for a change that no share of the traffic can be given.
pub(super) const ALL_AT_ONCE: &str = "release it all at once (mechanism NONE, 100 %)";

/// The steps of a plan. Below 100 % a mechanism says with `spec` what stands in the object, with `share` what its
/// granularity makes of a weight, and with `exposed` who gets the canary.
pub(super) fn planned(
    question: &Question<'_>,
    spec: impl Fn(Weight) -> Value,
    share: impl Fn(Weight) -> Weight,
    exposed: impl Fn(Weight) -> String,
) -> Vec<PlannedStep> {
    let step = |weight: Weight| {
        let desired = match weight {
            Weight::FULL => direct::approved(question.target, question.canary),
            _ => desired(question.target, spec(weight)),
        };
        let (target, object) = (desired.target, desired.object);
        PlannedStep {
            weight,
            nominal_share: share(weight),
            writes: vec![PlannedWrite { target, operation: Operation::Apply, object }],
            exposed: match weight {
                Weight::ZERO => "Nobody.".to_owned(),
                Weight::FULL => "Everybody; the object is the approved version.".to_owned(),
                weight => exposed(weight),
            },
        }
    };
    question.weights.iter().copied().map(step).collect()
}

/// The object of a step below 100 %.
pub(super) fn desired(target: &Target, spec: Value) -> Desired {
    let mut object = direct::skeleton(target);
    object["spec"] = spec;
    Desired { target: target.clone(), object, is_final: false }
}
