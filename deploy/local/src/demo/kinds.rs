//! The other kinds and ways of exposure, each released through all five services: one version is promoted, the next one is taken back.
//! At half of the traffic requests say who has which version; at the end nothing of Meshward is left in the cluster.

mod cluster;
mod objects;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use meshward_chassis::clock::{Clock as _, SystemClock};
use meshward_proto::{
    duration,
    gateway::v1::{Audience, ExposurePlan, HeaderMatch, header_match},
    registry::v1::{GetPolicyVersionRequest, ReleaseVersionRequest, VersionState},
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
    load::{Load, LoadPlan, PhaseReport},
    otlp::OtlpReceiver,
    stack::{NAMESPACE, Server, Stack},
    tools::Tools,
    upstream::{Upstream, UpstreamConfig},
};
use cluster::Everything;
use objects::{PATHS, allow, filter, name, pool, route};
use traffic::{ANYWHERE, AUDIENCE, Door, Entry, Pods, SERVED, Share, Traffic};

const PATIENCE: Duration = Duration::from_secs(90);
/// The service whose policy is divided by pods.
const DIVIDED: &str = "vault";
/// Its pods.
const PODS: u8 = 4;
/// Host of the DestinationRule: one that no other release had to do with, whose failures would be in its past.
const HOST: &str = "catalog.shop.svc.cluster.local";
/// Where every request fails.
const FAILING: &str = "checkout-next.shop.svc.cluster.local";
/// The host of that service.
const DIVIDED_HOST: &str = "vault.shop.svc.cluster.local";
/// Requests per second of an audience, and of each pod.
const OWN_RATE: f64 = 100.0;
/// How far the measured share may be off.
const SHARE_TOLERANCE: f64 = 0.1;
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

impl Case {
    /// To whom the newer version is given, where that has to be said.
    fn audience(&self) -> Option<Audience> {
        let (name, value) = (AUDIENCE.0.to_owned(), header_match::Value::Exact(AUDIENCE.1.to_owned()));
        let header = HeaderMatch { name, is_cookie: false, value: Some(value) };
        let by_header = self.mechanism == Mechanism::Header;
        by_header.then(|| Audience { header: Some(header), namespaces: Vec::new() })
    }

    /// Both versions are counted apart, so that the judge has its say.
    fn is_counted(&self) -> bool {
        !matches!(self.traffic, Traffic::Requests(_))
    }

    /// Sends what the load of all cases does not.
    fn own_loads(&self) -> anyhow::Result<Vec<Load>> {
        let start = |plan| Ok(Load::start(plan, || SystemClock.now())?);
        self.traffic.own_loads(OWN_RATE).into_iter().map(start).collect()
    }
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
    /// New pods are labelled by the API server.
    has_admission: bool,
    checks: Vec<Check>,
}

