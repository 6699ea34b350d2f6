//! The small HTTP/1.1 server that stands behind Envoy in the demo: the thing that a policy routes to.
//!
//! It names itself in every answer (`x-upstream`), and that is how the load generator tells an answer of the
//! application from one that Envoy made up itself. How it behaves can be changed while it runs, from our own code
//! ([`Upstream::set_behaviour`]) or, for people who keep the stack running, by HTTP:
//! `curl -X PUT http://ADDRESS/__behaviour -d '{"mode":"failing","probability":0.5}'`.
//!
//! There is no idle timeout on purpose. Envoy keeps its connections open, and an upstream that closes one just as
//! Envoy picks it makes a 503 that says nothing about the policy under test.

mod behaviour;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use behaviour::{Behaviour, BehaviourError, MAX_DELAY_MS};
use behaviour::{Dice, Fate};

/// The response header in which an upstream says its name.
pub const UPSTREAM_HEADER: &str = "x-upstream";
/// The path on which `GET` tells and `PUT` changes the behaviour.
pub const BEHAVIOUR_PATH: &str = "/__behaviour";
/// How long a stop waits for answers under way before it cuts the connections.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// The largest control request, in bytes.
const MAX_CONTROL_BODY: usize = 4096;

/// How an upstream is started.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// What it calls itself in `x-upstream` and in the body.
    pub name: String,
    /// Where it listens: a loopback address (its control surface asks for no token), port 0 for any free one.
    pub listen: SocketAddr,
    /// How it behaves at first.
    pub behaviour: Behaviour,
    /// Where its sequence of chances begins; the same seed gives the same sequence.
    pub seed: u64,
    /// Connections served at once. Those beyond it wait in the backlog of the socket, and as callers keep theirs open
    /// they may wait for ever: leave room for several times the requests that are under way at once.
    pub max_connections: usize,
}

impl UpstreamConfig {
    /// A healthy upstream on any free port of 127.0.0.1, with room for 1024 connections.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            behaviour: Behaviour::Healthy,
            seed: 1,
            max_connections: 1024,
        }
    }
}

/// Why an upstream does not start.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It would have listened where others can reach it.
    #[error("an upstream listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The name cannot be sent in a header.
    #[error("upstream name {0:?} cannot be sent in a header")]
    BadName(String),
    /// No connection could ever be served.
    #[error("max_connections must be at least 1")]
    NoConnections,
    /// The behaviour is out of range.
    #[error(transparent)]
    Behaviour(#[from] BehaviourError),
    /// The socket could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running upstream. Dropping it ends it at once; [`Upstream::stop`] lets answers under way finish.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    stopping: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    name: String,
    name_header: HeaderValue,
    body: Bytes,
    dice: Dice,
    behaviour: Mutex<Behaviour>,
    served: Mutex<BTreeMap<u16, u64>>,
}

