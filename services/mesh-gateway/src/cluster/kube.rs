//! A real cluster. Connection, TLS and credentials are kube's; requests are written here, because a JSON patch, the API
//! server's warnings and a bound on what is read are wanted and no types are.

mod answer;
mod events;
mod retry;
mod select;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Method, Request, Response, header};
use kube::{
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use meshward_model::Target;
use serde_json::{Value, json};
use tokio::sync::{RwLock, Semaphore, SemaphorePermit};

use super::{Changes, Cluster, ClusterError, Mode, Selected, Selection, Written};
use crate::object::FIELD_MANAGER;
use answer::Answer;

/// Requests that one API server gets from one gateway at once; the others wait, within their deadlines. The API server
/// gives a user a share of its own limits (600 at once by default), and answers 429 beyond it. Open watches do not count.
pub const MOST_AT_ONCE: usize = 32;

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct KubeOptions {
    /// The kubeconfig file; `None` = as kubectl would find it, or the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Longest time for one operation with all its retries.
    pub timeout: Duration,
}

/// A cluster behind a kube-apiserver.
pub struct KubeCluster {
    client: kube::Client,
    timeout: Duration,
    at_once: Semaphore,
    /// Plural names by API version and kind. The API server tells them once; they never change.
    plurals: RwLock<HashMap<(String, String), String>>,
}

/// One request, ready to be sent any number of times.
struct Call {
    verb: &'static str,
    resource: String,
    method: Method,
    path: String,
    accept: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
}

impl KubeCluster {
    /// Reads the configuration; the API server need not answer yet.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used.
    pub async fn new(options: &KubeOptions) -> anyhow::Result<Self> {
        let config = match &options.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file)?;
                kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
            }
            None => kube::Config::infer().await?,
        };
        Self::with_config(config, options.timeout)
    }

    /// With a configuration that was read already; `timeout` is [`KubeOptions::timeout`].
    ///
    /// # Errors
    /// If no client can be made of it.
    pub fn with_config(mut config: kube::Config, timeout: Duration) -> anyhow::Result<Self> {
        config.connect_timeout = Some(Duration::from_secs(3));
        // The client would try again beneath `retry`, without its bounds.
        config.default_retry = false;
        let client = kube::Client::try_from(config)?;
        Ok(Self { client, timeout, at_once: Semaphore::new(MOST_AT_ONCE), plurals: RwLock::default() })
    }

    async fn send(&self, call: &Call) -> Result<Answer, ClusterError> {
        retry::within(self.timeout, || self.send_once(call)).await
    }

    async fn send_once(&self, call: &Call) -> Result<Answer, retry::Failed> {
        let _place = self.place().await;
        let response = self.response(call).await?;
        answer::read(response, call.verb, &call.resource).await
    }

    /// A place among those that are asked at once; waits for one.
    async fn place(&self) -> SemaphorePermit<'_> {
        self.at_once.acquire().await.expect("the semaphore is never closed")
    }

    async fn response(&self, call: &Call) -> Result<Response<Body>, retry::Failed> {
        let request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(header::ACCEPT, call.accept)
            .header(header::CONTENT_TYPE, call.content_type)
            .body(Body::from(call.body.clone()))
            .map_err(|error| retry::Failed::for_good(ClusterError::Schema(error.to_string())))?;
        self.client.send(request).await.map_err(|error| retry::Failed::connection(&error))
    }

    async fn open_watch(&self, call: &Call) -> Result<Changes, retry::Failed> {
        let _place = self.place().await;
        Ok(events::read(self.events(call).await?))
    }

    async fn told_first(&self, call: &Call) -> Result<Vec<Value>, retry::Failed> {
        let _place = self.place().await;
        let told = events::first(self.events(call).await?).await;
        told.map_err(|error| retry::Failed::for_now(error.to_string(), None))
    }

    async fn events(&self, call: &Call) -> Result<Body, retry::Failed> {
        let response = self.response(call).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(match answer::read(response, call.verb, &call.resource).await {
            Err(failed) => failed,
            Ok(_) => {
                let why = format!("{} cannot be watched: the cluster does not serve them", call.resource);
                retry::Failed::for_good(ClusterError::Schema(why))
            }
        })
    }

    /// Where the target's kind is served: path and resource.
    async fn resource(&self, api_version: &str, kind: &str) -> Result<(String, String), ClusterError> {
        let plural = self.plural(api_version, kind).await?;
        let resource = match api_version.split_once('/') {
            Some((group, _)) => format!("{plural}.{group}"),
            None => plural.clone(),
        };
        Ok((plural, resource))
    }

    /// Where a kind lies, and what it is called: of one namespace, or of all (also if it has none).
    async fn kind(&self, api_version: &str, kind: &str, namespace: &str) -> Result<(String, String), ClusterError> {
        let (plural, resource) = self.resource(api_version, kind).await?;
        let root = root(api_version);
        let path = match namespace {
            "" => format!("{root}/{plural}"),
            namespace => format!("{root}/namespaces/{namespace}/{plural}"),
        };
        Ok((path, resource))
    }

    async fn plural(&self, api_version: &str, kind: &str) -> Result<String, ClusterError> {
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some(plural) = self.plurals.read().await.get(&key) {
            return Ok(plural.clone());
        }
        let not_served = || ClusterError::KindNotServed { api_version: api_version.to_owned(), kind: kind.to_owned() };
        let call = Call::get(root(api_version), "get", format!("the kinds of {api_version}"));
        let Answer::Found(Written { object: list, .. }) = self.send(&call).await? else { return Err(not_served()) };
        let kinds = list["resources"].as_array().map_or(&[][..], Vec::as_slice);
        let is_it = |entry: &&Value| entry["kind"] == kind && !entry["name"].as_str().unwrap_or("/").contains('/');
        let plural = kinds.iter().find(is_it).and_then(|entry| entry["name"].as_str()).ok_or_else(not_served)?;
        self.plurals.write().await.insert(key, plural.to_owned());
        Ok(plural.to_owned())
    }

    /// The call for one object; `query` begins with "?" or is empty.
    async fn on_object(&self, target: &Target, verb: &'static str, query: &str) -> Result<Call, ClusterError> {
        let (path, resource) = self.kind(&target.api_version, &target.kind, &target.namespace).await?;
        Ok(Call::get(format!("{path}/{}{query}", target.name), verb, resource))
    }
}

