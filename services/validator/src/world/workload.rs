//! Workloads and how policies select them.

use std::collections::BTreeMap;

use super::Entry;
use crate::rules::field::Field;

/// Labels, or what a selector asks of them.
pub type Labels<'w> = BTreeMap<&'w str, &'w str>;

/// A Pod, or the Pods that a template makes.
#[derive(Debug, Clone)]
pub struct Workload<'w> {
    /// The object.
    pub entry: &'w Entry,
    /// The labels of its Pods.
    pub labels: Labels<'w>,
    /// The metadata of its Pods.
    metadata: Field<'w>,
    /// The spec of its Pods.
    spec: Field<'w>,
}

impl<'w> Workload<'w> {
    /// A workload from its object.
    #[must_use]
    pub fn of(entry: &'w Entry) -> Self {
        let template = entry.spec().get("template");
        let (metadata, spec) = if entry.head.kind == "Pod" {
            (entry.root().get("metadata"), entry.spec())
        } else {
            (template.get("metadata"), template.get("spec"))
        };
        Self { entry, labels: labels(&metadata.get("labels")), metadata, spec }
    }

    /// The Pods' containers, those that run first too.
    #[must_use]
    pub fn containers(&self) -> Vec<Field<'w>> {
        ["containers", "initContainers"].iter().flat_map(|name| self.spec.get(name).items()).collect()
    }

    /// The Pods' service account.
    #[must_use]
    pub fn service_account(&self) -> &'w str {
        match self.spec.get("serviceAccountName").text() {
            "" => "default",
            name => name,
        }
    }

    /// The node that a Pod runs on.
    #[must_use]
    pub fn node(&self) -> &'w str {
        self.spec.get("nodeName").text()
    }

    /// Whether ztunnel takes its traffic.
    #[must_use]
    pub fn is_ambient(&self) -> bool {
        self.metadata.get("annotations").get("ambient.istio.io/redirection").text() == "enabled"
    }

    /// Whether it has, or will get, Istio's proxy. `None` if only its namespace can tell.
    #[must_use]
    pub fn is_injected(&self) -> Option<bool> {
        const INJECT: &str = "sidecar.istio.io/inject";
        if self.containers().iter().any(|container| container.get("name").text() == "istio-proxy") {
            return Some(true);
        }
        let said = [self.labels.get(INJECT).copied(), self.metadata.get("annotations").get(INJECT).as_text()];
        said.into_iter().flatten().next().map(|value| value == "true")
    }
}

/// The labels under a field.
#[must_use]
pub fn labels<'w>(field: &Field<'w>) -> Labels<'w> {
    field.entries().into_iter().map(|(name, value)| (name, value.text())).collect()
}

/// Whether labels have everything that a selector asks for.
#[must_use]
pub fn matches(selector: &Labels<'_>, labels: &Labels<'_>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Whether labels fulfil a selector of Kubernetes: matchLabels and matchExpressions.
#[must_use]
pub fn selects(selector: &Field<'_>, of: &Labels<'_>) -> bool {
    let expression = |item: &Field<'_>| {
        let (key, values) = (item.get("key").text(), item.get("values").items());
        let has = of.get(key);
        let among = has.is_some_and(|value| values.iter().any(|one| one.text() == *value));
        match item.get("operator").text() {
            "In" => among,
            "NotIn" => !among,
            "Exists" => has.is_some(),
            "DoesNotExist" => has.is_none(),
            _ => false,
        }
    };
    matches(&labels(&selector.get("matchLabels")), of)
        && selector.get("matchExpressions").items().iter().all(expression)
}
