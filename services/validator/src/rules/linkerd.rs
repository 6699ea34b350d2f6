//! Linkerd's kinds, as its policy controller, its ServiceProfile webhook and the structure of its kinds judge them.
//!
//! Each family says what its objects look like (`shape.rs`), because Linkerd's definitions come with its control plane
//! and may not be at hand, and what Linkerd's admission demands beyond that. Routes of the Gateway API are shared with
//! other controllers: Linkerd's rules are for those that name it ([`route::is_for_linkerd`]).

mod authorization_policy;
mod common;
mod connection_route;
mod grpc_route;
mod http_route;
mod http_route_shape;
mod mesh_tls_authentication;
mod network;
mod rate_limit;
mod reference;
pub mod route;
mod server;
mod server_authorization;
mod service_profile;
mod shape;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{Object, catalogue as rule};
use crate::report::Hit;

/// The group of Linkerd's policies.
pub(crate) const POLICY_GROUP: &str = "policy.linkerd.io";
/// The group of ServiceProfiles.
const PROFILE_GROUP: &str = "linkerd.io";

/// The rules of a kind.
type Judge = fn(&Object<'_>) -> Vec<Hit>;

/// A kind: its group, the versions that Linkerd serves, and its rules.
struct Family {
    group: &'static str,
    kind: &'static str,
    versions: &'static [&'static str],
    check: Judge,
}

const ALPHA: &[&str] = &["v1alpha1"];

/// Every kind of Linkerd's own groups.
const FAMILIES: &[Family] = &[
    family(POLICY_GROUP, "AuthorizationPolicy", ALPHA, authorization_policy::check),
    family(POLICY_GROUP, "EgressNetwork", ALPHA, network::egress),
    family(POLICY_GROUP, "HTTPLocalRateLimitPolicy", ALPHA, rate_limit::check),
    family(POLICY_GROUP, "HTTPRoute", &["v1alpha1", "v1beta1", "v1beta2", "v1beta3"], http_route::own),
    family(POLICY_GROUP, "MeshTLSAuthentication", ALPHA, mesh_tls_authentication::check),
    family(POLICY_GROUP, "NetworkAuthentication", ALPHA, network::authentication),
    family(POLICY_GROUP, "Server", &["v1alpha1", "v1beta1", "v1beta2", "v1beta3"], server::check),
    family(POLICY_GROUP, "ServerAuthorization", &["v1alpha1", "v1beta1"], server_authorization::check),
    family(PROFILE_GROUP, "ServiceProfile", &["v1alpha1", "v1alpha2"], service_profile::check),
];

const fn family(group: &'static str, kind: &'static str, versions: &'static [&'static str], check: Judge) -> Family {
    Family { group, kind, versions, check }
}

/// Whether a group is Linkerd's own.
fn owns(group: &str) -> bool {
    group == POLICY_GROUP || group == PROFILE_GROUP
}

/// Whether Linkerd has rules for such a kind, in whatever version.
#[must_use]
pub fn has_kind(group: &str, kind: &str) -> bool {
    find(group, kind).is_some() || route::judge_of(group, kind).is_some()
}

fn find(group: &str, kind: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.group == group && family.kind == kind)
}

/// Whether a definition that is at hand has the last word on a hit: it may be of a newer Linkerd, which has more
/// versions and fields. The webhook of ServiceProfiles takes no field that it does not know, whatever the definition
/// says.
#[must_use]
pub fn yields_to_schema(kind: &str, hit: &Hit) -> bool {
    let structural = [rule::UNKNOWN_KIND, rule::UNKNOWN_VERSION, rule::UNKNOWN_FIELD];
    kind != "ServiceProfile" && structural.contains(&hit.rule)
}

/// More regular expressions than any route can serve; each is compiled to be checked.
const MOST_EXPRESSIONS: usize = 1000;

/// The hits of Linkerd's rules, or `None` if the object is none of Linkerd's concern.
#[must_use]
pub fn check(object: &Object<'_>) -> Option<Vec<Hit>> {
    let group = object.group();
    let judge = if owns(group) {
        let family = find(group, &object.head.kind);
        let kinds: Vec<&str> =
            FAMILIES.iter().filter(|family| family.group == group).map(|family| family.kind).collect();
        if let Some(hit) = shape::head(object.head, family.map(|family| family.versions), &kinds) {
            return Some(vec![hit]);
        }
        family?.check
    } else {
        route::family(object)?
    };
    let expressions = expressions(object.value);
    if expressions > MOST_EXPRESSIONS {
        let message =
            format!("{expressions} regular expressions; at most {MOST_EXPRESSIONS} are allowed in one object");
        let hit = Hit::new(rule::LD_EXPRESSIONS, object.root().path(), message);
        return Some(vec![hit.suggest("Use prefixes or exact values, or split the object")]);
    }
    Some(judge(object))
}

/// Regular expressions anywhere in a value: of a match whose type says so, or of a ServiceProfile's path.
fn expressions(value: &Value) -> usize {
    match value {
        Value::Object(fields) => {
            let typed = fields.get("type").is_some_and(|kind| kind == common::REGULAR_EXPRESSION);
            let path = fields.get("pathRegex").is_some_and(Value::is_string);
            usize::from(typed) + usize::from(path) + fields.values().map(expressions).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(expressions).sum(),
        _ => 0,
    }
}
