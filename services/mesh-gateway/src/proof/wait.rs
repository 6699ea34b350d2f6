//! Asking again until the answer is final.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use meshward_model::{PropagationProof, PropagationState, Weight};

use super::{
    Content, Expected, Look, Patience, Plane, ProxyLook,
    judge::{Judgement, Laggard, judge},
};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// Looks in a row that may fail before the answer is "unknown".
const FAILURES: u32 = 3;
/// How many laggards and refusals are named.
const NAMED: usize = 20;

/// Waits for an answer that is final: live, refused, or unknown. When the time is over, the answer is how it stands
/// then; if nothing but standing still is missing, that is waited for beyond the timeout, at most a second. The answer
/// says how long it took since `start`, and `now` is called at its end.
pub async fn wait(
    plane: &dyn Plane,
    expected: &Expected,
    patience: Patience,
    start: Instant,
    now: impl Fn() -> Timestamp,
) -> PropagationProof {
    let until = Instant::now() + patience.timeout;
    let mut history = History::default();
    let mut pause = FIRST_PAUSE;
    let mut failures = 0;
    loop {
        let over = Instant::now() >= until;
        match plane.look(expected).await {
            Ok(look) => {
                failures = 0;
                history.record(&look);
                let judgement = judge(&look, history.empty_for(), |proxy| history.still_for(proxy));
                let is_final = judgement.is_live(patience.quorum) || !judgement.refusals.is_empty();
                if is_final || over && judgement.settles_in.is_none() {
                    return proof(judgement, patience.quorum, start.elapsed(), now());
                }
                if let Some(settles_in) = judgement.settles_in {
                    pause = pause.min(settles_in.max(FIRST_PAUSE));
                }
            }
            Err(why) => {
                failures += 1;
                if over || failures >= FAILURES {
                    return unknown(&why, start.elapsed(), now());
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Since when each proxy was seen as it is, and since when there is none. That the control plane's state moved on
/// without a push to the proxy is no change of the proxy: in a busy mesh it does so all the time.
#[derive(Default)]
struct History {
    proxies: HashMap<String, (Seen, Instant)>,
    empty_since: Option<Instant>,
}

/// What of a proxy must stand still: content, last push, whether it was acknowledged, the words of refusal.
type Seen = (Content, String, bool, Option<String>);

impl History {
    fn record(&mut self, look: &Look) {
        let now = Instant::now();
        let is_read = |proxy: &ProxyLook| proxy.content != Content::Unread;
        let is_empty = look.not_taken_in.is_empty() && !look.proxies.iter().any(is_read);
        self.empty_since = is_empty.then(|| self.empty_since.unwrap_or(now));
        let mut next = HashMap::new();
        for proxy in &look.proxies {
            let seen = (proxy.content, proxy.nonce.clone(), proxy.acknowledged, proxy.error.clone());
            // Being asked at last is no change of the proxy.
            let unread = (Content::Unread, seen.1.clone(), seen.2, seen.3.clone());
            let known = self.proxies.get(&proxy.name).filter(|(known, _)| *known == seen || *known == unread);
            let since = known.map_or(now, |(_, since)| *since);
            next.insert(proxy.name.clone(), (seen, since));
        }
        self.proxies = next;
    }

    fn empty_for(&self) -> Duration {
        self.empty_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn still_for(&self, proxy: &ProxyLook) -> Duration {
        self.proxies.get(&proxy.name).map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }
}

/// The answer when nobody can be asked. Never a pass.
pub(crate) fn unknown(why: &str, elapsed: Duration, now: Timestamp) -> PropagationProof {
    answer(PropagationState::Unknown, format!("the control plane cannot be asked: {why}"), elapsed, now)
}

/// An answer that names no proxy.
pub(crate) fn answer(state: PropagationState, message: String, elapsed: Duration, now: Timestamp) -> PropagationProof {
    PropagationProof {
        state,
        concerned: 0,
        acknowledged: 0,
        laggards: Vec::new(),
        refusals: Vec::new(),
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        time: now,
        message,
        drift_manager: String::new(),
    }
}

fn proof(judgement: Judgement, quorum: Weight, elapsed: Duration, now: Timestamp) -> PropagationProof {
    let (is_live, done) = (judgement.is_live(quorum), judgement.acknowledged());
    let Judgement { concerned, mut laggards, mut refusals, not_taken_in, held_back, .. } = judgement;
    let seconds = elapsed.as_secs_f64();
    laggards.truncate(NAMED);
    refusals.truncate(NAMED);
    let (state, message) = match (refusals.first(), not_taken_in.first()) {
        (Some(first), _) => {
            let message =
                format!("{} of {concerned} proxies refused it: {}: {}", refusals.len(), first.proxy, first.message);
            (PropagationState::Refused, message)
        }
        (None, Some(replica)) => {
            (PropagationState::Pending, format!("{replica} has not read the write after {seconds:.2} s"))
        }
        (None, None) if is_live && !laggards.is_empty() => {
            let (names, quorum) = (lacks(&laggards), quorum.fraction() * 100.0);
            let message = format!(
                "live on {done}/{concerned} proxies after {seconds:.2} s, which is the quorum of {quorum} %; not on {names}"
            );
            (PropagationState::Live, message)
        }
        (None, None) if !laggards.is_empty() => {
            let names = lacks(&laggards);
            let message =
                format!("acknowledged by {done}/{concerned} proxies after {seconds:.2} s; waiting for {names}");
            (PropagationState::Pending, message)
        }
        (None, None) => (PropagationState::Live, format!("live on {done}/{concerned} proxies after {seconds:.2} s")),
    };
    let message = with_held_back(message, &held_back);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    PropagationProof {
        concerned: count(concerned),
        acknowledged: count(done),
        laggards: laggards.into_iter().map(|laggard| laggard.name).collect(),
        refusals,
        ..answer(state, message, elapsed, now)
    }
}

/// Each laggard and what it lacks.
fn lacks(laggards: &[Laggard]) -> String {
    let told: Vec<_> = laggards.iter().map(|Laggard { name, lack }| format!("{name} (it {lack})")).collect();
    told.join(", ")
}

/// Not waited for, since they may never be Ready, and not left unsaid.
fn with_held_back(message: String, held_back: &[String]) -> String {
    if held_back.is_empty() {
        return message;
    }
    let names: Vec<_> = held_back.iter().take(NAMED).map(String::as_str).collect();
    format!("{message}; not Ready and of their cohort before until they are: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use meshward_model::Target;

    use super::*;

    /// Gives the looks one after the other; the last one for ever.
    struct Script(Vec<Result<Look, String>>, AtomicUsize);

    #[async_trait]
    impl Plane for Script {
        async fn look(&self, _: &Expected) -> Result<Look, String> {
            let index = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
            self.0[index].clone()
        }
    }

    fn proxy(acknowledged: bool) -> ProxyLook {
        ProxyLook {
            name: "a.shop".into(),
            content: Content::Shows,
            pushed: true,
            nonce: "n".into(),
            acknowledged,
            error: None,
        }
    }

    fn look(proxies: Vec<ProxyLook>) -> Result<Look, String> {
        Ok(Look { proxies, ..Look::default() })
    }

    async fn ask_for(looks: Vec<Result<Look, String>>, timeout_ms: u64, quorum: Weight) -> PropagationProof {
        let target = Target::new("", "networking.istio.io/v1", "VirtualService", "shop", "checkout").unwrap();
        let expected = Expected {
            target,
            object: None,
            others: Vec::new(),
            rebinds: false,
            through: Vec::new(),
            cohorts: None,
            beside: Vec::new(),
            readers: crate::dialect::Readers::default(),
        };
        let patience = Patience { timeout: Duration::from_millis(timeout_ms), quorum };
        wait(&Script(looks, AtomicUsize::new(0)), &expected, patience, Instant::now(), || Timestamp::UNIX_EPOCH).await
    }

    async fn ask(looks: Vec<Result<Look, String>>, timeout_ms: u64) -> PropagationProof {
        ask_for(looks, timeout_ms, Weight::ZERO).await
    }

    #[tokio::test]
    async fn a_quorum_does_not_wait_for_the_slowest_but_names_them() {
        let slow = ProxyLook { name: "slow.shop".into(), ..proxy(false) };
        let half = Weight::from_basis_points(5000).unwrap();
        let proof = ask_for(vec![look(vec![proxy(true), slow])], 30_000, half).await;
        assert_eq!((proof.state, proof.concerned, proof.acknowledged), (PropagationState::Live, 2, 1));
        assert_eq!(proof.laggards, ["slow.shop"]);
        assert!(proof.message.contains("quorum of 50 %; not on slow.shop"), "{}", proof.message);
    }

    #[tokio::test]
    async fn it_waits_for_the_last_proxy() {
        let behind = Ok(Look { not_taken_in: vec!["istiod".into()], ..Look::default() });
        let proof = ask(vec![behind, look(vec![proxy(false)]), look(vec![proxy(true)])], 30_000).await;
        assert_eq!((proof.state, proof.concerned, proof.acknowledged), (PropagationState::Live, 1, 1));
        assert!(proof.message.starts_with("live on 1/1 proxies after 0."), "{}", proof.message);
    }

    #[tokio::test]
    async fn laggards_are_named_when_the_time_is_over() {
        let older = ProxyLook { content: Content::Older, ..proxy(true) };
        for (laggard, lack) in [(proxy(false), "has not acknowledged"), (older, "is still to be given it")] {
            let proof = ask(vec![look(vec![laggard])], 0).await;
            assert_eq!((proof.state, &*proof.laggards), (PropagationState::Pending, &["a.shop".to_owned()][..]));
            let words = format!("waiting for a.shop (it {lack}");
            assert!(proof.message.contains(&words), "{words} is not in {}", proof.message);
        }
    }

    #[tokio::test]
    async fn one_look_waits_for_what_only_must_stand_still() {
        let settling = ProxyLook { pushed: false, ..proxy(true) };
        assert_eq!(ask(vec![look(vec![settling])], 0).await.state, PropagationState::Live);
    }

    #[tokio::test]
    async fn being_asked_late_is_no_change_of_the_proxy() {
        let seen = |content| ProxyLook { content, ..proxy(true) };
        let mut history = History::default();
        history.record(&look(vec![seen(Content::Unread)]).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
        for (content, is_still) in [(Content::Unclear, true), (Content::Unclear, true), (Content::Shows, false)] {
            history.record(&look(vec![seen(content)]).unwrap());
            let still_for = history.still_for(&seen(content));
            assert_eq!(still_for >= Duration::from_millis(20), is_still, "{content:?}");
        }
        history.record(&look(vec![seen(Content::Unread)]).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
        history.record(&look(Vec::new()).unwrap());
        assert!(history.empty_for() >= Duration::from_millis(20), "nobody was concerned since then");
    }

    #[tokio::test]
    async fn who_cannot_be_asked_never_passes() {
        let down = || Err("connection refused".to_owned());
        let proof = ask(vec![down()], 30_000).await;
        assert_eq!(proof.state, PropagationState::Unknown);
        assert!(proof.message.contains("connection refused"), "{}", proof.message);
        let blinked = ask(vec![down(), look(vec![proxy(true)])], 30_000).await;
        assert_eq!(blinked.state, PropagationState::Live, "one lost answer is no verdict");
    }
}
