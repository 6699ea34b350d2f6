//! `/debug/syncz`: what was sent to a proxy and what it acknowledged.

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
pub(super) fn proxies(syncz: &Value) -> Vec<String> {
    let proxies = syncz.as_array().into_iter().flatten();
    proxies.filter_map(|proxy| proxy["proxy"].as_str()).map(str::to_owned).collect()
}

/// The kinds of configuration that a proxy was sent.
pub(super) fn kinds<'a>(syncz: &'a Value, name: &str) -> Vec<&'a str> {
    let proxies = syncz.as_array().into_iter().flatten();
    let resources = proxies.filter(|proxy| proxy["proxy"] == name).filter_map(|proxy| proxy["resources"].as_object());
    let sent = resources.flatten().filter(|(_, status)| push(status).is_some());
    sent.map(|(kind, _)| kind.as_str()).collect()
}

/// `None` if the proxy is not connected (any more) or was never sent one of the kinds.
pub(super) fn last_push(syncz: &Value, name: &str, kinds: &[&str]) -> Option<Push> {
    let proxy = syncz.as_array()?.iter().find(|proxy| proxy["proxy"] == name)?;
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
pub(super) fn is_at_least(nonce: &str, context: &str) -> bool {
    let (nonce, context) = (version(nonce), parse(context));
    nonce.is_some() && nonce >= context
}

/// The version that a nonce begins with. Time comes first, since the counter begins anew when istiod does.
fn version(nonce: &str) -> Option<(&str, u64)> {
    parse(nonce.get(..nonce.len().checked_sub(UUID_LENGTH)?)?)
}

fn parse(version: &str) -> Option<(&str, u64)> {
    let (time, counter) = version.rsplit_once('/')?;
    Some((time, counter.parse().ok()?))
}
