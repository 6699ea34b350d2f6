//! The loop that drives deployments: claim what is due, observe, decide, commit.
//!
//! A tick makes the mesh look like [`Deployment::desired`] *before* it decides, and the decision is committed before the next tick acts on
//! it. So what stands in the cluster is never ahead of what is stored, and a worker that is killed anywhere leaves work that the next
//! tick simply repeats.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use meshward_chassis::{clock::Clock, problem::chain, telemetry::span_with_parent};
use meshward_model::{AppliedObject, ExposureIntent, PropagationProof, PropagationState, Weight};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    decide::{Decision, Observation, Recorded, Seen, WriteOutcome, decide},
    deployment::{Cause, Deployment, Desired, State},
    drift::Listeners,
    peers::{Judge, Mesh, Outcome, Patience, PeerError, Question, Registry, Validator},
    store::{Lease, Store, StoreError},
    verdicts::{Kept, Verdicts},
};

/// What the service is made of; tests put in others.
#[derive(Clone)]
pub struct Ports {
    /// Where deployments are kept.
    pub store: Arc<dyn Store>,
    /// Where what the judge said is kept.
    pub verdicts: Arc<dyn Verdicts>,
    /// The policy-registry.
    pub registry: Arc<dyn Registry>,
    /// The validator.
    pub validator: Arc<dyn Validator>,
    /// The mesh-gateway.
    pub mesh: Arc<dyn Mesh>,
    /// The metrics-collector.
    pub judge: Arc<dyn Judge>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Tells the worker, and everybody who watches, that something was stored.
    pub changes: Changes,
}

/// "Something was stored", to everybody who listens in this process. No word is lost: who was busy hears it at the next look.
#[derive(Clone, Debug, Default)]
pub struct Changes(watch::Sender<()>);

impl Changes {
    /// Says so.
    pub fn tell(&self) {
        self.0.send_replace(());
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// A deployment that is worked on; outlasts the longest tick (a write, a proof and a verdict, each with its deadline).
const LEASE: Duration = Duration::from_secs(45);
/// A tick begins no further phase after this; with the deadlines of a write and of a proof it stays within the lease.
const PHASES_WITHIN: Duration = Duration::from_secs(15);
/// How long one tick waits for a proof before it commits what it saw and asks again.
const PROOF_WAIT: Duration = Duration::from_secs(5);
/// Another replica may have stored something: look at least this often.
const LOOK: Duration = Duration::from_secs(1);
/// A store that fails is not asked without a pause.
const SHORTEST: Duration = Duration::from_millis(10);

/// Where the mesh is to go.
#[derive(Clone, Copy)]
enum Way {
    /// To what the step wants, once this share of the proxies has it.
    There(Weight),
    /// To what stood there before, on all proxies.
    Back,
}

impl Way {
    /// On which share a phase is to be proven. What a later phase refers to must be live wherever that one may arrive.
    fn quorum(self, more: bool) -> Weight {
        match self {
            Self::There(quorum) if !more => quorum,
            Self::There(_) | Self::Back => Weight::FULL,
        }
    }
}

/// Drives deployments until it is told to stop.
pub struct Worker {
    ports: Ports,
    owner: String,
    at_once: usize,
    listeners: Listeners,
}

impl Worker {
    /// A worker under a name that is the same after a restart, with a bound on the deployments that it works on at once.
    #[must_use]
    pub fn new(ports: Ports, owner: String, at_once: usize) -> Self {
        Self { ports, owner, at_once, listeners: Listeners::default() }
    }

    /// Runs until `stop`; ticks that are under way are finished. Each deployment is its own task: one that waits for a peer holds up no other.
    pub async fn run(self, stop: CancellationToken) {
        if let Err(error) = self.ports.store.release_all(&self.owner).await {
            tracing::warn!(error = chain(&error), "claims of the run before are left to expire");
        }
        let worker = Arc::new(self);
        let mut changes = worker.ports.changes.listen();
        let mut ticks = JoinSet::new();
        while !stop.is_cancelled() {
            changes.mark_unchanged();
            worker.listeners.forget();
            while ticks.len() < worker.at_once
                && let Some(deployment) = worker.claim().await
            {
                let worker = Arc::clone(&worker);
                ticks.spawn(async move { worker.traced(&deployment).await });
            }
            let pause = if ticks.len() < worker.at_once { worker.until_due().await } else { LOOK };
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = ticks.join_next() => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        while ticks.join_next().await.is_some() {}
    }

    async fn until_due(&self) -> Duration {
        let due = self.ports.store.next_due().await.ok().flatten();
        due.map_or(LOOK, |due| {
            let left = Duration::try_from(due.duration_since(self.ports.clock.now())).unwrap_or_default();
            left.clamp(SHORTEST, LOOK)
        })
    }

    /// Works once on everything that is due, at most `at_once` at a time. Returns how many there were.
    pub async fn round(&self) -> usize {
        let mut claimed = Vec::new();
        while claimed.len() < self.at_once
            && let Some(deployment) = self.claim().await
        {
            claimed.push(deployment);
        }
        let ticks = claimed.iter().map(|deployment| self.traced(deployment));
        join_all(ticks).await.len()
    }

    async fn claim(&self) -> Option<Deployment> {
        let lease = Lease { owner: &self.owner, term: LEASE };
        let claimed = self.ports.store.claim(&lease, self.ports.clock.now()).await;
        claimed.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "due deployments cannot be claimed");
            None
        })
    }

