use serde_json::json;

use super::*;
use sync::{CLUSTERS, ENDPOINTS, ROUTES};

const UUID: &str = "ad46f630-f117-4e73-9bcc-87a4b69ad6dd";
const SUBJECT: Subject = Subject { object: 1, write: 1, is_gone: false };

fn version(counter: u64) -> Option<Version> {
    sync::parse(&format!("2026-11-23T12:25:29Z/{counter}"))
}

/// A proxy that was sent routes and endpoints in these states.
fn proxy(name: &str, routes: u64, endpoints: u64) -> Value {
    let sent = |counter: u64| {
        let nonce = format!("2026-11-23T12:25:29Z/{counter}{UUID}");
        json!({"sent": nonce, "acked": nonce})
    };
    json!({"proxy": name, "resources": {ROUTES: sent(routes), CLUSTERS: sent(routes), ENDPOINTS: sent(endpoints)}})
}

fn reading(content: Option<Content>) -> Reading {
    Reading { seen: content.map(|content| Seen { content, kinds: vec![ROUTES] }), version: version(3) }
}

/// The looks of a test, on a clock of their own.
struct Looks {
    memory: Memory,
    began: Instant,
}

impl Looks {
    fn new() -> Self {
        Self { memory: Memory::default(), began: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    fn look_of(&self, subject: Subject, ms: u64, syncz: &Value, is_harmless: bool) -> Vec<Turn> {
        let now = self.at(ms);
        let turns = |turns: &mut Turns| turns.of_all(sync::proxies(syncz), syncz, is_harmless, now);
        self.memory.with(subject, syncz, now, turns).into_iter().map(|(_, turn)| turn).collect()
    }

    fn look(&self, ms: u64, syncz: &Value) -> Vec<Turn> {
        self.look_of(SUBJECT, ms, syncz, false)
    }

    fn asked(&self, ms: u64, syncz: &Value, name: &str, content: Option<Content>) {
        let now = self.at(ms);
        self.memory.with(SUBJECT, syncz, now, |turns| turns.keep(name, syncz, &reading(content), now));
    }
}

/// The cause of the stall: a dump between the moment when istiod drops what it kept and the push to the proxy.
#[test]
fn nobody_is_asked_while_the_state_with_the_write_is_on_its_way() {
    let from = |counter| Turn::From(version(counter).unwrap());
    let looks = Looks::new();
    for (ms, a, b, turns) in [
        (0, (2, 2), (1, 1), [Turn::Later, Turn::Later]),
        (110, (2, 2), (1, 1), [Turn::Later, Turn::Later]),
        // Endpoints are pushed without bringing anybody up to a state.
        (115, (2, 3), (1, 1), [Turn::Later, Turn::Later]),
        (120, (4, 4), (1, 1), [Turn::Now, from(4)]),
        (130, (4, 4), (1, 1), [Turn::Now, from(4)]),
        // The next one is on its way already: a has it, b not yet.
        (140, (5, 5), (4, 4), [Turn::Now, from(5)]),
    ] {
        let syncz = json!([proxy("a.shop", a.0, a.1), proxy("b.shop", b.0, b.1)]);
        assert_eq!(looks.look(ms, &syncz), turns, "after {ms} ms");
    }
}

#[test]
fn who_is_pushed_nothing_is_asked_after_a_while() {
    let looks = Looks::new();
    let still = json!([proxy("a.shop", 2, 2), proxy("b.shop", 2, 2)]);
    let pushed = json!([proxy("a.shop", 3, 3), proxy("b.shop", 2, 2)]);
    assert_eq!(looks.look(0, &still), [Turn::Later, Turn::Later]);
    assert_eq!(looks.look(999, &still), [Turn::Later, Turn::Later]);
    assert_eq!(looks.look(1000, &still), [Turn::Now, Turn::Now], "the push was before the first look, or will not be");
    assert_eq!(looks.look(1500, &pushed), [Turn::Now, Turn::Now], "also if it cannot be told what state it has");
}

#[test]
fn of_listeners_nothing_is_kept() {
    let syncz = json!([proxy("a.shop", 2, 2)]);
    assert_eq!(Looks::new().look_of(SUBJECT, 0, &syncz, true), [Turn::Now]);
}

#[test]
fn a_push_costs_one_dump() {
    for (name, content, later) in [
        ("it is there", Some(Content::Shows), true),
        ("it cannot be told", Some(Content::Unclear), true),
        ("it does not concern it", None, true),
        ("it is not there", Some(Content::Older), false),
        ("it is not used", Some(Content::Unused), false),
    ] {
        let looks = Looks::new();
        let known = Turn::Known(reading(content));
        let (before, pushed) = (json!([proxy("a.shop", 2, 2)]), json!([proxy("a.shop", 3, 3)]));
        looks.look(0, &before);
        assert_eq!(looks.look(100, &pushed), [Turn::Now], "{name}");
        looks.asked(101, &pushed, "a.shop", content);
        assert_eq!(looks.look(120, &pushed), std::slice::from_ref(&known), "{name}");
        assert_eq!(looks.look(1100, &pushed), std::slice::from_ref(&known), "{name}");
        let expected = if later { known } else { Turn::Now };
        assert_eq!(looks.look(1101, &pushed), [expected], "{name}: it is read again if it may have changed unseen");
        let endpoints = json!([proxy("a.shop", 3, 4)]);
        assert_eq!(looks.look(1102, &endpoints), [Turn::Now], "{name}: it was pushed something");
        looks.asked(1103, &pushed, "a.shop", content);
        assert_eq!(looks.look(1104, &endpoints), [Turn::Now], "{name}: what it had before does not count");
    }
}

#[test]
fn objects_of_one_write_began_together() {
    let looks = Looks::new();
    let second = Subject { object: 2, ..SUBJECT };
    let (before, pushed) = (json!([proxy("a.shop", 2, 2)]), json!([proxy("a.shop", 3, 3)]));
    looks.look(0, &before);
    assert_eq!(looks.look_of(second, 200, &pushed, false), [Turn::Now], "the push was seen by the looks for the first");
    let other = Subject { object: 3, write: 3, is_gone: false };
    assert_eq!(looks.look_of(other, 200, &pushed, false), [Turn::Later]);
}

#[test]
fn what_was_before_a_write_is_known_from_before_it() {
    let pushed = json!([proxy("a.shop", 3, 3)]);
    for (name, marked, is_gone, turn) in [
        ("the push came before the first look", vec![2], false, Turn::Now),
        ("it is still to come", vec![3], false, Turn::Later),
        ("written again without a change", vec![2, 3], false, Turn::Now),
        ("gone again", vec![2, 3], true, Turn::Later),
    ] {
        let looks = Looks::new();
        for before in marked {
            looks.memory.wrote(SUBJECT.write, is_gone, version(before), looks.at(0));
        }
        assert_eq!(looks.look_of(Subject { is_gone, ..SUBJECT }, 200, &pushed, false), [turn], "{name}");
    }
}

#[test]
fn what_is_gone_is_soon_forgotten() {
    for (is_gone, turn) in [(true, Turn::Later), (false, Turn::Now)] {
        let (looks, subject) = (Looks::new(), Subject { is_gone, ..SUBJECT });
        looks.look_of(subject, 0, &json!([proxy("a.shop", 2, 2)]), false);
        let again = json!([proxy("a.shop", 3, 3)]);
        assert_eq!(looks.look_of(subject, 3000, &again, false), [turn], "its name comes and goes without a version");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut recent = Recent::default();
    let (began, second) = (Instant::now(), Duration::from_secs(1));
    for key in 0..2 * REMEMBERED as u64 {
        *recent.get(key, second, began, || 0) = key;
    }
    assert_eq!(recent.0.len(), REMEMBERED);
    assert_eq!(*recent.get(2 * REMEMBERED as u64 - 1, second, began, || 0), 2 * REMEMBERED as u64 - 1);
    assert_eq!(*recent.get(7, second, began + second, || 8), 8);
    assert_eq!(recent.0.len(), 1, "what was not used is forgotten");
}
