//! Which pods are the canary: pure.
//!
//! Who is the canary already stays so as the share grows, so that no client of a pod goes back and forth. New canaries
//! are taken where their part of the node's pods is smallest, so that a node, and with it a zone, a kernel or a noisy
//! neighbour, is never all of one version's evidence. Nothing is remembered but the labels themselves: whoever computes
//! it again, after a crash or in another replica, finds the same pods.
//!
//! The number is the share of the pods, rounded, but below 100 % at least one and never all of them: a step that nobody
//! would see proves nothing, and without control there is no comparison. One pod alone is therefore never the canary.

use std::collections::{BTreeMap, BTreeSet};

use meshward_model::{Digest, Weight};
use serde_json::Value;

/// What of a pod decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its node; empty if it has none yet.
    pub node: String,
    /// It takes requests; one that does not proves nothing as a canary.
    pub ready: bool,
    /// It is the canary now.
    pub is_canary: bool,
}

/// How many of so many pods are the canary at a share.
#[must_use]
pub fn count(share: Weight, pods: usize) -> usize {
    let rounded = (pods * usize::from(share.basis_points()) + 5_000) / 10_000;
    match share {
        Weight::ZERO => 0,
        Weight::FULL => pods,
        _ => rounded.max(1).min(pods.saturating_sub(1)),
    }
}

/// The share that so many pods really make of a weight.
#[must_use]
pub fn nominal_share(share: Weight, pods: usize) -> Weight {
    let basis_points = (count(share, pods) * 10_000 + pods / 2).checked_div(pods).unwrap_or(0);
    i32::try_from(basis_points).ok().and_then(|share| Weight::from_basis_points(share.into()).ok()).unwrap_or(share)
}

/// The names of the pods that shall be the canary. `seed` makes the order of equals differ from rollout to rollout.
#[must_use]
pub fn canaries(members: &[Member], share: Weight, seed: &str) -> BTreeSet<String> {
    let wanted = count(share, members.len());
    let mut nodes: BTreeMap<&str, Node<'_>> = BTreeMap::new();
    for member in members {
        nodes.entry(&member.node).or_default().add(member);
    }
    for node in nodes.values_mut() {
        node.sort(seed);
    }
    let mut now: usize = nodes.values().map(|node| node.canaries.len()).sum();
    while now < wanted {
        let next = nodes.values_mut().filter(|node| !node.stable.is_empty()).min_by_key(|node| node.if_one_more());
        let Some(node) = next else { break };
        node.canaries.extend(node.stable.pop());
        now += 1;
    }
    while now > wanted {
        let next = nodes.values_mut().filter(|node| !node.canaries.is_empty()).max_by_key(|node| node.as_it_is());
        let Some(node) = next else { break };
        node.give_up_one();
        now -= 1;
    }
    nodes.into_values().flat_map(|node| node.canaries).map(|member| member.name.clone()).collect()
}

/// The pods of one node.
#[derive(Default)]
struct Node<'a> {
    canaries: Vec<&'a Member>,
    /// The next canary is the last one.
    stable: Vec<&'a Member>,
    /// A number that is the node's own, to decide between equals.
    lot: u64,
}

impl<'a> Node<'a> {
    fn add(&mut self, member: &'a Member) {
        if member.is_canary { self.canaries.push(member) } else { self.stable.push(member) }
    }

    fn sort(&mut self, seed: &str) {
        let key = |member: &&Member| (member.ready, lot(seed, &member.name));
        self.stable.sort_by_key(key);
        self.canaries.sort_by_key(key);
        let any = self.canaries.iter().chain(&self.stable).next();
        self.lot = any.map_or(0, |member| lot(seed, &member.node));
    }

    fn len(&self) -> usize {
        self.canaries.len() + self.stable.len()
    }

    /// The part of it that is the canary if one more is, in millionths. Nodes with a pod that is ready come first.
    fn if_one_more(&self) -> (bool, usize, u64) {
        let is_ready = self.stable.last().is_some_and(|member| member.ready);
        (!is_ready, (self.canaries.len() + 1) * 1_000_000 / self.len(), self.lot)
    }

    fn as_it_is(&self) -> (usize, u64) {
        (self.canaries.len() * 1_000_000 / self.len(), self.lot)
    }

    /// Who is not ready first, then the one that came last.
    fn give_up_one(&mut self) {
        self.stable.push(self.canaries.remove(0));
    }
}

