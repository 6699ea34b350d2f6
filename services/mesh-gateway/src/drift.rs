//! Changes that others make to objects while a deployment has them, told as they happen.
//!
//! Whether a change is somebody else's is read off the object itself ([`judge`], pure): while it carries Meshward's
//! marks, a new entry of another manager in `managedFields`, or a spec that is not the one that the marks name. Writes
//! to the status are nobody's concern. Who deleted an object Kubernetes does not say, so each deletion of a marked
//! object is told, also the one by which Meshward puts back an absence.
//!
//! Two writes of one manager in the same second, of which the second changes no spec, count as one.

mod watch;

use meshward_model::{Digest, Target};
use serde_json::Value;

use crate::{apply::Marks, object};

pub use watch::{Drifts, follow};

/// Somebody else's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Of which object.
    pub target: Target,
    /// The field manager; "somebody" if the object does not say.
    pub manager: String,
    /// The deployment that had the object.
    pub deployment: String,
    /// The object is gone, or another one has its name.
    pub deleted: bool,
    /// The version that the change made; empty with a deletion.
    pub resource_version: String,
}

/// What to say of an object that was `before` and is `now`; `None` = it did, or does, not exist.
pub(crate) fn judge(target: &Target, before: Option<&Value>, now: Option<&Value>) -> Option<Drift> {
    let drift = |marks: Marks, manager: String, deleted: bool| Drift {
        target: target.clone(),
        manager,
        deployment: marks.deployment,
        deleted,
        resource_version: now.map(object::resource_version).filter(|_| !deleted).unwrap_or_default().to_owned(),
    };
    let Some(before) = before else {
        // Seen for the first time: it may have been changed before anybody looked.
        let now = now?;
        let marks = Marks::of(now)?;
        return (!fits(&marks, now)).then(|| drift(marks, object::other_manager(now, None), false));
    };
    let marks = Marks::of(before)?;
    let Some(now) = now else { return Some(drift(marks, "somebody".to_owned(), true)) };
    if object::uid(before) != object::uid(now) {
        return Some(drift(marks, object::other_manager(now, None), true));
    }
    let known: Vec<_> = object::other_writes(before).collect();
    let new = object::other_writes(now).filter(|write| !known.contains(write)).max_by_key(|write| write.2);
    if let Some((manager, ..)) = new {
        return Some(drift(marks, manager.to_owned(), false));
    }
    let is_spoiled = Marks::of(now).is_some_and(|marks| !fits(&marks, now));
    (is_spoiled && object::spec(before) != object::spec(now))
        .then(|| drift(marks, object::other_manager(now, Some(before)), false))
}

fn fits(marks: &Marks, live: &Value) -> bool {
    Digest::of(object::spec(live)).as_str() == marks.spec_digest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target() -> Target {
        Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "a").unwrap()
    }

    /// Marked for a spec, with another spec perhaps, and who wrote when.
    fn live(marked: Option<&str>, spec: &str, writers: &[(&str, u32)]) -> Value {
        let spec = json!({"hosts": [spec]});
        let digest = |spec: &str| Digest::of(&json!({"hosts": [spec]})).to_string();
        let marks = marked.map(|spec| {
            json!({"meshward.io/deployment": "d1", "meshward.io/generation": "1", "meshward.io/spec-digest": digest(spec)})
        });
        let entry = |(manager, second): &(&str, u32)| json!({"manager": manager, "operation": "Apply", "time": format!("2026-01-01T00:00:0{second}Z")});
        let entries: Vec<_> = writers.iter().map(entry).collect();
        json!({"metadata": {"uid": "u", "resourceVersion": "9", "annotations": marks, "managedFields": entries},
               "spec": spec})
    }

    #[test]
    fn only_the_changes_of_others_to_what_is_marked_are_told() {
        let given = [("kubectl", 1)];
        let ours = [("kubectl", 1), ("meshward", 2)];
        let marked = live(Some("a"), "a", &ours);
        let mut status = live(Some("a"), "a", &[("kubectl", 1), ("meshward", 2), ("kubelet", 3)]);
        status["metadata"]["managedFields"][2]["subresource"] = "status".into();
        let mut made_anew = live(None, "b", &[("helm", 5)]);
        made_anew["metadata"]["uid"] = "other".into();
        for (what, before, now, manager) in [
            ("our first write", Some(live(None, "x", &given)), Some(marked.clone()), None),
            (
                "our next write",
                Some(marked.clone()),
                Some(live(Some("b"), "b", &[("kubectl", 1), ("meshward", 3)])),
                None,
            ),
            ("our restore", Some(marked.clone()), Some(live(None, "x", &[("kubectl", 1), ("meshward", 4)])), None),
            ("owners put back", Some(live(None, "x", &ours)), Some(live(None, "x", &given)), None),
            ("a status", Some(marked.clone()), Some(status), None),
            (
                "another spec",
                Some(marked.clone()),
                Some(live(Some("a"), "b", &[("kubectl", 1), ("argocd", 3)])),
                Some("argocd"),
            ),
            (
                "a label only",
                Some(marked.clone()),
                Some(live(Some("a"), "a", &[("helm", 3), ("meshward", 2)])),
                Some("helm"),
            ),
            (
                "marks taken off",
                Some(marked.clone()),
                Some(live(None, "a", &[("kubectl", 4), ("meshward", 2)])),
                Some("kubectl"),
            ),
            ("in the same second", Some(marked.clone()), Some(live(Some("a"), "b", &ours)), Some("kubectl")),
            ("not marked", Some(live(None, "a", &given)), Some(live(None, "b", &[("kubectl", 4)])), None),
            ("removed", Some(marked.clone()), None, Some("somebody")),
            ("removed, not marked", Some(live(None, "a", &given)), None, None),
            ("made anew", Some(marked.clone()), Some(made_anew), Some("helm")),
            ("as it should be, at first sight", None, Some(marked.clone()), None),
            ("changed before anybody looked", None, Some(live(Some("a"), "b", &ours)), Some("kubectl")),
            ("made", None, Some(live(None, "a", &given)), None),
        ] {
            let told = judge(&target(), before.as_ref(), now.as_ref());
            assert_eq!(told.as_ref().map(|drift| &*drift.manager), manager, "{what}");
            let deleted = matches!(what, "removed" | "made anew");
            assert!(told.is_none_or(|drift| drift.deployment == "d1" && drift.deleted == deleted), "{what}");
        }
    }
}
