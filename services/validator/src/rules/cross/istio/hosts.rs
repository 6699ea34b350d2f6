//! VirtualServices of one host, and hosts that do not take their routes.

use super::virtual_service::gateway_hosts;
use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, cross::istio::service_entry::is_tcp, field::Field, istio::route_order},
    world::{Entry, Kind, View, host},
};

const MESH: &str = "mesh";

pub(super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let spec = entry.spec();
    let gateways = spec.get("gateways").items();
    let gateways: Vec<&str> = gateways.iter().map(Field::text).collect();
    let on_mesh = gateways.is_empty() || gateways.contains(&MESH);
    let mut hits = Vec::new();
    for field in spec.get("hosts").items() {
        let name = host::full(field.text(), entry.namespace());
        if on_mesh {
            hits.extend(on_the_mesh(entry, &field, &name, view));
            hits.extend(tcp_only(entry, &field, &name, view));
            hits.extend(and_route(&field, &name, view));
        } else {
            hits.extend(internal(entry, &field, &name, view));
        }
        hits.extend(on_gateways(entry, &field, &name, &gateways, view));
    }
    hits
}

fn is_on_mesh(entry: &Entry) -> bool {
    let gateways = entry.spec().get("gateways").items();
    gateways.is_empty() || gateways.iter().any(|gateway| gateway.text() == MESH)
}

/// The namespaces that see an object; `None` is all.
fn audience(entry: &Entry) -> Option<Vec<String>> {
    let exports = entry.spec().get("exportTo").items();
    let exports: Vec<&str> = exports.iter().map(Field::text).collect();
    host::exported(&exports, entry.namespace()).map(|list| list.into_iter().map(str::to_owned).collect())
}

/// Whether two VirtualServices clash for a client: the same host where both are seen. Where one is for some namespaces only
/// and the other for all, a wildcard clashes too.
fn clash(own: &str, theirs: &str, one: Option<&[String]>, other: Option<&[String]>) -> bool {
    match (one, other) {
        (None, None) => own == theirs,
        (Some(one), Some(other)) => own == theirs && one.iter().any(|namespace| other.contains(namespace)),
        (Some(_), None) => host::covers(theirs, own),
        (None, Some(_)) => host::covers(own, theirs),
    }
}

fn on_the_mesh(entry: &Entry, field: &Field<'_>, name: &str, view: &View<'_>) -> Option<Hit> {
    let mut others = view.of_host(Kind::VirtualService, name);
    others.extend(if name.starts_with('*') {
        view.all(Kind::VirtualService)
    } else {
        view.wildcards(Kind::VirtualService)
    });
    let own = audience(entry);
    let is_rival = |other: &&Entry| {
        let theirs = audience(other);
        let mut hosts = other.spec().get("hosts").items().into_iter();
        other.head != entry.head
            && is_on_mesh(other)
            && hosts
                .any(|host| clash(name, &host::full(host.text(), other.namespace()), own.as_deref(), theirs.as_deref()))
    };
    let mut rivals: Vec<&Entry> = Vec::new();
    for other in others.into_iter().filter(is_rival) {
        if !rivals.iter().any(|known| known.head == other.head) {
            rivals.push(other);
        }
    }
    let first = rivals.iter().copied().chain([entry]).min_by_key(|entry| entry.seniority())?;
    if rivals.is_empty() {
        return None;
    }
    let names: Vec<String> = rivals.iter().map(|other| quote(&other.full_name())).collect();
    let message = format!(
        "{} is a host of {} too; on the mesh only one counts, which is {}",
        quote(name),
        list(&names, " and "),
        quote(&first.full_name())
    );
    let role = |other: &Entry| if other.head == first.head { "wins" } else { "has the same host" };
    let related = rivals.iter().map(|other| other.related(other.spec().get("hosts").path(), role(other)));
    let hit = Hit::new(rule::VS_MESH_HOST, field.path(), message).with_all(related);
    Some(hit.suggest("put the routes into one VirtualService, in order").hosts("ignored", name))
}

