//! The generator against real sockets: our own upstream, and servers that misbehave in each way that it tells apart.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::upstream::{Behaviour, Upstream, UpstreamConfig};

const DEADLINE: Duration = Duration::from_secs(60);

fn now() -> jiff::Timestamp {
    jiff::Timestamp::UNIX_EPOCH
}

fn plan(address: std::net::SocketAddr, requests: u64) -> LoadPlan {
    LoadPlan { rate: 500.0, max_requests: requests, ..LoadPlan::new(format!("http://{address}"), "checkout.shop") }
}

/// Runs a plan to its end.
async fn run(plan: LoadPlan) -> LoadReport {
    let load = Load::start(plan, now).unwrap();
    tokio::time::timeout(DEADLINE, load.finished()).await.expect("the load ends by itself")
}

async fn upstream(behaviour: Behaviour) -> Upstream {
    Upstream::start(UpstreamConfig { behaviour, ..UpstreamConfig::new("checkout") }).await.unwrap()
}

/// A server that reads one request per connection, sends these bytes and then closes, resets or holds on.
async fn raw_server(answer: &'static str, after: After) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if !read_head(&mut stream).await.is_empty() {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            match after {
                After::Close => drop(stream),
                After::Reset => stream.set_zero_linger().unwrap(),
                After::Hold => held.push(stream),
            }
        }
    });
    address
}

#[derive(Debug, Clone, Copy)]
enum After {
    Close,
    Reset,
    Hold,
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn every_due_request_is_accounted_for() {
    let upstream = upstream(Behaviour::Healthy).await;
    let report = run(LoadPlan { version_header: "x-upstream".to_owned(), ..plan(upstream.address(), 200) }).await;
    let total = &report.total;
    assert_eq!((total.due, total.sent + total.not_sent, total.completed), (200, 200, total.sent));
    assert_eq!((total.lost.total(), total.failed, total.answered_by_neither), (0, 0, 0));
    assert_eq!(report.ended, Some(Ended::MaxRequests));
    assert_eq!(total.by_version(), BTreeMap::from([(Some("checkout"), total.sent)]));
    assert_eq!(upstream.stop().await.get(&200), Some(&total.sent), "the upstream saw what the load says it sent");
}

#[tokio::test]
async fn each_way_to_go_wrong_is_told_apart() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let loss = LossCounts::default();
    // They close after one answer and say so: a client that did not know would lose its next request by chance.
    let good = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let made_up = "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\nx-meshward-demo-version: v2\r\n\r\n";
    let own = "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\nx-upstream: checkout\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    // what it is, server, losses, answered by neither, failed; two requests each
    let table = [
        ("refused", gone, LossCounts { connect: 2, ..loss }, 0, 2),
        ("reset", raw_server("", After::Reset).await, LossCounts { closed: 2, ..loss }, 0, 2),
        ("closed", raw_server("", After::Close).await, LossCounts { closed: 2, ..loss }, 0, 2),
        ("cut short", raw_server(cut, After::Close).await, LossCounts { closed: 2, ..loss }, 0, 2),
        ("hangs", raw_server("", After::Hold).await, LossCounts { timeout: 2, ..loss }, 0, 2),
        ("hangs in the body", raw_server(cut, After::Hold).await, LossCounts { timeout: 2, ..loss }, 0, 2),
        ("no HTTP", raw_server("220 mail\r\n\r\n", After::Close).await, LossCounts { protocol: 2, ..loss }, 0, 2),
        ("Envoy's error", raw_server(made_up, After::Close).await, LossCounts { proxy: 2, ..loss }, 0, 2),
        ("the application's error", raw_server(own, After::Close).await, loss, 0, 2),
        ("no version", raw_server(good, After::Close).await, loss, 2, 0),
    ];
    for (name, address, lost, neither, failed) in table {
        let timeout = Duration::from_millis(if name.starts_with("hangs") { 200 } else { 30_000 });
        let total = run(LoadPlan { timeout, ..plan(address, 2) }).await.total;
        assert_eq!((total.due, total.completed), (2, 2), "{name}");
        assert_eq!((total.lost, total.answered_by_neither, total.failed), (lost, neither, failed), "{name}: {total:?}");
        assert_eq!(total.first_failure.is_some(), failed > 0, "{name}");
        assert_eq!(total.failures.len() as u64, failed, "{name}");
    }
}

