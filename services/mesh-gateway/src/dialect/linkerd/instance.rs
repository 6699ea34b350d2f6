//! INSTANCE: pods by a label of their cohort.
//!
//! | phase of a step | what is written |
//! |---|---|
//! | 0 | the object itself (its marks hold late writers back), then the Servers that it hangs on, without the canary's pods; then the twins ([`super::twins`]): authentications, routes, authorizations, limits, and the Servers of the canary's pods last |
//! | 1 | the labels of the pods |
//!
//! No pod carries the label before phase 1, so that nothing of phase 0 changes what any pod does: until then the first
//! Server selects what it always did, and the second nothing. A Server that is written before its authorizations was
//! seen to deny 462 requests; here it has them before it has a pod. Pods that come later carry no label, and are stable.
//!
//! At 100 % the approved version is written into the object, which keeps its age, and proven; then the Servers are put
//! back, then the labels go, then the twins, the Servers first. At every one of these moments a pod is governed by
//! the approved version, by one Server or the other.
//!
//! The way back begins with the object and the first Servers: they are older than their twins, so that they govern all of
//! their pods from that moment on, and it is one write each.

mod around;

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Target, Weight};
use serde_json::Value;

use super::{
    alternatives,
    kind::Kind,
    object::twin_name,
    twins::{Source, cohort_key, for_cohort, pod_labels, sources, twins},
};
use crate::{
    cohorts,
    dialect::{
        Desired, Need, Phase, Planned, PodCohorts, Question, Unsupported, Wanted,
        steps::{Wording, approved, baseline, planned, step},
    },
    object,
};

pub(super) use around::{check_references, pod_needs as needs};

/// The plan.
pub(super) fn plan(question: &Question<'_>, kind: Kind) -> Result<Planned, Unsupported> {
    let around = around::look(question, kind)?;
    let key = cohort_key(question.target);
    let exposed = |weight: Weight| {
        let servers = around.servers.join(" and ");
        format!("{weight} of the pods of Server {servers}: those with the label {key}={}.", crate::dialect::CANARY)
    };
    let share = |weight| cohorts::nominal_share(weight, around.pods);
    let wording = Wording { mechanism: Mechanism::Instance, share: &share, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism: Mechanism::Instance,
        reason: "By pods: each pod is governed by exactly one whole version, also its connections.".to_owned(),
        steps: planned(question, (&around.related, &Value::Null), &wording, render)?,
        not_covered: around.not_covered,
        alternatives: alternatives::inbound(kind, Mechanism::Instance),
        metrics_target: metrics_target(question, &around.servers),
    };
    Ok(Planned { plan, related: around.related, facts: Value::Null })
}

/// Linkerd's inbound series carry the name of the Server. Of several Servers no one name is the canary's: these, and
/// their twins, are told apart by the label of the pods, if Prometheus takes it over.
fn metrics_target(question: &Question<'_>, servers: &[String]) -> MetricsTarget {
    let target = question.target;
    // A Server has no host; its series are found by namespace and name.
    let host = |name: &str| format!("{name}.{}.svc.cluster.local", target.namespace);
    let twins = servers.iter().filter(|_| servers.len() > 1).map(|name| twin_name(name));
    let (canary_series, control_series, cohort_label) = match servers {
        [server] => (twin_name(server), server.clone(), String::new()),
        _ => (crate::dialect::CANARY.to_owned(), String::new(), cohort_key(target)),
    };
    MetricsTarget {
        hosts: servers.iter().cloned().chain(twins).map(|name| host(&name)).collect(),
        canary_series,
        control_series,
        cohort_label,
        ..MetricsTarget::uncounted(target.mesh, Mechanism::Instance, &target.cluster)
    }
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let (sources, key) = (sources(intent), cohort_key(&intent.target));
    if intent.weight == Weight::FULL {
        return Ok(promote(intent, &sources, &key));
    }
    let own = intent.baseline.object.as_ref().map(|stable| fence(&intent.target, stable, &key));
    let servers = sources.iter().skip(1).filter(|source| source.is_server());
    let narrowed = servers.map(|server| step(server.target, for_cohort(server.canary, &key, "NotIn")));
    let helpers =
        twins(&sources, &key).into_iter().map(|(target, object)| Desired { target, wanted: Wanted::Helper(object) });
    let objects = own.into_iter().chain(narrowed).chain(helpers).collect();
    Ok(std::iter::once(Phase::Objects(objects)).chain(pods(&sources, &key, Some(intent.weight))).collect())
}

