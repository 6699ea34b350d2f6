//! The kinds about where requests go: routes, networks outside the cluster, service profiles.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::meta::{GROUP, KIND, LABEL, Network, anything, list_of_anything};

const HEADER: &str = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$";
const HOSTNAME: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A route of requests: of Linkerd's own group, and what the controller reads of the Gateway API's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpRoute {
    #[schemars(length(max = 32))]
    #[serde(default)]
    pub(crate) parent_refs: Option<Vec<ParentReference>>,
    #[schemars(length(max = 16), inner(regex(pattern = HOSTNAME), length(min = 1, max = 253)))]
    #[serde(default)]
    pub(crate) hostnames: Option<Vec<String>>,
    #[schemars(length(max = 16), transform = default_rules)]
    #[serde(default)]
    pub(crate) rules: Option<Vec<HttpRule>>,
}

fn every_path() -> Value {
    json!([{"path": {"type": "PathPrefix", "value": "/"}}])
}

fn default_rules(schema: &mut Schema) {
    schema.insert("default".to_owned(), json!([{"matches": every_path()}]));
}

fn default_matches(schema: &mut Schema) {
    schema.insert("default".to_owned(), every_path());
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ParentReference {
    #[schemars(regex(pattern = GROUP), length(max = 253), extend("default" = "policy.linkerd.io"))]
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[schemars(regex(pattern = KIND), length(min = 1, max = 63), extend("default" = "Gateway"))]
    #[serde(default)]
    pub(crate) kind: Option<String>,
    #[schemars(length(min = 1, max = 253))]
    pub(crate) name: String,
    #[schemars(regex(pattern = LABEL), length(min = 1, max = 63))]
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default)]
    pub(crate) port: Option<i32>,
    #[schemars(length(min = 1, max = 253))]
    #[serde(default)]
    pub(crate) section_name: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpRule {
    #[schemars(length(max = 8), transform = default_matches)]
    #[serde(default)]
    pub(crate) matches: Option<Vec<HttpMatch>>,
    /// The Gateway API's may modify responses too.
    #[schemars(length(max = 16), with = "Option<Vec<RuleFilter>>")]
    #[serde(default)]
    pub(crate) filters: Option<Vec<Filter>>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) backend_refs: Option<Vec<BackendReference>>,
    #[serde(default)]
    pub(crate) timeouts: Option<Timeouts>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HttpMatch {
    #[schemars(extend("default" = json!({"type": "PathPrefix", "value": "/"})))]
    #[serde(default)]
    pub(crate) path: Option<PathMatch>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) headers: Option<Vec<ValueMatch>>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) query_params: Option<Vec<ValueMatch>>,
    #[serde(default)]
    pub(crate) method: Option<Method>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PathMatch {
    #[schemars(extend("default" = "PathPrefix"))]
    #[serde(default)]
    pub(crate) r#type: Option<PathKind>,
    #[schemars(length(max = 1024), extend("default" = "/"))]
    #[serde(default)]
    pub(crate) value: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) enum PathKind {
    Exact,
    PathPrefix,
    RegularExpression,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ValueMatch {
    #[schemars(extend("default" = "Exact"))]
    #[serde(default)]
    pub(crate) r#type: Option<ValueKind>,
    #[schemars(regex(pattern = HEADER), length(min = 1, max = 256))]
    pub(crate) name: String,
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum ValueKind {
    Exact,
    RegularExpression,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// A filter of a whole rule; of Linkerd's own group, none that modifies a response.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RuleFilter {
    r#type: RuleFilterKind,
    #[serde(default)]
    request_header_modifier: Option<HeaderModifier>,
    #[serde(default)]
    request_redirect: Option<Redirect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum RuleFilterKind {
    RequestHeaderModifier,
    RequestRedirect,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Filter {
    pub(crate) r#type: FilterKind,
    #[serde(default)]
    pub(crate) request_header_modifier: Option<HeaderModifier>,
    #[serde(default)]
    pub(crate) response_header_modifier: Option<HeaderModifier>,
    #[serde(default)]
    pub(crate) request_redirect: Option<Redirect>,
}

/// What the controller can convert; anything else fails the whole route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum FilterKind {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestRedirect,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HeaderModifier {
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) set: Option<Vec<Header>>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) add: Option<Vec<Header>>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) remove: Option<Vec<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Header {
    #[schemars(regex(pattern = HEADER), length(min = 1, max = 256))]
    pub(crate) name: String,
    #[schemars(length(min = 1, max = 4096))]
    pub(crate) value: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Redirect {
    #[serde(default)]
    pub(crate) scheme: Option<Scheme>,
    #[serde(default)]
    pub(crate) hostname: Option<String>,
    #[serde(default)]
    pub(crate) path: Option<PathModifier>,
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default)]
    pub(crate) port: Option<i32>,
    #[schemars(extend("enum" = [301, 302], "default" = 302))]
    #[serde(default)]
    pub(crate) status_code: Option<i32>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PathModifier {
    r#type: PathModifierKind,
    #[schemars(length(max = 1024))]
    #[serde(default)]
    pub(crate) replace_full_path: Option<String>,
    #[schemars(length(max = 1024))]
    #[serde(default)]
    pub(crate) replace_prefix_match: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
enum PathModifierKind {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackendReference {
    #[schemars(regex(pattern = GROUP), length(max = 253), extend("default" = ""))]
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[schemars(regex(pattern = KIND), length(min = 1, max = 63), extend("default" = "Service"))]
    #[serde(default)]
    pub(crate) kind: Option<String>,
    #[schemars(length(min = 1, max = 253))]
    pub(crate) name: String,
    #[schemars(regex(pattern = LABEL), length(min = 1, max = 63))]
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default)]
    pub(crate) port: Option<i32>,
    #[schemars(range(min = 0, max = 1_000_000), extend("default" = 1))]
    #[serde(default)]
    pub(crate) weight: Option<i32>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) filters: Option<Vec<Filter>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Timeouts {
    #[serde(default)]
    pub(crate) request: Option<String>,
    #[serde(default)]
    pub(crate) backend_request: Option<String>,
}

/// A route of connections, by their server name or not at all.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectionRoute {
    #[schemars(length(max = 32))]
    #[serde(default)]
    pub(crate) parent_refs: Option<Vec<ParentReference>>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) hostnames: Option<Vec<String>>,
    #[schemars(length(min = 1, max = 16))]
    pub(crate) rules: Vec<ConnectionRule>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectionRule {
    #[schemars(length(max = 253))]
    #[serde(default)]
    name: Option<String>,
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub(crate) backend_refs: Option<Vec<BackendReference>>,
}

