//! A pod that serves: what AuthorizationPolicies and the like are about.
//!
//! The demo needs none, so it is started only where a test asks for it. Its Envoy has an inbound listener from istiod,
//! with every filter that Istio puts there, and hands on what passes to a real server on this machine.

use std::net::SocketAddr;

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
    /// The `app` label of the pod, for selectors.
    pub const APP: &'static str = mesh::SERVER.app;

    /// Ends it, if need be by force.
    pub async fn stop(self) {
        self.process.stop(super::GRACE).await;
    }
}

impl Stack {
    /// Starts the one server of the mesh in front of `upstream`, an address on 127.0.0.1; returns when its listener
    /// is there.
    ///
    /// # Errors
    /// [`StackError`]; nothing is left running then.
    pub async fn start_server(&self, upstream: SocketAddr) -> Result<Server, StackError> {
        let ports = [mesh::SERVICE_PORT, envoy::ADMIN_PORT];
        let network = error::port(crate::ports::free_network(1, &ports))?;
        mesh::create_server(&self.api.client, upstream, network).await?;
        let (process, sidecar) =
            envoy::start(&mesh::SERVER, network, self.istiod.grpc, &self.dir, &self.tools, &self.logs()).await?;
        let proxy = format!("{}.{}", mesh::SERVER.pod, mesh::NAMESPACE);
        Ok(Server { process, proxy, ingress: sidecar.egress, admin_url: sidecar.admin_url })
    }
}
