//! Servers: which workloads and ports they are for. EgressNetworks: which networks.

use std::net::IpAddr;

use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, View, Workload, selects},
};

/// The cluster's networks, if nobody told Linkerd others.
const CLUSTER_NETWORKS: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];

pub(in super::super) fn server(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let own = selected(entry, view);
    let selector = entry.spec().get("podSelector");
    let nobody = own.is_empty() && selector.is_set();
    if let Some(sure) = nobody.then(|| view.absence(&[Kind::Workload], "workloads of Servers")).flatten() {
        let message = format!("no workload of {} is selected, so the Server is for nothing", quote(entry.namespace()));
        hits.push(Hit::new(rule::SERVER_NO_POD, selector.path(), message).sure(sure).workloads("ignored", Vec::new()));
    }
    hits.extend(overlaps(entry, &own, view));
    hits.extend(denies(entry, &own, view));
    hits
}

/// The workloads of a Server.
pub(super) fn selected<'w>(server: &Entry, view: &View<'w>) -> Vec<Workload<'w>> {
    let selector = server.spec().get("podSelector");
    let mut workloads = view.workloads(server.namespace());
    workloads.retain(|workload| selector.is_set() && selects(&selector, &workload.labels));
    workloads
}

/// Whether a port of a container, by name or number, is the Server's.
pub(super) fn is_port(server: &Entry, container: &Field<'_>, port: &Field<'_>) -> bool {
    let wanted = number(&server.spec().get("port"), container);
    wanted.is_some() && wanted == number(port, container)
}

/// The number of a port that may be a name of a container's.
fn number(port: &Field<'_>, container: &Field<'_>) -> Option<i64> {
    port.integer().or_else(|| {
        let ports = container.get("ports").items();
        ports
            .iter()
            .find(|one| one.get("name").text() == port.text() && !port.text().is_empty())?
            .get("containerPort")
            .integer()
    })
}

/// Two Servers for one port of one workload: which of them counts is not defined.
fn overlaps(entry: &Entry, own: &[Workload<'_>], view: &View<'_>) -> Vec<Hit> {
    let port = entry.spec().get("port");
    let mut hits = Vec::new();
    for other in view.all_in(Kind::Server, entry.namespace()).into_iter().filter(|other| other.head != entry.head) {
        let theirs = other.spec().get("port");
        let same = |workload: &&Workload<'_>| {
            let containers = workload.containers();
            theirs.value() == port.value()
                || containers.iter().any(|container| {
                    number(&port, container).is_some() && number(&port, container) == number(&theirs, container)
                })
        };
        let selector = other.spec().get("podSelector");
        let shared = own.iter().filter(same).find(|workload| selector.is_set() && selects(&selector, &workload.labels));
        let equal = theirs.value() == port.value()
            && selector.is_set()
            && selector.value() == entry.spec().get("podSelector").value();
        let of = match shared {
            Some(workload) => quote(&workload.entry.full_name()),
            None if equal => "the same selector".to_owned(),
            None => continue,
        };
        let message = format!(
            "{} is for the same port of {of}; which of the two counts is not defined",
            quote(&other.full_name())
        );
        let hit = Hit::new(rule::SERVERS_OVERLAP, port.path(), message)
            .with(other.related(theirs.path(), "is for the same port"));
        hits.push(
            hit.suggest("keep one Server for a port")
                .workloads("ignored", shared.map(|w| w.entry.full_name()).into_iter().collect()),
        );
    }
    hits
}

