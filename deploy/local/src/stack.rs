//! The local stack: etcd, kube-apiserver, istiod, two Envoys and Prometheus as plain processes on loopback.
//!
//! Nothing is faked: the API server is Kubernetes' own with Istio's kinds and Istio's admission webhook, istiod is
//! Istio's, and each caller's sidecar is an Envoy that gets its routes from that istiod. What is missing is what the main
//! job does not need: kubelets and containers. Pods are objects without containers whose status names a loopback address,
//! and the Envoy that belongs to such a pod is started here, on that address.
//!
//! ```text
//!  etcd ── kube-apiserver ── istiod ──xDS──┬─ Envoy of storefront (127.a.b.1) ──┬─ checkout, checkout-next
//!                                          └─ Envoy of search     (127.a.b.2) ──┴─ catalog
//!                                                 Prometheus scrapes the Envoys of all pods and the services
//! ```
//!
//! All ports are free ones, all files are in one folder, and everything ends with the [`Stack`] or with the runner.

mod accounts;
mod admission;
mod alone;
pub(crate) mod apiserver;
mod discovery;
mod envoy;
pub(crate) mod error;
pub(crate) mod etcd;
mod istiod;
mod mesh;
mod nack;
pub(crate) mod objects;
mod prometheus;
mod server;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use alone::ApiServer;
pub use error::StackError;
pub use mesh::{CALLERS, Caller, NAMESPACE, SERVICE_PORT, Upstreams};
pub use nack::{ENVOY_REFUSAL, REGEX_THAT_ENVOY_REFUSES};
pub use prometheus::{DISCOVERY_DELAY, Target};
pub use server::Server;

use crate::process::Process;
use crate::tools::Tools;

/// How long each server may take to get ready; a hundred times what it takes on an idle machine.
const READY: Duration = Duration::from_secs(90);
/// How long a server may take to end by itself before it is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// What a stack is started with.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// A folder of the stack's own; everything that it writes is there. It must exist.
    pub dir: PathBuf,
    /// The programs.
    pub tools: Tools,
    /// Where the services of the demo mesh really listen; they need not listen yet.
    pub upstreams: Upstreams,
}

/// Where one caller's sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// The caller (its pod's name is [`Caller::pod`]).
    pub caller: &'static Caller,
    /// Where the caller sends its HTTP requests, in plain HTTP/1.1; the `Host` header chooses the service
    /// (`checkout.shop.svc.cluster.local` or `checkout`, with or without `:8080`).
    pub egress: SocketAddr,
    /// Envoy's admin interface, `http://IP:PORT` without a slash at the end.
    pub admin_url: String,
}

/// A running stack. Dropping it kills every process; [`Stack::stop`] ends them in order.
pub struct Stack {
    /// In the order in which they were started.
    processes: Vec<Process>,
    dir: PathBuf,
    tools: Tools,
    api: apiserver::Api,
    istiod: istiod::Addresses,
    sidecars: Vec<Sidecar>,
    prometheus: prometheus::Prometheus,
    /// Tells Prometheus of the pods.
    _discovery: discovery::Discovery,
}

impl Stack {
    /// Starts everything and returns when all of it is ready: each server answers, Istio's webhook refuses a bad object,
    /// and each Envoy has its listeners.
    ///
    /// # Errors
    /// [`StackError`]; whatever was started until then is ended.
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        // Both HTTP clients below need one; a second installation is refused, which is as good.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let StackOptions { dir, tools, upstreams } = options;
        let logs = dir.join("logs");
        error::create_dir(&logs)?;

        let network = error::port(crate::ports::free_network(2, &[SERVICE_PORT, envoy::ADMIN_PORT]))?;
        let prometheus_dir = dir.join("prometheus");
        let (control_plane, (process, prometheus)) = tokio::try_join!(
            ControlPlane::start(&dir, &tools, &logs, &upstreams, network),
            prometheus::start(&prometheus_dir, &tools, &logs),
        )?;
        let ControlPlane { mut processes, api, istiod } = control_plane;
        processes.push(process);
        let discovery = discovery::start(&api.client, prometheus.pods.clone());

