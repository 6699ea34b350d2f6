//! Product metrics of this service.

use meshward_chassis::telemetry;
use prometheus_client::metrics::counter::Counter;

use crate::audit::{Action, Event};

/// Counters; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    created: Counter,
    versions: Counter,
    submitted: Counter,
    approved: Counter,
    rejected: Counter,
    quarantined: Counter,
}

impl Metrics {
    /// Counters that are shown with the server's own.
    #[must_use]
    pub fn registered(server: &telemetry::Metrics) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("meshward_policies_created", "Policies created", &metrics.created),
            ("meshward_policy_versions_created", "Versions created", &metrics.versions),
            ("meshward_policy_versions_submitted", "Versions submitted", &metrics.submitted),
            ("meshward_policy_approvals", "Approvals given", &metrics.approved),
            ("meshward_policy_versions_rejected", "Versions rejected", &metrics.rejected),
            ("meshward_policy_versions_quarantined", "Versions rolled back", &metrics.quarantined),
        ] {
            server.register(name, help, counter.clone());
        }
        metrics
    }

    /// Counts what was stored.
    pub fn count(&self, events: &[Event]) {
        for event in events {
            if let Some(counter) = self.counter(&event.action) {
                counter.inc();
            }
        }
    }

    fn counter(&self, action: &str) -> Option<&Counter> {
        let counters = [
            (Action::PolicyCreated, &self.created),
            (Action::VersionCreated, &self.versions),
            (Action::VersionSubmitted, &self.submitted),
            (Action::VersionApproved, &self.approved),
            (Action::VersionRejected, &self.rejected),
            (Action::VersionRolledBack, &self.quarantined),
        ];
        counters.into_iter().find(|(counted, _)| counted.name() == action).map(|(_, counter)| counter)
    }
}
