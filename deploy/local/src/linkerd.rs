//! Linkerd's side of a cluster, without Linkerd's programs: its kinds on a real kube-apiserver, and its policy stream.
//!
//! Linkerd's programs and definitions are in no package registry, so a test that needs them brings its own:
//!
//! | module | what it stands for |
//! |---|---|
//! | [`kinds`] | the definitions of Linkerd's kinds, generated from Rust types |
//! | [`controller`] | the policy controller: what each proxy is told, over the protocol that the proxies speak |
//!
//! [`Linkerd::start`] starts etcd and kube-apiserver with the definitions, and the controller beside them: no istiod, no
//! Envoys, no Prometheus. [`install`] brings the same to an API server that is there.

pub mod controller;
mod kinds;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use controller::Controller;

use crate::{
    process::Process,
    stack::{StackError, apiserver, error, etcd, objects},
    tools::Tools,
};

/// A cluster with Linkerd's kinds. Dropping it kills its processes; [`Linkerd::stop`] ends them in order.
pub struct Linkerd {
    processes: Vec<Process>,
    api: apiserver::Api,
    /// Its policy controller.
    pub controller: Controller,
}

impl Linkerd {
    /// Starts everything in a folder of its own, which must exist; returns when all of it is ready.
    ///
    /// # Errors
    /// [`StackError`]; whatever was started until then is ended.
    pub async fn start(dir: &Path, tools: &Tools) -> Result<Self, StackError> {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let logs = dir.join("logs");
        error::create_dir(&logs)?;
        let (etcd, etcd_url) = etcd::start(&dir.join("etcd"), tools, &logs).await?;
        let (apiserver, api) = apiserver::start(&dir.join("apiserver"), tools, &logs, &etcd_url).await?;
        install(&api.client, tools).await?;
        let controller = Controller::start(&api.client).await.map_err(StackError::Port)?;
        Ok(Self { processes: vec![etcd, apiserver], api, controller })
    }

    /// A kubeconfig file for the API server, with all rights.
    pub fn kubeconfig(&self) -> &Path {
        &self.api.kubeconfig
    }

    /// A client of the API server, with all rights.
    pub fn client(&self) -> &kube::Client {
        &self.api.client
    }

    /// The API server's audit log: one JSON object a line, with the metadata of each request that was answered.
    pub fn audit_log(&self) -> PathBuf {
        self.api.audit_log.clone()
    }

    /// Starts a controller on another port in the place of this one, whose port is closed from then on.
    ///
    /// # Errors
    /// When no port can be bound for the next one.
    pub async fn restart_controller(&mut self) -> Result<(), StackError> {
        let next = Controller::start(&self.api.client).await.map_err(StackError::Port)?;
        std::mem::replace(&mut self.controller, next).stop().await;
        Ok(())
    }

    /// Applies an object as somebody who is not Meshward.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(&self, object: &Value) -> Result<(), StackError> {
        objects::apply(&self.api.client, object).await
    }

    /// Makes a pod that nothing runs, with a proxy by its looks: what the controller and the gateway go by.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn pod(&self, namespace: &str, name: &str, labels: &Value, address: &str) -> Result<(), StackError> {
        self.pod_of(namespace, name, labels, address, "default").await
    }

    /// The same with another account.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn pod_of(
        &self,
        namespace: &str,
        name: &str,
        labels: &Value,
        address: &str,
        account: &str,
    ) -> Result<(), StackError> {
        let mut labels = labels.clone();
        labels["linkerd.io/control-plane-ns"] = "linkerd".into();
        let ports = json!([{"name": "http", "containerPort": 8080}]);
        let containers =
            json!([{"name": "app", "image": "none", "ports": ports}, {"name": "linkerd-proxy", "image": "none"}]);
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                         "spec": {"containers": containers, "serviceAccountName": account}});
        objects::apply(&self.api.client, &pod).await?;
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                            "conditions": [{"type": "Ready", "status": "True"}]});
        let metadata = json!({"name": name, "namespace": namespace});
        let status = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status});
        objects::apply_status(&self.api.client, &status).await
    }

    /// Makes namespaces.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn namespaces(&self, names: &[&str]) -> Result<(), StackError> {
        objects::create_namespaces(&self.api.client, names).await
    }

    /// Ends everything in reverse order of its start; each process is killed if it has not ended after 5 s.
    pub async fn stop(self) {
        self.controller.stop().await;
        for process in self.processes.iter().rev() {
            process.stop(crate::stack::GRACE).await;
        }
    }
}

/// Gives an API server Linkerd's kinds, and the Gateway API's routes where their definitions are installed.
///
/// # Errors
/// [`StackError`] when a definition is refused.
pub async fn install(client: &kube::Client, tools: &Tools) -> Result<(), StackError> {
    let mut definitions = kinds::definitions();
    definitions.extend(objects::gateway_api(tools, &["httproutes", "grpcroutes"])?);
    objects::apply_definitions(client, &definitions).await
}

#[cfg(test)]
mod tests;
