//! What becomes of a call when the way to a real API server is bad: a proxy in between answers in its stead, cuts the
//! connection, or loses the answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::Body;
use meshward_local::stack::ApiServer;
use meshward_mesh_gateway::{
    cluster::{Cluster, ClusterError, KubeCluster, KubeOptions, MOST_AT_ONCE, Mode, Selection},
    object,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{
    alone::{Alone, kubeconfig},
    contract::target_of,
    world::PATIENCE,
};

/// What the proxy does with a request instead of handing it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Answers with this status, and `Retry-After` in seconds.
    Answer(u16, Option<u64>),
    /// Ends the connection.
    Cut,
    /// Hands the request on, and ends the connection instead of answering.
    Lose,
}

/// A proxy in plain HTTP in front of an API server.
#[derive(Clone)]
struct Proxy {
    client: kube::Client,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// When each request came.
    came: Arc<Mutex<Vec<Instant>>>,
    /// Requests that may pass; the others wait here.
    gate: Arc<Semaphore>,
}

impl Proxy {
    async fn start(server: &ApiServer) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let gate = Arc::new(Semaphore::new(1000));
        let proxy = Self { client: server.client().clone(), faults: Arc::default(), came: Arc::default(), gate };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let proxy = serving.clone();
                let service = hyper::service::service_fn(move |request| {
                    let proxy = proxy.clone();
                    async move { proxy.answer(request).await.ok_or("cut off") }
                });
                tokio::spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // A connection that is cut off is an error here, as it shall be.
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        (proxy, address)
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Option<Response<Full<bytes::Bytes>>> {
        lock(&self.came).push(Instant::now());
        let _place = self.gate.acquire().await.expect("the gate stays");
        let fault = lock(&self.faults).pop_front();
        match fault {
            Some(Fault::Cut) => return None,
            Some(Fault::Answer(status, after)) => {
                let status = StatusCode::from_u16(status).expect("a status");
                let reply = Response::builder().status(status);
                let reply = after.into_iter().fold(reply, |reply, after| reply.header("retry-after", after));
                let why = json!({"kind": "Status", "message": "the proxy says so"}).to_string();
                return Some(reply.body(Full::from(why)).expect("a reply"));
            }
            Some(Fault::Lose) | None => {}
        }
        let (mut parts, body) = request.into_parts();
        // The client adds its own.
        for header in ["host", "authorization"] {
            parts.headers.remove(header);
        }
        let path = parts.uri.path_and_query().expect("a path").to_string();
        parts.uri = path.parse().expect("a path");
        let is_watch = path.contains("watch=true");
        let body = body.collect().await.expect("a body").to_bytes();
        let reply = self.client.send(Request::from_parts(parts, Body::from(body.to_vec()))).await.expect("an answer");
        let (parts, body) = reply.into_parts();
        // A watch has no end; its first line is all that is needed here.
        let body = if is_watch { bytes::Bytes::new() } else { body.collect().await.expect("a body").to_bytes() };
        (fault != Some(Fault::Lose)).then(|| {
            let mut reply = Response::new(Full::from(body));
            *reply.status_mut() = parts.status;
            reply
        })
    }

    /// The next requests meet these.
    fn arm(&self, faults: &[Fault]) {
        lock(&self.faults).extend(faults);
        lock(&self.came).clear();
    }

    fn tries(&self) -> Vec<Instant> {
        lock(&self.faults).clear();
        std::mem::take(&mut lock(&self.came))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn policy(host: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": "faults", "namespace": "shop"},
           "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}})
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Conflict,
    Unreachable,
}

fn outcome<T: std::fmt::Debug>(answer: Result<T, ClusterError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(ClusterError::Conflict(_)) => Outcome::Conflict,
        Err(ClusterError::Unreachable(_)) => Outcome::Unreachable,
        other => panic!("{other:?}"),
    }
}

const VERBS: [&str; 9] = ["get", "select", "create", "apply", "dry run", "patch", "delete", "version", "watch"];

/// One call of a verb through the proxy, on an object that is as the verb needs it.
async fn call(direct: &KubeCluster, through: &KubeCluster, proxy: &Proxy, verb: &str, faults: &[Fault]) -> Outcome {
    let target = target_of(&policy("a"));
    let live = match (verb, direct.get(&target).await.expect("it is read")) {
        ("create", Some(live)) => {
            let gone = direct.delete(&target, object::uid(&live), object::resource_version(&live)).await;
            gone.expect("it is deleted");
            Value::Null
        }
        ("create", None) => Value::Null,
        (_, Some(live)) => live,
        (_, None) => direct.create(&target, &policy("a")).await.expect("it is made"),
    };
    let other = if live["spec"]["hosts"] == json!(["a"]) { "b" } else { "a" };
    let (uid, version) = (object::uid(&live).to_owned(), object::resource_version(&live).to_owned());
    let mut fenced = policy(other);
    fenced["metadata"]["resourceVersion"] = version.clone().into();
    let operations = json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": version},
                            {"op": "add", "path": "/spec", "value": policy(other)["spec"]}]);
    let all = Selection::of("networking.istio.io/v1", "virtualservices").within("shop");
    // The kind's plural is asked for once; here it shall not be the request that meets the fault.
    through.kind_of(&target.api_version, &target.kind).await.expect("a kind");
    proxy.arm(faults);
    match verb {
        "get" => outcome(through.get(&target).await),
        "select" => outcome(through.select(&all).await),
        "create" => outcome(through.create(&target, &policy("a")).await),
        "apply" => outcome(through.apply(&target, &fenced, Mode::Store).await),
        "dry run" => outcome(through.apply(&target, &fenced, Mode::DryRun).await),
        "patch" => outcome(through.patch(&target, &operations).await),
        "delete" => outcome(through.delete(&target, &uid, &version).await),
        "version" => outcome(through.version().await),
        "watch" => outcome(through.watch(&all, &version).await.map(drop)),
        other => panic!("{other}"),
    }
}