#[tokio::test]
async fn what_is_due_beyond_the_bound_is_counted_and_not_sent() {
    let hanging = raw_server("", After::Hold).await;
    let plan = LoadPlan { max_in_flight: 3, timeout: Duration::from_millis(500), rate: 1_000.0, ..plan(hanging, 100) };
    let total = run(plan).await.total;
    assert_eq!((total.due, total.sent + total.not_sent), (100, 100));
    assert!(total.sent >= 3 && total.not_sent > 0, "{total:?}");
    assert_eq!(total.lost.timeout, total.sent);
}

#[tokio::test]
async fn the_request_is_as_envoy_wants_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = LoadPlan { paths: vec!["/cart?x=1".to_owned()], ..plan(listener.local_addr().unwrap(), 1) };
    let load = Load::start(plan, now).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    drop(stream);
    load.stop().await;
    assert!(head.starts_with("get /cart?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains("host: checkout.shop\r\n"), "{head}");
    assert!(!head.contains("x-request-id"), "Envoy must make it: {head}");
}

#[tokio::test]
async fn phases_split_the_counts_and_the_rate_changes_at_run_time() {
    let upstream = upstream(Behaviour::Healthy).await;
    let load = Load::start(plan(upstream.address(), 1_000_000), now).unwrap();
    until(&load, |report| report.total.completed >= 20).await;
    upstream.set_behaviour(Behaviour::Failing { probability: 1.0 }).unwrap();
    load.mark("failing").unwrap();
    until(&load, |report| report.phase("failing").unwrap().failed >= 20).await;
    load.set_rate(0.0).unwrap();
    let report = load.stop().await;
    assert_eq!(report.ended, Some(Ended::Stopped));
    let [start, failing] = &report.phases[..] else { panic!("two phases: {report:?}") };
    assert_eq!((start.name.as_str(), failing.name.as_str()), ("start", "failing"));
    assert_eq!(start.due + failing.due, report.total.due);
    assert_eq!(failing.failed, failing.completed, "every one of them: {failing:?}");
    assert_eq!(failing.answers[0].status_class, 5);
    assert_eq!(failing.lost.total(), 0, "the application's own errors are no losses");
    assert_eq!(upstream.stop().await.values().sum::<u64>(), report.total.sent);
}

/// Waits until the report says so.
async fn until(load: &Load, is_so: impl Fn(&LoadReport) -> bool) {
    let reached = async {
        while !is_so(&load.snapshot()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.expect("the load gets there");
}

#[tokio::test]
async fn a_paused_load_sends_nothing_and_ends_at_its_time() {
    let upstream = upstream(Behaviour::Healthy).await;
    let plan = LoadPlan { rate: 0.0, max_duration: Duration::from_millis(50), ..plan(upstream.address(), 10) };
    let report = run(plan).await;
    assert_eq!((report.total.due, report.ended), (0, Some(Ended::MaxDuration)));
}

#[tokio::test]
async fn what_cannot_work_is_refused() {
    let base = || LoadPlan::new("http://127.0.0.1:1", "checkout.shop");
    let refused = |plan| Load::start(plan, now).unwrap_err();
    assert!(matches!(refused(LoadPlan { rate: -1.0, ..base() }), LoadError::BadRate(_)));
    assert!(matches!(refused(LoadPlan { rate: f64::NAN, ..base() }), LoadError::BadRate(_)));
    assert!(matches!(refused(LoadPlan { paths: Vec::new(), ..base() }), LoadError::Nothing));
    assert!(matches!(refused(LoadPlan { max_in_flight: 0, ..base() }), LoadError::Nothing));
    assert!(matches!(refused(LoadPlan { url: "http://a b".to_owned(), ..base() }), LoadError::BadUri { .. }));
    assert!(matches!(refused(LoadPlan { host: "a\nb".to_owned(), ..base() }), LoadError::BadHeader(_)));
    assert!(matches!(refused(LoadPlan { version_header: "x y".to_owned(), ..base() }), LoadError::BadHeader(_)));
    let load = Load::start(LoadPlan { rate: 0.0, ..base() }, now).unwrap();
    assert!(load.set_rate(MAX_RATE * 2.0).is_err());
}
