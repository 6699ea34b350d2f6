//! The ports over gRPC, with the service's own token: the caller's right to deploy was checked before any of these is asked.

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use meshward_chassis::{
    client::{EndpointError, PeerChannel, ServiceToken, connect_lazy, with_deadline},
    problem::{Problem, reason_of},
};
use meshward_model::{AppliedObject, Baseline, ExposureIntent, ExposurePlan, MetricsTarget, PropagationProof, Target};
use meshward_proto::{
    ConvertError, duration,
    gateway::v1::{
        self as gateway, ApplyExposureRequest, PlanExposureRequest, RestoreBaselineRequest, VerifyExposureRequest,
        WatchDriftRequest, mesh_gateway_service_client::MeshGatewayServiceClient,
    },
    metrics::v1::{
        CheckQueriesRequest, ExplainVerdictResponse, RunAnalysisRequest,
        metrics_collector_service_client::MetricsCollectorServiceClient,
    },
    registry::v1::{
        DeploymentOutcome, GetPolicyRequest, GetPolicyVersionRequest, RecordDeploymentRequest,
        policy_registry_service_client::PolicyRegistryServiceClient,
    },
    timestamp,
    types::v1::{self as types, ErrorReason},
    validator::v1::{Context, DryRunRequest, validator_service_client::ValidatorServiceClient},
};
use prost::Message as _;
use serde_json::Value;
use tonic::{Code, Request, Response, Status};

use super::{
    Checked, Drift, Drifts, Judge, Mesh, Outcome, Patience, PeerError, PolicyVersion, Question, Registry, Validator,
};
use crate::{decide::WriteOutcome, strategy::Strategy, verdicts::Judged};

/// How long one question may take. A write has its own retries behind it.
const DEADLINE: Duration = Duration::from_secs(10);
/// A watch is begun anew this often, so that one that hangs does not do so for ever.
const WATCH: Duration = Duration::from_secs(15 * 60);
/// Texts are at most 1 MiB, and a plan holds one object per step.
const MAX_ANSWER: usize = 64 << 20;

/// A peer over gRPC.
#[derive(Debug, Clone)]
pub struct Peer {
    name: &'static str,
    channel: PeerChannel,
    /// A connection of its own: streams that stay open must not use up the one that calls need.
    streams: PeerChannel,
    token: ServiceToken,
}

impl Peer {
    /// A peer by its name in messages, at an address.
    ///
    /// # Errors
    /// If the address is not a URL.
    pub fn new(name: &'static str, address: &str, token: ServiceToken) -> Result<Self, EndpointError> {
        Ok(Self { name, channel: connect_lazy(address)?, streams: connect_lazy(address)?, token })
    }

    fn request<T>(&self, message: T, deadline: Duration) -> Result<Request<T>, PeerError> {
        let mut request = Request::new(message);
        self.token.authorize(&mut request).map_err(|problem| self.unavailable(&problem))?;
        Ok(with_deadline(request, deadline))
    }

    async fn answer<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, PeerError> {
        match call.await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) if is_refusal(status.code()) => {
                Err(PeerError::Refused { peer: self.name, status: Box::new(status) })
            }
            Err(status) => Err(PeerError::Unavailable { peer: self.name, message: status.message().to_owned() }),
        }
    }

    fn unavailable(&self, why: &impl ToString) -> PeerError {
        PeerError::Unavailable { peer: self.name, message: why.to_string() }
    }

    /// An answer that makes no sense is a defect of the peer: nothing can be concluded from it.
    fn converted<T>(&self, value: Result<T, ConvertError>) -> Result<T, PeerError> {
        value.map_err(|error| self.unavailable(&format!("the answer makes no sense: {error}")))
    }
}

/// Codes with which a peer says "no" rather than "not now". ABORTED asks to try again; a peer that refuses our token has a wrong
/// configuration, and the deployment is not to blame.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::OutOfRange
    )
}

#[async_trait]
impl Registry for Peer {
    async fn version(&self, policy_id: &str, version: i64) -> Result<PolicyVersion, PeerError> {
        let mut client = PolicyRegistryServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let (policy, found) = if version == 0 {
            let request = self.request(GetPolicyRequest { id: policy_id.to_owned() }, DEADLINE)?;
            let answer = self.answer(client.get_policy(request)).await?;
            (answer.policy, answer.version)
        } else {
            let request = self.request(GetPolicyVersionRequest { id: policy_id.to_owned(), version }, DEADLINE)?;
            let answer = self.answer(client.get_policy_version(request)).await?;
            (answer.policy, answer.version)
        };
        let (Some(policy), Some(found)) = (policy, found) else {
            return Err(self.unavailable(&"the answer has no version"));
        };
        let target = policy.target.ok_or_else(|| self.unavailable(&"the policy has no target"))?;
        let nonsense = |what: &str| self.unavailable(&format!("the version has no usable {what}"));
        let object = match &*found.canonical_json {
            "" if found.deletion => Value::Null,
            json => serde_json::from_str(json).ok().filter(Value::is_object).ok_or_else(|| nonsense("object"))?,
        };
        Ok(PolicyVersion {
            policy_id: found.policy_id,
            version: found.version,
            digest: found.digest.try_into().map_err(|_| nonsense("digest"))?,
            target: self.converted(target.try_into())?,
            object,
            yaml: found.yaml,
            obstacles: found.deploy_obstacles,
        })
    }

