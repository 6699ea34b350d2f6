//! Prometheus, which scrapes both sidecars and, once they are known, the services.
//!
//! Targets are read from files, so that they can be set while Prometheus runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::{READY, StackError, answers, error, free_address, http_client};
use crate::process::{Process, Program};
use crate::tools::Tools;

/// One address that Prometheus scrapes, with labels for all of its series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

impl Target {
    /// Plain HTTP at `address`; the path follows from the job (`/metrics` for services).
    pub fn new<N, V>(address: SocketAddr, labels: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { targets: [address.to_string()], labels }
    }
}

/// A running Prometheus.
#[derive(Debug)]
pub(super) struct Prometheus {
    pub url: String,
    services: PathBuf,
}

impl Prometheus {
    /// Replaces the targets of the job `meshward`.
    pub(super) fn set_services(&self, targets: &[Target]) -> Result<(), StackError> {
        write_targets(&self.services, targets)
    }
}

/// Starts Prometheus with the given sidecars as job `envoy`.
pub(super) async fn start(
    dir: &Path,
    tools: &Tools,
    logs: &Path,
    sidecars: &[Target],
) -> Result<(Process, Prometheus), StackError> {
    error::create_dir(dir)?;
    let (config, envoys, services) = (dir.join("prometheus.yml"), dir.join("envoys.json"), dir.join("services.json"));
    write_targets(&envoys, sidecars)?;
    write_targets(&services, &[])?;
    let job = |name: &str, path: &str, targets: &Path| {
        json!({
            "job_name": name,
            "metrics_path": path,
            "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}],
        })
    };
    let text = serde_yaml::to_string(&json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [job("envoy", "/stats/prometheus", &envoys), job("meshward", "/metrics", &services)],
    }))
    .map_err(|why| StackError::malformed("Prometheus's configuration", why))?;
    error::write(&config, text)?;

    let address = free_address()?;
    let program = Program::new("prometheus", &tools.prometheus).directory(dir).args([
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        format!("--web.listen-address={address}"),
        "--log.level=warn".to_owned(),
    ]);
    let http = http_client()?;
    let process = Process::start(program, logs).await?;
    let url = format!("http://{address}");
    let ready = format!("{url}/-/ready");
    process.ready(READY, || answers(&http, &ready)).await?;
    Ok((process, Prometheus { url, services }))
}

/// Prometheus watches the file: it must be whole at any moment, so it is written beside and moved over.
fn write_targets(file: &Path, targets: &[Target]) -> Result<(), StackError> {
    let text = serde_json::to_vec(targets).map_err(|why| StackError::malformed("Prometheus's targets", why))?;
    let part = file.with_extension("part");
    error::write(&part, text)?;
    std::fs::rename(&part, file).map_err(|source| StackError::File { path: file.to_owned(), source })
}
