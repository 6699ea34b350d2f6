//! Labels and annotations that somebody else has changed and that a mesh reads. Pure.
//!
//! The digest among the marks is that of the spec, and Kubernetes counts changes of the spec alone. So what the mesh
//! reads besides ([`meaning`]) is compared with what the deployment left there: what stood there before, and what the
//! objects that it writes bring. A difference is drift like one of the spec and holds back the next step. It holds back
//! no way back: that puts labels and annotations as they were before, whoever changed them.
//!
//! An object that does not carry marks any more is compared only if the deployment is about it. A related one has left
//! the deployment then, and is its owner's affair.

use std::collections::BTreeMap;

use meshward_model::{ExposureIntent, Target};
use serde_json::Value;

use super::{Case, Marks, mentions};
use crate::{
    dialect::{self, Desired, meaning},
    error::Error,
    object,
};

/// What somebody has changed, and who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// "the label istio.io/rev".
    pub what: String,
    /// The field manager; "somebody" if the object does not say.
    pub manager: String,
}

/// What has strayed of a live object that the deployment has written, or reads; of what it writes of it now.
pub(super) fn find(live: &Value, case: &Case<'_>, written: &[&Value]) -> Option<Stray> {
    let before = case.baseline.map(|before| meaning::of(case.target, before));
    let with = |object: &&Value| {
        let mut all = before.clone().unwrap_or_default();
        all.extend(meaning::of(case.target, object));
        all
    };
    let expected: Vec<_> = before.iter().cloned().chain(written.iter().map(with)).collect();
    let now = meaning::of(case.target, live);
    let first = expected.first().filter(|_| !expected.contains(&now))?;
    let (field, key) = differing(first, &now)?;
    let manager = object::owner_of(live, field, &key).filter(|_| now.contains_key(&(field, key.clone())));
    let manager = manager.map_or_else(|| object::other_manager(live, case.baseline), str::to_owned);
    Some(Stray { what: format!("the {} {key}", field.trim_end_matches('s')), manager })
}

/// The same of an object that a deployment has in the course of an intent.
#[must_use]
pub fn of_intent(intent: &ExposureIntent, target: &Target, live: &Value) -> Option<Stray> {
    let case = Case::of(intent, target);
    if Marks::of(live).is_none() {
        let written: Vec<_> = case.canary()?.is_object().then_some(&intent.canary).into_iter().collect();
        return find(live, &case, &written);
    }
    let phases = dialect::of(intent.target.mesh).render(intent).ok()?;
    let written: Vec<_> = mentions(&phases, target).map(Desired::object).collect();
    find(live, &case, &written)
}

fn differing(one: &BTreeMap<meaning::Place, Value>, other: &BTreeMap<meaning::Place, Value>) -> Option<meaning::Place> {
    let places = one.keys().chain(other.keys());
    places.into_iter().find(|place| one.get(*place) != other.get(*place)).cloned()
}

/// Refuses if something has strayed.
pub(super) fn check(live: &Value, case: &Case<'_>, written: &Value) -> Result<(), Error> {
    let written = if written.is_null() { &[][..] } else { &[written] };
    let Some(Stray { what, manager }) = find(live, case, written) else { return Ok(()) };
    let message = format!("{what} of {} was changed by {manager:?} during the deployment", case.target);
    Err(Error::Drift { manager, message })
}

#[cfg(test)]
mod tests {
    use meshward_model::{Baseline, Mechanism, RelatedBaseline, Weight};
    use serde_json::json;

    use super::*;

    fn target() -> Target {
        Target::new("", "security.istio.io/v1", "AuthorizationPolicy", "shop", "a").unwrap()
    }

    fn policy(path: &str, annotations: &Value) -> Value {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
               "metadata": {"name": "a", "namespace": "shop", "annotations": annotations},
               "spec": {"action": "ALLOW", "rules": [{"to": [{"operation": {"paths": [path]}}]}]}})
    }

    /// The live object of the deployment, marked or not, with more annotations.
    fn live(is_marked: bool, path: &str, annotations: &Value) -> Value {
        let mut object = policy(path, annotations);
        if is_marked {
            object["metadata"]["annotations"]["meshward.io/deployment"] = "d".into();
        }
        let owned = json!({"f:metadata": {"f:annotations": {"f:istio.io/dry-run": {}}}});
        object["metadata"]["managedFields"] = json!([
            {"manager": "kubectl", "operation": "Apply", "time": "2026-01-01T00:00:09Z"},
            {"manager": "argocd", "operation": "Apply", "time": "2026-01-01T00:00:05Z", "fieldsV1": owned},
        ]);
        object
    }

    fn intent(before: Option<Value>, canary: Value) -> ExposureIntent {
        ExposureIntent {
            deployment_id: "d".into(),
            generation: 1,
            target: target(),
            baseline: Baseline::of(before),
            canary,
            mechanism: Mechanism::Request,
            weight: Weight::from_basis_points(1000).unwrap(),
        }
    }

    #[test]
    fn what_the_mesh_reads_must_be_as_it_was_left() {
        let (none, dry, wet) = (json!({}), json!({"istio.io/dry-run": "true"}), json!({"istio.io/dry-run": "false"}));
        let note = json!({"note": "n", "argocd.argoproj.io/tracking-id": "x"});
        for (name, before, canary, now, expected) in [
            ("as it was", &none, &none, live(true, "/x", &none), None),
            ("what nobody reads", &none, &none, live(true, "/x", &note), None),
            ("put in dry run", &none, &none, live(true, "/x", &dry), Some("argocd")),
            ("the version's, but too early", &none, &wet, live(true, "/x", &dry), Some("argocd")),
            ("it was there before", &dry, &dry, live(true, "/x", &dry), None),
            ("taken away", &dry, &dry, live(true, "/x", &none), Some("kubectl")),
            ("promoted", &none, &wet, live(false, "/new", &wet), None),
            ("promoted, then changed", &none, &wet, live(false, "/new", &dry), Some("argocd")),
            ("put back", &none, &wet, live(false, "/old", &none), None),
        ] {
            let intent = intent(Some(policy("/old", before)), policy("/new", canary));
            let stray = of_intent(&intent, &target(), &now);
            assert_eq!(stray.as_ref().map(|stray| &*stray.manager), expected, "{name}");
            assert!(stray.is_none_or(|stray| stray.what == "the annotation istio.io/dry-run"), "{name}");
        }
    }

    #[test]
    fn a_related_object_that_has_left_is_its_owners_affair() {
        let dry = json!({"istio.io/dry-run": "true"});
        let other = Target { name: "b".into(), ..target() };
        let mut intent = intent(Some(policy("/old", &json!({}))), policy("/new", &json!({})));
        let before = policy("/old", &json!({}));
        intent.baseline.related = vec![RelatedBaseline { target: other.clone(), object: Some(before) }];
        assert!(of_intent(&intent, &other, &live(true, "/x", &dry)).is_some());
        assert_eq!(of_intent(&intent, &other, &live(false, "/x", &dry)), None);
    }
}
