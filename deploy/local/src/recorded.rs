//! Prometheus with a history that a test has written: what a mesh would have counted, without a mesh that takes its time.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use meshward_chassis::server::install_crypto;

use crate::{
    ports,
    process::{Process, Program},
    tools::Tools,
};

/// Far more than a Prometheus takes to start.
const READY: Duration = Duration::from_secs(60);

/// A Prometheus that lets in who shows a certificate.
pub struct Guard {
    /// Its `--web.config.file`.
    pub web_config: PathBuf,
    /// Who is let in.
    pub client: reqwest::Client,
}

/// How a Prometheus differs from an ordinary one.
#[derive(Default)]
pub struct Odd {
    /// Who is let in; `None` = everybody.
    pub guard: Option<Guard>,
    /// Further flags.
    pub flags: Vec<String>,
    /// More of its configuration.
    pub config: String,
}

/// A Prometheus that knows this history (OpenMetrics text) and scrapes nothing: its address, and the process. Its files are put
/// into the directory.
///
/// # Panics
/// If it does not start, or does not take the history: this is for tests.
pub async fn prometheus(directory: &Path, history: &str, odd: &Odd) -> (String, Process) {
    install_crypto();
    let tools = Tools::locate().expect("the tools of the local stack");
    let (text, data, config) = ["history.txt", "data", "prometheus.yml"].map(|name| directory.join(name)).into();
    std::fs::write(&text, history).expect("written");
    std::fs::write(&config, format!("scrape_configs: []\n{}", odd.config)).expect("written");
    // The installed name is a link; its sibling is beside the real one.
    let promtool = tools.prometheus.canonicalize().expect("Prometheus is there").with_file_name("promtool");
    let made = Command::new(promtool).args(["tsdb", "create-blocks-from", "openmetrics"]).args([&text, &data]).output();
    let made = made.expect("promtool runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let port = ports::free(IpAddr::from([127, 0, 0, 1]), 1).expect("a free port")[0];
    let program = Program::new("prometheus", tools.prometheus).args([
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", data.display()),
        "--storage.tsdb.retention.time=100y".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ]);
    let guarded = odd.guard.iter().map(|guard| format!("--web.config.file={}", guard.web_config.display()));
    let program = program.args(guarded.chain(odd.flags.iter().cloned()));
    let process = Process::start(program, directory).await.expect("Prometheus starts");
    let address = format!("{}://127.0.0.1:{port}", if odd.guard.is_some() { "https" } else { "http" });
    let plain = || reqwest::Client::builder().no_proxy().build().expect("a client");
    let http = odd.guard.as_ref().map_or_else(plain, |guard| guard.client.clone());
    let ready = format!("{address}/-/ready");
    let check = || async {
        let reply = http.get(&ready).send().await.map_err(|error| error.to_string())?;
        reply.error_for_status().map(drop).map_err(|error| error.to_string())
    };
    process.ready(READY, check).await.expect("Prometheus is ready");
    (address, process)
}