async fn connect(file: std::path::PathBuf, timeout: Duration) -> KubeCluster {
    KubeCluster::new(&KubeOptions { kubeconfig: Some(file), timeout }).await.expect("a cluster")
}

pub async fn every_verb_survives_a_bad_way(world: &Alone, server: &ApiServer) {
    let (proxy, address) = Proxy::start(server).await;
    let mut config = kubeconfig(server, Some(&address), None);
    config["clusters"][0]["cluster"].as_object_mut().expect("a cluster").remove("certificate-authority-data");
    let file = world.file("faults.kubeconfig", &config.to_string());
    let direct = connect(server.kubeconfig().to_owned(), PATIENCE).await;
    let through = connect(file.clone(), PATIENCE).await;
    for verb in VERBS {
        for fault in [Fault::Answer(503, None), Fault::Answer(500, None), Fault::Answer(429, None), Fault::Cut] {
            let outcome = call(&direct, &through, &proxy, verb, &[fault]).await;
            assert_eq!((outcome, proxy.tries().len()), (Outcome::Done, 2), "{verb} {fault:?}");
        }
        // The write was done; the second one meets it, and who decides reads again.
        let expected = if matches!(verb, "create" | "apply" | "patch") { Outcome::Conflict } else { Outcome::Done };
        let outcome = call(&direct, &through, &proxy, verb, &[Fault::Lose]).await;
        assert_eq!((outcome, proxy.tries().len()), (expected, 2), "{verb}, the answer lost");
    }
    for verb in ["get", "patch"] {
        let outcome = call(&direct, &through, &proxy, verb, &[Fault::Answer(429, Some(1))]).await;
        let tries = proxy.tries();
        assert_eq!((outcome, tries.len()), (Outcome::Done, 2), "{verb}");
        assert!(tries[1] - tries[0] >= Duration::from_secs(1), "{verb} is not sent again before Retry-After");
        let outcome = call(&direct, &through, &proxy, verb, &[Fault::Answer(503, None); 50]).await;
        let tries = proxy.tries().len();
        assert!(outcome == Outcome::Unreachable && tries <= 6, "{verb}: {outcome:?} after {tries} tries");
    }
    let hasty = connect(file, Duration::from_secs(2)).await;
    let outcome = call(&direct, &hasty, &proxy, "get", &[Fault::Answer(429, Some(3600))]).await;
    assert_eq!((outcome, proxy.tries().len()), (Outcome::Unreachable, 1), "an hour is beyond the deadline");
    only_so_many_at_once(&proxy, through).await;
}

/// Many callers; the proxy lets nobody through until no more come.
async fn only_so_many_at_once(proxy: &Proxy, cluster: KubeCluster) {
    proxy.arm(&[]);
    let cluster = Arc::new(cluster);
    let taken = proxy.gate.forget_permits(1000);
    let callers: Vec<_> = (0..MOST_AT_ONCE * 3)
        .map(|_| {
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move { cluster.version().await })
        })
        .collect();
    let arrived = || lock(&proxy.came).len();
    let deadline = Instant::now() + PATIENCE;
    while arrived() < MOST_AT_ONCE && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Those that wait would be here by now if nothing held them.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(arrived(), MOST_AT_ONCE);
    proxy.gate.add_permits(taken);
    for caller in callers {
        caller.await.expect("no panic").expect("a version");
    }
    assert_eq!(arrived(), MOST_AT_ONCE * 3);
}
