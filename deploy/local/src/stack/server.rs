//! A pod that serves: what AuthorizationPolicies and the like are about.
//!
//! The demo needs none, so it is started only where a test asks for it. Its Envoy has an inbound listener from istiod,
//! with every filter that Istio puts there, and hands on what passes to a real server on this machine.

use std::net::SocketAddr;
use std::ops::Range;

use super::{Stack, StackError, envoy, error, mesh};
use crate::process::Process;

/// A server's sidecar; ends with this value.
pub struct Server {
    process: Process,
    /// The proxy's name as istiod and mesh-gateway say it.
    pub proxy: String,
    /// Where it takes requests for the server, in plain HTTP/1.1.
    pub ingress: SocketAddr,
    /// Envoy's admin interface, `http://IP:PORT` without a slash at the end.
    pub admin_url: String,
}

impl Server {
    /// The `app` label of the pod that [`Stack::start_server`] starts, for selectors.
    pub const APP: &'static str = "ledger";

    /// Ends it, if need be by force.
    pub async fn stop(self) {
        self.process.stop(super::GRACE).await;
    }
}

impl Stack {
    /// Starts one server in front of `upstream`, an address on 127.0.0.1; returns when its listener is there.
    ///
    /// # Errors
    /// [`StackError`]; nothing is left running then.
    pub async fn start_server(&self, upstream: SocketAddr) -> Result<Server, StackError> {
        let mut servers = self.start_servers(Server::APP, 0..1, upstream).await?;
        Ok(servers.remove(0))
    }

    /// Starts the pods `APP-NUMBER` of a service, all in front of `upstream`; returns when their listeners are there.
    ///
    /// # Errors
    /// [`StackError`]; nothing is left running then.
    pub async fn start_servers(
        &self,
        app: &str,
        numbers: Range<u8>,
        upstream: SocketAddr,
    ) -> Result<Vec<Server>, StackError> {
        let ports = [mesh::SERVICE_PORT, envoy::ADMIN_PORT];
        let count = numbers.end - numbers.start;
        let network = error::port(crate::ports::free_network(count, &ports))?;
        let hosts = numbers.zip(1..);
        let workloads: Vec<_> =
            hosts.map(|(number, host)| mesh::Workload::server(app, number, network, host)).collect();
        let started = workloads.iter().map(|workload| self.start_one(workload, upstream));
        futures::future::try_join_all(started).await
    }

    async fn start_one(&self, workload: &mesh::Workload, upstream: SocketAddr) -> Result<Server, StackError> {
        mesh::create_server(&self.api.client, upstream, workload).await?;
        let logs = self.logs();
        let started = envoy::start(workload, self.istiod.grpc, &self.dir, &self.tools, &logs).await?;
        let (process, envoy::Addresses { listener, admin_url }) = started;
        Ok(Server { process, proxy: format!("{}.{}", workload.pod, mesh::NAMESPACE), ingress: listener, admin_url })
    }
}
