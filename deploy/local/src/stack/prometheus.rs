//! Prometheus, which scrapes the sidecars of all pods ([`discovery`](super::discovery)) and, once they are known, the services.
//!
//! Targets are read from files, so that they can be set while Prometheus runs. It knows of a change within
//! [`DISCOVERY_DELAY`]: what was discovered is handed on every 5 s (which is fixed), and looked at every second here, every
//! 5 s as Prometheus comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{READY, StackError, answers, error, free_address, http_client};
use crate::process::{Process, Program};
use crate::tools::Tools;

/// How long it may take until Prometheus sees a pod by a new label.
pub const DISCOVERY_DELAY: Duration = Duration::from_secs(6);

/// One address that Prometheus scrapes, with labels for all of its series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

impl Target {
    /// An address without a port, with labels of its own.
    pub(super) fn at(address: String, labels: BTreeMap<String, String>) -> Self {
        Self { targets: [address], labels }
    }

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
    /// Where it reads of pods.
    pub pods: PathBuf,
    services: PathBuf,
}

impl Prometheus {
    /// Replaces the targets of the job `meshward`.
    pub(super) fn set_services(&self, targets: &[Target]) -> Result<(), StackError> {
        write_targets(&self.services, targets)
    }
}

/// Starts Prometheus without any targets.
pub(super) async fn start(dir: &Path, tools: &Tools, logs: &Path) -> Result<(Process, Prometheus), StackError> {
    error::create_dir(dir)?;
    let (config, pods, services) = (dir.join("prometheus.yml"), dir.join("pods.json"), dir.join("services.json"));
    write_targets(&pods, &[])?;
    write_targets(&services, &[])?;
    let job = |name: &str, targets: &Path, relabelling: Value| {
        json!({
            "job_name": name,
            "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}],
            "relabel_configs": relabelling,
        })
    };
    let text = serde_yaml::to_string(&json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [job("kubernetes-pods", &pods, pods_relabelled()), job("meshward", &services, json!([]))],
    }))
    .map_err(|why| StackError::malformed("Prometheus's configuration", why))?;
    error::write(&config, text)?;

    let address = free_address()?;
    let program = Program::new("prometheus", &tools.prometheus).directory(dir).args([
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        format!("--web.listen-address={address}"),
        "--scrape.discovery-reload-interval=1s".to_owned(),
        "--log.level=warn".to_owned(),
    ]);
    let http = http_client()?;
    let process = Process::start(program, logs).await?;
    let url = format!("http://{address}");
    let ready = format!("{url}/-/ready");
    process.ready(READY, || answers(&http, &ready)).await?;
    Ok((process, Prometheus { url, pods, services }))
}

/// The rules for pods in Istio's sample configuration: where a pod's annotations say, and with all of its labels.
fn pods_relabelled() -> Value {
    let meta = |name: &str| format!("__meta_kubernetes_{name}");
    let replace = |from: &str, to: &str| json!({"source_labels": [meta(from)], "target_label": to});
    json!([
        {"action": "keep", "source_labels": [meta("pod_annotation_prometheus_io_scrape")], "regex": "true"},
        {"action": "replace", "source_labels": [meta("pod_annotation_prometheus_io_path")], "regex": "(.+)",
         "target_label": "__metrics_path__"},
        {"action": "replace", "source_labels": [meta("pod_annotation_prometheus_io_port"), meta("pod_ip")],
         "regex": r"(\d+);((([0-9]+?)(\.|$)){4})", "replacement": "$2:$1", "target_label": "__address__"},
        {"action": "labelmap", "regex": meta("pod_label_(.+)")},
        replace("namespace", "namespace"),
        replace("pod_name", "pod"),
        {"action": "drop", "source_labels": [meta("pod_phase")], "regex": "Pending|Succeeded|Failed|Completed"},
    ])
}

/// Prometheus watches the file: it must be whole at any moment, so it is written beside and moved over.
pub(super) fn write_targets(file: &Path, targets: &[Target]) -> Result<(), StackError> {
    let text = serde_json::to_vec(targets).map_err(|why| StackError::malformed("Prometheus's targets", why))?;
    let part = file.with_extension("part");
    error::write(&part, text)?;
    std::fs::rename(&part, file).map_err(|source| StackError::File { path: file.to_owned(), source })
}