        let mut sidecars = Vec::new();
        let workloads = mesh::CALLERS.each_ref().map(|caller| caller.workload(network));
        let started = workloads.iter().map(|workload| envoy::start(workload, istiod.grpc, &dir, &tools, &logs));
        for (caller, started) in mesh::CALLERS.iter().zip(futures::future::join_all(started).await) {
            let (process, envoy::Addresses { listener, admin_url }) = started?;
            processes.push(process);
            sidecars.push(Sidecar { caller, egress: listener, admin_url });
        }
        Ok(Self { processes, dir, tools, api, istiod, sidecars, prometheus, _discovery: discovery })
    }

    /// Ends every process in reverse order of its start; each is killed if it has not ended after 5 s.
    pub async fn stop(self) {
        for process in self.processes.iter().rev() {
            process.stop(GRACE).await;
        }
    }

    /// Succeeds while every process runs.
    ///
    /// # Errors
    /// Which one ended by itself, with the end of its log.
    pub fn alive(&self) -> Result<(), StackError> {
        self.processes.iter().try_for_each(Process::alive).map_err(StackError::from)
    }

    /// The processes, in the order in which they were started.
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// A kubeconfig file for the API server, with all rights.
    pub fn kubeconfig(&self) -> &Path {
        &self.api.kubeconfig
    }

    /// A client of the API server, with all rights.
    pub fn client(&self) -> &kube::Client {
        &self.api.client
    }

    /// The API server, `https://127.0.0.1:PORT`; its certificate is signed by the authority in the kubeconfig file.
    pub fn apiserver_url(&self) -> &str {
        &self.api.url
    }

    /// The API server's audit log: one JSON object a line, with the metadata of each request that was answered.
    pub fn audit_log(&self) -> &Path {
        &self.api.audit_log
    }

    /// istiod's debug interface (`/debug/syncz` and the others), `http://127.0.0.1:PORT`; 15014 in a cluster.
    pub fn istiod_debug_url(&self) -> String {
        format!("http://{}", self.istiod.monitoring)
    }

    /// istiod's plain-text xDS server; 15010 in a cluster.
    pub fn istiod_grpc(&self) -> SocketAddr {
        self.istiod.grpc
    }

    /// istiod's HTTP server (`/ready`), `http://127.0.0.1:PORT`; 8080 in a cluster.
    pub fn istiod_http_url(&self) -> String {
        format!("http://{}", self.istiod.http)
    }

    /// Prometheus, `http://127.0.0.1:PORT`.
    pub fn prometheus_url(&self) -> &str {
        &self.prometheus.url
    }

    /// Makes Prometheus scrape these as job `meshward` from its next look at its targets on (at once, as a rule).
    ///
    /// # Errors
    /// When the file of targets cannot be written.
    pub fn scrape(&self, targets: &[Target]) -> Result<(), StackError> {
        self.prometheus.set_services(targets)
    }

    /// The callers' sidecars, in the order of [`CALLERS`].
    pub fn sidecars(&self) -> &[Sidecar] {
        &self.sidecars
    }

    /// The sidecar of the caller that calls `checkout`, the policy's host.
    pub fn storefront(&self) -> &Sidecar {
        &self.sidecars[0]
    }

    /// The sidecar of the caller that is restricted to `catalog`, which a policy for `checkout` does not concern.
    pub fn search(&self) -> &Sidecar {
        &self.sidecars[1]
    }

    /// The folder with one log per process.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The definitions of Istio's kinds that the API server has: one YAML file of several documents.
    pub fn crds(&self) -> &Path {
        &self.tools.crds
    }
}

/// The first half of a stack: what a cluster with Istio would bring, with the demo mesh in it.
struct ControlPlane {
    processes: Vec<Process>,
    api: apiserver::Api,
    istiod: istiod::Addresses,
}

impl ControlPlane {
    async fn start(
        dir: &Path,
        tools: &Tools,
        logs: &Path,
        upstreams: &Upstreams,
        network: Ipv4Addr,
    ) -> Result<Self, StackError> {
        let (etcd, etcd_url) = etcd::start(&dir.join("etcd"), tools, logs).await?;
        let (apiserver, api) = apiserver::start(&dir.join("apiserver"), tools, logs, &etcd_url).await?;
        objects::create_namespaces(&api.client, &[istiod::NAMESPACE, NAMESPACE]).await?;
        objects::apply_crds(&api.client, &tools.crds).await?;
        // Before istiod starts, so that its first push holds all of it: later pushes are then about later changes only.
        mesh::create(&api.client, upstreams, network).await?;
        let (istiod, addresses) = istiod::start(&dir.join("istiod"), tools, logs, &api).await?;
        Ok(Self { processes: vec![etcd, apiserver, istiod], api, istiod: addresses })
    }
}

/// One free port on 127.0.0.1.
fn free_address() -> Result<SocketAddr, StackError> {
    let ports = error::port(crate::ports::free(Ipv4Addr::LOCALHOST.into(), 1))?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0])))
}

/// A readiness check: does `url` answer with success?
async fn answers(http: &reqwest::Client, url: &str) -> Result<(), String> {
    let reply = http.get(url).send().await.map_err(|error| format!("{url}: {error}"))?;
    if reply.status().is_success() { Ok(()) } else { Err(format!("{url}: {}", reply.status())) }
}

/// An HTTP client for readiness checks: past any proxy that the environment names, and with a deadline.
fn http_client() -> Result<reqwest::Client, StackError> {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().map_err(StackError::from)
}

#[cfg(test)]
mod tests;
