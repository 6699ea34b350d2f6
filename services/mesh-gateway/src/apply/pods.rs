//! Dividing pods into cohorts by their labels.
//!
//! The labels on the pods are the only state. Who shall be the canary is decided anew from them each time ([`cohorts`]),
//! so that a call which crashed half-way is simply repeated. A pod is changed by a JSON patch of one label, fenced by the
//! resourceVersion on which it was decided; a conflict means that the pod has moved on, and all is read again.
//!
//! The pods are read from a cache as far as it can be trusted ([`Known`]), else from the API server itself.

use std::{borrow::Borrow, sync::Arc};

use futures::{StreamExt as _, stream};
use meshward_model::{ExposureIntent, Target, Weight};
use serde_json::{Value, json};

use super::{Fence, Known, Outcome, known, newcomers};
use crate::{
    cluster::{Cluster, ClusterError, Selection},
    cohorts::{self, Member},
    dialect::{self, CANARY, PodCohorts, STABLE},
    error::Error,
    instances::{self, NOT_ENDED},
    object,
    proof::{CohortPod, Cohorts},
};

/// Pods whose labels are changed between two looks at the fence.
const BATCH: usize = 64;
/// Requests at once.
const PARALLEL: usize = 8;
/// How often pods are read again because some of them moved on.
const ROUNDS: u32 = 10;

/// One label of one pod.
#[derive(Clone, Debug, PartialEq)]
struct Move {
    name: String,
    patch: Value,
}

/// Gives every pod its label.
pub(super) async fn settle(
    fence: &Fence<'_>,
    wanted: &PodCohorts,
    known: &mut Known<'_>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let is_last = fence.later().is_empty() && wanted.share.is_some();
    let was_sure = known.is_sure;
    let has_moves = !look(fence.cluster, wanted, known).await?.is_empty();
    // Who is late makes no helper either.
    fence.check().await?;
    // Once the label is nowhere, it does not matter any more what new pods would get.
    let must_be_proven = has_moves || !is_last && wanted.share.is_some();
    let writes = outcome.writes;
    let is_held = newcomers::settle(fence, wanted, must_be_proven, &mut outcome.writes).await?;
    let is_told = outcome.writes > writes;
    if fence.raise(is_held, &mut outcome.writes).await? && !known.is_unmarked {
        // Until now a writer of an older generation could label pods.
        known.is_sure = was_sure;
    }
    if is_told {
        // A pod that was made just before that has no label, and a cache need not know it yet.
        known.is_sure = false;
    }
    if is_last && !has_moves {
        return Ok(());
    }
    for _ in 0..ROUNDS {
        let moves = look(fence.cluster, wanted, known).await?;
        if moves.is_empty() {
            return Ok(());
        }
        known.forget();
        for batch in moves.chunks(BATCH) {
            fence.raise(is_held, &mut outcome.writes).await?;
            outcome.pods_moved += label(fence, wanted, batch, known).await?;
        }
    }
    let why = format!("the pods of namespace {} change faster than they can be labelled", wanted.namespace);
    Err(ClusterError::Conflict(why).into())
}

/// What must change.
async fn look(cluster: &dyn Cluster, wanted: &PodCohorts, known: &mut Known<'_>) -> Result<Vec<Move>, ClusterError> {
    if let Some(moves) = remembered(cluster, wanted, known).await? {
        return Ok(moves);
    }
    let pods = read(cluster, wanted, None).await?;
    known.must_show(&wanted.namespace, pods.iter().map(|pod| &**pod));
    known.is_sure = true;
    Ok(moves(&pods, wanted))
}

/// The same of a cache; `None` if it can hide a label.
async fn remembered(
    cluster: &dyn Cluster,
    wanted: &PodCohorts,
    known: &mut Known<'_>,
) -> Result<Option<Vec<Move>>, ClusterError> {
    let namespace = &wanted.namespace;
    let may_be_new = known.is_unmarked && wanted.share.is_some() && !wanted.label_stable;
    if !known.has_caches() || !(known.is_sure || may_be_new || is_alike(wanted)) {
        return Ok(None);
    }
    let pods = read(cluster, wanted, Some(known.version(namespace))).await?;
    known.is_sure |= may_be_new && !pods.iter().any(|pod| known::is_labelled(pod, wanted));
    let moves = moves(&pods, wanted);
    if !known.is_sure {
        // Nothing to do may be an old view; what is to be done tells how new a view must be.
        return Ok(Some(moves).filter(|moves| is_alike(wanted) && !moves.is_empty()));
    }
    known.must_show(namespace, pods.iter().map(|pod| &**pod));
    Ok(Some(moves))
}

