//! Connections that are no requests, shared by weight: a tcp route and a tls route of one VirtualService, with real
//! connections through an Envoy.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use meshward_local::stack::{CALLERS, NAMESPACE};
use meshward_proto::{gateway::v1::PropagationState as State, types::v1::Mechanism};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Duration, Instant, sleep, timeout},
};

use super::world::{PATIENCE, World, intent, object, without_counters};

/// A service of plain connections and one of TLS.
const SERVICES: [(&str, u16, &str); 2] = [("ledger", 9000, "tcp"), ("vault", 9443, "tls")];
/// Connections for each share that is measured.
const CONNECTIONS: u64 = 1500;
/// Connections that are made at a time, to each service.
const AT_A_TIME: usize = 3;

fn full(name: &str) -> String {
    format!("{name}.{NAMESPACE}.svc.cluster.local")
}

/// A service, and the one that the new version sends to, which has the next port.
fn both((name, port, protocol): (&str, u16, &'static str)) -> [(String, u16, &'static str); 2] {
    [(name.to_owned(), port, protocol), (format!("{name}-next"), port + 1, protocol)]
}

/// Accepts connections, tells its letter, and gives back whatever it is sent.
async fn serve(letter: u8) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.spawn(async move {
                let (mut from, mut to) = stream.split();
                if to.write_all(&[letter, b'\n']).await.is_ok() {
                    // Whoever has seen enough goes away.
                    tokio::io::copy(&mut from, &mut to).await.ok();
                }
            });
            while open.try_join_next().is_some() {}
        }
    });
    (address, tasks)
}

/// The objects of a service: one endpoint, on a port of connections.
fn service(name: &str, port: u16, protocol: &str, at: SocketAddr) -> [Value; 2] {
    let metadata = || json!({"name": name, "namespace": NAMESPACE});
    let ports = json!([{"name": protocol, "port": port, "targetPort": protocol, "protocol": "TCP"}]);
    let entry = json!({"address": at.ip().to_string(), "ports": {protocol: at.port()}, "labels": {"app": name}});
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(), "spec": {"selector": {"app": name}, "ports": ports}}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": metadata(), "spec": entry}),
    ]
}

/// Gives the caller's Envoy listeners for all services; what it had stays. It must have those of the new version from the
/// start: a cluster that it has because of a route is taken from it before the route is.
async fn listen(world: &World) -> Value {
    let name = CALLERS[0].pod;
    let of = |spec: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec});
    let before = world.live_object(&of(Value::Null)).await.expect("the caller's Sidecar");
    let mut spec = before["spec"].clone();
    let address = world.stack.storefront().egress.ip().to_string();
    for (name, port, protocol) in SERVICES.into_iter().flat_map(both) {
        spec["egress"].as_array_mut().expect("listeners").push(json!({
            "port": {"number": port, "protocol": protocol.to_uppercase(), "name": format!("{protocol}-{port}")},
            "bind": address, "captureMode": "NONE", "hosts": [format!("./{}", full(&name))],
        }));
    }
    world.apply_as("kubectl", &of(spec)).await;
    of(before["spec"].clone())
}

/// Both routes, to the services themselves (0) or to their successors (1).
fn routes(version: usize) -> Value {
    let to = |service| {
        let (name, port, _) = &both(service)[version];
        json!([{"destination": {"host": name, "port": {"number": port}}}])
    };
    let [tcp, tls] = SERVICES;
    object(
        "connections",
        json!({
            "hosts": [full(tcp.0), full(tls.0)],
            "tcp": [{"match": [{"port": tcp.1}], "route": to(tcp)}],
            "tls": [{"match": [{"port": tls.1, "sniHosts": [full(tls.0)]}], "route": to(tls)}],
        }),
    )
}

/// The first bytes of a TLS connection for a host.
fn hello(host: &str) -> Vec<u8> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let config =
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).expect("a name");
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a buffer takes it");
    bytes
}

/// A service behind the caller's Envoy, and who answered there.
struct Counted {
    name: String,
    at: SocketAddr,
    /// What every connection begins with.
    first: Vec<u8>,
    stable: AtomicU64,
    canary: AtomicU64,
    lost: AtomicU64,
}

impl Counted {
    fn new((name, port, protocol): (String, u16, &str), world: &World) -> Self {
        let at = SocketAddr::new(world.stack.storefront().egress.ip(), port);
        let first = if protocol == "tls" { hello(&full(&name)) } else { Vec::new() };
        let [stable, canary, lost] = [0, 0, 0].map(AtomicU64::new);
        Self { name, at, first, stable, canary, lost }
    }

    /// One connection, and the letter of who answered.
    async fn open(&self) -> std::io::Result<(u8, BufReader<TcpStream>)> {
        let mut stream = TcpStream::connect(self.at).await?;
        stream.write_all(&self.first).await?;
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await?;
        Ok((*line.first().ok_or(std::io::ErrorKind::UnexpectedEof)?, stream))
    }

    async fn count(&self) {
        let counter = match timeout(PATIENCE, self.open()).await {
            Ok(Ok((b's', _))) => &self.stable,
            Ok(Ok((b'c', _))) => &self.canary,
            lost => {
                println!("{}: a connection is lost: {:?}", self.name, lost.map(|opened| opened.map(drop)));
                &self.lost
            }
        };
        counter.fetch_add(1, Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.canary.load(Relaxed), self.stable.load(Relaxed))
    }

