//! Pods that come later are of the stable cohort from their creation on.
//!
//! Where a policy selects pods by their cohort, a pod without the label would be governed by neither version: an
//! AuthorizationPolicy would let everything in. So before the first pod is labelled, the admission policy that is
//! installed with the service ([`admission`]) is told of the deployment's pods by a ConfigMap, and the API server is asked
//! in a dry run until a pod comes back with the label. The ConfigMap is taken away before the labels are. It carries the
//! deployment's marks: until the object itself is narrowed, it is what shows that a deployment is at work.
//!
//! Where the admission policy is not installed, or the gateway may make no ConfigMap, the gateway's own watch labels new
//! pods ([`crate::newcomers`]); if it may not watch either, the step fails with what it lacks.
//!
//! What a dry run proves it proves for the API server that answered. In a cluster with several of them another one may
//! be behind by what its watch needs, and where no admission policy labels pods the gateway's watch is always behind a
//! little. So the write that narrows an object to labelled pods ([`narrowed`]) has a look of its own right before and
//! right after it, at the pods that have no label as the cluster's store knows them, and labels them
//! ([`crate::newcomers::catch_up`]). What then holds, whatever a watch has missed and whoever labels new pods:
//!
//! * Before the write there was a moment, no longer ago than a request takes, at which every pod had its label. A pod
//!   that has had the time to become Ready is among them.
//! * When the call returns, every pod that is older than the write has its label. If the look after the write fails the
//!   call does, and the next one has the look again; the gateway's watch labels the pods meanwhile.
//!
//! Kubernetes knows no write of two objects at once, so a pod that is made between the look and the write is without a
//! version until the look after it: a few requests, in which no container starts.

use std::time::Duration;

use meshward_model::{ExposureIntent, Target};
use serde_json::{Value, json};

use super::{Case, Fence, Known, is_further, pods, settle as settle_object};
use crate::{
    cluster::{Cluster, ClusterError, Mode, Selection},
    dialect::{self, Desired, Newcomers, Phase, PodCohorts, Wanted},
    error::Error,
    newcomers::{
        admission::{self, API_VERSION, BINDING},
        catch_up, of_caches, unlabelled,
    },
};

/// How long the API server may need to follow its own policies.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// What these objects demand of pods once they are written; `None` if nothing, or if they demand it already and nothing
/// was left undone.
pub(super) async fn narrowed(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    objects: &[Desired],
    later: &[Phase],
    known: &Known<'_>,
) -> Result<Option<Newcomers>, ClusterError> {
    let (target, dialect) = (&intent.target, dialect::of(intent.target.mesh));
    let desired = objects.iter().find(|desired| intent.is_about(&desired.target));
    let Some(wanted) = desired.and_then(|desired| dialect.newcomers(target, desired.object())) else {
        return Ok(None);
    };
    let live = cluster.get(target).await?;
    if is_further(live.as_ref(), &Case::of(intent, target), later) {
        return Ok(None);
    }
    let is_narrowed = live.and_then(|live| dialect.newcomers(target, &live)).as_ref() == Some(&wanted);
    Ok(if is_narrowed && known.is_sure { None } else { Some(wanted) })
}

/// Labels the pods that have no label now, right before or right after an object demands it; how many.
pub(super) async fn look(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    newcomers: &Newcomers,
    known: &mut Known<'_>,
) -> Result<u32, ClusterError> {
    // Until the call is over nothing is left that says that the look after the write was had.
    known.forget();
    let labelled = catch_up(cluster, &intent.target, newcomers).await?;
    known.must_show(&newcomers.namespace, &labelled);
    Ok(u32::try_from(labelled.len()).unwrap_or(u32::MAX))
}

/// Sees to it that new pods carry the label, or that they do not any more. Whether there is an object now that carries
/// the deployment's marks for it.
pub(super) async fn settle(
    fence: &Fence<'_>,
    wanted: &PodCohorts,
    must_be_proven: bool,
    writes: &mut u32,
) -> Result<bool, Error> {
    if !wanted.label_stable {
        return Ok(false);
    }
    let is_wanted = wanted.share.is_some();
    let told = match is_wanted && !is_installed(fence).await? {
        true => Ok(false),
        false => tell(fence, wanted, must_be_proven, writes).await,
    };
    match told {
        // What cannot be reached was not made.
        Err(error) if !is_out_of_reach(&error) => Err(error),
        Ok(true) => Ok(true),
        _ => {
            tracing::info!(target = %fence.intent.target, "new pods are left to the gateway's own watch");
            if is_wanted && must_be_proven {
                can_watch(fence, wanted).await?;
            }
            Ok(false)
        }
    }
}

