//! The main job on a real mesh: what the README's first command runs, and the same on a cluster that is there already.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use meshward_local::{
    demo::{self, Check, External, Options, Report},
    stack::{DISCOVERY_DELAY, Stack, StackOptions, Upstreams},
    tools::Tools,
    upstream::{Behaviour, Upstream, UpstreamConfig},
};
use meshward_proto::rollout::v1::DeploymentState;

/// The folder of the service programs: the test's own folder is `deps` in it.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.ancestors().nth(2).expect("target/debug/deps/test").to_owned()
}

fn options(dir: PathBuf, external: Option<External>) -> Options {
    Options { external, dir, programs: programs(), rate: 1000.0, bake: Duration::from_secs(20), keep: false }
}

/// The report goes to the test's output; nothing else is to be done with it.
fn tell(report: &Report) -> anyhow::Result<()> {
    println!("{}", report.text());
    Ok(())
}

/// Fails with every promise that did not hold.
fn assert_all_held(report: &Report) {
    let broken: Vec<_> = report.checks.iter().filter(|check| !check.held).collect();
    assert!(report.ok && broken.is_empty(), "{broken:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_holds_and_its_lines_can_be_pasted() {
    let _machine = MACHINE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let tools = Tools::locate().expect("tests/run installs them");
    let options = Options { keep: true, ..options(folder.path().to_owned(), None) };
    let mut pasted = Vec::new();
    let paste = async |lines: &[String]| {
        for line in lines {
            let line = line.clone();
            let output = tokio::task::spawn_blocking(move || Command::new("bash").args(["-c", &line]).output());
            pasted.push(output.await.expect("the line runs").expect("bash is there"));
        }
    };

    let report = demo::run(options, &tools, tell, paste).await.expect("the demo runs to its end");

    assert_all_held(&report);
    assert!(pasted.len() >= 8, "there are lines to paste");
    for output in pasted {
        assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    }
}

/// A stack that is not the demo's own, with its upstream servers.
async fn existing_cluster(dir: &Path, tools: &Tools) -> (Stack, Vec<Upstream>, External) {
    std::fs::create_dir_all(dir).expect("a folder");
    let mut servers = Vec::new();
    for (name, behaviour) in [
        ("checkout", Behaviour::Healthy),
        ("checkout-next", Behaviour::Failing { probability: 1.0 }),
        ("catalog", Behaviour::Healthy),
    ] {
        let config = UpstreamConfig { behaviour, ..UpstreamConfig::new(name) };
        servers.push(Upstream::start(config).await.expect("an upstream starts"));
    }
    let upstreams = Upstreams {
        checkout: servers[0].address(),
        checkout_next: servers[1].address(),
        catalog: servers[2].address(),
    };
    let options = StackOptions { dir: dir.to_owned(), tools: tools.clone(), upstreams };
    let stack = Stack::start(options).await.expect("a stack starts");
    let external = External {
        kubeconfig: stack.kubeconfig().to_owned(),
        prometheus: stack.prometheus_url().to_owned(),
        discovery_delay: DISCOVERY_DELAY,
        istiod: stack.istiod_debug_url(),
        entry: stack.storefront().egress,
        envoy_admin: None,
    };
    (stack, servers, external)
}

/// One at a time: each measures on the machine's few cores.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_there_already_does_as_well_and_its_outages_hold() {
    let _machine = MACHINE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let tools = Tools::locate().expect("tests/run installs them");
    let (stack, _servers, external) = existing_cluster(&folder.path().join("cluster"), &tools).await;
    let quick = |name: &str, external: External| Options {
        rate: 400.0,
        bake: Duration::from_secs(5),
        ..options(folder.path().join(name), Some(external))
    };

    let demo = quick("demo", external.clone());
    std::fs::create_dir_all(&demo.dir).expect("a folder");
    let report = demo::run(demo, &tools, tell, async |_: &[String]| ()).await.expect("the demo runs to its end");
    assert_all_held(&report);

    let kinds = quick("kinds", external.clone());
    let checks = demo::kinds(kinds, &tools, &stack).await.expect("every kind is released to its end");
    for Check { promise, held, detail } in &checks {
        println!("  {} {promise} ({detail})", if *held { "ok  " } else { "FAIL" });
    }
    let broken: Vec<_> = checks.iter().filter(|check| !check.held).collect();
    assert!(checks.len() > 30 && broken.is_empty(), "{} checks, {broken:#?}", checks.len());

    let blind = quick("no-prometheus", External { prometheus: NOWHERE.into(), ..external.clone() });
    let held = demo::outage(blind, &tools, "Prometheus").await.expect("it holds");
    assert_eq!(held.states, [DeploymentState::Baking; 2], "{held:?}");
    assert_eq!(held.weights_bp, [1_000; 2], "{held:?}");
    assert_eq!(held.after_abort, DeploymentState::RolledBack, "{held:?}");

    let unproven = quick("no-istiod", External { istiod: NOWHERE.into(), ..external });
    let held = demo::outage(unproven, &tools, "control plane").await.expect("it holds");
    assert_eq!(held.states, [DeploymentState::Exposing; 2], "{held:?}");
    assert_eq!(held.weights_bp, [1_000; 2], "{held:?}");
    assert_eq!(held.after_abort, DeploymentState::RollingBack, "nothing is called back before it is proven: {held:?}");

    stack.alive().expect("the cluster is not the demo's to end");
    stack.stop().await;
}
