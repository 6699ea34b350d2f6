//! The validator as a process.

use std::process::ExitCode;

use clap::Parser as _;
use meshward_chassis::server;
use meshward_validator::{build, config::Config};

fn main() -> ExitCode {
    let config = Config::parse();
    server::run("validator", &config.server.clone(), |server| async move { build(&config, server) })
}
