//! Plans, intents and proofs of exposure.

use std::time::Duration;

use meshward_model as model;

use super::{ConvertError, duration, from_duration, from_timestamp, json, mechanism, required, timestamp, weight};
use crate::{gateway::v1 as gateway, types::v1 as types};

impl From<model::Baseline> for gateway::Baseline {
    fn from(baseline: model::Baseline) -> Self {
        let object = baseline.object.as_ref();
        let version = object.and_then(|object| object["metadata"]["resourceVersion"].as_str());
        Self {
            absent: object.is_none(),
            resource_version: version.unwrap_or_default().to_owned(),
            object_json: text(object),
            related: baseline.related.into_iter().map(Into::into).collect(),
            facts_json: if baseline.facts.is_null() { String::new() } else { baseline.facts.to_string() },
        }
    }
}

impl TryFrom<gateway::Baseline> for model::Baseline {
    type Error = ConvertError;

    fn try_from(baseline: gateway::Baseline) -> Result<Self, ConvertError> {
        let related = baseline.related.into_iter().map(TryInto::try_into).collect::<Result<_, ConvertError>>();
        Ok(Self {
            object: object(baseline.absent, &baseline.object_json)?,
            related: related.map_err(|error| error.within("related"))?,
            facts: match baseline.facts_json.as_str() {
                "" => serde_json::Value::Null,
                facts => json("facts_json", facts)?,
            },
        })
    }
}

impl From<model::RelatedBaseline> for gateway::RelatedBaseline {
    fn from(related: model::RelatedBaseline) -> Self {
        Self {
            absent: related.object.is_none(),
            object_json: text(related.object.as_ref()),
            target: Some(related.target.into()),
        }
    }
}

impl TryFrom<gateway::RelatedBaseline> for model::RelatedBaseline {
    type Error = ConvertError;

    fn try_from(related: gateway::RelatedBaseline) -> Result<Self, ConvertError> {
        Ok(Self {
            target: required("target", related.target)?.try_into().map_err(|e: ConvertError| e.within("target"))?,
            object: object(related.absent, &related.object_json)?,
        })
    }
}

fn text(object: Option<&serde_json::Value>) -> String {
    object.map(ToString::to_string).unwrap_or_default()
}

/// A canary version; null = it is that the object is gone.
///
/// # Errors
/// If it is both gone and there, or no JSON.
pub fn canary(absent: bool, text: &str) -> Result<serde_json::Value, ConvertError> {
    match (absent, text) {
        (true, "") => Ok(serde_json::Value::Null),
        (true, _) => Err(ConvertError::new("canary_absent", "contradicts canary_json; leave one of them out")),
        (false, text) => json("canary_json", text),
    }
}

fn object(absent: bool, text: &str) -> Result<Option<serde_json::Value>, ConvertError> {
    if absent { Ok(None) } else { json("object_json", text).map(Some) }
}

impl From<model::ExposureIntent> for gateway::ExposureIntent {
    fn from(intent: model::ExposureIntent) -> Self {
        Self {
            deployment_id: intent.deployment_id,
            generation: i64::try_from(intent.generation).unwrap_or(i64::MAX),
            target: Some(intent.target.into()),
            baseline: Some(intent.baseline.into()),
            canary_absent: intent.canary.is_null(),
            canary_json: text(Some(&intent.canary).filter(|canary| !canary.is_null())),
            mechanism: types::Mechanism::from(intent.mechanism).into(),
            weight_bp: intent.weight.basis_points().into(),
        }
    }
}

impl TryFrom<gateway::ExposureIntent> for model::ExposureIntent {
    type Error = ConvertError;

