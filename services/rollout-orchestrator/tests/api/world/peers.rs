//! The ports of the orchestrator, on the world.

use async_trait::async_trait;
use futures::StreamExt as _;
use meshward_chassis::problem::Problem;
use meshward_model::{
    Analysis, AppliedObject, Baseline, CohortTraffic, ExposureIntent, ExposurePlan, Mechanism, Mesh as MeshKind,
    MetricsTarget, PropagationProof, PropagationState, Refusal, Target,
};
use meshward_proto::{metrics::v1::ExplainVerdictResponse, types::v1::ErrorReason};
use meshward_rollout_orchestrator::{
    decide::WriteOutcome,
    peers::{
        Checked, Drift, Drifts, Judge, Mesh, Outcome, Patience, PeerError, PolicyVersion, Question, Registry, Validator,
    },
    strategy::Strategy,
    verdicts::Judged,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::Code;

use super::{Call, World};

fn refused(peer: &'static str, status: impl Into<tonic::Status>) -> PeerError {
    PeerError::Refused { peer, status: Box::new(status.into()) }
}

#[async_trait]
impl Registry for World {
    async fn version(&self, policy_id: &str, version: i64) -> Result<PolicyVersion, PeerError> {
        let found = self.call(Call::Version, |state, _| state.versions.get(policy_id).cloned()).await?;
        let found = found.filter(|found| version == 0 || version == found.version);
        found.ok_or_else(|| refused("policy-registry", Problem::not_found("policy", policy_id)))
    }

    async fn record(
        &self,
        _: &str,
        _: i64,
        deployment_id: &str,
        outcome: Outcome,
        reason: &str,
    ) -> Result<(), PeerError> {
        let known = self.call(Call::Record, |state, _| {
            let known = state.outcomes.iter().find(|(id, _)| id == deployment_id).map(|(_, known)| *known);
            if known.is_none() {
                state.outcomes.push((deployment_id.to_owned(), outcome));
                state.reasons.push(reason.to_owned());
            }
            known
        });
        match known.await? {
            Some(known) if known != outcome => {
                let text = format!("deployment {deployment_id} was recorded as {known:?} already");
                Err(refused("policy-registry", Problem::new(Code::FailedPrecondition, ErrorReason::StateInvalid, text)))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Validator for World {
    async fn dry_run(&self, _: &str, _: &str) -> Result<Checked, PeerError> {
        self.call(Call::DryRun, |state, _| Checked { findings: state.findings.clone() }).await
    }
}

#[async_trait]
impl Mesh for World {
    async fn plan(
        &self,
        target: &Target,
        _: &Value,
        strategy: &Strategy,
    ) -> Result<(ExposurePlan, Baseline), PeerError> {
        let planned = self.call(Call::Plan, |state, _| match &state.unsupported {
            Some(status) => Err(refused("mesh-gateway", status.clone())),
            None => Ok(state.objects[&target.key()].clone()),
        });
        let live = planned.await??;
        let object = json!({"metadata": {"resourceVersion": live.version.to_string()}, "spec": live.spec});
        // As the gateway: who names a header means HEADER, and the plan remembers the audience.
        let best = if strategy.audience.header.is_some() { Mechanism::Header } else { Mechanism::Request };
        let plan = ExposurePlan { mechanism: strategy.mechanism.unwrap_or(best), ..plan() };
        let facts = json!({"audience": strategy.audience});
        Ok((plan, Baseline { facts, ..Baseline::of(Some(object)) }))
    }

    async fn apply(&self, intent: &ExposureIntent, phase: u32) -> Result<WriteOutcome, PeerError> {
        self.call(Call::Apply, |state, now| {
            state.made_ready(intent, phase).unwrap_or_else(|| state.expose(intent, now))
        })
        .await
    }

    async fn restore(&self, intent: &ExposureIntent, phase: u32) -> Result<WriteOutcome, PeerError> {
        self.call(Call::Restore, |state, now| {
            state.made_ready(intent, phase).unwrap_or_else(|| state.restore(intent, now))
        })
        .await
    }

    async fn verify(
        &self,
        intent: &ExposureIntent,
        _: &[AppliedObject],
        patience: Patience,
    ) -> Result<PropagationProof, PeerError> {
        let verified = self.call(Call::Verify, |state, now| (state.verify(intent), now)).await?;
        let (seen, time) = verified;
        let live = seen == PropagationState::Live;
        // What is pending here is live on one proxy of two.
        let enough = seen == PropagationState::Pending && patience.quorum.basis_points() <= 5_000;
        let state = if enough { PropagationState::Live } else { seen };
        let refusals = vec![Refusal { proxy: "web-0.shop".into(), message: "regex too large".into() }];
        let laggards = if live { vec![] } else { vec!["web-1.shop".to_owned()] };
        let by = if state == PropagationState::Drifted { "; changed by \"kubectl\"" } else { "" };
        let missing: String = laggards.iter().map(|name| format!("; not on {name}")).collect();
        Ok(PropagationProof {
            state,
            concerned: 2,
            acknowledged: if live { 2 } else { 1 },
            laggards,
            refusals: if state == PropagationState::Refused { refusals } else { vec![] },
            elapsed_ms: 100,
            time,
            message: format!("the proof says {state:?}{missing}{by}"),
            drift_manager: if state == PropagationState::Drifted { "kubectl".into() } else { String::new() },
        })
    }
    async fn watch_drift(&self, objects: &[Target]) -> Result<Drifts, PeerError> {
        let drifts = self.state().drifts.as_ref().map(broadcast::Sender::subscribe);
        let lost = || PeerError::Unavailable { peer: "mesh-gateway", message: "the connection broke".into() };
        let objects: Vec<_> = objects.to_vec();
        let drift = move |word: Result<String, _>| match word {
            Ok(key) => objects
                .iter()
                .find(|target| target.key() == key)
                .map(|target| Ok(Drift { target: target.clone(), manager: "kubectl".into() })),
            Err(_) => Some(Err(lost())),
        };
        let words = BroadcastStream::new(drifts.ok_or_else(lost)?);
        Ok(words.filter_map(move |word| std::future::ready(drift(word))).boxed())
    }
}

/// A plan by request id.
pub fn plan() -> ExposurePlan {
    ExposurePlan {
        mechanism: Mechanism::Request,
        reason: "both versions route HTTP".into(),
        steps: vec![],
        not_covered: vec![],
        alternatives: vec![],
        metrics_target: MetricsTarget {
            mesh: MeshKind::Istio,
            mechanism: Mechanism::Request,
            cluster: String::new(),
            hosts: vec!["checkout.shop.svc.cluster.local".into()],
            canary_series: "canary".into(),
            control_series: "control".into(),
            cohort_label: "meshward.io/cohort-1".into(),
            ..MetricsTarget::uncounted(MeshKind::Istio, Mechanism::Request, "")
        },
    }
}

#[async_trait]
impl Judge for World {
    async fn analyze(&self, question: &Question) -> Result<Judged, PeerError> {
        let weight = question.periods.last().expect("the judge is asked about a live step").weight;
        let judged = self.call(Call::Analyze, |state, now| {
            let verdict = (state.judge)(question.clone());
            state.verdicts.push((weight.basis_points(), verdict));
            ((verdict, state.verdicts.len()), now)
        });
        let ((verdict, number), time) = judged.await?;
        let canary = CohortTraffic { requests: 280, requests_per_second: 2.0, ..CohortTraffic::default() };
        let analysis = Analysis {
            id: format!("verdict-{number}"),
            verdict,
            explanation: format!("the judge says {verdict:?}"),
            evidence: 1.0,
            evidence_bound: 100.0,
            canary,
            control: CohortTraffic { requests: 2_520, ..canary },
            observed_share: Some(weight.fraction()),
            required_requests: 280,
            samples: vec![],
            queries: vec!["sum(rate(x[1m]))".into()],
            time,
        };
        let told = ExplainVerdictResponse {
            deployment_id: question.deployment_id.clone(),
            sentences: vec![format!("verdict {number}")],
            ..ExplainVerdictResponse::default()
        };
        Ok(Judged { analysis, told: told.encode_to_vec() })
    }

    async fn preflight(&self, _: &MetricsTarget) -> Result<Vec<String>, PeerError> {
        self.call(Call::Preflight, |state, _| state.unready.clone()).await
    }
}
