//! What the gateway does, without the wire: plan, expose, verify, restore, dry-run, read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use meshward_chassis::clock::Clock;
use meshward_model::{
    AppliedObject, Baseline, ExposureIntent, ExposurePlan, Mechanism, PropagationProof, PropagationState,
    RelatedBaseline, Target, Weight,
};
use meshward_proto::ConvertError;
use serde_json::Value;

use crate::{
    apply::{self, Outcome},
    cluster::{Cluster, ClusterError, Mode},
    clusters::{ClusterState, Clusters, Member},
    dialect::{self, Audience, Need, Neighbours, Planned, Question},
    drift::{self, Drifts},
    error::Error,
    instances::{self, Instance, NoPage, Wanted},
    object, objects,
    proof::{self, Expected, Patience},
};

/// How often a plan is made anew because an object that it builds on has moved on.
const ROUNDS: u32 = 3;

/// Between two looks at pods that are not labelled yet.
const PAUSE: Duration = Duration::from_millis(100);

/// What is said of a token of another list.
const FOREIGN_TOKEN: &str = "is not a token of this list, or too old; leave it empty to begin anew";

/// The gateway. Holds no state: what a deployment needs to remember, its caller remembers.
pub struct Gateway {
    clusters: Arc<Clusters>,
    clock: Arc<dyn Clock>,
}

/// What the API server says of an object that it was only asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// `None` = admitted; else who refused ("schema", "admission", "rbac") and in which words.
    pub refusal: Option<(&'static str, String)>,
    /// Warnings of the API server.
    pub warnings: Vec<String>,
}

impl Gateway {
    /// A gateway to these clusters.
    pub fn new(clusters: Arc<Clusters>, clock: Arc<dyn Clock>) -> Self {
        Self { clusters, clock }
    }

    fn member(&self, name: &str) -> Result<Arc<Member>, Error> {
        self.clusters.get(name).map_err(Error::ClusterUnknown)
    }

    fn cluster(&self, name: &str) -> Result<Arc<dyn Cluster>, Error> {
        Ok(Arc::clone(self.member(name)?.cluster()?))
    }

    /// How the canary would be exposed, and what stands there now.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it cannot be, or what the cluster says.
    pub async fn plan(
        &self,
        target: &Target,
        canary: &Value,
        weights: &[Weight],
        wanted: Option<Mechanism>,
    ) -> Result<(ExposurePlan, Baseline), Error> {
        self.plan_for(&Audience::default(), target, canary, weights, wanted).await
    }

    /// The same for a certain audience.
    ///
    /// # Errors
    /// As [`Gateway::plan`].
    pub async fn plan_for(
        &self,
        audience: &Audience,
        target: &Target,
        canary: &Value,
        weights: &[Weight],
        wanted: Option<Mechanism>,
    ) -> Result<(ExposurePlan, Baseline), Error> {
        let cluster = &*self.cluster(&target.cluster)?;
        let dialect = dialect::of(target.mesh);
        let live = cluster.get(target).await.map_err(|error| match (&error, dialect.instead(target, canary)) {
            (ClusterError::KindNotServed { .. }, Some(unsupported)) => unsupported.into(),
            _ => Error::from(error),
        });
        let mut baseline = Baseline::of(live?);
        if let Some(marks) = baseline.object.as_ref().and_then(apply::Marks::of) {
            return Err(Error::Busy { object: target.to_string(), deployment: marks.deployment });
        }
        let canary = &dialect.stored(target, canary);
        let question = Question {
            target,
            baseline: &baseline,
            canary,
            weights,
            wanted,
            audience,
            neighbours: Neighbours::default(),
        };
        let (mut listed, mut read) = (neighbours(cluster, &dialect.needs(&question)).await?, Vec::new());
        for _ in 0..ROUNDS {
            let neighbours = Neighbours { listed: &listed, read: &read };
            let Planned { plan, related, facts } = dialect.plan(&Question { neighbours, ..question })?;
            let fresh = read_again(cluster, &related).await?;
            if related.iter().zip(&fresh).all(|(known, fresh)| is_same(known, fresh)) {
                baseline.related = fresh;
                baseline.facts = facts;
                return Ok((plan, baseline));
            }
            // The list was behind.
            for RelatedBaseline { target, object } in fresh {
                listed.retain(|known| !object::is_of(known, &target));
                read.retain(|known| !object::is_of(known, &target));
                read.extend(object);
            }
        }
        let why = format!("the objects around {target} change faster than a plan can be made");
        Err(ClusterError::Conflict(why).into())
    }

