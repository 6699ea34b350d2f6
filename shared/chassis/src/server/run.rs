//! A whole process from flags to exit code.

use std::{future::Future, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigError, Server, ServerArgs};
use crate::telemetry;

const EXIT_CONFIG: u8 = 2;

/// Runs a service: crypto provider, telemetry, listeners, `build` (which adds the services), then serve until SIGTERM
/// or Ctrl-C, drain and flush. Exits with 0, with 2 and one line if the configuration cannot be used ([`ConfigError`]
/// anywhere in the error's chain), with 1 on any other error.
pub fn run<F, Fut>(name: &'static str, args: &ServerArgs, build: F) -> ExitCode
where
    F: FnOnce(Server) -> Fut,
    Fut: Future<Output = anyhow::Result<Server>>,
{
    install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(name, &error.into()),
    };
    match runtime.block_on(live(name, args, build)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(name, &error),
    }
}

async fn live<F, Fut>(name: &str, args: &ServerArgs, build: F) -> anyhow::Result<()>
where
    F: FnOnce(Server) -> Fut,
    Fut: Future<Output = anyhow::Result<Server>>,
{
    let telemetry = telemetry::init(name, &args.telemetry).map_err(ConfigError)?;
    let outcome = async {
        let mut terminate = signal(SignalKind::terminate())?;
        let server = build(Server::new(name, args).await?).await?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        server.serve(stop).await?;
        anyhow::Ok(())
    };
    let outcome = outcome.await;
    tokio::task::spawn_blocking(|| telemetry.flush()).await?;
    outcome
}

fn fail(name: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{name}: {error:#}");
    if error.chain().any(<dyn std::error::Error>::is::<ConfigError>) { EXIT_CONFIG.into() } else { ExitCode::FAILURE }
}

/// Makes aws-lc-rs the process's TLS provider. Anything that was installed before stays. Servers do it themselves; a
/// program that is only a client calls it before its first connection.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
