//! Rules that look beyond one object: references (layer 4) and conflicts (layer 5).
//!
//! A rule gets one object and a [`View`] of all that are known, and says what is wrong with *that* object; the others are
//! related to the finding. So a conflict of two objects is found from each of them, with the roles changed.
//!
//! That something is absent can be said for certain only of a complete world; see [`View::absence`].

mod istio;
mod linkerd;
mod pem;

use crate::{
    report::Hit,
    rules::field::Field,
    world::{Entry, Kind, View},
};

/// Everything that the rules say of an object among others.
#[must_use]
pub fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = match entry.kind {
        Kind::VirtualService => istio::virtual_service(entry, view),
        Kind::DestinationRule => istio::destination_rule(entry, view),
        Kind::Gateway => istio::gateway(entry, view),
        Kind::ServiceEntry => istio::service_entry(entry, view),
        Kind::Service => istio::service(entry),
        Kind::Sidecar => istio::sidecar(entry, view),
        Kind::Telemetry => istio::telemetry(entry, view),
        Kind::AuthorizationPolicy => istio::authorization_policy(entry, view),
        Kind::RequestAuthentication => istio::request_authentication(entry, view),
        Kind::PeerAuthentication => istio::peer_authentication(entry, view),
        Kind::WasmPlugin | Kind::TrafficExtension => istio::attached(entry, view),
        Kind::Workload => istio::istiod(entry, view),
        Kind::Server => linkerd::server(entry, view),
        Kind::ServerAuthorization => linkerd::server_authorization(entry, view),
        Kind::LinkerdAuthorizationPolicy => linkerd::authorization_policy(entry, view),
        Kind::EgressNetwork => linkerd::egress_network(entry),
        Kind::RateLimit => linkerd::rate_limit(entry, view),
        Kind::ServiceProfile => linkerd::service_profile(entry, view),
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::LinkerdHttpRoute => {
            linkerd::route(entry, view)
        }
        _ => Vec::new(),
    };
    hits.extend(istio::status(entry));
    hits
}

/// Which of the fields is set to text.
fn given<'a>(field: &Field<'a>) -> Option<&'a str> {
    Some(field.text()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