impl Upstream {
    /// Binds the socket and starts to serve; requests are accepted from the moment this returns.
    pub async fn start(config: UpstreamConfig) -> Result<Self, UpstreamError> {
        config.behaviour.validate()?;
        if !config.listen.ip().is_loopback() {
            return Err(UpstreamError::NotLoopback(config.listen));
        }
        if config.max_connections == 0 {
            return Err(UpstreamError::NoConnections);
        }
        let name_header =
            HeaderValue::from_str(&config.name).map_err(|_| UpstreamError::BadName(config.name.clone()))?;
        let listen_error = |source| UpstreamError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let shared = Arc::new(Shared {
            body: Bytes::from(format!("answered by {}\n", config.name)),
            name: config.name,
            name_header,
            dice: Dice::new(config.seed),
            behaviour: Mutex::new(config.behaviour),
            served: Mutex::default(),
        });
        let upstream = Self {
            shared,
            address,
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        upstream.tasks.spawn(upstream.acceptor(listener, config.max_connections));
        Ok(upstream)
    }

    /// The address it listens on, with the port it really got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it calls itself in `x-upstream`.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// How it behaves now.
    pub fn behaviour(&self) -> Behaviour {
        *lock(&self.shared.behaviour)
    }

    /// Changes how it answers, from the next request on. An out-of-range behaviour is refused and changes nothing.
    pub fn set_behaviour(&self, behaviour: Behaviour) -> Result<(), BehaviourError> {
        self.shared.set_behaviour(behaviour)
    }

    /// Requests answered so far, by status code; those to the control path are not counted.
    pub fn served(&self) -> BTreeMap<u16, u64> {
        lock(&self.shared.served).clone()
    }

    /// Stops accepting, lets answers under way finish (two seconds at most, then their connections are cut) and
    /// tells how many requests were answered, by status code.
    pub async fn stop(self) -> BTreeMap<u16, u64> {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_GRACE, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
        self.served()
    }

    /// The task that accepts connections, each only once there is room for it.
    fn acceptor(&self, listener: TcpListener, max_connections: usize) -> impl Future<Output = ()> + use<> {
        let (shared, tasks) = (self.shared.clone(), self.tasks.clone());
        let (stopping, cut) = (self.stopping.clone(), self.cut.clone());
        let room = Arc::new(Semaphore::new(max_connections));
        let accept_all = async move {
            loop {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let connection = serve(shared.clone(), stream, stopping.clone(), cut.clone(), permit);
                        tasks.spawn(connection);
                    }
                    // For example no file descriptors left: trying again at once would spin.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let stopping = self.stopping.clone();
        async move {
            stopping.run_until_cancelled(accept_all).await;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.cut.cancel();
    }
}

/// Serves one connection until the client leaves, the upstream stops and the answer under way is out, or it is cut.
async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    stopping: CancellationToken,
    cut: CancellationToken,
    _room: OwnedSemaphorePermit,
) {
    // Without this the kernel may hold small answers back for 40 ms. A socket that refuses it is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How a connection ends is the client's affair; a lost answer shows up at the load generator.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = cut.cancelled() => return,
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = cut.run_until_cancelled(connection).await;
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == BEHAVIOUR_PATH {
            return self.control(request).await;
        }
        let behaviour = *lock(&self.behaviour);
        let status = match behaviour.fate(self.dice.draw()) {
            Fate::Serve => StatusCode::OK,
            Fate::Fail => StatusCode::SERVICE_UNAVAILABLE,
            Fate::Delay(time) => {
                tokio::time::sleep(time).await;
                StatusCode::OK
            }
        };
        *lock(&self.served).entry(status.as_u16()).or_default() += 1;
        self.response(status, "text/plain; charset=utf-8", self.body.clone())
    }

    /// `GET` tells the behaviour, `PUT` changes it and tells the new one.
    async fn control(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match *request.method() {
            Method::GET => self.tell_behaviour(),
            Method::PUT => match self.change(request.into_body()).await {
                Ok(()) => self.tell_behaviour(),
                Err(reason) => self.response(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", reason.into()),
            },
            _ => self.response(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain; charset=utf-8",
                Bytes::from_static(b"use GET or PUT\n"),
            ),
        }
    }

    async fn change(&self, body: Incoming) -> Result<(), String> {
        let body = Limited::new(body, MAX_CONTROL_BODY).collect().await.map_err(|error| format!("{error}\n"))?;
        let behaviour = serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("{error}\n"))?;
        self.set_behaviour(behaviour).map_err(|error| format!("{error}\n"))
    }

    fn set_behaviour(&self, behaviour: Behaviour) -> Result<(), BehaviourError> {
        behaviour.validate()?;
        *lock(&self.behaviour) = behaviour;
        Ok(())
    }

    fn tell_behaviour(&self) -> Response<Full<Bytes>> {
        let behaviour = *lock(&self.behaviour);
        let mut body = serde_json::to_vec(&behaviour).unwrap_or_default();
        body.push(b'\n');
        self.response(StatusCode::OK, "application/json", body.into())
    }

    fn response(&self, status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(UPSTREAM_HEADER, self.name_header.clone());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// The data behind these locks stays whole whatever a panicking task did, so a poisoned lock is taken all the same.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
