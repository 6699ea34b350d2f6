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
//! [`drift`] tells at once when somebody else changes an object meanwhile. [`newcomers`] labels pods that come during a
//! deployment. [`instances`] tells who a service is, [`objects`] what is there. [`cluster`] is the port to Kubernetes, [`clusters`] knows which there are. [`app`] puts these together; [`grpc`] is
//! the wire. The service has no store: what stood there before a deployment (the baseline) travels with every call, and
//! the fence is on the object itself.

pub mod app;
pub mod apply;
pub mod cluster;
pub mod clusters;
pub mod cohorts;
mod config;
pub mod dialect;
pub mod drift;
pub mod error;
pub mod grpc;
pub mod instances;
pub mod newcomers;
pub mod object;
pub mod objects;
pub mod proof;
pub mod rights;

use std::sync::Arc;

use meshward_chassis::{
    clock::SystemClock,
    server::{ConfigError, Server},
};
use meshward_proto::gateway::v1::mesh_gateway_service_server::MeshGatewayServiceServer;

pub use config::Args;

use crate::{
    app::Gateway,
    cluster::{KubeCluster, KubeOptions},
    clusters::{Addresses, Clusters, Member},
    grpc::Service,
};

/// Adds the service to a server.
///
/// # Errors
/// If the kubeconfig or the file of clusters cannot be used. No API server and no istiod need answer yet.
pub async fn build(args: &Args, server: Server) -> anyhow::Result<Server> {
    let clusters = match &args.clusters {
        Some(file) => clusters::from_file(file, args.cluster_timeout, &server).await?,
        None => Arc::new(one_cluster(args).await?),
    };
    let gateway = Gateway::new(Arc::clone(&clusters), Arc::new(SystemClock));
    let service =
        MeshGatewayServiceServer::new(Service::new(gateway, args.server.request_timeout, server.shutdown_token()))
            .max_decoding_message_size(server.max_message_bytes());
    let reachable = move || {
        let clusters = Arc::clone(&clusters);
        async move { clusters.ready().await }
    };
    Ok(server.add_service(service).ready_check("cluster", reachable))
}

/// The cluster of the flags.
async fn one_cluster(args: &Args) -> anyhow::Result<Clusters> {
    let options = KubeOptions { kubeconfig: args.kubeconfig.clone(), timeout: args.cluster_timeout };
    let cluster = KubeCluster::new(&options).await;
    let cluster = cluster.map_err(|error| ConfigError(format!("--kubeconfig: {error:#}")))?;
    let addresses = Addresses {
        istiod: args.istiod.clone(),
        linkerd_policy: args.linkerd_policy.clone(),
        linkerd_destination: args.linkerd_destination.clone(),
    };
    let member = Member::real(&args.cluster_name, cluster, &addresses);
    let clusters = Clusters::new(&args.cluster_name);
    clusters.put(
        member.map_err(|error| ConfigError(format!("--istiod, --linkerd-policy, --linkerd-destination: {error:#}")))?,
    );
    Ok(clusters)
}