/// The object that the deployment is about, as it stays for the stable pods.
fn fence(target: &Target, stable: &Value, key: &str) -> Desired {
    match Kind::of_target(target) {
        Some(Kind::Server) => step(target, for_cohort(stable, key, "NotIn")),
        _ => step(target, object::spec(stable).clone()),
    }
}

/// The approved version for everybody, then away with what was for the canary's pods.
fn promote(intent: &ExposureIntent, sources: &[Source<'_>], key: &str) -> Vec<Phase> {
    let mut phases = vec![Phase::Objects(vec![approved(&intent.target, &intent.canary)])];
    let servers = widened(sources);
    if !servers.is_empty() {
        phases.push(Phase::Objects(servers));
    }
    phases.extend(pods(sources, key, None));
    phases.push(Phase::Objects(gone(sources, key)));
    phases
}

/// The way back: first what stood there before, then the twins, which govern nobody any more, then the labels.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let (sources, key) = (sources(intent), cohort_key(&intent.target));
    let before = std::iter::once(baseline(&intent.target)).chain(widened(&sources)).collect();
    let objects = [Phase::Objects(before), Phase::Objects(gone(&sources, &key))];
    objects.into_iter().chain(pods(&sources, &key, None)).collect()
}

/// The Servers besides the target, as they were.
fn widened(sources: &[Source<'_>]) -> Vec<Desired> {
    let others = sources.iter().skip(1).filter(|source| source.is_server());
    others.map(|server| baseline(server.target)).collect()
}

fn gone(sources: &[Source<'_>], key: &str) -> Vec<Desired> {
    let twins = twins(sources, key).into_iter().rev();
    twins.map(|(target, _)| Desired { target, wanted: Wanted::Gone }).collect()
}

/// The pods of each Server; Servers of the same pods share them.
fn pods(sources: &[Source<'_>], key: &str, share: Option<Weight>) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for server in sources.iter().filter(|source| source.is_server()) {
        // What cannot be read was refused by the plan.
        let Some(labels) = pod_labels(server.version()) else { continue };
        let cohorts = PodCohorts {
            namespace: server.target.namespace.clone(),
            labels,
            key: key.to_owned(),
            share,
            label_stable: false,
        };
        let phase = Phase::Pods(cohorts);
        if !phases.contains(&phase) {
            phases.push(phase);
        }
    }
    phases
}

/// The pods of the first Server.
pub(super) fn divided(intent: &ExposureIntent) -> Option<PodCohorts> {
    let phases = pods(&sources(intent), &cohort_key(&intent.target), Some(intent.weight));
    phases.into_iter().find_map(|phase| match phase {
        Phase::Pods(cohorts) => Some(cohorts),
        Phase::Objects(_) => None,
    })
}

/// What a plan by pods must know: everything in the namespace that can hang on a Server.
fn within<'a>(question: &Question<'a>) -> impl Iterator<Item = Need> + use<'a> {
    let kinds = [
        Kind::Server,
        Kind::AuthorizationPolicy,
        Kind::ServerAuthorization,
        Kind::PolicyRoute,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::RateLimit,
    ];
    let namespace = &question.target.namespace;
    let pods = Need::within("v1", "Pod", namespace);
    kinds.into_iter().map(move |kind| super::need(kind, Some(namespace))).chain([pods])
}
