//! Kinds that choose their pods by labels: pod by pod.
//!
//! The pods are divided by a label of the rollout's own, and each pod is governed by one object. Istio's selectors know
//! only "has these labels", never "has not", so the live object must be narrowed to the stable pods, and every pod must
//! carry a label before it is. Three shapes:
//!
//! - **Partition**: the live object for the stable pods, a second object with the new version for the canaries. If the
//!   new version is that the object is gone, there is no second one.
//! - **Beside**: where an object with a selector takes the place of one without (PeerAuthentication, Sidecar), the live
//!   one stays as it is and a pod without the label is stable.
//! - **First**: nothing stood there before, so nothing stands there for the stable pods.
//!
//! In the end the live object becomes the approved one for all pods. Where two of the same do no harm to a pod that both
//! select, it does so at once; where they would do things twice, it first becomes the approved one for the stable pods,
//! and the canaries join them by their label, so that at no moment a pod has both.
//!
//! The way back is the same: where it does no harm, the live object is put back for all pods at once, and the second one
//! is deleted right after it. istiod reads a kind in the order in which it was written, so that no pod is without both.

mod checks;
pub(super) mod pods;
mod scope;

use std::collections::BTreeMap;

use meshward_model::{Alternative, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Target, Weight};
use serde_json::Value;

use crate::{
    cohorts::nominal_share,
    dialect::{
        CANARY, Desired, Need, Newcomers, Phase, Planned, PodCohorts, Question, STABLE, Unsupported, Wanted,
        istio::{copy_of, gateway},
        steps::{Wording, approved, baseline, cohort_key, planned, step},
    },
    instances::COHORT_LABEL,
    object,
};
pub(super) use checks::{helper_name, overlaps};
use pods::Pods;
use scope::Overlap;
pub(super) use scope::Scope;

/// How the versions are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Partition,
    Beside,
    First,
}

impl Shape {
    fn of(scope: Scope, stable: Option<&Value>, canary: &Value) -> Self {
        let Some(stable) = stable else { return Self::First };
        let is_namespace_wide = scope.labels(object::spec(stable)).is_empty();
        if scope.overlap() == Overlap::Oldest && is_namespace_wide && !canary.is_null() {
            Self::Beside
        } else {
            Self::Partition
        }
    }
}

/// The objects that a plan must know.
pub(super) fn needs(question: &Question<'_>, scope: Scope) -> Vec<Need> {
    let Target { api_version, kind, namespace, .. } = question.target;
    let mut needs = vec![
        Need::within("v1", "Pod", namespace),
        Need::within("v1", "Service", namespace),
        Need::within("networking.istio.io/v1", "WorkloadEntry", namespace),
    ];
    if checks::others_matter(scope) {
        needs.push(Need::within(api_version, kind, namespace));
    }
    needs
}

pub(super) fn plan(question: &Question<'_>, scope: Scope) -> Result<Planned, Unsupported> {
    checks::check(question, scope)?;
    let shape = Shape::of(scope, question.baseline.object.as_ref(), question.canary);
    let labels = selected(scope, question.baseline.object.as_ref(), question.canary);
    let pods = Pods::of(question, &labels)?;
    let key = cohort_key(question.target);
    let exposed = |weight| {
        let share = nominal_share(weight, pods.count());
        format!("The pods with the label {key}={CANARY}: {share} of the {} pods that there are now.", pods.count())
    };
    let share = |weight: Weight| nominal_share(weight, pods.count());
    let wording = Wording { mechanism: Mechanism::Instance, share: &share, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism: Mechanism::Instance,
        reason: "By pods: each pod is governed by exactly one version.".to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered: not_covered(shape),
        alternatives: alternatives(scope),
        metrics_target: MetricsTarget {
            hosts: pods.hosts(),
            canary_series: CANARY.to_owned(),
            control_series: if has_stable_label(shape) { STABLE.to_owned() } else { String::new() },
            cohort_label: key,
            pod_labels: labels,
            ..MetricsTarget::uncounted(question.target.mesh, Mechanism::Instance, &question.target.cluster)
        },
    };
    Ok(plan.into())
}

