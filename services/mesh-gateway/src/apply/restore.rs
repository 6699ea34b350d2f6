//! What to write to put back what was there. Pure.
//!
//! | baseline | the live object | what happens |
//! |---|---|---|
//! | absent | is missing | nothing |
//! | absent | is ours: marked, or the canary as we left it | deleted |
//! | present | is missing or another one (uid) | refused: drift; made anew if its removal was the version |
//! | present | is the very baseline: nothing was written since (resourceVersion) | marked, then put back like any other |
//! | present | is the baseline, owners included | nothing |
//! | present | is ours: marked, or the canary as we left it | content and owners put back in one write |
//! | present | is the baseline, but Meshward still owns fields | owners put back: the second write, if it takes one |
//! | present, of a related object | is nobody's, and Meshward owns no field of it | nothing: see below |
//!
//! A related object (the VirtualService of a DestinationRule's host, say) leaves the deployment before it is over: it is
//! put back while the approved version stays. What somebody makes of it afterwards is their own affair, and must not
//! keep the object that the deployment is about from being restored.
//!
//! Why an untouched object is marked first: a first write is let through if the object still has the baseline's resourceVersion. One that was
//! sent before the restore and comes after it would find it so, and the canary would be exposed by a deployment that has ended. After the
//! mark has come and gone the version is another one, and the late write is refused.
//!
//! Owners: Kubernetes takes the owners that a write names, and then makes the writer the owner of every value that the
//! write changes or adds. So a way back that only takes away what Meshward has added (marks, one label more in a
//! selector) is whole after one write, and any other needs a second one for the owners.
//! They are the same whatever the times in their entries: what Meshward promoted once it owns before and after, and the API server takes
//! no write that changes a time alone.
//!
//! What is marked by another deployment or by a newer generation, or is nobody's, is refused as for a step.

use serde_json::Value;

use super::{
    Case, Marks,
    decide::{Action, check_marks, delete, deleted, drift, has_left},
    patch::ObjectPatch,
};
use crate::{error::Error, object};

pub(super) fn restore(live: Option<&Value>, case: &Case<'_>) -> Result<Action, Error> {
    match (case.baseline, live) {
        (None, None) => Ok(Action::Nothing),
        (None, Some(live)) => remove(live, case),
        // The version was that it is gone, and it had come to that.
        (Some(baseline), None) if case.removes() => Ok(Action::Create(anew(baseline))),
        (Some(_), None) => Err(deleted(case.target)),
        (Some(baseline), Some(live)) if object::uid(baseline) != object::uid(live) && !case.removes() => {
            Err(deleted(case.target))
        }
        (Some(baseline), Some(live)) => put_back(baseline, live, case),
    }
}

fn remove(live: &Value, case: &Case<'_>) -> Result<Action, Error> {
    check_ours(live, case)?;
    Ok(delete(live))
}

/// The object of before for a cluster where it is gone: all but what the API server alone gives.
fn anew(baseline: &Value) -> Value {
    let mut object = baseline.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| {
            ["name", "namespace", "labels", "annotations", "ownerReferences", "finalizers"].contains(&field.as_str())
        });
    }
    object
}

fn put_back(baseline: &Value, live: &Value, case: &Case<'_>) -> Result<Action, Error> {
    let owners = &baseline["metadata"]["managedFields"];
    if object::resource_version(baseline) == object::resource_version(live) {
        return Ok(mark(live, case));
    }
    if has_content_of(baseline, live) {
        // Owners that differ without an entry of ours are somebody else's doing since, and stay.
        let unfinished = !object::same_owners(live, baseline) && object::managed_by_us(live, None);
        let finish = || Action::Patch(ObjectPatch::new(live).managed_fields(owners).build());
        return Ok(if unfinished { finish() } else { Action::Nothing });
    }
    if !case.intent.is_about(case.target) && Marks::of(live).is_none() && !object::managed_by_us(live, None) {
        return Ok(Action::Nothing);
    }
    check_ours(live, case)?;
    let map = |field: &str| object::metadata_map(baseline, field).cloned();
    let patch = ObjectPatch::new(live)
        .spec(object::spec(baseline))
        .metadata_map("labels", map("labels"))
        .metadata_map("annotations", map("annotations"))
        .managed_fields(owners);
    Ok(Action::Patch(patch.build()))
}

/// Puts the intent's marks on an object and leaves the rest as it is.
pub(super) fn mark(live: &Value, case: &Case<'_>) -> Action {
    let mut annotations = object::metadata_map(live, "annotations").cloned().unwrap_or_default();
    Marks::new(case.intent, object::spec(live)).put(&mut annotations);
    Action::Patch(ObjectPatch::new(live).metadata_map("annotations", Some(annotations)).build())
}

/// Whether an object without marks is put back already; refuses one that is not ours to put back.
pub(super) fn check_first(live: &Value, case: &Case<'_>) -> Result<bool, Error> {
    let Some(baseline) = case.baseline else { return check_ours(live, case).map(|()| false) };
    if object::resource_version(baseline) == object::resource_version(live) {
        return Ok(false);
    }
    if has_content_of(baseline, live) {
        return Ok(true);
    }
    check_ours(live, case).map(|()| false)
}

fn has_content_of(baseline: &Value, live: &Value) -> bool {
    let same = |field: &str| object::metadata_map(baseline, field) == object::metadata_map(live, field);
    object::spec(baseline) == object::spec(live) && same("labels") && same("annotations")
}

/// Whether the object is as this deployment left it, marked or promoted.
fn check_ours(live: &Value, case: &Case<'_>) -> Result<(), Error> {
    if let Some(marks) = Marks::of(live) {
        return check_marks(live, &marks, case);
    }
    if !object::managed_by_us(live, None) {
        return Err(has_left(live, case));
    }
    if case.canary().is_some_and(|canary| object::spec(live) == object::spec(canary)) {
        return Ok(());
    }
    Err(drift(live, case))
}
