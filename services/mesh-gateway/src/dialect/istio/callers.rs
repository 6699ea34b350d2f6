//! What callers read (routes, policies of a host) given to some of them: to pods that call, or to namespaces that do.
//!
//! Nothing in a cluster says who calls. So of the pods it is those of one namespace that are divided, the object's own
//! if none is named, and of the namespaces those whose pods Istio injects, if none are named. A caller that is neither is
//! governed by the live version until the end, which the plan admits.

use std::collections::BTreeMap;

use meshward_model::{ExposureIntent, Weight};
use serde_json::Value;

use super::{instance::pods, neighbours_of};
use crate::dialect::{
    Need, Phase, PodCohorts, Question, Unsupported, callers,
    steps::{ALL_AT_ONCE, cohort_key},
};

/// Objects there are about every namespace, and proxies there read them in another order. A mesh can be told another
/// name; this is Istio's default.
const ROOT_NAMESPACE: &str = "istio-system";

/// The namespace whose pods are divided.
pub(super) fn namespace<'a>(question: &'a Question<'_>) -> &'a str {
    question.audience.namespaces.first().unwrap_or(&question.target.namespace)
}

/// The pods.
pub(super) fn pods_needed(question: &Question<'_>) -> Need {
    Need::within("v1", "Pod", namespace(question))
}

/// The namespaces, if none are named.
pub(super) fn namespaces_needed(question: &Question<'_>) -> Option<Need> {
    question.audience.namespaces.is_empty().then(|| Need::all("v1", "Namespace"))
}

/// How many pods are divided.
pub(super) fn count(question: &Question<'_>) -> Result<usize, Unsupported> {
    let place = namespace(question);
    if question.audience.namespaces.len() > 1 {
        return Err(Unsupported::new(
            "the pods of one namespace are divided, and the audience names several",
            format!("name one, ask for NAMESPACE, or {ALL_AT_ONCE}"),
        ));
    }
    check_place(place)?;
    let count = pods::dividable(question, place, &BTreeMap::new())?.len();
    if count < 2 {
        return Err(Unsupported::new(
            format!("there are {count} pods in namespace {place}, and two at least are needed to divide the callers"),
            format!("name the namespace of the callers in audience.namespaces, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(count)
}

fn check_place(place: &str) -> Result<(), Unsupported> {
    if place != ROOT_NAMESPACE {
        return Ok(());
    }
    Err(Unsupported::new(
        format!("the proxies of {place} look for what governs them in another order than all others"),
        format!("name other namespaces of callers, or {ALL_AT_ONCE}"),
    ))
}

/// The callers of an intent, divided into cohorts; `None` = the label is taken away.
pub(super) fn divided(intent: &ExposureIntent, share: Option<Weight>) -> PodCohorts {
    let named = callers::of_facts(&intent.baseline.facts).into_iter().next();
    PodCohorts {
        namespace: named.unwrap_or_else(|| intent.target.namespace.clone()),
        labels: BTreeMap::new(),
        key: cohort_key(&intent.target),
        share,
        label_stable: false,
    }
}

/// The same as a phase.
pub(super) fn cohorts(intent: &ExposureIntent, share: Option<Weight>) -> Phase {
    Phase::Pods(divided(intent, share))
}

/// The namespaces that can be given the canary, in the order in which they are; without those that `has_own` says
/// something of their own.
pub(super) fn namespaces(question: &Question<'_>, has_own: impl Fn(&str) -> bool) -> Result<Vec<String>, Unsupported> {
    let named = &question.audience.namespaces;
    if let Some(other) = named.iter().find(|name| has_own(name)) {
        return Err(Unsupported::new(
            format!("the callers in {other} do not use the live version: something else there has the host"),
            format!("leave {other} out of the audience, or {ALL_AT_ONCE}"),
        ));
    }
    named.iter().try_for_each(|name| check_place(name))?;
    if !named.is_empty() {
        return Ok(named.clone());
    }
    let found = neighbours_of(question, "Namespace").filter(|one| is_injected(one));
    let names = found.filter_map(|one| one["metadata"]["name"].as_str());
    let mut names: Vec<_> = names.filter(|name| *name != ROOT_NAMESPACE && !has_own(name)).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Unsupported::new(
            "no namespace of callers is known: none has the label istio-injection or istio.io/rev, or each has its own",
            format!("name them in audience.namespaces, or {ALL_AT_ONCE}"),
        ));
    }
    callers::shuffle(&mut names, question.target);
    Ok(names)
}

fn is_injected(namespace: &Value) -> bool {
    let labels = &namespace["metadata"]["labels"];
    labels["istio-injection"] == "enabled" || labels["istio.io/rev"].as_str().is_some_and(|rev| !rev.is_empty())
}

/// What a plan by pods must admit.
pub(super) fn pods_not_covered(place: &str) -> Vec<String> {
    vec![
        format!("Callers that are no pods of namespace {place} are governed by the live version until 100 %."),
        format!("The share is one of the pods of {place}, whether they call or not, and however much."),
        "Requests on a connection that is open when its pod changes the cohort go by the new routes at once."
            .to_owned(),
        "A pod that is not Ready follows when it is: istiod does not look at its labels before.".to_owned(),
    ]
}

/// What a plan by namespaces must admit.
pub(super) fn namespaces_not_covered() -> Vec<String> {
    vec![
        "The share is one of namespaces, however much they call.".to_owned(),
        "Callers in other namespaces, or in ones that are made later, are governed by the live version until 100 %."
            .to_owned(),
    ]
}
