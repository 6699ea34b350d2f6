//! Istio's kinds, as Istio's own validation judges them.

pub mod destination_rule;
pub mod virtual_service;

pub(super) mod common;
mod header;
mod http;
mod regexp;
mod tls_settings;
mod traffic_policy;

#[cfg(test)]
mod tests;
