//! Routes: their parents, their backends, and routes of other kinds on the same parent.

use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, View, host},
};

const POLICY: &str = "policy.linkerd.io";
const GATEWAY: &str = "gateway.networking.k8s.io";

/// What a route hangs on.
struct Parent<'e> {
    field: Field<'e>,
    kind: Kind,
    namespace: String,
    name: &'e str,
    port: Option<i64>,
}

pub(in super::super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let parents = parents(entry);
    let mut hits: Vec<Hit> =
        parents.iter().filter_map(|parent| missing(parent, view).or_else(|| kinds(entry, parent, view))).collect();
    hits.extend(parents.iter().filter_map(|parent| probes(entry, parent, view)));
    hits.extend(backends(entry, &parents, view));
    hits
}

/// The parents that are Linkerd's concern.
fn parents(entry: &Entry) -> Vec<Parent<'_>> {
    let group = if entry.kind == Kind::LinkerdHttpRoute { POLICY } else { GATEWAY };
    let parent = |field: Field<'_>| {
        let given = field.get("group");
        let kind = Kind::named(if given.is_set() { given.text() } else { group }, field.get("kind").text())?;
        let own = field.get("namespace").text();
        let namespace = if own.is_empty() { entry.namespace() } else { own }.to_owned();
        matches!(kind, Kind::Server | Kind::Service | Kind::EgressNetwork).then_some((kind, namespace))
    };
    let fields = entry.spec().get("parentRefs").items();
    let found =
        fields.into_iter().filter_map(|field| parent(field.clone()).map(|(kind, namespace)| (field, kind, namespace)));
    found
        .map(|(field, kind, namespace)| {
            let (name, port) = (field.get("name").text(), field.get("port").integer());
            Parent { field, kind, namespace, name, port }
        })
        .collect()
}

fn missing(parent: &Parent<'_>, view: &View<'_>) -> Option<Hit> {
    let whole = quote(&format!("{}/{}", parent.namespace, parent.name));
    let path = parent.field.get("name").path().clone();
    let Some(found) = view.named(parent.kind, &parent.namespace, parent.name) else {
        let sure = view.absence(&[parent.kind], "parents of routes")?;
        let message = format!("there is no {} {whole}, so the route is not accepted", parent.kind.name());
        return Some(
            Hit::new(rule::PARENT_MISSING, &path, message)
                .sure(sure)
                .hosts("ignored", host::full(parent.name, &parent.namespace)),
        );
    };
    let headless = parent.kind == Kind::Service && found.spec().get("clusterIP").text() == "None";
    let refused = parent.kind == Kind::EgressNetwork && super::server::overlap(found).is_some();
    let why = match (headless, refused) {
        (true, _) => "is headless, and a parent needs a cluster IP",
        (_, true) => "is not accepted, because it overlaps the networks of the cluster",
        _ => return None,
    };
    let message = format!("the {} {whole} {why}, so the route is not accepted", parent.kind.name());
    let hit = Hit::new(rule::PARENT_MISSING, &path, message).with(found.related(found.spec().path(), why));
    Some(hit.hosts("ignored", host::full(parent.name, &parent.namespace)))
}

/// Which kinds of routes win over others on one parent, the winner first.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::GrpcRoute => 0,
        Kind::HttpRoute | Kind::LinkerdHttpRoute => 1,
        Kind::TlsRoute => 2,
        _ => 3,
    }
}

fn kinds(entry: &Entry, parent: &Parent<'_>, view: &View<'_>) -> Option<Hit> {
    let stronger = [Kind::GrpcRoute, Kind::HttpRoute, Kind::LinkerdHttpRoute, Kind::TlsRoute];
    let candidates = stronger.into_iter().filter(|kind| rank(*kind) < rank(entry.kind));
    let routes = candidates.flat_map(|kind| view.referring_to(kind, parent.kind, &parent.namespace, parent.name));
    let same = |theirs: &Parent<'_>| {
        theirs.kind == parent.kind
            && theirs.namespace == parent.namespace
            && theirs.name == parent.name
            && theirs.port == parent.port
    };
    let (other, field) = routes
        .into_iter()
        .find_map(|other| parents(other).into_iter().find(|theirs| same(theirs)).map(|theirs| (other, theirs.field)))?;
    let message = format!(
        "{} {} is a route of the {} {} too, and {}s win over {}s: this route is not accepted",
        other.head.kind,
        quote(&other.full_name()),
        parent.kind.name(),
        quote(parent.name),
        other.head.kind,
        entry.head.kind
    );
    let hit = Hit::new(rule::ROUTE_KINDS, parent.field.path(), message).with(other.related(field.path(), "wins"));
    Some(
        hit.suggest("use one kind of route for a parent and port")
            .hosts("ignored", host::full(parent.name, &parent.namespace)),
    )
}

