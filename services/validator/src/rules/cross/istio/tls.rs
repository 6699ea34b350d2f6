//! A DestinationRule's TLS against what the workloads behind it demand.

use super::peer::{self, Demand};
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, Labels, View, host, labels},
};

/// Most services that one wildcard rule is compared with.
const MOST: usize = 1_000;

pub(super) fn check(entry: &Entry, providers: &[&Entry], view: &View<'_>) -> Vec<Hit> {
    let spec = entry.spec();
    let policy = spec.get("trafficPolicy");
    let mut places = vec![(policy.get("tls"), None)];
    for port in policy.get("portLevelSettings").items() {
        places.push((port.get("tls"), port.get("port").get("number").integer()));
    }
    for subset in spec.get("subsets").items() {
        places.push((subset.get("trafficPolicy").get("tls"), None));
    }
    let services = providers.iter().filter(|provider| provider.kind == Kind::Service).take(MOST);
    let services: Vec<&Entry> = services.copied().collect();
    let pairs = places.iter().filter(|(tls, _)| tls.is_set());
    pairs.filter_map(|(tls, port)| services.iter().find_map(|service| clash(tls, *port, service, view))).collect()
}

/// The first port of a service that takes something else than what is sent.
fn clash(tls: &Field<'_>, only: Option<i64>, service: &Entry, view: &View<'_>) -> Option<Hit> {
    let mode = tls.get("mode");
    let sends = if mode.text().is_empty() { "DISABLE" } else { mode.text() };
    let selector = labels(&service.spec().get("selector"));
    if selector.is_empty() {
        return None;
    }
    let workloads = view.selected(service.namespace(), &selector);
    let behind: Vec<Labels<'_>> = workloads.into_iter().map(|workload| workload.labels).collect();
    let behind = if behind.is_empty() { vec![selector] } else { behind };
    let ports = service.spec().get("ports").items();
    let wanted = ports.iter().filter(|port| only.is_none_or(|only| port.get("port").integer() == Some(only)));
    for port in wanted {
        for of in &behind {
            let Some(demand) = peer::demand(service.namespace(), of, peer::target(port), view) else { continue };
            let clashes = match sends {
                "ISTIO_MUTUAL" => demand.mode == "DISABLE",
                _ => demand.mode == "STRICT",
            };
            if clashes {
                return Some(hit(&mode, sends, service, port.get("port").integer().unwrap_or_default(), &demand));
            }
        }
    }
    None
}

fn hit(mode: &Field<'_>, sends: &str, service: &Entry, port: i64, demand: &Demand<'_>) -> Hit {
    let name = format!("{}:{port}", host::full(&service.head.name, service.namespace()));
    let (rule, what) = match sends {
        "ISTIO_MUTUAL" => (rule::TLS_AGAINST_DISABLE, "mutual TLS"),
        "DISABLE" => (rule::TLS_AGAINST_STRICT, "plain text"),
        _ => (rule::TLS_AGAINST_STRICT, "TLS that is not the mesh's"),
    };
    let takes = if demand.mode == "STRICT" { "demands mutual TLS" } else { "takes plain text only" };
    let message = format!("{what} to {name}, but PeerAuthentication {} {takes}", quote(&demand.policy.full_name()));
    let related = demand.policy.related(demand.field.path(), takes);
    let hit = Hit::new(rule, mode.path(), message)
        .with(related)
        .with(service.related(service.name().path(), "is the service"));
    let hit = hit.hosts("unreachable", name);
    if sends == "DISABLE" && !mode.text().is_empty() {
        hit.suggest("write ISTIO_MUTUAL, or leave tls out").replace(mode.path(), "ISTIO_MUTUAL".into())
    } else {
        hit.suggest("leave tls out: the mesh finds out by itself what a workload takes")
    }
}
