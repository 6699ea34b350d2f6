//! What a change of policies would mean for traffic that was seen. Pure.
//!
//! Each edge is decided twice ([`access`]): by the policies as they are and as they shall be. What differs is the impact;
//! what cannot be told on either side, and is not the same on both, is undecided and never guessed. [`routes`] does the same
//! for the routes that they take.

pub mod labels;
pub mod routes;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    access::{self, Call, Decision, Policy, Workload},
    routing::Request,
};
use labels::Open;

/// Policies of which it is not known whether they are for a workload, and of which each case is tried. Beyond, an edge is
/// undecided.
const MOST_UNSURE: usize = 4;

/// What is said of so many edges, those with the most traffic first.
pub const MOST_AFFECTED: usize = 1000;

/// Requests that were seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Who is called.
    pub workload: Workload,
    /// Which of its labels are not known.
    pub open: Open,
    /// Its name for people.
    pub service: String,
    /// What is known of the requests.
    pub call: Call,
    /// What is known of them where they begin: which route they take is decided there.
    pub request: Request,
    /// The host of `request` is what they asked for; else it is only where they were seen.
    pub asked: bool,
    /// How many there are, per second.
    pub rate: f64,
}

/// What happens to an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Let in now, denied then.
    Denied,
    /// Denied now, let in then.
    Allowed,
    /// It cannot be told.
    Undecided,
}

/// An edge that is affected, by its place in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Affected {
    /// Which.
    pub edge: usize,
    /// How.
    pub effect: Effect,
    /// Why, in a sentence.
    pub reason: String,
}

/// Some edges and their traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// How many.
    pub edges: usize,
    /// Requests per second.
    pub rate: f64,
}

impl Sum {
    fn add(&mut self, edge: &Edge) {
        self.add_share(edge, 1.0);
    }

    fn add_share(&mut self, edge: &Edge, share: f64) {
        self.edges += 1;
        self.rate += edge.rate * share;
    }

    /// "1.8 % of requests".
    fn of(&self, all: Self) -> String {
        let share = if all.rate > 0.0 { 100.0 * self.rate / all.rate } else { 0.0 };
        format!("{share:.1} % of requests")
    }
}

/// The impact of a change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Impact {
    /// The busiest first; at most [`MOST_AFFECTED`].
    pub affected: Vec<Affected>,
    /// All edges.
    pub all: Sum,
    /// Those that would be denied.
    pub denied: Sum,
    /// Those that would be let in.
    pub allowed: Sum,
    /// Those that cannot be decided.
    pub undecided: Sum,
    /// Services of affected edges.
    pub services: BTreeSet<String>,
    /// Namespaces of affected edges.
    pub namespaces: BTreeSet<String>,
}

impl Impact {
    /// "12 of 340 edges would be denied, 1.8 % of requests."
    #[must_use]
    pub fn summary(&self) -> String {
        let parts = [
            (self.denied, "would be denied"),
            (self.allowed, "would be let in"),
            (self.undecided, "cannot be decided"),
        ];
        let said = parts
            .iter()
            .filter(|(sum, _)| sum.edges > 0)
            .map(|(sum, what)| format!("{} of {} edges {what}, {}", sum.edges, self.all.edges, sum.of(self.all)));
        let said: Vec<_> = said.collect();
        match (said.is_empty(), self.all.edges) {
            (_, 0) => "No traffic was given.".to_owned(),
            (true, edges) => format!("None of {edges} edges is affected."),
            (false, _) => format!("{}.", said.join("; ")),
        }
    }
}

/// Whether an object is an AuthorizationPolicy of Istio.
#[must_use]
pub fn is_policy(object: &Value) -> bool {
    is_of(object, "security.istio.io", "AuthorizationPolicy")
}

/// Whether an object is of a kind, in any version of its group.
#[must_use]
pub fn is_of(object: &Value, group: &str, kind: &str) -> bool {
    let own = object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    object["kind"] == kind && own == group
}

