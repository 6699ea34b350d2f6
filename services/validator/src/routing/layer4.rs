//! Routes of connections: by port and caller (tcp), or by the server name of the handshake too (tls).
//!
//! Addresses of a connection are not part of a request here, so a match by `destinationSubnets` is unknown.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::{Outcome, Request, Tried, VirtualService, Way, matching};
use crate::{
    access::{Fact, every},
    world::host,
};

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The first route whose match fits; without any, the next object is asked.
pub(super) fn tcp(service: &VirtualService, request: &Request) -> Tried {
    let mut tried = Tried { ways: Vec::new(), decides: Some(false) };
    for (index, route) in list(&service.spec["tcp"]).iter().enumerate() {
        let own = list(&route["match"]);
        let fits: Vec<_> =
            own.iter().map(|own| every([is_for(own, service, request), no_subnet(own)].into_iter())).collect();
        let met = if own.is_empty() { Some(true) } else { crate::access::any(fits.into_iter()) };
        if met == Some(false) {
            continue;
        }
        let condition = if met.is_none() { json!(own) } else { Value::Null };
        tried.ways.push(way(service, request, condition, route, &format!("tcp[{index}]")));
        if met == Some(true) {
            tried.decides = met;
            return tried;
        }
        tried.decides = None;
    }
    tried
}

/// The match with the most specific server name, as Envoy chooses among filter chains. What no match takes is passed on or
/// not by the mesh's outbound policy, so it is unknown.
pub(super) fn tls(service: &VirtualService, request: &Request) -> Tried {
    let mut fitting: Vec<(Reverse<usize>, Way, Option<bool>)> = Vec::new();
    for (index, route) in list(&service.spec["tls"]).iter().enumerate() {
        for own in list(&route["match"]) {
            let names = list(&own["sniHosts"]).iter().filter_map(Value::as_str);
            let (length, named) = match &request.sni {
                Fact::Known(sni) => {
                    let best = names.filter(|name| host::covers(name, &sni.to_ascii_lowercase())).map(str::len).max();
                    (best.unwrap_or_default(), Some(best.is_some()))
                }
                Fact::Absent => (0, Some(false)),
                Fact::Unknown => (0, None),
            };
            let met = every([is_for(own, service, request), no_subnet(own), named].into_iter());
            if met != Some(false) {
                let condition = if met.is_none() { own.clone() } else { Value::Null };
                let way = way(service, request, condition, route, &format!("tls[{index}]"));
                fitting.push((Reverse(length), way, met));
            }
        }
    }
    if list(&service.spec["tls"]).is_empty() {
        return Tried { ways: Vec::new(), decides: Some(false) };
    }
    fitting.sort_by_key(|(length, ..)| *length);
    let certain = fitting.iter().position(|(.., met)| *met == Some(true));
    let mut ways: Vec<Way> =
        fitting.into_iter().take(certain.map_or(usize::MAX, |at| at + 1)).map(|(_, way, _)| way).collect();
    if certain.is_none() {
        ways.push(Way {
            condition: Value::Null,
            outcome: Outcome::unknown(),
            by: format!("{} has no match for it", service.name),
        });
    }
    Tried { ways, decides: Some(true) }
}

fn way(service: &VirtualService, request: &Request, condition: Value, route: &Value, by: &str) -> Way {
    let outcome = Outcome::of_route(route, &service.namespace, request);
    Way { condition, outcome, by: format!("{} {by}", service.name) }
}

fn no_subnet(own: &Value) -> Option<bool> {
    list(&own["destinationSubnets"]).is_empty().then_some(true)
}

/// Whether istiod makes it part of this caller's configuration. Unlike those of HTTP, a match is bound by its gateways and
/// by its labels.
fn is_for(own: &Value, service: &VirtualService, request: &Request) -> Option<bool> {
    let gateways = matching::gateways(&own["gateways"], &service.namespace);
    let bound = Some(gateways.is_empty() || gateways.contains(&request.gateway));
    let mut rest = own.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("gateways");
    }
    every([bound, matching::Match::new(&rest, &service.namespace).is_for(request)].into_iter())
}
