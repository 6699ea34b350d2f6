//! The mesh-gateway process.

use std::process::ExitCode;

use clap::Parser as _;
use meshward_chassis::server;
use meshward_mesh_gateway::{Args, build};

fn main() -> ExitCode {
    let args = Args::parse();
    server::run("mesh-gateway", &args.server.clone(), |server| async move { build(&args, server).await })
}
