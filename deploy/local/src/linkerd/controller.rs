//! A policy controller of our own: it watches Linkerd's kinds on an API server and serves the policies that follow from
//! them on the stream that Linkerd's proxies ask.
//!
//! Linkerd's controllers are in no package registry, so the tests stand this one in their place. What it says is what the
//! real one was seen to say (its facts are in the module docs of the gateway's dialect and proof), as far as the gateway's
//! proof reads it: servers with the oldest one first, authorizations, routes with weights, limits, networks outside. It
//! writes no status. Like the real one it keeps what it had when an update cannot be read.
//!
//! A test can hold it ([`Controller::hold`]): it then reads nothing more until it is released, as a controller that is
//! behind.

mod convert;
mod inbound;
mod index;
mod outbound;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, StreamExt as _};
use kube::{
    Api,
    api::DynamicObject,
    runtime::watcher::{self, Event, watcher},
};
use linkerd2_proxy_api::{
    inbound::{
        PortSpec, Server as InboundPolicy,
        inbound_server_policies_server::{InboundServerPolicies, InboundServerPoliciesServer},
    },
    outbound::{
        OutboundPolicy, TrafficSpec,
        outbound_policies_server::{OutboundPolicies, OutboundPoliciesServer},
        traffic_spec::Target,
    },
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use self::index::{Index, Key, Kind};

/// The controller; it ends with this value.
pub struct Controller {
    address: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    index: Mutex<Index>,
    /// Counts the changes of the index; streams wait for the next one.
    changes: watch::Sender<u64>,
    /// Whether it may read on.
    open: watch::Sender<bool>,
    /// Ends everything, the streams of clients too.
    shutdown: CancellationToken,
}

impl Controller {
    /// Starts it on a free port of 127.0.0.1, for the kinds that the API server has.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(client: &kube::Client) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (changes, open) = (watch::Sender::new(0), watch::Sender::new(true));
        let shutdown = CancellationToken::new();
        let state = Arc::new(State { index: Mutex::default(), changes, open, shutdown: shutdown.clone() });
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            tasks.spawn(Arc::clone(&state).follow(client.clone(), kind));
        }
        let service = Service(Arc::clone(&state));
        let server = tonic::transport::Server::builder()
            .add_service(InboundServerPoliciesServer::new(service.clone()))
            .add_service(OutboundPoliciesServer::new(service));
        let stop = shutdown.clone().cancelled_owned();
        tasks.spawn(async move {
            let served = server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop).await;
            served.expect("it serves");
        });
        Ok(Self { address, state, tasks })
    }

    /// `http://127.0.0.1:PORT`; 8090 in a cluster.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it reads nothing, as if it were behind.
    pub fn hold(&self) {
        self.state.open.send_replace(false);
    }

    /// It reads what it has missed.
    pub fn release(&self) {
        self.state.open.send_replace(true);
    }

    /// Ends it: from now on its port is closed.
    pub async fn stop(mut self) {
        self.state.shutdown.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl State {
    /// Keeps the index as the API server says, for one kind.
    async fn follow(self: Arc<Self>, client: kube::Client, kind: Kind) {
        let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
        let events = watcher(api, watcher::Config::default());
        let mut events = std::pin::pin!(events.take_until(self.shutdown.clone().cancelled_owned()));
        let mut open = self.open.subscribe();
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            tokio::select! {
                _ = open.wait_for(|open| *open) => {}
                () = self.shutdown.cancelled() => return,
            }
            match event {
                Ok(event) => self.take(kind, event, &mut listed),
                // It is asked again by itself, more and more seldom. A kind that is not installed is none that matters.
                Err(error) => tracing::debug!(?kind, %error, "watch"),
            }
        }
    }

    fn take(&self, kind: Kind, event: Event<DynamicObject>, listed: &mut BTreeSet<Key>) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => index.apply(kind, &object),
            Event::Delete(object) => index.delete(kind, &object),
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(index::key(kind, &object));
                index.apply(kind, &object);
            }
            Event::InitDone => index.retain(kind, |key| listed.contains(key)),
        }
        drop(index);
        self.changes.send_modify(|count| *count += 1);
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> Option<T>) -> Option<T> {
        look(&self.index.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `look` says now and whenever it says something else.
    fn stream<T>(
        self: Arc<Self>,
        look: impl Fn(&Index) -> Option<T> + Send + 'static,
    ) -> impl Stream<Item = Result<T, Status>> + Send + 'static
    where
        T: Clone + PartialEq + Send + 'static,
    {
        let changes = self.changes.subscribe();
        let end = self.shutdown.clone().cancelled_owned();
        let start = (self, changes, look, None::<T>);
        futures::stream::unfold(start, |(state, mut changes, look, last)| async move {
            loop {
                changes.borrow_and_update();
                if let Some(now) = state.read(&look)
                    && last.as_ref() != Some(&now)
                {
                    return Some((Ok(now.clone()), (state, changes, look, Some(now))));
                }
                changes.changed().await.ok()?;
            }
        })
        .take_until(end)
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// "namespace:name", or the same as JSON.
fn workload(text: &str) -> Result<(String, String), Status> {
    let invalid = || Status::invalid_argument(format!("Invalid workload: {text}"));
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        let field = |name: &str| json[name].as_str().map(str::to_owned).ok_or_else(invalid);
        return Ok((field("ns")?, field("pod")?));
    }
    let (namespace, name) = text.split_once(':').ok_or_else(invalid)?;
    Ok((namespace.to_owned(), name.to_owned()))
}

type InboundLook = Box<dyn Fn(&Index) -> Option<InboundPolicy> + Send>;

fn inbound_look(spec: &PortSpec) -> Result<InboundLook, Status> {
    let (namespace, pod) = workload(&spec.workload)?;
    let port = u16::try_from(spec.port).map_err(|_| Status::invalid_argument("Invalid port"))?;
    Ok(Box::new(move |index| inbound::policy(index, &namespace, &pod, port)))
}

#[tonic::async_trait]
impl InboundServerPolicies for Service {
    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<InboundPolicy>, Status> {
        let look = inbound_look(request.get_ref())?;
        self.0.read(look).map(Response::new).ok_or_else(|| Status::not_found("unknown server"))
    }

    type WatchPortStream = Answers<InboundPolicy>;

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Self::WatchPortStream>, Status> {
        let look = inbound_look(request.get_ref())?;
        self.0.read(&look).ok_or_else(|| Status::not_found("unknown server"))?;
        Ok(Response::new(Box::pin(Arc::clone(&self.0).stream(look))))
    }
}

type OutboundLook = Box<dyn Fn(&Index) -> Option<OutboundPolicy> + Send>;

fn outbound_look(spec: TrafficSpec) -> Result<OutboundLook, Status> {
    let (source, _) = workload(&spec.source_workload)?;
    let Some(Target::Addr(address)) = spec.target else {
        return Err(Status::unimplemented("ask by address"));
    };
    let address = SocketAddr::try_from(address).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(Box::new(move |index| outbound::policy(index, &source, address.ip(), address.port())))
}

#[tonic::async_trait]
impl OutboundPolicies for Service {
    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let look = outbound_look(request.into_inner())?;
        self.0.read(look).map(Response::new).ok_or_else(|| Status::not_found("No such service"))
    }

    type WatchStream = Answers<OutboundPolicy>;

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let look = outbound_look(request.into_inner())?;
        self.0.read(&look).ok_or_else(|| Status::not_found("No such service"))?;
        Ok(Response::new(Box::pin(Arc::clone(&self.0).stream(look))))
    }
}
