//! The fence of what did not exist before.
//!
//! While a deployment has an object, the object says whose turn it is to write. After the *absence* of an object was put
//! back there is none, so that a first write of the same deployment that comes late (of a replica that was stopped, of a
//! call whose caller has given up) would make it once more, for nobody to take away. So before the absence is put back
//! the deployment is written down: in one ConfigMap for each namespace, by the last [`MOST`] such deployments there.
//!
//! Kubernetes knows no write of two objects at once. So the record is read twice: before anything is written, and after
//! an object was made. Who finds it the second time takes back what he has made, by its uid; the record is written before
//! the object is deleted, so of the two at least one sees the other. What is left is a writer that dies between its write
//! and its second look: the object then carries the deployment's marks, and whoever is called for it next takes it back.
//!
//! A way back is never held up for want of a right: without the one to ConfigMaps nothing is recorded, and the log says so.

use meshward_model::{ExposureIntent, Target};
use serde_json::{Value, json};

use super::{Marks, ROUNDS, decide::delete};
use crate::{
    cluster::{Cluster, ClusterError},
    error::Error,
    object,
};

/// Name of the ConfigMap.
pub const NAME: &str = "meshward-ended";
const FIELD: &str = "deployments";
/// Deployments that are remembered in a namespace: the last ones, one line each.
const MOST: usize = 256;

/// Whether this is about an object that did not exist before.
pub(super) fn is_needed(intent: &ExposureIntent) -> bool {
    intent.baseline.object.is_none()
}

/// Writes down that a deployment is over; how many writes it took.
pub(super) async fn record(cluster: &dyn Cluster, intent: &ExposureIntent) -> Result<u32, Error> {
    let target = ledger(&intent.target);
    for _ in 0..ROUNDS {
        let live = match read(cluster, &target).await? {
            Some(live) if has(&live, intent) => return Ok(0),
            live => live,
        };
        let known = live.as_ref().map(lines).unwrap_or_default();
        let first = (known.len() + 1).saturating_sub(MOST);
        let text = [&known[first..], &[&*line(intent)]].concat().join("\n");
        let written = match &live {
            None => cluster.create(&target, &new(&target, &text)).await,
            Some(live) => cluster.patch(&target, &changed(live, &text)).await,
        };
        match written {
            Ok(_) => return Ok(1),
            Err(ClusterError::Conflict(_)) => {}
            Err(error @ ClusterError::Forbidden { .. }) => {
                let object = &intent.target;
                tracing::warn!(%object, %error, "nothing will hold back a late first write");
                return Ok(0);
            }
            // Its namespace is gone, and with it whatever a late writer could make.
            Err(ClusterError::Schema(_)) if cluster.get(&namespace(&intent.target)).await?.is_none() => return Ok(0),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ClusterError::Conflict(format!("{target} changes faster than it can be written")).into())
}

/// Refuses a deployment that is over, and takes back what one of its writers may have left behind.
pub(super) async fn check(cluster: &dyn Cluster, intent: &ExposureIntent) -> Result<(), Error> {
    let is_marked = |live: &Value| Marks::of(live).is_some_and(|marks| marks.deployment == intent.deployment_id);
    check_made(cluster, intent, &intent.target, is_marked).await
}

/// The same after an object was made, which `is_it` knows again.
pub(super) async fn check_made(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    made: &Target,
    is_it: impl Fn(&Value) -> bool,
) -> Result<(), Error> {
    let target = ledger(&intent.target);
    if !read(cluster, &target).await?.is_some_and(|live| has(&live, intent)) {
        return Ok(());
    }
    for _ in 0..ROUNDS {
        let Some(live) = cluster.get(made).await?.filter(&is_it) else { break };
        match super::act(cluster, made, delete(&live)).await {
            Ok(_) => tracing::warn!(object = %made, "made too late, and taken back"),
            Err(ClusterError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let message = format!(
        "deployment {} is over: the absence of {} was put back ({target})",
        intent.deployment_id, intent.target
    );
    Err(Error::Stale { message })
}

async fn read(cluster: &dyn Cluster, target: &Target) -> Result<Option<Value>, ClusterError> {
    match cluster.get(target).await {
        // Then it is not written either.
        Err(ClusterError::Forbidden { .. }) => Ok(None),
        answer => answer,
    }
}

fn ledger(of: &Target) -> Target {
    Target { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned(), name: NAME.to_owned(), ..of.clone() }
}

fn namespace(of: &Target) -> Target {
    let (api_version, kind) = ("v1".to_owned(), "Namespace".to_owned());
    Target { api_version, kind, namespace: String::new(), name: of.namespace.clone(), ..of.clone() }
}

fn new(target: &Target, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": target.namespace},
           "data": {FIELD: text}})
}

/// Only if it is still the one that was read.
fn changed(live: &Value, text: &str) -> Value {
    json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": object::resource_version(live)},
           {"op": "add", "path": "/data", "value": {FIELD: text}}])
}

fn lines(live: &Value) -> Vec<&str> {
    live["data"][FIELD].as_str().unwrap_or_default().lines().collect()
}

fn has(live: &Value, intent: &ExposureIntent) -> bool {
    lines(live).contains(&&*line(intent))
}

/// The deployment, and for whoever reads it the object.
fn line(intent: &ExposureIntent) -> String {
    let Target { kind, name, .. } = &intent.target;
    format!("{} {kind}/{name}", intent.deployment_id)
}
