//! An upstream on a real socket, spoken to with a real client.

use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::*;

type Client = HyperClient<HttpConnector, Full<Bytes>>;

/// What of an answer the tests look at.
#[derive(Debug)]
struct Answer {
    status: u16,
    upstream: String,
    body: String,
}

async fn start(behaviour: Behaviour) -> Upstream {
    Upstream::start(UpstreamConfig { behaviour, ..UpstreamConfig::new("checkout") }).await.unwrap()
}

fn client() -> Client {
    HyperClient::builder(TokioExecutor::new()).build_http()
}

async fn send(client: &Client, method: Method, address: SocketAddr, path: &str, body: &str) -> Answer {
    let uri = format!("http://{address}{path}");
    let request = Request::builder().method(method).uri(uri).body(Full::from(body.to_owned())).unwrap();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    Answer {
        status: head.status.as_u16(),
        upstream: head.headers[UPSTREAM_HEADER].to_str().unwrap().to_owned(),
        body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
    }
}

async fn get(client: &Client, address: SocketAddr) -> Answer {
    send(client, Method::GET, address, "/cart", "").await
}

#[tokio::test]
async fn it_names_itself_and_counts() {
    let upstream = start(Behaviour::Healthy).await;
    let answer = get(&client(), upstream.address()).await;
    assert_eq!((answer.status, answer.upstream.as_str()), (200, "checkout"));
    assert_eq!(answer.body, "answered by checkout\n");
    assert_eq!(upstream.stop().await, BTreeMap::from([(200, 1)]));
}

#[tokio::test]
async fn it_fails_as_often_as_asked_and_the_same_way_for_the_same_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let upstream = start(Behaviour::Failing { probability: 0.5 }).await;
        let client = client();
        let mut statuses = Vec::new();
        for _ in 0..200 {
            let answer = get(&client, upstream.address()).await;
            assert_eq!(answer.upstream, "checkout", "its errors are told from Envoy's by this");
            statuses.push(answer.status);
        }
        let failed = statuses.iter().filter(|status| **status == 503).count();
        assert!((60..140).contains(&failed), "{failed} of 200");
        let counts = upstream.stop().await;
        assert_eq!(counts, BTreeMap::from([(200, 200 - failed as u64), (503, failed as u64)]));
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn the_slow_share_takes_at_least_the_delay() {
    let upstream = start(Behaviour::Slow { share: 1.0, delay_ms: 30 }).await;
    let begun = std::time::Instant::now();
    assert_eq!(get(&client(), upstream.address()).await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn behaviour_is_switched_over_http() {
    let upstream = start(Behaviour::Healthy).await;
    let client = client();
    let control = async |method, body: &str| send(&client, method, upstream.address(), BEHAVIOUR_PATH, body).await;
    let table = [
        (r#"{"mode":"failing","probability":1}"#, 200, Behaviour::Failing { probability: 1.0 }),
        (r#"{"mode":"failing","probability":2}"#, 400, Behaviour::Failing { probability: 1.0 }),
        (r#"{"mode":"slow","share":0.5,"delay_ms":9,"more":1}"#, 400, Behaviour::Failing { probability: 1.0 }),
        ("not JSON", 400, Behaviour::Failing { probability: 1.0 }),
        (&" ".repeat(MAX_CONTROL_BODY + 1), 400, Behaviour::Failing { probability: 1.0 }),
        (r#"{"mode":"slow","share":0.5,"delay_ms":9}"#, 200, Behaviour::Slow { share: 0.5, delay_ms: 9 }),
        (r#"{"mode":"healthy"}"#, 200, Behaviour::Healthy),
    ];
    for (body, status, after) in table {
        assert_eq!(control(Method::PUT, body).await.status, status, "{body}");
        assert_eq!(upstream.behaviour(), after, "{body}");
    }
    assert_eq!(control(Method::GET, "").await.body, "{\"mode\":\"healthy\"}\n");
    assert_eq!(control(Method::POST, "").await.status, 405);
    assert_eq!(upstream.stop().await, BTreeMap::new(), "control requests are not counted");
}

#[tokio::test]
async fn what_cannot_work_is_refused() {
    let base = || UpstreamConfig::new("checkout");
    let outside = SocketAddr::from(([0, 0, 0, 0], 0));
    let start = Upstream::start;
    assert!(matches!(start(UpstreamConfig { listen: outside, ..base() }).await, Err(UpstreamError::NotLoopback(_))));
    assert!(matches!(start(UpstreamConfig::new("a\nb")).await, Err(UpstreamError::BadName(_))));
    assert!(matches!(start(UpstreamConfig { max_connections: 0, ..base() }).await, Err(UpstreamError::NoConnections)));
    let behaviour = Behaviour::Failing { probability: 7.0 };
    assert!(matches!(start(UpstreamConfig { behaviour, ..base() }).await, Err(UpstreamError::Behaviour(_))));
    let first = start(base()).await.unwrap();
    let taken = UpstreamConfig { listen: first.address(), ..base() };
    assert!(matches!(start(taken).await, Err(UpstreamError::Listen { .. })));
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_room() {
    let config = UpstreamConfig { max_connections: 1, ..UpstreamConfig::new("checkout") };
    let upstream = Upstream::start(config).await.unwrap();
    let first = client();
    assert_eq!(get(&first, upstream.address()).await.status, 200);
    let second = client();
    let waiting = get(&second, upstream.address());
    tokio::pin!(waiting);
    // The first client still holds the only place with its idle connection.
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await.is_err());
    drop(first);
    assert_eq!(waiting.await.status, 200);
}

#[tokio::test]
async fn stop_lets_an_answer_finish_and_a_silent_connection_cannot_hold_it() {
    let upstream = start(Behaviour::Slow { share: 1.0, delay_ms: 200 }).await;
    let address = upstream.address();
    let silent = TcpStream::connect(address).await.unwrap();
    let under_way = tokio::spawn(async move { get(&client(), address).await });
    // The draw happens when the request has arrived; from then on it must be answered.
    let untouched = Dice::new(1).0.into_inner();
    let drawn = async {
        while upstream.shared.dice.0.load(std::sync::atomic::Ordering::Relaxed) == untouched {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), drawn).await.expect("the request arrives");
    let counts = tokio::time::timeout(Duration::from_secs(10), upstream.stop()).await.expect("stop ends");
    assert_eq!(counts, BTreeMap::from([(200, 1)]));
    assert_eq!(under_way.await.unwrap().status, 200);
    assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
    drop(silent);
}
