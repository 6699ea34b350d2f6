//! The policy-registry process.

use std::process::ExitCode;

use clap::Parser as _;
use meshward_policy_registry::{NAME, build, config::Config};

fn main() -> ExitCode {
    let config = Config::parse();
    let args = config.server.clone();
    meshward_chassis::server::run(NAME, &args, |server| async move { build(&config, server).await })
}