/// Every pod gets the same, so that what a pod needs can be told without the others.
fn is_alike(wanted: &PodCohorts) -> bool {
    matches!(wanted.share, None | Some(Weight::ZERO | Weight::FULL))
}

/// The pods: those that the policy is about, or, to take the label away, all that carry it. From a cache that has seen
/// a version, or as the API server knows them now.
async fn read(
    cluster: &dyn Cluster,
    wanted: &PodCohorts,
    cached: Option<String>,
) -> Result<Vec<Arc<Value>>, ClusterError> {
    let equal = wanted.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let (labels, fields) = match wanted.share {
        Some(_) => (equal, NOT_ENDED.to_owned()),
        None => (wanted.key.clone(), String::new()),
    };
    let (exact, not_before) = (cached.is_none(), cached.unwrap_or_default());
    let pods = Selection::of("v1", "pods").within(&wanted.namespace);
    Ok(cluster.select(&Selection { labels, fields, exact, not_before, ..pods }).await?.objects)
}

/// How new a view of the pods that the intent divides must be to show what this call has left; empty = not known.
pub(super) async fn version(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    known: &mut Known<'_>,
    later: &[&PodCohorts],
) -> Result<String, ClusterError> {
    let divided = dialect::of(intent.target.mesh).divided(intent).filter(|_| known.has_caches());
    let Some(divided) = divided else { return Ok(String::new()) };
    if let Some(first) = later.first().filter(|_| known.is_unmarked && !known.is_sure) {
        // The first pods are still to be divided; that none is yet may be seen at once.
        remembered(cluster, first, known).await?;
    }
    Ok(if known.is_sure { known.version(&divided.namespace) } else { String::new() })
}

/// The pods that are divided, also if the label is to be taken away: as they stand in the cluster now, or in any view
/// of it that is as new as this version of one of them.
pub async fn read_cohorts(cluster: &dyn Cluster, divided: &PodCohorts, version: &str) -> Result<Cohorts, ClusterError> {
    let all = PodCohorts { share: Some(Weight::ZERO), ..divided.clone() };
    let cached = (!version.is_empty()).then(|| version.to_owned());
    let pods = read(cluster, &all, cached).await?;
    let cohort_pod = |pod: &Arc<Value>| CohortPod {
        proxy: format!("{}.{}", pod["metadata"]["name"].as_str().unwrap_or_default(), divided.namespace),
        cohort: pod["metadata"]["labels"][&divided.key].as_str().unwrap_or_default().to_owned(),
        ready: instances::is_ready(pod),
    };
    Ok(Cohorts { key: divided.key.clone(), pods: pods.iter().map(cohort_pod).collect() })
}

/// What must change.
fn moves(pods: &[impl Borrow<Value>], wanted: &PodCohorts) -> Vec<Move> {
    let members: Vec<_> = pods.iter().map(|pod| member(pod.borrow(), &wanted.key)).collect();
    let canaries = cohorts::canaries(&members, wanted.share.unwrap_or(Weight::ZERO), &wanted.key);
    let cohort = |name: &str| match wanted.share {
        Some(_) if canaries.contains(name) => Some(CANARY),
        Some(_) if wanted.label_stable => Some(STABLE),
        _ => None,
    };
    let changed = pods.iter().zip(&members).filter_map(|(pod, member)| {
        let patch = relabel(pod.borrow(), &wanted.key, cohort(&member.name))?;
        Some(Move { name: member.name.clone(), patch })
    });
    changed.collect()
}

fn member(pod: &Value, key: &str) -> Member {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Member {
        name: text(&pod["metadata"]["name"]),
        node: text(&pod["spec"]["nodeName"]),
        ready: instances::is_ready(pod),
        is_canary: pod["metadata"]["labels"][key] == CANARY,
    }
}

/// The patch that gives a pod a value of the label, or takes it away; `None` if it is so already.
pub(crate) fn relabel(pod: &Value, key: &str, value: Option<&str>) -> Option<Value> {
    let labels = object::metadata_map(pod, "labels");
    let path = format!("/metadata/labels/{}", key.replace('~', "~0").replace('/', "~1"));
    let now = labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let change = match value {
        _ if now == value => return None,
        Some(value) if labels.is_none() => json!({"op": "add", "path": "/metadata/labels", "value": {key: value}}),
        Some(value) => json!({"op": "add", "path": path, "value": value}),
        None => json!({"op": "remove", "path": path}),
    };
    let fence = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": object::resource_version(pod)});
    Some(json!([fence, change]))
}

