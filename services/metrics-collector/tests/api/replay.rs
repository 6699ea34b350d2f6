//! The command that replays what a real Prometheus recorded.

use std::process::Output;

use meshward_proto::types::v1::Verdict;
use serde_json::Value;
use tokio::process::Command;

use super::{
    history::{self, START, TICK, at},
    meshes,
    world::{Source, World, analysis},
};

/// Replays a service from the start of the history up to the end of a tick.
async fn replay(prometheus: &str, service: &str, ticks: i64, more: &[&str]) -> Output {
    let (start, end) = (START.to_string(), (START + ticks * TICK).to_string());
    let host = format!("{service}.shop.svc.cluster.local");
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshward-judge-bench"));
    command.args(["replay", "--prometheus", prometheus, "--host", &host, "--start", &start, "--end", &end]);
    command.args(["--query-timeout", "30s", "--scrape-interval", "0s"]).args(more).kill_on_drop(true);
    tokio::time::timeout(crate::PATIENCE, command.output()).await.expect("it ends").expect("it runs")
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// As RunAnalysis names it.
fn verdict(line: &Value) -> Verdict {
    let name = format!("VERDICT_{}", line["verdict"].as_str().expect("a verdict"));
    Verdict::from_str_name(&name).unwrap_or_else(|| panic!("{name} is no verdict"))
}

#[tokio::test]
async fn a_replay_says_after_each_tick_what_would_have_been_said_then() {
    // A good canary, a bad one, nobody, three minutes without a scrape, values that are no counts, restarts.
    let shop = history::shop();
    let recorded = shop.replace("# EOF\n", "") + &meshes::bank();
    let world = World::with(Source::Prometheus(recorded)).await;
    for service in ["good", "bad", "silent", "half", "unseen", "odd", "restless"] {
        let lines = lines(&replay(world.prometheus(), service, 20, &["--weight", "1000"]).await);
        assert_eq!(lines.len(), 20, "{service}");
        for (tick, line) in (1..).zip(&lines) {
            let mut then = analysis(service);
            then.end_time = Some(at(tick));
            let said = world.analyse(then).await.expect(service);
            assert_eq!(line["t"], (START + tick * TICK) as f64, "{service}");
            assert_eq!(verdict(line), said.verdict(), "{service}, tick {tick}: {line}");
            assert_eq!(line["reason"], said.explanation, "{service}, tick {tick}");
            let evidence = line["evidence"].as_f64().expect("a number");
            assert!((evidence / said.evidence - 1.0).abs() < 1e-9, "{service}, tick {tick}: {evidence}");
            let sample = said.samples.last().map_or((0, 0), |one| (one.canary_requests, one.canary_errors));
            let counted = &line["canary"];
            assert_eq!((counted["requests"].as_i64(), counted["errors"].as_i64()), (Some(sample.0), Some(sample.1)));
        }
    }
    let first = |lines: &[Value], wanted| lines.iter().position(|line| verdict(line) == wanted);
    let bad = lines(&replay(world.prometheus(), "bad", 20, &["--weight", "1000"]).await);
    assert!(matches!(first(&bad, Verdict::Regression), Some(7..=9)), "it fails from the eighth tick on");

    let second = format!("{}=3000", START + 10 * TICK);
    let steps = lines(&replay(world.prometheus(), "good", 20, &["--weight", "1000", "--weight", &second]).await);
    let reason = |tick: usize| steps[tick - 1]["reason"].as_str().expect("a reason").to_owned();
    assert!(
        !reason(10).contains("where 30 % were asked") && reason(20).contains("where 30 % were asked"),
        "{}",
        reason(20)
    );
}

#[tokio::test]
async fn what_cannot_be_replayed_is_said_and_nothing_is_printed() {
    for (address, service, more, reason) in [
        ("http://127.0.0.1:1", "good", vec!["--weight", "1000"], "cannot be reached"),
        ("http://127.0.0.1:1", "good", vec!["--weight", "10001"], "0 to 10000 basis points"),
        ("http://127.0.0.1:1", "a b", vec!["--weight", "1000"], "is no host name"),
        (
            "http://127.0.0.1:1",
            "good",
            vec!["--weight", "1000", "--cluster", "a", "--mechanism", "magic"],
            "unknown variant",
        ),
        (
            "http://127.0.0.1:1",
            "good",
            vec!["--weight", "1", "--weight", "2"],
            "each time must be after the one before",
        ),
        ("ftp://a", "good", vec!["--weight", "1000"], "is not a URL"),
    ] {
        let output = replay(address, service, 20, &more).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{reason}: {said}");
        assert!(said.contains(reason), "{reason}: {said}");
    }
}
