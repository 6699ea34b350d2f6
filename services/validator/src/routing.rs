//! Which route a request takes: what Istio's VirtualServices decide of it in the caller's proxy.
//!
//! Written from what Istio 1.32 makes of them (`pilot/pkg/networking/core/route/route.go`, `core/tls.go`,
//! `model/virtualservice.go`) and held against a real Envoy, which istiod configures from the same objects, on generated
//! requests (`tests/access.rs`).
//!
//! Which object decides: of those that are exported to the caller and bound to its gateway, the private ones come before
//! those exported to its namespace, and these before the public ones; then the older comes first. The first that names the
//! host and has a route for this caller and port decides alone; among wildcards only the most specific is asked. Without
//! any, the request goes to the host itself. With one of which no route matches it gets a 404.
//!
//! As for [`access`](crate::access), a fact about a request can be unknown. A decision is then the list of the ways that
//! the request may take, each with the condition that would send it there; nothing is guessed. What a Sidecar object hides
//! from the caller, and what becomes of a request at its destination, are no part of it.

mod delegate;
mod layer4;
mod matching;
mod outcome;
mod service;

use std::collections::BTreeMap;

use serde_json::Value;

pub use outcome::{Change, Effect, Goes, Outcome};
pub use service::{VirtualService, is_virtual_service};

use crate::access::Fact;

/// The proxies beside workloads, as a gateway.
pub const MESH: &str = "mesh";

/// What a request speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP of any version, gRPC too.
    #[default]
    Http,
    /// TLS that the caller's proxy passes on.
    Tls,
    /// Anything else.
    Tcp,
}

/// A request as the caller's proxy sees it, or all that are alike.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// Full name of the host that it asks for.
    pub host: String,
    /// The gateway that takes it: "namespace/name", or [`MESH`] for the caller's own sidecar.
    pub gateway: String,
    /// Namespace of the caller.
    pub namespace: Fact<String>,
    /// Labels of the caller's pod.
    pub labels: Fact<BTreeMap<String, String>>,
    /// Port of the Service.
    pub port: Fact<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Server name of the TLS handshake.
    pub sni: Fact<String>,
    /// E.g. "GET".
    pub method: Fact<String>,
    /// Without the query.
    pub path: Fact<String>,
    /// `Host` or `:authority`, with its port if the client sends one.
    pub authority: Fact<String>,
    /// "http" or "https".
    pub scheme: Fact<String>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Parameters of the query, the first value of each.
    pub query: BTreeMap<String, String>,
    /// There are no other headers and parameters; else one that is not listed is unknown.
    pub complete: bool,
}

impl Request {
    fn of<'a>(&self, all: &'a BTreeMap<String, String>, name: &str) -> Fact<&'a str> {
        match all.get(name) {
            Some(value) => Fact::Known(value.as_str()),
            None if self.complete => Fact::Absent,
            None => Fact::Unknown,
        }
    }

    fn is_at_gateway(&self) -> bool {
        self.gateway != MESH
    }
}

/// A way that a request may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// What would send it there; null = it goes there in any case, if it comes so far.
    condition: Value,
    /// What becomes of it there.
    pub outcome: Outcome,
    /// The route, for people: "shop/cart http[1] canary".
    pub by: String,
}

/// All ways that a request may take, in the order in which they are tried; the last one is open to every request.
#[derive(Debug, Clone, PartialEq)]
pub struct Ways(Vec<Way>);

impl Ways {
    /// The one outcome, if what is not known cannot change it.
    #[must_use]
    pub fn decided(&self) -> Option<&Way> {
        let last = self.0.last()?;
        let same = self.0.iter().all(|way| way.outcome == last.outcome);
        (same && last.outcome.goes != Goes::Unknown).then_some(&self.0[0])
    }

    /// In a clause.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.decided(), self.0.iter().find(|way| way.outcome.goes == Goes::Unknown)) {
            (Some(way), _) => format!("{} by {}", way.outcome.words(), way.by),
            (None, Some(way)) => format!("not known, for {}", way.by),
            (None, None) => {
                format!("not known, for {} asks for what is not known of it", self.0.first().map_or("", |way| &way.by))
            }
        }
    }

    /// Whether a request may come to a host.
    #[must_use]
    pub fn may_reach(&self, host: &str) -> bool {
        self.0.iter().any(|way| way.outcome.may_reach(host))
    }

    fn maybe(&mut self, condition: Value, by: String, outcome: Outcome) {
        self.0.push(Way { condition, outcome, by });
    }
}

/// What a change from one decision to another does to a request.
#[must_use]
pub fn compare(now: &Ways, then: &Ways) -> Option<Change> {
    if let (Some(now), Some(then)) = (now.decided(), then.decided()) {
        return outcome::change(&now.outcome, &then.outcome);
    }
    // The same questions with the same answers stay open on both sides.
    let key = |ways: &Ways| ways.0.iter().map(|way| (way.condition.clone(), way.outcome.clone())).collect::<Vec<_>>();
    (key(now) != key(then)).then(|| Change { effect: Effect::Undecided, share: 1.0, settings: Vec::new() })
}

/// The ways that a request may take among these objects.
#[must_use]
pub fn decide(services: &[VirtualService], request: &Request) -> Ways {
    let mut ways = Ways(Vec::new());
    match service::candidates(services, request) {
        Err(why) => ways.maybe(Value::Null, why, Outcome::unknown()),
        Ok(candidates) => {
            for (candidate, is_there) in candidates {
                let tried = match request.protocol {
                    Protocol::Http => candidate.http(request),
                    Protocol::Tcp => layer4::tcp(candidate, request),
                    Protocol::Tls => layer4::tls(candidate, request),
                };
                // Where it is not sure that the object is asked at all, its ways are conditions of one more kind.
                let shown = |way: Way| match is_there {
                    Some(_) => way,
                    None => Way { condition: serde_json::json!([candidate.name, way.condition]), ..way },
                };
                ways.0.extend(tried.ways.into_iter().map(shown));
                if tried.decides == Some(true) && is_there == Some(true) {
                    return ways;
                }
            }
            ways.maybe(Value::Null, "no VirtualService".to_owned(), Outcome::default_of(request));
        }
    }
    ways
}

/// What one object says of a request.
#[derive(Debug, Default)]
struct Tried {
    ways: Vec<Way>,
    /// Whether the search ends with it.
    decides: Option<bool>,
}

#[cfg(test)]
mod tests;
