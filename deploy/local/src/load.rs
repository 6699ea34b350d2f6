//! An open-loop load generator: requests go out by the clock, whether or not earlier ones have been answered.
//!
//! A closed loop (send, wait, send) slows down together with the thing it measures and so hides its bad seconds. Here a
//! request that is due while too many are under way is counted as `not_sent`; it never just disappears, and
//! `due == sent + not_sent` holds in every report.
//!
//! Two response headers tell who answered. `x-upstream` is set by the application; a failure without it was made by
//! Envoy itself (no route, no healthy upstream, reset) and counts as *lost*. The version header is set by the policy
//! under test; a good answer without it was *answered by neither* version. No `x-request-id` is sent, for it is Envoy
//! that must make one: its fair choice between canary and stable hangs on that.
//!
//! Memory does not grow with time: requests are folded into counts and a histogram per phase, and the number of
//! phases, of distinct answers and of kept failures is bounded.

mod client;
mod outcome;
mod report;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::uri::InvalidUri;
use http::{HeaderName, HeaderValue, Uri};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use client::Sender;
pub use outcome::{Loss, Outcome};
pub use report::{AnswerCount, Ended, FailureSample, Latency, LoadReport, LossCounts, Moment, PhaseReport};
use schedule::Schedule;
use tally::Ledger;

/// Tells the time for the report, as the `Clock` of the services does.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The fastest rate that can be asked for, in requests per second.
pub const MAX_RATE: f64 = 100_000.0;

/// What to send, how fast, and when to stop.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Where to connect, for example `http://127.0.0.2:8080`; plain HTTP, no path.
    pub url: String,
    /// The `Host` header, by which Envoy finds the route.
    pub host: String,
    /// A further header of every request: its name and its value.
    pub header: Option<(String, String)>,
    /// Asked for in turn; each begins with `/`.
    pub paths: Vec<String>,
    /// Requests per second, 0 to pause, at most [`MAX_RATE`].
    pub rate: f64,
    /// Requests under way at once; one that is due beyond that is counted as not sent.
    pub max_in_flight: usize,
    /// The load ends when this many requests have been due.
    pub max_requests: u64,
    /// The load ends after this time.
    pub max_duration: Duration,
    /// How long one request may take, connecting and reading the body included.
    pub timeout: Duration,
    /// The response header that names the version of the policy which chose the route.
    pub version_header: String,
    /// The response header by which the application names itself.
    pub upstream_header: String,
}

impl LoadPlan {
    /// 100 requests per second to `/`, at most 256 under way, 5 seconds for each, for an hour or a million requests.
    pub fn new(url: impl Into<String>, host: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            host: host.into(),
            header: None,
            paths: vec!["/".to_owned()],
            rate: 100.0,
            max_in_flight: 256,
            max_requests: 1_000_000,
            max_duration: Duration::from_secs(3600),
            timeout: Duration::from_secs(5),
            version_header: "x-meshward-demo-version".to_owned(),
            upstream_header: crate::upstream::UPSTREAM_HEADER.to_owned(),
        }
    }
}

/// Why a load does not start, or does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address, joined with a path, is no URI.
    #[error("{uri:?} is no URI: {source}")]
    BadUri {
        /// The address joined with a path.
        uri: String,
        /// What is wrong with it.
        source: InvalidUri,
    },
    /// A header name or the host cannot be sent.
    #[error("{0:?} cannot be used in a header")]
    BadHeader(String),
    /// The rate is negative, too large or no number.
    #[error("the rate must lie between 0 and {MAX_RATE} requests per second, not {0}")]
    BadRate(f64),
    /// There is nothing to send.
    #[error("the plan names no path, or allows no request under way")]
    Nothing,
    /// The report holds no more phases.
    #[error("a load has at most {0} phases")]
    TooManyPhases(usize),
}

/// A running load. It ends at its bounds, by [`Load::stop`], or when it is dropped (requests under way then still
/// finish or time out).
#[derive(Debug)]
pub struct Load {
    core: Arc<Core>,
    rate: watch::Sender<f64>,
    in_flight: TaskTracker,
    ending: CancellationToken,
}

/// What the task that sends and the handle share.
struct Core {
    sender: Sender,
    ledger: Mutex<Ledger>,
    now: Now,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

impl Load {
    /// Checks the plan and begins to send. The first phase is called `start`; `now` stamps what the report tells.
    pub fn start(plan: LoadPlan, now: impl Fn() -> jiff::Timestamp + Send + Sync + 'static) -> Result<Self, LoadError> {
        check_rate(plan.rate)?;
        if plan.paths.is_empty() || plan.max_in_flight == 0 {
            return Err(LoadError::Nothing);
        }
        let sender = Sender::new(&plan)?;
        let ledger = Mutex::new(Ledger::new("start", Instant::now(), now()));
        let core = Arc::new(Core { sender, ledger, now: Arc::new(now) });
        let (rate, rates) = watch::channel(plan.rate);
        let load = Self { core, rate, in_flight: TaskTracker::new(), ending: CancellationToken::new() };
        let pacer =
            Pacer { core: load.core.clone(), in_flight: load.in_flight.clone(), ending: load.ending.clone(), plan };
        // The pacer is tracked as well, so that waiting for the tracker waits for it.
        load.in_flight.spawn(pacer.run(rates));
        Ok(load)
    }

