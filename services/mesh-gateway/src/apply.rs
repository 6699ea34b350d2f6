//! Making a cluster look like an intent, and putting back what was there.
//!
//! Kubernetes is the only state. While a deployment has an object, the object carries three annotations: the
//! deployment, the generation of the writer that wrote last, and the digest of the spec that it wrote. From the live
//! object, what stood there before (the caller keeps it) and the intent, [`decide`] says what to write, or why not;
//! this module only reads, writes and reads again when somebody was faster. Every write names the resourceVersion that
//! the decision was made on, so a decision never meets another object than it saw.
//!
//! How a step is written: by server-side apply with the spec and our annotations alone, so that other managers keep
//! what is theirs. One case needs another way: if the live spec has a field that the wanted one has not, apply would
//! leave it behind when somebody else owns it, and requests would be governed by a mixture of both specs. Then one JSON
//! patch replaces the whole spec. Either way it is one write, and no moment in between exists.
//!
//! Restoring is one JSON patch of content and saved `managedFields`. Kubernetes records what it changes as ours, and then
//! a second patch puts the owners right ([`restore`]). Between the two the traffic is already as before; a repeated call
//! finishes the second.
//!
//! A step that takes several objects comes in phases ([`dialect::Phase`]): what is referred to is written, and proven
//! live by the caller, before it is referred to. Phases of many objects are written in parts ([`parts`]), which are the
//! phases that a caller sees. A call names the one that it wants; those before are looked at again and written only
//! where something is missing. An object that stands already as a later phase wants it is left, so that a repeated call
//! never goes back.
//!
//! Pods are divided into cohorts by labels ([`pods`]). The object that the deployment is about is the fence for them as
//! well: before pods are labelled it carries the generation of who does it. Labels are no objects of their own, so what
//! is proven live is still the objects: who of the proxies shows them follows from the labels. It is the fence for
//! helpers, too, which are not there before and not after ([`check_target`]).
//!
//! After the *absence* of an object was put back nothing is left to carry a generation: a record of such deployments
//! holds back who comes late ([`ended`]).

mod decide;
pub mod ended;
mod fence;
mod known;
mod marks;
mod newcomers;
mod patch;
mod pods;
mod restore;
mod stray;

use meshward_model::{AppliedObject, ExposureIntent, Target};
use serde_json::Value;

use crate::{
    cluster::{Cluster, ClusterError, Mode},
    dialect::{
        self, Desired, Phase, Wanted,
        parts::{self, Part, Work},
    },
    error::Error,
    object,
};
use decide::Action;
use fence::Fence;
use known::Known;
pub use marks::Marks;
pub use pods::read_cohorts;
pub(crate) use pods::{pod, relabel};
pub use stray::{Stray, of_intent as strayed};

/// How often a decision is made anew because somebody else was faster.
const ROUNDS: u32 = 5;

/// How things stand after a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The objects of the phases up to the one that was asked for, in the order of the plan.
    pub objects: Vec<AppliedObject>,
    /// Writes to objects that were needed.
    pub writes: u32,
    /// Pods that were moved to another cohort.
    pub pods_moved: u32,
    /// There are phases after this one.
    pub more: bool,
}

/// What is known of one object of an intent.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    intent: &'a ExposureIntent,
    target: &'a Target,
    /// As it stood before the deployment; `None` = it did not exist.
    baseline: Option<&'a Value>,
}

impl<'a> Case<'a> {
    fn of(intent: &'a ExposureIntent, target: &'a Target) -> Self {
        Self { intent, target, baseline: intent.before(target) }
    }

    /// The approved version is that this object is gone.
    fn removes(&self) -> bool {
        self.intent.is_about(self.target) && self.intent.canary.is_null()
    }

    /// The approved version, if the object is the one that the deployment is about.
    fn canary(&self) -> Option<&'a Value> {
        self.intent.is_about(self.target).then_some(&self.intent.canary)
    }
}

/// Makes the cluster look like the intent, up to a phase (from 0) whose predecessors were proven live.
///
/// # Errors
/// [`Error::Stale`], [`Error::Busy`] or [`Error::Drift`] if the fence holds it back, [`Error::Unsupported`], or what
/// the cluster says.
pub async fn expose(cluster: &dyn Cluster, intent: &ExposureIntent, phase: u32) -> Result<Outcome, Error> {
    let intent = as_stored(intent);
    let phases = dialect::of(intent.target.mesh).render(&intent)?;
    if ended::is_needed(&intent) {
        ended::check(cluster, &intent).await?;
    }
    walk(cluster, &intent, &phases, &parts::there(&intent, &phases), phase).await
}