/// The impact of one set of policies in place of another on the edges.
#[must_use]
pub fn analyze(before: &[Policy], after: &[Policy], root: &str, edges: &[Edge]) -> Impact {
    let mut impact = Impact::default();
    for (index, edge) in edges.iter().enumerate() {
        impact.all.add(edge);
        let Some((effect, reason)) = of_edge(before, after, root, edge) else { continue };
        match effect {
            Effect::Denied => impact.denied.add(edge),
            Effect::Allowed => impact.allowed.add(edge),
            Effect::Undecided => impact.undecided.add(edge),
        }
        impact.services.insert(format!("{}/{}", edge.workload.namespace, edge.service));
        impact.namespaces.insert(edge.workload.namespace.clone());
        impact.affected.push(Affected { edge: index, effect, reason });
    }
    impact.affected.sort_by(|a, b| edges[b.edge].rate.total_cmp(&edges[a.edge].rate));
    impact.affected.truncate(MOST_AFFECTED);
    impact
}

/// What happens to an edge, and why. Where it is not known which policies are for its workload, every case is tried.
fn of_edge(before: &[Policy], after: &[Policy], root: &str, edge: &Edge) -> Option<(Effect, String)> {
    let is_open = |key: &str| edge.open.has(key);
    let selects = |policy: &Policy| policy.may_select(&edge.workload, root, &is_open);
    let all = before.iter().chain(after);
    let unsure: BTreeSet<&str> =
        all.filter(|policy| selects(policy).is_none()).map(|policy| policy.name.as_str()).collect();
    if unsure.len() > MOST_UNSURE {
        return Some((Effect::Undecided, "It depends on labels of its pods that are not known.".to_owned()));
    }
    let case = |case: usize| {
        let taken = |name: &str| unsure.iter().position(|other| *other == name).is_some_and(|bit| case >> bit & 1 == 1);
        let is_for = |policy: &&Policy| selects(policy).unwrap_or_else(|| taken(&policy.name));
        let decide =
            |policies: &[Policy]| access::decide_by(&policies.iter().filter(is_for).collect::<Vec<_>>(), &edge.call);
        effect(&decide(before), &decide(after))
    };
    let first = case(0);
    let kind = |told: &Option<(Effect, String)>| told.as_ref().map(|(effect, _)| *effect);
    match (1..1 << unsure.len()).find(|other| kind(&case(*other)) != kind(&first)) {
        None => first,
        Some(_) => {
            let names = unsure.into_iter().collect::<Vec<_>>().join(" and ");
            let reason = format!("Labels of its pods are not known, and so it is not whether {names} is for it.");
            Some((Effect::Undecided, reason))
        }
    }
}

fn effect(now: &Decision, then: &Decision) -> Option<(Effect, String)> {
    let effect = match (now.lets_in(), then.lets_in()) {
        (Some(now), Some(then)) if now == then => return None,
        (Some(true), Some(_)) => Effect::Denied,
        (Some(false), Some(_)) => Effect::Allowed,
        // The same question stays open on both sides.
        _ if now == then => return None,
        _ => Effect::Undecided,
    };
    Some((effect, format!("Now it is {}; then it is {}.", words(now), words(then))))
}

