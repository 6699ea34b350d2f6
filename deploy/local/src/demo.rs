//! The main job, end to end: three versions of one policy are released under load. The good one is promoted although the orchestrator is
//! killed on the way; the bad one and the one that Envoy refuses are taken back without anybody's help. Everything that was promised is
//! checked, and the report says so.

mod cohorts;
mod keep;
mod kinds;
mod mesh;
mod object;
mod outage;
mod policies;
mod refusals;
mod release;
mod report;
mod services;
mod submit;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use meshward_chassis::clock::{Clock as _, SystemClock};

pub use cohorts::Cohorts;
pub use kinds::kinds;
pub use mesh::{External, Mesh};
pub use outage::{Held, outage};
pub use report::{Check, ReleaseReport, Report, StepLine};

use crate::{
    load::{Load, LoadPlan},
    otlp::OtlpReceiver,
    tools::Tools,
};
use object::Snapshot;
use release::Release;
use services::Services;

/// How the demo runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// A cluster that is there already; `None` = the local stack is started.
    pub external: Option<External>,
    /// Folder of everything that is written; it must exist.
    pub dir: PathBuf,
    /// Folder of the five service programs.
    pub programs: PathBuf,
    /// Requests per second while the good version is released.
    pub rate: f64,
    /// How long each step is held.
    pub bake: Duration,
    /// Leave everything running after the report, until the runner is ended.
    pub keep: bool,
}

impl Options {
    /// Requests that each step must have had for its share to count: half of what rate and bake time bring, as the last
    /// look at the metrics may lag behind by a few seconds; at most 5,000.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
    fn enough(&self) -> u64 {
        (self.rate * self.bake.as_secs_f64() / 2.0).min(ENOUGH) as u64
    }
}

/// Requests per second while the other two are released.
const CALM: f64 = 100.0;
/// Requests on which a share is measured, unless rate and bake time allow fewer.
const ENOUGH: f64 = 5_000.0;
const SERVICES: [&str; 5] =
    ["mesh-gateway", "metrics-collector", "policy-registry", "rollout-orchestrator", "validator"];

/// A line of the live view.
pub fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

/// Runs it, tells the report, and with [`Options::keep`] leaves everything running until `hold`
/// ends, which is given the lines to paste. What does not hold is in the
/// report; an error is something that kept the demo from being run to its end.
///
/// # Errors
/// If a server cannot be started, or a service answers what the demo cannot go on with.
pub async fn run(
    options: Options,
    tools: &Tools,
    tell: impl Fn(&Report) -> anyhow::Result<()>,
    hold: impl AsyncFnOnce(&[String]),
) -> anyhow::Result<Report> {
    let began = Instant::now();
    std::fs::create_dir_all(options.dir.join("logs")).context("the folder of the logs")?;
    let traces = OtlpReceiver::start().await?;
    let mut mesh = Mesh::start(&options, tools).await.context("the mesh")?;
    say(format!(
        "mesh: ready after {:.1} s (logs in {})",
        began.elapsed().as_secs_f64(),
        options.dir.join("logs").display()
    ));
    let mut services = Services::start(&options, &mesh, &traces.endpoint(), tools).await.context("the services")?;
    mesh.scrape(&services.admin_addresses())?;
    say(format!("services: ready after {:.1} s", began.elapsed().as_secs_f64()));
    let ready = began.elapsed();

    let outcome = main_job(&options, &mesh, &mut services, &traces).await.map(|mut report| {
        report.seconds.start = ready.as_secs_f64();
        report.seconds.run = began.elapsed().as_secs_f64() - ready.as_secs_f64();
        report
    });
    let told = outcome.and_then(|report| tell(&report).map(|()| report));
    if options.keep && told.is_ok() {
        hold(&keep::print(&mesh, &services, tools)).await;
    }
    services.stop().await;
    mesh.stop().await;
    told
}