/// The labels of the pods that the object is about. The versions select the same ones.
fn selected(scope: Scope, stable: Option<&Value>, canary: &Value) -> BTreeMap<String, String> {
    scope.labels(object::spec(stable.unwrap_or(canary)))
}

fn has_stable_label(shape: Shape) -> bool {
    shape == Shape::Partition
}

/// A Gateway chooses its pods by labels as well, in a way of its own.
const GATEWAY: (&str, &[&str], &str) =
    ("networking.istio.io/v1", &["networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"], "Gateway");

/// The kinds that are narrowed to the stable pods.
pub(super) fn labelling_kinds() -> Vec<Need> {
    let need = |(api_version, older, kind): (&str, &[&str], &str)| {
        let older = older.iter().map(|version| (*version).to_owned()).collect();
        Need { older, ..Need::all(api_version, kind) }
    };
    Scope::KINDS.into_iter().chain([GATEWAY]).map(need).collect()
}

/// The pods of an object that is narrowed to the stable ones: a new one must carry the label to be governed.
pub(super) fn newcomers(target: &Target, live: &Value) -> Option<Newcomers> {
    let spec = object::spec(live);
    let mut labels = match (target.group(), &*target.kind) {
        ("networking.istio.io", "Gateway") => gateway::labels(spec),
        (group, kind) => Scope::of(group, kind)?.labels(spec),
    };
    let is_ours = |(key, value): (&String, &String)| {
        (key.strip_prefix(COHORT_LABEL).is_some_and(|rest| rest.starts_with('-')) && value == STABLE)
            .then(|| key.clone())
    };
    let key = labels.iter().find_map(is_ours)?;
    labels.remove(&key);
    Some(Newcomers { namespace: target.namespace.clone(), labels, key })
}

/// The pods whose labels decide, at every step.
pub(super) fn divided(intent: &ExposureIntent) -> Option<PodCohorts> {
    Layout::of(intent).ok().map(|layout| layout.cohorts(Some(intent.weight)))
}

/// The versions of an intent, laid out.
struct Layout<'a> {
    intent: &'a ExposureIntent,
    scope: Scope,
    shape: Shape,
    key: String,
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let layout = Layout::of(intent)?;
    Ok(if intent.weight == Weight::FULL { layout.end() } else { layout.step() })
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    Ok(Layout::of(intent)?.back())
}

impl<'a> Layout<'a> {
    fn of(intent: &'a ExposureIntent) -> Result<Self, Unsupported> {
        let target = &intent.target;
        let scope = Scope::of(target.group(), &target.kind).ok_or_else(|| {
            Unsupported::new(format!("{} does not choose pods by labels", target.kind), "use the plan's mechanism")
        })?;
        let shape = Shape::of(scope, intent.baseline.object.as_ref(), &intent.canary);
        Ok(Self { intent, scope, shape, key: cohort_key(target) })
    }

    fn step(&self) -> Vec<Phase> {
        let mut objects = Vec::new();
        objects.extend(self.helper());
        if let Some(stable) = &self.intent.baseline.object {
            let spec = object::spec(stable);
            objects.push(step(
                &self.intent.target,
                match self.shape {
                    Shape::Partition => self.scope.narrowed(spec, &self.key, STABLE),
                    // Only marks: who looks at it sees the deployment, and a late writer is held back.
                    Shape::Beside | Shape::First => spec.clone(),
                },
            ));
        }
        let mut phases = vec![Phase::Objects(objects), self.pods(Some(self.intent.weight))];
        if has_stable_label(self.shape) {
            phases.insert(0, self.pods(Some(Weight::ZERO)));
        }
        phases
    }

    fn end(&self) -> Vec<Phase> {
        let Self { intent, scope, key, .. } = self;
        let mut phases = Vec::new();
        if self.does_harm() {
            let spec = scope.narrowed(object::spec(&intent.canary), key, STABLE);
            phases.push(Phase::Objects(vec![step(&intent.target, spec)]));
            phases.push(self.pods(Some(Weight::ZERO)));
        }
        phases.push(Phase::Objects(vec![approved(&intent.target, &intent.canary)]));
        phases.extend(self.gone().map(|desired| Phase::Objects(vec![desired])));
        phases.push(self.pods(None));
        phases
    }