    /// Of the connections that are made from now on, how many the canary gets.
    async fn share(&self, weight: u32) {
        let before = self.read();
        let end = Instant::now() + PATIENCE;
        let (canary, all) = loop {
            let now = self.read();
            let (canary, stable) = (now.0 - before.0, now.1 - before.1);
            if canary + stable >= CONNECTIONS {
                break (
                    f64::from(u32::try_from(canary).expect("few")),
                    f64::from(u32::try_from(canary + stable).expect("few")),
                );
            }
            assert!(Instant::now() < end, "{}: only {canary} and {stable} connections", self.name);
            sleep(Duration::from_millis(20)).await;
        };
        let (share, nominal) = (canary / all, f64::from(weight) / 10_000.0);
        println!("{} at {weight}: {canary} of {all} connections = {share:.4}", self.name);
        let bound = 5.0 * (nominal * (1.0 - nominal) / all).sqrt();
        assert!((share - nominal).abs() <= bound, "{}: {share} instead of {nominal}", self.name);
    }
}

/// What the caller's Envoy itself says that a listener of it is.
async fn listener(world: &World, port: u16) -> String {
    let sidecar = world.stack.storefront();
    let url = format!("{}/config_dump?resource=dynamic_listeners", sidecar.admin_url);
    let dump: Value = reqwest::get(url).await.expect("Envoy answers").json().await.expect("JSON");
    let name = format!("{}_{port}", sidecar.egress.ip());
    let listeners = dump["configs"].as_array().into_iter().flatten();
    let mut active = listeners.filter(|listener| listener["name"] == *name).map(|found| &found["active_state"]);
    active.next().expect("the listener").to_string()
}

/// 10, 30, 50, 100 % and back while connections are made: none is lost, and those that are open stay where they are.
pub async fn shared_by_weight(world: &World) {
    let mut servers = Vec::new();
    let mut objects = Vec::new();
    for ((name, port, protocol), letter) in
        SERVICES.into_iter().flat_map(|service| both(service).into_iter().zip(*b"sc"))
    {
        let (address, tasks) = serve(letter).await;
        servers.push(tasks);
        objects.extend(service(&name, port, protocol, address));
    }
    for object in &objects {
        world.apply_as("kubectl", object).await;
    }
    let sidecar = listen(world).await;
    let before = world.apply_as("kubectl", &routes(0)).await;
    for service in SERVICES.into_iter().flat_map(both) {
        let service = Counted::new(service, world);
        let end = Instant::now() + PATIENCE;
        while !timeout(PATIENCE, service.open()).await.is_ok_and(|opened| opened.is_ok()) {
            assert!(Instant::now() < end, "{} is never reached", service.name);
            sleep(Duration::from_millis(50)).await;
        }
    }

    let counted = SERVICES.map(|service| Arc::new(Counted::new(both(service)[0].clone(), world)));
    let canary = routes(1);
    let (plan, baseline) = world.gateway.plan(&canary, &[1000, 3000, 5000, 10_000]).await.expect("a plan");
    assert_eq!(plan.mechanism(), Mechanism::Weight);
    let at = |generation, weight| intent(&canary, &plan, &baseline, generation, weight);
    let mut open = Vec::new();
    let mut load = JoinSet::new();
    for service in &counted {
        open.push(service.open().await.expect("it was reached").1);
        for _ in 0..AT_A_TIME {
            let service = service.clone();
            load.spawn(async move {
                loop {
                    service.count().await;
                }
            });
        }
    }
    for (generation, weight) in [(1, 1000), (2, 3000), (3, 5000)] {
        let (applied, proof) = world.gateway.expose(&format!("connections at {weight}"), &at(generation, weight)).await;
        assert_eq!((applied.writes, proof.state(), proof.concerned), (1, State::Live, 1), "{proof:?}");
        for (_, port, _) in SERVICES {
            let found = listener(world, port).await;
            let weights = [10_000 - weight, weight].map(|weight| format!("\"weight\":{weight}}}"));
            assert!(weights.iter().all(|weight| found.contains(weight)), "{weight}: {found}");
        }
        for service in &counted {
            service.share(u32::try_from(weight).expect("positive")).await;
        }
    }
    for (name, generation, weight, version) in [("promoted", 4, 10_000, 1), ("back", 5, 0, 0)] {
        let proof = match weight {
            0 => world.gateway.undo(name, &at(generation, 0)).await.1,
            _ => world.gateway.expose(name, &at(generation, weight)).await.1,
        };
        assert_eq!((proof.state(), proof.concerned), (State::Live, 1), "{proof:?}");
        for service in SERVICES {
            let found = listener(world, service.1).await;
            let (host, port, _) = &both(service)[version];
            assert!(found.contains(&format!("\"cluster\":\"outbound|{port}||{}\"", full(host))), "{name}: {found}");
            assert!(!found.contains("weighted_clusters"), "{name}: {found}");
        }
    }
    for (stream, service) in open.iter_mut().zip(&counted) {
        stream.write_all(b"still there\n").await.expect("it is open");
        let mut echo = [0; 12];
        // What it began with comes back, too.
        let mut begun = vec![0; service.first.len()];
        stream.read_exact(&mut begun).await.expect("it is open");
        stream.read_exact(&mut echo).await.expect("it is open");
        assert_eq!(&echo, b"still there\n");
    }
    load.shutdown().await;
    for service in &counted {
        let (canary, stable) = service.read();
        let lost = service.lost.load(Relaxed);
        println!("{}: {canary} and {stable} connections, {lost} lost", service.name);
        assert_eq!(lost, 0, "{}", service.name);
    }
    let after = world.live("connections").await.expect("it is there");
    assert_eq!(without_counters(&after), without_counters(&before), "managed fields included");
    world.delete("connections").await;
    world.apply_as("kubectl", &sidecar).await;
    for object in &objects {
        world.remove(object).await;
    }
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(counted[0].at).await.is_ok() {
        assert!(Instant::now() < end, "the caller listens for ever");
        sleep(Duration::from_millis(50)).await;
    }
}
