//! Pods that come later are of the stable cohort from their creation on.
//!
//! Where a policy selects pods by their cohort, a pod without the label would be governed by neither version: an
//! AuthorizationPolicy would let everything in. So before the first pod is labelled, the API server is told to label the
//! pods that are created (a MutatingAdmissionPolicy, bound to everything it matches), and asked in a dry run until a pod
//! comes back with the label. It is taken away before the labels are.
//!
//! Where the cluster does not serve such policies, or does not let the gateway make them, the gateway's own watch labels
//! new pods ([`crate::newcomers`]); if it may not watch either, the step fails with what the policy was refused for.
//!
//! What a dry run proves it proves for the API server that answered. In a cluster with several of them another one may
//! be behind by what its watch needs; a pod that slips through there gets its label before the next step, and before a
//! policy is narrowed.

use std::time::Duration;

use meshward_model::Target;
use serde_json::{Value, json};

use super::{Fence, pods, settle as settle_object};
use crate::{
    cluster::{ClusterError, Mode, Selection},
    dialect::{Desired, Newcomers, PodCohorts, STABLE, Wanted},
    error::Error,
    newcomers::unlabelled,
};

const API_VERSION: &str = "admissionregistration.k8s.io/v1";
const POLICY: &str = "MutatingAdmissionPolicy";
const BINDING: &str = "MutatingAdmissionPolicyBinding";
/// How long the API server may need to follow its own policies.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Sees to it that new pods carry the label, or that they do not any more.
pub(super) async fn settle(
    fence: &Fence<'_>,
    wanted: &PodCohorts,
    must_be_proven: bool,
    writes: &mut u32,
) -> Result<(), Error> {
    if !wanted.label_stable {
        return Ok(());
    }
    match by_policy(fence, wanted, must_be_proven, writes).await {
        Err(error) if is_out_of_reach(&error) => {
            tracing::info!(target = %fence.intent.target, %error, "new pods are left to the gateway's own watch");
            let is_begun = must_be_proven && wanted.share.is_some();
            if is_begun { can_watch(fence, wanted).await.map_err(|_| error) } else { Ok(()) }
        }
        result => result,
    }
}

/// The cluster does not serve it, or does not let the gateway.
fn is_out_of_reach(error: &Error) -> bool {
    matches!(error, Error::Cluster(ClusterError::KindNotServed { .. } | ClusterError::Forbidden { .. }))
}

/// Whether the gateway may do what its own watch needs besides labelling pods: [`crate::newcomers`] follows the objects
/// of the kind in all namespaces, and the pods.
async fn can_watch(fence: &Fence<'_>, wanted: &PodCohorts) -> Result<(), ClusterError> {
    let PodCohorts { namespace, labels, key, .. } = wanted.clone();
    let target = &fence.intent.target;
    let kind = fence.cluster.kind_of(&target.api_version, &target.kind).await?;
    for selection in [kind, unlabelled(&Newcomers { namespace, labels, key })] {
        let one = Selection { limit: 1, exact: true, ..selection.clone() };
        let listed = fence.cluster.select(&one).await?;
        drop(fence.cluster.watch(&selection, &listed.resource_version).await?);
    }
    Ok(())
}

/// Sees to it by the admission policy.
async fn by_policy(
    fence: &Fence<'_>,
    wanted: &PodCohorts,
    must_be_proven: bool,
    writes: &mut u32,
) -> Result<(), Error> {
    let before = *writes;
    let is_wanted = wanted.share.is_some();
    for desired in objects(fence, wanted, is_wanted) {
        match settle_object(fence.cluster, fence.intent, &desired, &[], writes).await {
            // What cannot be reached was not made, and the other one may have been.
            Err(error) if !is_wanted && is_out_of_reach(&error) => {}
            result => drop(result?),
        }
    }
    if *writes > before || must_be_proven {
        await_effect(fence, wanted, is_wanted).await?;
    }
    Ok(())
}

/// The policy, then its binding; in reverse to take them away.
fn objects(fence: &Fence<'_>, wanted: &PodCohorts, is_wanted: bool) -> Vec<Desired> {
    let name = name(wanted);
    let all = [(POLICY, policy(wanted)), (BINDING, json!({"policyName": name}))];
    let mut all = all.map(|(kind, spec)| Desired {
        target: Target {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            namespace: String::new(),
            name: name.clone(),
            ..fence.intent.target.clone()
        },
        wanted: match is_wanted {
            true => Wanted::Helper(
                json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}),
            ),
            false => Wanted::Gone,
        },
    });
    if !is_wanted {
        all.reverse();
    }
    all.into()
}

/// "meshward-cohort-0123456789" of "meshward.io/cohort-0123456789".
fn name(wanted: &PodCohorts) -> String {
    wanted.key.replace(".io/", "-")
}

/// With every default of the schema, so that what is stored is what was sent.
fn policy(wanted: &PodCohorts) -> Value {
    let label = json!({&wanted.key: STABLE});
    json!({
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": wanted.namespace}},
            "objectSelector": if wanted.labels.is_empty() { json!({}) } else { json!({"matchLabels": wanted.labels}) },
            "resourceRules": [{
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "*",
            }],
        },
        "mutations": [{
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": format!("Object{{metadata: Object.metadata{{labels: {label}}}}}")},
        }],
        // A pod that cannot be labelled is not created: it would be governed by neither version.
        "failurePolicy": "Fail",
        // Once more if a webhook has changed the pod since.
        "reinvocationPolicy": "IfNeeded",
    })
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
