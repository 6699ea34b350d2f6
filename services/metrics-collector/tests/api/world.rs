//! A collector in this process, in front of a source.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use jiff::Timestamp;
use meshward_chassis::{
    auth::Role,
    client::{PeerChannel, bearer, connect_lazy},
    clock::ManualClock,
    server::Server,
    testing::{Grant, Running, TestIssuer, spawn},
};
use meshward_local::process::Process;
pub use meshward_local::recorded::{Guard, Odd, prometheus};
use meshward_metrics_collector::{Args, SourceArgs, build, source::prometheus::ScopedFile};
use meshward_proto::{gateway::v1 as gateway, metrics::v1 as proto, types::v1 as types};
use proto::metrics_collector_service_client::MetricsCollectorServiceClient;
use tempfile::TempDir;
use tonic::{Request, Status};
use tonic_types::StatusExt;

use super::{
    history::{START, TICK, at},
    scripted::Listener,
};
use crate::PATIENCE;

/// What the collector asks.
pub enum Source {
    /// A real Prometheus with this history, as OpenMetrics text.
    Prometheus(String),
    /// A listener of ours.
    Listener(Listener),
    /// An address.
    Address(String),
}

/// What runs as long as it is asked.
#[derive(Default)]
struct Kept {
    address: String,
    prometheus: Option<Process>,
    _listener: Option<Listener>,
}

pub struct World {
    /// What the collector takes for now.
    pub clock: ManualClock,
    issuer: TestIssuer,
    running: Running,
    source: Kept,
    /// Last, so that it is removed when nobody writes there any more.
    _directory: TempDir,
}

impl World {
    pub async fn with(source: Source) -> Self {
        Self::with_args(source, |_, _| {}).await
    }

    pub async fn with_bearer(source: Source, token: &str) -> Self {
        let setup = |args: &mut Args, directory: &Path| {
            let file = directory.join("prometheus-token");
            std::fs::write(&file, format!("{token}\n")).expect("written");
            args.source.prometheus_bearer_file = vec![for_all(&file)];
        };
        Self::with_args(source, setup).await
    }

    /// With other flags; files may be put into the directory.
    pub async fn with_args(source: Source, setup: impl FnOnce(&mut Args, &Path)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let issuer = TestIssuer::new(directory.path()).expect("an issuer");
        // Prometheus has its own deadline elsewhere in these tests; listeners that never answer should not cost more.
        let query_timeout = if matches!(source, Source::Prometheus(_)) { PATIENCE } else { Duration::from_millis(500) };
        let (address, source) = match source {
            Source::Prometheus(history) => {
                let (address, process) = prometheus(directory.path(), &history, &Odd::default()).await;
                (address.clone(), Kept { address, prometheus: Some(process), ..Kept::default() })
            }
            Source::Listener(listener) => {
                (format!("http://{}", listener.addr), Kept { _listener: Some(listener), ..Kept::default() })
            }
            Source::Address(address) => (address, Kept::default()),
        };
        let mut args = args(&issuer, &address, query_timeout);
        setup(&mut args, directory.path());
        let clock = clock();
        let server = Server::new("metrics-collector", &args.server).await.expect("a server");
        let server = build(&args, Arc::new(clock.clone()), server).expect("a collector");
        Self { clock, issuer, running: spawn(server), source, _directory: directory }
    }

    pub fn client(&self) -> MetricsCollectorServiceClient<PeerChannel> {
        MetricsCollectorServiceClient::new(connect_lazy(&self.running.url()).expect("a URL"))
    }

    /// With the token of somebody who may view everything.
    pub fn request<T>(&self, message: T) -> Request<T> {
        self.request_of(&Grant::new("vera", [Role::Viewer]), message)
    }

    pub fn request_of<T>(&self, grant: &Grant, message: T) -> Request<T> {
        let mut request = Request::new(message);
        bearer(&mut request, &self.issuer.mint(grant)).expect("a token fits a header");
        request
    }

    pub async fn analyse(&self, request: proto::RunAnalysisRequest) -> Result<proto::Analysis, Status> {
        self.analyse_as(&Grant::new("vera", [Role::Viewer]), request).await
    }

    pub async fn analyse_as(
        &self,
        grant: &Grant,
        request: proto::RunAnalysisRequest,
    ) -> Result<proto::Analysis, Status> {
        self.alive();
        let (mut client, request) = (self.client(), self.request_of(grant, request));
        let reply = tokio::time::timeout(PATIENCE, client.run_analysis(request)).await.expect("no RPC hangs")?;
        Ok(reply.into_inner().analysis.expect("an answer holds an analysis"))
    }

    pub async fn traffic(
        &self,
        request: proto::GetTrafficMetricsRequest,
    ) -> Result<proto::GetTrafficMetricsResponse, Status> {
        let (mut client, request) = (self.client(), self.request(request));
        let reply = tokio::time::timeout(PATIENCE, client.get_traffic_metrics(request)).await.expect("no RPC hangs")?;
        Ok(reply.into_inner())
    }

