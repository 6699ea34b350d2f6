//! The service: who may call, how much at once, and the way in and out of the domain.

mod convert;
mod impact;
mod many;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use jiff::{civil::DateTime, tz::TimeZone};
use meshward_chassis::{
    auth::{Identity, Role},
    clock::Clock,
    problem::Problem,
};
use meshward_proto::{
    types::v1::ErrorReason,
    validator::v1::{
        AnalyzeImpactRequest, AnalyzeImpactResponse, DetectConflictsRequest, DetectConflictsResponse, DryRunRequest,
        DryRunResponse, ExplainPolicyRequest, ExplainPolicyResponse, ValidateBatchRequest, ValidateBatchResponse,
        ValidateRequest, ValidateResponse, ValidateStreamRequest, ValidateStreamResponse, WhatIfRequest,
        WhatIfResponse, validator_service_server::ValidatorService,
    },
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::{
    dry_run,
    error::Error,
    explain,
    live::{
        Asked, Limits, Live, Scope, View,
        definitions::{Checks, Definitions},
    },
    ports::{
        Bearer, Gateway, Peers,
        traffic::{Observed, Traffic},
    },
    report::Report,
    schema::Catalogue,
    sessions::Sessions,
};

const LONGEST_CLUSTER: usize = 253;

/// The RPCs. `G` is mesh-gateway.
pub struct Validator<G> {
    catalogue: Arc<Catalogue>,
    peers: Peers<G>,
    traffic: Option<Arc<dyn Traffic>>,
    sessions: Arc<Sessions>,
    live: Live,
    definitions: Definitions,
    clock: Arc<dyn Clock>,
    running: Arc<Semaphore>,
    timeout: Duration,
}

impl<G: Gateway> Validator<G> {
    /// A service that validates at most `at_once` texts at a time, each for at most `timeout`.
    pub fn new(
        catalogue: Catalogue,
        peers: Peers<G>,
        sessions: Sessions,
        live: Limits,
        clock: Arc<dyn Clock>,
        at_once: usize,
        timeout: Duration,
    ) -> Self {
        let running = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        let (catalogue, sessions) = (Arc::new(catalogue), Arc::new(sessions));
        let definitions = Definitions::new(Arc::clone(&clock), live, Arc::clone(&catalogue));
        let live = Live::new(Arc::clone(&clock), live);
        Self { catalogue, peers, traffic: None, sessions, live, definitions, clock, running, timeout }
    }

    /// The same with somebody who knows what traffic there is.
    #[must_use]
    pub fn observing(self, traffic: impl Traffic) -> Self {
        Self { traffic: Some(Arc::new(traffic)), ..self }
    }

    /// The traffic that a request asks for, if any.
    async fn observed(&self, caller: &Caller, request: &AnalyzeImpactRequest) -> Result<Observed, Error> {
        let Some(wanted) = impact::observation(request)? else { return Ok(Observed::default()) };
        let traffic = self.traffic.as_ref().ok_or(Error::NoTraffic)?;
        traffic.observed(wanted, &caller.bearer).await
    }

    /// Layers 1 to 5, among the objects of a context.
    async fn report_among(
        &self,
        caller: &Caller,
        yaml: String,
        cluster: String,
        around: convert::Around,
    ) -> Result<Report, Error> {
        check_cluster(&cluster)?;
        let checks = self.checks(caller, &cluster, &around);
        let (view, checks) = tokio::join!(self.view(caller, &cluster, around.asked()), checks);
        let around = around.with(view);
        let now = now(&*self.clock);
        let Checks { catalogue, gap } = checks;
        let worker = Worker { catalogue, ..self.worker() };
        let work = move |catalogue: &_| around.judge(yaml.as_bytes(), &cluster, now, catalogue);
        let mut report = worker.run(work).await?;
        report.skipped.extend(gap);
        Ok(report)
    }

    /// What objects are checked by.
    async fn checks(&self, caller: &Caller, cluster: &str, around: &convert::Around) -> Checks {
        if around.is_for_cluster(cluster) {
            self.definitions.of(&self.peers.gateway, cluster, &caller.bearer).await
        } else {
            self.definitions.of_none()
        }
    }

    /// What is around in a cluster, if it is asked for.
    async fn view(&self, caller: &Caller, cluster: &str, asked: Option<Asked>) -> Option<View> {
        Some(self.live.view(&self.peers, cluster, &caller.scope, asked?, &caller.bearer).await)
    }

    /// Pure work on a text, on a thread of its own. The permit goes with the work, so that work which nobody waits for any
    /// more still counts.
    async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Catalogue) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.worker().run(work).await
    }

    fn worker(&self) -> Worker {
        let (catalogue, running) = (Arc::clone(&self.catalogue), Arc::clone(&self.running));
        Worker { catalogue, running, clock: Arc::clone(&self.clock), timeout: self.timeout }
    }
}

/// What time it is, in UTC.
fn now(clock: &dyn Clock) -> DateTime {
    TimeZone::UTC.to_datetime(clock.now())
}

/// What pure work runs with; a stream has one of its own, for it outlives the call.
#[derive(Clone)]
struct Worker {
    catalogue: Arc<Catalogue>,
    running: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl Worker {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Catalogue) -> T + Send + 'static) -> Result<T, Error> {
        let permit = Arc::clone(&self.running).try_acquire_owned().map_err(|_| Error::Busy)?;
        let catalogue = Arc::clone(&self.catalogue);
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&catalogue)
        });
        let outcome = tokio::time::timeout(self.timeout, work).await;
        outcome.map_err(|_| Error::TooSlow(self.timeout))?.map_err(Error::Panicked)
    }
}