/// What lies outside the cluster, and whether it may be reached where no route says so.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EgressNetwork {
    pub(crate) traffic_policy: TrafficPolicy,
    #[serde(default)]
    pub(crate) networks: Option<Vec<Network>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum TrafficPolicy {
    Allow,
    Deny,
}

/// Routes, retries and destinations of one service, by its name in DNS.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceProfile {
    #[serde(default)]
    pub(crate) routes: Option<Vec<ProfileRoute>>,
    #[serde(default)]
    pub(crate) dst_overrides: Option<Vec<WeightedDestination>>,
    #[serde(default)]
    pub(crate) opaque_ports: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) retry_budget: Option<RetryBudget>,
}

/// The older version wants routes.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceProfileV1Alpha1 {
    routes: Vec<ProfileRoute>,
    #[serde(default)]
    dst_overrides: Option<Vec<WeightedDestination>>,
    #[serde(default)]
    opaque_ports: Option<Vec<String>>,
    #[serde(default)]
    retry_budget: Option<RetryBudget>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProfileRoute {
    pub(crate) name: String,
    pub(crate) condition: RequestCondition,
    #[serde(default)]
    pub(crate) is_retryable: Option<bool>,
    #[serde(default)]
    pub(crate) timeout: Option<String>,
    #[serde(default)]
    pub(crate) response_classes: Option<Vec<ResponseClass>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestCondition {
    #[serde(default)]
    pub(crate) path_regex: Option<String>,
    #[serde(default)]
    pub(crate) method: Option<String>,
    #[schemars(schema_with = "list_of_anything")]
    #[serde(default)]
    pub(crate) all: Option<Value>,
    #[schemars(schema_with = "list_of_anything")]
    #[serde(default)]
    pub(crate) any: Option<Value>,
    #[schemars(schema_with = "list_of_anything")]
    #[serde(default)]
    pub(crate) not: Option<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResponseClass {
    pub(crate) condition: ResponseCondition,
    #[serde(default)]
    pub(crate) is_failure: Option<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ResponseCondition {
    #[schemars(schema_with = "list_of_anything")]
    #[serde(default)]
    all: Option<Value>,
    #[schemars(schema_with = "list_of_anything")]
    #[serde(default)]
    any: Option<Value>,
    #[schemars(schema_with = "anything")]
    #[serde(default)]
    not: Option<Value>,
    #[serde(default)]
    pub(crate) status: Option<StatusRange>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct StatusRange {
    #[serde(default)]
    pub(crate) min: Option<i32>,
    #[serde(default)]
    pub(crate) max: Option<i32>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WeightedDestination {
    #[serde(default)]
    pub(crate) authority: Option<String>,
    #[schemars(schema_with = "quantity")]
    #[serde(default)]
    pub(crate) weight: Option<Value>,
}

/// A number that Kubernetes also takes as text, such as "500m".
fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
    })
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RetryBudget {
    pub(crate) retry_ratio: f32,
    pub(crate) min_retries_per_second: i32,
    pub(crate) ttl: String,
}
