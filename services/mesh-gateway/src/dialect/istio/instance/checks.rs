//! What cannot be exposed pod by pod, and why.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Overlap, Scope, Shape};
use crate::{
    dialect::{
        Question, Unsupported,
        istio::neighbours_of,
        steps::{ALL_AT_ONCE, cohort_key},
    },
    object,
};

/// Objects there are about every namespace. A mesh can be told another name; this is Istio's default.
const ROOT_NAMESPACE: &str = "istio-system";
const LONGEST_NAME: usize = 253;

/// The name of the object that has the new version on the way.
pub(in crate::dialect::istio) fn helper_name(name: &str) -> String {
    format!("{name}-meshward-canary")
}

/// Whether two selectors can meet the same pod.
pub(in crate::dialect::istio) fn overlaps(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> bool {
    a.iter().all(|(key, value)| b.get(key).is_none_or(|other| other == value))
}

pub(super) fn check(question: &Question<'_>, scope: Scope) -> Result<(), Unsupported> {
    let (stable, canary) = (question.baseline.object.as_ref(), question.canary);
    check_place(question)?;
    for (version, object) in stable.map(|stable| ("live", stable)).into_iter().chain([("new", canary)]) {
        check_binding(question, version, object::spec(object))?;
    }
    let shape = Shape::of(scope, stable, canary);
    if let Some(stable) = stable.filter(|_| !canary.is_null()) {
        check_same_pods(&scope.labels(object::spec(stable)), &scope.labels(object::spec(canary)))?;
    }
    check_shape(scope, shape, canary)?;
    check_others(question, scope)
}

fn check_place(question: &Question<'_>) -> Result<(), Unsupported> {
    let target = question.target;
    if target.namespace == ROOT_NAMESPACE {
        return Err(Unsupported::new(
            format!("{target} stands in the root namespace and is about the pods of every namespace"),
            format!("release it namespace by namespace as objects of their own, or {ALL_AT_ONCE}"),
        ));
    }
    if helper_name(&target.name).len() > LONGEST_NAME {
        let reason = format!("the name of {target} is too long to add -meshward-canary to it");
        return Err(Unsupported::new(reason, ALL_AT_ONCE));
    }
    Ok(())
}

fn check_binding(question: &Question<'_>, version: &str, spec: &Value) -> Result<(), Unsupported> {
    let key = cohort_key(question.target);
    if let Some(field) = ["targetRef", "targetRefs"].into_iter().find(|field| !spec[*field].is_null()) {
        return Err(Unsupported::new(
            format!(
                "the {version} version is bound by spec.{field} to gateways, waypoints or services, which know no pods"
            ),
            format!("bind it by a selector of pods, or {ALL_AT_ONCE}"),
        ));
    }
    let selectors = [&spec["selector"]["matchLabels"], &spec["workloadSelector"]["labels"]];
    if selectors.iter().any(|selector| selector.get(&key).is_some()) {
        let reason = format!("the {version} version selects by {key}, which is the label that divides the pods");
        return Err(Unsupported::new(reason, format!("leave that label out, or {ALL_AT_ONCE}")));
    }
    Ok(())
}

fn check_same_pods(stable: &BTreeMap<String, String>, canary: &BTreeMap<String, String>) -> Result<(), Unsupported> {
    if stable == canary {
        return Ok(());
    }
    Err(Unsupported::new(
        format!(
            "the versions select other pods ({stable:?}, {canary:?}), and a selector knows only labels that all have"
        ),
        format!("release a second object for the other pods and then remove this one, or {ALL_AT_ONCE}"),
    ))
}

fn check_shape(scope: Scope, shape: Shape, canary: &Value) -> Result<(), Unsupported> {
    if shape == Shape::First && matches!(scope.overlap(), Overlap::Twice | Overlap::Random) {
        return Err(Unsupported::new(
            "the object does not exist, and at 100 % the canaries would have it twice for a moment",
            format!("create it as one that does nothing and release yours as the next version, or {ALL_AT_ONCE}"),
        ));
    }
    let mode = &object::spec(canary)["mtls"]["mode"];
    let is_inherited = mode.is_null() || mode == "UNSET";
    if scope == Scope::PeerAuthentication && shape == Shape::Beside && is_inherited {
        return Err(Unsupported::new(
            "the new version leaves spec.mtls.mode to the mesh, and for one pod it would be left to the live version",
            format!("write the mode, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(())
}

/// Whether another object of the kind can take the pods away from one of the versions.
pub(super) fn others_matter(scope: Scope) -> bool {
    matches!(scope.overlap(), Overlap::Oldest | Overlap::Random)
}

/// Other objects of the kind that decide for the same pods.
fn check_others(question: &Question<'_>, scope: Scope) -> Result<(), Unsupported> {
    if !others_matter(scope) {
        return Ok(());
    }
    let labels = super::selected(scope, question.baseline.object.as_ref(), question.canary);
    let competes = |other: &&Value| {
        let theirs = scope.labels(object::spec(other));
        !object::is_of(other, question.target)
            && other["spec"]["targetRef"].is_null()
            && other["spec"]["targetRefs"].is_null()
            // One without a selector gives way to those with one, as it did before; two without are chosen between.
            && (!theirs.is_empty() || labels.is_empty())
            && overlaps(&labels, &theirs)
    };
    let Some(other) = neighbours_of(question, &question.target.kind).find(competes) else { return Ok(()) };
    let what = match scope.overlap() {
        Overlap::Oldest => "of several objects for a pod only the oldest one counts",
        _ => "with several objects for a pod it depends on chance which one counts",
    };
    Err(Unsupported::new(
        format!("{} {} can select the same pods, and {what}", question.target.kind, object::full_name(other)),
        format!("let their selectors differ in the value of a label, or {ALL_AT_ONCE}"),
    ))
}
