//! Whether one version of a policy lets in nobody whom the other does not.
//!
//! Only what can be seen is taken for so: identities that are written out are not compared with accounts, since the
//! trust domain is Linkerd's to know.

use ipnet::IpNet;
use serde_json::Value;

use super::super::{
    kind::{Kind, POLICY},
    object::{kind_of, list, name, namespace, refers},
};
use crate::{dialect::Neighbours, object::spec};

/// Whom a policy lets in.
#[derive(Debug, Default)]
struct Clients {
    /// Any of these; `None` = nobody need prove who he is.
    identities: Option<Vec<String>>,
    /// From any of these, but for the exceptions; `None` = from everywhere.
    networks: Option<Vec<(IpNet, Vec<IpNet>)>>,
}

/// A client whom `canary` lets in and `stable` perhaps does not.
pub(super) fn newcomer(stable: &Value, canary: &Value, neighbours: Neighbours<'_>) -> Option<String> {
    let of = |policy: &Value| Clients::of(policy, neighbours);
    let (Some(stable), Some(canary)) = (of(stable), of(canary)) else {
        return Some("whoever fits an authentication that cannot be read".to_owned());
    };
    newcomer_by_identity(&stable, &canary).or_else(|| newcomer_by_network(&stable, &canary))
}

fn newcomer_by_identity(stable: &Clients, canary: &Clients) -> Option<String> {
    let known = stable.identities.as_ref()?;
    let Some(identities) = &canary.identities else { return Some("a client that proves no identity".to_owned()) };
    let covers = |known: &String, identity: &str| match known.strip_prefix('*') {
        Some(end) => identity.ends_with(end),
        None => known == identity,
    };
    identities.iter().find(|identity| !known.iter().any(|known| covers(known, identity))).cloned()
}

fn newcomer_by_network(stable: &Clients, canary: &Clients) -> Option<String> {
    let known = stable.networks.as_ref()?;
    let Some(networks) = &canary.networks else { return Some("a client from any network".to_owned()) };
    let covers = |(known, except): &(IpNet, Vec<IpNet>), (range, excluded): &(IpNet, Vec<IpNet>)| {
        let is_excluded = |gap: &IpNet| excluded.iter().any(|excluded| excluded.contains(gap));
        let is_elsewhere = |gap: &IpNet| !range.contains(gap) && !gap.contains(range);
        known.contains(range) && except.iter().all(|gap| is_elsewhere(gap) || is_excluded(gap))
    };
    let found = networks.iter().find(|network| !known.iter().any(|known| covers(known, network)));
    found.map(|(range, _)| format!("a client from {range}"))
}

impl Clients {
    /// `None` if something that it asks for is not there, or cannot be read.
    fn of(policy: &Value, neighbours: Neighbours<'_>) -> Option<Self> {
        let mut clients = Self::default();
        for reference in list(spec(policy), "requiredAuthenticationRefs") {
            let within = reference["namespace"].as_str().unwrap_or_else(|| namespace(policy));
            let wanted = reference["name"].as_str().unwrap_or_default();
            let find = |kind: Kind| {
                let is_it =
                    |one: &&Value| kind_of(one) == Some(kind) && name(one) == wanted && namespace(one) == within;
                neighbours.iter().find(is_it).map(spec)
            };
            if refers(reference, "", "ServiceAccount") {
                clients.identities = Some(vec![account(within, wanted)]);
            } else if refers(reference, POLICY, Kind::MeshTls.row().name) {
                clients.identities = Some(identities(find(Kind::MeshTls)?, within));
            } else {
                clients.networks = Some(networks(find(Kind::Network)?)?);
            }
        }
        Some(clients)
    }
}

/// The trust domain is left out.
fn account(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.serviceaccount.identity")
}

