//! Who may call whom: what a set of Istio's AuthorizationPolicies decides of one request, as Envoy would.
//!
//! Written from what Istio makes of the policies (`pilot/pkg/security/authz/model` of 1.32) and held against real Envoys,
//! which istiod configures from the same policies, on generated requests (`tests/access.rs`).
//!
//! Observed traffic tells less than a request has: a metric knows no path and no header. So every fact can be unknown,
//! and so can the answer: rules are evaluated with three values, and a decision says what it would depend on. Nothing is
//! guessed.
//!
//! Principals are those that the control plane makes of them by the mesh's [`TrustDomains`].
//!
//! Order of the actions: CUSTOM (asked first; the provider may only deny), DENY, then ALLOW: without any ALLOW for the
//! workload everything is allowed. AUDIT and dry runs decide nothing.

mod pattern;
mod policy;
mod rule;
mod trust;

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::Value;

pub use policy::{Action, Invalid, IsOpen, Policy};
pub(crate) use rule::{any, every};
pub use trust::TrustDomains;

/// Something about a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Fact<T> {
    /// It is known.
    Known(T),
    /// It is known that there is none.
    Absent,
    /// Nobody has looked.
    #[default]
    Unknown,
}

impl<T> Fact<T> {
    /// What a test of the value says: `None` = it cannot be told. What is absent fails every test.
    pub(crate) fn test(&self, test: impl FnOnce(&T) -> bool) -> Option<bool> {
        match self {
            Self::Known(value) => Some(test(value)),
            Self::Absent => Some(false),
            Self::Unknown => None,
        }
    }
}

impl<T> From<T> for Fact<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

/// The token of a request, after RequestAuthentication has checked it.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// All of its claims; `iss`, `sub`, `aud` and `azp` among them.
    pub claims: Value,
}

/// One request, or all that are alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Call {
    /// The caller's identity without `spiffe://`: "cluster.local/ns/web/sa/shop". Absent without mutual TLS.
    pub principal: Fact<String>,
    /// Address of the connection's other end.
    pub source_ip: Fact<IpAddr>,
    /// Address of the client, by X-Forwarded-For or the PROXY protocol.
    pub remote_ip: Fact<IpAddr>,
    /// Address that is called.
    pub destination_ip: Fact<IpAddr>,
    /// Port of the workload, not of the Service.
    pub port: Fact<u16>,
    /// Server name of the TLS handshake.
    pub sni: Fact<String>,
    /// `Host` or `:authority`, with its port if the client sends one.
    pub host: Fact<String>,
    /// E.g. "GET".
    pub method: Fact<String>,
    /// Without the query, normalized.
    pub path: Fact<String>,
    /// Headers by lower-case name; one that is not here is absent if `all_headers`, else unknown.
    pub headers: BTreeMap<String, String>,
    /// There are no other headers.
    pub all_headers: bool,
    /// The token.
    pub token: Fact<Token>,
}

impl Call {
    fn header(&self, name: &str) -> Fact<&str> {
        match self.headers.get(&name.to_lowercase()) {
            Some(value) => Fact::Known(value),
            None if self.all_headers => Fact::Absent,
            None => Fact::Unknown,
        }
    }
}

/// The workload that is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It gets through; the policies that let it, or none if no policy allows anything.
    Allowed(Vec<String>),
    /// It is denied (403), by this policy; `None` = because no ALLOW policy meets it.
    Denied(Option<String>),
    /// A provider outside decides whether it may go on; the policy that asks.
    Asked(String),
    /// It depends on what is not known of the request; the first policy where it does.
    Depends(String),
}

impl Decision {
    /// Whether the request gets through, as far as policies tell.
    #[must_use]
    pub fn lets_in(&self) -> Option<bool> {
        match self {
            Self::Allowed(_) => Some(true),
            Self::Denied(_) => Some(false),
            Self::Asked(_) | Self::Depends(_) => None,
        }
    }
}

/// What policies decide of a call to a workload. `root` is the namespace whose policies are for the whole mesh.
#[must_use]
pub fn decide(policies: &[Policy], root: &str, workload: &Workload, call: &Call) -> Decision {
    decide_by(&policies.iter().filter(|policy| policy.selects(workload, root)).collect::<Vec<_>>(), call)
}

/// What policies decide of a call to a workload that all of them are for.
#[must_use]
pub fn decide_by(policies: &[&Policy], call: &Call) -> Decision {
    let mine = |action: Action| policies.iter().filter(move |policy| policy.action == action);
    let mut open = None;
    for policy in mine(Action::Custom) {
        match policy.meets(call) {
            Some(true) => return Decision::Asked(policy.name.clone()),
            None => open = open.or_else(|| Some(policy.name.clone())),
            Some(false) => {}
        }
    }
    for policy in mine(Action::Deny) {
        match policy.meets(call) {
            // Whatever a provider says, this denies.
            Some(true) => return Decision::Denied(Some(policy.name.clone())),
            None => open = open.or_else(|| Some(policy.name.clone())),
            Some(false) => {}
        }
    }
    let (mut allowed, mut has_any, mut perhaps) = (Vec::new(), false, None);
    for policy in mine(Action::Allow) {
        has_any = true;
        match policy.meets(call) {
            Some(true) => allowed.push(policy.name.clone()),
            None => perhaps = perhaps.or_else(|| Some(policy.name.clone())),
            Some(false) => {}
        }
    }
    match (has_any && allowed.is_empty(), perhaps, open) {
        // Nothing allows it, and nothing might: what else denies it is of no interest.
        (true, None, _) => Decision::Denied(None),
        (true, Some(policy), _) | (_, _, Some(policy)) => Decision::Depends(policy),
        (false, _, None) => Decision::Allowed(allowed),
    }
}

#[cfg(test)]
mod tests;
