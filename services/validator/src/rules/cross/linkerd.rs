//! Linkerd's kinds among others, as its policy controller accepts and orders them.

mod authorization;
mod route;
mod server;

use crate::{
    report::{Hit, quote},
    rules::catalogue as rule,
    world::{Entry, Kind, View, host},
};

pub(super) use authorization::{authorization_policy, rate_limit, server_authorization};
pub(super) use route::check as route;
pub(super) use server::{egress_network, server};

/// A ServiceProfile is for the service that its name says, and makes Linkerd ignore the service's routes.
pub(super) fn service_profile(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let name = &entry.head.name;
    let field = entry.name();
    let Some((service, namespace)) = host::service(name) else { return Vec::new() };
    let mut hits = Vec::new();
    let unknown = view.named(Kind::Service, namespace, service).is_none();
    if let Some(sure) = unknown.then(|| view.absence(&[Kind::Service], "services of ServiceProfiles")).flatten() {
        let message = format!("there is no Service {} in {}", quote(service), quote(namespace));
        hits.push(Hit::new(rule::PROFILE_SERVICE_UNKNOWN, field.path(), message).sure(sure).hosts("ignored", name));
    }
    let kinds = [Kind::LinkerdHttpRoute, Kind::HttpRoute, Kind::GrpcRoute, Kind::TlsRoute, Kind::TcpRoute];
    let routes = kinds.iter().flat_map(|kind| view.referring_to(*kind, Kind::Service, namespace, service));
    let routes: Vec<&Entry> = routes.collect();
    if let Some(first) = routes.first() {
        let message = format!(
            "as long as this ServiceProfile is there, {} {} and {} other routes of {} are ignored",
            first.head.kind,
            quote(&first.full_name()),
            routes.len() - 1,
            quote(name)
        );
        let related = routes.iter().map(|route| route.related(route.spec().get("parentRefs").path(), "is ignored"));
        let hit = Hit::new(rule::PROFILE_WINS, field.path(), message).with_all(related);
        hits.push(
            hit.suggest("move its routes, retries and timeouts to the route, and delete it").hosts("ignored", name),
        );
    }
    hits
}
