//! The definitions of the meshes' kinds, by which the cluster itself checks objects of them.
//!
//! A cluster may have hundreds of definitions of others, and one of Istio's takes some 100 KB, most of it prose. So all are listed
//! as metadata; those of the meshes are then read one by one until a page is full, and told without their descriptions.

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use meshward_model::Mesh;
use serde_json::{Value, json};

use super::{Page, Wanted, target};
use crate::cluster::{Cluster, ClusterError, Selection};

pub(super) const API_VERSION: &str = "apiextensions.k8s.io/v1";
pub(super) const KIND: &str = "CustomResourceDefinition";
/// A page that is so large is full.
const PAGE_BYTES: usize = 1024 * 1024;
/// Definitions that are read at once.
const AT_ONCE: usize = 4;

/// A page of them in the order of their names, of which the last one is the token of the next page.
pub(super) async fn page(cluster: &dyn Cluster, wanted: Wanted<'_>) -> Result<Page, ClusterError> {
    if !wanted.token.is_empty() && !is_of_a_mesh(wanted.token) {
        return Err(ClusterError::Schema(format!("{:?} names no definition of a mesh", wanted.token)));
    }
    let kind = cluster.kind_of(API_VERSION, KIND).await?;
    let listed = cluster.select(&Selection { only_metadata: true, exact: true, ..kind }).await?;
    let names = listed.objects.iter().filter_map(|object| object["metadata"]["name"].as_str());
    let mut names: Vec<_> = names.filter(|name| is_of_a_mesh(name) && *name > wanted.token).collect();
    names.sort_unstable();
    // Boxed, because a stream that makes them as it goes ties their lifetimes too tight for a service.
    let asked: Vec<BoxFuture<'_, _>> = names.into_iter().map(|name| read(cluster, name).boxed()).collect();
    let mut reading = stream::iter(asked).buffered(AT_ONCE);
    let (mut page, mut bytes, mut last) = (Page { served: true, ..Page::default() }, 0, "");
    while let Some((name, found)) = reading.try_next().await? {
        if bytes >= PAGE_BYTES || page.objects.len() >= wanted.size as usize {
            last.clone_into(&mut page.next);
            break;
        }
        // One that was removed in between is left out.
        if let Some(definition) = found.map(told) {
            bytes += definition.to_string().len();
            page.objects.push(definition);
            last = name;
        }
    }
    Ok(page)
}

async fn read<'n>(cluster: &dyn Cluster, name: &'n str) -> Result<(&'n str, Option<Value>), ClusterError> {
    Ok((name, cluster.get(&target(API_VERSION, KIND, "", name)).await?))
}

/// By its name, which is the kind's plural and its group.
fn is_of_a_mesh(name: &str) -> bool {
    name.split_once('.').is_some_and(|(_, group)| Mesh::of_api_version(group).is_some())
}

/// What an object is checked by, and what tells one state of it from another.
fn told(mut definition: Value) -> Value {
    let metadata = &definition["metadata"];
    let metadata = json!({"name": metadata["name"], "uid": metadata["uid"], "generation": metadata["generation"]});
    let spec = &mut definition["spec"];
    for version in spec["versions"].as_array_mut().into_iter().flatten() {
        version.pointer_mut("/schema/openAPIV3Schema").into_iter().for_each(leave_out_descriptions);
    }
    let spec = json!({"group": spec["group"], "names": spec["names"], "scope": spec["scope"], "versions": spec["versions"].take()});
    json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})
}

