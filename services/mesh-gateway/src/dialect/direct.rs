//! All at once: the approved version as it is.

use meshward_model::{Alternative, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Weight};

use serde_json::Value;

use super::{
    Phase, Planned, Question, Unsupported,
    steps::{Wording, approved, baseline, planned},
};

/// The plan; `hosts` are those whose requests the object governs.
pub(super) fn plan(question: &Question<'_>, hosts: Vec<String>) -> Result<Planned, Unsupported> {
    if !is_all_at_once(question) {
        return Err(only_full());
    }
    let reason = match question.baseline.object {
        None => "the object does not exist yet, so there is no version to share the traffic with",
        Some(_) => "every step asks for all of the traffic",
    };
    let wording = Wording { mechanism: Mechanism::None, share: &|weight| weight, exposed: &|_| String::new() };
    let mut steps = planned(question, (&[], &Value::Null), &wording, render)?;
    for step in &mut steps {
        "Everybody.".clone_into(&mut step.exposed);
    }
    let plan = ExposurePlan {
        mechanism: Mechanism::None,
        reason: format!("All at once: {reason}."),
        steps,
        not_covered: vec!["There is no control to compare with: everybody gets the canary.".to_owned()],
        alternatives: vec![Alternative {
            mechanism: Mechanism::Request,
            reason: "Needs a live version to share the traffic with, and steps below 100 %.".to_owned(),
        }],
        metrics_target: MetricsTarget {
            hosts,
            ..MetricsTarget::uncounted(question.target.mesh, Mechanism::None, &question.target.cluster)
        },
    };
    Ok(plan.into())
}

/// The phases of an intent without a mechanism.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    if intent.weight != Weight::FULL {
        return Err(only_full());
    }
    Ok(at_the_end(intent))
}

/// The one phase of an object that was changed in place, when the deployment ends.
pub(super) fn at_the_end(intent: &ExposureIntent) -> Vec<Phase> {
    vec![Phase::Objects(vec![approved(&intent.target, &intent.canary)])]
}

/// The way back of an object that was changed in place.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    vec![Phase::Objects(vec![baseline(&intent.target)])]
}

/// Whether every step asks for all of the traffic.
pub(super) fn is_all_at_once(question: &Question<'_>) -> bool {
    question.weights.iter().all(|weight| *weight == Weight::FULL)
}

pub(super) fn only_full() -> Unsupported {
    Unsupported::new("the mechanism NONE knows only the weight 100 %", "leave the mechanism out, or ask for 100 % only")
}
