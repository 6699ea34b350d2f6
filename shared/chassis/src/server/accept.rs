//! Our own accept loop.
//!
//! A stock server waits on shutdown for a TCP connection that never said a word, a port probe for instance. Here a
//! connection first has to show an HTTP request line or the HTTP/2 preface, within a deadline and only while the server
//! runs; then hyper takes over with limits on streams, headers, resets and idle time.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ServerArgs;

/// How much later than `--drain-timeout` the process gives up on everything.
pub(super) const HARD_STOP_MARGIN: Duration = Duration::from_secs(1);

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PEEK_PAUSE: Duration = Duration::from_millis(20);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_STREAMS: u32 = 200;
const MAX_HEADER_BYTES: u32 = 32 * 1024;
const MAX_PENDING_RESETS: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Accepts connections and serves `app` on them.
pub(super) struct Acceptor {
    app: Router,
    http: Builder<TokioExecutor>,
    connections: Arc<Semaphore>,
    preface_timeout: Duration,
    drain_timeout: Duration,
}

impl Acceptor {
    pub(super) fn new(args: &ServerArgs, app: Router) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(args.preface_timeout).max_buf_size(64 * 1024);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
        Self {
            app,
            http,
            connections: Arc::new(Semaphore::new(args.max_connections.min(Semaphore::MAX_PERMITS))),
            preface_timeout: args.preface_timeout,
            drain_timeout: args.drain_timeout,
        }
    }

    /// Runs until `stop` fires and all connections have ended or were cut.
    pub(super) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let this = Arc::new(self);
        let cut = CancellationToken::new();
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted.inspect_err(|error| tracing::warn!(%error, "accept failed")) else {
                // Out of file descriptors, most likely: give others the time to close.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&this.connections).try_acquire_owned() else {
                tracing::warn!("a connection is refused: the limit is reached");
                continue;
            };
            let (this, stop, cut) = (Arc::clone(&this), stop.clone(), cut.clone());
            tasks.spawn(async move {
                let _permit = permit;
                cut.run_until_cancelled(this.connection(stream, stop)).await;
            });
        }
        drop(listener);
        tasks.close();
        if tokio::time::timeout(this.drain_timeout, tasks.wait()).await.is_err() {
            tracing::warn!(open = tasks.len(), "connections are cut after --drain-timeout");
            cut.cancel();
            tasks.wait().await;
        }
    }

    async fn connection(&self, stream: TcpStream, stop: CancellationToken) {
        let speaks = tokio::time::timeout(self.preface_timeout, speaks_http(&stream));
        let speaks = stop.run_until_cancelled(speaks).await;
        if !matches!(speaks, Some(Ok(true))) {
            return;
        }
        // Small frames must not wait for the peer's acknowledgement; without it only latency suffers.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(self.app.clone());
        let mut serving = std::pin::pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error, "a connection ended early");
        }
    }
}

/// Waits, without taking anything, until the peer has sent something that is not a mere beginning of the HTTP/2
/// preface. `false` if it closed first.
async fn speaks_http(stream: &TcpStream) -> bool {
    let mut seen = [0; HTTP2_PREFACE.len()];
    loop {
        match stream.peek(&mut seen).await {
            Ok(0) | Err(_) => return false,
            Ok(n) if n < seen.len() && HTTP2_PREFACE.starts_with(&seen[..n]) => tokio::time::sleep(PEEK_PAUSE).await,
            Ok(_) => return true,
        }
    }
}
