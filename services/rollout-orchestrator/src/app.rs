//! The use cases: create, read, command, watch.

use std::sync::Arc;

use jiff::Timestamp;
use meshward_chassis::{
    auth::{Identity, Role},
    ids::Ids,
    telemetry::current_traceparent,
};
use meshward_model::{Finding, Mechanism, Target, Weight};
use meshward_store::time::stored;

use crate::{
    decide::{Command, command},
    deployment::{Deployment, Event, HISTORY, State},
    error::Error,
    peers::PolicyVersion,
    store::{Created, Repeat, StoreError},
    strategy::Strategy,
    verdicts::{Kept, Wanted},
    worker::Ports,
};

/// What the RPCs call.
#[derive(Clone)]
pub struct App {
    ports: Ports,
    ids: Arc<dyn Ids>,
}

/// A request for a deployment.
#[derive(Clone, Debug)]
pub struct Create {
    /// Policy.
    pub policy_id: String,
    /// Version; 0 = the newest.
    pub version: i64,
    /// How.
    pub strategy: Strategy,
    /// Check everything, store nothing.
    pub validate_only: bool,
    /// The request, so that a repeat returns the first answer.
    pub repeat: Repeat,
}

impl App {
    /// On these ports.
    #[must_use]
    pub fn new(ports: Ports, ids: Arc<dyn Ids>) -> Self {
        Self { ports, ids }
    }

    /// Checks, plans and stores a deployment; the worker begins at once. The caller needs the role developer in the namespace of the
    /// policy's object.
    ///
    /// # Errors
    /// Whatever stands in the way, before anything is stored or written.
    pub async fn create(&self, caller: &Identity, create: Create) -> Result<Deployment, Error> {
        let violations = create.strategy.violations();
        if !violations.is_empty() {
            return Err(Error::InvalidStrategy(violations));
        }
        // Before anything else is asked: a repeat gets its first answer although the world has moved on since.
        match self.ports.store.recall(&create.repeat, self.ports.clock.now()).await? {
            Some(Created::Repeated(id)) => return self.first_answer(caller, &id).await,
            Some(_) => return Err(Error::RequestIdReused),
            None => {}
        }
        let version = self.ports.registry.version(&create.policy_id, create.version).await?;
        caller.require(Role::Developer, &version.target.namespace).map_err(Error::Denied)?;
        // Before it is planned: what the gateway would find there now is no baseline. The store decides it once more at the end.
        if let Some(active) = self.ports.store.active_on(&version.target).await? {
            return Err(Error::TargetBusy { active, target: version.target.to_string() });
        }
        if !version.obstacles.is_empty() {
            return Err(Error::NotDeployable { version: version.version, obstacles: version.obstacles });
        }
        if let Some(mechanism) = create.strategy.mechanism {
            check_audience(&create.strategy, mechanism, &version.target)?;
        }
        self.validate(&version).await?;
        let deployment = self.plan(caller, &create, version).await?;
        if create.validate_only {
            return Ok(Deployment { id: String::new(), ..deployment });
        }
        let mut events = vec![created(&deployment)];
        events.extend(self.metrics_unready(&deployment).await);
        match self.ports.store.create(&deployment, &events, &create.repeat).await? {
            Created::New => {
                self.ports.changes.tell();
                Ok(deployment)
            }
            Created::Repeated(id) => self.first_answer(caller, &id).await,
            Created::RequestIdReused => Err(Error::RequestIdReused),
            Created::TargetBusy(active) => Err(Error::TargetBusy { active, target: deployment.target.to_string() }),
        }
    }

