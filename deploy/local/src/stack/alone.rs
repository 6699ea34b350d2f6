//! An API server without a mesh, for what is only about Kubernetes: up in three seconds. With istiod beside it, it also
//! admits what a cluster with Istio admits.

use std::path::{Path, PathBuf};

use super::{GRACE, StackError, apiserver, error, etcd, istiod, mesh, objects};
use crate::{process::Process, tools::Tools};

/// etcd and a kube-apiserver with Istio's kinds and the namespaces of the demo mesh. Dropping it kills them.
pub struct ApiServer {
    etcd: Process,
    process: Process,
    istiod: Option<Process>,
    api: apiserver::Api,
}

impl ApiServer {
    /// Starts both in `dir`, a folder of their own that exists.
    ///
    /// # Errors
    /// [`StackError`]; whatever was started until then is ended.
    pub async fn start(dir: &Path, tools: &Tools) -> Result<Self, StackError> {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let logs = dir.join("logs");
        error::create_dir(&logs)?;
        let (etcd, etcd_url) = etcd::start(&dir.join("etcd"), tools, &logs).await?;
        let (process, api) = apiserver::start(&dir.join("apiserver"), tools, &logs, &etcd_url).await?;
        objects::create_namespaces(&api.client, &[istiod::NAMESPACE, mesh::NAMESPACE]).await?;
        objects::apply_crds(&api.client, &tools.crds).await?;
        Ok(Self { etcd, process, istiod: None, api })
    }

    /// The same with istiod, whose admission webhook the API server asks from then on.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub async fn start_with_istio(dir: &Path, tools: &Tools) -> Result<Self, StackError> {
        let mut server = Self::start(dir, tools).await?;
        let (istiod, _) = istiod::start(&dir.join("istiod"), tools, &dir.join("logs"), &server.api).await?;
        server.istiod = Some(istiod);
        Ok(server)
    }

    /// Gives it the Gateway API's gateways and their classes, where the definitions are installed.
    ///
    /// # Errors
    /// [`StackError`] when a definition is refused.
    pub async fn add_gateways(&self, tools: &Tools) -> Result<(), StackError> {
        objects::apply_definitions(&self.api.client, &objects::gateway_api(tools, &["gatewayclasses", "gateways"])?)
            .await
    }

    /// Ends all of it.
    pub async fn stop(self) {
        if let Some(istiod) = &self.istiod {
            istiod.stop(GRACE).await;
        }
        self.process.stop(GRACE).await;
        self.etcd.stop(GRACE).await;
    }

    /// A kubeconfig file with all rights.
    pub fn kubeconfig(&self) -> &Path {
        &self.api.kubeconfig
    }

    /// A client with all rights.
    pub fn client(&self) -> &kube::Client {
        &self.api.client
    }

    /// `https://127.0.0.1:PORT`; the certificate is signed by the authority in the kubeconfig file.
    pub fn url(&self) -> &str {
        &self.api.url
    }

    /// One JSON object a line, with the metadata of each request that was answered.
    pub fn audit_log(&self) -> PathBuf {
        self.api.audit_log.clone()
    }
}
