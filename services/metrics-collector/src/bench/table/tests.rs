//! The floors: what the judge promises, on fixed seeds. Nothing here measures time.

use std::fs;

use super::{super::world, *};

fn plan(runs: u32) -> Plan {
    Plan { runs, seed: 20, history_minutes: 15, options: JudgeOptions::default() }
}

fn own(change: Change) -> Vec<World> {
    let worlds = world::own().expect("the own worlds");
    worlds.into_iter().filter(|world| world.change == change).collect()
}

#[test]
fn at_most_one_healthy_change_of_a_hundred_is_rolled_back() {
    for world in own(Change::Healthy) {
        // The hard drift is open; it must not become worse.
        let most = if world.title.contains("hard") { 0.06 } else { CAREFUL };
        let judge = run_world(&world, &plan(100), &[0]).remove(0);
        assert!(judge.rolled_back.value <= most, "{}: {:?}", world.title, judge.rolled_back);
    }
}

#[test]
fn four_hours_of_history_halve_what_a_hard_drift_does() {
    let worlds = own(Change::Healthy);
    let world = worlds.iter().find(|world| world.title.contains("hard")).expect("the hard drift");
    let judge = run_world(world, &Plan { history_minutes: 240, ..plan(100) }, &[0]).remove(0);
    assert!(judge.rolled_back.value <= 0.03, "{:?}", judge.rolled_back);
}

#[test]
fn bad_changes_are_found_at_half_of_the_cost_of_the_most_careful_peer() {
    let flagger_10 = 2;
    for world in own(Change::Bad) {
        let summaries = run_world(&world, &plan(40), &[0, flagger_10]);
        let ratio = summaries[0].harm_beside(&summaries[1]).expect("harm").value;
        assert!(ratio <= 0.5, "{}: {ratio}", world.title);
        assert!(summaries[0].rolled_back.value >= 0.95, "{}: {:?}", world.title, summaries[0].rolled_back);
    }
}

#[test]
fn five_points_at_100_rps_are_seen_in_two_ticks() {
    for (title, begin) in [("0.1 -> 5.1 %", 0.0), ("deny all, 100 rps", 0.0), ("0.1 -> 5.1 % from minute 8", 480.0)] {
        let worlds = own(Change::Bad);
        let world = worlds.iter().find(|world| world.title == title).expect(title);
        let median = run_world(world, &plan(60), &[0])[0].median_s.expect("seen").value - begin;
        assert!(median <= 30.0, "{title}: {median}");
    }
}

#[test]
fn a_seed_prints_the_same_numbers_again_and_a_world_depends_on_no_other() {
    let worlds = world::own().expect("the own worlds");
    let (first, last) = (&worlds[0], worlds.last().expect("some"));
    assert_eq!(run_world(last, &plan(3), &[0, 1]), run_world(last, &plan(3), &[0, 1]));
    let text = printed(&[first.clone(), last.clone()]);
    for expected in ["seed 20, 2 runs", &first.title, &last.title, "meshward       more than 1 % in 0 of 1 worlds"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_new_world_needs_no_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = r#"[{"title": "nobody knows it", "change": "bad", "requests_per_second": 50, "swing": 0.2, "error_rate":
        0.002, "events": [{"what": "shared_errors", "seconds": 60, "error_rate": 0.1}], "effects": [{"from_s": 60,
        "error_rate": 0.2}]}]"#;
    fs::write(folder.path().join("mine.json"), text).expect("written");
    fs::write(folder.path().join("notes.txt"), "no world").expect("written");
    let text = printed(&world::read(folder.path()).expect("worlds"));
    let line = text.lines().find(|line| line.starts_with("nobody knows it")).expect("its line");
    assert!(line.contains("100 / "), "{text}");
}

#[test]
fn the_peer_that_fails_in_fewest_worlds_is_the_most_careful() {
    let share = |value| Summary { rolled_back: Estimate { value, low: 0.0, high: 1.0 }, ..Summary::default() };
    let mut healthy = Healthy::default();
    healthy.add(&[0.0, 0.5, 0.0, 0.02, 0.0].map(share));
    healthy.add(&[0.0, 0.0, 1.0, 0.02, 0.3].map(share));
    assert_eq!(RULES[healthy.most_careful()], "Kayenta", "one world, and less than others with one");
    assert!(healthy.text().ends_with("in every healthy world: none."), "{}", healthy.text());
    assert!(
        healthy.text().contains("Argo 1m 3      more than 1 % in 2 of 2 worlds, worst 2.0 %"),
        "{}",
        healthy.text()
    );
}

fn printed(worlds: &[World]) -> String {
    let mut text = Vec::new();
    print(worlds, &plan(2), &mut text).expect("memory can be written");
    String::from_utf8(text).expect("text")
}
