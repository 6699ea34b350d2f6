//! What a look means. Pure.
//!
//! A proxy has the write when the control plane would generate it for that proxy now *and* the proxy acknowledged the
//! last push, if that push was made from this state. The hard part is a push that did not happen:
//!
//! - The control plane's state moved on without a push to this proxy. Either nothing in it changed for the proxy, or
//!   the push is being made at this moment. A push takes milliseconds between the two, so it counts as "nothing
//!   changed" once the proxy was seen unchanged for [`SETTLED`].
//! - What was written and what was there before look alike in the generated configuration (say, only a retry policy
//!   differs), or the write changed annotations only, which pushes nothing. Then the state may still be the one from
//!   before the write. It counts as live when nothing moved for [`QUIET`] after the write was taken in, ten times the
//!   time for which istiod collects changes. **Remaining race:** an istiod that needs longer than that for its next
//!   state (a debounce that was raised, or a mesh that changes so fast that it never gets to push) would be believed
//!   too early. With a canary by request ids this never happens: each weight has an expression of its own.
//! - A proxy does not use the object, although it serves one of its hosts, or nobody uses it. Perhaps for good (another
//!   object has the host), perhaps not yet. The same [`QUIET`] decides.
//! - A proxy could not be asked yet what it has. It will be, at the latest when it stood still for [`QUIET`].
//!
//! With a quorum the slowest are not waited for, but named; a proxy that refuses fails the write all the same. One that
//! would refuse, and has not answered when the quorum is reached, is found by the next look.

use std::time::Duration;

use meshward_model::{Refusal, Weight};

use super::{Content, Look, ProxyLook};

/// A push that was going to happen has begun after this time.
pub(super) const SETTLED: Duration = Duration::from_millis(250);
/// A write that changes a proxy's configuration has reached istiod's state after this time.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// What a look says of all proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) concerned: usize,
    pub(super) laggards: Vec<Laggard>,
    pub(super) refusals: Vec<Refusal>,
    /// The control plane is behind, so the rest says nothing.
    pub(super) not_taken_in: Vec<String>,
    /// How much longer everything must stand still to be final, if nothing but that is missing.
    pub(super) settles_in: Option<Duration>,
    pub(super) held_back: Vec<String>,
}

/// A proxy that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Laggard {
    pub(super) name: String,
    /// What is missing, to go on after its name.
    pub(super) lack: &'static str,
}

impl Judgement {
    /// Whether enough proxies have it. Nobody is not enough of somebody: without a proxy that has it, and with one that
    /// has not, it is not live whatever the quorum.
    pub(super) fn is_live(&self, quorum: Weight) -> bool {
        if !self.not_taken_in.is_empty() || !self.refusals.is_empty() {
            return false;
        }
        if self.laggards.is_empty() {
            return self.settles_in.is_none();
        }
        let (done, wanted) = (self.acknowledged(), usize::from(quorum.basis_points()));
        quorum != Weight::ZERO && done > 0 && done * 10_000 >= self.concerned * wanted
    }

    /// How many proxies have it.
    pub(super) fn acknowledged(&self) -> usize {
        self.concerned.saturating_sub(self.laggards.len() + self.refusals.len())
    }
}

