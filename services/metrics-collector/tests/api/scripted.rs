//! Listeners that misbehave on purpose.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is said to one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// An HTTP status with a body.
    Http(u16, String),
    /// The connection is closed without a word.
    Cut,
    /// Nothing, for as long as the caller waits.
    Silence,
    /// A body without end.
    Endless,
}

impl Reply {
    pub fn new(status: u16, body: &str) -> Self {
        Self::Http(status, body.to_owned())
    }
}

/// A listener that answers requests from a list; the last reply is repeated. It ends when it is dropped.
pub struct Listener {
    pub addr: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// The heads of the requests so far.
    pub fn heard(&self) -> Arc<Mutex<Vec<String>>> {
        self.heard.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn silent() -> Listener {
    server(vec![Reply::Silence]).await
}

pub async fn endless() -> Listener {
    server(vec![Reply::Endless]).await
}

pub async fn server(replies: Vec<Reply>) -> Listener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("a bound socket");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let record = heard.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, replies.clone(), record.clone()));
        }
    });
    Listener { addr, heard, task }
}

/// A Prometheus without data that takes its time, and the most questions that it had at once.
pub async fn slow() -> (Listener, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("a bound socket");
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (now, peak) = (now.clone(), peak.clone());
            tokio::spawn(async move {
                let Some(_) = read_request(&mut stream).await else { return };
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(200)).await;
                // Before the answer, after which the next one may come.
                now.fetch_sub(1, Ordering::SeqCst);
                let body = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    (Listener { addr, heard: Arc::default(), task }, most)
}

/// One request per connection.
async fn answer(mut stream: TcpStream, replies: Vec<Reply>, heard: Arc<Mutex<Vec<String>>>) {
    let Some(head) = read_request(&mut stream).await else { return };
    let turn = {
        let mut heard = heard.lock().expect("no holder panics");
        heard.push(head);
        heard.len() - 1
    };
    match replies[turn.min(replies.len() - 1)].clone() {
        Reply::Http(status, body) => {
            let head =
                format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // A caller that has gone away has its answer already.
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
        Reply::Cut => {}
        Reply::Silence => std::future::pending().await,
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{").await;
            std::future::pending::<()>().await;
        }
    }
}

/// The head in lower-case header names, after the whole body was read; `None` if the caller gave up.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(head.to_owned());
        }
    }
}