    fn try_from(intent: gateway::ExposureIntent) -> Result<Self, ConvertError> {
        let mechanism = mechanism(intent.mechanism())?;
        if intent.deployment_id.is_empty() {
            return Err(ConvertError::new("deployment_id", "is required"));
        }
        let generation = u64::try_from(intent.generation).ok().filter(|generation| *generation > 0);
        Ok(Self {
            deployment_id: intent.deployment_id,
            generation: generation.ok_or_else(|| ConvertError::new("generation", "is at least 1"))?,
            target: required("target", intent.target)?.try_into().map_err(|e: ConvertError| e.within("target"))?,
            baseline: required("baseline", intent.baseline)?
                .try_into()
                .map_err(|e: ConvertError| e.within("baseline"))?,
            canary: canary(intent.canary_absent, &intent.canary_json)?,
            mechanism,
            weight: weight("weight_bp", intent.weight_bp)?,
        })
    }
}

impl From<model::MetricsTarget> for gateway::MetricsTarget {
    fn from(target: model::MetricsTarget) -> Self {
        let mesh = match target.mesh {
            model::Mesh::Istio => types::Mesh::Istio,
            model::Mesh::Linkerd => types::Mesh::Linkerd,
        };
        Self {
            mesh: mesh.into(),
            mechanism: types::Mechanism::from(target.mechanism).into(),
            cluster: target.cluster,
            hosts: target.hosts,
            canary_series: target.canary_series,
            control_series: target.control_series,
            cohort_label: target.cohort_label,
            canary_clusters: target.canary_clusters,
            control_clusters: target.control_clusters,
            pod_labels: target.pod_labels.into_iter().collect(),
        }
    }
}

impl TryFrom<gateway::MetricsTarget> for model::MetricsTarget {
    type Error = ConvertError;

    fn try_from(target: gateway::MetricsTarget) -> Result<Self, ConvertError> {
        let mesh = match target.mesh() {
            types::Mesh::Istio => model::Mesh::Istio,
            types::Mesh::Linkerd => model::Mesh::Linkerd,
            types::Mesh::Unspecified => return Err(ConvertError::new("mesh", "is required")),
        };
        Ok(Self {
            mesh,
            mechanism: mechanism(target.mechanism())?,
            cluster: target.cluster,
            hosts: target.hosts,
            canary_series: target.canary_series,
            control_series: target.control_series,
            cohort_label: target.cohort_label,
            canary_clusters: target.canary_clusters,
            control_clusters: target.control_clusters,
            pod_labels: target.pod_labels.into_iter().collect(),
        })
    }
}

impl From<model::PlannedWrite> for gateway::PlannedWrite {
    fn from(write: model::PlannedWrite) -> Self {
        let operation = match write.operation {
            model::Operation::Apply => "apply",
            model::Operation::Create => "create",
            model::Operation::Delete => "delete",
        };
        Self {
            target: Some(write.target.into()),
            operation: operation.to_owned(),
            object_json: write.object.to_string(),
            phase: count(write.phase),
        }
    }
}

impl TryFrom<gateway::PlannedWrite> for model::PlannedWrite {
    type Error = ConvertError;

    fn try_from(write: gateway::PlannedWrite) -> Result<Self, ConvertError> {
        let operation = match write.operation.as_str() {
            "apply" => model::Operation::Apply,
            "create" => model::Operation::Create,
            "delete" => model::Operation::Delete,
            other => return Err(ConvertError::new("operation", format!("{other:?} is not apply, create or delete"))),
        };
        Ok(Self {
            target: required("target", write.target)?.try_into().map_err(|e: ConvertError| e.within("target"))?,
            operation,
            object: json("object_json", &write.object_json)?,
            phase: u32::try_from(write.phase).unwrap_or(0),
        })
    }
}

impl From<model::PlannedCohort> for gateway::PlannedCohort {
    fn from(cohort: model::PlannedCohort) -> Self {
        Self {
            phase: count(cohort.phase),
            namespace: cohort.namespace,
            selector: cohort.selector,
            label_key: cohort.label_key,
            share_bp: cohort.share.map_or(-1, |share| share.basis_points().into()),
        }
    }
}