    fn back(&self) -> Vec<Phase> {
        let objects = std::iter::once(baseline(&self.intent.target)).chain(self.gone());
        if !self.does_harm() {
            return vec![Phase::Objects(objects.collect()), self.pods(None)];
        }
        let one_by_one = objects.map(|desired| Phase::Objects(vec![desired]));
        [self.pods(Some(Weight::ZERO))].into_iter().chain(one_by_one).chain([self.pods(None)]).collect()
    }

    /// A pod that both objects select would have them twice.
    fn does_harm(&self) -> bool {
        let adds_up = matches!(self.scope.overlap(), Overlap::Twice | Overlap::Random);
        adds_up && self.shape == Shape::Partition && !self.intent.canary.is_null()
    }

    /// The helper is taken away.
    fn gone(&self) -> Option<Desired> {
        self.helper_target().map(|target| Desired { target, wanted: Wanted::Gone })
    }

    /// `None` if the new version is that there is none.
    fn helper_target(&self) -> Option<Target> {
        let target = &self.intent.target;
        (!self.intent.canary.is_null()).then(|| Target { name: helper_name(&target.name), ..target.clone() })
    }

    /// The new version for the canaries.
    fn helper(&self) -> Option<Desired> {
        let canary = &self.intent.canary;
        let spec = self.scope.narrowed(object::spec(canary), &self.key, CANARY);
        Some(copy_of(&self.helper_target()?, canary, spec))
    }

    fn cohorts(&self, share: Option<Weight>) -> PodCohorts {
        let intent = self.intent;
        PodCohorts {
            namespace: intent.target.namespace.clone(),
            labels: selected(self.scope, intent.baseline.object.as_ref(), &intent.canary),
            key: self.key.clone(),
            share,
            label_stable: has_stable_label(self.shape),
        }
    }

    fn pods(&self, share: Option<Weight>) -> Phase {
        Phase::Pods(self.cohorts(share))
    }
}

fn not_covered(shape: Shape) -> Vec<String> {
    let mut sentences = vec![
        "The share is one of pods: a pod that gets more requests than others exposes more of them.",
        "Requests on a connection that is open when its pod changes the cohort are governed as before until the proxy \
         has drained it: tens of milliseconds with Istio's own settings, seconds with others.",
        "A pod that is not Ready follows when it is: istiod does not look at its labels before.",
        "Canary and control are counted apart only if Prometheus takes over the labels of the pods: a labelmap of \
         __meta_kubernetes_pod_label_(.+), as in Istio's sample configuration. It knows a pod's new label some seconds \
         after the proxy does; until then the requests of a new canary are counted among the control's.",
    ];
    if has_stable_label(shape) {
        sentences.push(
            "New pods are stable from their creation by Meshward's MutatingAdmissionPolicy, if it is installed (Kubernetes \
             1.36) and the gateway may make a ConfigMap for it.",
        );
        sentences.push(
            "Otherwise the gateway labels new pods as it sees them, which takes it to run, and for the moment between a \
             pod's creation and its label no version governs the pod: it matters once the pod is Ready, since Istio \
             sends nothing to one that is not. A Ready pod without a label is never called live.",
        );
    }
    sentences.into_iter().map(str::to_owned).collect()
}

fn alternatives(scope: Scope) -> Vec<Alternative> {
    let request = match scope {
        Scope::AuthorizationPolicy => "Is for what only requests are asked: no TCP connections, one action.",
        _ => "Nothing in this kind can ask for a request id.",
    };
    let shadow = match scope {
        Scope::AuthorizationPolicy => "Counts what the new version would decide, and decides nothing.",
        _ => "Istio knows dry runs of AuthorizationPolicies only.",
    };
    let fixed = [
        (Mechanism::Request, request),
        (Mechanism::Shadow, shadow),
        (Mechanism::Weight, "Is for destinations."),
        (Mechanism::Subset, "Is for DestinationRule."),
        (Mechanism::Namespace, "A copy in another namespace governs that namespace's workloads, not a share."),
        (Mechanism::Header, "Nothing in this kind is chosen by a header."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    fixed.map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() }).to_vec()
}

#[cfg(test)]
mod tests;
