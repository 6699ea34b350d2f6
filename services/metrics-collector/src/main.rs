//! The process; everything is in the library.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use meshward_chassis::{clock::SystemClock, server};
use meshward_metrics_collector::{Args, build};

fn main() -> ExitCode {
    let args = Args::parse();
    let server_args = args.server.clone();
    server::run("metrics-collector", &server_args, async move |server| Ok(build(&args, Arc::new(SystemClock), server)?))
}