impl TryFrom<gateway::PlannedCohort> for model::PlannedCohort {
    type Error = ConvertError;

    fn try_from(cohort: gateway::PlannedCohort) -> Result<Self, ConvertError> {
        Ok(Self {
            phase: u32::try_from(cohort.phase).unwrap_or(0),
            namespace: cohort.namespace,
            selector: cohort.selector,
            label_key: cohort.label_key,
            share: if cohort.share_bp == -1 { None } else { Some(weight("share_bp", cohort.share_bp)?) },
        })
    }
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl From<model::PlannedPhase> for gateway::PlannedPhase {
    fn from(phase: model::PlannedPhase) -> Self {
        let purpose = match phase.purpose {
            model::Purpose::Prepare => gateway::PhasePurpose::Prepare,
            model::Purpose::Expose => gateway::PhasePurpose::Expose,
            model::Purpose::Withdraw => gateway::PhasePurpose::Withdraw,
            model::Purpose::Promote => gateway::PhasePurpose::Promote,
            model::Purpose::Cleanup => gateway::PhasePurpose::CleanUp,
        };
        Self {
            phase: count(phase.phase),
            purpose: purpose.into(),
            most_writes: count(phase.most_writes),
            exposed: phase.exposed,
        }
    }
}

impl TryFrom<gateway::PlannedPhase> for model::PlannedPhase {
    type Error = ConvertError;