async fn main_job(
    options: &Options,
    mesh: &Mesh,
    services: &mut Services,
    traces: &OtlpReceiver,
) -> anyhow::Result<Report> {
    object::apply(mesh, &policies::stable()).await.context("the policy that is live before")?;
    let load = start_load(options, mesh)?;
    wait_for_version(&load, policies::STABLE).await?;
    let mut checks = Vec::new();
    say("\nWhat must not get through:");
    report::turned_away(&mut checks, refusals::try_all(services).await.context("bad input")?);

    // 1. A good change.
    load.mark("good")?;
    say(format!("\nA good change, at {} requests per second:", options.rate));
    let release = Release { name: "good", yaml: policies::good(), version: policies::GOOD, crash_at: Some(1) };
    let mut good = release.run(options, mesh, services, &load).await.context("the good change")?;
    load.mark("good at 100 %")?;
    wait_for_requests(&load, "good at 100 %", options.enough()).await?;
    load.mark("between")?;
    good.take_load(&load, &["good", "good at 100 %"]);
    good.last_share(&load, "good at 100 %", policies::GOOD);
    report::good(&mut checks, &good, options.enough(), &object::read(mesh).await?);

    // 2. A bad one.
    load.set_rate(CALM)?;
    let before = Snapshot::take(mesh).await?;
    load.mark("bad")?;
    say(format!("\nA bad change, at {CALM} requests per second:"));
    let release = Release { name: "bad", yaml: policies::bad(), version: policies::BAD, crash_at: None };
    let mut bad = release.run(options, mesh, services, &load).await.context("the bad change")?;
    load.mark("after bad")?;
    bad.take_load(&load, &["bad"]);
    report::rolled_back(&mut checks, &bad, &before.differences(&Snapshot::take(mesh).await?), "REGRESSION");

    // 3. One that Envoy refuses.
    load.mark("refused")?;
    say("\nA change that Envoy refuses:");
    let release = Release { name: "refused", yaml: policies::refused(), version: policies::REFUSED, crash_at: None };
    let mut refused = release.run(options, mesh, services, &load).await.context("the refused change")?;
    load.mark("after refused")?;
    refused.take_load(&load, &["refused"]);
    report::refused(&mut checks, &refused, &before.differences(&Snapshot::take(mesh).await?));

    let load = load.stop().await;
    let seen = traces.wait_for_services(&good.trace_id, &SERVICES, Duration::from_secs(15)).await;
    report::traced(&mut checks, &seen, &SERVICES);
    say(format!("\nThe trace {} of the good change:\n{}", good.trace_id, traces.render(&good.trace_id, 60)));
    Ok(Report::new(checks, [good, bad, refused], load))
}

fn start_load(options: &Options, mesh: &Mesh) -> anyhow::Result<Load> {
    let plan = LoadPlan {
        rate: options.rate,
        max_duration: Duration::from_secs(1800),
        version_header: policies::VERSION_HEADER.to_owned(),
        ..LoadPlan::new(format!("http://{}", mesh.entry()), mesh.host())
    };
    let clock = SystemClock;
    Ok(Load::start(plan, move || clock.now())?)
}

/// Waits until a phase has had so many requests.
async fn wait_for_requests(load: &Load, phase: &str, wanted: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while load.snapshot().phase(phase).is_some_and(|phase| phase.completed < wanted) {
        ensure!(Instant::now() < deadline, "{phase}: {wanted} requests did not come together");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Waits until every answer of a moment comes from a version.
async fn wait_for_version(load: &Load, version: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    for attempt in 0.. {
        let name = format!("warm-up {attempt}");
        load.mark(&name)?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let report = load.snapshot();
        let phase = report.phase(&name).context("the phase was just marked")?;
        if phase.completed > 0 && phase.failed == 0 && phase.share_of(version) == Some(1.0) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "version {version} does not answer through Envoy: {phase:?}");
    }
    unreachable!("the loop ends by its deadline")
}
