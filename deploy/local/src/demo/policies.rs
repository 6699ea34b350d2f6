//! The versions of the one policy of the demo. Each route sets a response header that names its version, so that every answer tells which
//! version governed it.

use serde_json::{Value, json};

use crate::stack::{NAMESPACE, REGEX_THAT_ENVOY_REFUSES, SERVICE_PORT};

/// Response header that names the version.
pub const VERSION_HEADER: &str = "x-meshward-demo-version";
/// Name of the object.
pub const NAME: &str = "checkout";
/// What is live before Meshward comes.
pub const STABLE: &str = "v1";
/// The good change.
pub const GOOD: &str = "v2";
/// The bad one.
pub const BAD: &str = "v3";
/// The one that Envoy refuses.
pub const REFUSED: &str = "v4";

/// Host of the policy.
#[must_use]
pub fn host() -> String {
    format!("{NAME}.{NAMESPACE}.svc.cluster.local")
}

/// The object as the platform team applied it, with labels and annotations that must survive.
#[must_use]
pub fn stable() -> Value {
    let mut object = object(json!([{"name": "all", "headers": version(STABLE), "route": route(NAME)}]));
    object["metadata"]["labels"] = json!({"team": "payments"});
    object["metadata"]["annotations"] = json!({"example.com/runbook": "checkout.md"});
    object
}

/// Express requests get a shorter timeout, all get retries of connections.
#[must_use]
pub fn good() -> String {
    let retries = json!({"attempts": 2, "retryOn": "connect-failure,refused-stream"});
    yaml(&object(json!([
        {
            "name": "express",
            "match": [{"uri": {"prefix": "/express"}}],
            "headers": version(GOOD),
            "timeout": "1s",
            "retries": retries,
            "route": route(NAME),
        },
        {"name": "all", "headers": version(GOOD), "timeout": "2s", "retries": retries, "route": route(NAME)},
    ])))
}

/// Routes to the upstream that fails.
#[must_use]
pub fn bad() -> String {
    yaml(&object(json!([{"name": "all", "headers": version(BAD), "route": route("checkout-next")}])))
}

/// Passes Istio's admission and is refused by Envoy: a regular expression that grows too large when it is compiled.
#[must_use]
pub fn refused() -> String {
    yaml(&object(json!([
        {
            "name": "odd",
            "match": [{"headers": {"x-tenant": {"regex": REGEX_THAT_ENVOY_REFUSES}}}],
            "headers": version(REFUSED),
            "route": route(NAME),
        },
        {"name": "all", "headers": version(REFUSED), "route": route(NAME)},
    ])))
}

fn object(http: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"hosts": [host()], "http": http},
    })
}

fn version(name: &str) -> Value {
    json!({"response": {"set": {VERSION_HEADER: name}}})
}

fn route(host: &str) -> Value {
    json!([{"destination": {"host": format!("{host}.{NAMESPACE}.svc.cluster.local"), "port": {"number": SERVICE_PORT}}}])
}

fn yaml(object: &Value) -> String {
    serde_yaml::to_string(object).unwrap_or_default()
}