fn mark(loads: &[&Load], phase: &str) -> anyhow::Result<()> {
    Ok(loads.iter().try_for_each(|load| load.mark(phase))?)
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
        stack.start_servers(DIVIDED, 0..PODS, upstream.address()),
    )?;
    let has_admission = stack.install_admission().await?;
    let mut run = Run { options: &options, mesh, services, has_admission, checks: Vec::new() };
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
        let entries = |servers: &[Server]| {
            let entry = |server: &Server| Entry::new(server.ingress, DIVIDED_HOST, SERVED);
            servers.iter().map(entry).collect::<Result<Vec<_>, _>>()
        };
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
                objects: PATHS.map(|path| allow(Server::APP, &[path])),
                taken_back: TakenBack::ByPerson,
                traffic: Traffic::Requests(doors(ledger)?.remove(0)),
            },
            Case {
                what: "AuthorizationPolicy by INSTANCE",
                mechanism: Mechanism::Instance,
                // The third one denies what all ask for.
                objects: [(0, true), (1, true), (2, false)].map(|(version, serves)| {
                    let all = [PATHS[version], SERVED];
                    allow(DIVIDED, if serves { &all } else { &all[..1] })
                }),
                taken_back: TakenBack::ByJudge,
                traffic: Traffic::Pods(Pods::ByPath(doors(vault)?)),
            },
            Case {
                what: "EnvoyFilter by INSTANCE",
                mechanism: Mechanism::Instance,
                objects: [(0, true), (1, true), (2, false)]
                    .map(|(version, serves)| filter(DIVIDED, PATHS[version], serves)),
                taken_back: TakenBack::ByJudge,
                traffic: Traffic::Pods(Pods::ByAnswer(entries(vault)?)),
            },
            Case {
                what: "VirtualService by HEADER",
                mechanism: Mechanism::Header,
                // The third one sends the audience, and nobody else, to where every request fails.
                objects: [(0, HOST), (1, HOST), (2, FAILING)].map(|(version, to)| route(PATHS[version], to)),
                taken_back: TakenBack::ByJudge,
                traffic: Traffic::Audience(Entry::new(stack.storefront().egress, HOST, "/")?),
            },
        ];
        let load = self.load()?;
        for case in &cases {
            say(format!("\n{}:", case.what));
            let own = case.own_loads()?;
            // An audience has a bad version, too; nobody else may lose a request.
            let watched = if matches!(case.traffic, Traffic::Pods(_)) { own.iter().collect() } else { vec![&load] };
            self.promoted(case, &watched).await.with_context(|| format!("{}, promoted", case.what))?;
            self.taken_back(case, &watched).await.with_context(|| format!("{}, taken back", case.what))?;
        }
        load.stop().await;
        let promoted = cases.iter().map(|case| name(&case.objects[0])).chain(["VirtualService checkout".to_owned()]);
        let promoted: Vec<_> = promoted.collect();
        self.nothing_is_left(&promoted).await?;
        say("\nSomebody edits an object during a bake:");
        self.drift(&cases[1]).await.context("drift")?;
        say("\nA version is that the object is gone:");
        self.deletion(&cases[1]).await.context("deletion")?;
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
    async fn promoted(&mut self, case: &Case, loads: &[&Load]) -> anyhow::Result<()> {
        let [stable, good, _] = &case.objects;
        cluster::apply(&self.mesh, stable).await?;
        self.settled(case, PATHS[0]).await?;
        mark(loads, case.what)?;
        let id = self.deploy(case, good, self.quick(case)).await?.id;
        let waiting = self.until(&id, DeploymentState::Waiting).await?;
        let mechanism = waiting.plan.as_ref().map(ExposurePlan::mechanism);
        self.check(case, "it is exposed that way", mechanism == Some(case.mechanism), format!("{mechanism:?}"));
        self.shared(case, Share::Half, PATHS[0], PATHS[1]).await?;
        if self.has_admission && matches!(case.traffic, Traffic::Pods(_)) {
            self.newcomer(case).await.context("a new pod")?;
        }
        let end = self.promote(&id).await?;
        self.shared(case, Share::Everybody, PATHS[0], PATHS[1]).await?;
        for step in &end.steps {
            self.proven(case, step);
        }
        if case.is_counted() {
            self.judged(case, &end, Verdict::Healthy);
            self.measured(case, &end);
            self.lost(case, loads, case.what);
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

    /// A pod that is made while pods are divided belongs to the stable ones before anybody has seen it.
    async fn newcomer(&mut self, case: &Case) -> anyhow::Result<()> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
                         "metadata": {"name": "newcomer", "namespace": NAMESPACE, "labels": {"app": DIVIDED}},
                         "spec": {"containers": [{"name": "app", "image": "none"}]}});
        let deadline = Instant::now() + PATIENCE;
        let labels = loop {
            let labels = cluster::admitted(&self.mesh, &pod).await?["metadata"]["labels"].take();
            // The API server reads by a watch of its own what it is told of a deployment.
            if labels.as_object().is_some_and(|labels| labels.len() > 1) || Instant::now() > deadline {
                break labels;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let mut cohorts = labels.as_object().into_iter().flatten().filter(|(key, _)| key.contains("meshward"));
        let held = cohorts.next().is_some_and(|(_, cohort)| cohort == "stable");
        self.check(case, "a new pod is a stable one from its creation", held, labels.to_string());
        Ok(())
    }

    /// The third version: exposed, and put back byte for byte.
    async fn taken_back(&mut self, case: &Case, loads: &[&Load]) -> anyhow::Result<()> {
        let third = &case.objects[2];
        let before = Everything::read(&self.mesh).await?;
        let third_phase = format!("{}, the third", case.what);
        mark(loads, &third_phase)?;
        let deployment = self.deploy(case, third, self.quick(case)).await?;
        if case.taken_back == TakenBack::ByPerson {
            self.until(&deployment.id, DeploymentState::Waiting).await?;
            self.shared(case, Share::Half, PATHS[1], PATHS[2]).await?;
            self.roll_back(&deployment.id).await?;
        }
        let end = self.until(&deployment.id, DeploymentState::RolledBack).await?;
        say(format!("  {}: {}", end.reason, end.rollback_report));
        self.shared(case, Share::Nobody, PATHS[1], PATHS[2]).await?;
        if case.taken_back == TakenBack::ByJudge {
            self.judged(case, &end, Verdict::Regression);
        }
        if matches!(case.traffic, Traffic::Audience(_)) {
            self.lost(case, loads, &third_phase);
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
        let (rare, fourth) = (Duration::from_secs(300), allow(Server::APP, &["/drift"]));
        let strategy =
            Strategy { analysis_interval: Some(duration(rare)), bake_time: Some(duration(rare)), ..self.quick(case) };
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

    /// Taken back from half of the requests, then released by a person and taken to the end.
    async fn deletion(&mut self, case: &Case) -> anyhow::Result<()> {
        let live = &case.objects[1];
        let before = Everything::read(&self.mesh).await?;
        let (policy, version) = submit::approved_deletion(&self.services, live).await?;
        let first = self.deploy_version(&policy.id, version.version, self.quick(case)).await?;
        self.until(&first.id, DeploymentState::Waiting).await?;
        self.shared(case, Share::Half, PATHS[1], ANYWHERE).await?;
        self.roll_back(&first.id).await?;
        self.until(&first.id, DeploymentState::RolledBack).await?;
        self.shared(case, Share::Nobody, PATHS[1], ANYWHERE).await?;
        let differences = before.differences(&Everything::read(&self.mesh).await?);
        let promise = "a deletion that was taken back left everything byte for byte as it was";
        self.check(case, promise, differences.is_empty(), differences.join("; "));

        let (id, reason) = (policy.id.clone(), "nobody calls it".to_owned());
        let release = ReleaseVersionRequest { id, version: version.version, reason, ..Default::default() };
        self.services.registry()?.release_version(ask(&self.services.admin, release)?).await?;
        let second = self.deploy_version(&policy.id, version.version, self.quick(case)).await?;
        self.until(&second.id, DeploymentState::Waiting).await?;
        let end = self.promote(&second.id).await?;
        // When it is gone it concerns no proxy any more, so that none is counted.
        end.steps.iter().take(1).for_each(|step| self.proven(case, step));
        self.shared(case, Share::Everybody, PATHS[1], ANYWHERE).await?;
        let is_gone = !Everything::read(&self.mesh).await?.has(&name(live));
        self.check(case, "a deletion that was promoted has taken the object away", is_gone, end.reason);
        Ok(())
    }

    /// Past the gate, to all.
    async fn promote(&self, id: &str) -> anyhow::Result<Deployment> {
        let request = PromoteDeploymentRequest { id: id.to_owned(), ..Default::default() };
        self.services.orchestrator()?.promote_deployment(ask(&self.services.developer, request)?).await?;
        self.until(id, DeploymentState::Promoted).await
    }

    async fn roll_back(&self, id: &str) -> anyhow::Result<()> {
        let request = RollbackDeploymentRequest { id: id.to_owned(), ..Default::default() };
        self.services.orchestrator()?.rollback_deployment(ask(&self.services.developer, request)?).await?;
        Ok(())
    }

    /// Half of the traffic, a gate, then all of it. What nobody measures does not hold it up for long.
    fn quick(&self, case: &Case) -> Strategy {
        let second = Some(duration(Duration::from_secs(1)));
        let step = |weight_bp, gate| Step { weight_bp, bake_time: None, gate };
        Strategy {
            steps: vec![step(5_000, true), step(10_000, false)],
            bake_time: second,
            analysis_interval: second,
            hold_timeout: if case.is_counted() { None } else { second },
            on_no_data: if case.is_counted() { OnNoData::Pause } else { OnNoData::Proceed }.into(),
            mechanism: case.mechanism.into(),
            audience: case.audience(),
            ..Default::default()
        }
    }

    async fn deploy(&self, case: &Case, object: &Value, strategy: Strategy) -> anyhow::Result<Deployment> {
        let (policy, version) = submit::approved(&self.services, &serde_yaml::to_string(object)?, case.what).await?;
        self.deploy_version(&policy.id, version.version, strategy).await
    }

    async fn deploy_version(&self, policy: &str, version: i64, strategy: Strategy) -> anyhow::Result<Deployment> {
        let (policy_id, strategy) = (policy.to_owned(), Some(strategy));
        let request = CreateDeploymentRequest { policy_id, version, strategy, ..Default::default() };
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
        let version = PATHS.iter().position(|path| *path == newer);
        let version = version.map_or("no policy".to_owned(), |index| format!("version {}", index + 1));
        self.check(case, &format!("{share:?} has {version}"), held, seen);
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

    /// Each pod is asked as often as the others, so half of the pods are half of what is counted.
    fn measured(&mut self, case: &Case, end: &Deployment) {
        if matches!(case.traffic, Traffic::Pods(_)) {
            let share = end.steps.first().map_or(f64::NAN, |step| step.observed_share);
            let detail = format!("{:.1} %", share * 100.0);
            self.check(case, "the canary is half of what is counted", (share - 0.5).abs() < SHARE_TOLERANCE, detail);
        }
    }

    /// Of what goes to all but the audience, if there is one.
    fn lost(&mut self, case: &Case, loads: &[&Load], phase: &str) {
        let reports: Vec<_> = loads.iter().map(|load| load.snapshot()).collect();
        let phases: Vec<_> = reports.iter().filter_map(|report| report.phase(phase)).collect();
        let sum = |count: fn(&PhaseReport) -> u64| phases.iter().map(|phase| count(phase)).sum::<u64>();
        let (failed, completed) = (sum(|phase| phase.failed), sum(|phase| phase.completed));
        let detail = format!("{} lost, {failed} failed of {completed}", sum(|phase| phase.lost.total()));
        self.check(case, &format!("no request is lost in the phase {phase:?}"), failed == 0 && completed > 0, detail);
    }

    async fn nothing_is_left(&mut self, promoted: &[String]) -> anyhow::Result<()> {
        let ours = Everything::read(&self.mesh).await?.ours(promoted);
        check(&mut self.checks, "nothing of Meshward is left in the cluster", ours.is_empty(), ours.join("; "));
        Ok(())
    }
}