/// A Server whose accessPolicy is "deny", the default, and for which no policy lets anybody in.
fn denies(entry: &Entry, own: &[Workload<'_>], view: &View<'_>) -> Option<Hit> {
    let access = entry.spec().get("accessPolicy");
    if access.is_set() && access.text() != "deny" {
        return None;
    }
    let (namespace, name) = (entry.namespace(), entry.head.name.as_str());
    let direct = !view.referring_to(Kind::LinkerdAuthorizationPolicy, Kind::Server, namespace, name).is_empty()
        || !view.referring_to(Kind::LinkerdAuthorizationPolicy, Kind::Namespace, "", namespace).is_empty()
        || !view.referring_to(Kind::ServerAuthorization, Kind::Server, namespace, name).is_empty()
        || view.all_in(Kind::ServerAuthorization, namespace).iter().any(|policy| by_labels(policy, entry));
    if direct || by_route(namespace, name, view) {
        return None;
    }
    let sure = view.absence(
        &[Kind::LinkerdAuthorizationPolicy, Kind::ServerAuthorization],
        "whether a policy lets anybody in at a Server",
    )?;
    let port = entry.spec().get("port");
    let shown = port.integer().map_or_else(|| port.text().to_owned(), |number| number.to_string());
    let message = format!("no policy is for this Server, so every request to port {shown} is denied");
    let hit = Hit::new(rule::SERVER_DENIES, entry.spec().path(), message).sure(sure);
    let workloads = own.iter().map(|workload| workload.entry.full_name()).collect();
    Some(
        hit.suggest("add an AuthorizationPolicy for it first, or set accessPolicy: audit")
            .workloads("denied", workloads),
    )
}

fn by_labels(policy: &Entry, server: &Entry) -> bool {
    let selector = policy.spec().get("server").get("selector");
    selector.is_set() && selects(&selector, &crate::world::labels(&server.root().get("metadata").get("labels")))
}

/// Whether a policy is for a route of the Server.
fn by_route(namespace: &str, name: &str, view: &View<'_>) -> bool {
    let kinds = [Kind::LinkerdHttpRoute, Kind::HttpRoute, Kind::GrpcRoute];
    kinds.iter().any(|kind| {
        view.referring_to(*kind, Kind::Server, namespace, name).iter().any(|route| {
            !view.referring_to(Kind::LinkerdAuthorizationPolicy, *kind, route.namespace(), &route.head.name).is_empty()
        })
    })
}

pub(in super::super) fn egress_network(entry: &Entry) -> Vec<Hit> {
    let hit = |(field, network): (Field<'_>, &str)| {
        let message = format!(
            "{} overlaps {network}, a network of the cluster, so Linkerd does not accept it",
            quote(field.text())
        );
        let hit = Hit::new(rule::NETWORK_OVERLAP, field.path(), message).sure(meshward_model::Confidence::Definite);
        hit.suggest("except the cluster's networks, or leave `networks` out").workloads("ignored", Vec::new())
    };
    overlap(entry).map(hit).into_iter().collect()
}

/// The first network that overlaps one of the cluster's.
pub(super) fn overlap(entry: &Entry) -> Option<(Field<'_>, &'static str)> {
    for network in entry.spec().get("networks").items() {
        let field = network.get("cidr");
        let Some(own) = Network::parse(field.text()) else { continue };
        let except: Vec<Network> =
            network.get("except").items().iter().filter_map(|item| Network::parse(item.text())).collect();
        let taken = CLUSTER_NETWORKS.iter().find(|text| {
            Network::parse(text).is_some_and(|cluster| {
                own.meets(&cluster) && !except.iter().any(|out| out.holds(&cluster) || out.holds(&own))
            })
        });
        if let Some(cluster) = taken {
            return Some((field, cluster));
        }
    }
    None
}

/// A range of addresses.
struct Network {
    version: u8,
    first: u128,
    last: u128,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let (version, number, size) = match address.parse().ok()? {
            IpAddr::V4(address) => (4, u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (6, u128::from(address), 128),
        };
        let bits: u32 = bits.map_or(Some(size), |bits| bits.parse().ok())?;
        let rest = size.checked_sub(bits)?;
        let mask = 1_u128.checked_shl(rest).map_or(u128::MAX, |one| one - 1);
        Some(Self { version, first: number & !mask, last: number | mask })
    }

    fn meets(&self, other: &Self) -> bool {
        self.version == other.version && self.first <= other.last && other.first <= self.last
    }

    fn holds(&self, other: &Self) -> bool {
        self.version == other.version && self.first <= other.first && other.last <= self.last
    }
}