/// Puts back what stood there before the deployment, up to a phase.
///
/// # Errors
/// As [`expose`].
pub async fn restore(cluster: &dyn Cluster, intent: &ExposureIntent, phase: u32) -> Result<Outcome, Error> {
    let intent = as_stored(intent);
    let phases = dialect::of(intent.target.mesh).undo(&intent)?;
    let recorded = if ended::is_needed(&intent) { ended::record(cluster, &intent).await? } else { 0 };
    let mut outcome = walk(cluster, &intent, &phases, &parts::back(&intent, &phases), phase).await?;
    outcome.writes += recorded;
    Ok(outcome)
}

/// The intent with its version in the form in which it is stored and read again.
#[must_use]
pub fn as_stored(intent: &ExposureIntent) -> ExposureIntent {
    let canary = dialect::of(intent.target.mesh).stored(&intent.target, &intent.canary);
    ExposureIntent { canary, ..intent.clone() }
}

async fn walk(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    phases: &[Phase],
    parts: &[Part<'_>],
    last: u32,
) -> Result<Outcome, Error> {
    let last = usize::try_from(last).unwrap_or(usize::MAX).min(parts.len().saturating_sub(1));
    let mut outcome = Outcome { more: last + 1 < parts.len(), ..Outcome::default() };
    let mut known = Known::begin(cluster, intent, phases).await?;
    for &Part { phase: index, work } in parts.iter().take(last + 1) {
        let later = &phases[index + 1..];
        match work {
            Work::Objects(objects) => {
                let narrowed = newcomers::narrowed(cluster, intent, objects, later, &known).await?;
                if narrowed.is_some() || objects.iter().any(|desired| matches!(desired.wanted, Wanted::Helper(_))) {
                    check_target(cluster, intent, phases, index).await?;
                }
                if let Some(newcomers) = &narrowed {
                    outcome.pods_moved += newcomers::look(cluster, intent, newcomers, &mut known).await?;
                }
                for desired in objects {
                    let applied = settle(cluster, intent, desired, later, &mut outcome.writes).await?;
                    outcome.objects.retain(|known| known.target != applied.target);
                    outcome.objects.push(applied);
                }
                if let Some(newcomers) = &narrowed {
                    outcome.pods_moved += newcomers::look(cluster, intent, newcomers, &mut known).await?;
                }
            }
            Work::Pods(cohorts) => {
                let fence = Fence { cluster, intent, phases, index };
                if !fence.is_overtaken().await? {
                    pods::settle(&fence, cohorts, &mut known, &mut outcome).await?;
                }
                if outcome.objects.is_empty() {
                    let target = &intent.target;
                    outcome.objects.push(applied(target, cluster.get(target).await?.as_ref()));
                }
            }
        }
    }
    let later: Vec<_> = parts.iter().skip(last + 1).filter_map(|part| part.work.pods()).collect();
    let version = pods::version(cluster, intent, &mut known, &later).await?;
    known.remember(intent, &outcome.objects, later.is_empty());
    outcome.objects.iter_mut().for_each(|applied| applied.pods_version.clone_from(&version));
    Ok(outcome)
}

/// A helper that is not there holds nobody back. So before one is made the object that the deployment is about is asked
/// in its stead: a late writer would leave a helper behind that nobody takes away, and that may be enforced.
async fn check_target(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    phases: &[Phase],
    index: usize,
) -> Result<(), Error> {
    let (target, phases_left) = (&intent.target, &phases[index..]);
    let (live, case) = (cluster.get(target).await?, Case::of(intent, target));
    let Some(next) = mentions(phases_left, target).next() else {
        // No step makes the object before the end: if it is there, the end has come.
        let is_never_mentioned = mentions(phases, target).next().is_none();
        return match live.filter(|_| case.baseline.is_none() && is_never_mentioned) {
            Some(live) => Err(decide::has_left(&live, &case)),
            None => Ok(()),
        };
    };
    if mentions(phases_left, target).any(|next| decide::is_reached(live.as_ref(), &case, next)) {
        return Ok(());
    }
    decide::decide(live.as_ref(), &case, next).map(drop)
}

/// Reads, decides and writes until there is nothing to write.
async fn settle(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    desired: &Desired,
    later: &[Phase],
    writes: &mut u32,
) -> Result<AppliedObject, Error> {
    let target = &desired.target;
    let case = Case::of(intent, target);
    let decide = |live: Option<&Value>| {
        if is_further(live, &case, later) { Ok(Action::Nothing) } else { decide::decide(live, &case, desired) }
    };
    let mut live = cluster.get(target).await?;
    let mut is_answer_to_write = false;
    let mut last = ClusterError::Conflict(format!("{target} does not become what was written"));
    for _ in 0..ROUNDS {
        let action = match decide(live.as_ref()) {
            Ok(action) => action,
            // What we have just written came back as something else: nobody was in between.
            Err(Error::Drift { .. }) if is_answer_to_write => return Err(changed_on_the_way(target)),
            Err(error) => return Err(error),
        };
        if action == Action::Nothing {
            return Ok(applied(target, live.as_ref()));
        }
        let is_made_anew = matches!(action, Action::Create(_)) && ended::is_needed(intent);
        let written = act(cluster, target, action).await;
        is_answer_to_write = written.is_ok();
        match written {
            Ok(now) => {
                if let Some(made) = now.as_ref().filter(|_| is_made_anew) {
                    let is_it = |live: &Value| object::uid(live) == object::uid(made);
                    ended::check_made(cluster, intent, target, is_it).await?;
                }
                *writes += 1;
                live = now;
                let version = live.as_ref().map(object::resource_version);
                tracing::info!(%target, version, "written");
            }
            // Somebody was faster, or the answer to a write of ours was lost: look again.
            Err(conflict @ ClusterError::Conflict(_)) => {
                last = conflict;
                live = cluster.get(target).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// Whether the object is as a later phase wants it.
fn is_further(live: Option<&Value>, case: &Case<'_>, later: &[Phase]) -> bool {
    mentions(later, case.target).any(|next| decide::is_reached(live, case, next))
}

/// What later phases want of an object.
fn mentions<'a>(later: &'a [Phase], target: &'a Target) -> impl Iterator<Item = &'a Desired> {
    let objects = later.iter().filter_map(|phase| match phase {
        Phase::Objects(objects) => Some(objects),
        Phase::Pods(_) => None,
    });
    objects.flatten().filter(move |desired| desired.target.key() == target.key())
}

/// Whether an object stands as the last phase of the intent that has to do with it leaves it. Then nobody else has changed
/// it since an earlier phase: another call of the same deployment was faster, after a lease that expired, say.
#[must_use]
pub fn has_gone_on(intent: &ExposureIntent, target: &Target, live: Option<&Value>) -> bool {
    let Ok(phases) = dialect::of(intent.target.mesh).render(intent) else { return false };
    // What stands where a helper was to go is somebody's.
    let is_its_end = |last: &Desired| live.is_none() || last.wanted != Wanted::Gone;
    let last = mentions(&phases, target).last().filter(|last| is_its_end(last));
    last.is_some_and(|last| decide::is_reached(live, &Case::of(intent, target), last))
}

fn changed_on_the_way(target: &Target) -> Error {
    let why = "the cluster stored something else than was sent: a mutating webhook or a default of the schema";
    ClusterError::Admission(format!("{target}: {why}")).into()
}

/// One write; the object as it stands after it.
async fn act(cluster: &dyn Cluster, target: &Target, action: Action) -> Result<Option<Value>, ClusterError> {
    match action {
        Action::Nothing => cluster.get(target).await,
        Action::Create(object) => cluster.create(target, &object).await.map(Some),
        Action::Apply(object) => Ok(Some(cluster.apply(target, &object, Mode::Store).await?.object)),
        Action::Patch(operations) => cluster.patch(target, &operations).await.map(Some),
        Action::Delete { uid, resource_version } => {
            cluster.delete(target, &uid, &resource_version).await?;
            // With finalizers it is not gone yet.
            cluster.get(target).await
        }
    }
}

fn applied(target: &Target, live: Option<&Value>) -> AppliedObject {
    AppliedObject {
        target: target.clone(),
        resource_version: live.map(object::resource_version).unwrap_or_default().to_owned(),
        object_generation: live.map(object::generation).unwrap_or_default(),
        absent: live.is_none(),
        pods_version: String::new(),
    }
}

#[cfg(test)]
mod tests;