    async fn record(
        &self,
        policy_id: &str,
        version: i64,
        deployment_id: &str,
        outcome: Outcome,
        reason: &str,
    ) -> Result<(), PeerError> {
        let outcome = match outcome {
            Outcome::Promoted => DeploymentOutcome::Promoted,
            Outcome::RolledBack => DeploymentOutcome::RolledBack,
            Outcome::Aborted => DeploymentOutcome::Aborted,
        };
        let message = RecordDeploymentRequest {
            id: policy_id.to_owned(),
            version,
            deployment_id: deployment_id.to_owned(),
            outcome: outcome.into(),
            reason: reason.to_owned(),
        };
        let request = self.request(message, DEADLINE)?;
        self.answer(PolicyRegistryServiceClient::new(self.channel.clone()).record_deployment(request)).await.map(drop)
    }
}

#[async_trait]
impl Validator for Peer {
    async fn dry_run(&self, yaml: &str, cluster: &str) -> Result<Checked, PeerError> {
        // Among what is live and approved now: since the version was approved, others may have changed what it refers to.
        let context = Some(Context { live: true, registry: true, ..Context::default() });
        let request = self.request(
            DryRunRequest { yaml: yaml.to_owned(), cluster: cluster.to_owned(), context, ..Default::default() },
            DEADLINE,
        )?;
        let mut client = ValidatorServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let answer = self.answer(client.dry_run(request)).await?;
        let findings = answer.findings.into_iter().map(TryInto::try_into).collect();
        Ok(Checked { findings: self.converted(findings)? })
    }
}

#[async_trait]
impl Mesh for Peer {
    async fn plan(
        &self,
        target: &Target,
        canary: &Value,
        strategy: &Strategy,
    ) -> Result<(ExposurePlan, Baseline), PeerError> {
        let message = PlanExposureRequest {
            target: Some(target.clone().into()),
            canary_json: if canary.is_null() { String::new() } else { canary.to_string() },
            canary_absent: canary.is_null(),
            weights_bp: strategy.steps.iter().map(|step| step.weight.basis_points().into()).collect(),
            mechanism: strategy.mechanism.map_or(types::Mechanism::Unspecified, Into::into).into(),
            audience: Some(strategy.audience.clone().into()),
        };
        let request = self.request(message, DEADLINE)?;
        let answer = self.answer(self.gateway().plan_exposure(request)).await?;
        let plan = answer.plan.ok_or_else(|| self.unavailable(&"the answer has no plan"))?;
        let baseline = answer.baseline.ok_or_else(|| self.unavailable(&"the answer has no baseline"))?;
        Ok((self.converted(plan.try_into())?, self.converted(baseline.try_into())?))
    }

    async fn apply(&self, intent: &ExposureIntent, phase: u32) -> Result<WriteOutcome, PeerError> {
        let message = ApplyExposureRequest { intent: Some(intent.clone().into()), phase: wire(phase) };
        let request = self.request(message, DEADLINE)?;
        let answer = self.answer(self.gateway().apply_exposure(request)).await;
        self.outcome(answer.map(|answer| (answer.objects, answer.writes, answer.more)))
    }

    async fn restore(&self, intent: &ExposureIntent, phase: u32) -> Result<WriteOutcome, PeerError> {
        let message = RestoreBaselineRequest { intent: Some(intent.clone().into()), phase: wire(phase) };
        let request = self.request(message, DEADLINE)?;
        let answer = self.answer(self.gateway().restore_baseline(request)).await;
        self.outcome(answer.map(|answer| (answer.objects, answer.writes, answer.more)))
    }

    async fn verify(
        &self,
        intent: &ExposureIntent,
        objects: &[AppliedObject],
        patience: Patience,
    ) -> Result<PropagationProof, PeerError> {
        let message = VerifyExposureRequest {
            intent: Some(intent.clone().into()),
            objects: objects.iter().cloned().map(Into::into).collect(),
            timeout: Some(duration(patience.wait)),
            quorum_bp: patience.quorum.basis_points().into(),
        };
        let request = self.request(message, patience.wait + DEADLINE)?;
        let answer = self.answer(self.gateway().verify_exposure(request)).await?;
        let proof = answer.proof.ok_or_else(|| self.unavailable(&"the answer has no proof"))?;
        self.converted(proof.try_into())
    }