/// Of a schema and all below it; a field that is called description is none, and neither is what stands in a default.
fn leave_out_descriptions(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else { return };
    keywords.remove("description");
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(fields)) => fields.values_mut().for_each(leave_out_descriptions),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter_mut().for_each(leave_out_descriptions),
            ("items" | "additionalProperties" | "not", schema) => leave_out_descriptions(schema),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshward_chassis::clock::SystemClock;

    use super::*;
    use crate::cluster::MemoryCluster;

    async fn cluster(definitions: &[(&str, &str, Value)]) -> MemoryCluster {
        let cluster = MemoryCluster::new(Arc::new(SystemClock));
        for (plural, group, schema) in definitions {
            let name = format!("{plural}.{group}");
            let versions = json!([{"name": "v1", "served": true, "schema": {"openAPIV3Schema": schema}}]);
            let spec =
                json!({"group": group, "names": {"plural": plural}, "scope": "Namespaced", "versions": versions});
            let metadata = json!({"name": name, "annotations": {"a": "b"}});
            let object = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec});
            cluster.create(&target(API_VERSION, KIND, "", &name), &object).await.expect("it is new");
        }
        cluster
    }

    fn wanted(size: u32, token: &str) -> Wanted<'_> {
        Wanted { api_version: API_VERSION, kind: KIND, namespace: None, size, token }
    }

    fn names(page: &Page) -> Vec<&str> {
        page.objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect()
    }

    #[tokio::test]
    async fn only_those_of_a_mesh_are_told_and_pages_end_by_count_or_bytes() {
        let large = json!({"pattern": "a".repeat(PAGE_BYTES)});
        let cluster = cluster(&[
            ("servers", "policy.linkerd.io", json!({})),
            ("sidecars", "networking.istio.io", large),
            ("gateways", "networking.istio.io", json!({})),
            ("certificates", "cert-manager.io", json!({})),
            ("fakes", "istio.io.example.com", json!({})),
        ])
        .await;
        let (gateways, servers, sidecars) =
            ("gateways.networking.istio.io", "servers.policy.linkerd.io", "sidecars.networking.istio.io");
        for (size, token, expected, next) in [
            (10, "", vec![gateways, servers, sidecars], ""),
            (2, "", vec![gateways, servers], servers),
            (2, servers, vec![sidecars], ""),
            (10, sidecars, vec![], ""),
        ] {
            let page = page(&cluster, wanted(size, token)).await.expect("a page");
            assert_eq!(
                (names(&page), page.next.as_str(), page.served),
                (expected, next, true),
                "{size} after {token:?}"
            );
        }
        let last = ("virtualservices", "networking.istio.io", json!({}));
        let two =
            self::cluster(&[("gateways", "networking.istio.io", json!({"pattern": "a".repeat(PAGE_BYTES)})), last])
                .await;
        assert_eq!(page(&two, wanted(10, "")).await.expect("a page").next, gateways, "a large one fills its page");
        let foreign = page(&cluster, wanted(10, "certificates.cert-manager.io")).await;
        assert!(matches!(foreign, Err(ClusterError::Schema(_))), "{foreign:?}");
    }

    #[tokio::test]
    async fn of_a_definition_only_what_checks_is_told() {
        let schema = json!({"type": "object", "description": "prose", "properties": {
            "description": {"type": "string", "description": "prose"},
            "list": {"items": {"description": "prose", "not": {"description": "prose"}}},
            "map": {"additionalProperties": {"description": "prose"}, "default": {"description": "kept"}},
            "one": {"oneOf": [{"description": "prose", "required": ["description"]}]},
        }});
        let bare = json!({"type": "object", "properties": {
            "description": {"type": "string"},
            "list": {"items": {"not": {}}},
            "map": {"additionalProperties": {}, "default": {"description": "kept"}},
            "one": {"oneOf": [{"required": ["description"]}]},
        }});
        let cluster = cluster(&[("servers", "policy.linkerd.io", schema)]).await;
        let page = page(&cluster, wanted(1, "")).await.expect("a page");
        let [definition] = page.objects.as_slice() else { panic!("{page:?}") };
        let versions = json!([{"name": "v1", "served": true, "schema": {"openAPIV3Schema": bare}}]);
        assert_eq!(
            definition["spec"],
            json!({"group": "policy.linkerd.io", "names": {"plural": "servers"}, "scope": "Namespaced", "versions": versions})
        );
        let metadata = &definition["metadata"];
        assert!(metadata["uid"].is_string() && metadata["generation"].is_number(), "{metadata}");
        assert!(metadata.get("annotations").is_none());
    }
}
