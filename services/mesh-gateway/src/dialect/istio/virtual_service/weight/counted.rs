//! Where a release by weight is counted.
//!
//! Both versions share their routes, so only where they send can tell them apart. Envoy counts for each cluster, which is
//! a host, a subset and a port; Istio's own proxy counts by host, and by the label `version` of the pods that it reached.
//! That tells the versions' own requests as long as each destination is of one version and nothing else is sent there.
//! What is known to be otherwise leaves the release uncounted; what callers may send to a host by themselves is told.

use std::collections::BTreeSet;

use meshward_model::{Mechanism, MetricsTarget};
use serde_json::Value;

use super::{PROTOCOLS, fractions};
use crate::{
    dialect::istio::{
        destination_rule::shown_to,
        neighbours_of,
        virtual_service::{
            CANARY_SERIES, Pair, STABLE_SERIES, bindings, hosts, metrics_target, overlap, qualified, routes, standing,
            target_of,
        },
    },
    object::{full_name, is_of, spec},
};

/// Most clusters of a version, and most bytes in their names: metrics-collector asks for all of them, several times, in one
/// query of bounded length.
const MOST_CLUSTERS: usize = 16;
const MOST_BYTES: usize = 800;

/// What Envoy has a cluster for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Destination {
    host: String,
    /// Empty: none.
    subset: String,
    /// None: that of the caller's listener, or the only one of the host.
    port: Option<u64>,
}

impl Destination {
    fn of(destination: &Value, namespace: &str) -> Option<Self> {
        Some(Self {
            host: qualified(destination["host"].as_str()?, namespace),
            subset: destination["subset"].as_str().unwrap_or_default().to_owned(),
            port: destination["port"]["number"].as_u64(),
        })
    }

    /// Whether both may be one cluster.
    fn meets(&self, other: &Self) -> bool {
        let is_one_port = self.port.zip(other.port).is_none_or(|(a, b)| a == b);
        self.host == other.host && self.subset == other.subset && is_one_port
    }

    /// As a metrics target names it.
    fn cluster(&self) -> String {
        let Self { host, subset, port } = self;
        port.map_or_else(|| format!("{subset}|{host}"), |port| format!("{port}|{subset}|{host}"))
    }

    fn words(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let subset = if self.subset.is_empty() { String::new() } else { format!(" (subset {})", self.subset) };
        format!("{}{port}{subset}", self.host)
    }
}

/// What tells the versions apart.
enum Way<'a> {
    /// No host is both versions'.
    Hosts,
    /// Each version has one subset, whatever the host.
    Subsets { canary: &'a str, control: &'a str },
    /// They have a host in common, and different clusters of it.
    Clusters,
}

/// Where each version sends the requests that it routes otherwise than the other.
struct Arms {
    canary: BTreeSet<Destination>,
    control: BTreeSet<Destination>,
}

/// Where it is counted, and what a plan must admit of that.
pub(super) fn counted(pair: &Pair<'_>) -> (MetricsTarget, Vec<String>) {
    told_apart(pair).unwrap_or_else(|reason| {
        let sentence = format!("It cannot be judged: both versions share their routes, and {reason}.");
        (metrics_target(pair.question, Mechanism::Weight, "", ""), vec![sentence])
    })
}

/// Why nothing tells the versions apart otherwise.
fn told_apart(pair: &Pair<'_>) -> Result<(MetricsTarget, Vec<String>), String> {
    let arms = Arms::of(pair)?;
    let way = arms.way();
    way.alone(&arms, pair)?;
    let mut sentences = vec![way.sentence().to_owned()];
    sentences.extend(past_the_routes(&way, &arms, pair));
    if ["tcp", "tls"].iter().any(|protocol| pair.stable[*protocol] != pair.canary[*protocol]) {
        sentences.push("Connections of its tcp and tls routes are not counted: only requests are.".to_owned());
    }
    Ok((way.target(&arms, pair), sentences))
}

