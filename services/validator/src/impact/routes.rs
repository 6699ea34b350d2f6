//! What a change of VirtualServices would mean for traffic that was seen: other routes, or none. Pure.
//!
//! Observed traffic is known where it ended, at a destination. The host that was asked for may be another, from which a
//! route led there. Without that name each host from which requests come to the destination now is tried, and where they do
//! not fare alike the edge is undecided.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edge, MOST_AFFECTED, Sum};
use crate::routing::{self, Change, Effect, MESH, Request, VirtualService, Ways};

/// A gateway that is not known: the mesh, or any that leads to where requests were seen.
pub const ANY_GATEWAY: &str = "*";

/// An edge that is affected, by its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Rerouted {
    /// Which.
    pub edge: usize,
    /// What happens to it.
    pub change: Change,
    /// Why, in a sentence.
    pub reason: String,
}

/// The impact of a change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteImpact {
    /// What is lost first, then the busiest; at most [`MOST_AFFECTED`].
    pub affected: Vec<Rerouted>,
    /// All edges.
    pub all: Sum,
    /// Those that change route, undecided ones left out. Rates count the share of an edge that is affected.
    pub changed: Sum,
    /// The same by what happens to them.
    pub effects: BTreeMap<Effect, Sum>,
    /// Services of affected edges.
    pub services: BTreeSet<String>,
    /// Namespaces of affected edges.
    pub namespaces: BTreeSet<String>,
}

impl RouteImpact {
    /// "12 of 340 edges change route, 1.8 % of requests: 3 get no route (404), 9 go elsewhere."
    #[must_use]
    pub fn summary(&self) -> String {
        let said = |effect: &Effect| match effect {
            Effect::NoRoute => Some("get no route (404)"),
            Effect::Aborted => Some("are aborted by a fault"),
            Effect::Answered => Some("are answered by the proxy"),
            Effect::Redirected => Some("are redirected"),
            Effect::Moved => Some("go elsewhere"),
            Effect::Restored => Some("reach a destination again"),
            Effect::Settings => Some("get other settings"),
            Effect::Undecided => None,
        };
        let each = self.effects.iter().filter_map(|(effect, sum)| Some(format!("{} {}", sum.edges, said(effect)?)));
        let each = each.collect::<Vec<_>>().join(", ");
        let all = self.all.edges;
        let mut parts = Vec::new();
        if self.changed.edges > 0 {
            parts.push(format!(
                "{} of {all} edges change route, {}: {each}",
                self.changed.edges,
                self.changed.of(self.all)
            ));
        }
        if let Some(open) = self.effects.get(&Effect::Undecided) {
            parts.push(format!("the route of {} of {all} edges cannot be decided, {}", open.edges, open.of(self.all)));
        }
        match (parts.is_empty(), all) {
            (_, 0) => "No traffic was given.".to_owned(),
            (true, _) => format!("None of {all} edges changes route."),
            (false, _) => format!("{}.", parts.join("; ")),
        }
    }
}

/// The impact of one set of VirtualServices in place of another on the edges.
#[must_use]
pub fn analyze(before: &[VirtualService], after: &[VirtualService], edges: &[Edge]) -> RouteImpact {
    let differs =
        |one: &&VirtualService, others: &[VirtualService]| !others.iter().any(|other| one.says_the_same_as(other));
    let lost = before.iter().filter(|one| differs(one, after));
    let new = after.iter().filter(|one| differs(one, before));
    let changed: Vec<_> = lost.chain(new).collect();
    // Only an object that has a host with a changed one can decide otherwise than before, or be in its way.
    let involved = |all: &[VirtualService]| -> Vec<VirtualService> {
        all.iter().filter(|one| changed.iter().any(|other| one.shares_a_host(other))).cloned().collect()
    };
    let change = RouteChange { before: involved(before), after: involved(after) };
    let mut impact = RouteImpact::default();
    for (index, edge) in edges.iter().enumerate() {
        impact.all.add(edge);
        let Some((change, reason)) = change.of(edge) else { continue };
        if change.effect != Effect::Undecided {
            impact.changed.add_share(edge, change.share);
        }
        impact.effects.entry(change.effect).or_default().add_share(edge, change.share);
        impact.services.insert(format!("{}/{}", edge.workload.namespace, edge.service));
        impact.namespaces.insert(edge.workload.namespace.clone());
        impact.affected.push(Rerouted { edge: index, change, reason });
    }
    let rate = |one: &Rerouted| edges[one.edge].rate * one.change.share;
    impact.affected.sort_by(|a, b| a.change.effect.cmp(&b.change.effect).then(rate(b).total_cmp(&rate(a))));
    impact.affected.truncate(MOST_AFFECTED);
    impact
}

/// The objects that matter, as they are and as they shall be.
struct RouteChange {
    before: Vec<VirtualService>,
    after: Vec<VirtualService>,
}

impl RouteChange {
    fn of(&self, edge: &Edge) -> Option<(Change, String)> {
        if edge.asked && edge.request.gateway != ANY_GATEWAY {
            return self.told(&edge.request);
        }
        let seen = &edge.request.host;
        let mut told: Option<Option<(Change, String)>> = None;
        for request in self.doors(edge) {
            if !edge.asked && !routing::decide(&self.before, &request).may_reach(seen) {
                continue;
            }
            let one = self.told(&request);
            let same = told.as_ref().is_none_or(|other| effect(other) == effect(&one));
            if !same {
                let reason = format!(
                    "It was seen at {seen}; which host it asked for, and where, is not known, and {} at {} leads there.",
                    request.host, request.gateway
                );
                return Some((Change { effect: Effect::Undecided, share: 1.0, settings: Vec::new() }, reason));
            }
            told.get_or_insert(one);
        }
        told.flatten()
    }

    /// The requests that an edge may be made of: each host that leads to where it was seen, at each gateway. A wildcard is
    /// no name that anyone asks for, but stands for all of them.
    fn doors(&self, edge: &Edge) -> Vec<Request> {
        let all = || self.before.iter().chain(&self.after);
        let seen = &edge.request.host;
        let mut hosts = BTreeSet::from([seen.clone()]);
        if !edge.asked {
            let bring = |one: &&VirtualService| one.brings_to(seen);
            hosts.extend(all().filter(bring).flat_map(VirtualService::hosts).cloned());
        }
        let mut gateways = BTreeSet::from([edge.request.gateway.clone()]);
        if gateways.remove(ANY_GATEWAY) {
            gateways.insert(MESH.to_owned());
            gateways.extend(all().flat_map(VirtualService::gateways).cloned());
        }
        let at = |gateway: &String| {
            let request = Request { gateway: gateway.clone(), ..edge.request.clone() };
            hosts.iter().map(move |host| Request { host: host.clone(), ..request.clone() }).collect::<Vec<_>>()
        };
        gateways.iter().flat_map(at).collect()
    }

    fn told(&self, request: &Request) -> Option<(Change, String)> {
        let (now, then) = (routing::decide(&self.before, request), routing::decide(&self.after, request));
        let change = routing::compare(&now, &then)?;
        Some((change.clone(), reason(&now, &then, &change)))
    }
}

fn effect(told: &Option<(Change, String)>) -> Option<&Change> {
    told.as_ref().map(|(change, _)| change)
}

fn reason(now: &Ways, then: &Ways, change: &Change) -> String {
    let settings = match change.settings.as_slice() {
        [] => String::new(),
        settings => format!(" Other values: {}.", settings.join(", ")),
    };
    format!("Now it is {}; then it is {}.{settings}", now.words(), then.words())
}

#[cfg(test)]
mod tests;
