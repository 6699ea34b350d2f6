//! All at once: the approved version as it is. Also the last step of every other mechanism.

use meshward_model::{Alternative, ExposurePlan, Mechanism, MetricsTarget, Operation, PlannedStep, PlannedWrite};
use meshward_model::{Target, Weight};
use serde_json::{Value, json};

use super::virtual_service::hosts;
use crate::{
    dialect::{Desired, Question, Unsupported},
    object,
};

pub(super) fn plan(question: &Question<'_>) -> Result<ExposurePlan, Unsupported> {
    if question.weights.iter().any(|weight| *weight != Weight::FULL) {
        return Err(only_full());
    }
    let Question { target, baseline, canary, .. } = *question;
    let (operation, reason) = match baseline.object {
        None => (Operation::Create, "the object does not exist yet, so there is no version to share the traffic with"),
        Some(_) => (Operation::Apply, "every step asks for all of the traffic"),
    };
    let write = PlannedWrite { target: target.clone(), operation, object: approved(target, canary).object };
    let step = PlannedStep {
        weight: Weight::FULL,
        nominal_share: Weight::FULL,
        writes: vec![write],
        exposed: "Everybody.".to_owned(),
    };
    Ok(ExposurePlan {
        mechanism: Mechanism::None,
        reason: format!("All at once: {reason}."),
        steps: question.weights.iter().map(|_| step.clone()).collect(),
        not_covered: vec!["There is no control to compare with: everybody gets the canary.".to_owned()],
        alternatives: vec![Alternative {
            mechanism: Mechanism::Request,
            reason: "Needs a live version to share the traffic with, and steps below 100 %.".to_owned(),
        }],
        metrics_target: MetricsTarget {
            mesh: target.mesh,
            mechanism: Mechanism::None,
            cluster: target.cluster.clone(),
            hosts: hosts(target, canary),
            canary_series: String::new(),
            control_series: String::new(),
        },
    })
}

pub(super) fn only_full() -> Unsupported {
    Unsupported::new("the mechanism NONE knows only the weight 100 %", "leave the mechanism out, or ask for 100 % only")
}

/// The approved version: its spec, labels and annotations.
pub(super) fn approved(target: &Target, canary: &Value) -> Desired {
    let mut object = skeleton(target);
    for field in ["labels", "annotations"] {
        if let Some(map) = object::metadata_map(canary, field) {
            object["metadata"][field] = Value::Object(map.clone());
        }
    }
    object["spec"] = object::spec(canary).clone();
    Desired { target: target.clone(), object, is_final: true }
}

/// An object with nothing but its name.
pub(super) fn skeleton(target: &Target) -> Value {
    json!({
        "apiVersion": target.api_version,
        "kind": target.kind,
        "metadata": {"name": target.name, "namespace": target.namespace},
    })
}
