//! What a deployment does while Prometheus or istiod cannot be reached: it holds, says so, and never passes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use meshward_proto::rollout::v1::{AbortDeploymentRequest, Deployment, DeploymentState, GetDeploymentRequest};

use super::{
    Mesh, Options, object, policies,
    release::Release,
    services::{Services, ask},
};
use crate::{otlp::OtlpReceiver, tools::Tools};

const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone)]
pub struct Held {
    /// State while it was held, and after three bake times more.
    pub states: [DeploymentState; 2],
    /// Weight that was asked for, in basis points, at both moments.
    pub weights_bp: [i32; 2],
    /// What it said.
    pub reason: String,
    /// State in which it came to rest after an abort; without istiod nothing can be proven, so it does not end.
    pub after_abort: DeploymentState,
}

/// Deploys the good version on a cluster of which a part cannot be reached, waits until the deployment says so, waits on, and aborts.
///
/// # Errors
/// If the deployment does not begin, or passes or ends by itself.
pub async fn outage(options: Options, tools: &Tools, said: &str) -> anyhow::Result<Held> {
    std::fs::create_dir_all(options.dir.join("logs")).context("the folder of the logs")?;
    let traces = OtlpReceiver::start().await?;
    let mesh = Mesh::start(&options, tools).await.context("the mesh")?;
    let services = Services::start(&options, &mesh, &traces.endpoint(), tools).await.context("the services")?;
    object::apply(&mesh, &policies::stable()).await?;
    let held = hold(&options, &services, said).await;
    services.stop().await;
    mesh.stop().await;
    held
}

async fn hold(options: &Options, services: &Services, said: &str) -> anyhow::Result<Held> {
    let release = Release { name: "good", yaml: policies::good(), version: policies::GOOD, crash_at: None };
    let id = release.begin(options, services).await?.id;
    let held = wait(services, &id, |deployment| deployment.reason.contains(said)).await?;
    // Long enough for every step to have passed, had this one.
    tokio::time::sleep(options.bake * 3).await;
    let later = read(services, &id).await?;
    let request = AbortDeploymentRequest { id: id.clone(), reason: "the test is over".into(), ..Default::default() };
    services.orchestrator()?.abort_deployment(ask(&services.developer, request)?).await?;
    let rest = [DeploymentState::RolledBack, DeploymentState::RollingBack];
    let after = wait(services, &id, |deployment| rest.contains(&deployment.state())).await?;
    let proven = wait(services, &id, |deployment| deployment.state() == DeploymentState::RolledBack);
    let after = tokio::time::timeout(options.bake * 3, proven).await.unwrap_or(Ok(after))?;
    Ok(Held {
        states: [held.state(), later.state()],
        weights_bp: [held.weight_bp, later.weight_bp],
        reason: later.reason,
        after_abort: after.state(),
    })
}

async fn read(services: &Services, id: &str) -> anyhow::Result<Deployment> {
    let request = ask(&services.developer, GetDeploymentRequest { id: id.to_owned() })?;
    services.orchestrator()?.get_deployment(request).await?.into_inner().deployment.context("it is gone")
}

async fn wait(services: &Services, id: &str, done: impl Fn(&Deployment) -> bool) -> anyhow::Result<Deployment> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let deployment = read(services, id).await?;
        if done(&deployment) {
            return Ok(deployment);
        }
        ensure!(
            Instant::now() < deadline,
            "not so after {PATIENCE:?}: {:?}: {}",
            deployment.state(),
            deployment.reason
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