/// A number that a text always has, and that tells nothing of it.
fn lot(seed: &str, text: &str) -> u64 {
    let digest = Digest::of(&Value::from(format!("{seed}/{text}"))).to_string();
    let hex = digest.rsplit(':').next().and_then(|hex| hex.get(..16)).unwrap_or_default();
    u64::from_str_radix(hex, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(basis_points: i64) -> Weight {
        Weight::from_basis_points(basis_points).unwrap()
    }

    /// So many ready pods on each node.
    fn pods(nodes: &[usize]) -> Vec<Member> {
        let of_node = |(node, count): (usize, &usize)| {
            (0..*count).map(move |pod| Member {
                name: format!("p{node}-{pod}"),
                node: format!("n{node}"),
                ready: true,
                is_canary: false,
            })
        };
        nodes.iter().enumerate().flat_map(of_node).collect()
    }

    fn with(mut members: Vec<Member>, canaries: &BTreeSet<String>) -> Vec<Member> {
        for member in &mut members {
            member.is_canary = canaries.contains(&member.name);
        }
        members
    }

    #[test]
    fn how_many() {
        for (share, pods, expected) in [
            (0, 10, 0),
            (1000, 10, 1),
            (3000, 10, 3),
            (5000, 3, 2),
            (2500, 10, 3),
            (100, 10, 1),
            (9900, 10, 9),
            (5000, 1, 0),
            (5000, 0, 0),
            (10_000, 1, 1),
            (10_000, 7, 7),
        ] {
            assert_eq!(count(weight(share), pods), expected, "{share} of {pods}");
        }
        assert_eq!(nominal_share(weight(1000), 3), weight(3333));
        assert_eq!(nominal_share(weight(1000), 1), Weight::ZERO);
    }

    #[test]
    fn who_is_the_canary_stays_so_as_the_share_grows() {
        for nodes in [&[10][..], &[3, 3, 4], &[1, 1, 1, 7], &[50, 30, 20]] {
            for seed in ["a", "b", "c"] {
                let mut members = pods(nodes);
                let mut before = BTreeSet::new();
                for share in [1000, 3000, 5000, 9000, 10_000].map(weight) {
                    let now = canaries(&members, share, seed);
                    assert_eq!(now.len(), count(share, members.len()), "{nodes:?} {share:?}");
                    assert!(before.is_subset(&now), "{nodes:?} {share:?}: {before:?} {now:?}");
                    members = with(members, &now);
                    assert_eq!(canaries(&members, share, seed), now, "once more is the same");
                    before = now;
                }
            }
        }
    }

    #[test]
    fn no_node_is_all_of_the_evidence() {
        for seed in ["a", "b", "c", "d"] {
            let members = pods(&[20, 20, 20]);
            let now = canaries(&members, weight(3000), seed);
            let on = |node: &str| now.iter().filter(|name| name.starts_with(node)).count();
            assert_eq!((on("p0-"), on("p1-"), on("p2-")), (6, 6, 6), "{seed}: {now:?}");
            let uneven = canaries(&pods(&[60, 30, 10]), weight(1000), seed);
            let on = |node: &str| uneven.iter().filter(|name| name.starts_with(node)).count();
            assert_eq!((on("p0-"), on("p1-"), on("p2-")), (6, 3, 1), "{seed}: {uneven:?}");
        }
    }

    #[test]
    fn a_canary_that_went_away_is_replaced_and_no_other_moves() {
        let members = pods(&[5, 5]);
        let before = canaries(&members, weight(4000), "a");
        let gone = before.first().unwrap().clone();
        let mut left = with(members, &before);
        left.retain(|member| member.name != gone);
        left.push(Member { name: "new".into(), node: "n1".into(), ready: true, is_canary: false });
        let after = canaries(&left, weight(4000), "a");
        assert_eq!(after.len(), 4);
        assert_eq!(before.intersection(&after).count(), 3, "{before:?} {after:?}");
    }

    #[test]
    fn too_many_canaries_are_taken_back_and_who_is_not_ready_first() {
        let mut members = pods(&[4, 4]);
        for name in ["p0-0", "p0-1", "p0-2", "p1-0"] {
            members.iter_mut().find(|member| member.name == name).unwrap().is_canary = true;
        }
        members.iter_mut().find(|member| member.name == "p0-1").unwrap().ready = false;
        let now = canaries(&members, weight(2500), "a");
        assert!(now.len() == 2 && now.contains("p1-0") && !now.contains("p0-1"), "{now:?}");
        assert_eq!(canaries(&members, Weight::ZERO, "a"), BTreeSet::new());
    }

    #[test]
    fn a_pod_that_is_not_ready_is_chosen_last() {
        let mut members = pods(&[3, 3]);
        members.iter_mut().filter(|member| member.name != "p1-2").for_each(|member| member.ready = false);
        assert_eq!(canaries(&members, weight(1000), "a"), BTreeSet::from(["p1-2".to_owned()]));
    }
}
