//! One release, as a platform team would drive it: a version is stored, submitted, approved by somebody else, deployed, and watched.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use meshward_proto::{
    from_timestamp,
    registry::v1::{GetPolicyVersionRequest, Policy, PolicyVersion, VersionState},
    rollout::v1::{
        CreateDeploymentRequest, Deployment, DeploymentEvent, DeploymentState, GetDeploymentRequest, Step, Strategy,
        WatchDeploymentRequest, WatchDeploymentResponse,
    },
    types::v1::Verdict,
};

use super::{
    Mesh, Options, ReleaseReport, StepLine,
    cohorts::Cohorts,
    report::Rollback,
    say,
    services::{Services, ask, now, seconds},
    submit,
};
use crate::load::Load;

/// The steps of the issue at hand: the last judged one keeps a tenth of the traffic as control.
const WEIGHTS: [i32; 5] = [1_000, 3_000, 5_000, 9_000, 10_000];
/// A release that has not ended by then is a failure of the demo.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is released, and how.
pub struct Release {
    /// For people.
    pub name: &'static str,
    /// The version's object.
    pub yaml: String,
    /// What its answers say.
    pub version: &'static str,
    /// Step in the middle of which the orchestrator is killed.
    pub crash_at: Option<i32>,
}

/// What is seen on the way.
struct Watcher<'a> {
    mesh: &'a Mesh,
    load: &'a Load,
    began: Instant,
    report: ReleaseReport,
    /// Envoy's counters when the current step went live.
    at_live: Option<Cohorts>,
    /// When the rollback was decided and when it was proven.
    verdict_at: Option<jiff::Timestamp>,
    back_at: Option<jiff::Timestamp>,
    last: i64,
}

impl Release {
    /// Runs it to its end.
    ///
    /// # Errors
    /// If a service refuses what it should not, or the deployment does not come to an end.
    pub async fn run(
        &self,
        options: &Options,
        mesh: &Mesh,
        services: &mut Services,
        load: &Load,
    ) -> anyhow::Result<ReleaseReport> {
        let deployment = self.begin(options, services).await?;
        say(format!("  version {} is approved; deployment {} begins", deployment.version, deployment.id));
        let report = ReleaseReport::new(self.name, self.version, &deployment);
        let mut watcher = Watcher {
            mesh,
            load,
            began: Instant::now(),
            report,
            at_live: None,
            verdict_at: None,
            back_at: None,
            last: 0,
        };
        watcher.follow(self, options, services, &deployment.id).await?;
        watcher.finish(services, &deployment).await
    }

    /// Stores, approves and deploys the version.
    ///
    /// # Errors
    /// If a service refuses what it should not.
    pub async fn begin(&self, options: &Options, services: &Services) -> anyhow::Result<Deployment> {
        let (policy, version) = submit::approved(services, &self.yaml, self.name).await?;
        self.deploy(options, services, &policy, &version).await
    }

    async fn deploy(
        &self,
        options: &Options,
        services: &Services,
        policy: &Policy,
        version: &PolicyVersion,
    ) -> anyhow::Result<Deployment> {
        let bake = meshward_proto::duration(options.bake);
        let step = |weight_bp| Step { weight_bp, bake_time: Some(bake), gate: false };
        let strategy = Strategy {
            steps: WEIGHTS.into_iter().map(step).collect(),
            analysis_interval: Some(meshward_proto::duration(Duration::from_secs(1))),
            ..Default::default()
        };
        let request = CreateDeploymentRequest {
            policy_id: policy.id.clone(),
            version: version.version,
            strategy: Some(strategy),
            ..Default::default()
        };
        let answer = services.orchestrator()?.create_deployment(ask(&services.developer, request)?).await?.into_inner();
        answer.deployment.context("no deployment in the answer")
    }
}

