//! istiod, and Istio's own admission: a dry run against this API server says what production would say.
//!
//! What its debug interface ([`super::Stack::istiod_debug_url`]) answers, as seen with this version:
//!
//! - `/debug/configz`: an array of the Istio objects that istiod has taken in, each with `metadata.resourceVersion`,
//!   `generation` and annotations. It has *this* write once it shows its resource version.
//! - `/debug/syncz`: an array with one object per connected proxy, `{"proxy": "storefront-0.shop", "resources": {TYPE:
//!   {"sent", "acked", "sentTime", "lastError"}}}`, where TYPE is `type.googleapis.com/envoy.config.route.v3.
//!   RouteConfiguration` and the like. A nonce is `<time>/<push counter><uuid>`; the uuid has 36 characters. A changed
//!   VirtualService is sent as clusters, listeners and routes to the proxies that it concerns, under one push counter;
//!   other proxies keep their nonces. A refusal leaves `acked` at the older nonce and puts Envoy's words in `lastError`,
//!   which is absent otherwise and goes away with the next push that is accepted. A changed annotation sends nothing.
//! - `/debug/adsz`: `{"clients": [{"connectionId", "labels", "metadata", "watches": {TYPE: [names]}}]}`. The route watched
//!   is `8080` for each proxy, so this does not tell whom a VirtualService concerns.
//! - `/debug/config_dump?proxyID=storefront-0.shop`: what istiod would send now (also after a refusal), as
//!   `{"configs": [{"@type", …}]}`. In the `RoutesConfigDump`, `dynamicRouteConfigs[].routeConfig.virtualHosts[].routes[].
//!   metadata.filterMetadata.istio.config` is `/apis/networking.istio.io/v1/namespaces/shop/virtual-service/checkout` for
//!   each route that comes from that VirtualService: *this* tells whom it concerns. 404 for a proxy that is not connected.

use std::net::SocketAddr;
use std::path::Path;

use kube::api::PostParams;
use serde_json::{Value, json};

use super::{READY, Stack, StackError, answers, apiserver, error, free_address, http_client, mesh, objects};
use crate::process::{Process, Program};
use crate::tools::Tools;

/// The namespace of the control plane.
pub(super) const NAMESPACE: &str = "istio-system";

const VALIDATOR: &str = "istio-validator";

/// The file with the settings of the whole mesh, in istiod's folder.
const MESH_CONFIG: &str = "mesh.yaml";
/// The mesh's trust domain, unless a test wants another.
const TRUST_DOMAIN: &str = "cluster.local";

/// The settings. Upstream Envoy has no Istio agent beside it that would bring certificates, so there is no mutual TLS.
fn mesh_config(trust_domain: &str, aliases: &[&str]) -> Value {
    json!({
        "rootNamespace": NAMESPACE,
        "trustDomain": trust_domain,
        "trustDomainAliases": aliases,
        "enableAutoMtls": false,
    })
}

/// Upstream Envoy does not know the two filters that exist only in Istio's build; nothing is injected, and there is only
/// one istiod, so that it need not be elected first.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("POD_NAMESPACE", NAMESPACE),
    ("POD_NAME", "istiod-0"),
    ("REVISION", "default"),
    ("ENABLE_LEADER_ELECTION", "false"),
    ("INJECT_ENABLED", "false"),
    ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
    ("VALIDATION_WEBHOOK_CONFIG_NAME", VALIDATOR),
    ("PILOT_ENABLE_ALPN_FILTER", "false"),
    ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
];

/// Where istiod listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub monitoring: SocketAddr,
}

impl Addresses {
    /// Four free ports.
    fn free() -> Result<Self, StackError> {
        Ok(Self { grpc: free_address()?, http: free_address()?, https: free_address()?, monitoring: free_address()? })
    }
}