    async fn traced(&self, deployment: &Deployment) {
        let name = format!("tick {}", deployment.state.name());
        let span = span_with_parent(&name, deployment.traceparent.as_deref().unwrap_or_default());
        self.tick(deployment).instrument(span).await;
    }

    /// One tick: observe, decide, commit.
    async fn tick(&self, deployment: &Deployment) {
        let seen = self.observe(deployment).await;
        let Decision { next, events, wake_at } = decide(deployment, &seen, self.ports.clock.now());
        for event in &events {
            tracing::info!(deployment = next.id, event = event.kind, state = event.state, "{}", event.message);
        }
        match self.ports.store.commit(&next, &events, wake_at).await {
            Ok(next) => {
                self.listeners.follow(&self.ports, &next);
                self.ports.changes.tell();
            }
            // A person's command, say. It has given this tick's claim back; the tick that follows it may be under way.
            Err(StoreError::Conflict) => {
                tracing::debug!(deployment = next.id, "somebody else was first; the next tick decides anew");
            }
            Err(error) => {
                tracing::warn!(deployment = next.id, error = chain(&error), "the tick is lost; it is repeated");
            }
        }
    }

    async fn observe(&self, deployment: &Deployment) -> Observation {
        match deployment.desired() {
            Desired::Exposed(intent) => self.expose(deployment, &intent).await,
            Desired::Restored(intent) => self.restore(&intent).await,
            Desired::Untouched => self.look(deployment).await,
        }
    }

    async fn expose(&self, deployment: &Deployment, intent: &ExposureIntent) -> Observation {
        let began = self.ports.clock.now();
        let (write, proof) = self.reach(intent, Way::There(deployment.strategy.propagation_quorum)).await;
        // A step that hangs must not hide a canary that fails meanwhile.
        let live = matches!(&proof, Seen::Known(proof) if proof.state == PropagationState::Live);
        let analysis = if live { Seen::NotAsked } else { self.analyze(deployment).await };
        Observation { write_began: Some(began), write, proof, analysis, recorded: Seen::NotAsked }
    }

    async fn restore(&self, intent: &ExposureIntent) -> Observation {
        let began = self.ports.clock.now();
        let (write, proof) = self.reach(intent, Way::Back).await;
        Observation { write_began: Some(began), write, proof, ..Observation::default() }
    }