    /// What the judge could not read now, told before the first step. It refuses nothing: series of the canary, and those that the
    /// exposure itself names, begin with the first step.
    async fn metrics_unready(&self, deployment: &Deployment) -> Option<Event> {
        let problems = match self.ports.judge.preflight(&deployment.plan.metrics_target).await {
            Ok(problems) => problems,
            Err(error) => vec![error.to_string()],
        };
        if problems.is_empty() {
            return None;
        }
        let message = format!(
            "asked before the first step, the judge's queries lack data (series of the canary begin with that step): {}",
            problems.join("; ")
        );
        Some(Event { kind: "metrics.unready".into(), message, ..created(deployment) })
    }

    async fn first_answer(&self, caller: &Identity, id: &str) -> Result<Deployment, Error> {
        let deployment = self.read(id).await?;
        caller.require(Role::Developer, &deployment.target.namespace).map_err(Error::Denied)?;
        Ok(deployment)
    }

    /// The version was valid when it was submitted; the cluster may have changed since. Of a deletion nothing can be
    /// invalid: what others would lack without the object was told to its approvers.
    async fn validate(&self, version: &PolicyVersion) -> Result<(), Error> {
        if version.object.is_null() {
            return Ok(());
        }
        let checked = self.ports.validator.dry_run(&version.yaml, &version.target.cluster).await?;
        let errors = checked.findings.iter().filter(|finding| finding.blocks());
        let findings: Vec<_> = errors.map(sentence).collect();
        if findings.is_empty() { Ok(()) } else { Err(Error::Invalid { version: version.version, findings }) }
    }

    async fn plan(&self, caller: &Identity, create: &Create, version: PolicyVersion) -> Result<Deployment, Error> {
        let (plan, baseline) = self.ports.mesh.plan(&version.target, &version.object, &create.strategy).await?;
        check_audience(&create.strategy, plan.mechanism, &version.target)?;
        let now = stored(self.ports.clock.now());
        let mut deployment = Deployment {
            id: self.ids.uuid(),
            policy_id: version.policy_id,
            version: version.version,
            digest: version.digest,
            target: version.target,
            canary: version.object,
            baseline,
            strategy: create.strategy.clone(),
            plan,
            state: State::Pending,
            generation: 0,
            objects: Vec::new(),
            steps: Vec::new(),
            analysis: None,
            reason: "stored; the first step follows".into(),
            obstacle: String::new(),
            rollback_report: String::new(),
            quiet_since: None,
            traceparent: current_traceparent(),
            creator: caller.subject.clone(),
            create_time: now,
            update_time: now,
            revision: 1,
        };
        deployment.quiet_since = Some(self.quiet_since(&deployment).await?);
        Ok(deployment)
    }

    /// When those that shared its traffic were over, at most [`HISTORY`] ago; one that is not over disturbs until now.
    async fn quiet_since(&self, deployment: &Deployment) -> Result<Timestamp, Error> {
        let now = deployment.create_time;
        let earliest = now.saturating_sub(HISTORY).unwrap_or(Timestamp::MIN);
        let recent = self.ports.store.changed_since(earliest).await?;
        let others = recent.iter().filter(|other| other.shares_traffic(deployment));
        Ok(others.map(|other| other.end_time().unwrap_or(now)).fold(earliest, Timestamp::max).min(now))
    }

    async fn read(&self, id: &str) -> Result<Deployment, Error> {
        self.ports.store.get(id).await?.ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// Reads a deployment; the caller needs the role viewer in its namespace.
    ///
    /// # Errors
    /// If there is none, or the caller may not see it.
    pub async fn get(&self, caller: &Identity, id: &str) -> Result<Deployment, Error> {
        let deployment = self.read(id).await?;
        caller.require(Role::Viewer, &deployment.target.namespace).map_err(Error::Denied)?;
        Ok(deployment)
    }

    /// Deployments newest first, before an id; those of namespaces that the caller may not read are left out. Reads at most `limit`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(
        &self,
        caller: &Identity,
        policy_id: &str,
        before: &str,
        limit: u32,
    ) -> Result<Vec<Deployment>, Error> {
        let mut found = Vec::new();
        let mut before = before.to_owned();
        loop {
            let page = self.ports.store.list(policy_id, &before, limit).await?;
            let last = page.len() < limit as usize;
            let Some(oldest) = page.last() else { return Ok(found) };
            before.clone_from(&oldest.id);
            found.extend(page.into_iter().filter(|d| caller.require(Role::Viewer, &d.target.namespace).is_ok()));
            if last || found.len() >= limit as usize {
                found.truncate(limit as usize);
                return Ok(found);
            }
        }
    }

