//! Starts the local stack by hand, with three small upstream servers that answer with their own name, prints where
//! everything is, and ends it all at Ctrl-C:
//!
//! ```text
//! deploy/local/install stack && cargo run -p meshward-local --example stack
//! ```

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::http::{HeaderMap, Uri};
use meshward_local::stack::{Stack, StackOptions, Upstreams};
use meshward_local::tools::Tools;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let tools = Tools::locate()?;
    let folder = tempfile::Builder::new().prefix("meshward-stack-").tempdir()?;
    let upstreams = Upstreams {
        checkout: upstream("checkout").await?,
        checkout_next: upstream("checkout-next").await?,
        catalog: upstream("catalog").await?,
    };
    let started = std::time::Instant::now();
    let stack = tokio::select! {
        stack = Stack::start(StackOptions { dir: folder.path().to_owned(), tools, upstreams }) => stack?,
        signal = tokio::signal::ctrl_c() => return signal.context("Ctrl-C"),
    };
    println!("ready after {:.1} s", started.elapsed().as_secs_f32());
    print(&stack);
    tokio::signal::ctrl_c().await?;
    stack.stop().await;
    Ok(())
}

/// A server on a free port that answers every request with its name, the path and the request's headers.
async fn upstream(name: &'static str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = move |uri: Uri, headers: HeaderMap| async move { format!("{name} {uri}\n{headers:#?}\n") };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok(address)
}

fn print(stack: &Stack) {
    println!("kubeconfig     {}", stack.kubeconfig().display());
    println!("API server     {}", stack.apiserver_url());
    println!("audit log      {}", stack.audit_log().display());
    println!("istiod debug   {}/debug/syncz", stack.istiod_debug_url());
    println!("istiod gRPC    {}", stack.istiod_grpc());
    println!("istiod HTTP    {}", stack.istiod_http_url());
    println!("Prometheus     {}", stack.prometheus_url());
    println!("logs           {}", stack.logs().display());
    for sidecar in stack.sidecars() {
        let (app, egress) = (sidecar.caller.app, sidecar.egress);
        println!("{app:<14} http://{egress}  admin {}", sidecar.admin_url);
        println!("               curl -H 'Host: checkout.shop.svc.cluster.local' http://{egress}/");
    }
    for process in stack.processes() {
        println!("process        {:>7} {}", process.pid(), process.name());
    }
}