    /// Writes phase by phase, each proven live before the next: what came of the last one that was reached. A tick that
    /// has no time left for the next phase leaves it to the next tick, which finds the others written.
    async fn reach(&self, intent: &ExposureIntent, way: Way) -> (Seen<WriteOutcome>, Seen<PropagationProof>) {
        let began = self.ports.clock.now();
        let (mut all, mut phase) = (0, 0);
        loop {
            let answer = match way {
                Way::There(_) => self.ports.mesh.apply(intent, phase).await,
                Way::Back => self.ports.mesh.restore(intent, phase).await,
            };
            let (objects, more) = match answer {
                Ok(WriteOutcome::Done { writes, objects, more }) => {
                    all += writes;
                    (objects, more)
                }
                other => return (seen(other), Seen::NotAsked),
            };
            let patience = Patience { wait: PROOF_WAIT, quorum: way.quorum(more) };
            let proof = self.verify(intent, &objects, patience).await;
            let live = matches!(&proof, Seen::Known(proof) if proof.state == PropagationState::Live);
            let write = Seen::Known(WriteOutcome::Done { writes: all, objects, more });
            let spent = Duration::try_from(self.ports.clock.now().duration_since(began)).unwrap_or_default();
            if !live || !more {
                return (write, proof);
            }
            if spent > PHASES_WITHIN {
                return (write, Seen::Unknown(format!("phase {phase} is live, and the next one is to come")));
            }
            phase += 1;
        }
    }

    async fn verify(
        &self,
        intent: &ExposureIntent,
        objects: &[AppliedObject],
        patience: Patience,
    ) -> Seen<PropagationProof> {
        seen(self.ports.mesh.verify(intent, objects, patience).await)
    }

    /// Nothing is to be written: is it still as it was written, what does the judge say, does the registry know?
    async fn look(&self, deployment: &Deployment) -> Observation {
        match &deployment.state {
            State::Baking { step, .. } | State::Waiting { step, .. } | State::Paused { step, .. } => {
                let intent = deployment.intent(deployment.strategy.steps[*step].weight);
                let proof = if deployment.objects.is_empty() {
                    Seen::NotAsked
                } else {
                    let patience = Patience { wait: Duration::ZERO, quorum: deployment.strategy.propagation_quorum };
                    self.verify(&intent, &deployment.objects, patience).await
                };
                Observation { proof, analysis: self.analyze(deployment).await, ..Observation::default() }
            }
            State::Promoting { proven: true, .. } => self.record(deployment, Outcome::Promoted).await,
            State::RollingBack { cause, proven: true, .. } => {
                let outcome = if *cause == Cause::Abort { Outcome::Aborted } else { Outcome::RolledBack };
                self.record(deployment, outcome).await
            }
            _ => Observation::default(),
        }
    }

    async fn analyze(&self, deployment: &Deployment) -> Seen<meshward_model::Analysis> {
        let periods = deployment.periods();
        let Some(start) = begin(deployment) else { return Seen::NotAsked };
        let question = Question {
            target: deployment.plan.metrics_target.clone(),
            start,
            tick: deployment.strategy.analysis_interval,
            periods,
            options: deployment.strategy.judge,
            history: deployment.history(start),
            deployment_id: deployment.id.clone(),
            step: deployment.step(),
        };
        let judged = self.ports.judge.analyze(&question).await;
        if let Ok(judged) = &judged {
            let kept = Kept::of(&judged.analysis, question.step);
            if let Err(error) = self.ports.verdicts.keep(&deployment.id, &kept, &judged.told).await {
                tracing::warn!(deployment = deployment.id, error = chain(&error), "what led to a verdict is not kept");
            }
        }
        seen(judged.map(|judged| judged.analysis))
    }

    async fn record(&self, deployment: &Deployment, outcome: Outcome) -> Observation {
        let Deployment { id, policy_id, version, reason, .. } = deployment;
        let answer = self.ports.registry.record(policy_id, *version, id, outcome, reason).await;
        let recorded = match answer {
            Ok(()) => Seen::Known(Recorded::Taken),
            Err(refusal @ PeerError::Refused { .. }) => Seen::Known(Recorded::Refused(refusal.to_string())),
            Err(unavailable) => Seen::Unknown(unavailable.to_string()),
        };
        Observation { recorded, ..Observation::default() }
    }
}

/// When the canary may have got its first request.
fn begin(deployment: &Deployment) -> Option<Timestamp> {
    deployment.steps.first().map(|step| step.start)
}

/// No answer is a value.
fn seen<T>(answer: Result<T, PeerError>) -> Seen<T> {
    answer.map_or_else(|error| Seen::Unknown(error.to_string()), Seen::Known)
}
