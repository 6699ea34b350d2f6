//! The kinds about what a pod lets in: `Server`, those who authorize, and limits of rate.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::meta::{LABEL, LocalReference, Network, Port, Reference, Selector};

fn unknown_protocol() -> String {
    "unknown".to_owned()
}

fn deny() -> String {
    "deny".to_owned()
}

fn one_of(schema: &mut Schema, choices: &[&str]) {
    let required = choices.iter().map(|field| json!({"required": [field]})).collect::<Vec<_>>();
    schema.insert("oneOf".to_owned(), required.into());
}

fn one_selector(schema: &mut Schema) {
    one_of(schema, &["podSelector", "externalWorkloadSelector"]);
}

/// `Server` before workloads outside the cluster.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerV1Beta1 {
    pod_selector: Selector,
    port: Port,
    #[serde(default = "unknown_protocol")]
    proxy_protocol: String,
}

/// `Server` before access policies.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = one_selector)]
pub(super) struct ServerV1Beta2 {
    #[serde(default)]
    pod_selector: Option<Selector>,
    #[serde(default)]
    external_workload_selector: Option<Selector>,
    port: Port,
    #[serde(default = "unknown_protocol")]
    proxy_protocol: String,
}

/// A port of some pods.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = one_selector)]
pub(crate) struct Server {
    #[serde(default)]
    pub(crate) pod_selector: Option<Selector>,
    #[serde(default)]
    pub(crate) external_workload_selector: Option<Selector>,
    pub(crate) port: Port,
    #[serde(default = "unknown_protocol")]
    pub(crate) proxy_protocol: String,
    #[serde(default = "deny")]
    pub(crate) access_policy: String,
}

/// Who may reach a server or a route, or all servers of a namespace.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthorizationPolicy {
    pub(crate) target_ref: LocalReference,
    pub(crate) required_authentication_refs: Vec<Reference>,
}

/// The older form of the same.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ServerAuthorization {
    pub(crate) server: ServerChoice,
    pub(crate) client: Client,
}

fn name_or_selector(schema: &mut Schema) {
    one_of(schema, &["name", "selector"]);
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = name_or_selector)]
pub(crate) struct ServerChoice {
    #[schemars(regex(pattern = LABEL))]
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) selector: Option<Selector>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Client {
    #[serde(default)]
    pub(crate) networks: Option<Vec<Network>>,
    #[serde(default)]
    pub(crate) unauthenticated: Option<bool>,
    #[serde(default, rename = "meshTLS")]
    pub(crate) mesh_tls: Option<MeshTls>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MeshTls {
    #[serde(default, rename = "unauthenticatedTLS")]
    pub(crate) unauthenticated_tls: Option<bool>,
    #[serde(default)]
    pub(crate) identities: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) service_accounts: Option<Vec<ServiceAccount>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ServiceAccount {
    #[schemars(regex(pattern = LABEL))]
    pub(crate) name: String,
    #[schemars(regex(pattern = LABEL))]
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

fn identities_or_references(schema: &mut Schema) {
    one_of(schema, &["identities", "identityRefs"]);
}

/// Clients by the identity that they prove.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = identities_or_references)]
pub(crate) struct MeshTlsAuthentication {
    #[schemars(length(min = 1))]
    #[serde(default)]
    pub(crate) identities: Option<Vec<String>>,
    #[schemars(length(min = 1))]
    #[serde(default)]
    pub(crate) identity_refs: Option<Vec<IdentityReference>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct IdentityReference {
    #[schemars(regex(pattern = super::meta::GROUP), length(max = 253))]
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[schemars(regex(pattern = super::meta::KIND), length(min = 1, max = 63))]
    pub(crate) kind: String,
    #[schemars(length(min = 1, max = 253))]
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[schemars(length(max = 253))]
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

/// Clients by their address.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NetworkAuthentication {
    pub(crate) networks: Vec<Network>,
}

/// How many requests in a second a server takes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpLocalRateLimitPolicy {
    pub(crate) target_ref: LocalReference,
    #[serde(default)]
    pub(crate) total: Option<Limit>,
    #[serde(default)]
    pub(crate) identity: Option<Limit>,
    #[serde(default)]
    pub(crate) overrides: Option<Vec<Override>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limit {
    pub(crate) requests_per_second: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Override {
    pub(crate) requests_per_second: i64,
    pub(crate) client_refs: Vec<Reference>,
}