/// Gateways join the routes of one host by age: what an older one takes, the younger does not get.
fn on_gateways(entry: &Entry, field: &Field<'_>, name: &str, gateways: &[&str], view: &View<'_>) -> Option<Hit> {
    let whole = |gateway: &str, entry: &Entry| match gateway.split_once('/') {
        Some(_) => gateway.to_owned(),
        None => format!("{}/{gateway}", entry.namespace()),
    };
    let own: Vec<String> = gateways.iter().filter(|name| **name != MESH).map(|name| whole(name, entry)).collect();
    if own.is_empty() {
        return None;
    }
    let others = view.of_host(Kind::VirtualService, name);
    for other in others.into_iter().filter(|other| other.head != entry.head && other.seniority() < entry.seniority()) {
        let theirs = other.spec().get("gateways").items();
        let Some(shared) =
            theirs.iter().map(|gateway| whole(gateway.text(), other)).find(|gateway| own.contains(gateway))
        else {
            continue;
        };
        let (older, younger) = (other.spec().get("http").items(), entry.spec().get("http").items());
        let taken = younger.iter().find_map(|route| {
            older
                .iter()
                .find(|before| route_order::takes_all_of(before, route))
                .map(|before| (route.clone(), before.clone()))
        });
        let Some((route, before)) = taken else { continue };
        let message = format!(
            "{} has the host {} on the gateway {} too and is older or first by name: its {} takes all requests of this route",
            quote(&other.full_name()),
            quote(field.text()),
            quote(&shared),
            before.path()
        );
        let hit = Hit::new(rule::VS_GATEWAY_HOST, route.path(), message).with(other.related(before.path(), "wins"));
        return Some(hit.suggest("put the routes into one VirtualService, in order").hosts("ignored", name));
    }
    None
}

/// HTTP routes for a service whose ports are all declared to be something else.
fn tcp_only(entry: &Entry, field: &Field<'_>, name: &str, view: &View<'_>) -> Option<Hit> {
    let spec = entry.spec();
    let http = spec.get("http");
    if http.items().is_empty() || !spec.get("tcp").items().is_empty() || !spec.get("tls").items().is_empty() {
        return None;
    }
    let services = view.of_host(Kind::Service, name);
    let service = services.first()?;
    let ports = service.spec().get("ports").items();
    if ports.is_empty() || !ports.iter().all(is_tcp) {
        return None;
    }
    let names: Vec<String> = ports.iter().map(|port| quote(port.get("name").text())).collect();
    let message = format!(
        "{} has TCP ports only ({}), so its requests never come to these HTTP routes",
        quote(field.text()),
        list(&names, " and ")
    );
    let hit = Hit::new(rule::HTTP_ON_TCP, http.path(), message);
    let hit = hit.with(service.related(service.spec().get("ports").path(), "declares TCP")).hosts("ignored", name);
    Some(hit.suggest("name the port http-…, set appProtocol: http, or write tcp routes"))
}

/// A host of the mesh that is bound to gateways only.
fn internal(entry: &Entry, field: &Field<'_>, name: &str, view: &View<'_>) -> Option<Hit> {
    let (service, namespace) = host::service(name)?;
    let found = view.named(Kind::Service, namespace, service)?;
    let gateways = entry.spec().get("gateways");
    // Who serves exactly this host at a gateway means it.
    let meant = gateways.items().iter().any(|gateway| {
        let (of, short) = gateway.text().split_once('/').unwrap_or((entry.namespace(), gateway.text()));
        let gateway = view.named(Kind::Gateway, of, short);
        gateway.is_some_and(|gateway| {
            gateway_hosts(gateway, entry.namespace()).iter().any(|(_, served)| *served == field.text())
        })
    });
    if meant {
        return None;
    }
    let message = format!(
        "{} is a service of the mesh, and the routes are bound to gateways only: requests from inside do not use them",
        quote(name)
    );
    let hit = Hit::new(rule::INTERNAL_ON_GATEWAY, gateways.path(), message);
    let hit = hit.with(found.related(found.name().path(), "is the service")).hosts("ignored", name);
    Some(hit.suggest("add \"mesh\" to the gateways").append(gateways.path(), MESH.into()))
}

fn and_route(field: &Field<'_>, name: &str, view: &View<'_>) -> Option<Hit> {
    let (service, namespace) = host::service(name)?;
    let kinds = [Kind::HttpRoute, Kind::GrpcRoute];
    let routes = kinds.iter().flat_map(|kind| view.referring_to(*kind, Kind::Service, namespace, service));
    let route = routes.into_iter().next()?;
    let message = format!(
        "the {} {} is for the service {} too; which of the two counts is not defined",
        route.head.kind,
        quote(&route.full_name()),
        quote(name)
    );
    let hit = Hit::new(rule::VS_AND_ROUTE, field.path(), message);
    let hit = hit.with(route.related(route.spec().get("parentRefs").path(), "is for the same service"));
    Some(hit.suggest("keep one of the two").hosts("ignored", name))
}
