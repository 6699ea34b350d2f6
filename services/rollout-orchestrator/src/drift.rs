//! Somebody else's change to an object under deployment is told by the gateway as it happens; this module hears it.
//!
//! A word of drift only wakes the deployment: its next tick looks at the objects itself, and pauses with the name of who changed them. So a
//! word that is lost, late, repeated or wrong does no harm. Without any, the change is found at the next look, an analysis interval later.
//!
//! Who ticks a deployment listens for it: one stream each, kept for as long as ticks come by here. When another replica takes over, it
//! listens itself, and this one forgets.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use meshward_chassis::problem::chain;
use meshward_model::Target;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    deployment::{Deployment, State},
    worker::Ports,
};

/// Deployments that are listened for at once; those beyond are found by their own looks.
const MOST: usize = 128;
/// Objects of one stream, as the gateway bounds it.
const MOST_OBJECTS: usize = 100;
/// A deployment is forgotten after three intervals without a tick here, and this long: what a tick may take.
const KEPT: Duration = Duration::from_secs(60);
/// Between two streams: doubled from the first to the second while they fail.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The streams that are open.
#[derive(Default)]
pub struct Listeners(Mutex<BTreeMap<String, Listener>>);

struct Listener {
    until: Instant,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listeners {
    /// Listens for a deployment that was just ticked, until it has ended or is ticked here no more.
    pub fn follow(&self, ports: &Ports, deployment: &Deployment) {
        self.forget();
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if deployment.ended() || deployment.state == State::Pending {
            listeners.remove(&deployment.id);
            return;
        }
        let until = Instant::now() + deployment.strategy.analysis_interval * 3 + KEPT;
        if let Some(listener) = listeners.get_mut(&deployment.id) {
            listener.until = until;
        } else if listeners.len() < MOST {
            let task = tokio::spawn(listen(ports.clone(), deployment.id.clone(), objects(deployment)));
            listeners.insert(deployment.id.clone(), Listener { until, task });
        }
    }

    /// Forgets what was not ticked here for long.
    pub fn forget(&self) {
        let now = Instant::now();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, listener| listener.until > now);
    }
}

/// Every object that the deployment changes at one of its steps.
fn objects(deployment: &Deployment) -> Vec<Target> {
    let related = deployment.baseline.related.iter().map(|related| &related.target);
    let written = deployment.plan.steps.iter().flat_map(|step| &step.writes).map(|write| &write.target);
    let all = std::iter::once(&deployment.target).chain(related).chain(written);
    let by_key: BTreeMap<_, _> = all.map(|target| (target.key(), target)).collect();
    by_key.into_values().take(MOST_OBJECTS).cloned().collect()
}

/// Wakes the deployment at every word, for ever.
async fn listen(ports: Ports, id: String, objects: Vec<Target>) {
    let mut pause = PAUSES.0;
    loop {
        match ports.mesh.watch_drift(&objects).await {
            Ok(mut drifts) => {
                while let Some(word) = drifts.next().await {
                    match word {
                        Ok(drift) => {
                            pause = PAUSES.0;
                            tracing::info!(deployment = id, manager = drift.manager, "{} was changed", drift.target);
                            wake(&ports, &id).await;
                        }
                        Err(error) => tracing::debug!(deployment = id, %error, "drift is watched again"),
                    }
                }
            }
            Err(error) => tracing::warn!(deployment = id, %error, "drift cannot be watched; each look finds it too"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn wake(ports: &Ports, id: &str) {
    match ports.store.wake(id, ports.clock.now()).await {
        Ok(()) => ports.changes.tell(),
        Err(error) => tracing::warn!(deployment = id, error = chain(&error), "it is not woken; its next look is due"),
    }
}
