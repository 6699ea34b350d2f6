//! What is shown on `/metrics` of the questions to a source: how many were answered from memory, how many went out, how
//! long they took, and whether the source is left alone.

use std::time::Duration;

use meshward_chassis::telemetry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

/// Seconds; from an answer of a few series to the longest that is waited for.
const BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    cluster: String,
    outcome: &'static str,
}

/// The metrics of all sources; clones share them.
#[derive(Clone, Debug)]
pub struct Meters {
    questions: Family<Outcome, Counter>,
    requests: Family<Outcome, Counter>,
    durations: Family<Source, Histogram, fn() -> Histogram>,
    breakers: Family<Source, Gauge>,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            questions: Family::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            breakers: Family::default(),
        }
    }
}

impl Meters {
    /// Shown with the server's own.
    #[must_use]
    pub fn registered(server: &telemetry::Metrics) -> Self {
        let Self { questions, requests, durations, breakers } = Self::default();
        server.register(
            "meshward_metrics_questions",
            "Questions to a source by where the answer came from: memory (hit), the same question that was out already \
             (coalesced), or the source (miss)",
            questions.clone(),
        );
        server.register(
            "meshward_prometheus_requests",
            "Requests that were sent to Prometheus, repetitions included, by what became of them",
            requests.clone(),
        );
        server.register(
            "meshward_prometheus_request_duration_seconds",
            "Seconds until a request to Prometheus was answered or given up",
            durations.clone(),
        );
        server.register(
            "meshward_prometheus_breaker_state",
            "0 = Prometheus is asked, 1 = it is left alone because it failed, 2 = it is tried again",
            breakers.clone(),
        );
        Self { questions, requests, durations, breakers }
    }

    /// Those of one cluster's source.
    #[must_use]
    pub fn of(&self, cluster: Option<&str>) -> Meter {
        let cluster = cluster.unwrap_or("default").to_owned();
        let question = |outcome| self.question(&cluster, outcome);
        Meter {
            hits: question("hit"),
            misses: question("miss"),
            coalesced: question("coalesced"),
            duration: self.durations.get_or_create(&Source { cluster: cluster.clone() }).clone(),
            breaker: self.breakers.get_or_create(&Source { cluster: cluster.clone() }).clone(),
            requests: self.requests.clone(),
            cluster,
        }
    }

    fn question(&self, cluster: &str, outcome: &'static str) -> Counter {
        self.questions.get_or_create(&Outcome { cluster: cluster.to_owned(), outcome }).clone()
    }
}

/// The metrics of one source.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Questions that were answered from memory.
    pub hits: Counter,
    /// Questions that went out.
    pub misses: Counter,
    /// Questions that waited for the same one.
    pub coalesced: Counter,
    /// State of the breaker.
    pub breaker: Gauge,
    duration: Histogram,
    requests: Family<Outcome, Counter>,
    cluster: String,
}

impl Default for Meter {
    /// One that nobody reads.
    fn default() -> Self {
        Meters::default().of(None)
    }
}

impl Meter {
    /// A request to Prometheus came to its end.
    pub fn request(&self, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&Outcome { cluster: self.cluster.clone(), outcome }).inc();
        self.duration.observe(took.as_secs_f64());
    }
}
