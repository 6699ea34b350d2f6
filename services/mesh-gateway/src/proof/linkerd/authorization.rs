//! Who is let in: authorizations as shapes. Pure.

use linkerd2_proxy_api::{
    inbound::{Authn, Authz, Network, authn},
    meta::metadata,
};
use serde_json::{Value, json};

use super::{
    facts::{Facts, Kind},
    shape::{self, ANY, items},
};

/// What names something that is not there lets nobody in, and is not in any message.
pub(super) fn of_policy(facts: &Facts, namespace: &str, spec: &Value) -> Option<Value> {
    let (mut identities, mut networks) = (None, None);
    for reference in items(spec, "requiredAuthenticationRefs") {
        let within = reference["namespace"].as_str().unwrap_or(namespace);
        let name = reference["name"].as_str().unwrap_or_default();
        match reference["kind"].as_str().unwrap_or_default() {
            "ServiceAccount" => identities = Some(vec![account(within, name)]),
            "MeshTLSAuthentication" => {
                identities = Some(names(&facts.find(Kind::MeshTls, within, name)?["spec"], within));
            }
            "NetworkAuthentication" => {
                networks = Some(networks_of(&facts.find(Kind::Network, within, name)?["spec"]));
            }
            _ => return None,
        }
    }
    Some(shape(identities, networks.unwrap_or_else(everywhere)))
}

/// The older kind.
pub(super) fn of_server_authorization(namespace: &str, spec: &Value) -> Value {
    let client = &spec["client"];
    // Without networks it is those of the cluster, which only the controller knows.
    let networks = if client["networks"].is_null() { ANY.into() } else { networks_of(client) };
    let tls = &client["meshTLS"];
    if tls.is_null() || client["unauthenticated"] == true {
        return shape(None, networks);
    }
    if tls["unauthenticatedTLS"] == true {
        return json!({"clients": "any with TLS", "networks": networks});
    }
    let accounts = items(tls, "serviceAccounts")
        .map(|one| account(one["namespace"].as_str().unwrap_or(namespace), one["name"].as_str().unwrap_or_default()));
    let identities = items(tls, "identities").filter_map(Value::as_str).map(str::to_owned);
    shape(Some(identities.chain(accounts).collect()), networks)
}

fn shape(identities: Option<Vec<String>>, networks: Value) -> Value {
    let clients = identities.map_or_else(
        || "anybody".into(),
        |mut identities| {
            identities.sort_unstable();
            json!(identities)
        },
    );
    json!({"clients": clients, "networks": networks})
}

/// The trust domain is the controller's to know.
fn account(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.serviceaccount.identity.*")
}

fn names(spec: &Value, namespace: &str) -> Vec<String> {
    let plain = items(spec, "identities").filter_map(Value::as_str).map(str::to_owned);
    let referred = items(spec, "identityRefs").map(|reference| {
        let within = reference["namespace"].as_str().unwrap_or(namespace);
        match (reference["kind"].as_str().unwrap_or_default(), reference["name"].as_str()) {
            ("Namespace", Some(name)) => format!("*.{name}.serviceaccount.identity.*"),
            (_, Some(name)) => account(within, name),
            (_, None) => format!("*.{within}.serviceaccount.identity.*"),
        }
    });
    plain.chain(referred).collect()
}

fn networks_of(spec: &Value) -> Value {
    let one = |network: &Value| {
        let except: Vec<_> = items(network, "except").map(range).collect();
        json!([range(&network["cidr"]), except])
    };
    items(spec, "networks").map(one).collect()
}

/// "10.0.0.0/8"; an address alone is a range of one.
fn range(text: &Value) -> String {
    let text = text.as_str().unwrap_or_default();
    if text.contains('/') {
        return text.to_owned();
    }
    format!("{text}/{}", if text.contains(':') { 128 } else { 32 })
}

fn everywhere() -> Value {
    json!([["0.0.0.0/0", []], ["::/0", []]])
}

/// The authorization by an object of this kind and name among those of a message.
pub(super) fn found(authorizations: &[Authz], kind: &str, name: &str) -> Value {
    let is_it = |authorization: &&Authz| {
        shape::resource(authorization.metadata.as_ref())
            .is_some_and(|resource| resource.kind.eq_ignore_ascii_case(kind) && resource.name == name)
    };
    authorizations.iter().find(is_it).map_or(Value::Null, |authorization| {
        let networks: Value = authorization.networks.iter().map(network).collect();
        json!({"clients": clients(authorization.authentication.as_ref()), "networks": networks})
    })
}

/// The name of the access policy that lets in whom nothing else does.
pub(super) fn default_of(authorizations: &[Authz]) -> Option<&str> {
    authorizations.iter().find_map(|authorization| match authorization.metadata.as_ref()?.kind.as_ref()? {
        metadata::Kind::Default(name) => Some(name.as_str()),
        metadata::Kind::Resource(_) => None,
    })
}

fn clients(authentication: Option<&Authn>) -> Value {
    use authn::{Permit, permit_mesh_tls::Clients};
    match authentication.and_then(|authentication| authentication.permit.as_ref()) {
        Some(Permit::Unauthenticated(_)) => "anybody".into(),
        Some(Permit::MeshTls(tls)) => match &tls.clients {
            Some(Clients::Identities(clients)) => {
                let suffix = |parts: &[String]| match parts {
                    [] => "*".to_owned(),
                    parts => format!("*.{}", parts.join(".")),
                };
                let suffixes = clients.suffixes.iter().map(|one| suffix(&one.parts));
                let mut all: Vec<_> = clients.identities.iter().map(|one| one.name.clone()).chain(suffixes).collect();
                all.sort_unstable();
                json!(all)
            }
            _ => "any with TLS".into(),
        },
        None => Value::Null,
    }
}

fn network(network: &Network) -> Value {
    let range = |range: &linkerd2_proxy_api::net::IpNetwork| {
        ipnet::IpNet::try_from(*range).map_or_else(|_| String::new(), |range| range.to_string())
    };
    let except: Vec<_> = network.except.iter().map(range).collect();
    json!([network.net.as_ref().map(range), except])
}