impl Arms {
    /// Those of the routes of requests that differ. Why they are not the versions' own otherwise.
    fn of(pair: &Pair<'_>) -> Result<Self, String> {
        let namespace = &pair.question.target.namespace;
        let sent = |route: &Value| {
            let used = fractions(&route["route"]).into_iter().filter(|(_, fraction)| *fraction > 0.0);
            used.filter_map(|(entry, _)| Destination::of(&entry["destination"], namespace)).collect::<Vec<_>>()
        };
        let both = routes(pair.stable, "http").iter().zip(routes(pair.canary, "http"));
        let differing = || both.clone().filter(|(old, new)| differs(old, new));
        let arms = Self {
            canary: differing().flat_map(|(_, new)| sent(new)).collect(),
            control: differing().flat_map(|(old, _)| sent(old)).collect(),
        };
        if arms.canary.is_empty() || arms.control.is_empty() {
            return Err("only requests are counted: none are sent elsewhere by the new version".to_owned());
        }
        if let Some(common) = arms.canary.iter().find(|one| arms.control.iter().any(|other| one.meets(other))) {
            return Err(format!("both send to {}", common.words()));
        }
        if [&arms.canary, &arms.control].into_iter().any(are_too_many) {
            return Err("they send to more destinations than can be asked for at once".to_owned());
        }
        Ok(arms)
    }

    fn all(&self) -> impl Iterator<Item = &Destination> {
        self.canary.iter().chain(&self.control)
    }

    fn way(&self) -> Way<'_> {
        let has = |host: &str| self.control.iter().any(|other| other.host == host);
        if !self.canary.iter().any(|one| has(&one.host)) {
            return Way::Hosts;
        }
        match (only_subset(&self.canary), only_subset(&self.control)) {
            (Some(canary), Some(control)) if canary != control => Way::Subsets { canary, control },
            _ => Way::Clusters,
        }
    }
}

fn are_too_many(arm: &BTreeSet<Destination>) -> bool {
    arm.len() > MOST_CLUSTERS || arm.iter().map(|one| one.cluster().len()).sum::<usize>() > MOST_BYTES
}

fn differs(old: &Value, new: &Value) -> bool {
    old["route"] != new["route"]
}

fn only_subset(arm: &BTreeSet<Destination>) -> Option<&str> {
    let first = arm.first()?.subset.as_str();
    (!first.is_empty() && arm.iter().all(|one| one.subset == first)).then_some(first)
}

impl Way<'_> {
    /// Whether what is sent to another destination is counted with an arm's.
    fn takes_in(&self, arms: &Arms, other: &Destination) -> bool {
        let is_host = || arms.all().any(|one| one.host == other.host);
        match self {
            Self::Hosts => is_host(),
            Self::Subsets { canary, control } => is_host() && ["", *canary, *control].contains(&&*other.subset),
            Self::Clusters => arms.all().any(|one| one.meets(other)),
        }
    }

    /// Whether nothing but the differing routes sends to these destinations; else what does.
    fn alone(&self, arms: &Arms, pair: &Pair<'_>) -> Result<(), String> {
        let namespace = &pair.question.target.namespace;
        let first = |values: Vec<&Value>, namespace: &str| {
            let mut others = values.into_iter().filter_map(|value| Destination::of(value, namespace));
            others.find(|other| self.takes_in(arms, other))
        };
        if let Some(common) = first(sent_besides(pair), namespace) {
            return Err(format!("other routes or mirrors of it send to {}, too", common.words()));
        }
        let target = pair.question.target;
        let others = neighbours_of(pair.question, &target.kind).filter(|other| !is_of(other, target));
        let common = others.filter_map(|other| {
            let namespace = target_of(pair.question, other).namespace;
            first(sent(spec(other)), &namespace).map(|common| (full_name(other), common))
        });
        common
            .min()
            .map_or(Ok(()), |(name, common)| Err(format!("VirtualService {name} sends to {}, too", common.words())))
    }

    fn target(&self, arms: &Arms, pair: &Pair<'_>) -> MetricsTarget {
        let clusters = |arm: &BTreeSet<Destination>| arm.iter().map(Destination::cluster).collect::<Vec<_>>();
        let of = |canary: &str, control: &str| MetricsTarget {
            hosts: arms.all().map(|one| one.host.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
            ..metrics_target(pair.question, Mechanism::Weight, canary, control)
        };
        match self {
            Self::Subsets { canary, control } => of(canary, control),
            _ => MetricsTarget {
                canary_clusters: clusters(&arms.canary),
                control_clusters: clusters(&arms.control),
                ..of(CANARY_SERIES, STABLE_SERIES)
            },
        }
    }

    fn sentence(&self) -> &'static str {
        match self {
            Self::Hosts => {
                "Each version is counted by its hosts: by istio_requests_total (destination_service), or by Envoy's \
                 cluster statistics, if the proxies keep them (sidecar.istio.io/statsInclusionPrefixes)."
            }
            Self::Subsets { .. } => {
                "Each version is counted by its subset: by istio_requests_total, if the pods' label `version` is the \
                 subset's name, or by Envoy's cluster statistics, if the proxies keep them \
                 (sidecar.istio.io/statsInclusionPrefixes)."
            }
            Self::Clusters => {
                "Each version is counted by Envoy's cluster statistics alone, if the proxies keep them \
                 (sidecar.istio.io/statsInclusionPrefixes): istio_requests_total does not tell what they have of one host \
                 apart."
            }
        }
    }
}

