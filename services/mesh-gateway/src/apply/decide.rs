//! What to write for an object, from what is there. Pure.
//!
//! A change of an object that the deployment found ([`Wanted::Step`], [`Wanted::Final`]):
//!
//! | the live object | what happens |
//! |---|---|
//! | is what is wanted, marks included | nothing |
//! | is marked by another deployment | refused: busy |
//! | is marked by a newer generation of ours | refused: stale |
//! | is marked by us, with another spec than we wrote | refused: drift, with the field manager |
//! | is marked by us, with other labels or annotations that the mesh reads | refused: drift, with the field manager |
//! | is marked by us | written |
//! | has no mark and the resourceVersion of the baseline | written: the first write |
//! | has no mark and the spec of the baseline or the canary | refused: stale, it was restored or promoted |
//! | has no mark and another spec | refused: drift, with the field manager |
//! | is missing, as in the baseline | created |
//! | is missing, unlike in the baseline | refused: drift |
//!
//! An object whose approved version is that it is gone ([`Wanted::Removed`]) is deleted under the same conditions.
//!
//! A helper, which the deployment makes and takes away ([`Wanted::Helper`], [`Wanted::Gone`]):
//!
//! | the live object | helper | gone |
//! |---|---|---|
//! | is missing | created | nothing |
//! | is what is wanted, and ours | nothing | deleted |
//! | is ours, with another spec | written | deleted |
//! | is ours, of a newer generation | refused: stale | refused: stale |
//! | is marked by another deployment, or not at all | refused: its name is taken | nothing: not ours |

use meshward_model::Target;
use serde_json::Value;

use super::{Case, Desired, Marks, Wanted, patch::ObjectPatch, restore, stray};
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

pub(super) fn decide(live: Option<&Value>, case: &Case<'_>, desired: &Desired) -> Result<Action, Error> {
    match &desired.wanted {
        Wanted::Step(_) | Wanted::Final(_) => expose(live, case, desired),
        Wanted::Removed => retire(live, case),
        Wanted::Baseline => restore::restore(live, case),
        Wanted::Helper(object) => help(live, case, object),
        Wanted::Gone => remove(live, case),
    }
}

/// Whether the object is as wanted, however it came to be so.
pub(super) fn is_reached(live: Option<&Value>, case: &Case<'_>, desired: &Desired) -> bool {
    matches!(decide(live, case, desired), Ok(Action::Nothing))
}

/// The same, if a step of an older generation of ours has brought it about.
pub(super) fn has_content(live: Option<&Value>, case: &Case<'_>, desired: &Desired) -> bool {
    let is_of_ours = |live: &Value| {
        let marks = Marks::of(live);
        object::spec(live) == object::spec(desired.object())
            && marks.is_some_and(|marks| check_marks(live, &marks, case).is_ok())
    };
    is_reached(live, case, desired) || matches!(desired.wanted, Wanted::Step(_)) && live.is_some_and(is_of_ours)
}

fn expose(live: Option<&Value>, case: &Case<'_>, desired: &Desired) -> Result<Action, Error> {
    let Some(live) = live else { return create(case, desired) };
    if is_done(live, case, desired) {
        return Ok(Action::Nothing);
    }
    match Marks::of(live) {
        Some(marks) => {
            check_marks(live, &marks, case)?;
            let written = if desired.is_final() { &Value::Null } else { desired.object() };
            stray::check(live, case, written)?;
        }
        None => check_unmarked(live, case)?,
    }
    Ok(write(live, case, desired))
}

/// Takes away the object itself, under the same fence as a change of it.
fn retire(live: Option<&Value>, case: &Case<'_>) -> Result<Action, Error> {
    let Some(live) = live else { return Ok(Action::Nothing) };
    match Marks::of(live) {
        Some(marks) => {
            check_marks(live, &marks, case)?;
            stray::check(live, case, &Value::Null)?;
        }
        None => check_unmarked(live, case)?,
    }
    Ok(delete(live))
}

fn create(case: &Case<'_>, desired: &Desired) -> Result<Action, Error> {
    if case.baseline.is_some() {
        return Err(deleted(case.target));
    }
    let object = desired.object();
    Ok(Action::Create(if desired.is_final() { object.clone() } else { marked(object, case) }))
}

/// The object with the marks of its spec.
fn marked(object: &Value, case: &Case<'_>) -> Value {
    let mut annotations = object::metadata_map(object, "annotations").cloned().unwrap_or_default();
    Marks::new(case.intent, object::spec(object)).put(&mut annotations);
    let mut object = object.clone();
    object["metadata"]["annotations"] = annotations.into();
    object
}

pub(super) fn deleted(target: &Target) -> Error {
    let message = format!("{target} was deleted or made anew by somebody else");
    Error::Drift { manager: "somebody".to_owned(), message }
}

fn is_done(live: &Value, case: &Case<'_>, desired: &Desired) -> bool {
    let wanted = object::spec(desired.object());
    if object::spec(live) != wanted {
        return false;
    }
    if !desired.is_final() {
        return Marks::of(live) == Some(Marks::new(case.intent, wanted));
    }
    let has_all = |field: &str| {
        let live = object::metadata_map(live, field);
        let wanted = object::metadata_map(desired.object(), field).into_iter().flatten();
        wanted.into_iter().all(|(key, value)| live.and_then(|map| map.get(key)) == Some(value))
    };
    Marks::of(live).is_none() && has_all("labels") && has_all("annotations")
}

