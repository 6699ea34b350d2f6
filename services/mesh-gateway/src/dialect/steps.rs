//! The steps of a plan, whatever the mesh and the mechanism: what [`super::Dialect::render`] would write at each weight.

use meshward_model::{
    Baseline, Digest, ExposureIntent, Mechanism, Operation, PlannedCohort, PlannedPhase, PlannedStep, PlannedWrite,
    Purpose, RelatedBaseline, Target, Weight,
};
use serde_json::{Value, json};

use super::{
    Desired, Phase, PodCohorts, Question, Unsupported, Wanted,
    parts::{self, Part, Work},
};
use crate::object;

/// Ends the name of a helper.
const HELPER: &str = "-meshward-canary";

/// What would work for a change that no share of the traffic can be given.
pub(super) const ALL_AT_ONCE: &str = "release it all at once (mechanism NONE, 100 %)";

/// How a mechanism describes its steps below 100 %.
pub(super) struct Wording<'a> {
    pub(super) mechanism: Mechanism,
    /// What the mechanism's granularity makes of a weight.
    pub(super) share: &'a dyn Fn(Weight) -> Weight,
    /// Who gets the canary, in a sentence.
    pub(super) exposed: &'a dyn Fn(Weight) -> String,
}

/// The steps of a plan: the very phases that are written later.
pub(super) fn planned(
    question: &Question<'_>,
    (related, facts): (&[RelatedBaseline], &Value),
    wording: &Wording<'_>,
    render: impl Fn(&ExposureIntent) -> Result<Vec<Phase>, Unsupported>,
) -> Result<Vec<PlannedStep>, Unsupported> {
    let step = |weight: Weight| {
        let intent = ExposureIntent {
            deployment_id: String::new(),
            generation: 0,
            target: question.target.clone(),
            baseline: Baseline {
                object: question.baseline.object.clone(),
                related: related.to_vec(),
                facts: facts.clone(),
            },
            canary: question.canary.clone(),
            mechanism: wording.mechanism,
            weight,
        };
        let phases = render(&intent)?;
        let parts = parts::there(&intent, &phases);
        let exposed = match weight {
            Weight::ZERO => "Nobody.".to_owned(),
            Weight::FULL => "Everybody; what stands there is the approved version alone.".to_owned(),
            weight => (wording.exposed)(weight),
        };
        Ok(PlannedStep {
            weight,
            nominal_share: match weight {
                Weight::ZERO | Weight::FULL => weight,
                weight => (wording.share)(weight),
            },
            writes: writes(&intent, &parts),
            cohorts: cohorts(&parts),
            phases: told(&intent, &phases, &parts, &exposed),
            exposed,
        })
    };
    question.weights.iter().copied().map(step).collect()
}

fn number(phase: usize) -> u32 {
    u32::try_from(phase).unwrap_or(u32::MAX)
}

fn writes(intent: &ExposureIntent, parts: &[Part<'_>]) -> Vec<PlannedWrite> {
    let mut writes = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let Work::Objects(objects) = part.work else { continue };
        writes.extend(objects.iter().map(|desired| write(intent, number(index), desired)));
    }
    writes
}