enum Standing {
    Live,
    Refused(String),
    /// It will be one or the other if it stands still for this long in all.
    Settling(Duration),
    /// What is missing.
    Behind(&'static str),
    NotConcerned,
}

fn standing(proxy: &ProxyLook, still_for: Duration) -> Standing {
    let needed = match proxy.content {
        Content::Older => return Standing::Behind("is still to be given it"),
        Content::Shows if proxy.pushed => Duration::ZERO,
        Content::Shows => SETTLED,
        Content::Unread if still_for >= QUIET => {
            return Standing::Behind("is still to be brought up to the state with it");
        }
        Content::Unclear | Content::Unused | Content::Unread => QUIET,
    };
    match &proxy.error {
        _ if still_for < needed => Standing::Settling(needed),
        None if !proxy.acknowledged => Standing::Behind("has not acknowledged what it was sent last"),
        _ if proxy.content == Content::Unused => Standing::NotConcerned,
        Some(words) => Standing::Refused(words.clone()),
        None => Standing::Live,
    }
}

/// Judges a look; `still_for` says how long a proxy was seen as it is now, `empty_for` how long none was seen at all.
pub(super) fn judge(look: &Look, empty_for: Duration, still_for: impl Fn(&ProxyLook) -> Duration) -> Judgement {
    let mut judgement = Judgement {
        not_taken_in: look.not_taken_in.clone(),
        held_back: look.held_back.clone(),
        ..Judgement::default()
    };
    if !judgement.not_taken_in.is_empty() {
        return judgement;
    }
    if look.proxies.is_empty() && empty_for < QUIET {
        judgement.settles_in = Some(QUIET.saturating_sub(empty_for));
        return judgement;
    }
    let mut behind = false;
    for proxy in &look.proxies {
        let still_for = still_for(proxy);
        let laggard = |lack| Laggard { name: proxy.name.clone(), lack };
        let standing = standing(proxy, still_for);
        judgement.concerned += usize::from(!matches!(standing, Standing::NotConcerned));
        match standing {
            Standing::Live | Standing::NotConcerned => {}
            Standing::Refused(message) => judgement.refusals.push(Refusal { proxy: proxy.name.clone(), message }),
            Standing::Behind(lack) => {
                behind = true;
                judgement.laggards.push(laggard(lack));
            }
            Standing::Settling(needed) => {
                let rest = needed.saturating_sub(still_for);
                judgement.settles_in = Some(judgement.settles_in.map_or(rest, |known| known.max(rest)));
                judgement.laggards.push(laggard("must stand still for a moment"));
            }
        }
    }
    if behind {
        judgement.settles_in = None;
    }
    judgement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(content: Content) -> ProxyLook {
        ProxyLook { name: "a.shop".into(), content, pushed: true, nonce: "n".into(), acknowledged: true, error: None }
    }

    fn judged(proxy: ProxyLook, still_ms: u64) -> Judgement {
        let look = Look { proxies: vec![proxy], ..Look::default() };
        judge(&look, Duration::ZERO, |_| Duration::from_millis(still_ms))
    }

    #[test]
    fn only_what_is_shown_pushed_and_acknowledged_is_live_at_once() {
        use Content::{Older, Shows, Unclear, Unread};
        for (content, pushed, acknowledged, still_ms, live) in [
            (Shows, true, true, 0, true),
            (Shows, true, false, 5000, false),
            (Shows, false, true, 0, false),
            (Shows, false, true, 250, true),
            (Shows, false, false, 5000, false),
            (Older, true, true, 60_000, false),
            (Unclear, true, true, 500, false),
            (Unclear, true, true, 1000, true),
            (Unclear, true, false, 5000, false),
            (Unread, true, true, 0, false),
            (Unread, true, true, 60_000, false),
        ] {
            let look = ProxyLook { pushed, acknowledged, ..proxy(content) };
            let row = format!("{content:?} pushed {pushed} acknowledged {acknowledged} still {still_ms}");
            assert_eq!(judged(look, still_ms).is_live(Weight::ZERO), live, "{row}");
        }
    }

    #[test]
    fn a_refusal_counts_only_for_what_was_written() {
        let refusing = |content, pushed| ProxyLook {
            pushed,
            acknowledged: false,
            error: Some("too big".into()),
            ..proxy(content)
        };
        let refusals = |proxy, still_ms| judged(proxy, still_ms).refusals.len();
        assert_eq!(refusals(refusing(Content::Shows, true), 0), 1);
        assert_eq!(refusals(refusing(Content::Older, true), 0), 0, "the push before was refused, ours is to come");
        assert_eq!(refusals(refusing(Content::Shows, false), 0), 0, "perhaps ours is being pushed now");
        assert_eq!(refusals(refusing(Content::Shows, false), 250), 1);
    }

    #[test]
    fn who_does_not_use_it_is_not_waited_for_once_that_is_sure() {
        let early = judged(proxy(Content::Unused), 0);
        assert_eq!((early.is_live(Weight::ZERO), early.concerned, early.settles_in), (false, 1, Some(QUIET)));
        let later = judged(proxy(Content::Unused), 1000);
        assert_eq!((later.is_live(Weight::ZERO), later.concerned), (true, 0));
    }

    #[test]
    fn a_control_plane_that_is_behind_proves_nothing() {
        let look =
            Look { not_taken_in: vec!["istiod".into()], proxies: vec![proxy(Content::Shows)], ..Look::default() };
        assert!(!judge(&look, QUIET, |_| QUIET).is_live(Weight::ZERO));
    }

    #[test]
    fn a_quorum_is_a_share_of_the_concerned_and_no_refusal() {
        let lagging = || ProxyLook { acknowledged: false, ..proxy(Content::Shows) };
        let refusing = || ProxyLook { acknowledged: false, error: Some("no".into()), ..proxy(Content::Shows) };
        for (live, behind, refused, quorum_bp, expected) in [
            (9, 1, 0, 0, false),
            (9, 1, 0, 9000, true),
            (9, 1, 0, 9001, false),
            (9, 1, 0, 10_000, false),
            (10, 0, 0, 10_000, true),
            (2, 1, 0, 6667, false),
            (2, 1, 0, 6666, true),
            (9, 0, 1, 1, false),
            (0, 1, 0, 1, false),
            (1, 99, 0, 100, true),
            (0, 0, 0, 1, false),
        ] {
            let proxies = (0..live).map(|_| proxy(Content::Shows)).chain((0..behind).map(|_| lagging()));
            let proxies = proxies.chain((0..refused).map(|_| refusing())).collect();
            let judgement = judge(&Look { proxies, ..Look::default() }, Duration::ZERO, |_| Duration::ZERO);
            let quorum = Weight::from_basis_points(quorum_bp).unwrap();
            let row = format!("{live} live, {behind} behind, {refused} refused, quorum {quorum_bp}");
            assert_eq!(judgement.is_live(quorum), expected, "{row}");
            assert_eq!((judgement.acknowledged(), judgement.laggards.len()), (live, behind), "{row}");
        }
        let behind = Look {
            not_taken_in: vec!["istiod".into()],
            proxies: vec![proxy(Content::Shows), lagging()],
            ..Look::default()
        };
        assert!(!judge(&behind, QUIET, |_| QUIET).is_live(Weight::from_basis_points(1).unwrap()));
    }

    #[test]
    fn nobody_is_concerned_only_after_a_while() {
        let nobody = Look::default();
        assert!(
            !judge(&nobody, Duration::from_millis(999), |_| QUIET).is_live(Weight::ZERO),
            "perhaps they do not know of it yet"
        );
        assert!(judge(&nobody, QUIET, |_| QUIET).is_live(Weight::ZERO));
    }
}