    /// A deployment's events after a sequence.
    ///
    /// # Errors
    /// As [`App::get`].
    pub async fn events(&self, caller: &Identity, id: &str, after: i64, limit: u32) -> Result<Vec<Event>, Error> {
        self.get(caller, id).await?;
        Ok(self.ports.store.events(id, after, limit).await?)
    }

    /// What led to a verdict: the newest, or the one that is wanted, beside all that are kept of the deployment.
    ///
    /// # Errors
    /// As [`App::get`], or if there is none such.
    pub async fn explain(&self, caller: &Identity, id: &str, wanted: &Wanted) -> Result<(Vec<u8>, Vec<Kept>), Error> {
        self.get(caller, id).await?;
        let kept = self.ports.verdicts.all(id).await?;
        let is_wanted = |one: &&Kept| match wanted {
            Wanted::Newest => true,
            Wanted::OfStep(step) => one.step == *step,
            Wanted::Id(analysis_id) => one.analysis_id == *analysis_id,
        };
        let not_kept = || Error::VerdictNotKept { deployment: id.to_owned(), kept: kept.len() };
        let found = kept.iter().rev().find(is_wanted).ok_or_else(not_kept)?;
        let told = self.ports.verdicts.told(id, &found.analysis_id).await?.ok_or_else(not_kept)?;
        Ok((told, kept))
    }

    /// Does what a person commands; the caller needs the role developer in the deployment's namespace. Without an etag a lost race is
    /// decided anew on what the winner left.
    ///
    /// # Errors
    /// If the state does not allow it, or the etag is not the current one.
    pub async fn command(
        &self,
        caller: &Identity,
        id: &str,
        what: Command,
        etag: &str,
        reason: &str,
    ) -> Result<Deployment, Error> {
        loop {
            let deployment = self.read(id).await?;
            caller.require(Role::Developer, &deployment.target.namespace).map_err(Error::Denied)?;
            if !etag.is_empty() && etag != deployment.etag() {
                return Err(Error::EtagMismatch);
            }
            let decision = command(&deployment, what, &caller.subject, reason, self.ports.clock.now())?;
            match self.ports.store.commit(&decision.next, &decision.events, decision.wake_at).await {
                Ok(next) => {
                    self.ports.changes.tell();
                    return Ok(next);
                }
                // The worker commits at most once a tick, so this ends.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The mechanism that was asked for, before much else is; and the one that was planned, if the best one was to be chosen.
fn check_audience(strategy: &Strategy, mechanism: Mechanism, target: &Target) -> Result<(), Error> {
    let violations = strategy.audience_violations(mechanism, target.mesh);
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidStrategy(violations)) }
}

fn created(deployment: &Deployment) -> Event {
    Event {
        sequence: 0,
        time: deployment.create_time,
        kind: "deployment.created".into(),
        message: format!(
            "version {} of {}{} is released: {}",
            deployment.version,
            deployment.target,
            if deployment.canary.is_null() { ", that it is gone," } else { "" },
            deployment.plan.reason
        ),
        state: deployment.state.name().into(),
        step: 0,
        weight: Weight::ZERO,
        actor: deployment.creator.clone(),
    }
}

/// "line 3, column 5: MW2001 …".
fn sentence(finding: &Finding) -> String {
    match finding.at {
        Some(at) => format!("line {}, column {}: {} {}", at.line, at.column, finding.id, finding.message),
        None => format!("{} {}", finding.id, finding.message),
    }
}
