//! mesh-gateway: everything of Meshward that touches a cluster.
//!
//! A deployment asks four things of it, over and over, and each can be asked again after any crash:
//!
//! 1. **Plan**: how would this version be exposed to 10, 30, 50 % of the traffic? [`dialect`] answers from the live object
//!    and the new one, purely: a mechanism, the exact objects, what is not covered, or why it cannot be done.
//! 2. **Apply**: make the cluster look like this. [`apply`] reads the live object, decides whether this writer may still
//!    write, and makes one fenced write, or none.
//! 3. **Verify**: is it live? [`proof`] asks the control plane what each proxy acknowledged, and never takes silence for
//!    yes.
//! 4. **Restore**: put back what was there, byte for byte.
//!
//! [`instances`] tells who a service is. [`cluster`] is the port to Kubernetes. [`app`] puts these together; [`grpc`] is
//! the wire. The service has no store: what stood there before a deployment (the baseline) travels with every call, and
//! the fence is on the object itself.

pub mod app;
pub mod apply;
pub mod cluster;
pub mod cohorts;
mod config;
pub mod dialect;
pub mod error;
pub mod grpc;
pub mod instances;
pub mod object;
pub mod proof;

use std::sync::Arc;

use meshward_chassis::{
    clock::SystemClock,
    server::{ConfigError, Server},
};
use meshward_proto::gateway::v1::mesh_gateway_service_server::MeshGatewayServiceServer;

pub use config::Args;

use crate::{
    app::Gateway,
    cluster::{CacheOptions, Cached, Cluster as _, KubeCluster, KubeOptions},
    grpc::Service,
    proof::{Istiod, Linkerd, Planes},
};

/// Adds the service to a server.
///
/// # Errors
/// If the kubeconfig cannot be used. Neither the API server nor istiod need answer yet.
pub async fn build(args: &Args, server: Server) -> anyhow::Result<Server> {
    let options = KubeOptions { kubeconfig: args.kubeconfig.clone(), timeout: args.cluster_timeout };
    let cluster = KubeCluster::new(&options).await;
    let cluster = Arc::new(cluster.map_err(|error| ConfigError(format!("--kubeconfig: {error:#}")))?);
    let linkerd = Linkerd::new(&args.linkerd_policy, &args.linkerd_destination, Arc::clone(&cluster) as _);
    let linkerd = linkerd.map_err(|error| ConfigError(format!("--linkerd-policy, --linkerd-destination: {error}")))?;
    let plane = Arc::new(Planes { istio: Istiod::new(&args.istiod)?, linkerd });
    let cached = Arc::new(Cached::new(Arc::clone(&cluster) as _, CacheOptions::default()));
    let gateway = Gateway::new(&args.cluster_name, cached, plane, Arc::new(SystemClock));
    let service = MeshGatewayServiceServer::new(Service::new(gateway, args.server.request_timeout))
        .max_decoding_message_size(server.max_message_bytes());
    let reachable = move || {
        let cluster = Arc::clone(&cluster);
        async move { cluster.version().await.map(drop).map_err(|error| error.to_string()) }
    };
    Ok(server.add_service(service).ready_check("cluster", reachable))
}
