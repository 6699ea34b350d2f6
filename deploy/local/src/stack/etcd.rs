//! etcd: one member, without fsync, because what it holds lives no longer than the stack.

use std::path::Path;

use super::{READY, StackError, answers, error, free_address, http_client};
use crate::process::{Process, Program};
use crate::tools::Tools;

/// Starts etcd; returns it and its client URL.
pub(crate) async fn start(dir: &Path, tools: &Tools, logs: &Path) -> Result<(Process, String), StackError> {
    error::create_dir(dir)?;
    let client_url = format!("http://{}", free_address()?);
    let peer_url = format!("http://{}", free_address()?);
    let program = Program::new("etcd", &tools.control_plane).directory(dir).args([
        "etcd".to_owned(),
        "--name=local".to_owned(),
        format!("--data-dir={}", dir.join("data").display()),
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster=local={peer_url}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]);
    let http = http_client()?;
    let process = Process::start(program, logs).await?;
    let health = format!("{client_url}/health");
    process.ready(READY, || answers(&http, &health)).await?;
    Ok((process, client_url))
}