fn backends(entry: &Entry, parents: &[Parent<'_>], view: &View<'_>) -> Vec<Hit> {
    // The status of a Server's route says nothing of backends: it has none.
    if !parents.iter().any(|parent| parent.kind != Kind::Server) {
        return Vec::new();
    }
    let rules = entry.spec().get("rules").items();
    let backends = rules.iter().flat_map(|rule| rule.get("backendRefs").items());
    backends.filter_map(|backend| self::backend(entry, &backend, parents, view)).collect()
}

fn backend(entry: &Entry, field: &Field<'_>, parents: &[Parent<'_>], view: &View<'_>) -> Option<Hit> {
    let named = field.get("kind").text();
    let kind = Kind::named(field.get("group").text(), if named.is_empty() { "Service" } else { named });
    let own = field.get("namespace").text();
    let namespace = if own.is_empty() { entry.namespace() } else { own };
    let name = field.get("name").text();
    let Some(kind) = kind.filter(|kind| matches!(kind, Kind::Service | Kind::EgressNetwork)) else {
        let message = format!("a {} cannot be a backend", quote(named));
        return Some(Hit::new(rule::BACKEND_KIND, field.path(), message).suggest("name a Service"));
    };
    if view.named(kind, namespace, name).is_none() {
        let sure = view.absence(&[kind], "backends of routes")?;
        let message = format!(
            "there is no {} {}, so its share of the requests fails",
            kind.name(),
            quote(&format!("{namespace}/{name}"))
        );
        let hit = Hit::new(rule::BACKEND_MISSING, field.get("name").path(), message).sure(sure);
        return Some(hit.hosts("unreachable", host::full(name, namespace)));
    }
    let is_parent = |parent: &Parent<'_>| parent.kind == kind && parent.namespace == namespace && parent.name == name;
    if kind == Kind::EgressNetwork && !parents.iter().all(is_parent) {
        let message = format!("the EgressNetwork {} can be a backend only of a route whose parent it is", quote(name));
        return Some(Hit::new(rule::BACKEND_KIND, field.path(), message).suggest("make it the route's parent"));
    }
    None
}

/// Without a route a Server lets the kubelet's probes in; with one, only what a route lets in passes.
fn probes(entry: &Entry, parent: &Parent<'_>, view: &View<'_>) -> Option<Hit> {
    if parent.kind != Kind::Server || !matches!(entry.kind, Kind::HttpRoute | Kind::LinkerdHttpRoute) {
        return None;
    }
    let found = view.named(Kind::Server, &parent.namespace, parent.name)?;
    let kinds = [Kind::HttpRoute, Kind::LinkerdHttpRoute];
    let routes: Vec<&Entry> =
        kinds.iter().flat_map(|kind| view.referring_to(*kind, Kind::Server, &parent.namespace, parent.name)).collect();
    for workload in super::server::selected(found, view) {
        for container in workload.containers() {
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                let get = container.get(probe).get("httpGet");
                if !get.is_set() || !super::server::is_port(found, &container, &get.get("port")) {
                    continue;
                }
                let path = if get.get("path").text().is_empty() { "/" } else { get.get("path").text() };
                if routes.iter().any(|route| serves(route, path)) {
                    continue;
                }
                let message = format!(
                    "with this route the Server {} no longer lets the {probe} {} of {} in",
                    quote(parent.name),
                    quote(path),
                    quote(&workload.entry.full_name())
                );
                let hit = Hit::new(rule::PROBES_CUT, parent.field.path(), message)
                    .with(workload.entry.related(get.path(), "is the probe"));
                let hit = hit.workloads("denied", vec![workload.entry.full_name()]);
                return Some(hit.suggest(
                    "add a route for the probe's path with an AuthorizationPolicy for the network of the nodes",
                ));
            }
        }
    }
    None
}

fn serves(route: &Entry, path: &str) -> bool {
    let rules = route.spec().get("rules").items();
    rules.iter().any(|rule| {
        let matches = rule.get("matches").items();
        matches.is_empty()
            || matches.iter().any(|item| {
                let of = item.get("path");
                let value = of.get("value").text();
                match of.get("type").text() {
                    "Exact" => value == path,
                    "RegularExpression" => false,
                    _ => {
                        path == value
                            || path.starts_with(&format!("{}/", value.trim_end_matches('/')))
                            || value == "/"
                            || !of.is_set()
                    }
                }
            })
    })
}