/// Whether there is an admission policy to tell.
async fn is_installed(fence: &Fence<'_>) -> Result<bool, Error> {
    let binding = Target {
        api_version: API_VERSION.to_owned(),
        kind: BINDING.to_owned(),
        namespace: String::new(),
        name: admission::NAME.to_owned(),
        ..fence.intent.target.clone()
    };
    match fence.cluster.get(&binding).await {
        Ok(found) => Ok(found.is_some()),
        Err(ClusterError::KindNotServed { .. } | ClusterError::Forbidden { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The cluster does not let the gateway.
fn is_out_of_reach(error: &Error) -> bool {
    matches!(error, Error::Cluster(ClusterError::Forbidden { .. }))
}

fn newcomers(wanted: &PodCohorts) -> Newcomers {
    let PodCohorts { namespace, labels, key, .. } = wanted.clone();
    Newcomers { namespace, labels, key }
}

/// Whether the gateway may do what its own watch needs besides labelling pods: [`crate::newcomers`] follows the objects
/// of the kind in all namespaces, and the pods.
async fn can_watch(fence: &Fence<'_>, wanted: &PodCohorts) -> Result<(), ClusterError> {
    let target = &fence.intent.target;
    let kind = fence.cluster.kind_of(&target.api_version, &target.kind).await?;
    for selection in [kind, unlabelled(&newcomers(wanted))] {
        let one = Selection { limit: 1, ..of_caches(selection.clone()) };
        let listed = fence.cluster.select(&one).await?;
        drop(fence.cluster.watch(&selection, &listed.resource_version).await?);
    }
    Ok(())
}

/// Whether the admission policy is told of these pods now.
pub(super) async fn is_told(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    cohorts: Option<&PodCohorts>,
) -> Result<bool, ClusterError> {
    let Some(cohorts) = cohorts else { return Ok(false) };
    match cluster.get(&parameter_of(&intent.target, cohorts)).await {
        Ok(found) => Ok(found.is_some()),
        // Then nobody has told it.
        Err(ClusterError::Forbidden { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What tells the admission policy of a deployment's pods.
fn parameter_of(of: &Target, wanted: &PodCohorts) -> Target {
    Target {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        namespace: wanted.namespace.clone(),
        name: name(wanted),
        ..of.clone()
    }
}

/// Tells the admission policy, or takes back what it was told; whether it is told now.
async fn tell(fence: &Fence<'_>, wanted: &PodCohorts, must_be_proven: bool, writes: &mut u32) -> Result<bool, Error> {
    let before = *writes;
    let is_wanted = wanted.share.is_some();
    let parameter = admission::parameter(&newcomers(wanted));
    let desired = Desired {
        target: parameter_of(&fence.intent.target, wanted),
        wanted: if is_wanted { Wanted::Helper(parameter) } else { Wanted::Gone },
    };
    settle_object(fence.cluster, fence.intent, &desired, &[], writes).await?;
    if *writes > before || must_be_proven {
        await_effect(fence, wanted, is_wanted).await?;
    }
    Ok(is_wanted)
}

fn name(wanted: &PodCohorts) -> String {
    admission::name(&newcomers(wanted))
}

/// Asks the API server in dry runs until a new pod has the label, or has it no more.
async fn await_effect(fence: &Fence<'_>, wanted: &PodCohorts, is_wanted: bool) -> Result<(), Error> {
    let (target, object) = probe(fence, wanted);
    let asking = async {
        loop {
            let stored = fence.cluster.apply(&target, &object, Mode::DryRun).await?.object;
            if stored["metadata"]["labels"][&wanted.key].is_string() == is_wanted {
                return Ok::<_, ClusterError>(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let what = if is_wanted { "not labelled" } else { "still labelled" };
            let why = format!("new pods are {what} {} s after {} was written", PATIENCE.as_secs(), name(wanted));
            Err(ClusterError::Unreachable(why).into())
        }
    }
}

/// A pod as the strictest of the usual admission rules would have it.
fn probe(fence: &Fence<'_>, wanted: &PodCohorts) -> (Target, Value) {
    let target = pods::pod(&fence.intent.target, &wanted.namespace, &format!("{}-probe", name(wanted)));
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": target.name, "namespace": target.namespace, "labels": wanted.labels},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "probe",
                "image": "none",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "1m", "memory": "1Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    (target, object)
}
