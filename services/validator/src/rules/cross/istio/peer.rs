//! PeerAuthentications: which one counts for a workload.

use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, Labels, SELECTOR, View, is_selecting, labels, matches},
};

pub(super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let mut hits = twice(entry, view);
    hits.extend(service_ports(entry, view));
    hits
}

/// What a workload takes on a port, and the policy that says so.
pub(super) struct Demand<'w> {
    /// "STRICT", "PERMISSIVE" or "DISABLE".
    pub(super) mode: &'w str,
    /// The policy.
    pub(super) policy: &'w Entry,
    /// Its field.
    pub(super) field: Field<'w>,
}

/// The labels that a policy selects by; empty for a whole namespace.
fn selector(entry: &Entry) -> Labels<'_> {
    labels(&entry.spec().get("selector").get("matchLabels"))
}

/// What counts for workloads with these labels. `None`: no policy says anything, so both plain text and mTLS are taken.
pub(super) fn demand<'w>(namespace: &str, of: &Labels<'_>, port: Option<i64>, view: &View<'w>) -> Option<Demand<'w>> {
    let root = view.root_namespace();
    let first = |namespace: &str, selecting: bool| {
        let found = view.applying(Kind::PeerAuthentication, namespace, &[of]).into_iter();
        found.filter(|entry| is_selecting(entry, SELECTOR) == selecting).min_by_key(|entry| entry.seniority())
    };
    let of_workload = if namespace == root { None } else { first(namespace, true) };
    let of_namespace = first(namespace, false);
    let of_mesh = if namespace == root { None } else { first(root, false) };
    let on_port = of_workload.zip(port).and_then(|(policy, port)| {
        let field = policy.spec().get("portLevelMtls").get(&port.to_string()).get("mode");
        said(policy, field)
    });
    let levels = [of_workload, of_namespace, of_mesh];
    on_port
        .or_else(|| levels.into_iter().flatten().find_map(|policy| said(policy, policy.spec().get("mtls").get("mode"))))
}

fn said<'w>(policy: &'w Entry, field: Field<'w>) -> Option<Demand<'w>> {
    let mode = field.text();
    (!["", "UNSET"].contains(&mode)).then_some(Demand { mode, policy, field })
}

fn twice(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let own = selector(entry);
    let workloads = view.selected(entry.namespace(), &own);
    let mut hits = Vec::new();
    let concerned = workloads.iter().map(|workload| &workload.labels).filter(|_| !own.is_empty());
    let concerned: Vec<&Labels<'_>> = concerned.chain([&own]).collect();
    let rivals = view.applying(Kind::PeerAuthentication, entry.namespace(), &concerned);
    for other in rivals.into_iter().filter(|other| other.head.name != entry.head.name) {
        let theirs = selector(other);
        let both = match (own.is_empty(), theirs.is_empty()) {
            (true, true) => Some("all workloads of the namespace".to_owned()),
            (false, false) if own == theirs => Some("the same workloads".to_owned()),
            (false, false) => {
                let shared = workloads.iter().find(|workload| matches(&theirs, &workload.labels));
                shared.map(|workload| format!("the workload {}", quote(&workload.entry.full_name())))
            }
            _ => None,
        };
        let Some(both) = both else { continue };
        let wins = entry.seniority() < other.seniority();
        let winner = if wins { entry } else { other };
        let message =
            format!("{} is for {both} too, and {} counts", quote(&other.full_name()), quote(&winner.full_name()));
        let related = other.related(other.spec().path(), if wins { "is not used" } else { "wins" });
        let hit = Hit::new(rule::PEER_TWICE, entry.spec().path(), message).with(related);
        hits.push(hit.suggest("keep one of them").workloads("ignored", vec![both]));
    }
    hits
}

/// Ports of portLevelMtls are those on which the workload listens.
fn service_ports(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let own = selector(entry);
    let mut hits = Vec::new();
    for (text, field) in entry.spec().get("portLevelMtls").entries() {
        let Ok(number) = text.parse::<i64>() else { continue };
        for service in view.labelled(Kind::Service, entry.namespace(), &own) {
            let theirs = labels(&service.spec().get("selector"));
            if own.is_empty() || theirs.is_empty() || !matches(&own, &theirs) {
                continue;
            }
            let ports = service.spec().get("ports").items();
            let listens = |port: &Field<'_>| target(port) == Some(number);
            let Some(port) = ports.iter().find(|port| port.get("port").integer() == Some(number) && !listens(port))
            else {
                continue;
            };
            if ports.iter().any(listens) {
                continue;
            }
            let targets: Vec<String> = target(port).iter().map(i64::to_string).collect();
            let message = format!(
                "{number} is the port of the Service {}; its workloads listen on {}, which this setting is not for",
                quote(&service.full_name()),
                if targets.is_empty() { quote(port.get("targetPort").text()) } else { list(&targets, " and ") }
            );
            let hit = Hit::new(rule::PEER_PORT, field.path(), message).at_key();
            let hit =
                hit.with(service.related(port.path(), "forwards to another port")).suggest("write the workload's port");
            hits.push(hit.workloads("ignored", vec![service.full_name()]));
        }
    }
    hits
}

/// The number of the port that a Service's port forwards to; `None` if it is a name.
pub(super) fn target(port: &Field<'_>) -> Option<i64> {
    let target = port.get("targetPort");
    if target.is_set() { target.integer() } else { port.get("port").integer() }
}
