//! What a load tells about itself: plain values, ready for JSON.

use std::collections::BTreeMap;

use serde::Serialize;

/// Everything that a load has counted, as of one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    /// The whole load in one, named `total`.
    pub total: PhaseReport,
    /// Its phases, in order; the last one is current unless the load has ended.
    pub phases: Vec<PhaseReport>,
    /// Why no more requests are sent; `None` while it runs.
    pub ended: Option<Ended>,
}

/// Why a load sends no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was told to stop, or dropped.
    Stopped,
    /// As many requests as the plan allows have been due.
    MaxRequests,
    /// The time of the plan is over.
    MaxDuration,
}

/// The requests that were due in one phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseReport {
    /// The name that the phase was marked with.
    pub name: String,
    /// When it began.
    pub started_at: jiff::Timestamp,
    /// How long it took, or has taken so far.
    pub seconds: f64,
    /// Requests that the rate called for: `sent + not_sent`.
    pub due: u64,
    /// Requests sent: `completed` plus those under way.
    pub sent: u64,
    /// Requests due while too many others were under way.
    pub not_sent: u64,
    /// Requests that were answered or lost.
    pub completed: u64,
    /// Answers by status class, version and upstream. Errors that the proxy made up are not among them but `lost`.
    pub answers: Vec<AnswerCount>,
    /// Requests to which no answer of the application came, by cause.
    pub lost: LossCounts,
    /// Good answers (below 400) without the version header.
    pub answered_by_neither: u64,
    /// Losses, and answers of 500 or above by the application.
    pub failed: u64,
    /// The failure that came first, by the time its end was seen.
    pub first_failure: Option<Moment>,
    /// The failure that came last.
    pub last_failure: Option<Moment>,
    /// The first 20 failures in full.
    pub failures: Vec<FailureSample>,
    /// From sending (connecting included) to the last byte of the body, over all answers; lost requests are left out.
    pub latency: Latency,
}

/// How many answers were alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AnswerCount {
    /// The first digit of the status, `2` for 200 to 299.
    pub status_class: u16,
    /// The policy version in the response; `None` if the header was absent.
    pub version: Option<String>,
    /// The application that answered; `None` if the header was absent.
    pub upstream: Option<String>,
    /// How many.
    pub count: u64,
}

/// Lost requests by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LossCounts {
    /// No connection could be made.
    pub connect: u64,
    /// No whole answer in time.
    pub timeout: u64,
    /// Connection closed or reset before the answer was whole.
    pub closed: u64,
    /// What came was no HTTP response.
    pub protocol: u64,
    /// Error responses that the proxy made up: no route, no healthy upstream, reset by the upstream.
    pub proxy: u64,
}

impl LossCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.connect + self.timeout + self.closed + self.protocol + self.proxy
    }
}

/// A point in time, told both ways.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Moment {
    /// Seconds since the phase began.
    pub after_seconds: f64,
    /// By the clock.
    pub at: jiff::Timestamp,
}

/// One failed request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailureSample {
    /// When it was sent, in seconds since its phase began.
    pub sent_after_seconds: f64,
    /// How long it took, in milliseconds.
    pub latency_ms: f64,
    /// When it ended, by the clock.
    pub at: jiff::Timestamp,
    /// What came of it, in words.
    pub outcome: String,
}

/// Quantiles of the latency in milliseconds, exact to one part in a hundred; 0 where nothing was answered.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latency {
    /// The median.
    pub p50_ms: f64,
    /// The 90th percentile.
    pub p90_ms: f64,
    /// The 95th percentile.
    pub p95_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The slowest answer.
    pub max_ms: f64,
}

impl PhaseReport {
    /// Answers by policy version, whatever their status; `None` stands for those that no version owns up to.
    pub fn by_version(&self) -> BTreeMap<Option<&str>, u64> {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(answer.version.as_deref()).or_default() += answer.count;
        }
        counts
    }

    /// The share of all answers that carried this version, as the callers saw it; `None` before the first answer.
    pub fn share_of(&self, version: &str) -> Option<f64> {
        let all: u64 = self.answers.iter().map(|answer| answer.count).sum();
        let of_version = self.by_version().get(&Some(version)).copied().unwrap_or_default();
        (all > 0).then(|| of_version as f64 / all as f64)
    }
}

impl LoadReport {
    /// The last phase of this name.
    pub fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().rfind(|phase| phase.name == name)
    }
}
