//! The other kinds and ways of exposure, each released through all five services: one version is promoted, the next one is taken back.
//! At half of the traffic requests say who has which version; at the end nothing of Meshward is left in the cluster.

mod cluster;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use meshward_chassis::clock::{Clock as _, SystemClock};
use meshward_proto::{
    duration,
    gateway::v1::ExposurePlan,
    registry::v1::{GetPolicyVersionRequest, VersionState},
    rollout::v1::{
        AbortDeploymentRequest, CreateDeploymentRequest, Deployment, DeploymentState, GetDeploymentRequest, OnNoData,
        PromoteDeploymentRequest, RollbackDeploymentRequest, Step, StepReport, Strategy,
    },
    types::v1::{Mechanism, Verdict},
};
use serde_json::{Value, json};

use super::{
    Check, Mesh, Options,
    report::check,
    say,
    services::{Services, ask},
    submit,
};
use crate::{
    load::{Load, LoadPlan},
    otlp::OtlpReceiver,
    stack::{NAMESPACE, Server, Stack},
    tools::Tools,
    upstream::{Upstream, UpstreamConfig},
};
use cluster::Everything;
use traffic::{Door, Share, Traffic};

const PATIENCE: Duration = Duration::from_secs(90);
/// Pods of the service whose policy is divided by pods.
const PODS: u8 = 4;
/// Host of the DestinationRule: one that no other release had to do with, whose failures would be in its past.
const HOST: &str = "catalog.shop.svc.cluster.local";
/// Who edits the object during a bake.
const INTRUDER: &str = "argocd-controller";

/// A kind and a way of exposure.
struct Case {
    what: &'static str,
    mechanism: Mechanism,
    /// What the platform team has applied, a good version, and one that is taken back.
    objects: [Value; 3],
    taken_back: TakenBack,
    traffic: Traffic,
}

/// Why the third version is taken back.
#[derive(Clone, Copy, PartialEq)]
enum TakenBack {
    /// The judge sees that it is worse.
    ByJudge,
    /// A person says so, at half of the traffic.
    ByPerson,
}

/// What the cases have in common.
struct Run<'a> {
    options: &'a Options,
    mesh: Mesh,
    services: Services,
    checks: Vec<Check>,
}

/// Releases each kind on a stack that runs, and says what held.
///
/// # Errors
/// If something cannot be started, or a service refuses what it should not.
pub async fn kinds(options: Options, tools: &Tools, stack: &Stack) -> anyhow::Result<Vec<Check>> {
    std::fs::create_dir_all(options.dir.join("logs")).context("the folder of the logs")?;
    let traces = OtlpReceiver::start().await?;
    let mesh = Mesh::start(&options, tools).await.context("the mesh")?;
    let services = Services::start(&options, &mesh, &traces.endpoint(), tools).await.context("the services")?;
    let upstream = Upstream::start(UpstreamConfig::new("ledger")).await?;
    let (ledger, vault) = tokio::try_join!(
        stack.start_servers(Server::APP, 0..1, upstream.address()),
        stack.start_servers("vault", 0..PODS, upstream.address()),
    )?;
    let mut run = Run { options: &options, mesh, services, checks: Vec::new() };
    let outcome = run.all(stack, &ledger, &vault).await;
    run.services.stop().await;
    for server in ledger.into_iter().chain(vault) {
        server.stop().await;
    }
    upstream.stop().await;
    outcome.map(|()| run.checks)
}