impl Watcher<'_> {
    /// Follows the events to the end; a stream that breaks is taken up again after the last event.
    async fn follow(
        &mut self,
        release: &Release,
        options: &Options,
        services: &mut Services,
        id: &str,
    ) -> anyhow::Result<()> {
        loop {
            ensure!(self.began.elapsed() < PATIENCE, "deployment {id} has not ended after {PATIENCE:?}");
            let request = WatchDeploymentRequest { id: id.to_owned(), after_sequence: self.last };
            let mut request = ask(&services.developer, request)?;
            request.set_timeout(PATIENCE);
            let stream = services.orchestrator()?.watch_deployment(request).await;
            let Ok(mut stream) = stream.map(tonic::Response::into_inner) else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let crashed = loop {
                match tokio::time::timeout(PATIENCE, stream.message()).await? {
                    Ok(Some(message)) => {
                        if self.take(message, release.crash_at).await? {
                            break true;
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(_) => break false,
                }
            };
            if crashed {
                tokio::time::sleep(options.bake / 3).await;
                say(format!(
                    "  {} the orchestrator is killed in the middle of the step, and started again",
                    self.clock()
                ));
                services.crash_orchestrator().await?;
                self.report.orchestrator_killed = true;
            }
        }
    }

    fn clock(&self) -> String {
        format!("{:6.1} s", self.began.elapsed().as_secs_f64())
    }

    /// One event. True = the orchestrator shall be killed now.
    async fn take(&mut self, message: WatchDeploymentResponse, crash_at: Option<i32>) -> anyhow::Result<bool> {
        let (Some(event), Some(deployment)) = (message.event, message.deployment) else {
            bail!("an event without content")
        };
        self.last = event.sequence;
        let percent = f64::from(event.weight_bp) / 100.0;
        say(format!("  {} {percent:>4} %  {:<24} {}", self.clock(), event.r#type, event.message));
        self.measure(&event).await?;
        let time = event.time.map(|time| from_timestamp("time", time)).transpose()?;
        match event.r#type.as_str() {
            "deployment.rolling_back" => self.verdict_at = time,
            "rollback.live" => self.back_at = time,
            _ => {}
        }
        let live = event.r#type == "step.live" && event.state() == DeploymentState::Baking;
        let crash = live && !self.report.orchestrator_killed && crash_at == Some(deployment.step);
        Ok(crash)
    }

    /// Envoy's counters at the edges of a step.
    async fn measure(&mut self, event: &DeploymentEvent) -> anyhow::Result<()> {
        let Some(admin) = &self.mesh.place().envoy_admin else { return Ok(()) };
        match event.r#type.as_str() {
            "step.live" if event.state() == DeploymentState::Baking => self.at_live = Some(Cohorts::read(admin).await?),
            "step.exposing" | "deployment.promoting" | "deployment.rolling_back" => {
                let Some(at_live) = self.at_live.take() else { return Ok(()) };
                let seen = Cohorts::read(admin).await?.since(at_live);
                self.report.measured.push((seen.share(), seen.total()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads how it ended, and what the registry says of the version.
    async fn finish(mut self, services: &Services, begun: &Deployment) -> anyhow::Result<ReleaseReport> {
        let request = ask(&services.developer, GetDeploymentRequest { id: begun.id.clone() })?;
        let deployment =
            services.orchestrator()?.get_deployment(request).await?.into_inner().deployment.context("it is gone")?;
        let request = GetPolicyVersionRequest { id: begun.policy_id.clone(), version: begun.version };
        let request = ask(&services.developer, request)?;
        let version =
            services.registry()?.get_policy_version(request).await?.into_inner().version.context("it is gone")?;
        self.report.seconds = self.began.elapsed().as_secs_f64();
        self.report.outcome = name(deployment.state().as_str_name(), "DEPLOYMENT_STATE_");
        self.report.version_state = name(VersionState::try_from(version.state)?.as_str_name(), "VERSION_STATE_");
        self.report.reason.clone_from(&deployment.reason);
        self.report.steps = deployment.steps.iter().zip(0..).map(|(step, index)| self.line(step, index)).collect();
        self.report.rollback = self.rollback(&deployment);
        Ok(self.report)
    }

    fn line(&self, step: &meshward_proto::rollout::v1::StepReport, index: usize) -> StepLine {
        let measured = self.report.measured.get(index).copied();
        let by_prometheus = (!step.observed_share.is_nan()).then_some(step.observed_share);
        StepLine {
            weight: f64::from(step.weight_bp) / 10_000.0,
            share: measured.map_or(by_prometheus, |(share, _)| share),
            requests: measured.map_or_else(
                || u64::try_from(step.canary_requests + step.control_requests).unwrap_or(0),
                |(_, total)| total,
            ),
            seconds_to_live: step
                .time_to_live
                .and_then(|time| Duration::try_from(time).ok())
                .map(|time| time.as_secs_f64()),
            verdict: match Verdict::try_from(step.verdict).unwrap_or_default() {
                Verdict::Unspecified => String::new(),
                verdict => name(verdict.as_str_name(), "VERDICT_"),
            },
            explanation: step.explanation.clone(),
        }
    }

    fn rollback(&self, deployment: &Deployment) -> Option<Rollback> {
        let verdict_at = self.verdict_at?;
        let phase = self.load.snapshot();
        let first_failure = phase.phase(self.report.name).and_then(|phase| phase.first_failure);
        Some(Rollback {
            seconds_from_first_failure_to_verdict: first_failure.map(|moment| seconds(moment.at, verdict_at)),
            seconds_from_verdict_to_live: seconds(verdict_at, self.back_at.unwrap_or_else(now)),
            report: deployment.rollback_report.clone(),
        })
    }
}

/// An enum value's name without its prefix.
fn name(value: &str, prefix: &str) -> String {
    value.strip_prefix(prefix).unwrap_or(value).to_owned()
}
