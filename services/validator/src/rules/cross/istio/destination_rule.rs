//! DestinationRules: is their host there, who looks for them, and which of several counts.

use std::collections::BTreeSet;

use super::tls;
use crate::{
    report::{Hit, list, quote},
    rules::{catalogue as rule, cross::given, field::Field},
    world::{Entry, Kind, Labels, View, Workload, host, labels, matches},
};

pub(in super::super) fn check(entry: &Entry, view: &View<'_>) -> Vec<Hit> {
    let name = host::full(entry.spec().get("host").text(), entry.namespace());
    let providers = providers(entry, &name, view);
    let mut hits = Vec::new();
    if providers.is_empty() {
        hits.extend(unknown_host(entry, &name, view));
    } else {
        hits.extend(subsets(entry, &providers, view));
        hits.extend(not_seen(entry, &providers, view));
    }
    hits.extend(twice(entry, &name, view));
    hits.extend(wildcard_dropped(entry, &name, view));
    hits.extend(tls::check(entry, &providers, view));
    hits
}

/// The Services and ServiceEntries that the rule is for.
fn providers<'w>(entry: &Entry, name: &str, view: &View<'w>) -> Vec<&'w Entry> {
    let exports = entry.spec().get("exportTo").items();
    let exported: Vec<&str> = exports.iter().map(Field::text).collect();
    let all = [entry.namespace()];
    let from = host::exported(&exported, entry.namespace());
    let mut found = view.providers(name, from.as_deref().unwrap_or(&all));
    if found.is_empty() && name.starts_with('*') {
        let of_service = |service: &&Entry| host::covers(name, &host::full(&service.head.name, service.namespace()));
        found.extend(view.all(Kind::Service).into_iter().filter(of_service));
        let of_entry =
            |service: &&Entry| service.spec().get("hosts").items().iter().any(|own| host::covers(name, own.text()));
        found.extend(view.all(Kind::ServiceEntry).into_iter().filter(of_entry));
    }
    found
}

fn unknown_host(entry: &Entry, name: &str, view: &View<'_>) -> Option<Hit> {
    let field = entry.spec().get("host");
    let sure = view.absence(&[Kind::Service, Kind::ServiceEntry], "hosts of DestinationRules")?;
    let message = format!("nothing defines the host {}, so the rule has no effect", quote(name));
    let hit = Hit::new(rule::RULE_HOST_UNKNOWN, field.path(), message).sure(sure).hosts("ignored", name);
    let dotted = field.text().matches('.').count() == 1;
    Some(if dotted {
        hit.suggest("a name with a dot is taken as it is: write the whole name, …svc.cluster.local")
    } else {
        hit
    })
}

fn subsets(entry: &Entry, providers: &[&Entry], view: &View<'_>) -> Vec<Hit> {
    let subsets = entry.spec().get("subsets").items();
    if subsets.is_empty() {
        return Vec::new();
    }
    let Some(sure) = view.absence(&[Kind::Workload, Kind::WorkloadEntry], "workloads of subsets") else {
        return Vec::new();
    };
    let is_empty = |subset: &&Field<'_>| {
        let wanted = labels(&subset.get("labels"));
        !providers.iter().any(|provider| has_workload(provider, &wanted, view))
    };
    let hit = |subset: &Field<'_>| {
        let message = format!(
            "no workload of {} has the labels of the subset {}, so requests for it fail with 503",
            quote(entry.spec().get("host").text()),
            quote(subset.get("name").text())
        );
        let hit = Hit::new(rule::SUBSET_NO_POD, subset.get("labels").path(), message).sure(sure);
        hit.hosts("unreachable", host::full(entry.spec().get("host").text(), entry.namespace()))
    };
    subsets.iter().filter(is_empty).map(hit).collect()
}

/// Whether a Service or ServiceEntry has a workload with these labels.
fn has_workload(provider: &Entry, wanted: &Labels<'_>, view: &View<'_>) -> bool {
    let spec = provider.spec();
    let namespace = provider.namespace();
    let is_service = provider.kind == Kind::Service;
    let selector =
        if is_service { labels(&spec.get("selector")) } else { labels(&spec.get("workloadSelector").get("labels")) };
    if selector.is_empty() && is_service {
        return true;
    }
    let fits = |of: &Labels<'_>| matches(&selector, of) && matches(wanted, of);
    if spec.get("endpoints").items().iter().any(|endpoint| fits(&labels(&endpoint.get("labels")))) {
        return true;
    }
    let entries = view.all_in(Kind::WorkloadEntry, namespace);
    let mut both = selector.clone();
    both.extend(wanted.iter().map(|(name, value)| (*name, *value)));
    entries.iter().any(|entry| fits(&labels(&entry.spec().get("labels"))))
        || !view.selected(namespace, &both).is_empty()
        || (wanted.keys().any(|name| name.starts_with("topology.") || name.starts_with("kubernetes.io/"))
            && view.selected(namespace, &selector).iter().any(|workload| fits(&placed(workload, view))))
}