/// Starts istiod; returns when it is ready and the API server asks it before it accepts an Istio object.
pub(super) async fn start(
    dir: &Path,
    tools: &Tools,
    logs: &Path,
    api: &apiserver::Api,
) -> Result<(Process, Addresses), StackError> {
    error::create_dir(dir)?;
    let addresses = Addresses::free()?;
    register_webhook(&api.client, &addresses).await?;
    let settings = dir.join(MESH_CONFIG);
    error::write(&settings, mesh_config(TRUST_DOMAIN, &[]).to_string())?;
    let mut program = Program::new("istiod", &tools.control_plane).directory(dir).args([
        "pilot-discovery".to_owned(),
        "discovery".to_owned(),
        format!("--kubeconfig={}", api.kubeconfig.display()),
        format!("--meshConfig={}", settings.display()),
        format!("--grpcAddr={}", addresses.grpc),
        format!("--httpAddr={}", addresses.http),
        format!("--httpsAddr={}", addresses.https),
        "--secureGRPCAddr=".to_owned(),
        format!("--monitoringAddr={}", addresses.monitoring),
        "--ctrlz_port=0".to_owned(),
    ]);
    for (name, value) in ENVIRONMENT {
        program = program.env(name, value);
    }
    let http = http_client()?;
    let process = Process::start(program, logs).await?;
    let ready = format!("http://{}/ready", addresses.http);
    process.ready(READY, || answers(&http, &ready)).await?;
    process.ready(READY, || webhook_refuses(&api.client)).await?;
    Ok((process, addresses))
}

impl Stack {
    /// Gives the mesh another trust domain, with these aliases. istiod follows the file of its settings, and tells every proxy.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_trust_domains(&self, trust_domain: &str, aliases: &[&str]) -> Result<(), StackError> {
        let folder = self.dir.join("istiod");
        let (file, next) = (folder.join(MESH_CONFIG), folder.join("mesh.next"));
        error::write(&next, mesh_config(trust_domain, aliases).to_string())?;
        // At once, so that istiod never reads half of it.
        std::fs::rename(&next, &file).map_err(|source| StackError::File { path: file, source })
    }
}

/// Makes istiod's webhook known to the API server. istiod itself adds its certificate authority, and turns the failure
/// policy from Ignore to Fail, as soon as it serves.
async fn register_webhook(client: &kube::Client, addresses: &Addresses) -> Result<(), StackError> {
    let labels = json!({"app": "istiod", "istio": "istiod", "istio.io/rev": "default"});
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "istiod", "namespace": NAMESPACE, "labels": labels},
        // The API server looks the service up and is sent to this machine.
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    let webhook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("{VALIDATOR}-{NAMESPACE}"), "labels": labels},
        "webhooks": [{
            "name": "rev.validation.istio.io",
            "clientConfig": {
                "service": {"name": "istiod", "namespace": NAMESPACE, "path": "/validate", "port": addresses.https.port()},
            },
            "rules": [{
                "operations": ["CREATE", "UPDATE"],
                "apiGroups": ["security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io"],
                "apiVersions": ["*"],
                "resources": ["*"],
            }],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    });
    objects::apply_all(client, &[service, webhook]).await
}

/// Is a VirtualService that the definition allows and Istio does not refused, in a dry run?
async fn webhook_refuses(client: &kube::Client) -> Result<(), String> {
    let (api, bad, _) = objects::parse(client, &bad_virtual_service()).map_err(|error| error.to_string())?;
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &bad).await {
        Ok(_) => Err("Istio's webhook is not asked yet".to_owned()),
        Err(kube::Error::Api(status)) if status.message.contains("denied the request") => Ok(()),
        Err(error) => Err(format!("Istio's webhook does not answer yet: {error}")),
    }
}

/// Two destinations that get no traffic between them.
fn bad_virtual_service() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "never-stored", "namespace": mesh::NAMESPACE},
        "spec": {
            "hosts": ["checkout"],
            "http": [{"route": [
                {"destination": {"host": "checkout"}, "weight": 0},
                {"destination": {"host": "checkout-next"}, "weight": 0},
            ]}],
        },
    })
}
