//! What to write for a step, from what is there. Pure.
//!
//! | the live object | what happens |
//! |---|---|
//! | is what the step wants, marks included | nothing |
//! | is marked by another deployment | refused: busy |
//! | is marked by a newer generation of ours | refused: stale |
//! | is marked by us, with another spec than we wrote | refused: drift, with the field manager |
//! | is marked by us | written |
//! | has no mark and the resourceVersion of the baseline | written: the first write |
//! | has no mark and the spec of the baseline or the canary | refused: stale, it was restored or promoted |
//! | has no mark and another spec | refused: drift, with the field manager |
//! | is missing, as in the baseline | created |
//! | is missing, unlike in the baseline | refused: drift |

use meshward_model::ExposureIntent;
use serde_json::Value;

use super::{Desired, Marks, patch::ObjectPatch};
use crate::{error::Error, object};

/// One write, or none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    Create(Value),
    /// Server-side apply of these fields.
    Apply(Value),
    /// This JSON patch.
    Patch(Value),
    Delete {
        uid: String,
        resource_version: String,
    },
}

pub(super) fn expose(live: Option<&Value>, intent: &ExposureIntent, desired: &Desired) -> Result<Action, Error> {
    let Some(live) = live else { return create(intent, desired) };
    if is_done(live, intent, desired) {
        return Ok(Action::Nothing);
    }
    match Marks::of(live) {
        Some(marks) => check_marks(live, &marks, intent)?,
        None => check_unmarked(live, intent)?,
    }
    Ok(write(live, intent, desired))
}

fn create(intent: &ExposureIntent, desired: &Desired) -> Result<Action, Error> {
    if intent.baseline.object.is_some() {
        return Err(deleted(intent));
    }
    Ok(Action::Create(desired.object.clone()))
}

pub(super) fn deleted(intent: &ExposureIntent) -> Error {
    let message = format!("{} was deleted or made anew by somebody else", intent.target);
    Error::Drift { manager: "somebody".to_owned(), message }
}

fn is_done(live: &Value, intent: &ExposureIntent, desired: &Desired) -> bool {
    let wanted = object::spec(&desired.object);
    if object::spec(live) != wanted {
        return false;
    }
    if !desired.is_final {
        return Marks::of(live) == Some(Marks::new(intent, wanted));
    }
    let has_all = |field: &str| {
        let live = object::metadata_map(live, field);
        let wanted = object::metadata_map(&desired.object, field).into_iter().flatten();
        wanted.into_iter().all(|(key, value)| live.and_then(|map| map.get(key)) == Some(value))
    };
    Marks::of(live).is_none() && has_all("labels") && has_all("annotations")
}

/// Whether the intent may write an object that a deployment has marked.
pub(super) fn check_marks(live: &Value, marks: &Marks, intent: &ExposureIntent) -> Result<(), Error> {
    let target = &intent.target;
    if marks.deployment != intent.deployment_id {
        return Err(Error::Busy { object: target.to_string(), deployment: marks.deployment.clone() });
    }
    if marks.generation > intent.generation {
        let message = format!(
            "{target} carries generation {} of this deployment, which is newer than {}",
            marks.generation, intent.generation
        );
        return Err(Error::Stale { message });
    }
    if marks.fit(live) { Ok(()) } else { Err(drift(live, intent)) }
}

pub(super) fn drift(live: &Value, intent: &ExposureIntent) -> Error {
    let manager = object::other_manager(live, intent.baseline.object.as_ref());
    let message = format!("{} was changed by {manager:?} during the deployment", intent.target);
    Error::Drift { manager, message }
}

pub(super) fn has_left(live: &Value, intent: &ExposureIntent) -> Error {
    let message = format!(
        "{} (resourceVersion {}) is not under deployment {}: it was restored, promoted or changed since the plan",
        intent.target,
        object::resource_version(live),
        intent.deployment_id
    );
    Error::Stale { message }
}

/// Whether the intent may write an object that no deployment has marked: only as the first to do so.
fn check_unmarked(live: &Value, intent: &ExposureIntent) -> Result<(), Error> {
    let same_spec = |other: &Value| object::spec(other) == object::spec(live);
    match &intent.baseline.object {
        Some(baseline) if object::resource_version(baseline) == object::resource_version(live) => Ok(()),
        Some(baseline) if !same_spec(baseline) && !same_spec(&intent.canary) => Err(drift(live, intent)),
        _ => Err(has_left(live, intent)),
    }
}

fn write(live: &Value, intent: &ExposureIntent, desired: &Desired) -> Action {
    let spec = object::spec(&desired.object);
    let left_by_apply = leaves_behind(object::spec(live), spec)
        // What a JSON patch of ours has written is not taken away by an apply that leaves it out.
        || desired.is_final && object::managed_by_us(live, Some("Update"));
    if left_by_apply {
        return Action::Patch(replace(live, intent, desired));
    }
    let mut object = desired.object.clone();
    object["metadata"]["resourceVersion"] = object::resource_version(live).into();
    // What an earlier deployment of ours has set stays, unless the approved version says otherwise.
    for field in ["labels", "annotations"] {
        let mut map = object::applied_by_us(live, field);
        Marks::remove(&mut map);
        map.extend(object::metadata_map(&desired.object, field).cloned().unwrap_or_default());
        if field == "annotations" && !desired.is_final {
            Marks::new(intent, spec).put(&mut map);
        }
        if !map.is_empty() {
            object["metadata"][field] = map.into();
        }
    }
    Action::Apply(object)
}

/// Whether a map in `live` has a key that `wanted` has not. Lists are replaced as a whole.
fn leaves_behind(live: &Value, wanted: &Value) -> bool {
    let Some(fields) = live.as_object() else { return false };
    fields.iter().any(|(key, value)| wanted.get(key).is_none_or(|wanted| leaves_behind(value, wanted)))
}

fn replace(live: &Value, intent: &ExposureIntent, desired: &Desired) -> Value {
    let spec = object::spec(&desired.object);
    let merged = |field: &str| {
        let mut map = object::metadata_map(live, field).cloned().unwrap_or_default();
        map.extend(object::metadata_map(&desired.object, field).cloned().unwrap_or_default());
        map
    };
    let mut annotations = merged("annotations");
    Marks::remove(&mut annotations);
    if !desired.is_final {
        Marks::new(intent, spec).put(&mut annotations);
    }
    let patch = ObjectPatch::new(live).spec(spec).metadata_map("annotations", Some(annotations));
    let patch = if desired.is_final { patch.metadata_map("labels", Some(merged("labels"))) } else { patch };
    patch.build()
}
