//! What the judge is asked and what it says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Weight;

/// What the judge says of a canary. Only [`Verdict::Regression`] rolls back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Enough was seen, and the canary is within the tolerance.
    Healthy,
    /// The canary is worse than the control.
    Regression,
    /// Not enough was seen yet.
    Watching,
    /// The source answers, and there were no requests.
    NoTraffic,
    /// The source answers, but has no series for the target.
    NoData,
    /// The source failed or did not answer in time.
    ProviderError,
    /// Canary and control differed before the change already.
    NotComparable,
}

impl Verdict {
    /// As people and JSON know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Regression => "REGRESSION",
            Self::Watching => "WATCHING",
            Self::NoTraffic => "NO_TRAFFIC",
            Self::NoData => "NO_DATA",
            Self::ProviderError => "PROVIDER_ERROR",
            Self::NotComparable => "NOT_COMPARABLE",
        }
    }
}

/// What one cohort did in a window. Rates and latencies are `None` without requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CohortTraffic {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// Of those, server errors.
    pub errors: u64,
    /// Per second.
    pub requests_per_second: f64,
    /// Median latency, milliseconds, interpolated in the histogram.
    pub latency_p50_ms: Option<f64>,
    /// 95th percentile.
    pub latency_p95_ms: Option<f64>,
    /// 99th percentile.
    pub latency_p99_ms: Option<f64>,
    /// Connections that could not be made or broke; `None` where nothing counts them. So are the next two.
    #[serde(default)]
    pub connection_failures: Option<u64>,
    /// Requests that a circuit breaker turned away, or times that one opened: what the mesh counts.
    #[serde(default)]
    pub circuit_breaker_trips: Option<u64>,
    /// Requests that an authorization policy denied.
    #[serde(default)]
    pub denials: Option<u64>,
}

impl CohortTraffic {
    /// 1 - errors / requests; `None` without requests.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "request counts stay far below 2^52")]
        (self.requests > 0).then(|| 1.0 - self.errors as f64 / self.requests as f64)
    }
}

/// From when on a weight was live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightPeriod {
    /// First moment of the period.
    pub start: Timestamp,
    /// Weight from then on.
    pub weight: Weight,
}

/// How the judge weighs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeOptions {
    /// Bound on the probability of ever rolling back a change that is not worse.
    pub alpha: f64,
    /// Error rate tolerated on top of the control's, as a fraction.
    pub tolerance: f64,
    /// Effect that must be detectable before HEALTHY is said, as a fraction of requests.
    pub detectable_effect: f64,
    /// What must hold whatever the control does.
    #[serde(default)]
    pub objectives: Objectives,
}

impl Default for JudgeOptions {
    fn default() -> Self {
        Self { alpha: 0.01, tolerance: 0.0005, detectable_effect: 0.05, objectives: Objectives::default() }
    }
}

/// Absolute limits beside the comparison with the control. `None` = no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// Error rate above which the canary is a regression while the control is below it.
    pub max_error_rate: Option<f64>,
    /// Error rate up to which nothing is called a regression.
    pub negligible_error_rate: Option<f64>,
    /// Requests that take longer are slow.
    pub latency_ms: Option<f64>,
    /// Share of slow requests above which the canary is a regression while the control is below it; 1 % if only
    /// `latency_ms` is given.
    pub max_slow_rate: Option<f64>,
    /// Latency up to which no request is called slow.
    pub negligible_latency_ms: Option<f64>,
    /// The change is meant to deny requests: they are counted and shown, and not judged.
    pub denials_are_meant: bool,
}

/// Increases of one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickSample {
    /// End of the tick.
    pub end: Timestamp,
    /// Canary requests.
    pub canary_requests: u64,
    /// Canary errors.
    pub canary_errors: u64,
    /// Control requests.
    pub control_requests: u64,
    /// Control errors.
    pub control_errors: u64,
}

/// A verdict with everything that led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// Under which it can be asked for again; empty if it was not stored.
    #[serde(default)]
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence for people, with the numbers.
    pub explanation: String,
    /// Evidence against the canary (an e-value).
    pub evidence: f64,
    /// Bound at which it is a regression: 1 / alpha.
    pub evidence_bound: f64,
    /// Canary traffic of the current step.
    pub canary: CohortTraffic,
    /// Control traffic of the current step.
    pub control: CohortTraffic,
    /// canary / (canary + control) of the current step; `None` without requests.
    pub observed_share: Option<f64>,
    /// Canary requests in the current step that the detectable effect needs.
    pub required_requests: u64,
    /// The last ticks, at most 240.
    pub samples: Vec<TickSample>,
    /// The queries that were sent.
    pub queries: Vec<String>,
    /// When it was judged.
    pub time: Timestamp,
}