/// Where the kinds of a group and version lie.
fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}

impl Call {
    fn get(path: String, verb: &'static str, resource: String) -> Self {
        let (method, accept, content_type) = (Method::GET, "application/json", "application/json");
        Self { verb, resource, method, path, accept, content_type, body: Vec::new() }
    }

    fn with(self, method: Method, content_type: &'static str, body: &Value) -> Self {
        Self { method, content_type, body: body.to_string().into_bytes(), ..self }
    }
}

/// An object that a write found missing was removed in between.
fn must_exist(answer: Answer) -> Result<Written, ClusterError> {
    match answer {
        Answer::Found(written) => Ok(written),
        Answer::Missing(message) => Err(ClusterError::Conflict(message)),
    }
}

/// A write that makes the object finds only its namespace missing.
fn namespace_must_exist(answer: Answer) -> Result<Written, ClusterError> {
    match answer {
        Answer::Found(written) => Ok(written),
        Answer::Missing(message) => Err(ClusterError::Schema(message)),
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn get(&self, target: &Target) -> Result<Option<Value>, ClusterError> {
        let call = self.on_object(target, "get", "").await?;
        Ok(match self.send(&call).await? {
            Answer::Found(written) => Some(written.object),
            Answer::Missing(_) => None,
        })
    }

    async fn kind_of(&self, api_version: &str, kind: &str) -> Result<Selection, ClusterError> {
        let plural = self.plural(api_version, kind).await?;
        Ok(Selection::of(api_version.to_owned(), plural))
    }

    async fn watch(&self, selection: &Selection, after: &str) -> Result<Changes, ClusterError> {
        let call = select::watch(selection, after);
        retry::within(self.timeout, || self.open_watch(&call)).await
    }

    async fn now(&self, selection: &Selection) -> Result<Vec<Arc<Value>>, ClusterError> {
        let call = select::first(selection);
        match retry::within(self.timeout, || self.told_first(&call)).await {
            Ok(objects) => Ok(objects.into_iter().map(Arc::new).collect()),
            // One that cannot begin a watch with what there is.
            Err(ClusterError::Schema(why)) => {
                tracing::debug!(why, plural = &*selection.plural, "listed instead");
                Ok(self.select(selection).await?.objects)
            }
            Err(error) => Err(error),
        }
    }

    async fn select(&self, selection: &Selection) -> Result<Selected, ClusterError> {
        Ok(match self.send(&select::call(selection)).await? {
            Answer::Found(written) => select::page(written.object),
            Answer::Missing(_) => Selected::default(),
        })
    }

    async fn create(&self, target: &Target, object: &Value) -> Result<Value, ClusterError> {
        let (path, resource) = self.kind(&target.api_version, &target.kind, &target.namespace).await?;
        let query = format!("?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let call =
            Call::get(format!("{path}{query}"), "create", resource).with(Method::POST, "application/json", object);
        Ok(namespace_must_exist(self.send(&call).await?)?.object)
    }

    async fn apply(&self, target: &Target, object: &Value, mode: Mode) -> Result<Written, ClusterError> {
        let dry_run = if mode == Mode::DryRun { "&dryRun=All" } else { "" };
        let query = format!("?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict{dry_run}");
        let call = self.on_object(target, "patch", &query).await?;
        let call = call.with(Method::PATCH, "application/apply-patch+yaml", object);
        namespace_must_exist(self.send(&call).await?)
    }

    async fn patch(&self, target: &Target, operations: &Value) -> Result<Value, ClusterError> {
        let query = format!("?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let call = self.on_object(target, "patch", &query).await?;
        let call = call.with(Method::PATCH, "application/json-patch+json", operations);
        Ok(must_exist(self.send(&call).await?)?.object)
    }

    async fn delete(&self, target: &Target, uid: &str, resource_version: &str) -> Result<(), ClusterError> {
        let call = self.on_object(target, "delete", "").await?;
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        });
        self.send(&call.with(Method::DELETE, "application/json", &options)).await?;
        Ok(())
    }

    async fn version(&self) -> Result<String, ClusterError> {
        let call = Call::get("/version".to_owned(), "get", "the API server's version".to_owned());
        let answer = must_exist(self.send(&call).await?)?;
        Ok(answer.object["gitVersion"].as_str().unwrap_or_default().to_owned())
    }
}
