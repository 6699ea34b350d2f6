//! Connections that are no requests: where the tcp and tls routes of a VirtualService end up.
//!
//! Each of their matches is a filter chain of a listener, which names the VirtualService as generated routes do and ends
//! with a filter that sends the connection to one cluster, or to several by weight. That is all that such a route says.

use serde_json::Value;

use super::{
    LISTENER, mentions, resources,
    traits::{Sent, in_order, sent, sent_by},
};

/// The chains that come from the object, one list for each listener that has any.
pub(super) fn of<'a>(dump: &'a Value, sources: &[String]) -> Vec<Vec<&'a Value>> {
    let of_listener = |listener: &'a Value| {
        let chains = listener["filterChains"].as_array().into_iter().flatten();
        let chains = chains.chain([&listener["defaultFilterChain"]]);
        chains.filter(|chain| mentions(&chain["metadata"], sources)).collect::<Vec<_>>()
    };
    resources(dump, LISTENER).map(of_listener).filter(|chains| !chains.is_empty()).collect()
}

/// Whether chains of a listener can come from a spec, whose tls routes come before its tcp routes.
pub(super) fn fit(spec: &Value, chains: &[&Value]) -> bool {
    let wanted = ["tls", "tcp"].into_iter().flat_map(|protocol| spec[protocol].as_array().into_iter().flatten());
    let wanted = wanted.flat_map(|route| {
        let matches = route["match"].as_array().map_or(1, |matches| matches.len().max(1));
        std::iter::repeat_n(sent(&route["route"]), matches)
    });
    in_order(wanted, chains.iter().map(|chain| found(chain)), |wanted, found| Sent::are(wanted, found))
}

fn found(chain: &Value) -> Vec<Sent> {
    let filters = chain["filters"].as_array().into_iter().flatten().map(|filter| &filter["typedConfig"]);
    let is_proxy = |config: &&Value| config["@type"].as_str().is_some_and(|kind| kind.ends_with(".TcpProxy"));
    filters.filter(is_proxy).flat_map(sent_by).collect()
}