impl Run<'_> {
    async fn all(&mut self, stack: &Stack, ledger: &[Server], vault: &[Server]) -> anyhow::Result<()> {
        let doors =
            |servers: &[Server]| servers.iter().map(|server| Door::new(server.ingress)).collect::<Result<Vec<_>, _>>();
        let cases = [
            Case {
                what: "DestinationRule by SUBSET",
                mechanism: Mechanism::Subset,
                objects: [
                    pool(&json!({"connectionPool": {"tcp": {"maxConnections": 1000}}})),
                    pool(&json!({"connectionPool": {"tcp": {"maxConnections": 900}}})),
                    // The service speaks no TLS: every request fails.
                    pool(&json!({"connectionPool": {"tcp": {"maxConnections": 900}}, "tls": {"mode": "SIMPLE"}})),
                ],
                taken_back: TakenBack::ByJudge,
                traffic: Traffic::Counted(stack.storefront().admin_url.clone()),
            },
            Case {
                what: "AuthorizationPolicy by REQUEST",
                mechanism: Mechanism::Request,
                objects: PATHS.map(|path| allow(Server::APP, path)),
                taken_back: TakenBack::ByPerson,
                traffic: Traffic::Requests(doors(ledger)?.remove(0)),
            },
            Case {
                what: "AuthorizationPolicy by INSTANCE",
                mechanism: Mechanism::Instance,
                objects: PATHS.map(|path| allow("vault", path)),
                taken_back: TakenBack::ByPerson,
                traffic: Traffic::Pods(doors(vault)?),
            },
        ];
        let load = self.load()?;
        for case in &cases {
            say(format!("\n{}:", case.what));
            self.promoted(case, &load).await.with_context(|| format!("{}, promoted", case.what))?;
            self.taken_back(case, &load).await.with_context(|| format!("{}, taken back", case.what))?;
        }
        load.stop().await;
        let promoted = cases.iter().map(|case| name(&case.objects[0])).chain(["VirtualService checkout".to_owned()]);
        let promoted: Vec<_> = promoted.collect();
        self.nothing_is_left(&promoted).await?;
        say("\nSomebody edits an object during a bake:");
        self.drift(&cases[1]).await.context("drift")?;
        self.nothing_is_left(&promoted).await
    }

    fn load(&self) -> anyhow::Result<Load> {
        let plan = LoadPlan { rate: self.options.rate, ..LoadPlan::new(format!("http://{}", self.mesh.entry()), HOST) };
        Ok(Load::start(plan, || SystemClock.now())?)
    }

    fn check(&mut self, case: &Case, promise: &str, held: bool, detail: impl Into<String>) {
        check(&mut self.checks, format!("{}: {promise}", case.what), held, detail);
    }

    /// The good version: half of the traffic, then all of it.
    async fn promoted(&mut self, case: &Case, load: &Load) -> anyhow::Result<()> {
        let [stable, good, _] = &case.objects;
        cluster::apply(&self.mesh, stable).await?;
        self.settled(case, PATHS[0]).await?;
        load.mark(case.what)?;
        let id = self.deploy(case, good, self.quick(case.mechanism)).await?.id;
        let waiting = self.until(&id, DeploymentState::Waiting).await?;
        let mechanism = waiting.plan.as_ref().map(ExposurePlan::mechanism);
        self.check(case, "it is exposed that way", mechanism == Some(case.mechanism), format!("{mechanism:?}"));
        self.shared(case, Share::Half, PATHS[0], PATHS[1]).await?;
        let request = PromoteDeploymentRequest { id: id.clone(), ..Default::default() };
        self.services.orchestrator()?.promote_deployment(ask(&self.services.developer, request)?).await?;
        let end = self.until(&id, DeploymentState::Promoted).await?;
        self.shared(case, Share::Everybody, PATHS[0], PATHS[1]).await?;
        for step in &end.steps {
            self.proven(case, step);
        }
        if matches!(case.traffic, Traffic::Counted(_)) {
            self.judged(case, &end, Verdict::Healthy);
            self.lost(case, load);
        }
        let live = cluster::read(&self.mesh, good).await?;
        self.check(
            case,
            "the promoted version stands there alone",
            live["spec"] == good["spec"],
            live["spec"].to_string(),
        );
        Ok(())
    }

    /// The third version: exposed, and put back byte for byte.
    async fn taken_back(&mut self, case: &Case, load: &Load) -> anyhow::Result<()> {
        let third = &case.objects[2];
        let before = Everything::read(&self.mesh).await?;
        load.mark(&format!("{}, the third", case.what))?;
        let deployment = self.deploy(case, third, self.quick(case.mechanism)).await?;
        if case.taken_back == TakenBack::ByPerson {
            self.until(&deployment.id, DeploymentState::Waiting).await?;
            self.shared(case, Share::Half, PATHS[1], PATHS[2]).await?;
            let request = RollbackDeploymentRequest { id: deployment.id.clone(), ..Default::default() };
            self.services.orchestrator()?.rollback_deployment(ask(&self.services.developer, request)?).await?;
        }
        let end = self.until(&deployment.id, DeploymentState::RolledBack).await?;
        say(format!("  {}: {}", end.reason, end.rollback_report));
        self.shared(case, Share::Nobody, PATHS[1], PATHS[2]).await?;
        if case.taken_back == TakenBack::ByJudge {
            self.judged(case, &end, Verdict::Regression);
        }
        let differences = before.differences(&Everything::read(&self.mesh).await?);
        self.check(
            case,
            "what was taken back left everything byte for byte as it was",
            differences.is_empty(),
            differences.join("; "),
        );
        let request = GetPolicyVersionRequest { id: end.policy_id, version: end.version };
        let version = self.services.registry()?.get_policy_version(ask(&self.services.developer, request)?).await?;
        let state = version.into_inner().version.context("a version")?.state();
        self.check(case, "and its version is quarantined", state == VersionState::Quarantined, state.as_str_name());
        Ok(())
    }

    /// The gateway tells of the change: the deployment looks every five minutes only.
    async fn drift(&mut self, case: &Case) -> anyhow::Result<()> {
        let before = Everything::read(&self.mesh).await?;
        let (rare, fourth) = (Duration::from_secs(300), allow(Server::APP, "/drift"));
        let strategy = Strategy {
            analysis_interval: Some(duration(rare)),
            bake_time: Some(duration(rare)),
            ..self.quick(case.mechanism)
        };
        let id = self.deploy(case, &fourth, strategy).await?.id;
        self.until(&id, DeploymentState::Baking).await?;
        let label = |value: Value| json!({"spec": {"selector": {"matchLabels": {"drift": value}}}});
        let began = Instant::now();
        cluster::edit(&self.mesh, &fourth, INTRUDER, &label("yes".into())).await?;
        let paused = self.until(&id, DeploymentState::Paused).await?;
        say(format!("  paused {:.2} s after the edit: {}", began.elapsed().as_secs_f64(), paused.reason));
        self.check(
            case,
            "a deployment whose object somebody edits is paused with their name",
            paused.reason.contains(INTRUDER),
            paused.reason,
        );
        cluster::edit(&self.mesh, &fourth, INTRUDER, &label(Value::Null)).await?;
        let request = AbortDeploymentRequest { id: id.clone(), ..Default::default() };
        self.services.orchestrator()?.abort_deployment(ask(&self.services.developer, request)?).await?;
        self.until(&id, DeploymentState::RolledBack).await?;
        let differences = before.differences(&Everything::read(&self.mesh).await?);
        self.check(
            case,
            "when the edit is taken back everything can be put back",
            differences.is_empty(),
            differences.join("; "),
        );
        Ok(())
    }

    /// Half of the traffic, a gate, then all of it. What nobody measures does not hold it up for long.
    fn quick(&self, mechanism: Mechanism) -> Strategy {
        let second = Some(duration(Duration::from_secs(1)));
        let step = |weight_bp, gate| Step { weight_bp, bake_time: None, gate };
        Strategy {
            steps: vec![step(5_000, true), step(10_000, false)],
            bake_time: second,
            analysis_interval: second,
            hold_timeout: if mechanism == Mechanism::Subset { None } else { second },
            on_no_data: OnNoData::Proceed.into(),
            mechanism: mechanism.into(),
            ..Default::default()
        }
    }

    async fn deploy(&self, case: &Case, object: &Value, strategy: Strategy) -> anyhow::Result<Deployment> {
        let (policy, version) = submit::approved(&self.services, &serde_yaml::to_string(object)?, case.what).await?;
        let request = CreateDeploymentRequest {
            policy_id: policy.id,
            version: version.version,
            strategy: Some(strategy),
            ..Default::default()
        };
        let answer = self.services.orchestrator()?.create_deployment(ask(&self.services.developer, request)?).await?;
        answer.into_inner().deployment.context("no deployment in the answer")
    }

    async fn until(&self, id: &str, wanted: DeploymentState) -> anyhow::Result<Deployment> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = ask(&self.services.developer, GetDeploymentRequest { id: id.to_owned() })?;
            let answer = self.services.orchestrator()?.get_deployment(request).await?.into_inner();
            let deployment = answer.deployment.context("it is gone")?;
            let state = deployment.state();
            if state == wanted {
                return Ok(deployment);
            }
            let strange =
                matches!(state, DeploymentState::Paused | DeploymentState::Promoted | DeploymentState::RolledBack);
            ensure!(!strange && Instant::now() < deadline, "{state:?} and not {wanted:?}: {}", deployment.reason);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until what the platform team has applied is in force: nobody proves that.
    async fn settled(&self, case: &Case, path: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(case.traffic.is(Share::Nobody, path, PATHS[1]).await, Ok((true, _))) {
            ensure!(Instant::now() < deadline, "what was there before is never in force");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn shared(&mut self, case: &Case, share: Share, older: &str, newer: &str) -> anyhow::Result<()> {
        let (held, seen) = case.traffic.is(share, older, newer).await?;
        let version = PATHS.iter().position(|path| *path == newer).unwrap_or_default() + 1;
        self.check(case, &format!("{share:?} has version {version}"), held, seen);
        Ok(())
    }

    fn proven(&mut self, case: &Case, step: &StepReport) {
        let seen = step.propagation.clone().unwrap_or_default();
        let held = step.live_time.is_some() && seen.concerned > 0 && seen.acknowledged == seen.concerned;
        let took = step.time_to_live.and_then(|time| Duration::try_from(time).ok()).unwrap_or_default();
        let detail = format!("{}/{} proxies after {:.2} s", seen.acknowledged, seen.concerned, took.as_secs_f64());
        say(format!("  {} % live on {detail}", step.weight_bp / 100));
        self.check(case, &format!("{} % is proven live on every proxy", step.weight_bp / 100), held, detail);
    }

    fn judged(&mut self, case: &Case, end: &Deployment, wanted: Verdict) {
        let (verdict, why) =
            end.steps.first().map(|step| (step.verdict(), step.explanation.clone())).unwrap_or_default();
        self.check(case, &format!("the judge says {}", wanted.as_str_name()), verdict == wanted, why);
    }

    fn lost(&mut self, case: &Case, load: &Load) {
        let report = load.snapshot();
        let Some(phase) = report.phase(case.what) else { return };
        let detail = format!("{} lost, {} failed of {}", phase.lost.total(), phase.failed, phase.completed);
        self.check(case, "no request is lost on the way to all", phase.failed == 0 && phase.completed > 0, detail);
    }

    async fn nothing_is_left(&mut self, promoted: &[String]) -> anyhow::Result<()> {
        let ours = Everything::read(&self.mesh).await?.ours(promoted);
        check(&mut self.checks, "nothing of Meshward is left in the cluster", ours.is_empty(), ours.join("; "));
        Ok(())
    }
}

/// What the three versions of an AuthorizationPolicy let in to.
const PATHS: [&str; 3] = ["/old", "/new", "/newer"];

fn pool(policy: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
           "metadata": {"name": "catalog", "namespace": NAMESPACE},
           "spec": {"host": HOST, "trafficPolicy": policy}})
}

fn allow(app: &str, path: &str) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": {"name": app, "namespace": NAMESPACE},
           "spec": {"selector": {"matchLabels": {"app": app}}, "action": "ALLOW",
                    "rules": [{"to": [{"operation": {"methods": ["GET"], "paths": [path]}}]}]}})
}

fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