/// Whether the intent may write an object that a deployment has marked.
pub(super) fn check_marks(live: &Value, marks: &Marks, case: &Case<'_>) -> Result<(), Error> {
    let target = case.target;
    if marks.deployment != case.intent.deployment_id {
        return Err(Error::Busy { object: target.to_string(), deployment: marks.deployment.clone() });
    }
    if marks.generation > case.intent.generation {
        let message = format!(
            "{target} carries generation {} of this deployment, which is newer than {}",
            marks.generation, case.intent.generation
        );
        return Err(Error::Stale { message });
    }
    if marks.fit(live) { Ok(()) } else { Err(drift(live, case)) }
}

pub(super) fn drift(live: &Value, case: &Case<'_>) -> Error {
    let manager = object::other_manager(live, case.baseline);
    let message = format!("{} was changed by {manager:?} during the deployment", case.target);
    Error::Drift { manager, message }
}

pub(super) fn has_left(live: &Value, case: &Case<'_>) -> Error {
    let message = format!(
        "{} (resourceVersion {}) is not under deployment {}: it was restored, promoted or changed since the plan",
        case.target,
        object::resource_version(live),
        case.intent.deployment_id
    );
    Error::Stale { message }
}

/// Whether the intent may write an object that no deployment has marked: only as the first to do so.
pub(super) fn check_unmarked(live: &Value, case: &Case<'_>) -> Result<(), Error> {
    let same_spec = |other: &Value| object::spec(other) == object::spec(live);
    match case.baseline {
        Some(baseline) if object::resource_version(baseline) == object::resource_version(live) => Ok(()),
        Some(baseline) if !same_spec(baseline) && !case.canary().is_some_and(same_spec) => Err(drift(live, case)),
        _ => Err(has_left(live, case)),
    }
}

fn write(live: &Value, case: &Case<'_>, desired: &Desired) -> Action {
    let spec = object::spec(desired.object());
    let left_by_apply = leaves_behind(object::spec(live), spec)
        // What a JSON patch of ours has written is not taken away by an apply that leaves it out.
        || desired.is_final() && object::managed_by_us(live, Some("Update"));
    if left_by_apply {
        return Action::Patch(replace(live, case, desired));
    }
    let mut object = desired.object().clone();
    object["metadata"]["resourceVersion"] = object::resource_version(live).into();
    // What an earlier deployment of ours has set stays, unless the approved version says otherwise.
    for field in ["labels", "annotations"] {
        let mut map = object::applied_by_us(live, field);
        Marks::remove(&mut map);
        map.extend(object::metadata_map(desired.object(), field).cloned().unwrap_or_default());
        if field == "annotations" && !desired.is_final() {
            Marks::new(case.intent, spec).put(&mut map);
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

fn replace(live: &Value, case: &Case<'_>, desired: &Desired) -> Value {
    let spec = object::spec(desired.object());
    let merged = |field: &str| {
        let mut map = object::metadata_map(live, field).cloned().unwrap_or_default();
        map.extend(object::metadata_map(desired.object(), field).cloned().unwrap_or_default());
        map
    };
    let mut annotations = merged("annotations");
    Marks::remove(&mut annotations);
    if !desired.is_final() {
        Marks::new(case.intent, spec).put(&mut annotations);
    }
    let patch = ObjectPatch::new(live).spec(spec).metadata_map("annotations", Some(annotations));
    let patch = if desired.is_final() { patch.metadata_map("labels", Some(merged("labels"))) } else { patch };
    patch.build()
}

fn help(live: Option<&Value>, case: &Case<'_>, wanted: &Value) -> Result<Action, Error> {
    let object = marked(wanted, case);
    let Some(live) = live else { return Ok(Action::Create(object)) };
    let Some(found) = Marks::of(live) else {
        // The object itself is a helper until the end if it was not there before.
        let is_promoted = case.canary().is_some_and(|canary| object::spec(canary) == object::spec(live));
        return Err(if is_promoted { has_left(live, case) } else { taken(case.target) });
    };
    check_marks(live, &found, case)?;
    // A helper that need not change keeps the generation that made it: one write less at each step.
    if object::spec(live) == object::spec(wanted) {
        return Ok(Action::Nothing);
    }
    let patch = ObjectPatch::new(live)
        .spec(object::spec(wanted))
        .metadata_map("annotations", object::metadata_map(&object, "annotations").cloned());
    Ok(Action::Patch(patch.build()))
}

fn taken(target: &Target) -> Error {
    let message = format!("{target} exists already and is not Meshward's; the deployment needs that name for a helper");
    Error::Drift { manager: "somebody".to_owned(), message }
}

fn remove(live: Option<&Value>, case: &Case<'_>) -> Result<Action, Error> {
    let Some(live) = live else { return Ok(Action::Nothing) };
    match Marks::of(live) {
        Some(marks) if marks.deployment == case.intent.deployment_id => {
            check_marks(live, &Marks { spec_digest: object_digest(live), ..marks }, case)?;
            Ok(delete(live))
        }
        _ => Ok(Action::Nothing),
    }
}

/// A helper that somebody changed is taken away all the same.
fn object_digest(live: &Value) -> String {
    meshward_model::Digest::of(object::spec(live)).to_string()
}

pub(super) fn delete(live: &Value) -> Action {
    let (uid, resource_version) = (object::uid(live).to_owned(), object::resource_version(live).to_owned());
    Action::Delete { uid, resource_version }
}