/// A workload's labels and those that Istio adds for the node that it runs on.
fn placed<'w>(workload: &Workload<'w>, view: &View<'w>) -> Labels<'w> {
    const OF_NODES: [&str; 3] =
        ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
    let mut own = workload.labels.clone();
    if let Some(node) = given_name(workload.node()) {
        own.entry("kubernetes.io/hostname").or_insert(node);
        let found = view.named(Kind::Node, "", node);
        let of_node = found.map(|node| labels(&node.root().get("metadata").get("labels"))).unwrap_or_default();
        own.extend(OF_NODES.iter().filter_map(|name| of_node.get(name).map(|value| (*name, *value))));
    }
    own
}

fn given_name(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.is_empty())
}

/// Clients look in their own namespace, the service's and the root namespace.
fn not_seen(entry: &Entry, providers: &[&Entry], view: &View<'_>) -> Option<Hit> {
    let namespace = entry.namespace();
    if namespace == view.root_namespace() || providers.iter().any(|provider| provider.namespace() == namespace) {
        return None;
    }
    let sure = view.absence(&[Kind::Workload], "whether clients look for a DestinationRule")?;
    if !view.workloads(namespace).is_empty() {
        return None;
    }
    let own = providers.first()?;
    let message = format!(
        "clients look for rules in their own namespace, in {} and in {}, and {} has no workload: nobody uses the rule",
        quote(own.namespace()),
        quote(view.root_namespace()),
        quote(namespace)
    );
    let field = entry.root().get("metadata").get("namespace");
    let hit = Hit::new(rule::DR_NOT_SEEN, field.path(), message)
        .sure(sure)
        .with(own.related(own.name().path(), "is the service"));
    let host = host::full(entry.spec().get("host").text(), namespace);
    Some(hit.suggest(format!("put it into the namespace {}", own.namespace())).hosts("ignored", host))
}

fn twice(entry: &Entry, name: &str, view: &View<'_>) -> Vec<Hit> {
    let spec = entry.spec();
    if spec.get("workloadSelector").is_set() {
        return Vec::new();
    }
    let mut hits = Vec::new();
    let others = view.of_host(Kind::DestinationRule, name);
    let rivals = others.into_iter().filter(|other| {
        other.namespace() == entry.namespace()
            && other.head.name != entry.head.name
            && !other.spec().get("workloadSelector").is_set()
    });
    for other in rivals {
        let theirs = other.spec();
        let wins = entry.seniority() < other.seniority();
        let role = if wins { "is dropped in part" } else { "wins" };
        let own_subsets = names(&spec);
        if let Some((name, field)) =
            names(&theirs).iter().find_map(|(name, _)| own_subsets.iter().find(|(own, _)| own == name))
        {
            let message = format!(
                "the subset {} is defined by {} too; only one definition counts",
                quote(name),
                quote(&other.full_name())
            );
            let hit = Hit::new(rule::SUBSET_TWICE, field.path(), message)
                .with(other.related(theirs.get("subsets").path(), role));
            hits.push(hit.suggest("keep one DestinationRule for the host").hosts("ignored", host_of(entry)));
        }
        if spec.get("trafficPolicy").is_set() && theirs.get("trafficPolicy").is_set() {
            let winner = if wins { entry } else { other };
            let message = format!(
                "{} has a trafficPolicy for {} too; that of {} counts, because it is older or first by name",
                quote(&other.full_name()),
                quote(name),
                quote(&winner.full_name())
            );
            let hit = Hit::new(rule::DR_TWICE, spec.get("trafficPolicy").path(), message);
            let hit = hit.with(other.related(theirs.get("trafficPolicy").path(), role)).hosts("ignored", name);
            hits.push(hit.suggest("keep one DestinationRule for the host"));
        }
    }
    hits
}

fn host_of(entry: &Entry) -> String {
    host::full(entry.spec().get("host").text(), entry.namespace())
}

fn names<'f>(spec: &Field<'f>) -> Vec<(&'f str, Field<'f>)> {
    spec.get("subsets").items().into_iter().map(|subset| (subset.get("name").text(), subset)).collect()
}

/// A rule for one host takes the place of the wildcard rule beside it; nothing is inherited.
fn wildcard_dropped(entry: &Entry, name: &str, view: &View<'_>) -> Option<Hit> {
    given(&entry.spec().get("host"))?;
    let covers = |other: &&Entry| {
        let theirs = other.spec().get("host").text();
        other.namespace() == entry.namespace() && theirs != name && host::covers(theirs, name)
    };
    let wide = view.wildcards(Kind::DestinationRule).into_iter().filter(covers);
    let own: BTreeSet<&str> = entry.spec().get("trafficPolicy").entries().into_iter().map(|(name, _)| name).collect();
    for other in wide {
        let policy = other.spec().get("trafficPolicy");
        let lost: Vec<&str> =
            policy.entries().into_iter().map(|(name, _)| name).filter(|name| !own.contains(name)).collect();
        if lost.is_empty() {
            continue;
        }
        let message = format!(
            "this rule takes the place of {} for {}, so its {} no longer holds there",
            quote(&other.full_name()),
            quote(name),
            list(&lost, " and ")
        );
        let hit = Hit::new(rule::DR_WILDCARD_DROPPED, entry.spec().get("host").path(), message);
        let hit = hit.with(other.related(policy.path(), "is not used for this host")).hosts("ignored", name);
        return Some(hit.suggest(format!("repeat {} here", list(&lost, " and "))));
    }
    None
}
