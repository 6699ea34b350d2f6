//! `/debug/syncz`: what was sent to a proxy and what it acknowledged.
//!
//! A proxy that connects anew is listed twice until istiod notices that the connection before is dead. What is written
//! to that one counts as sent and is never acknowledged, so of the two the one that has acknowledged more is the proxy.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde_json::Value;

/// Routes: where http of a VirtualService ends up.
pub(super) const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Listeners: where its tcp and tls end up.
pub(super) const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// Clusters: where a DestinationRule ends up.
pub(super) const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Endpoints of clusters.
pub(super) const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// A UUID in its hyphenated form ends every nonce.
const UUID_LENGTH: usize = 36;

/// Every push of these begins with what is kept for a proxy being brought up to date with a push context.
const LEADING: [&str; 2] = [CLUSTERS, ROUTES];

/// The version of a push context. Time comes first, since the counter begins anew when istiod does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::proof) struct Version {
    time: String,
    counter: u64,
}

/// The last push of some kinds of configuration to a proxy, taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Push {
    /// The oldest of the nonces sent.
    pub(super) nonce: String,
    /// All of them were acknowledged.
    pub(super) acknowledged: bool,
    /// The proxy's words about one of them.
    pub(super) error: Option<String>,
}

/// The names of the connected proxies.
pub(super) fn proxies(syncz: &Value) -> BTreeSet<String> {
    let proxies = syncz.as_array().into_iter().flatten();
    proxies.filter_map(|proxy| proxy["proxy"].as_str()).map(str::to_owned).collect()
}

/// What a proxy was sent, by kind.
fn sent<'a>(syncz: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, Push)> {
    let resources = proxy(syncz, name).and_then(|proxy| proxy["resources"].as_object());
    resources.into_iter().flatten().filter_map(|(kind, status)| Some((kind.as_str(), push(status)?)))
}

fn proxy<'a>(syncz: &'a Value, name: &str) -> Option<&'a Value> {
    let acknowledged = |entry: &&Value| {
        let all = entry["resources"].as_object().into_iter().flat_map(|resources| resources.values());
        let newest = all.clone().filter_map(|status| version(status["acked"].as_str()?)).max();
        (newest, all.filter_map(push).any(|push| push.error.is_some()))
    };
    syncz.as_array()?.iter().filter(|proxy| proxy["proxy"] == name).max_by_key(acknowledged)
}

/// The kinds of configuration that a proxy was sent.
pub(super) fn kinds<'a>(syncz: &'a Value, name: &str) -> Vec<&'a str> {
    sent(syncz, name).map(|(kind, _)| kind).collect()
}

/// Changes with everything that the proxy is sent.
pub(super) fn stamp(syncz: &Value, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    sent(syncz, name).for_each(|(kind, push)| (kind, push.nonce).hash(&mut hasher));
    hasher.finish()
}

/// The newest state that a proxy was seen to be brought up to.
pub(super) fn reached(syncz: &Value, name: &str) -> Option<Version> {
    let leading = sent(syncz, name).filter(|(kind, _)| LEADING.contains(kind));
    leading.filter_map(|(_, push)| version(&push.nonce)).max()
}

/// `None` if the proxy is not connected (any more) or was never sent one of the kinds.
pub(super) fn last_push(syncz: &Value, name: &str, kinds: &[&str]) -> Option<Push> {
    let proxy = proxy(syncz, name)?;
    let pushes: Option<Vec<_>> = kinds.iter().map(|kind| push(&proxy["resources"][*kind])).collect();
    pushes?.into_iter().reduce(|a, b| Push {
        acknowledged: a.acknowledged && b.acknowledged,
        error: a.error.or(b.error),
        nonce: if version(&a.nonce) <= version(&b.nonce) { a.nonce } else { b.nonce },
    })
}

fn push(status: &Value) -> Option<Push> {
    let sent = status["sent"].as_str().filter(|sent| !sent.is_empty())?;
    let error = status["lastError"].as_str().filter(|error| !error.is_empty());
    Some(Push {
        nonce: sent.to_owned(),
        acknowledged: status["acked"] == sent && error.is_none(),
        error: error.map(str::to_owned),
    })
}

/// Whether a nonce was made from this version of the push context or a newer one.
pub(super) fn is_at_least(nonce: &str, context: &Version) -> bool {
    version(nonce).is_some_and(|version| version >= *context)
}

/// The version that a nonce begins with.
fn version(nonce: &str) -> Option<Version> {
    parse(nonce.get(..nonce.len().checked_sub(UUID_LENGTH)?)?)
}

/// Of "<time>/<counter>".
pub(super) fn parse(version: &str) -> Option<Version> {
    let (time, counter) = version.rsplit_once('/')?;
    Some(Version { time: time.to_owned(), counter: counter.parse().ok()? })
}