    /// Makes the cluster look like the intent.
    ///
    /// # Errors
    /// As [`apply::expose`].
    pub async fn expose(&self, intent: &ExposureIntent, phase: u32) -> Result<Outcome, Error> {
        let mark = self.mark(intent).await;
        let outcome = apply::expose(&*self.cluster(&intent.target.cluster)?, intent, phase).await?;
        self.wrote(intent, &outcome, mark);
        Ok(outcome)
    }

    /// Puts back what was there.
    ///
    /// # Errors
    /// As [`apply::restore`].
    pub async fn restore(&self, intent: &ExposureIntent, phase: u32) -> Result<Outcome, Error> {
        let mark = self.mark(intent).await;
        let outcome = apply::restore(&*self.cluster(&intent.target.cluster)?, intent, phase).await?;
        self.wrote(intent, &outcome, mark);
        Ok(outcome)
    }

    /// How the proxies stand before a write; nothing where nobody can be asked.
    async fn mark(&self, intent: &ExposureIntent) -> proof::Mark {
        match self.member(&intent.target.cluster).as_ref().map(|member| member.plane()) {
            Ok(Ok(plane)) => plane.mark(&intent.target).await,
            _ => proof::Mark::default(),
        }
    }

    fn wrote(&self, intent: &ExposureIntent, outcome: &Outcome, mark: proof::Mark) {
        if let Ok(Ok(plane)) = self.member(&intent.target.cluster).as_ref().map(|member| member.plane()) {
            plane.wrote(&outcome.objects, mark);
        }
    }

    /// Waits until the objects are live. The answer is that of the first object that is not; or of all.
    ///
    /// # Errors
    /// Only if the cluster is not known; that nobody can be asked is an answer.
    pub async fn verify(
        &self,
        intent: &ExposureIntent,
        objects: &[AppliedObject],
        patience: Patience,
    ) -> Result<PropagationProof, Error> {
        let intent = &apply::as_stored(intent);
        let start = Instant::now();
        let mut whole: Option<PropagationProof> = None;
        for applied in objects {
            let rest = Patience { timeout: patience.timeout.saturating_sub(start.elapsed()), ..patience };
            let mut proof = self.verify_one(intent, applied, objects, rest, start).await?;
            if proof.state != PropagationState::Live {
                return Ok(proof);
            }
            if let Some(before) = whole {
                // The object that concerns most speaks for all.
                if before.concerned > proof.concerned {
                    proof.message = before.message;
                }
                proof.concerned = proof.concerned.max(before.concerned);
                proof.acknowledged = proof.acknowledged.max(before.acknowledged);
                // With a quorum some may lack one object and some another.
                proof.laggards.extend(before.laggards);
                proof.laggards.sort();
                proof.laggards.dedup();
            }
            whole = Some(proof);
        }
        let nothing = || proof::unknown("no object was named", start.elapsed(), self.clock.now());
        Ok(whole.unwrap_or_else(nothing))
    }

    async fn verify_one(
        &self,
        intent: &ExposureIntent,
        applied: &AppliedObject,
        beside: &[AppliedObject],
        patience: Patience,
        start: Instant,
    ) -> Result<PropagationProof, Error> {
        let member = self.member(&applied.target.cluster)?;
        let cluster = &**member.cluster()?;
        let live = match self.undrifted(cluster, intent, applied, start).await {
            Ok(live) => live,
            Err(answer) => return Ok(*answer),
        };
        let until = Instant::now() + patience.timeout;
        let mut expected = Expected { beside: beside.to_vec(), ..expected(intent, applied.target.clone(), live) };
        match self.governed(cluster, intent, expected.object.as_ref(), &applied.pods_version, until, start).await {
            Ok(Some(cohorts)) => expected.decided_by_labels(cohorts),
            Ok(None) => {}
            Err(answer) => return Ok(*answer),
        }
        let patience = Patience { timeout: until.saturating_duration_since(Instant::now()), ..patience };
        let proof = proof::wait(member.plane()?, &expected, patience, start, || self.clock.now()).await;
        // A pod may have come meanwhile.
        if proof.state == PropagationState::Live
            && expected.cohorts.is_some()
            && let Err(answer) =
                self.governed(cluster, intent, expected.object.as_ref(), &applied.pods_version, until, start).await
        {
            return Ok(*answer);
        }
        // A change during the wait would make the proof one of somebody else's object.
        match self.undrifted(cluster, intent, applied, start).await {
            Ok(_) => Ok(proof),
            Err(answer) => Ok(*answer),
        }
    }