    fn try_from(phase: gateway::PlannedPhase) -> Result<Self, ConvertError> {
        let purpose = match phase.purpose() {
            gateway::PhasePurpose::Prepare => model::Purpose::Prepare,
            gateway::PhasePurpose::Expose => model::Purpose::Expose,
            gateway::PhasePurpose::Withdraw => model::Purpose::Withdraw,
            gateway::PhasePurpose::Promote => model::Purpose::Promote,
            gateway::PhasePurpose::CleanUp => model::Purpose::Cleanup,
            gateway::PhasePurpose::Unspecified => return Err(ConvertError::new("purpose", "is not known")),
        };
        Ok(Self {
            phase: u32::try_from(phase.phase).unwrap_or(0),
            purpose,
            most_writes: u32::try_from(phase.most_writes).unwrap_or(0),
            exposed: phase.exposed,
        })
    }
}

impl From<model::PlannedStep> for gateway::PlannedStep {
    fn from(step: model::PlannedStep) -> Self {
        Self {
            weight_bp: step.weight.basis_points().into(),
            nominal_share_bp: step.nominal_share.basis_points().into(),
            writes: step.writes.into_iter().map(Into::into).collect(),
            exposed: step.exposed,
            cohorts: step.cohorts.into_iter().map(Into::into).collect(),
            phases: step.phases.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<gateway::PlannedStep> for model::PlannedStep {
    type Error = ConvertError;

    fn try_from(step: gateway::PlannedStep) -> Result<Self, ConvertError> {
        Ok(Self {
            weight: weight("weight_bp", step.weight_bp)?,
            nominal_share: weight("nominal_share_bp", step.nominal_share_bp)?,
            writes: step.writes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            exposed: step.exposed,
            cohorts: step.cohorts.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            phases: step.phases.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<model::ExposurePlan> for gateway::ExposurePlan {
    fn from(plan: model::ExposurePlan) -> Self {
        let alternatives = plan.alternatives.into_iter().map(|alternative| gateway::Alternative {
            mechanism: types::Mechanism::from(alternative.mechanism).into(),
            reason: alternative.reason,
        });
        Self {
            mechanism: types::Mechanism::from(plan.mechanism).into(),
            reason: plan.reason,
            steps: plan.steps.into_iter().map(Into::into).collect(),
            not_covered: plan.not_covered,
            alternatives: alternatives.collect(),
            metrics_target: Some(plan.metrics_target.into()),
        }
    }
}

impl TryFrom<gateway::ExposurePlan> for model::ExposurePlan {
    type Error = ConvertError;

    fn try_from(plan: gateway::ExposurePlan) -> Result<Self, ConvertError> {
        let chosen = mechanism(plan.mechanism())?;
        let alternatives = plan.alternatives.into_iter().map(|alternative| {
            Ok(model::Alternative { mechanism: mechanism(alternative.mechanism())?, reason: alternative.reason })
        });
        Ok(Self {
            mechanism: chosen,
            reason: plan.reason,
            alternatives: alternatives.collect::<Result<_, ConvertError>>()?,
            steps: plan.steps.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            not_covered: plan.not_covered,
            metrics_target: required("metrics_target", plan.metrics_target)?.try_into()?,
        })
    }
}

impl From<model::AppliedObject> for gateway::AppliedObject {
    fn from(object: model::AppliedObject) -> Self {
        Self {
            target: Some(object.target.into()),
            resource_version: object.resource_version,
            object_generation: object.object_generation,
            absent: object.absent,
            pods_version: object.pods_version,
        }
    }
}

impl TryFrom<gateway::AppliedObject> for model::AppliedObject {
    type Error = ConvertError;

    fn try_from(object: gateway::AppliedObject) -> Result<Self, ConvertError> {
        Ok(Self {
            target: required("target", object.target)?.try_into().map_err(|e: ConvertError| e.within("target"))?,
            resource_version: object.resource_version,
            object_generation: object.object_generation,
            absent: object.absent,
            pods_version: object.pods_version,
        })
    }
}

impl From<model::PropagationProof> for gateway::PropagationProof {
    fn from(proof: model::PropagationProof) -> Self {
        let state = match proof.state {
            model::PropagationState::Live => gateway::PropagationState::Live,
            model::PropagationState::Pending => gateway::PropagationState::Pending,
            model::PropagationState::Refused => gateway::PropagationState::Refused,
            model::PropagationState::Drifted => gateway::PropagationState::Drifted,
            model::PropagationState::Unknown => gateway::PropagationState::Unknown,
        };
        let refusals = proof.refusals.into_iter();
        Self {
            state: state.into(),
            concerned: count(proof.concerned),
            acknowledged: count(proof.acknowledged),
            laggards: proof.laggards,
            refusals: refusals.map(|r| gateway::Refusal { proxy: r.proxy, message: r.message }).collect(),
            elapsed: Some(duration(Duration::from_millis(proof.elapsed_ms))),
            time: Some(timestamp(proof.time)),
            message: proof.message,
            drift_manager: proof.drift_manager,
        }
    }
}

impl TryFrom<gateway::PropagationProof> for model::PropagationProof {
    type Error = ConvertError;

    /// A state that this build does not know is `Unknown`, never a pass.
    fn try_from(proof: gateway::PropagationProof) -> Result<Self, ConvertError> {
        let state = match proof.state() {
            gateway::PropagationState::Live => model::PropagationState::Live,
            gateway::PropagationState::Pending => model::PropagationState::Pending,
            gateway::PropagationState::Refused => model::PropagationState::Refused,
            gateway::PropagationState::Drifted => model::PropagationState::Drifted,
            gateway::PropagationState::Unknown | gateway::PropagationState::Unspecified => {
                model::PropagationState::Unknown
            }
        };
        let elapsed = from_duration("elapsed", proof.elapsed.unwrap_or_default())?;
        Ok(Self {
            state,
            concerned: u32::try_from(proof.concerned).unwrap_or(0),
            acknowledged: u32::try_from(proof.acknowledged).unwrap_or(0),
            laggards: proof.laggards,
            refusals: proof
                .refusals
                .into_iter()
                .map(|r| model::Refusal { proxy: r.proxy, message: r.message })
                .collect(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            time: from_timestamp("time", required("time", proof.time)?)?,
            message: proof.message,
            drift_manager: proof.drift_manager,
        })
    }
}
