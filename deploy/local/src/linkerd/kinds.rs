//! The definitions of Linkerd's kinds, generated from Rust types.
//!
//! Linkerd's own definitions are in no package registry. What a test needs of them is what the API server does with
//! them: which fields exist, which are required, which values are taken, what is filled in. The types here were written
//! from the kinds' documentation and were compared with the originals by hand (see `tests::`); the controller of this
//! folder reads objects through the same types.
//!
//! `TLSRoute` and `TCPRoute` are here too: Linkerd reads their `v1alpha2`, which the Gateway API's own definitions serve
//! no more since 1.6. Its `HTTPRoute` and `GRPCRoute` come from the installed definitions.

mod inbound;
mod meta;
mod outbound;

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

pub(super) use inbound::{
    AuthorizationPolicy, Client, HttpLocalRateLimitPolicy, MeshTlsAuthentication, NetworkAuthentication, Server,
    ServerAuthorization,
};
pub(super) use meta::{Network, Port, Reference};
pub(super) use outbound::{
    BackendReference, ConnectionRoute, EgressNetwork, Filter, FilterKind, Header, HeaderModifier, HttpMatch, HttpRoute,
    HttpRule, ParentReference, PathKind, Redirect, TrafficPolicy, ValueKind,
};

/// Linkerd's group of policies.
pub(super) const POLICY: &str = "policy.linkerd.io";
/// The group of the Gateway API.
pub(super) const GATEWAY: &str = "gateway.networking.k8s.io";

