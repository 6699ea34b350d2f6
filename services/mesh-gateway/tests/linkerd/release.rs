//! One deployment of one object, through the gateway: planned, walked phase by phase, each proven before the next.

use std::{sync::Arc, time::Instant};

use meshward_chassis::clock::SystemClock;
use meshward_mesh_gateway::{
    app::Gateway,
    clusters::{Clusters, Member},
    proof::Patience,
};
use meshward_model::{Baseline, ExposureIntent, ExposurePlan, Mechanism, PropagationState, Weight};
use serde_json::Value;

use super::world::{PATIENCE, World, target};

fn weight(basis_points: i64) -> Weight {
    Weight::from_basis_points(basis_points).expect("a weight")
}

/// The gateway with one cluster.
pub fn gateway(member: Member) -> Gateway {
    let clusters = Clusters::new(&member.name);
    clusters.put(member);
    Gateway::new(Arc::new(clusters), Arc::new(SystemClock))
}

/// One deployment.
pub struct Release {
    gateway: Arc<Gateway>,
    pub canary: Value,
    pub plan: ExposurePlan,
    pub baseline: Baseline,
    generation: u64,
}

impl Release {
    /// Planned by the best mechanism, with no cache before the world's cluster.
    pub async fn plan(world: &World, canary: &Value, weights: &[i64]) -> Self {
        let member = Member::new("", Arc::clone(&world.cluster), Arc::new(world.plane()));
        Self::by(&Arc::new(gateway(member)), canary, weights, None).await
    }

    /// Planned by this mechanism.
    pub async fn by(gateway: &Arc<Gateway>, canary: &Value, weights: &[i64], wanted: Option<Mechanism>) -> Self {
        let weights: Vec<_> = weights.iter().map(|one| weight(*one)).collect();
        let (plan, baseline) = gateway.plan(&target(canary), canary, &weights, wanted).await.expect("a plan");
        println!("{}: {:?}: {}", target(canary), plan.mechanism, plan.reason);
        Self { gateway: Arc::clone(gateway), canary: canary.clone(), plan, baseline, generation: 0 }
    }

    /// A step, each phase proven live before the next; how many objects were written in each.
    pub async fn expose(&mut self, basis_points: i64) -> Vec<u32> {
        self.walk(basis_points, false).await
    }

    /// The way back.
    pub async fn restore(&mut self) -> Vec<u32> {
        self.walk(0, true).await
    }

    async fn walk(&mut self, basis_points: i64, back: bool) -> Vec<u32> {
        self.generation += 1;
        let intent = ExposureIntent {
            deployment_id: "release".to_owned(),
            generation: self.generation,
            target: target(&self.canary),
            baseline: self.baseline.clone(),
            canary: self.canary.clone(),
            mechanism: self.plan.mechanism,
            weight: weight(basis_points),
        };
        let what = format!("{} {basis_points}{}", intent.target, if back { " back" } else { "" });
        let (start, mut writes) = (Instant::now(), Vec::new());
        for phase in 0.. {
            let outcome = match back {
                true => self.gateway.restore(&intent, phase).await,
                false => self.gateway.expose(&intent, phase).await,
            };
            let outcome = outcome.unwrap_or_else(|error| panic!("{what}, phase {phase}: {error}"));
            let written = start.elapsed();
            let patience = Patience { timeout: PATIENCE, quorum: Weight::ZERO };
            let proof = self.gateway.verify(&intent, &outcome.objects, patience).await.expect("an answer");
            assert_eq!(proof.state, PropagationState::Live, "{what}, phase {phase}: {proof:?}");
            println!(
                "{what}, phase {phase}: {} writes, {} pods, written {written:?}, proven {:?}",
                outcome.writes,
                outcome.pods_moved,
                start.elapsed()
            );
            writes.push(outcome.writes);
            if !outcome.more {
                break;
            }
        }
        writes
    }
}
