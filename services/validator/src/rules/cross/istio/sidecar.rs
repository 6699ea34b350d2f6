//! Sidecars: whom they are for, and what they hide.

use super::gateway::shown;
use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, field::Field},
    world::{Entry, Kind, Labels, View, host, labels, matches},
};
use meshward_model::Confidence;

pub(in super::super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let selector = labels(&entry.spec().get("workloadSelector").get("labels"));
    let mut hits = if selector.is_empty() { default(entry, view) } else { selected(entry, &selector, view) };
    hits.extend(hidden(entry, view));
    hits
}

fn selector_of(entry: &Entry) -> Labels<'_> {
    labels(&entry.spec().get("workloadSelector").get("labels"))
}

fn selected(entry: &Entry, selector: &Labels<'_>, view: &View<'_>) -> Vec<Hit> {
    let field = entry.spec().get("workloadSelector");
    let workloads = view.workloads(entry.namespace());
    let own: Vec<_> = workloads.iter().filter(|workload| matches(selector, &workload.labels)).collect();
    if own.is_empty() {
        let Some(sure) = view.absence(&[Kind::Workload], "workloads of Sidecars") else { return Vec::new() };
        let message = format!("no workload of {} has the labels {}", quote(entry.namespace()), quote(&shown(selector)));
        let hit = Hit::new(rule::SELECTOR_NO_POD, field.path(), message).sure(sure);
        return vec![hit.workloads("ignored", vec![shown(selector)])];
    }
    if let Some(workload) = own.iter().find(|workload| workload.is_ambient()) {
        let message = format!("{} is in ambient mode and has no sidecar", quote(&workload.entry.full_name()));
        let hit = Hit::new(rule::POLICY_INEFFECTIVE, field.path(), message);
        return vec![hit.workloads("ignored", vec![workload.entry.full_name()])];
    }
    let others = view.all_in(Kind::Sidecar, entry.namespace());
    let others = others.into_iter().filter(|other| other.head != entry.head);
    let clash = |other: &'_ &Entry| {
        let theirs = selector_of(other);
        !theirs.is_empty() && own.iter().any(|workload| matches(&theirs, &workload.labels))
    };
    let rivals: Vec<&Entry> = others.filter(clash).collect();
    twice(entry, &rivals, rule::SIDECAR_OVERLAP, "select a workload that this one selects", &field)
        .into_iter()
        .collect()
}

fn twice(entry: &Entry, rivals: &[&Entry], id: &'static rule::Rule, what: &str, field: &Field<'_>) -> Option<Hit> {
    if rivals.is_empty() {
        return None;
    }
    let names: Vec<String> = rivals.iter().map(|other| quote(&other.full_name())).collect();
    let message = format!("{} {what}; which one counts is not defined", list(&names, " and "));
    let related = rivals.iter().map(|other| other.related(other.spec().path(), "is for the same workload"));
    let hit = Hit::new(id, field.path(), message).with_all(related).suggest("keep one of them");
    Some(hit.workloads("ignored", vec![format!("{}/*", entry.namespace())]))
}

fn default(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let namespace = view.named(Kind::Namespace, "", entry.namespace());
    let own = namespace.map(|namespace| labels(&namespace.root().get("metadata").get("labels"))).unwrap_or_default();
    let has = |name: &str, value: &str| own.get(name) == Some(&value);
    let revision = own.get("istio.io/rev").is_some_and(|value| !value.is_empty());
    if has("istio.io/dataplane-mode", "ambient") && !has("istio-injection", "enabled") && !revision {
        let message =
            format!("the namespace {} is in ambient mode, where there are no sidecars", quote(entry.namespace()));
        let hit = Hit::new(rule::POLICY_INEFFECTIVE, entry.spec().path(), message);
        return vec![hit.workloads("ignored", vec![format!("{}/*", entry.namespace())])];
    }
    let others = view.all_in(Kind::Sidecar, entry.namespace());
    let rivals: Vec<&Entry> =
        others.into_iter().filter(|other| other.head != entry.head && selector_of(other).is_empty()).collect();
    twice(entry, &rivals, rule::SIDECAR_DEFAULTS, "of this namespace have no selector either", &entry.spec())
        .into_iter()
        .collect()
}