fn words(decision: &Decision) -> String {
    match decision {
        Decision::Allowed(policies) if policies.is_empty() => "let in, for no policy allows anything".to_owned(),
        Decision::Allowed(policies) => format!("let in by {}", policies.join(" and ")),
        Decision::Denied(None) => "denied, for no ALLOW policy meets it".to_owned(),
        Decision::Denied(Some(policy)) => format!("denied by {policy}"),
        Decision::Asked(policy) => format!("for the provider of {policy} to decide"),
        Decision::Depends(policy) => format!("not known, for {policy} asks for what is not known of it"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::Fact;

    fn policy(name: &str, spec: Value) -> Policy {
        let object = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
        Policy::new(&object, &access::TrustDomains::default()).unwrap()
    }

    fn edge(from: &str, method: &str, rate: f64) -> Edge {
        Edge {
            workload: Workload { namespace: "shop".into(), labels: [("app".into(), "cart".into())].into() },
            open: Open::None,
            service: "cart".into(),
            call: Call {
                principal: format!("cluster.local/ns/{from}/sa/default").into(),
                method: method.to_owned().into(),
                path: Fact::Unknown,
                ..Call::default()
            },
            request: Request::default(),
            asked: false,
            rate,
        }
    }

    #[test]
    fn what_is_denied_let_in_and_open_is_told_apart() {
        let from = |namespaces: &[&str]| json!({"rules": [{"from": [{"source": {"namespaces": namespaces}}]}]});
        let get = json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]});
        let path = json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/a"]}}]}]});
        let edges = [edge("web", "GET", 90.0), edge("web", "POST", 8.0), edge("jobs", "GET", 2.0)];
        for (before, after, summary, first) in [
            (vec![], vec![], "None of 3 edges is affected.", None),
            (
                vec![],
                vec![policy("a", from(&["web"]))],
                "1 of 3 edges would be denied, 2.0 % of requests.",
                Some((2, Effect::Denied)),
            ),
            (
                vec![policy("a", from(&["web"]))],
                vec![],
                "1 of 3 edges would be let in, 2.0 % of requests.",
                Some((2, Effect::Allowed)),
            ),
            (
                vec![policy("a", from(&["web"]))],
                vec![policy("a", get.clone())],
                "1 of 3 edges would be denied, 8.0 % of requests; 1 of 3 edges would be let in, 2.0 % of requests.",
                Some((1, Effect::Denied)),
            ),
            (
                vec![],
                vec![policy("d", path.clone())],
                "3 of 3 edges cannot be decided, 100.0 % of requests.",
                Some((0, Effect::Undecided)),
            ),
            (vec![policy("d", path.clone())], vec![policy("d", path)], "None of 3 edges is affected.", None),
        ] {
            let impact = analyze(&before, &after, "istio-system", &edges);
            assert_eq!(impact.summary(), summary);
            assert_eq!(impact.affected.first().map(|affected| (affected.edge, affected.effect)), first, "{summary}");
        }
        let impact = analyze(&[], &[policy("a", get)], "istio-system", &edges);
        assert_eq!(
            impact.affected[0].reason,
            "Now it is let in, for no policy allows anything; then it is denied, for no ALLOW policy meets it."
        );
        assert_eq!(impact.services.iter().collect::<Vec<_>>(), ["shop/cart"]);
        assert_eq!(Impact::default().summary(), "No traffic was given.");
    }

    #[test]
    fn a_policy_for_labels_that_are_not_known_is_no_guess() {
        let for_team = |team: &str, from: &str| {
            let rules = json!([{"from": [{"source": {"namespaces": [from]}}]}]);
            policy(team, json!({"selector": {"matchLabels": {"app": "cart", "team": team}}, "rules": rules}))
        };
        let edges = [Edge { open: Open::All, ..edge("web", "GET", 1.0) }];
        let told = |before: &[Policy], after: &[Policy]| {
            let impact = analyze(before, after, "istio-system", &edges);
            impact.affected.first().map(|one| (one.effect, one.reason.clone()))
        };
        let (undecided, reason) = told(&[], &[for_team("red", "jobs")]).unwrap();
        assert_eq!(undecided, Effect::Undecided);
        assert_eq!(reason, "Labels of its pods are not known, and so it is not whether shop/red is for it.");
        assert_eq!(told(&[], &[for_team("red", "web")]), None, "it is let in either way");
        assert_eq!(told(&[for_team("red", "jobs")], &[for_team("red", "jobs")]), None, "nothing changes");
        let other = policy("other", json!({"selector": {"matchLabels": {"app": "pay"}}}));
        assert_eq!(told(&[], &[other]), None, "what is known of its labels excludes it");
        let many: Vec<_> = ["a", "b", "c", "d", "e"].map(|team| for_team(team, "web")).into();
        assert_eq!(told(&[], &many).unwrap().0, Effect::Undecided, "too many cases are not tried");
    }
}
