//! Start, probes, drain.

use std::time::{Duration, Instant};

use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::Code;

use crate::support::{PATIENCE, Steered, World};

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_shutdown() {
    let patient =
        |args: &mut meshward_chassis::server::ServerArgs| (args.drain_timeout, args.preface_timeout) = (LONG, LONG);
    let world = World::with(patient, Steered::default()).await;
    let silent = TcpStream::connect(world.server.addr).await.expect("a connection");
    let half = TcpStream::connect(world.server.addr).await.expect("a connection");
    half.writable().await.expect("writable");
    half.try_write(b"PRI * HT").expect("a part of the preface");
    assert!(world.client().get_deployment(world.get("d")).await.is_ok(), "an idle gRPC connection is there too");
    tokio::time::timeout(PATIENCE, world.server.stop())
        .await
        .expect("it ends long before the drain timeout")
        .expect("no error");
    drop((silent, half));
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_a_while() {
    let world = World::with(|args| args.preface_timeout = Duration::from_millis(50), Steered::default()).await;
    let mut silent = TcpStream::connect(world.server.addr).await.expect("a connection");
    let read = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 1])).await.expect("the server acts");
    assert_eq!(read.ok(), Some(0), "the server closed it");
}

#[tokio::test]
async fn open_calls_may_end_and_new_ones_are_told() {
    let world = World::with(|args| args.drain_timeout = LONG, Steered::default()).await;
    let (mut client, request) = (world.client(), world.get("hold"));
    let held = tokio::spawn(async move { client.get_deployment(request).await });
    tokio::time::timeout(PATIENCE, world.service.entered.notified()).await.expect("the call is in");
    assert_eq!(world.admin("/readyz").await.0, 200);
    world.server.begin_stop();
    let draining = async {
        while world.admin("/readyz").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, draining).await.expect("the probe says that it drains");
    world.service.release.notify_one();
    assert!(held.await.expect("no panic").is_ok(), "the open call got its answer");
    tokio::time::timeout(PATIENCE, world.server.stop()).await.expect("it ends").expect("no error");
}

#[tokio::test]
async fn calls_that_do_not_end_are_cut() {
    let world = World::with(|args| args.drain_timeout = Duration::from_millis(100), Steered::default()).await;
    let (mut client, request) = (world.client(), world.get("hold"));
    let held = tokio::spawn(async move { client.get_deployment(request).await });
    tokio::time::timeout(PATIENCE, world.service.entered.notified()).await.expect("the call is in");
    let started = Instant::now();
    tokio::time::timeout(PATIENCE, world.server.stop()).await.expect("it ends").expect("no error");
    assert!(started.elapsed() >= Duration::from_millis(100), "the call had its time");
    let status = held.await.expect("no panic").expect_err("cut");
    assert!(
        matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal),
        "{status:?}"
    );
}

#[tokio::test]
async fn probes_name_what_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let world =
        World::with(|args| args.jwks = dir.path().join("none.json").display().to_string(), Steered::default()).await;
    assert_eq!(world.admin("/healthz").await.0, 200);
    let (status, body) = world.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"jwks\"") && body.contains("none.json"), "{body}");
    let refused = world.client().get_deployment(world.get("d")).await.expect_err("no keys");
    assert_eq!(refused.code(), Code::Unavailable);
}
