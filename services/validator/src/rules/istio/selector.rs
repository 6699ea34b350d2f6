//! What a policy is for: workloads by their labels, or objects that it names.

use crate::{
    report::{Hit, list, quote},
    rules::{Object, catalogue as rule, field::Field},
};

/// Groups and kinds that a policy may be attached to.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

const DRY_RUN: &str = "istio.io/dry-run";
/// Istio's own tests use it; whoever sets it means it.
const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";

/// Labels of workloads under `field` of a selector that may be absent.
pub(super) fn by_labels(selector: &Field<'_>, field: &str) -> Vec<Hit> {
    if !selector.is_set() {
        return Vec::new();
    }
    let labels = selector.get(field).entries();
    if labels.is_empty() {
        let message = "the selector has no label, so it selects every workload of the namespace";
        let hit = Hit::new(rule::SELECTOR_EMPTY, selector.path(), message);
        return vec![hit.suggest("name labels, or remove the selector")];
    }
    labels.iter().filter_map(|(name, value)| label(name, value)).collect()
}

fn label(name: &str, value: &Field<'_>) -> Option<Hit> {
    if name.is_empty() {
        return Some(Hit::new(rule::SELECTOR, value.path(), "a label of the selector has no name").at_key());
    }
    let message = |text: &str| format!("{} has a wildcard, and selectors know none", quote(text));
    if name.contains('*') {
        return Some(Hit::new(rule::SELECTOR, value.path(), message(name)).at_key());
    }
    value.text().contains('*').then(|| Hit::new(rule::SELECTOR, value.path(), message(value.text())))
}

/// `selector`, `targetRef` and `targetRefs`, of which one may be used.
pub(super) fn attachment(spec: &Field<'_>) -> Vec<Hit> {
    let mut hits = by_labels(&spec.get("selector"), "matchLabels");
    let set = spec.set_among(&["selector", "targetRef", "targetRefs"]);
    if let Some(second) = set.get(1) {
        let message = format!("{} exclude each other", list(&set, " and "));
        hits.push(Hit::new(rule::TARGET_REF, spec.get(second).path(), message).at_key());
    }
    let mut references = spec.get("targetRefs").items();
    references.extend(Some(spec.get("targetRef")).filter(Field::is_set));
    hits.extend(references.iter().flat_map(target));
    hits
}

fn target(reference: &Field<'_>) -> Vec<Hit> {
    let (group, kind, namespace) = (reference.get("group"), reference.get("kind"), reference.get("namespace"));
    let mut hits = Vec::new();
    if reference.get("name").text().is_empty() {
        hits.push(Hit::new(rule::TARGET_REF, reference.get("name").path(), "the reference has no name"));
    }
    if !namespace.text().is_empty() {
        let message = "a policy can be attached in its own namespace only";
        hits.push(Hit::new(rule::TARGET_REF, namespace.path(), message).at_key().suggest("remove namespace"));
    }
    let asked = if group.text() == "core" { "" } else { group.text() };
    if !TARGETS.contains(&(asked, kind.text())) {
        let message = format!("a policy cannot be attached to {} of {}", quote(kind.text()), quote(group.text()));
        let kinds: Vec<String> = TARGETS.iter().map(|(group, kind)| format!("{kind} of {group:?}")).collect();
        hits.push(
            Hit::new(rule::TARGET_REF, kind.path(), message).suggest(format!("attach it to {}", list(&kinds, " or "))),
        );
    }
    hits
}

/// Annotations that decide whether Istio takes an object at all.
pub(super) fn annotations(object: &Object<'_>) -> Vec<Hit> {
    let annotations = object.root().get("metadata").get("annotations");
    let mut hits: Vec<Hit> = dry_run(object, &annotations.get(DRY_RUN)).into_iter().collect();
    let reject = annotations.get(ALWAYS_REJECT);
    if reject.is_set() {
        let message = format!("Istio refuses every object that has the annotation {ALWAYS_REJECT}");
        hits.push(Hit::new(rule::ANNOTATION, reject.path(), message).at_key());
    }
    hits
}

fn dry_run(object: &Object<'_>, annotation: &Field<'_>) -> Option<Hit> {
    if !annotation.is_set() {
        return None;
    }
    if object.head.kind != "AuthorizationPolicy" {
        let message = format!("{DRY_RUN} works on AuthorizationPolicies only");
        return Some(Hit::new(rule::ANNOTATION, annotation.path(), message).at_key().suggest("remove it"));
    }
    let action = object.root().get("spec").get("action").text();
    if !["", "ALLOW", "DENY"].contains(&action) {
        let message = format!("{DRY_RUN} works with the actions ALLOW and DENY, not with {}", quote(action));
        return Some(Hit::new(rule::ANNOTATION, annotation.path(), message).at_key().suggest("remove it"));
    }
    let known = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
    let message = format!("{DRY_RUN} is \"true\" or \"false\", not {}", quote(annotation.text()));
    (!known.contains(&annotation.text())).then(|| Hit::new(rule::ANNOTATION, annotation.path(), message))
}