/// Whether an egress host ("namespace/host") lets a host of a namespace through.
fn lets_through(egress: &str, own: &str, namespace: &str, name: &str) -> bool {
    let Some((of, pattern)) = egress.split_once('/') else { return false };
    let fits = of == "*" || of == namespace || (of == "." && own == namespace);
    fits && host::covers(&host::full(pattern, namespace), name)
}

/// What VirtualServices of the Sidecar's namespace route, and the Sidecar does not let through.
fn hidden(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let own = entry.namespace();
    let listeners = entry.spec().get("egress").items();
    let fields: Vec<Field<'_>> = listeners.iter().flat_map(|listener| listener.get("hosts").items()).collect();
    if fields.is_empty() {
        return Vec::new();
    }
    let passes =
        |namespace: &str, name: &str| fields.iter().any(|field| lets_through(field.text(), own, namespace, name));
    let egress = entry.spec().get("egress");
    let mut hits = Vec::new();
    for service in view.all_in(Kind::VirtualService, own) {
        let gateways = service.spec().get("gateways").items();
        if !gateways.is_empty() && !gateways.iter().any(|gateway| gateway.text() == "mesh") {
            continue;
        }
        let hosts = service.spec().get("hosts");
        let names: Vec<String> = hosts.items().iter().map(|name| host::full(name.text(), own)).collect();
        if !names.is_empty() && !names.iter().any(|name| passes(own, name)) {
            let message = format!(
                "the routes of {} for {} are not let through, so the Sidecar's workloads do not use them",
                quote(&service.full_name()),
                list(&names, " and ")
            );
            let hit =
                Hit::new(rule::SIDECAR_HIDES, egress.path(), message).with(service.related(hosts.path(), "is hidden"));
            hits.push(hit.suggest(format!("add \"./{}\"", names[0])).hosts("ignored", &names[0]));
            continue;
        }
        for to in crate::world::destinations(&service.spec()) {
            let name = host::full(to.get("host").text(), own);
            let providers = view.providers(&name, &[own]);
            let Some(provider) = providers.first() else { continue };
            if passes(provider.namespace(), &name) {
                continue;
            }
            let message = format!(
                "{} routes to {} of the namespace {}, which the Sidecar does not let through; proxies reach it only if they take it from the route",
                quote(&service.full_name()),
                quote(&name),
                quote(provider.namespace())
            );
            let hit = Hit::new(rule::SIDECAR_HIDES, egress.path(), message).sure(Confidence::Possible);
            let hit = hit.with(service.related(to.get("host").path(), "routes there"));
            hits.push(hit.suggest(format!("add \"{}/{name}\"", provider.namespace())).hosts("unreachable", &name));
            break;
        }
    }
    hits.extend(unknown(entry, &fields, view));
    hits
}

/// Hosts without a wildcard that nothing defines.
fn unknown(entry: &Entry, fields: &[Field<'_>], view: &View<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for field in fields {
        let Some((of, pattern)) = field.text().split_once('/') else { continue };
        if pattern.contains('*') || pattern.is_empty() || of == "~" {
            continue;
        }
        let namespace = if of == "." { entry.namespace() } else { of };
        let name = host::full(pattern, namespace);
        let known = !view.providers(&name, &[entry.namespace()]).is_empty()
            || !view.of_host(Kind::VirtualService, &name).is_empty();
        if known {
            continue;
        }
        let Some(sure) = view.absence(&[Kind::Service, Kind::ServiceEntry], "hosts of Sidecars") else { continue };
        let message = format!("nothing defines the host {}", quote(&name));
        hits.push(Hit::new(rule::EGRESS_HOST_UNKNOWN, field.path(), message).sure(sure).hosts("ignored", &name));
    }
    hits
}
