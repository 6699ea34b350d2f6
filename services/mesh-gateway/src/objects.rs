//! The objects of a kind, page by page, for who judges a change among what is there.
//!
//! Only kinds that policies are or refer to: this is no way around the API server's own rights. Of a Secret nobody gets more
//! than its metadata, and the API server is not asked for more. Of all ConfigMaps there is only the one that Istio's mesh
//! configuration stands in, and of it nothing else: it is read by name, which takes no right to list the others. Of definitions there
//! are only those of the meshes' kinds.

mod definitions;

use std::sync::Arc;

use meshward_model::{Mesh, Target};
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterError, Selected};

/// Kinds of Kubernetes that policies refer to.
const REFERRED_TO: [&str; 6] = ["Namespace", "Node", "Pod", "Secret", "Service", "ServiceAccount"];
/// Of these only the metadata is read.
const SECRET: &str = "Secret";
/// Of these only the one of Istio, and of that only the mesh configuration.
const CONFIG_MAP: &str = "ConfigMap";
const MESH_CONFIG: &str = "istio";

/// Which objects.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// "v1", "networking.istio.io/v1".
    pub api_version: &'a str,
    /// "Service".
    pub kind: &'a str,
    /// `None` = all namespaces.
    pub namespace: Option<&'a str>,
    /// Most objects of the page.
    pub size: u32,
    /// The token of the page before; empty = the first page.
    pub token: &'a str,
}

/// A page of objects.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    /// Each with apiVersion and kind, without managedFields.
    pub objects: Vec<Value>,
    /// The token of the next page; empty = none.
    pub next: String,
    /// The cluster serves the kind in this version.
    pub served: bool,
}

/// Whether objects of a kind may be listed at all.
#[must_use]
pub fn is_listed(api_version: &str, kind: &str) -> bool {
    (api_version == "v1" && (kind == CONFIG_MAP || REFERRED_TO.contains(&kind)))
        || is_definition(api_version, kind)
        || Mesh::of_api_version(api_version).is_some()
}

/// Whether the kind is that of definitions, which belong to no namespace and are no secret: whoever writes a policy is held to them.
#[must_use]
pub fn is_definition(api_version: &str, kind: &str) -> bool {
    (api_version, kind) == (definitions::API_VERSION, definitions::KIND)
}

/// A page of objects of a kind that [`is_listed`].
///
/// # Errors
/// [`ClusterError::Schema`] for a token that is not of this list, or what the cluster says.
pub async fn list(cluster: &dyn Cluster, wanted: Wanted<'_>) -> Result<Page, ClusterError> {
    if is_definition(wanted.api_version, wanted.kind) {
        return definitions::page(cluster, wanted).await;
    }
    if wanted.kind == CONFIG_MAP {
        let objects = mesh_config(cluster, wanted).await?.into_iter().collect();
        return Ok(Page { objects, next: String::new(), served: true });
    }
    let mut selection = match cluster.kind_of(wanted.api_version, wanted.kind).await {
        Err(ClusterError::KindNotServed { .. }) => return Ok(Page::default()),
        found => found?,
    };
    selection.namespace = wanted.namespace.map(str::to_owned);
    selection.limit = wanted.size;
    wanted.token.clone_into(&mut selection.from);
    selection.only_metadata = wanted.kind == SECRET;
    let Selected { objects, next, .. } = cluster.select(&selection).await?;
    let objects = objects.into_iter().map(|object| named(Arc::unwrap_or_clone(object), wanted)).collect();
    Ok(Page { objects, next, served: true })
}

/// Istio's mesh configuration, if its control plane is in the namespace. Not its annotations, which may repeat all that was applied.
async fn mesh_config(cluster: &dyn Cluster, wanted: Wanted<'_>) -> Result<Option<Value>, ClusterError> {
    let Some(namespace) = wanted.namespace else { return Ok(None) };
    let found = cluster.get(&target(wanted.api_version, CONFIG_MAP, namespace, MESH_CONFIG)).await?;
    Ok(found.map(|object| {
        json!({
            "apiVersion": wanted.api_version,
            "kind": CONFIG_MAP,
            "metadata": {"name": MESH_CONFIG, "namespace": namespace},
            "data": {"mesh": object["data"]["mesh"]},
        })
    }))
}

