//! The process's metric registry and the RED metrics of its RPCs.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Metric, Registry},
};

/// Seconds; from a cache hit to a slow analysis.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    service: String,
    method: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    service: String,
    method: String,
}

/// Metrics of one server. Clones share the same registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
        };
        metrics.register("meshward_rpc_requests", "RPCs that ended, by status", metrics.requests.clone());
        metrics.register(
            "meshward_rpc_duration_seconds",
            "Seconds from first header to status",
            metrics.durations.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Adds a metric of the service's own. Counters get the suffix `_total` when they are written out.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.registry.lock().expect("no holder panics").register(name, help, metric);
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().expect("no holder panics");
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes any text");
        text
    }

    /// Counts one RPC. Service and method must be names of the contract, never what a caller made up.
    pub(crate) fn record(&self, service: &str, method: &str, code: &str, took: Duration) {
        let (service, method) = (service.to_owned(), method.to_owned());
        let labels = RequestLabels { service: service.clone(), method: method.clone(), code: code.to_owned() };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&DurationLabels { service, method }).observe(took.as_secs_f64());
    }
}
