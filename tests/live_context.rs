//! What is live in a real cluster, and what the registry holds, as the context of a validation: validator, mesh-gateway,
//! policy-registry and a real API server. Run `deploy/local/install stack` once before.

#[path = "../services/validator/tests/api/every.rs"]
mod every;
#[path = "observed.rs"]
mod observed;
#[path = "world.rs"]
mod world;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use kube::{
    api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use meshward_chassis::{auth::Role, client::connect_lazy};
use meshward_local::{stack::ApiServer, tools::Tools};
use meshward_mesh_gateway::rights::{Right, rights};
use meshward_proto::{
    registry::v1::{
        ApprovePolicyRequest, CreatePolicyRequest, DeploymentOutcome, RecordDeploymentRequest, SubmitPolicyRequest,
        UpdatePolicyRequest, policy_registry_service_client::PolicyRegistryServiceClient,
    },
    types::v1::{Confidence, Finding},
    validator::v1::{Context, DetectConflictsRequest, ValidateRequest, ValidateResponse},
};
use serde_json::{Value, json};
use world::World;

const NAMESPACE: &str = "shop";
const PATIENCE: Duration = Duration::from_secs(60);

fn virtual_service(name: &str, host: &str) -> Value {
    virtual_service_of("checkout", name, host)
}

fn virtual_service_of(own: &str, name: &str, host: &str) -> Value {
    let http = json!([{"route": [{"destination": {"host": host}}]}]);
    object("networking.istio.io/v1", "VirtualService", name, json!({"spec": {"hosts": [own], "http": http}}))
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
    let namespace = object.metadata.namespace.as_deref().unwrap_or(NAMESPACE);
    let api = Api::<DynamicObject>::namespaced_with(cluster.client().clone(), namespace, &resource);
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// The kubeconfig of an account with those of the gateway's rights that are granted, once the API server knows them.
async fn account(
    dir: &Path,
    cluster: &ApiServer,
    name: &str,
    is_granted: impl Fn(&Right) -> bool,
) -> anyhow::Result<PathBuf> {
    let token = cluster.account(name).await?;
    let granted: Vec<_> = rights().into_iter().filter(is_granted).collect();
    let rule = |Right { group, resources, verbs, .. }: &Right| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    cluster.allow(name, &granted.iter().map(rule).collect()).await?;
    let file = dir.join(format!("{name}.kubeconfig"));
    std::fs::write(&file, cluster.kubeconfig_with(None, Some(&token))?.to_string())?;
    let (kubeconfig, options) = (Kubeconfig::read_from(&file)?, KubeConfigOptions::default());
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    let services = Api::<Service>::all(kube::Client::try_from(config)?);
    let known = async {
        while services.list(&ListParams::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await?;
    Ok(file)
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
    // Every kind that is read, and no more rights than the gateway says it needs.
    meshward_local::linkerd::install(cluster.client(), &tools).await?;
    cluster.add_gateways(&tools).await?;
    let kubeconfig = account(dir.path(), &cluster, "gateway", |_| true).await?;
    let world = World::start(dir.path(), &kubeconfig, &tools).await?;
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

    the_mesh_configuration_is_read(&world, &cluster).await?;
    the_clusters_own_definitions_are_the_schema(&world, &cluster).await?;
    what_the_registry_holds_counts_too(&world).await?;
    world.stop().await?;
    what_the_gateway_may_not_list_is_lacking(&cluster, &tools).await?;

    cluster.stop().await;
    Ok(())
}

/// Two teams want one host. The first one's policy is in force by the registry and not (yet) in the cluster.
async fn what_the_registry_holds_counts_too(world: &World) -> anyhow::Result<()> {
    let mut registry = PolicyRegistryServiceClient::new(connect_lazy(&world.registry.url())?);
    let theirs = virtual_service_of("basket", "theirs", "checkout");
    let new = |yaml: &Value| CreatePolicyRequest { yaml: yaml.to_string(), ..CreatePolicyRequest::default() };
    let submit = |id: &str| SubmitPolicyRequest { id: id.to_owned(), ..SubmitPolicyRequest::default() };
    let created = registry.create_policy(world.signed_by("alice", Role::Developer, new(&theirs))).await?.into_inner();
    let version = created.version.expect("it was created");
    let id = version.policy_id;
    registry.submit_policy(world.signed_by("alice", Role::Developer, submit(&id))).await?;
    let ask = |registry| {
        let context = Some(Context { live: true, registry, ..Context::default() });
        let yaml = virtual_service_of("basket", "ours", "checkout").to_string();
        world.signed(DetectConflictsRequest { yaml, context, ..DetectConflictsRequest::default() })
    };
    let conflicts = async |registry| -> anyhow::Result<Vec<Finding>> {
        let answer = world.client.clone().detect_conflicts(ask(registry)).await?.into_inner();
        anyhow::ensure!(answer.skipped.iter().all(|why| !why.starts_with("context:")), "{:?}", answer.skipped);
        Ok(answer.findings.into_iter().filter(|finding| finding.id == "MW5101" && finding.source.is_empty()).collect())
    };
    let approval = ApprovePolicyRequest { id: id.clone(), digest: version.digest, ..ApprovePolicyRequest::default() };
    registry.approve_policy(world.signed_by("bob", Role::Admin, approval)).await?;
    let outcome = RecordDeploymentRequest {
        id: id.clone(),
        version: 1,
        deployment_id: "first".to_owned(),
        outcome: DeploymentOutcome::Promoted.into(),
        ..RecordDeploymentRequest::default()
    };
    registry.record_deployment(world.signed_by("orchestrator", Role::Service, outcome)).await?;

    assert_eq!(conflicts(false).await?, [], "it is not in the cluster");
    let found = conflicts(true).await?;
    let [conflict] = found.as_slice() else { panic!("{found:?}") };
    let [other] = conflict.related.as_slice() else { panic!("{conflict:?}") };
    let name = other.object.as_ref().map(|object| object.name.as_str());
    assert_eq!((name, other.source.as_str()), (Some("theirs"), "registry"));

    // The way of a submission: the registry asks the validator, which asks back.
    let ours = new(&virtual_service_of("basket", "ours", "checkout"));
    let ours = registry.create_policy(world.signed_by("carol", Role::Developer, ours)).await?.into_inner();
    let submission = submit(&ours.policy.expect("it was created").id);
    let refused = registry.submit_policy(world.signed_by("carol", Role::Developer, submission));
    let refused = refused.await.expect_err("another team has the host");
    assert!(refused.message().contains("MW5101"), "{refused:?}");
    // A further version of what is in force has no quarrel with it.
    let mut longer = theirs;
    longer["spec"]["http"][0]["timeout"] = json!("5s");
    let update = UpdatePolicyRequest { id: id.clone(), yaml: longer.to_string(), ..UpdatePolicyRequest::default() };
    registry.update_policy(world.signed_by("alice", Role::Developer, update)).await?;
    registry.submit_policy(world.signed_by("alice", Role::Developer, submit(&id))).await?;
    Ok(())
}

/// Whether an access log without a provider is lost is for the mesh's defaults to say.
async fn the_mesh_configuration_is_read(world: &World, cluster: &ApiServer) -> anyhow::Result<()> {
    let telemetry = object("telemetry.istio.io/v1", "Telemetry", "logs", json!({"spec": {"accessLogging": [{}]}}));
    let is_lost = async || anyhow::Ok(found(&validate(world, &telemetry).await?, "MW4119").is_some());
    assert!(is_lost().await?, "there is no mesh configuration");
    for (name, lost) in [("istio-other", true), ("istio", false)] {
        let mesh = "defaultProviders: {accessLogging: [stdout]}";
        let metadata = json!({"name": name, "namespace": "istio-system"});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": mesh}});
        create(cluster, &object).await?;
        assert_eq!(is_lost().await?, lost, "{name}");
    }
    Ok(())
}

/// A rule that somebody has added to the definition in the cluster is not in the catalogue.
async fn the_clusters_own_definitions_are_the_schema(world: &World, cluster: &ApiServer) -> anyhow::Result<()> {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api = Api::<DynamicObject>::all_with(cluster.client().clone(), &ApiResource::from_gvk(&kind));
    let name = "sidecars.networking.istio.io";
    let before = api.get(name).await?.data["spec"]["versions"].take();
    let mut stricter = before.clone();
    let versions = stricter.as_array_mut().expect("a definition has versions");
    let version = versions.iter_mut().find(|version| version["name"] == "v1").expect("Sidecar has a version v1");
    let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rule = json!({"rule": "!has(self.outboundTrafficPolicy)", "message": "no traffic to strangers here"});
    spec["x-kubernetes-validations"] = json!([rule]);

    let policy = json!({"spec": {"outboundTrafficPolicy": {"mode": "ALLOW_ANY"}}});
    let sidecar = object("networking.istio.io/v1", "Sidecar", "default", policy);
    let said = "no traffic to strangers here";
    for (versions, is_refused) in [(&before, false), (&stricter, true), (&before, false)] {
        let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
        api.patch(name, &PatchParams::default(), &patch).await?;
        let answer = validate(world, &sidecar).await?;
        let found = found(&answer, "MW2014").map(|finding| finding.message.as_str());
        assert_eq!((found, answer.valid), (is_refused.then_some(said), !is_refused), "{answer:?}");
        assert!(answer.skipped.iter().all(|why| !why.starts_with("schema")), "{:?}", answer.skipped);
        // Without the rule it is not told apart which definitions were asked.
        let clusters: &[_] = if is_refused { &["default", ""] } else { &["default"] };
        for cluster in clusters {
            let token = world.signed(());
            for told in every::ask(world.client.clone(), token.metadata(), &sidecar.to_string(), cluster).await? {
                // Whoever means no cluster asks the catalogue, which has no such rule.
                let is_refused = is_refused && !cluster.is_empty() && told.rpc != every::WITHOUT_SCHEMA;
                // A text without errors is sent on by DryRun, and the API server takes a moment to serve what was changed.
                if is_refused || told.rpc != "DryRun" {
                    assert_eq!(told.told.contains(said), is_refused, "{cluster:?}: {told:?}");
                }
                assert!(told.skipped.iter().all(|why| !why.starts_with("schema")), "{told:?}");
            }
        }
    }
    Ok(())
}

/// The secrets are left out of the role: the answer says so, and nothing is certain of them.
async fn what_the_gateway_may_not_list_is_lacking(cluster: &ApiServer, tools: &Tools) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let kubeconfig = account(dir.path(), cluster, "without-secrets", |right| right.resources != ["secrets"]).await?;
    let world = World::start(dir.path(), &kubeconfig, tools).await?;
    let answer = validate(&world, &virtual_service("newer", "checkuot")).await?;
    let context = answer.skipped.iter().filter(|why| why.starts_with("context:")).collect::<Vec<_>>();
    let [gap] = context.as_slice() else { panic!("{:?}", answer.skipped) };
    assert!(gap.starts_with("context: Secret of the default cluster was not read:"), "{gap}");
    assert!(gap.contains("list") && gap.contains("secrets"), "{gap}");
    let missing = found(&answer, "MW4102").expect("no such Service was read");
    assert_eq!(missing.confidence(), Confidence::Possible, "not everything was read");
    world.stop().await
}