/// Which is no object of a mesh, as a target is otherwise.
fn target(api_version: &str, kind: &str, namespace: &str, name: &str) -> Target {
    Target {
        cluster: String::new(),
        mesh: Mesh::Istio,
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Items of a list do not say what they are.
fn named(mut object: Value, wanted: Wanted<'_>) -> Value {
    object["apiVersion"] = json!(wanted.api_version);
    object["kind"] = json!(wanted.kind);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if wanted.kind == SECRET {
        let metadata = object["metadata"].take();
        return json!({"apiVersion": wanted.api_version, "kind": SECRET, "metadata": metadata});
    }
    object
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshward_chassis::clock::SystemClock;
    use meshward_model::Target;

    use super::*;
    use crate::cluster::MemoryCluster;

    const ISTIO: &str = "networking.istio.io/v1";

    fn wanted<'a>(kind: &'a str, namespace: Option<&'a str>, token: &'a str) -> Wanted<'a> {
        Wanted { api_version: ISTIO, kind, namespace, size: 2, token }
    }

    #[tokio::test]
    async fn objects_come_page_by_page_and_say_what_they_are() {
        let cluster = MemoryCluster::new(Arc::new(SystemClock));
        for (namespace, name) in [("shop", "a"), ("shop", "b"), ("shop", "c"), ("web", "d")] {
            let target = Target::new("", ISTIO, "VirtualService", namespace, name).expect("a target");
            let object = json!({"apiVersion": ISTIO, "kind": "VirtualService", "metadata": {"namespace": namespace, "name": name}, "spec": {}});
            cluster.create(&target, &object).await.expect("it is new");
        }
        let names = |page: &Page| -> Vec<String> {
            page.objects
                .iter()
                .map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
                .collect()
        };
        let first = list(&cluster, wanted("VirtualService", Some("shop"), "")).await.expect("a page");
        assert_eq!(names(&first), ["a", "b"]);
        assert!(first.served && !first.next.is_empty());
        assert_eq!(
            (&first.objects[0]["kind"], &first.objects[0]["apiVersion"]),
            (&json!("VirtualService"), &json!(ISTIO))
        );
        assert!(first.objects[0]["metadata"].get("managedFields").is_none());
        let second = list(&cluster, wanted("VirtualService", Some("shop"), &first.next)).await.expect("a page");
        assert_eq!((names(&second), second.next.as_str()), (vec!["c".to_owned()], ""));
        let all = list(&cluster, Wanted { size: 10, ..wanted("VirtualService", None, "") }).await.expect("a page");
        assert_eq!(names(&all), ["a", "b", "c", "d"]);
    }

    #[test]
    fn of_a_secret_only_the_metadata_is_told() {
        let secret = json!({"metadata": {"name": "a", "managedFields": []}, "data": {"key": "c2VjcmV0"}, "type": "x"});
        let told = named(secret, Wanted { api_version: "v1", ..wanted(SECRET, None, "") });
        assert_eq!(told, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}));
    }

    #[tokio::test]
    async fn of_all_config_maps_only_the_mesh_configuration_is_told() {
        let cluster = MemoryCluster::new(Arc::new(SystemClock));
        for (name, data) in [("istio", json!({"mesh": "a: b", "meshNetworks": "c"})), ("other", json!({"mesh": "d"}))] {
            let target = target("v1", CONFIG_MAP, "istio-system", name);
            let metadata = json!({"name": name, "namespace": "istio-system", "annotations": {"e": "f"}});
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            cluster.create(&target, &object).await.expect("it is new");
        }
        let told = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
                          "data": {"mesh": "a: b"}});
        for (namespace, expected) in [(Some("istio-system"), vec![told]), (Some("shop"), vec![]), (None, vec![])] {
            let wanted = Wanted { api_version: "v1", size: 10, ..wanted(CONFIG_MAP, namespace, "") };
            let page = list(&cluster, wanted).await.expect("a page");
            assert_eq!((page.objects, page.next.as_str(), page.served), (expected, "", true), "{namespace:?}");
        }
    }

    #[test]
    fn only_what_policies_are_or_refer_to_is_listed() {
        for (api_version, kind, listed) in [
            ("v1", "Service", true),
            ("v1", "ConfigMap", true),
            ("v1", "Endpoints", false),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", false),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition", true),
            ("v1", "CustomResourceDefinition", false),
            ("policy.linkerd.io/v1beta3", "Server", true),
            ("gateway.networking.k8s.io/v1", "HTTPRoute", true),
        ] {
            assert_eq!(is_listed(api_version, kind), listed, "{api_version} {kind}");
        }
    }
}
