//! AuthorizationPolicy: which authentications a client of a Server or route needs. All that are named are needed.

use super::{
    POLICY_GROUP,
    reference::{self, CORE},
    shape::{self, ANY, Need, Shape},
};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const SHAPE: Shape = Shape::Map(&[
    ("targetRef", Need::Must, reference::LOCAL),
    ("requiredAuthenticationRefs", Need::Must, Shape::List(&reference::NAMESPACED, ANY)),
]);

/// What may be authorized.
const TARGETS: [(&str, &str); 5] = [
    (POLICY_GROUP, "Server"),
    (CORE, "Namespace"),
    (POLICY_GROUP, "HTTPRoute"),
    (super::route::GATEWAY_GROUP, "HTTPRoute"),
    (super::route::GATEWAY_GROUP, "GRPCRoute"),
];

/// All rules.
#[must_use]
pub(super) fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let mut hits = shape::check(&spec, &SHAPE);
    hits.extend(target(&spec.get("targetRef"), &object.head.namespace));
    hits.extend(authentications(&spec.get("requiredAuthenticationRefs")));
    hits
}

fn target(target: &Field<'_>, namespace: &str) -> Option<Hit> {
    let kind = target.get("kind");
    if !kind.is_set() {
        return None;
    }
    if !TARGETS.iter().any(|(group, kind)| reference::is_to(target, group, kind)) {
        let message = format!("Linkerd does not authorize by {}", reference::kind_of(target));
        let advice = "target a Server, an HTTPRoute, a GRPCRoute or the policy's own Namespace";
        return Some(Hit::new(rule::LD_TARGET, kind.path(), message).suggest(advice));
    }
    let name = target.get("name");
    let elsewhere = reference::is_to(target, CORE, "Namespace") && name.text() != namespace;
    (elsewhere && name.is_set() && !namespace.is_empty()).then(|| {
        let message =
            format!("the target is the namespace {}, and the policy is in {}", quote(name.text()), quote(namespace));
        Hit::new(rule::LD_TARGET, name.path(), message).suggest("a policy can target its own namespace only")
    })
}

/// At most one identity (a MeshTLSAuthentication or a ServiceAccount) and one network.
fn authentications(list: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let (mut identity, mut network) = (None, None);
    for authentication in list.items() {
        let is = |group, kind| reference::is_to(&authentication, group, kind);
        let seen = if is(POLICY_GROUP, "MeshTLSAuthentication") || is(CORE, "ServiceAccount") {
            &mut identity
        } else if is(POLICY_GROUP, "NetworkAuthentication") {
            &mut network
        } else if authentication.get("kind").is_set() {
            hits.push(unknown(&authentication));
            continue;
        } else {
            continue;
        };
        match seen {
            None => *seen = Some(authentication.path().to_string()),
            Some(first) => {
                let message =
                    format!("there is such an authentication already, at {first}, and a client cannot show two");
                let hit = Hit::new(rule::LD_AUTHENTICATION, authentication.path(), message);
                hits.push(hit.suggest("write a policy for each: a client needs to satisfy one policy only"));
            }
        }
    }
    if list.value().and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty) {
        let message = "no authentication is required, so every client is let in, unauthenticated ones too";
        hits.push(Hit::new(rule::LD_EVERYONE, list.path(), message).suggest("name who may come in"));
    }
    hits
}

fn unknown(authentication: &Field<'_>) -> Hit {
    let message = format!("{} is no authentication", reference::kind_of(authentication));
    Hit::new(rule::LD_AUTHENTICATION, authentication.get("kind").path(), message)
        .suggest("name a MeshTLSAuthentication, a ServiceAccount or a NetworkAuthentication")
}
