//! The kinds of Istio that no part of the traffic can be given, and why.

use crate::dialect::{Unsupported, steps::ALL_AT_ONCE};

/// The refusal of a kind.
pub(super) fn step_by_step(kind: &str) -> Unsupported {
    let (reason, instead) = match kind {
        "ProxyConfig" => (
            "it is read when a pod is injected, so that labels on pods that run change nothing",
            "put a copy with a selector in place, let a second Deployment's pods carry its label, and scale that one up",
        ),
        "WorkloadGroup" => (
            "it is a template for workloads that register later; those that run do not change",
            "let a few workloads register with a second WorkloadGroup",
        ),
        _ => ("it cannot be exposed step by step yet", "use another kind"),
    };
    Unsupported::new(format!("{kind}: {reason}"), format!("{instead}; or {ALL_AT_ONCE}"))
}