    async fn watch_drift(&self, objects: &[Target]) -> Result<Drifts, PeerError> {
        let message = WatchDriftRequest { targets: objects.iter().cloned().map(Into::into).collect() };
        let request = self.request(message, WATCH)?;
        let mut gateway = MeshGatewayServiceClient::new(self.streams.clone());
        let begun = self.answer(gateway.watch_drift(request));
        let begun = tokio::time::timeout(DEADLINE, begun).await;
        let stream = begun.map_err(|_| self.unavailable(&"the watch does not begin"))??;
        let peer = self.clone();
        Ok(stream.map(move |word| peer.drift(word)).boxed())
    }
}

fn wire(phase: u32) -> i32 {
    i32::try_from(phase).unwrap_or(i32::MAX)
}

impl Peer {
    fn drift(&self, word: Result<gateway::WatchDriftResponse, Status>) -> Result<Drift, PeerError> {
        let word = word.map_err(|status| self.unavailable(&status.message()))?;
        let target = word.target.ok_or_else(|| self.unavailable(&"a drift has no target"))?;
        Ok(Drift { target: self.converted(target.try_into())?, manager: word.manager })
    }

    fn gateway(&self) -> MeshGatewayServiceClient<PeerChannel> {
        MeshGatewayServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// A refused write is an outcome that the deployment decides on.
    fn outcome(
        &self,
        answer: Result<(Vec<gateway::AppliedObject>, i32, bool), PeerError>,
    ) -> Result<WriteOutcome, PeerError> {
        match answer {
            Ok((objects, writes, more)) => {
                let objects = objects.into_iter().map(TryInto::try_into).collect();
                let writes = writes.try_into().unwrap_or(0);
                Ok(WriteOutcome::Done { writes, objects: self.converted(objects)?, more })
            }
            Err(PeerError::Refused { status, .. }) => {
                let why = status.message().to_owned();
                Ok(match reason_of(&status) {
                    Some(ErrorReason::Drift) => WriteOutcome::Drifted(why),
                    Some(ErrorReason::AdmissionDenied | ErrorReason::ExposureUnsupported) => WriteOutcome::Refused(why),
                    // A later writer, missing rights, a kind that is not served: not the version's fault.
                    _ => WriteOutcome::Blocked(why),
                })
            }
            Err(unavailable) => Err(unavailable),
        }
    }
}

#[async_trait]
impl Judge for Peer {
    async fn analyze(&self, question: &Question) -> Result<Judged, PeerError> {
        let message = RunAnalysisRequest {
            target: Some(question.target.clone().into()),
            start_time: Some(timestamp(question.start)),
            end_time: None,
            tick: Some(duration(question.tick)),
            periods: question.periods.iter().copied().map(Into::into).collect(),
            options: Some(question.options.into()),
            history: Some(duration(question.history)),
            deployment_id: question.deployment_id.clone(),
            step: i32::try_from(question.step).unwrap_or(i32::MAX),
            explain: true,
        };
        let request = self.request(message, DEADLINE)?;
        let mut client = MetricsCollectorServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let answer = self.answer(client.run_analysis(request)).await?;
        let analysis = answer.analysis.ok_or_else(|| self.unavailable(&"the answer has no analysis"))?;
        // One that does not explain has at least the numbers of its last ticks.
        let told =
            ExplainVerdictResponse { analysis: Some(analysis.clone()), ..answer.explanation.unwrap_or_default() };
        Ok(Judged { analysis: self.converted(analysis.try_into())?, told: told.encode_to_vec() })
    }

    async fn preflight(&self, target: &MetricsTarget) -> Result<Vec<String>, PeerError> {
        let message = CheckQueriesRequest { target: Some(target.clone().into()), templates: String::new() };
        let request = self.request(message, DEADLINE)?;
        let mut client = MetricsCollectorServiceClient::new(self.channel.clone());
        Ok(self.answer(client.check_queries(request)).await?.problems)
    }
}

impl From<PeerError> for Problem {
    /// What a person who waits for the answer is told.
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Unavailable { .. } => Self::unavailable(ErrorReason::PeerUnavailable, error.to_string()),
            PeerError::Refused { status, .. } => {
                let reason = reason_of(&status).unwrap_or(ErrorReason::StateInvalid);
                Self::new(status.code(), reason, status.message())
            }
        }
    }
}
