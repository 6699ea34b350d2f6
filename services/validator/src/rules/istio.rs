//! Istio's kinds, as Istio's own validation judges them.

pub mod authorization_policy;
pub mod destination_rule;
pub mod envoy_filter;
pub mod extension;
pub mod gateway;
pub mod peer_authentication;
pub mod proxy_config;
pub mod request_authentication;
pub mod service_entry;
pub mod sidecar;
pub mod telemetry;
pub mod virtual_service;
pub mod workload;

mod cel;
pub(super) mod common;
mod header;
mod http;
mod listener;
pub(crate) mod regexp;
pub(super) mod route_order;
mod selector;
mod server_tls;
mod tls_settings;
mod traffic_policy;
mod url;

use crate::{report::Hit, rules::Object};

/// The rules of a kind.
type Rules = fn(&Object<'_>) -> Vec<Hit>;

/// Which file judges which kind.
const KINDS: [(&str, &str, Rules); 15] = [
    ("networking.istio.io", "VirtualService", virtual_service::check),
    ("networking.istio.io", "DestinationRule", destination_rule::check),
    ("networking.istio.io", "Gateway", gateway::check),
    ("networking.istio.io", "Sidecar", sidecar::check),
    ("networking.istio.io", "ServiceEntry", service_entry::check),
    ("networking.istio.io", "WorkloadEntry", workload::check_entry),
    ("networking.istio.io", "WorkloadGroup", workload::check_group),
    ("networking.istio.io", "EnvoyFilter", envoy_filter::check),
    ("networking.istio.io", "ProxyConfig", proxy_config::check),
    ("security.istio.io", "AuthorizationPolicy", authorization_policy::check),
    ("security.istio.io", "RequestAuthentication", request_authentication::check),
    ("security.istio.io", "PeerAuthentication", peer_authentication::check),
    ("telemetry.istio.io", "Telemetry", telemetry::check),
    ("extensions.istio.io", "WasmPlugin", extension::check_plugin),
    ("extensions.istio.io", "TrafficExtension", extension::check_extension),
];

/// The hits of one object, or `None` if its kind is unknown here.
#[must_use]
pub fn check(object: &Object<'_>) -> Option<Vec<Hit>> {
    let (_, _, rules) = KINDS.iter().find(|(group, kind, _)| *group == object.group() && *kind == object.head.kind)?;
    let mut hits = selector::annotations(object);
    hits.extend(rules(object));
    Some(hits)
}

#[cfg(test)]
mod tests;
