//! The rollout-orchestrator process: flags in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use meshward_rollout_orchestrator::{build, config::Config};

fn main() -> ExitCode {
    let config = Config::parse();
    let args = config.server.clone();
    meshward_chassis::server::run("rollout-orchestrator", &args, |server| build(server, config))
}
