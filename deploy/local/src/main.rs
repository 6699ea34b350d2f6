//! `meshward-demo`: runs the main job and says whether all of it held. Exit code 0 only then.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use meshward_local::{
    demo::{self, External, Options, Report},
    tools::Tools,
};
use tokio::signal::unix::{SignalKind, signal};

/// Releases three versions of a policy on a real mesh: a good one, a bad one, and one that Envoy refuses.
#[derive(Debug, Parser)]
#[command(name = "meshward-demo", version)]
struct Args {
    /// Writes the report as JSON too.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Leaves everything running after the report and prints lines to paste.
    #[arg(long)]
    keep: bool,

    /// Requests per second while the good version is released.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,

    /// How long each step is held, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    bake: u64,

    /// A cluster with Istio that is there already, instead of the local control plane.
    #[arg(long, requires_all = ["prometheus", "istiod", "entry"])]
    kubeconfig: Option<PathBuf>,

    /// With --kubeconfig: the Prometheus that scrapes its sidecars.
    #[arg(long, requires = "kubeconfig")]
    prometheus: Option<String>,

    /// With --kubeconfig: istiod's debug interface (port 15014).
    #[arg(long, requires = "kubeconfig")]
    istiod: Option<String>,

    /// With --kubeconfig: address of a sidecar or gateway that requests to checkout.shop can be sent to.
    #[arg(long, requires = "kubeconfig")]
    entry: Option<SocketAddr>,

    /// With --kubeconfig: the admin interface of that proxy, to count at Envoy itself.
    #[arg(long, requires = "kubeconfig")]
    envoy_admin: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(args)) {
        Ok(report) if report.ok => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("meshward-demo: {error:#}");
    ExitCode::FAILURE
}

async fn run(args: Args) -> anyhow::Result<Report> {
    // Set up before anything is started: from here on a signal ends everything in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let folder = tempfile::Builder::new().prefix("meshward-demo-").tempdir()?;
    let tools = if args.kubeconfig.is_some() { Tools::locate_for_cluster()? } else { Tools::locate()? };
    let programs = std::env::current_exe()?.parent().context("the program's folder")?.to_owned();
    let options = Options {
        external: external(&args),
        dir: folder.path().to_owned(),
        programs,
        rate: args.rate,
        bake: Duration::from_secs(args.bake),
        keep: args.keep,
    };
    let ended = tokio_util::sync::CancellationToken::new();
    let tell = |report: &Report| tell(report, args.report.as_deref());
    let job = demo::run(options, &tools, tell, async |_: &[String]| ended.cancelled().await);
    tokio::pin!(job);
    let signalled = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        report = &mut job => return report.inspect_err(|_| keep_logs(folder)),
        () = signalled => {}
    }
    if args.keep {
        // The report is out; what is left is to end everything in order.
        ended.cancel();
        return job.await;
    }
    anyhow::bail!("ended by a signal before the report")
}

fn external(args: &Args) -> Option<External> {
    Some(External {
        kubeconfig: args.kubeconfig.clone()?,
        prometheus: args.prometheus.clone()?,
        // As Prometheus comes.
        discovery_delay: Duration::from_secs(10),
        istiod: args.istiod.clone()?,
        entry: args.entry?,
        envoy_admin: args.envoy_admin.clone(),
    })
}

fn tell(report: &Report, file: Option<&std::path::Path>) -> anyhow::Result<()> {
    println!("{}", report.text());
    if let Some(file) = file {
        std::fs::write(file, serde_json::to_string_pretty(report)?).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// After a failure the logs are what one wants to read.
fn keep_logs(folder: tempfile::TempDir) {
    eprintln!("meshward-demo: the logs are kept in {}", folder.keep().join("logs").display());
}
