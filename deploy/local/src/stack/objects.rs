//! Objects in the API server: written by server-side apply, so that a second write of the same is no change.

use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{READY, StackError, error};
use crate::tools::Tools;

/// The name under which the stack's own writes are seen in `metadata.managedFields`.
const FIELD_MANAGER: &str = "meshward-local";
/// How many objects are written at once.
const PARALLEL: usize = 8;

/// Applies one object; it is namespaced if its metadata names a namespace.
pub(crate) async fn apply(client: &kube::Client, object: &Value) -> Result<(), StackError> {
    let (api, object, what) = parse(client, object)?;
    let name = object.metadata.name.clone().unwrap_or_default();
    api.patch(&name, &parameters(), &Patch::Apply(&object)).await.map_err(StackError::kubernetes(what))?;
    Ok(())
}

/// Applies the `status` of an object that exists.
pub(crate) async fn apply_status(client: &kube::Client, object: &Value) -> Result<(), StackError> {
    let (api, object, what) = parse(client, object)?;
    let name = object.metadata.name.clone().unwrap_or_default();
    api.patch_status(&name, &parameters(), &Patch::Apply(&object)).await.map_err(StackError::kubernetes(what))?;
    Ok(())
}

/// Applies several objects, in no particular order.
pub(super) async fn apply_all(client: &kube::Client, objects: &[Value]) -> Result<(), StackError> {
    futures::stream::iter(objects).map(|object| apply(client, object)).buffer_unordered(PARALLEL).try_collect().await
}

/// Creates namespaces.
pub(crate) async fn create_namespaces(client: &kube::Client, names: &[&str]) -> Result<(), StackError> {
    let namespace = |name: &&str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    apply_all(client, &names.iter().map(namespace).collect::<Vec<_>>()).await
}

/// Applies every definition in a YAML file and waits until the API server serves all of them.
pub(super) async fn apply_crds(client: &kube::Client, file: &Path) -> Result<(), StackError> {
    apply_definitions(client, &documents(file)?).await
}

/// The definitions of some of the Gateway API's kinds, by their plural names; none where they are not installed.
pub(crate) fn gateway_api(tools: &Tools, kinds: &[&str]) -> Result<Vec<Value>, StackError> {
    let mut definitions = Vec::new();
    for (folder, kind) in tools.gateway_api.iter().flat_map(|folder| kinds.iter().map(move |kind| (folder, kind))) {
        definitions.extend(documents(&folder.join(format!("gateway.networking.k8s.io_{kind}.yaml")))?);
    }
    Ok(definitions)
}

/// The objects in a YAML file of several documents.
pub(crate) fn documents(file: &Path) -> Result<Vec<Value>, StackError> {
    parse_documents(&error::read(file)?, &file.display().to_string())
}

/// The objects in a YAML text of several documents; `name` is for messages.
pub(super) fn parse_documents(text: &str, name: &str) -> Result<Vec<Value>, StackError> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = Value::deserialize(document).map_err(|why| StackError::malformed(name.to_owned(), why))?;
        if !object.is_null() {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Applies definitions of kinds and waits until the API server serves all of them.
pub(crate) async fn apply_definitions(client: &kube::Client, definitions: &[Value]) -> Result<(), StackError> {
    apply_all(client, definitions).await?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let waiting = async {
        while !all_established(&api).await? {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Ok(())
    };
    tokio::time::timeout(READY, waiting)
        .await
        .unwrap_or_else(|_| Err(StackError::malformed("a definition of a mesh's kinds", "never established")))
}

async fn all_established(api: &Api<CustomResourceDefinition>) -> Result<bool, StackError> {
    let definitions =
        api.list(&ListParams::default()).await.map_err(StackError::kubernetes("the list of definitions"))?;
    Ok(definitions.iter().all(|definition| {
        let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
    }))
}

/// The untyped object, the API for its kind, and how to call it in a message.
pub(super) fn parse(
    client: &kube::Client,
    object: &Value,
) -> Result<(Api<DynamicObject>, DynamicObject, String), StackError> {
    let malformed = |why: String| StackError::malformed("an object of the stack", why);
    let object: DynamicObject = serde_json::from_value(object.clone()).map_err(|why| malformed(why.to_string()))?;
    let types = object.types.clone().ok_or_else(|| malformed("it has no kind".to_owned()))?;
    let kind = GroupVersionKind::try_from(types).map_err(|why| malformed(why.to_string()))?;
    let resource = ApiResource::from_gvk(&kind);
    let what = format!("{} {}", kind.kind, object.metadata.name.as_deref().unwrap_or_default());
    let api = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, object, what))
}

fn parameters() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}
