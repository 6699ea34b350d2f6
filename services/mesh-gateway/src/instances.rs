//! The instances of a service: pods, and Istio's WorkloadEntries for what runs elsewhere.
//!
//! A page is a page of pods as the API server cuts it, so that a service of thousands of pods is never read whole.
//! After the last pod come the WorkloadEntries; the API server cannot select them by the labels that count (those in
//! their spec), so they are all read and cut here.
//!
//! What is not known is empty: the zone if the node cannot be read, the version if no proxy says it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    cluster::{Cluster, ClusterError, Selection},
    dialect,
    object::metadata_map,
};

/// How the key of a label begins that names the cohort of a pod; each rollout has its own.
pub const COHORT_LABEL: &str = "meshward.io/cohort";

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The containers that are a mesh's proxy.
const PROXIES: [&str; 2] = ["istio-proxy", "linkerd-proxy"];
/// Pods that have ended are no instances.
pub(crate) const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The pod, or the WorkloadEntry.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its node; empty if it has none (yet).
    pub node: String,
    /// The zone of its node, or its locality; empty if not known.
    pub zone: String,
    /// It takes requests.
    pub ready: bool,
    /// Value of the label whose key begins with [`COHORT_LABEL`], of several the canary's; empty = none.
    pub cohort: String,
    /// The version of its proxy; empty if not known.
    pub proxy_version: String,
    /// Its traffic goes through the mesh.
    pub meshed: bool,
}

/// Which instances.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Namespace of the Service.
    pub namespace: &'a str,
    /// Name of the Service.
    pub service: &'a str,
    /// Most instances of the page; at least 1.
    pub size: u32,
    /// The token of the page before; empty = the first page.
    pub token: &'a str,
}

/// Why there is no page.
#[derive(Debug, PartialEq, Eq)]
pub enum NoPage {
    /// There is no such Service.
    NoService,
    /// The token is not one of this list, or too old.
    Token,
    /// What the cluster says.
    Cluster(ClusterError),
}

impl From<ClusterError> for NoPage {
    fn from(error: ClusterError) -> Self {
        Self::Cluster(error)
    }
}

/// Where a page begins.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Among the pods; as the API server says it.
    Pods(String),
    /// After the WorkloadEntry of this name.
    Entries(String),
}

/// A page of instances, and the token of the next one (empty = none).
///
/// # Errors
/// [`NoPage`].
pub async fn list(cluster: &dyn Cluster, wanted: Wanted<'_>) -> Result<(Vec<Instance>, String), NoPage> {
    let place = place(wanted)?;
    let selector = selector(cluster, wanted).await?;
    if selector.is_empty() {
        // Such a Service has the endpoints that somebody writes for it.
        return Ok((Vec::new(), String::new()));
    }
    let mut instances = Vec::new();
    let after = match place {
        Place::Entries(after) => after,
        Place::Pods(from) => {
            let (pods, next) = pods(cluster, wanted, &selector, from).await?;
            instances = pods;
            if !next.is_empty() {
                return Ok((instances, token(wanted, &Place::Pods(next))));
            }
            String::new()
        }
    };
    let mut entries = entries(cluster, wanted, &selector, &after).await?;
    let room = usize::try_from(wanted.size).unwrap_or(usize::MAX).saturating_sub(instances.len());
    let has_more = entries.len() > room;
    entries.truncate(room);
    let last = entries.last().map_or(after, |entry| entry.name.clone());
    instances.extend(entries);
    Ok((instances, if has_more { token(wanted, &Place::Entries(last)) } else { String::new() }))
}

/// The token names its list, so that one of another service cannot skip or repeat instances unseen.
fn token(wanted: Wanted<'_>, place: &Place) -> String {
    let (kind, place) = match place {
        Place::Pods(place) => ("pods", place),
        Place::Entries(place) => ("entries", place),
    };
    format!("{kind}/{}/{}/{place}", wanted.namespace, wanted.service)
}

fn place(wanted: Wanted<'_>) -> Result<Place, NoPage> {
    if wanted.token.is_empty() {
        return Ok(Place::Pods(String::new()));
    }
    match wanted.token.splitn(4, '/').collect::<Vec<_>>()[..] {
        [kind, namespace, service, place] if (namespace, service) == (wanted.namespace, wanted.service) => match kind {
            "pods" => Ok(Place::Pods(place.to_owned())),
            "entries" => Ok(Place::Entries(place.to_owned())),
            _ => Err(NoPage::Token),
        },
        _ => Err(NoPage::Token),
    }
}

/// The labels that the Service selects by.
async fn selector(cluster: &dyn Cluster, wanted: Wanted<'_>) -> Result<Map<String, Value>, NoPage> {
    let selection = Selection {
        fields: format!("metadata.name={}", wanted.service),
        ..Selection::of("v1", "services").within(wanted.namespace)
    };
    let mut services = cluster.select(&selection).await?.objects;
    if services.is_empty() {
        // A cache may not know yet of one that was made this moment; that there is none is said on the API server's word.
        services = cluster.select(&Selection { exact: true, ..selection }).await?.objects;
    }
    let service = services.first().ok_or(NoPage::NoService)?;
    Ok(service["spec"]["selector"].as_object().cloned().unwrap_or_default())
}