    /// Begins the shutdown.
    pub fn begin_stop(&self) {
        self.running.begin_stop();
    }

    /// Suspends Prometheus, as an outage does: it takes connections and says nothing. `resume` ends it.
    pub fn suspend(&self, suspend: bool) {
        let signal = if suspend { "-STOP" } else { "-CONT" };
        let pid = self.source.prometheus.as_ref().expect("a real Prometheus").pid();
        let sent = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Where the real Prometheus listens.
    pub fn prometheus(&self) -> &str {
        &self.source.address
    }

    /// Range queries that Prometheus has answered, by its own count.
    pub async fn range_queries(&self) -> i64 {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let page = http.get(format!("{}/metrics", self.source.address)).send().await.expect("Prometheus answers");
        let text = page.text().await.expect("text");
        let counted = text.lines().filter(|line| {
            line.starts_with("prometheus_http_requests_total") && line.contains("handler=\"/api/v1/query_range\"")
        });
        counted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<i64>().ok()).sum()
    }

    /// What the collector shows under a name on `/metrics`: the sum of all series whose text contains `part`.
    pub async fn shown(&self, name: &str, part: &str) -> f64 {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let address = self.running.admin_addr.expect("an admin port");
        let page = http.get(format!("http://{address}/metrics")).send().await.expect("the collector answers");
        let text = page.text().await.expect("text");
        let series = text.lines().filter(|line| line.starts_with(name) && line.contains(part));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// The fields that a status complains about.
    pub fn fields(status: &Status) -> Vec<String> {
        let violations = status.get_details_bad_request().map(|details| details.field_violations);
        violations.into_iter().flatten().map(|violation| violation.field).collect()
    }

    fn alive(&self) {
        if let Some(prometheus) = &self.source.prometheus {
            prometheus.alive().expect("Prometheus runs");
        }
    }
}

fn args(issuer: &TestIssuer, prometheus: &str, query_timeout: Duration) -> Args {
    Args {
        server: issuer.server_args(),
        source: SourceArgs {
            prometheus: vec![prometheus.parse().expect("an address")],
            prometheus_bearer_file: Vec::new(),
            prometheus_basic_auth_file: Vec::new(),
            prometheus_ca_file: Vec::new(),
            prometheus_cert_file: Vec::new(),
            prometheus_key_file: Vec::new(),
            prometheus_header: Vec::new(),
            queries: None,
            // The histories of these tests have a point at the end of each tick.
            scrape_interval: Duration::ZERO,
            discovery_delay: Duration::ZERO,
            query_timeout,
        },
        query_cache: Duration::from_secs(1),
        kept_verdicts: 1000,
        kept_for: Duration::from_secs(3600),
    }
}

/// A file for every Prometheus.
pub fn for_all(file: &Path) -> ScopedFile {
    ScopedFile { cluster: None, path: file.to_owned() }
}

/// It stands at the end of the history.
fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_second(START + 20 * TICK).expect("in range"))
}

/// What a collector says that does not start with these flags.
pub async fn refused(setup: impl FnOnce(&mut Args, &Path)) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let issuer = TestIssuer::new(directory.path()).expect("an issuer");
    let mut args = args(&issuer, "http://127.0.0.1:1", PATIENCE);
    setup(&mut args, directory.path());
    let server = Server::new("metrics-collector", &args.server).await.expect("a server");
    match build(&args, Arc::new(clock()), server) {
        Ok(_) => panic!("it starts"),
        Err(why) => why.to_string(),
    }
}

/// The canary and the control of a service of the shop.
pub fn target(service: &str) -> gateway::MetricsTarget {
    gateway::MetricsTarget {
        mesh: types::Mesh::Istio.into(),
        mechanism: types::Mechanism::Request.into(),
        cluster: String::new(),
        hosts: vec![format!("{service}.shop.svc.cluster.local")],
        canary_series: "canary".to_owned(),
        control_series: "stable".to_owned(),
        ..Default::default()
    }
}

/// Judges a service over the whole history, with a tenth of the requests asked for.
pub fn analysis(service: &str) -> proto::RunAnalysisRequest {
    proto::RunAnalysisRequest {
        target: Some(target(service)),
        start_time: Some(at(0)),
        end_time: None,
        tick: None,
        periods: vec![proto::WeightPeriod { start_time: Some(at(0)), weight_bp: 1000 }],
        ..proto::RunAnalysisRequest::default()
    }
}

/// The traffic of a service in the `window` seconds before the end of a tick.
pub fn traffic(service: &str, tick: i64, window: i64) -> proto::GetTrafficMetricsRequest {
    proto::GetTrafficMetricsRequest {
        target: Some(target(service)),
        end_time: Some(at(tick)),
        window: Some(prost_types::Duration { seconds: window, nanos: 0 }),
    }
}