/// Changes labels; how many were. A pod that has moved on, or is gone, is left for the next round.
async fn label(fence: &Fence<'_>, wanted: &PodCohorts, batch: &[Move], known: &mut Known<'_>) -> Result<u32, Error> {
    let send = |one: &Move| {
        let target = pod(&fence.intent.target, &wanted.namespace, &one.name);
        let patch = one.patch.clone();
        async move {
            match fence.cluster.patch(&target, &patch).await {
                Ok(now) => Ok((true, Some(now))),
                // A label that is to be taken away may be gone: the patch does not fit, whoever fenced it.
                Err(error @ (ClusterError::Conflict(_) | ClusterError::Schema(_))) => {
                    let now = fence.cluster.get(&target).await?;
                    let is_as_seen = now.as_ref().is_some_and(|now| patch[0]["value"] == object::resource_version(now));
                    let is_refused = is_as_seen && matches!(error, ClusterError::Schema(_));
                    if is_refused { Err(error) } else { Ok((false, now)) }
                }
                Err(error) => Err(error),
            }
        }
    };
    let answers: Vec<_> = stream::iter(batch.iter().map(send)).buffer_unordered(PARALLEL).collect().await;
    let mut changed = 0;
    for answer in answers {
        let (is_changed, now) = answer?;
        changed += u32::from(is_changed);
        match &now {
            Some(now) => known.must_show(&wanted.namespace, [now]),
            None => known.ask_the_cluster(),
        }
        // Who has seen this write has seen all that was written before it.
        known.is_sure |= is_changed;
    }
    tracing::info!(key = wanted.key, changed, "pods moved");
    Ok(changed)
}

/// A pod in the cluster of the deployment's object.
pub(crate) fn pod(of: &Target, namespace: &str, name: &str) -> Target {
    Target {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..of.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEY: &str = "meshward.io/cohort-0123456789";

    fn pod(name: &str, cohort: Option<&str>) -> Value {
        let mut labels = json!({"app": "a"});
        if let Some(cohort) = cohort {
            labels[KEY] = cohort.into();
        }
        json!({"metadata": {"name": name, "resourceVersion": "7", "labels": labels}, "spec": {"nodeName": "n"},
               "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn wanted(share: Option<i64>, label_stable: bool) -> PodCohorts {
        PodCohorts {
            namespace: "shop".into(),
            labels: BTreeMap::from([("app".to_owned(), "a".to_owned())]),
            key: KEY.into(),
            share: share.map(|share| Weight::from_basis_points(share).unwrap()),
            label_stable,
        }
    }

    /// The pods after all moves, as "name=cohort".
    fn after(pods: &[Value], wanted: &PodCohorts) -> Vec<String> {
        let mut cohorts: BTreeMap<_, _> = pods
            .iter()
            .map(|pod| (pod["metadata"]["name"].as_str().unwrap(), pod["metadata"]["labels"][KEY].as_str()))
            .collect();
        let moves = moves(pods, wanted);
        for one in &moves {
            assert_eq!(one.patch[0], json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}));
            assert_eq!(one.patch[1]["path"], "/metadata/labels/meshward.io~1cohort-0123456789");
            *cohorts.get_mut(&*one.name).unwrap() = one.patch[1]["value"].as_str();
        }
        cohorts.into_iter().map(|(name, cohort)| format!("{name}={}", cohort.unwrap_or_default())).collect()
    }

    #[test]
    fn only_what_must_change_is_changed() {
        let pods = [pod("a", Some("canary")), pod("b", None), pod("c", Some("stable")), pod("d", Some("else"))];
        for (name, share, label_stable, expected) in [
            ("all stable", Some(0), true, ["a=stable", "b=stable", "c=stable", "d=stable"]),
            ("who is the canary stays so", Some(2500), true, ["a=canary", "b=stable", "c=stable", "d=stable"]),
            ("no label is the stable cohort", Some(2500), false, ["a=canary", "b=", "c=", "d="]),
            ("everybody", Some(10_000), true, ["a=canary", "b=canary", "c=canary", "d=canary"]),
            ("taken away", None, true, ["a=", "b=", "c=", "d="]),
        ] {
            assert_eq!(after(&pods, &wanted(share, label_stable)), expected, "{name}");
        }
        let done = [pod("a", Some("canary")), pod("b", Some("stable"))];
        assert_eq!(moves(&done, &wanted(Some(5000), true)), [], "nothing to do");
        assert_eq!(moves(&[pod("a", None)], &wanted(None, true)), [], "nothing to take away");
    }

    #[test]
    fn a_pod_without_labels_gets_its_first() {
        let mut bare = pod("a", None);
        bare["metadata"].as_object_mut().unwrap().remove("labels");
        let patch = relabel(&bare, KEY, Some(STABLE)).unwrap();
        assert_eq!(patch[1], json!({"op": "add", "path": "/metadata/labels", "value": {KEY: "stable"}}));
    }
}
