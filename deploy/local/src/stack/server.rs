//! Pods that serve: what AuthorizationPolicies and the like are about; and pods of a gateway.
//!
//! The demo needs none, so it is started only where a test asks for it. Its Envoy has an inbound listener from istiod,
//! with every filter that Istio puts there, and hands on what passes to a real server on this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use super::{Stack, StackError, envoy, error, mesh};
use crate::process::Process;

/// A server's proxy; ends with this value.
pub struct Server {
    process: Process,
    /// The proxy's name as istiod and mesh-gateway say it.
    pub proxy: String,
    /// Where it takes requests, in plain HTTP/1.1.
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
        let workloads = workloads(app, numbers)?;
        let start = async |workload| {
            mesh::create_server(&self.api.client, upstream, workload).await?;
            self.start_one(workload).await
        };
        futures::future::try_join_all(workloads.iter().map(start)).await
    }

    /// Starts the pods `APP-NUMBER` of a gateway; returns when their listeners are there.
    ///
    /// A Gateway that selects the app must be there, with a server of HTTP on [`mesh::SERVICE_PORT`] that binds to
    /// 127.0.0.1. Each pod has a port of its own for it, as the named port of a container that a Service refers to.
    ///
    /// # Errors
    /// [`StackError`]; nothing is left running then.
    pub async fn start_gateways(&self, app: &str, numbers: Range<u8>) -> Result<Vec<Server>, StackError> {
        let mut workloads = workloads(app, numbers)?;
        let ports = error::port(crate::ports::free(Ipv4Addr::LOCALHOST.into(), workloads.len()))?;
        for (workload, port) in workloads.iter_mut().zip(ports) {
            workload.gateway_port = Some(port);
        }
        let start = async |workload| {
            mesh::create_gateway(&self.api.client, workload).await?;
            self.start_one(workload).await
        };
        futures::future::try_join_all(workloads.iter().map(start)).await
    }

    async fn start_one(&self, workload: &mesh::Workload) -> Result<Server, StackError> {
        let logs = self.logs();
        let started = envoy::start(workload, self.istiod.grpc, &self.dir, &self.tools, &logs).await?;
        let (process, envoy::Addresses { listener, admin_url }) = started;
        Ok(Server { process, proxy: format!("{}.{}", workload.pod, mesh::NAMESPACE), ingress: listener, admin_url })
    }
}

/// Pods of an app on addresses where nothing else listens.
fn workloads(app: &str, numbers: Range<u8>) -> Result<Vec<mesh::Workload>, StackError> {
    let ports = [mesh::SERVICE_PORT, envoy::ADMIN_PORT];
    let network = error::port(crate::ports::free_network(numbers.end - numbers.start, &ports))?;
    Ok(numbers.zip(1..).map(|(number, host)| mesh::Workload::numbered(app, number, network, host)).collect())
}
