//! Linkerd's Servers, and the policies that open them.
//!
//! A port of a pod that a Server covers takes only what a policy allows, unless the Server's accessPolicy says
//! otherwise. The authentications of one policy are joined by AND, the policies of one target by OR.

use super::{
    Explanation,
    condition::Condition,
    words::{self, any_like, labels, texts},
};
use crate::{
    report::quote,
    rules::{Object, field::Field},
};

const OTHERS: &str = "A request that this policy does not let in needs another policy of the same target, or is treated as the \
                      Server's accessPolicy says, which is deny unless set";

/// AuthorizationPolicy.
pub(super) fn authorization_policy(object: &Object<'_>) -> Explanation {
    let spec = object.root().get("spec");
    let namespace = object.head.namespace.as_str();
    let target = spec.get("targetRef");
    let what = match target.get("kind").text() {
        kind if kind.eq_ignore_ascii_case("Namespace") => format!("any Server of {}", words::namespace(namespace)),
        kind => format!("{kind} {} in {}", quote(target.get("name").text()), words::namespace(namespace)),
    };
    let needs: Vec<Condition> =
        spec.get("requiredAuthenticationRefs").items().iter().map(|one| need(one, namespace)).collect();
    if needs.is_empty() {
        let mut explanation = Explanation::new(format!("ALLOW every request to {what}."));
        explanation.warn("no authentication is required, so everyone is let in, without mutual TLS too");
        return explanation;
    }
    Explanation::new(format!("ALLOW a request to {what} if {}. {OTHERS}.", Condition::All(needs)))
}

fn need(reference: &Field<'_>, namespace: &str) -> Condition {
    let given = reference.get("namespace").text();
    let namespace = if given.is_empty() { namespace } else { given };
    let kind = reference.get("kind").text();
    let name = reference.get("name").text();
    let full = if namespace.is_empty() { quote(name) } else { quote(&format!("{namespace}/{name}")) };
    Condition::Is(match kind {
        "MeshTLSAuthentication" => format!("its client has an identity of MeshTLSAuthentication {full}"),
        "NetworkAuthentication" => format!("it comes from a network of NetworkAuthentication {full}"),
        "ServiceAccount" => format!("its client is the service account {full}"),
        _ => format!("its client satisfies {kind} {full}"),
    })
}

/// ServerAuthorization.
pub(super) fn server_authorization(object: &Object<'_>) -> Explanation {
    let spec = object.root().get("spec");
    let namespace = object.head.namespace.as_str();
    let (server, client) = (spec.get("server"), spec.get("client"));
    let here = words::namespace(namespace);
    let what = match (server.get("name").text(), labels(&server.get("selector"))) {
        ("", Some(labels)) => format!("any Server with {labels} in {here}"),
        ("", None) => format!("any Server of {here}"),
        (name, _) => format!("Server {} in {here}", quote(name)),
    };
    let networks = networks(&client.get("networks"));
    let mesh_tls = client.get("meshTLS");
    let Some(who) = identity(&client, &mesh_tls, namespace) else {
        let mut explanation = Explanation::new(format!("no client is named, so no request to {what} is let in by it."));
        explanation.warn("Linkerd leaves the policy out");
        return explanation;
    };
    let all: Vec<Condition> = who.into_iter().chain(networks).collect();
    if all.is_empty() {
        let mut explanation = Explanation::new(format!("ALLOW every request to {what}."));
        explanation.warn("unauthenticated clients of all networks are let in, without mutual TLS too");
        return explanation;
    }
    Explanation::new(format!("ALLOW a request to {what} if {}. {OTHERS}.", Condition::All(all).simple()))
}

/// What the client has to show: `None` if nobody is named, nothing if anybody will do.
fn identity(client: &Field<'_>, mesh_tls: &Field<'_>, namespace: &str) -> Option<Vec<Condition>> {
    if client.get("unauthenticated").is_true() {
        return Some(Vec::new());
    }
    if mesh_tls.get("unauthenticatedTLS").is_true() {
        return Some(vec![Condition::Is("it comes with TLS, of whomever".to_owned())]);
    }
    let identities = texts(&mesh_tls.get("identities"));
    let mut any = Vec::new();
    if identities.contains(&"*") {
        any.push(Condition::Is("its client has any identity of the mesh".to_owned()));
    } else if !identities.is_empty() {
        any.push(Condition::Is(format!("its client has the identity {}", any_like(&identities))));
    }
    for account in mesh_tls.get("serviceAccounts").items() {
        let given = account.get("namespace").text();
        let full = format!("{}/{}", if given.is_empty() { namespace } else { given }, account.get("name").text());
        any.push(Condition::Is(format!("its client is the service account {}", quote(full.trim_start_matches('/')))));
    }
    (!any.is_empty()).then_some(vec![Condition::Any(any)])
}

fn networks(networks: &Field<'_>) -> Option<Condition> {
    let block = |network: &Field<'_>| {
        let except = texts(&network.get("except"));
        let block = format!("it comes from {}", quote(network.get("cidr").text()));
        Condition::Is(if except.is_empty() { block } else { format!("{block} but not {}", words::any_of(&except)) })
    };
    let blocks: Vec<Condition> = networks.items().iter().map(block).collect();
    (!blocks.is_empty()).then_some(Condition::Any(blocks))
}

/// Server.
pub(super) fn server(object: &Object<'_>) -> Explanation {
    let spec = object.root().get("spec");
    let here = words::namespace(&object.head.namespace);
    let port = spec.get("port");
    let port = port.integer().map_or_else(|| quote(port.text()), |number| number.to_string());
    let external = spec.get("externalWorkloadSelector");
    let (kind, selector) =
        if external.is_set() { ("external workloads", external) } else { ("pods", spec.get("podSelector")) };
    let who = labels(&selector)
        .map_or_else(|| format!("all {kind} of {here}"), |labels| format!("{kind} with {labels} in {here}"));
    let access = spec.get("accessPolicy").text();
    let rest = match access {
        "all-unauthenticated" => "is let in, whoever sends it",
        "all-authenticated" => "is let in if its client has an identity of the mesh",
        "cluster-unauthenticated" => "is let in if it comes from the cluster's networks",
        "cluster-authenticated" => {
            "is let in if its client has an identity of the mesh AND it comes from the cluster's networks"
        }
        "audit" => "is let in and logged",
        _ => "is DENIED",
    };
    let read = match spec.get("proxyProtocol").text() {
        "" | "unknown" => "the protocol is detected".to_owned(),
        protocol => format!("read as {protocol}"),
    };
    let mut explanation = Explanation::new(format!(
        "covers port {port} of {who} ({read}); a request there that no AuthorizationPolicy or \
         ServerAuthorization allows {rest}."
    ));
    if access.is_empty() || access == "deny" {
        explanation.warn("as long as no policy targets this Server, its port takes nothing");
    }
    explanation
}