#[tonic::async_trait]
impl<G: Gateway> ValidatorService for Validator<G> {
    async fn validate(&self, request: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
        let caller = caller(&request)?;
        let ValidateRequest { yaml, cluster, context, accepted } = request.into_inner();
        let around = convert::Around::of(context, accepted)?;
        let report = self.report_among(&caller, yaml, cluster, around).await?;
        Ok(Response::new(convert::validate(report)))
    }

    async fn dry_run(&self, request: Request<DryRunRequest>) -> Result<Response<DryRunResponse>, Status> {
        let caller = caller(&request)?;
        let DryRunRequest { yaml, cluster, despite_errors, context } = request.into_inner();
        let around = convert::Around::of(context, Vec::new())?;
        let mut report = self.report_among(&caller, yaml, cluster.clone(), around).await?;
        if report.is_valid() || despite_errors {
            let hits = dry_run::ask(&self.peers.gateway, &report, &cluster, &caller.bearer).await?;
            report.extend(hits);
        } else {
            report.skipped.push(dry_run::HAS_ERRORS.to_owned());
        }
        Ok(Response::new(convert::dry_run(report)))
    }

    async fn detect_conflicts(
        &self,
        request: Request<DetectConflictsRequest>,
    ) -> Result<Response<DetectConflictsResponse>, Status> {
        let caller = caller(&request)?;
        let DetectConflictsRequest { yaml, cluster, context, accepted, removed } = request.into_inner();
        let around =
            convert::Around::of(Some(context.unwrap_or_default()), accepted)?.without(&yaml, removed)?.only_among();
        let report = self.report_among(&caller, yaml, cluster, around).await?;
        Ok(Response::new(convert::conflicts(report)))
    }

    async fn validate_batch(
        &self,
        request: Request<ValidateBatchRequest>,
    ) -> Result<Response<ValidateBatchResponse>, Status> {
        let owner = viewer(&request)?;
        Ok(Response::new(self.batch(owner, request.into_inner()).await?))
    }

    type ValidateStreamStream = Pin<Box<dyn Stream<Item = Result<ValidateStreamResponse, Status>> + Send>>;

    async fn validate_stream(
        &self,
        request: Request<tonic::Streaming<ValidateStreamRequest>>,
    ) -> Result<Response<Self::ValidateStreamStream>, Status> {
        let owner = viewer(&request)?;
        Ok(Response::new(Box::pin(self.stream(owner, request.into_inner()))))
    }

    async fn what_if(&self, request: Request<WhatIfRequest>) -> Result<Response<WhatIfResponse>, Status> {
        let owner = viewer(&request)?;
        Ok(Response::new(self.change(&owner, request.into_inner()).await?))
    }

    async fn analyze_impact(
        &self,
        request: Request<AnalyzeImpactRequest>,
    ) -> Result<Response<AnalyzeImpactResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        check_cluster(&request.cluster)?;
        impact::check(&request)?;
        let wanted = convert::asked(request.context.as_ref());
        let (view, observed) =
            tokio::join!(self.view(&caller, &request.cluster, wanted), self.observed(&caller, &request));
        let observed = observed?;
        Ok(Response::new(self.bounded(move |catalogue| impact::analyze(request, view, observed, catalogue)).await?))
    }

    async fn explain_policy(
        &self,
        request: Request<ExplainPolicyRequest>,
    ) -> Result<Response<ExplainPolicyResponse>, Status> {
        viewer(&request)?;
        let ExplainPolicyRequest { yaml } = request.into_inner();
        let sentences = self.bounded(move |catalogue| explain::explain(yaml.as_bytes(), catalogue)).await?;
        Ok(Response::new(ExplainPolicyResponse { sentences: sentences.map_err(Error::Unreadable)? }))
    }
}

/// The role viewer in any namespace: a text that is only looked at belongs to none. Returns who calls.
fn viewer<T>(request: &Request<T>) -> Result<String, Problem> {
    let identity = Identity::of(request)?;
    let namespace = identity.namespaces.first().map_or("", String::as_str);
    identity.require(Role::Viewer, namespace)?;
    Ok(identity.subject.clone())
}

/// Who calls, as far as the cluster is read for him.
struct Caller {
    bearer: Bearer,
    scope: Scope,
}

/// The role viewer in any namespace; what is read of a cluster is what lies in the caller's.
fn caller<T>(request: &Request<T>) -> Result<Caller, Problem> {
    viewer(request)?;
    let namespaces = &Identity::of(request)?.namespaces;
    let scope = (!namespaces.contains("*")).then(|| namespaces.clone());
    Ok(Caller { bearer: bearer(request)?, scope })
}

fn bearer<T>(request: &Request<T>) -> Result<Bearer, Problem> {
    let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|text| text.split_once(' ')).map(|(_, token)| token.trim().to_owned());
    let missing = || Problem::unauthenticated(ErrorReason::TokenMissing, "no token to send on to mesh-gateway");
    token.map(Bearer).ok_or_else(missing)
}

fn check_cluster(cluster: &str) -> Result<(), Error> {
    let good = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if cluster.len() <= LONGEST_CLUSTER && cluster.bytes().all(good) { Ok(()) } else { Err(Error::InvalidCluster) }
}
