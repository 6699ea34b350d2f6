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
    explain::{self, Explained},
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
    peers: Arc<Peers<G>>,
    traffic: Option<Arc<dyn Traffic>>,
    sessions: Arc<Sessions>,
    live: Live,
    definitions: Arc<Definitions>,
    worker: Worker,
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
        let (peers, sessions) = (Arc::new(peers), Arc::new(sessions));
        let definitions = Arc::new(Definitions::new(Arc::clone(&clock), live, Arc::new(catalogue)));
        let live = Live::new(Arc::clone(&clock), live);
        Self { peers, traffic: None, sessions, live, definitions, worker: Worker { running, clock, timeout } }
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
        let checks = self.checks(caller, around.meant(&cluster));
        let (view, checks) = tokio::join!(self.view(caller, &cluster, around.asked()), checks);
        let around = around.with(view);
        let now = self.worker.now();
        let work = move |catalogue: &_| around.judge(yaml.as_bytes(), &cluster, now, catalogue);
        let mut report = self.worker.run(checks.catalogue, work).await?;
        report.skipped.extend(checks.gap);
        Ok(report)
    }

    /// What objects are checked by that are meant for a cluster, or for none.
    async fn checks(&self, caller: &Caller, cluster: Option<&str>) -> Checks {
        self.definitions.of(&self.peers.gateway, cluster, &caller.bearer).await
    }

    /// What is around in a cluster, if it is asked for.
    async fn view(&self, caller: &Caller, cluster: &str, asked: Option<Asked>) -> Option<View> {
        Some(self.live.view(&self.peers, cluster, &caller.scope, asked?, &caller.bearer).await)
    }
}

/// What pure work runs with; a stream has one of its own, for it outlives the call.
#[derive(Clone)]
struct Worker {
    running: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl Worker {
    /// Pure work on a text, on a thread of its own. The permit goes with the work, so that work which nobody waits for any
    /// more still counts.
    async fn run<T: Send + 'static>(
        &self,
        catalogue: Arc<Catalogue>,
        work: impl FnOnce(&Catalogue) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.running).try_acquire_owned().map_err(|_| Error::Busy)?;
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&catalogue)
        });
        let outcome = tokio::time::timeout(self.timeout, work).await;
        outcome.map_err(|_| Error::TooSlow(self.timeout))?.map_err(Error::Panicked)
    }

    /// What time it is, in UTC.
    fn now(&self) -> DateTime {
        TimeZone::UTC.to_datetime(self.clock.now())
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
        let caller = caller(&request)?;
        Ok(Response::new(self.batch(caller, request.into_inner()).await?))
    }

    type ValidateStreamStream = Pin<Box<dyn Stream<Item = Result<ValidateStreamResponse, Status>> + Send>>;

    async fn validate_stream(
        &self,
        request: Request<tonic::Streaming<ValidateStreamRequest>>,
    ) -> Result<Response<Self::ValidateStreamStream>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(Box::pin(self.stream(caller, request.into_inner()))))
    }

    async fn what_if(&self, request: Request<WhatIfRequest>) -> Result<Response<WhatIfResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.change(&caller, request.into_inner()).await?))
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
        let meant = convert::meant(&request.cluster, request.context.as_ref());
        let (view, checks, observed) = tokio::join!(
            self.view(&caller, &request.cluster, wanted),
            self.checks(&caller, meant),
            self.observed(&caller, &request)
        );
        let observed = observed?;
        let work = move |catalogue: &_| impact::analyze(request, view, observed, catalogue);
        let mut impact = self.worker.run(checks.catalogue, work).await?;
        impact.skipped.extend(checks.gap);
        Ok(Response::new(impact))
    }

    async fn explain_policy(
        &self,
        request: Request<ExplainPolicyRequest>,
    ) -> Result<Response<ExplainPolicyResponse>, Status> {
        let caller = caller(&request)?;
        let ExplainPolicyRequest { yaml, cluster } = request.into_inner();
        check_cluster(&cluster)?;
        let Checks { catalogue, gap } = self.checks(&caller, convert::meant(&cluster, None)).await;
        let work = move |catalogue: &_| explain::explain(yaml.as_bytes(), catalogue);
        let explained = self.worker.run(catalogue, work).await?.map_err(Error::Unreadable)?;
        let Explained { sentences, mut skipped } = explained;
        skipped.extend(gap);
        Ok(Response::new(ExplainPolicyResponse { sentences, skipped }))
    }
}

/// Who calls, and how far the cluster is read for him.
struct Caller {
    subject: String,
    bearer: Bearer,
    scope: Scope,
}

/// The role viewer in any namespace, for a text that is only looked at belongs to none; what is read of a cluster is what lies in
/// the caller's.
fn caller<T>(request: &Request<T>) -> Result<Caller, Problem> {
    let identity = Identity::of(request)?;
    let namespaces = &identity.namespaces;
    identity.require(Role::Viewer, namespaces.first().map_or("", String::as_str))?;
    let scope = (!namespaces.contains("*")).then(|| namespaces.clone());
    Ok(Caller { subject: identity.subject.clone(), bearer: bearer(request)?, scope })
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