/// What a VirtualService sends anywhere, mirrors included.
fn sent(spec: &Value) -> Vec<&Value> {
    PROTOCOLS
        .iter()
        .flat_map(|protocol| routes(spec, protocol))
        .flat_map(|route| routed(route).chain(mirrored(route)))
        .collect()
}

fn routed(route: &Value) -> impl Iterator<Item = &Value> {
    route["route"].as_array().into_iter().flatten().map(|entry| &entry["destination"])
}

fn mirrored(route: &Value) -> impl Iterator<Item = &Value> {
    let mirrors = route["mirrors"].as_array().into_iter().flatten().map(|entry| &entry["destination"]);
    mirrors.chain([&route["mirror"]])
}

/// What the VirtualService sends besides the requests that its versions share: by routes that are the same in both, as
/// connections, as copies.
fn sent_besides<'a>(pair: &Pair<'a>) -> Vec<&'a Value> {
    let both = routes(pair.stable, "http").iter().zip(routes(pair.canary, "http"));
    let same = both.filter(|(old, new)| !differs(old, new)).flat_map(|(old, _)| routed(old));
    let copies = routes(pair.canary, "http").iter().flat_map(mirrored);
    let connections = ["tcp", "tls"].into_iter().flat_map(|protocol| {
        [pair.stable, pair.canary].into_iter().flat_map(move |version| routes(version, protocol)).flat_map(routed)
    });
    same.chain(copies).chain(connections).collect()
}

/// A sentence if callers can reach what is counted without these routes: a host that no VirtualService governs for all
/// sidecars. Only routes send to a subset.
fn past_the_routes(way: &Way<'_>, arms: &Arms, pair: &Pair<'_>) -> Option<String> {
    let question = pair.question;
    let own = std::iter::once((question.target.clone(), standing(question)));
    let others = neighbours_of(question, &question.target.kind).filter(|other| !is_of(other, question.target));
    let all: Vec<_> = own.chain(others.map(|other| (target_of(question, other), other))).collect();
    let is_governed = |host: &str| {
        all.iter().any(|(target, object)| {
            let routes_all = bindings::is_bound_to_mesh(spec(object))
                && shown_to(spec(object), &target.namespace).is_none()
                && !routes(spec(object), "http").is_empty();
            routes_all && hosts(target, object).iter().any(|known| overlap(known, host))
        })
    };
    let is_by_host = !matches!(way, Way::Clusters);
    let reachable = arms.all().filter(|one| (is_by_host || one.subset.is_empty()) && !is_governed(&one.host));
    let names: BTreeSet<&str> = reachable.map(|one| one.host.as_str()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    (!names.is_empty())
        .then(|| format!("What callers send to {names} by themselves, past these routes, is counted with it."))
}