/// A kind as a definition names it.
struct Kind {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    /// The controller writes to it; the type of that.
    status: Option<Value>,
    /// From the oldest to the stored one, each with its spec.
    versions: Vec<(&'static str, Value)>,
}

impl Kind {
    fn definition(self) -> Value {
        let Self { group, kind, plural, short, status, versions } = self;
        let stored = versions.len() - 1;
        let version = |(index, (name, spec)): (usize, (&str, Value))| {
            let mut version = json!({"name": name, "served": true, "storage": index == stored});
            let mut properties = json!({"spec": spec});
            if let Some(status) = &status {
                properties["status"] = status.clone();
                version["subresources"] = json!({"status": {}});
            }
            let mut schema = json!({"type": "object", "properties": properties});
            // A profile may be empty; everything else is about something.
            if group != "linkerd.io" {
                schema["required"] = json!(["spec"]);
            }
            version["schema"] = json!({"openAPIV3Schema": schema});
            version
        };
        let versions = versions.into_iter().enumerate().map(version).collect::<Vec<_>>();
        let names = json!({"kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                           "singular": kind.to_lowercase(), "shortNames": short});
        let mut definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
        });
        if group == GATEWAY {
            // The API server wants a reason from whoever defines a kind of a `k8s.io` group.
            definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, tests only"});
        }
        definition
    }
}

/// All definitions.
pub(super) fn definitions() -> Vec<Value> {
    policies().into_iter().chain(routes()).map(Kind::definition).collect()
}

fn policies() -> Vec<Kind> {
    let policy = |kind, plural, short, versions| Kind { group: POLICY, kind, plural, short, status: None, versions };
    let limits = Kind {
        status: Some(schema::<meta::Conditions>()),
        ..policy(
            "HTTPLocalRateLimitPolicy",
            "httplocalratelimitpolicies",
            &[],
            vec![("v1alpha1", schema::<HttpLocalRateLimitPolicy>())],
        )
    };
    let old_server = schema::<inbound::ServerV1Beta1>();
    let servers = vec![
        ("v1alpha1", old_server.clone()),
        ("v1beta1", old_server),
        ("v1beta2", schema::<inbound::ServerV1Beta2>()),
        ("v1beta3", schema::<Server>()),
    ];
    let authorization = schema::<ServerAuthorization>();
    let authorizations = vec![("v1alpha1", authorization.clone()), ("v1beta1", authorization)];
    vec![
        policy("Server", "servers", &["srv"], servers),
        policy("ServerAuthorization", "serverauthorizations", &["saz", "serverauthz", "srvauthz"], authorizations),
        policy(
            "AuthorizationPolicy",
            "authorizationpolicies",
            &["authzpolicy"],
            vec![("v1alpha1", schema::<AuthorizationPolicy>())],
        ),
        policy(
            "MeshTLSAuthentication",
            "meshtlsauthentications",
            &["meshtlsauthn"],
            vec![("v1alpha1", schema::<MeshTlsAuthentication>())],
        ),
        policy(
            "NetworkAuthentication",
            "networkauthentications",
            &["netauthn", "networkauthn"],
            vec![("v1alpha1", schema::<NetworkAuthentication>())],
        ),
        limits,
    ]
}

fn routes() -> Vec<Kind> {
    let conditions = Some(schema::<meta::Conditions>());
    let parents = Some(schema::<meta::Parents>());
    let versions = route_versions();
    let connections = |kind, plural| Kind {
        group: GATEWAY,
        kind,
        plural,
        short: &[],
        status: parents.clone(),
        versions: vec![("v1alpha2", schema::<ConnectionRoute>())],
    };
    let profiles = vec![
        ("v1alpha1", schema::<outbound::ServiceProfileV1Alpha1>()),
        ("v1alpha2", schema::<outbound::ServiceProfile>()),
    ];
    vec![
        Kind { group: POLICY, kind: "HTTPRoute", plural: "httproutes", short: &[], status: parents.clone(), versions },
        Kind {
            group: POLICY,
            kind: "EgressNetwork",
            plural: "egressnetworks",
            short: &[],
            status: conditions,
            versions: vec![("v1alpha1", schema::<EgressNetwork>())],
        },
        Kind {
            group: "linkerd.io",
            kind: "ServiceProfile",
            plural: "serviceprofiles",
            short: &["sp"],
            status: None,
            versions: profiles,
        },
        connections("TLSRoute", "tlsroutes"),
        connections("TCPRoute", "tcproutes"),
    ]
}

/// The first two versions knew no weights, the first three no timeouts.
fn route_versions() -> Vec<(&'static str, Value)> {
    let newest = schema::<HttpRoute>();
    let mut without_timeouts = newest.clone();
    let rule = &mut without_timeouts["properties"]["rules"]["items"]["properties"];
    rule.as_object_mut().expect("a rule has fields").remove("timeouts");
    let mut oldest = without_timeouts.clone();
    let backend = &mut oldest["properties"]["rules"]["items"]["properties"]["backendRefs"]["items"];
    backend.as_object_mut().expect("a backend is an object").remove("required");
    let fields = backend["properties"].as_object_mut().expect("a backend has fields");
    for newer in ["group", "kind", "weight"] {
        fields.remove(newer);
    }
    fields["namespace"]["default"] = "default".into();
    vec![("v1alpha1", oldest.clone()), ("v1beta1", oldest), ("v1beta2", without_timeouts), ("v1beta3", newest)]
}

/// The schema of a type as the API server takes it.
fn schema<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.meta_schema = None;
    settings.inline_subschemas = true;
    let mut schema: Schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    let mut schema = schema.to_value();
    structural(&mut schema);
    schema
}

/// Takes away what a structural schema may not say, or what the API server would warn of. A field that may be absent is
/// one that is not required: `null` is none of its values.
fn structural(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("default") == Some(&Value::Null) {
                fields.remove("default");
            }
            fields.retain(|name, value| match name.as_str() {
                "nullable" | "description" => !(value.is_boolean() || value.is_string()),
                "format" => ["int32", "int64", "float", "double"].iter().any(|known| *value == *known),
                _ => true,
            });
            as_one_enumeration(fields);
            fields.values_mut().for_each(structural);
        }
        Value::Array(items) => items.iter_mut().for_each(structural),
        _ => {}
    }
}

/// An optional enumeration lists `null` among its values; a structural schema does not.
fn as_one_enumeration(fields: &mut Map<String, Value>) {
    if let Some(values) = fields.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
}

#[cfg(test)]
mod tests;