    /// Changes the rate (requests per second, 0 to pause) from now on; nothing that was due before is sent again.
    pub fn set_rate(&self, rate: f64) -> Result<(), LoadError> {
        check_rate(rate)?;
        self.rate.send_replace(rate);
        Ok(())
    }

    /// Ends the current phase and begins one of this name. A request belongs to the phase in which it was sent, so the
    /// counts of an ended phase may still grow by those then under way.
    pub fn mark(&self, name: &str) -> Result<(), LoadError> {
        let now = (self.core.now)();
        self.core.ledger().mark(name, Instant::now(), now)
    }

    /// Everything counted so far.
    pub fn snapshot(&self) -> LoadReport {
        self.core.ledger().report(Instant::now())
    }

    /// Waits until the load has ended at one of its bounds and every request under way is done; then the report.
    pub async fn finished(&self) -> LoadReport {
        self.in_flight.wait().await;
        self.snapshot()
    }

    /// Sends nothing more, waits for the requests under way (each has its timeout) and gives the final report.
    pub async fn stop(&self) -> LoadReport {
        self.ending.cancel();
        self.finished().await
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

fn check_rate(rate: f64) -> Result<(), LoadError> {
    if (0.0..=MAX_RATE).contains(&rate) { Ok(()) } else { Err(LoadError::BadRate(rate)) }
}

/// A header name that the plan gives as text.
fn header_name(name: &str) -> Result<HeaderName, LoadError> {
    name.parse().map_err(|_| LoadError::BadHeader(name.to_owned()))
}

/// A header value that the plan gives as text.
fn header_value(value: &str) -> Result<HeaderValue, LoadError> {
    HeaderValue::from_str(value).map_err(|_| LoadError::BadHeader(value.to_owned()))
}

/// The address of the plan joined with one of its paths.
fn request_uri(url: &str, path: &str) -> Result<Uri, LoadError> {
    let uri = format!("{}{path}", url.trim_end_matches('/'));
    uri.parse().map_err(|source| LoadError::BadUri { uri, source })
}

impl Core {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Counts stay whole whatever a panicking task did.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one request and writes down how it went.
    async fn send(&self, number: u64, phase: usize) {
        let begun = Instant::now();
        let outcome = self.sender.send(number).await;
        let ended = Instant::now();
        let at = outcome.failed().then(|| (self.now)());
        self.ledger().done(phase, outcome, begun, ended, at);
    }
}

/// The task that sends requests when they are due.
struct Pacer {
    core: Arc<Core>,
    in_flight: TaskTracker,
    ending: CancellationToken,
    plan: LoadPlan,
}

impl Pacer {
    async fn run(self, rates: watch::Receiver<f64>) {
        let ending = self.ending.clone();
        let paced = tokio::time::timeout(self.plan.max_duration, self.send_until_bound(rates));
        let reason = match ending.run_until_cancelled(paced).await {
            None => Ended::Stopped,
            Some(Err(_)) => Ended::MaxDuration,
            Some(Ok(())) => Ended::MaxRequests,
        };
        self.core.ledger().end(reason, Instant::now());
        self.in_flight.close();
    }

    /// Returns when as many requests have been due as the plan allows.
    async fn send_until_bound(&self, mut rates: watch::Receiver<f64>) {
        let begun = Instant::now();
        let mut schedule = Schedule::new(*rates.borrow_and_update());
        let mut due = 0;
        while due < self.plan.max_requests {
            let target = schedule.due(begun.elapsed()).min(self.plan.max_requests);
            for number in due..target {
                self.launch(number);
            }
            due = target;
            let wait = schedule.wait(begun.elapsed());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = rates.changed() => match changed {
                    Ok(()) => schedule.set_rate(begun.elapsed(), *rates.borrow_and_update()),
                    // The handle is gone, and its end cancels this task too.
                    Err(_) => return,
                },
            }
        }
    }

    /// Sends one due request in the background, or counts it as not sent.
    fn launch(&self, number: u64) {
        // One of the tracked tasks is the pacer itself.
        let room = self.in_flight.len() <= self.plan.max_in_flight;
        let phase = self.core.ledger().due(room);
        if room {
            let core = self.core.clone();
            self.in_flight.spawn(async move { core.send(number, phase).await });
        }
    }
}
