//! ServiceEntry and WorkloadEntry by the weights of endpoints; a ServiceEntry also by the namespaces that call.
//!
//! Callers choose an endpoint for each request or connection by its weight. The endpoints of a ServiceEntry stand in the
//! one object, so both versions' are blended in it, `(1 - p) * stable + p * canary`. A WorkloadEntry is one endpoint: the
//! new version stands beside the live one, and the two share what weight they have.
//!
//! The trap of both: a weight of 0 counts as 1, and so does none. So nothing is ever written with a weight of 0, and what
//! cannot be divided without one is refused.
//!
//! A share by weights is exact only where weights decide: with endpoints of one locality and network, and a balancer that
//! looks at weights.

pub(super) mod service_entry;
pub(super) mod workload_entry;

use meshward_model::{Alternative, Mechanism, MetricsTarget};
use serde_json::Value;

use crate::dialect::{Question, Unsupported, steps::ALL_AT_ONCE};

/// Weights are written as parts of so many.
const WHOLE: f64 = 10_000.0;

/// The weight that Istio gives an endpoint: 0 and none are 1.
fn weight(endpoint: &Value) -> u64 {
    endpoint["weight"].as_u64().unwrap_or(0).max(1)
}

/// Endpoints in different places are not chosen between by their weights alone.
fn check_places<'a>(endpoints: impl Iterator<Item = &'a Value> + Clone) -> Result<(), Unsupported> {
    let place = |endpoint: &Value| {
        let part = |field: &str| endpoint[field].as_str().unwrap_or_default().to_owned();
        (part("locality"), part("network"))
    };
    let mut places: Vec<_> = endpoints.map(place).collect();
    places.sort();
    places.dedup();
    if places.len() < 2 {
        return Ok(());
    }
    Err(Unsupported::new(
        "the endpoints are in different localities or networks, so that where a caller is decides before their weights",
        format!("give all of them the same locality and network, or {ALL_AT_ONCE}"),
    ))
}

fn no_versions(question: &Question<'_>) -> Unsupported {
    Unsupported::new(
        format!(
            "{} does not exist, or shall be gone, and an endpoint that is not there has no weight",
            question.target
        ),
        ALL_AT_ONCE,
    )
}

fn not_covered() -> Vec<String> {
    [
        "It is not sticky: every request or connection is drawn anew, and open connections stay.",
        "A balancer that also counts open requests (Istio's own, LEAST_REQUEST) gives a slow endpoint less than its weight.",
        "It cannot be judged: callers do not count requests by endpoint.",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Why the others were not chosen; `namespace` is why not by that.
fn alternatives(chosen: Mechanism, namespace: &'static str) -> Vec<Alternative> {
    let fixed = [
        (Mechanism::Request, "An endpoint has no matches: a route to a second host has."),
        (Mechanism::Weight, "Shares out endpoints, not callers, and nothing else may differ."),
        (Mechanism::Subset, "Is for DestinationRule."),
        (Mechanism::Instance, "An entry is read by all callers alike, and is no pod that could carry a label."),
        (Mechanism::Namespace, namespace),
        (Mechanism::Header, "An endpoint has no matches: a route to a second host has."),
        (Mechanism::Shadow, "Istio has no dry run of endpoints."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    let others = fixed.into_iter().filter(|(mechanism, _)| *mechanism != chosen);
    others.map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() }).collect()
}

fn metrics_target(question: &Question<'_>, mechanism: Mechanism, hosts: Vec<String>) -> MetricsTarget {
    MetricsTarget { hosts, ..MetricsTarget::uncounted(question.target.mesh, mechanism, &question.target.cluster) }
}

#[cfg(test)]
mod tests;
