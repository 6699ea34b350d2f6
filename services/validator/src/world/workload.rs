//! Workloads and how policies select them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Entry;
use crate::rules::field::Field;

/// Where policies of Istio have the labels that they select workloads by.
pub(crate) const SELECTOR: &[&str] = &["spec", "selector", "matchLabels"];

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

    /// Whether the Pods of an object have these labels; looks at nothing else, because most objects do not.
    #[must_use]
    pub fn has(entry: &Entry, wanted: &Labels<'_>) -> bool {
        let labels = Self::labels_of(entry);
        let is = |(name, value): (&&str, &&str)| labels.and_then(|labels| labels.get(*name)?.as_str()) == Some(*value);
        wanted.iter().all(is)
    }

    /// The labels of the Pods of an object, as they stand there.
    #[must_use]
    pub fn labels_of(entry: &Entry) -> Option<&Map<String, Value>> {
        let of_pod = || entry.value.get("metadata");
        let of_template = || entry.value.get("spec")?.get("template")?.get("metadata");
        let metadata = if entry.head.kind == "Pod" { of_pod() } else { of_template() };
        metadata?.get("labels")?.as_object()
    }

    /// The Pods' containers, those that run first too.
    #[must_use]
    pub fn containers(&self) -> Vec<Field<'w>> {
        ["containers", "initContainers"].iter().flat_map(|name| self.spec.get(name).items()).collect()
    }

    /// The service account that the Pods of an object run as.
    #[must_use]
    pub fn account(entry: &Entry) -> &str {
        let spec = entry.value.get("spec");
        let spec =
            if entry.head.kind == "Pod" { spec } else { spec.and_then(|spec| spec.get("template")?.get("spec")) };
        let own = spec.and_then(|spec| spec.get("serviceAccountName")?.as_str()).filter(|name| !name.is_empty());
        own.unwrap_or("default")
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

/// Whether labels have everything that the selector at a path in an object asks for. Makes no copy: this is asked of every
/// policy and Service of a namespace.
#[must_use]
pub fn has_all(entry: &Entry, path: &[&str], of: &Labels<'_>) -> bool {
    let selector = path.iter().try_fold(entry.value.as_ref(), |value, name| value.get(*name));
    let fields = selector.and_then(Value::as_object).into_iter().flatten();
    fields.into_iter().all(|(name, value)| of.get(name.as_str()).copied() == Some(value.as_str().unwrap_or_default()))
}

/// Whether there is a selector with labels at a path in an object.
#[must_use]
pub fn is_selecting(entry: &Entry, path: &[&str]) -> bool {
    let selector = path.iter().try_fold(entry.value.as_ref(), |value, name| value.get(*name));
    selector.and_then(Value::as_object).is_some_and(|fields| !fields.is_empty())
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
