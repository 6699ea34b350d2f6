//! The mesh that the demo runs on: the local stack with two upstream servers, or a cluster that is there already.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;

use super::{Options, policies};
use crate::{
    stack::{DISCOVERY_DELAY, Stack, StackOptions, Target, Upstreams},
    tools::Tools,
    upstream::{Behaviour, Upstream, UpstreamConfig},
};

/// A cluster with Istio that is there already. It has the namespace `shop` with the Services `checkout` (healthy) and `checkout-next`
/// (failing), each answering with the header `x-upstream`, and no VirtualService for `checkout` that may not be replaced.
#[derive(Debug, Clone)]
pub struct External {
    /// Kubeconfig file of the cluster.
    pub kubeconfig: PathBuf,
    /// Prometheus that scrapes the sidecars.
    pub prometheus: String,
    /// How long that Prometheus may take to see a pod by a new label.
    pub discovery_delay: Duration,
    /// istiod's debug interface (port 15014), every replica.
    pub istiod: String,
    /// Sidecar or gateway through which requests to `checkout` go.
    pub entry: SocketAddr,
    /// That proxy's admin interface; without it the share is the one that Prometheus shows.
    pub envoy_admin: Option<String>,
}

/// Where everything is.
pub struct Mesh {
    place: External,
    client: kube::Client,
    local: Option<Local>,
}

/// What is ended with the demo.
struct Local {
    stack: Stack,
    upstreams: [Upstream; 3],
}

impl Mesh {
    /// Starts the local stack, or connects to the cluster that was named.
    ///
    /// # Errors
    /// If a server does not get ready, or the cluster does not answer.
    pub async fn start(options: &Options, tools: &Tools) -> anyhow::Result<Self> {
        if let Some(place) = options.external.clone() {
            let client = connect(&place).await.context("--kubeconfig")?;
            return Ok(Self { place, client, local: None });
        }
        let upstreams = [
            upstream("checkout", Behaviour::Healthy).await?,
            upstream("checkout-next", Behaviour::Failing { probability: 1.0 }).await?,
            upstream("catalog", Behaviour::Healthy).await?,
        ];
        let addresses = Upstreams {
            checkout: upstreams[0].address(),
            checkout_next: upstreams[1].address(),
            catalog: upstreams[2].address(),
        };
        let stack =
            Stack::start(StackOptions { dir: options.dir.clone(), tools: tools.clone(), upstreams: addresses }).await?;
        stack.install_admission().await?;
        let place = External {
            kubeconfig: stack.kubeconfig().to_owned(),
            prometheus: stack.prometheus_url().to_owned(),
            discovery_delay: DISCOVERY_DELAY,
            istiod: stack.istiod_debug_url(),
            entry: stack.storefront().egress,
            envoy_admin: Some(stack.storefront().admin_url.clone()),
        };
        Ok(Self { place, client: stack.client().clone(), local: Some(Local { stack, upstreams }) })
    }

    /// Where everything is.
    #[must_use]
    pub fn place(&self) -> &External {
        &self.place
    }

    /// A client of the API server.
    #[must_use]
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// The proxy that requests are sent to.
    #[must_use]
    pub fn entry(&self) -> SocketAddr {
        self.place.entry
    }

    /// The `Host` of the requests.
    #[must_use]
    pub fn host(&self) -> String {
        policies::host()
    }

    /// Has the services scraped, where Prometheus is ours.
    ///
    /// # Errors
    /// If its file of targets cannot be written.
    pub fn scrape(&mut self, services: &[(&'static str, SocketAddr)]) -> anyhow::Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let targets: Vec<_> =
            services.iter().map(|(name, address)| Target::new(*address, [("service", *name)])).collect();
        Ok(local.stack.scrape(&targets)?)
    }

    /// Ends what was started.
    pub async fn stop(self) {
        let Some(Local { stack, upstreams }) = self.local else { return };
        stack.stop().await;
        for upstream in upstreams {
            upstream.stop().await;
        }
    }
}

async fn upstream(name: &str, behaviour: Behaviour) -> anyhow::Result<Upstream> {
    Ok(Upstream::start(UpstreamConfig { behaviour, ..UpstreamConfig::new(name) }).await?)
}

async fn connect(place: &External) -> anyhow::Result<kube::Client> {
    let file = kube::config::Kubeconfig::read_from(&place.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    client.apiserver_version().await?;
    Ok(client)
}