async fn pods(
    cluster: &dyn Cluster,
    wanted: Wanted<'_>,
    selector: &Map<String, Value>,
    from: String,
) -> Result<(Vec<Instance>, String), NoPage> {
    let equals = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    let is_later_page = !from.is_empty();
    let selection = Selection {
        fields: NOT_ENDED.to_owned(),
        labels: selector.iter().map(equals).collect::<Vec<_>>().join(","),
        limit: wanted.size,
        from,
        ..Selection::of("v1", "pods").within(wanted.namespace)
    };
    let page = cluster.select(&selection).await.map_err(|error| match error {
        // All but the place has been asked for in the same way before.
        ClusterError::Schema(_) if is_later_page => NoPage::Token,
        error => NoPage::Cluster(error),
    })?;
    let zones = if page.objects.iter().any(|pod| pod["spec"]["nodeName"].is_string()) {
        zones(cluster).await?
    } else {
        BTreeMap::new()
    };
    Ok((page.objects.iter().map(|pod| of_pod(pod, &zones)).collect(), page.next))
}

/// Zones by node. Nobody needs the right to read nodes for the rest, so without it there are none.
async fn zones(cluster: &dyn Cluster) -> Result<BTreeMap<String, String>, NoPage> {
    let nodes = Selection { only_metadata: true, ..Selection::of("v1", "nodes") };
    let nodes = match cluster.select(&nodes).await {
        Ok(page) => page.objects,
        Err(ClusterError::Forbidden { message, .. }) => {
            tracing::debug!(message, "zones stay empty");
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let zone = |node: &Value| Some((text(&node["metadata"]["name"]), label(node, ZONE_LABEL)?));
    Ok(nodes.iter().filter_map(|node| zone(node)).collect())
}

/// The WorkloadEntries of the service whose names come after `after`, by name.
async fn entries(
    cluster: &dyn Cluster,
    wanted: Wanted<'_>,
    selector: &Map<String, Value>,
    after: &str,
) -> Result<Vec<Instance>, NoPage> {
    let selection = Selection::of("networking.istio.io/v1", "workloadentries").within(wanted.namespace);
    let entries = cluster.select(&selection).await?.objects;
    let is_selected =
        |entry: &&Arc<Value>| selector.iter().all(|(key, value)| entry["spec"]["labels"].get(key) == Some(value));
    let mut instances: Vec<_> = entries.iter().filter(is_selected).map(|entry| of_entry(entry)).collect();
    instances.retain(|entry| entry.name.as_str() > after);
    instances.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(instances)
}

fn of_pod(pod: &Value, zones: &BTreeMap<String, String>) -> Instance {
    let (metadata, node) = (&pod["metadata"], text(&pod["spec"]["nodeName"]));
    let proxy_version = proxy_version(pod);
    Instance {
        name: text(&metadata["name"]),
        namespace: text(&metadata["namespace"]),
        zone: zones.get(&node).cloned().unwrap_or_default(),
        node,
        ready: is_ready(pod),
        cohort: cohort(&metadata["labels"]),
        meshed: proxy_container(pod).is_some() || is_marked_as_meshed(pod),
        proxy_version,
    }
}

fn of_entry(entry: &Value) -> Instance {
    let labels = &entry["spec"]["labels"];
    Instance {
        name: text(&entry["metadata"]["name"]),
        namespace: text(&entry["metadata"]["namespace"]),
        // "region/zone/subzone".
        zone: entry["spec"]["locality"]
            .as_str()
            .and_then(|locality| locality.split('/').nth(1))
            .map_or_else(String::new, str::to_owned),
        // Who sends no health checks is taken for healthy, as Istio does.
        ready: condition(entry, "Healthy").unwrap_or(true),
        cohort: cohort(labels),
        meshed: labels["security.istio.io/tlsMode"] == "istio",
        ..Instance::default()
    }
}

/// Whether a pod takes requests.
pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == Some(true) && pod["metadata"]["deletionTimestamp"].is_null()
}

fn cohort(labels: &Value) -> String {
    let ours = labels.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with(COHORT_LABEL));
    let values: Vec<_> = ours.filter_map(|(_, value)| value.as_str()).collect();
    let canary = values.iter().find(|value| **value == dialect::CANARY);
    canary.or(values.first()).map_or_else(String::new, |value| (*value).to_owned())
}

/// A condition of the status; `None` if it is not there.
fn condition(object: &Value, kind: &str) -> Option<bool> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).map(|condition| condition["status"] == "True")
}

/// The proxy's container; a sidecar may also be an init container that goes on running.
fn proxy_container(pod: &Value) -> Option<&Value> {
    let containers = ["containers", "initContainers"].iter().filter_map(|field| pod["spec"][*field].as_array());
    containers.flatten().find(|container| container["name"].as_str().is_some_and(|name| PROXIES.contains(&name)))
}

/// What an injector or a node's proxy leaves on a pod that it has taken in.
fn is_marked_as_meshed(pod: &Value) -> bool {
    let annotation = |key: &str| metadata_map(pod, "annotations").and_then(|map| map.get(key));
    annotation("sidecar.istio.io/status").is_some()
        || annotation("linkerd.io/proxy-version").is_some()
        || annotation("ambient.istio.io/redirection").is_some_and(|value| value == "enabled")
}

fn proxy_version(pod: &Value) -> String {
    let said = metadata_map(pod, "annotations").and_then(|map| map.get("linkerd.io/proxy-version"));
    let image = || proxy_container(pod).and_then(|container| container["image"].as_str()).and_then(tag);
    said.and_then(Value::as_str).or_else(image).unwrap_or_default().to_owned()
}

/// "1.27.1" of "registry:5000/istio/proxyv2:1.27.1@sha256:…".
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next()?.rsplit('/').next()?;
    name.split_once(':').map(|(_, tag)| tag)
}

fn label(object: &Value, key: &str) -> Option<String> {
    metadata_map(object, "labels")?.get(key)?.as_str().map(str::to_owned)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