fn identities(authentication: &Value, own: &str) -> Vec<String> {
    let plain = list(authentication, "identities").iter().filter_map(Value::as_str).map(str::to_owned);
    let referred = list(authentication, "identityRefs").iter().map(|reference| {
        let within = reference["namespace"].as_str().unwrap_or(own);
        match (reference["kind"].as_str(), reference["name"].as_str()) {
            (Some("Namespace"), Some(name)) => account(name, "*"),
            (_, Some(name)) => account(within, name),
            (_, None) => account(within, "*"),
        }
    });
    plain.chain(referred).collect()
}

fn networks(authentication: &Value) -> Option<Vec<(IpNet, Vec<IpNet>)>> {
    let range = |text: &Value| {
        let text = text.as_str()?;
        text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))
    };
    let one = |network: &Value| {
        let except = list(network, "except").iter().map(range).collect::<Option<_>>()?;
        Some((range(&network["cidr"])?, except))
    };
    list(authentication, "networks").iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(references: &Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": "callers"}, "spec": {"requiredAuthenticationRefs": references}})
    }

    fn authentication(kind: &str, name: &str, spec: &Value) -> Value {
        json!({"apiVersion": "policy.linkerd.io/v1alpha1", "kind": kind,
               "metadata": {"namespace": "shop", "name": name}, "spec": spec})
    }

    fn asks(kind: &str, name: &str) -> Value {
        policy(&json!([{"group": "policy.linkerd.io", "kind": kind, "name": name}]))
    }

    #[test]
    fn a_version_is_stricter_only_if_that_can_be_seen() {
        let account = |name: &str| policy(&json!([{"kind": "ServiceAccount", "name": name}]));
        let mesh = |name: &str| asks("MeshTLSAuthentication", name);
        let network = |name: &str| asks("NetworkAuthentication", name);
        let all = |identities: &Value| json!({"identities": identities});
        let near = |cidr: &str, except: &Value| json!({"networks": [{"cidr": cidr, "except": except}]});
        let tls = |name: &str, spec: &Value| authentication("MeshTLSAuthentication", name, spec);
        let net = |name: &str, spec: &Value| authentication("NetworkAuthentication", name, spec);
        let here = [
            tls("everybody", &all(&json!(["*"]))),
            tls("of-web", &all(&json!(["*.web.example"]))),
            tls("front", &all(&json!(["front.web.example"]))),
            tls("of-shop", &json!({"identityRefs": [{"kind": "ServiceAccount"}]})),
            net("ten", &near("10.0.0.0/8", &json!([]))),
            net("ten-one", &near("10.1.0.0/16", &json!([]))),
            net("ten-but-one", &near("10.0.0.0/8", &json!(["10.1.2.0/24"]))),
            net("ten-but-more", &near("10.0.0.0/8", &json!(["10.1.0.0/16"]))),
        ];
        let nobody_asked = policy(&json!([]));
        for (stable, canary, expected) in [
            (nobody_asked.clone(), account("front"), None),
            (account("front"), account("front"), None),
            (account("front"), account("back"), Some("back.shop.serviceaccount.identity")),
            (account("front"), nobody_asked.clone(), Some("a client that proves no identity")),
            (mesh("everybody"), mesh("front"), None),
            (mesh("of-web"), mesh("front"), None),
            (mesh("front"), mesh("of-web"), Some("*.web.example")),
            (mesh("of-shop"), account("front"), None),
            (mesh("front"), account("front"), Some("front.shop.serviceaccount.identity")),
            (mesh("front"), mesh("nowhere"), Some("whoever fits an authentication that cannot be read")),
            (nobody_asked, network("ten"), None),
            (network("ten"), network("ten-one"), None),
            (network("ten-one"), network("ten"), Some("a client from 10.0.0.0/8")),
            (network("ten-but-one"), network("ten-one"), Some("a client from 10.1.0.0/16")),
            (network("ten-but-one"), network("ten-but-more"), None),
            (network("ten"), account("front"), Some("a client from any network")),
        ] {
            assert_eq!(newcomer(&stable, &canary, (&here[..]).into()).as_deref(), expected, "{stable} {canary}");
        }
    }
}