/// What each part is there for.
fn told(intent: &ExposureIntent, phases: &[Phase], parts: &[Part<'_>], exposed: &str) -> Vec<PlannedPhase> {
    let purposes: Vec<_> = parts.iter().map(|part| purpose(intent, phases, part.phase)).collect();
    let phase = |(index, part): (usize, &Part<'_>)| {
        let purpose = purposes[index];
        let is_through = !purposes[index + 1..].contains(&purpose);
        PlannedPhase {
            phase: number(index),
            purpose,
            most_writes: number(parts::most_writes(intent, *part)),
            exposed: match purpose {
                Purpose::Prepare => "Who has it already.".to_owned(),
                Purpose::Cleanup => "Everybody.".to_owned(),
                _ if is_through => exposed.to_owned(),
                Purpose::Withdraw => "Some of those who have it already.".to_owned(),
                Purpose::Expose | Purpose::Promote => "Who has it already, and some more.".to_owned(),
            },
        }
    };
    parts.iter().enumerate().map(phase).collect()
}

fn purpose(intent: &ExposureIntent, phases: &[Phase], phase: usize) -> Purpose {
    match intent.weight {
        Weight::ZERO => Purpose::Withdraw,
        Weight::FULL => {
            let is_end = |desired: &Desired| intent.is_about(&desired.target) && desired.is_end();
            let has_end = |phase: &Phase| matches!(phase, Phase::Objects(objects) if objects.iter().any(is_end));
            let end = phases.iter().position(has_end).unwrap_or(phases.len());
            if phase <= end { Purpose::Promote } else { Purpose::Cleanup }
        }
        // What comes before the last phase is what that one refers to; but pods may be moved in several phases.
        _ => {
            let moves = |phase: &Phase| matches!(phase, Phase::Pods(pods) if pods.share.is_some_and(|share| share != Weight::ZERO));
            let is_exposing = phase + 1 == phases.len() || moves(&phases[phase]);
            if is_exposing { Purpose::Expose } else { Purpose::Prepare }
        }
    }
}

fn write(intent: &ExposureIntent, phase: u32, desired: &Desired) -> PlannedWrite {
    let target = desired.target.clone();
    let before = intent.before(&target);
    let (operation, object) = match &desired.wanted {
        Wanted::Helper(object) => (Operation::Create, object.clone()),
        Wanted::Step(object) | Wanted::Final(object) if before.is_none() => (Operation::Create, object.clone()),
        Wanted::Step(object) | Wanted::Final(object) => (Operation::Apply, object.clone()),
        Wanted::Removed | Wanted::Gone => (Operation::Delete, skeleton(&target)),
        Wanted::Baseline => match before {
            Some(object) => (Operation::Apply, content(&target, object)),
            None => (Operation::Delete, skeleton(&target)),
        },
    };
    PlannedWrite { target, operation, object, phase }
}

fn cohorts(parts: &[Part<'_>]) -> Vec<PlannedCohort> {
    let mut cohorts = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let Work::Pods(PodCohorts { namespace, labels, key, share, .. }) = part.work else { continue };
        let selector = labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
        cohorts.push(PlannedCohort {
            phase: number(index),
            namespace: namespace.clone(),
            selector,
            label_key: key.clone(),
            share: *share,
        });
    }
    cohorts
}

/// The key of the label that tells the pods of a deployment's cohorts apart: one for each object that is released, known
/// when the plan is made.
pub(super) fn cohort_key(target: &Target) -> String {
    let digest = Digest::of(&Value::from(target.key())).to_string();
    let hex = digest.rsplit(':').next().and_then(|hex| hex.get(..10)).unwrap_or_default();
    format!("meshward.io/cohort-{hex}")
}

/// The object of a step, carrying marks.
pub(super) fn step(target: &Target, spec: Value) -> Desired {
    Desired { target: target.clone(), wanted: Wanted::Step(with_spec(target, spec)) }
}

/// An object of Meshward's own.
pub(super) fn helper(target: &Target, spec: Value) -> Desired {
    Desired { target: target.clone(), wanted: Wanted::Helper(with_spec(target, spec)) }
}

/// The helper is taken away.
pub(super) fn gone(target: &Target) -> Desired {
    Desired { target: target.clone(), wanted: Wanted::Gone }
}

/// The name of the helper that stands beside an object. A name of Kubernetes has at most 253 bytes.
pub(super) fn helper_name(name: &str) -> String {
    let kept = &name[..name.len().min(253 - HELPER.len())];
    format!("{}{HELPER}", kept.trim_end_matches(['-', '.']))
}

/// What stood there before.
pub(super) fn baseline(target: &Target) -> Desired {
    Desired { target: target.clone(), wanted: Wanted::Baseline }
}

/// The approved version: its spec, labels and annotations; or that the object is gone.
pub(super) fn approved(target: &Target, canary: &Value) -> Desired {
    if canary.is_null() {
        return Desired { target: target.clone(), wanted: Wanted::Removed };
    }
    Desired { target: target.clone(), wanted: Wanted::Final(content(target, canary)) }
}

fn content(target: &Target, of: &Value) -> Value {
    let mut object = with_spec(target, object::spec(of).clone());
    for field in ["labels", "annotations"] {
        if let Some(map) = object::metadata_map(of, field) {
            object["metadata"][field] = Value::Object(map.clone());
        }
    }
    object
}

/// An object with a name and a spec.
pub(super) fn with_spec(target: &Target, spec: Value) -> Value {
    let mut object = skeleton(target);
    object["spec"] = spec;
    object
}

/// An object with nothing but its name.
fn skeleton(target: &Target) -> Value {
    json!({
        "apiVersion": target.api_version,
        "kind": target.kind,
        "metadata": {"name": target.name, "namespace": target.namespace},
    })
}