    /// The pods that the intent divides, once each Ready one is governed by a version; `None` if it divides none. When the
    /// time is over, the answer that some are not.
    async fn governed(
        &self,
        cluster: &dyn Cluster,
        intent: &ExposureIntent,
        object: Option<&Value>,
        version: &str,
        until: Instant,
        start: Instant,
    ) -> Result<Option<proof::Cohorts>, Box<PropagationProof>> {
        loop {
            let cohorts = cohorts(cluster, intent, version)
                .await
                .map_err(|error| Box::new(proof::unknown(&error.to_string(), start.elapsed(), self.clock.now())))?;
            let Some(cohorts) = cohorts else { return Ok(None) };
            let laggards = cohorts.ungoverned(object);
            if laggards.is_empty() {
                return Ok(Some(cohorts));
            }
            if Instant::now() >= until {
                let message =
                    format!("Ready and governed by no version, without {}: {}", cohorts.key, laggards.join(", "));
                let answer = proof::answer(PropagationState::Pending, message, start.elapsed(), self.clock.now());
                return Err(Box::new(PropagationProof { laggards, ..answer }));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The live object if it is still what was written: the same spec by Kubernetes' own count, and of its metadata what
    /// the mesh reads; or the answer that it is not: somebody else's change, or the next phase of the same intent.
    async fn undrifted(
        &self,
        cluster: &dyn Cluster,
        intent: &ExposureIntent,
        applied: &AppliedObject,
        start: Instant,
    ) -> Result<Option<Value>, Box<PropagationProof>> {
        let live = cluster
            .get(&applied.target)
            .await
            .map_err(|error| Box::new(proof::unknown(&error.to_string(), start.elapsed(), self.clock.now())))?;
        let answer = |state, message| proof::answer(state, message, start.elapsed(), self.clock.now());
        let drifted = |manager: String, what: &str| {
            let message = format!("{} was {what} by {manager:?}", applied.target);
            Box::new(PropagationProof { drift_manager: manager, ..answer(PropagationState::Drifted, message) })
        };
        let by = |object: &Value| object::other_manager(object, intent.before(&applied.target));
        let is_as_written = |object: &Value| {
            object::resource_version(object) == applied.resource_version
                || object::generation(object) == applied.object_generation
        };
        match &live {
            None if applied.absent => Ok(live),
            Some(object) if !applied.absent && is_as_written(object) => {
                match apply::strayed(intent, &applied.target, object) {
                    None => Ok(live),
                    Some(stray) => Err(drifted(stray.manager, &format!("changed ({})", stray.what))),
                }
            }
            now if apply::has_gone_on(intent, &applied.target, now.as_ref()) => {
                let message = format!("{} stands as a later phase of the deployment leaves it", applied.target);
                Err(Box::new(answer(PropagationState::Pending, message)))
            }
            None => Err(drifted("somebody".to_owned(), "deleted")),
            Some(object) if applied.absent => Err(drifted(by(object), "made again")),
            Some(object) => Err(drifted(by(object), "changed")),
        }
    }

    /// Asks whether the API server would take an object.
    ///
    /// # Errors
    /// What keeps it from answering; a refusal is an answer.
    pub async fn dry_run(&self, target: &Target, object: &Value) -> Result<DryRun, Error> {
        let answer = self.cluster(&target.cluster)?.apply(target, &without_status(object), Mode::DryRun).await;
        let refused = |by, message| Ok(DryRun { refusal: Some((by, message)), warnings: Vec::new() });
        match answer {
            Ok(written) => Ok(DryRun { refusal: None, warnings: written.warnings }),
            Err(ClusterError::Schema(message)) => refused("schema", message),
            Err(ClusterError::Admission(message)) => refused("admission", message),
            Err(error @ ClusterError::Forbidden { .. }) => refused("rbac", error.to_string()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a live object.
    ///
    /// # Errors
    /// [`Error::NotFound`], or what the cluster says.
    pub async fn get(&self, target: &Target) -> Result<Value, Error> {
        self.cluster(&target.cluster)?.get(target).await?.ok_or_else(|| Error::NotFound(Box::new(target.clone())))
    }

    /// A page of the objects of a kind.
    ///
    /// # Errors
    /// [`Error::Field`] for a token that is not of this list, or what the cluster says.
    pub async fn objects(&self, cluster: &str, wanted: objects::Wanted<'_>) -> Result<objects::Page, Error> {
        objects::list(&*self.cluster(cluster)?, wanted).await.map_err(|error| match error {
            ClusterError::Schema(_) => ConvertError::new("page_token", FOREIGN_TOKEN).into(),
            error => error.into(),
        })
    }

    /// A page of the instances of a service, and the token of the next page (empty = none).
    ///
    /// # Errors
    /// [`Error::NoService`], [`Error::Field`] for a token that is not of this list, or what the cluster says.
    pub async fn instances(&self, cluster: &str, wanted: Wanted<'_>) -> Result<(Vec<Instance>, String), Error> {
        instances::list(&*self.cluster(cluster)?, wanted).await.map_err(|error| match error {
            NoPage::NoService => Error::NoService(format!("{}/{}", wanted.namespace, wanted.service)),
            NoPage::Token => ConvertError::new("page_token", FOREIGN_TOKEN).into(),
            NoPage::Cluster(error) => error.into(),
        })
    }

    /// Follows what others do to these objects while deployments have them.
    ///
    /// # Errors
    /// As [`drift::follow`].
    pub async fn watch_drift(&self, targets: Vec<Target>) -> Result<Drifts, Error> {
        drift::follow(&self.clusters, targets).await
    }

    /// The clusters, and whether they answer.
    pub async fn clusters(&self) -> Vec<ClusterState> {
        self.clusters.states().await
    }
}

/// The related objects as they stand now, with what a list may leave out (their managed fields).
async fn read_again(cluster: &dyn Cluster, related: &[RelatedBaseline]) -> Result<Vec<RelatedBaseline>, Error> {
    let mut fresh = Vec::new();
    for RelatedBaseline { target, .. } in related {
        let object = cluster.get(target).await?;
        if let Some(marks) = object.as_ref().and_then(apply::Marks::of) {
            return Err(Error::Busy { object: target.to_string(), deployment: marks.deployment });
        }
        fresh.push(RelatedBaseline { target: target.clone(), object });
    }
    Ok(fresh)
}

fn is_same(a: &RelatedBaseline, b: &RelatedBaseline) -> bool {
    match (&a.object, &b.object) {
        (Some(a), Some(b)) => object::resource_version(a) == object::resource_version(b),
        (None, None) => true,
        _ => false,
    }
}

/// The objects that a plan asks for, each with `apiVersion` and `kind`. A kind that the cluster
/// does not serve has none.
async fn neighbours(cluster: &dyn Cluster, needs: &[Need]) -> Result<Vec<Arc<Value>>, Error> {
    let mut all = Vec::new();
    for need in needs {
        let kind = &need.kind;
        let (api_version, objects) = newest(cluster, need).await?;
        all.extend(objects.into_iter().map(|mut object| {
            // Most say so themselves, and are shared with a cache.
            if object["apiVersion"] != *api_version || object["kind"] != *kind {
                let object = Arc::make_mut(&mut object);
                object["apiVersion"] = api_version.into();
                object["kind"] = kind.as_str().into();
            }
            object
        }));
    }
    Ok(all)
}

/// The objects of a kind in the first of its versions that the cluster serves; none if it serves none of them.
async fn newest<'a>(cluster: &dyn Cluster, need: &'a Need) -> Result<(&'a str, Vec<Arc<Value>>), Error> {
    for api_version in std::iter::once(&need.api_version).chain(&need.older) {
        match cluster.list(api_version, &need.kind, need.namespace.as_deref()).await {
            Err(ClusterError::KindNotServed { .. }) => {}
            objects => return Ok((api_version, objects?)),
        }
    }
    Ok((&need.api_version, Vec::new()))
}

/// The pods that the intent divides, in a view that is as new as a version of one of them, or as they stand now;
/// `None` if it divides none.
async fn cohorts(
    cluster: &dyn Cluster,
    intent: &ExposureIntent,
    version: &str,
) -> Result<Option<proof::Cohorts>, Error> {
    match dialect::of(intent.target.mesh).divided(intent) {
        None => Ok(None),
        Some(divided) => Ok(Some(apply::read_cohorts(cluster, &divided, version).await?)),
    }
}

/// What the control plane is held against.
fn expected(intent: &ExposureIntent, target: Target, live: Option<Value>) -> Expected {
    let spec = live.as_ref().map(object::spec);
    let canary = intent.is_about(&target).then_some(&intent.canary).filter(|canary| !canary.is_null());
    let before = intent.before(&target);
    let older = dialect::of(intent.target.mesh).older(intent, &target);
    let candidates = before.into_iter().chain(canary).map(object::spec).chain(&older);
    let others: Vec<_> = candidates.filter(|candidate| Some(*candidate) != spec).cloned().collect();
    let same_binding = |other: &Value| {
        let fields = ["hosts", "gateways", "exportTo", "selector", "targetRef", "targetRefs"];
        spec.is_none_or(|spec| fields.iter().all(|field| spec[*field] == other[*field]))
    };
    // A helper is for hosts that are served without it as well.
    let is_new_or_gone = (before.is_none() || live.is_none()) && older.is_empty();
    let rebinds = is_new_or_gone || !others.iter().all(same_binding);
    let through = dialect::of(target.mesh).through(intent);
    let readers = dialect::of(target.mesh).readers(intent, &target);
    Expected { target, object: live, others, rebinds, through, cohorts: None, beside: Vec::new(), readers }
}

/// The object without what only the API server sets, so that an object that was read can be asked about.
fn without_status(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"] {
            metadata.remove(field);
        }
    }
    object
}
