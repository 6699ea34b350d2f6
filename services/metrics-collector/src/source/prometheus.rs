//! Prometheus and what speaks its HTTP API (Thanos, Mimir).
//!
//! By hand on an HTTP client: one endpoint, `POST /api/v1/query_range`, so that limits, retries and the reading of
//! errors sit in one place. Proxies from the environment are not used and redirects not followed: the address is the
//! address.

mod access;
mod decode;
mod tls;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use meshward_chassis::problem::chain;
use reqwest::{Response, StatusCode, Url};
use tokio::sync::Semaphore;

pub use access::{Access, Header, ScopedFile, file_of};
pub use tls::{IdentityFiles, Tls};

use super::{Answer, MetricsSource, SourceError, meters::Meter};
use crate::window::{Grid, Series};

/// Most bytes of an answer that are read: some 200 series of 5,000 points.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// How often a question is asked at most.
const ATTEMPTS: u32 = 3;
/// Questions at one Prometheus at once; the others wait here, within their deadlines. Prometheus works on 20 at once and
/// lets 512 connections in (its defaults); one that has been used and is kept open stands in the way of those outside, which
/// then wait for as long as it is kept.
const AT_ONCE: usize = 32;
/// Wait before the first repetition; doubled before each further one, and half of it is left to chance.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// One Prometheus.
pub struct Prometheus {
    clients: tls::Clients,
    query_range: Url,
    /// For messages: without user and password.
    address: String,
    access: Access,
    meter: Meter,
    turns: Semaphore,
}

/// The address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a URL such as http://127.0.0.1:9090")]
pub struct InvalidPrometheus(String);

impl Prometheus {
    /// The Prometheus at `url`, its path included if it has one. `meter` counts what is sent.
    ///
    /// # Errors
    /// If the URL is none. Nothing is connected yet.
    pub fn new(url: &str, access: Access, meter: Meter) -> Result<Self, InvalidPrometheus> {
        let invalid = || InvalidPrometheus(url.to_owned());
        let base = Url::parse(&format!("{}/", url.trim_end_matches('/'))).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(invalid());
        }
        let query_range = base.join("api/v1/query_range").map_err(|_| invalid())?;
        let clients = tls::Clients::new(access.tls.clone());
        let address = format!("Prometheus at {}", base.origin().ascii_serialization());
        Ok(Self { clients, query_range, address, access, meter, turns: Semaphore::new(AT_ONCE) })
    }

    async fn ask(&self, query: &str, grid: &Grid, deadline: Instant) -> Result<Vec<Series>, SourceError> {
        let begin = Instant::now();
        let answer = self.exchange(query, grid, deadline).await;
        self.meter.request(answer.as_ref().map_or_else(SourceError::kind, |_| "answered"), begin.elapsed());
        answer
    }

    async fn exchange(&self, query: &str, grid: &Grid, deadline: Instant) -> Result<Vec<Series>, SourceError> {
        let waited = deadline.saturating_duration_since(Instant::now());
        let turn = tokio::time::timeout(waited, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| SourceError::TimedOut { address: self.address.clone(), waited })?;
        let left = deadline.saturating_duration_since(Instant::now());
        let form = [
            ("query", query.to_owned()),
            ("start", seconds(grid.start_ms)),
            ("end", seconds(grid.end_ms())),
            ("step", seconds(grid.step_ms)),
            ("timeout", format!("{}ms", left.as_millis().max(1))),
        ];
        let unusable = |reason| SourceError::Credentials { address: self.address.clone(), reason };
        let client = self.clients.client().await.map_err(unusable)?;
        let request = client.post(self.query_range.clone()).timeout(left).form(&form);
        let request = self.access.add_to(request).await.map_err(unusable)?;
        let response = request.send().await.map_err(|error| self.failed(error, left))?;
        let status = response.status();
        let body = self.body(response, left).await?;
        self.read(status, &body)
    }

    async fn body(&self, mut response: Response, waited: Duration) -> Result<Vec<u8>, SourceError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error, waited))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(SourceError::TooLarge { address: self.address.clone(), limit: MAX_BODY_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn read(&self, status: StatusCode, body: &[u8]) -> Result<Vec<Series>, SourceError> {
        let address = self.address.clone();
        match decode::matrix(body) {
            Ok(answer) if status.is_success() => match answer.warnings.first() {
                None => Ok(answer.series),
                Some(warning) => Err(SourceError::Partial { address, message: shortened(warning) }),
            },
            Err(decode::Unreadable::Refused(message)) => {
                Err(SourceError::Refused { address, status: status.as_u16(), message: shortened(&message) })
            }
            Err(decode::Unreadable::Malformed(reason)) if status.is_success() => {
                Err(SourceError::Malformed { address, reason })
            }
            // An error of something that stands before Prometheus.
            _ => {
                let message = shortened(&String::from_utf8_lossy(body));
                Err(SourceError::Refused { address, status: status.as_u16(), message })
            }
        }
    }

    fn failed(&self, error: reqwest::Error, waited: Duration) -> SourceError {
        let address = self.address.clone();
        if error.is_timeout() && !error.is_connect() {
            return SourceError::TimedOut { address, waited };
        }
        SourceError::Unreachable { address, reason: shortened(&chain(&error.without_url())) }
    }
}

#[async_trait]
impl MetricsSource for Prometheus {
    fn address(&self) -> &str {
        &self.address
    }

    async fn range(&self, query: &str, grid: &Grid, deadline: Instant) -> Result<Answer, SourceError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            match self.ask(query, grid, deadline).await {
                Err(error) if error.is_transient() && Instant::now() + wait < deadline => {
                    tracing::debug!(%error, "asking again");
                    tokio::time::sleep(wait.mul_f64(0.5 + chance() / 2.0)).await;
                    wait *= 2;
                }
                answer => return answer.map(Arc::new),
            }
        }
        self.ask(query, grid, deadline).await.map(Arc::new)
    }
}

/// 0 to 1. It only spreads repetitions over time; nothing that is reported depends on it.
fn chance() -> f64 {
    f64::from((RandomState::new().hash_one(0) >> 32) as u32) / f64::from(u32::MAX)
}

/// Milliseconds as Prometheus reads times and lengths.
fn seconds(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let whole = milliseconds.unsigned_abs();
    format!("{sign}{}.{:03}", whole / 1000, whole % 1000)
}

/// One line that fits into a sentence.
fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 300 { line } else { line.chars().take(300).chain("…".chars()).collect() }
}
