//! The objects that the cases release.

use serde_json::{Value, json};

use super::HOST;
use crate::{
    demo::policies,
    stack::{NAMESPACE, SERVICE_PORT},
};

/// What the three versions of a policy are told apart by: an AuthorizationPolicy lets in there.
pub const PATHS: [&str; 3] = ["/old", "/new", "/newer"];

/// To one host, with answers that tell the version.
pub fn route(version: &str, to: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": "catalog", "namespace": NAMESPACE},
           "spec": {"hosts": [HOST], "http": [{
               "headers": {"response": {"set": {policies::VERSION_HEADER: version}}},
               "route": [{"destination": {"host": to, "port": {"number": SERVICE_PORT}}}]}]}})
}

pub fn pool(policy: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
           "metadata": {"name": "catalog", "namespace": NAMESPACE},
           "spec": {"host": HOST, "trafficPolicy": policy}})
}

pub fn allow(app: &str, paths: &[&str]) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": app, "namespace": NAMESPACE},
           "spec": {"selector": {"matchLabels": {"app": app}}, "action": "ALLOW",
                    "rules": [{"to": [{"operation": {"methods": ["GET"], "paths": paths}}]}]}})
}

/// A filter of the pods of an app: it names its version in each answer, or refuses each request.
pub fn filter(app: &str, version: &str, serves: bool) -> Value {
    let name = format!(
        "function envoy_on_response(h) h:headers():replace(\"{}\", \"{version}\") end",
        policies::VERSION_HEADER
    );
    let refuse = "function envoy_on_request(h) h:respond({[\":status\"] = \"503\"}, \"refused\") end".to_owned();
    json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
           "metadata": {"name": app, "namespace": NAMESPACE},
           "spec": {"workloadSelector": {"labels": {"app": app}}, "configPatches": [{
               "applyTo": "HTTP_FILTER",
               "match": {"context": "SIDECAR_INBOUND", "listener": {"filterChain": {"filter": {
                   "name": "envoy.filters.network.http_connection_manager",
                   "subFilter": {"name": "envoy.filters.http.router"}}}}},
               "patch": {"operation": "INSERT_BEFORE", "value": {
                   "name": "example.version",
                   "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                                    "default_source_code": {"inline_string": if serves { name } else { refuse }}}}}}]}})
}

pub fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
