//! API servers without a mesh, gateways to them, and shorthands.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::Method;
use meshward_chassis::{
    auth::Role,
    testing::{Grant, TestIssuer},
};
use meshward_local::{stack::ApiServer, tools::Tools};
use serde_json::Value;
use tempfile::TempDir;

use super::world::{Gateway, PATIENCE};

pub struct Alone {
    issuer: TestIssuer,
    dir: TempDir,
    tools: Tools,
}

impl Alone {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let issuer = TestIssuer::new(dir.path()).expect("an issuer");
        Self { issuer, dir, tools: Tools::locate().expect("the tools") }
    }

    pub fn token(&self, role: Role) -> String {
        self.issuer.mint(&Grant::new("test", [role]))
    }

    pub fn token_within(&self, role: Role, namespace: &str) -> String {
        self.issuer.mint(&Grant::new("test", [role]).within([namespace]))
    }

    pub async fn server(&self, name: &str) -> ApiServer {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).expect("a folder");
        ApiServer::start(&dir, &self.tools).await.expect("an API server starts")
    }

    pub async fn add_gateways(&self, server: &ApiServer) {
        server.add_gateways(&self.tools).await.expect("the Gateway API's kinds");
    }

    pub async fn add_linkerds_kinds(&self, server: &ApiServer) {
        meshward_local::linkerd::install(server.client(), &self.tools).await.expect("Linkerd's kinds");
    }

    /// A gateway to the clusters of a file.
    pub async fn gateway_of_file(&self, clusters: &Value) -> Gateway {
        let file = self.file("clusters.yaml", &clusters.to_string());
        Gateway::start_with(&self.issuer, |args| args.clusters = Some(file)).await
    }

    /// A gateway to one cluster.
    pub async fn gateway(&self, kubeconfig: &Path) -> Gateway {
        Gateway::start(&self.issuer, kubeconfig, &[]).await
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    }
}

/// One request to an API server, as its administrator.
pub async fn ask(server: &ApiServer, method: Method, path: &str, body: &Value) -> Value {
    let kind = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(path).header("content-type", kind).body(body);
    server.client().request(request.expect("a request")).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Applies an object as a field manager.
pub async fn apply_as(server: &ApiServer, manager: &str, path: &str, object: &Value) -> Value {
    ask(server, Method::PATCH, &format!("{path}?fieldManager={manager}&force=true"), object).await
}

/// A kubeconfig for an API server with another address or token than the administrator's.
pub fn kubeconfig(server: &ApiServer, address: Option<&str>, token: Option<&str>) -> Value {
    server.kubeconfig_with(address, token).expect("a kubeconfig")
}

/// The token of a new account that may do nothing yet.
pub async fn account(server: &ApiServer, name: &str) -> String {
    server.account(name).await.expect("an account")
}

/// Lets an account do this everywhere, and nothing else.
pub async fn allow(server: &ApiServer, name: &str, rules: &Value) {
    server.allow(name, rules).await.expect("its rights");
}

/// Asks again until there is an answer; what is waited for comes by a watch, or by the API server's own view of roles.
pub async fn eventually<T, F, Fut>(what: &str, ask: F) -> T
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything that this process logs from now on, whoever logs it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn capture() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_global_default(subscriber).expect("nobody else captures");
        log
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
