//! What is live in a real cluster as the context of a validation: validator, mesh-gateway and a real API server. Run
//! `deploy/local/install stack` once before.

#[path = "world.rs"]
mod world;

use kube::{
    api::{Api, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use meshward_local::{stack::ApiServer, tools::Tools};
use meshward_proto::{
    types::v1::{Confidence, Finding},
    validator::v1::{Context, ValidateRequest, ValidateResponse},
};
use serde_json::{Value, json};
use world::World;

const NAMESPACE: &str = "shop";

fn virtual_service(name: &str, host: &str) -> Value {
    let http = json!([{"route": [{"destination": {"host": host}}]}]);
    object("networking.istio.io/v1", "VirtualService", name, json!({"spec": {"hosts": ["checkout"], "http": http}}))
}

fn object(api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}});
    object.as_object_mut().into_iter().for_each(|fields| fields.extend(rest.as_object().cloned().unwrap_or_default()));
    object
}

async fn create(cluster: &ApiServer, object: &Value) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let types = object.types.clone().expect("it has a kind");
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    let api = Api::<DynamicObject>::namespaced_with(cluster.client().clone(), NAMESPACE, &resource);
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn validate(world: &World, object: &Value) -> anyhow::Result<ValidateResponse> {
    let context = Some(Context { live: true, complete: true, ..Context::default() });
    let message = ValidateRequest { yaml: object.to_string(), context, ..ValidateRequest::default() };
    Ok(world.client.clone().validate(world.signed(message)).await?.into_inner())
}

fn found<'a>(answer: &'a ValidateResponse, id: &str) -> Option<&'a Finding> {
    answer.findings.iter().find(|finding| finding.id == id && finding.source.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_judged_among_what_is_live_in_the_cluster() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let tools = Tools::locate()?;
    let cluster = ApiServer::start(dir.path(), &tools).await?;
    let world = World::start(dir.path(), &cluster, &tools).await?;
    let ports = json!({"spec": {"ports": [{"port": 80, "name": "http"}]}});
    create(&cluster, &object("v1", "Service", "checkout", ports)).await?;
    let secret = json!({"type": "Opaque", "stringData": {"key": "not to be read"}});
    create(&cluster, &object("v1", "Secret", "hidden", secret)).await?;
    create(&cluster, &virtual_service("older", "checkout")).await?;

    let answer = validate(&world, &virtual_service("newer", "checkuot")).await?;
    let missing = found(&answer, "MW4102").expect("no such Service is live");
    assert_eq!(missing.confidence(), Confidence::Definite, "everything was read: {:?}", answer.skipped);
    assert_eq!(missing.suggestion, "did you mean checkout?");
    assert!(answer.skipped.iter().all(|reason| !reason.starts_with("context:")), "{:?}", answer.skipped);
    let conflict = found(&answer, "MW5101").expect("the other VirtualService has the host already");
    assert_eq!(conflict.related[0].source, "cluster");
    assert!(!format!("{answer:?}").contains("not to be read"));

    let answer = validate(&world, &virtual_service("older", "checkout")).await?;
    assert!(found(&answer, "MW5101").is_none() && found(&answer, "MW4102").is_none(), "{:?}", answer.findings);
    world.stop().await?;

    cluster.stop().await;
    Ok(())
}
