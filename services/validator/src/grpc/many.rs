//! Thousands of objects: batch, stream, and changes of what is kept warm.

use std::sync::Arc;

use futures::{Stream, stream};
use meshward_proto::validator::v1::{
    ValidateBatchRequest, ValidateBatchResponse, ValidateStreamRequest, ValidateStreamResponse, ValidateStreamSummary,
    WhatIfRequest, WhatIfResponse,
};
use tonic::{Status, Streaming};

use super::{Caller, Validator, Worker, check_cluster, convert};
use crate::{
    app::{self, Batch, BatchReport, Input},
    error::Error,
    live::definitions::{Checks, Definitions},
    ports::{Gateway, Peers},
    sessions::{Sent, Session, Sessions},
};

/// Most texts of a batch or a stream.
const MOST_TEXTS: usize = 1_000;
/// Most objects of a batch or a stream; what is kept warm is as large.
const MOST_OBJECTS: usize = 50_000;
/// Most findings in one message of a stream.
const FINDINGS_AT_ONCE: usize = 500;

impl<G: Gateway> Validator<G> {
    pub(super) async fn batch(
        &self,
        caller: Caller,
        request: ValidateBatchRequest,
    ) -> Result<ValidateBatchResponse, Error> {
        let ValidateBatchRequest { yaml, complete, keep, cluster } = request;
        check_texts(yaml.len())?;
        check_cluster(&cluster)?;
        let Checks { catalogue, gap } = self.checks(&caller, convert::meant(&cluster, None)).await;
        let sessions = Arc::clone(&self.sessions);
        let now = self.worker.now();
        let work = move |catalogue: &_| {
            let names: Vec<String> = (0..yaml.len()).map(|index| format!("yaml[{index}]")).collect();
            let texts = yaml.iter().zip(&names);
            let inputs: Vec<Input<'_>> = texts.map(|(text, source)| Input { text: text.as_bytes(), source }).collect();
            let (report, warm) = app::batch(&inputs, complete, now, catalogue);
            let kept = || sessions.keep(&caller.subject, Sent { texts: &yaml, complete, cluster: &cluster }, warm);
            let session = if keep { kept() } else { String::new() };
            (report, session)
        };
        let (report, session) = self.worker.run(catalogue, work).await?;
        Ok(ValidateBatchResponse {
            valid: report.is_valid(),
            objects: count(report.objects),
            findings: report.findings.into_iter().map(Into::into).collect(),
            skipped: report.skipped.into_iter().chain(gap).collect(),
            session,
        })
    }

    pub(super) async fn change(&self, caller: &Caller, request: WhatIfRequest) -> Result<WhatIfResponse, Error> {
        let WhatIfRequest { session, yaml } = request;
        let Session { warm, cluster } = self.sessions.get(&caller.subject, &session).ok_or(Error::NoSession)?;
        let Checks { catalogue, gap } = self.checks(caller, convert::meant(&cluster, None)).await;
        let now = self.worker.now();
        let work = move |catalogue: &_| {
            // A set whose last user panicked may be half changed.
            let mut warm = warm.lock().ok()?;
            warm.at(now);
            Some(warm.what_if(yaml.as_bytes(), catalogue))
        };
        let change = self.worker.run(catalogue, work).await?.ok_or(Error::NoSession)?;
        Ok(WhatIfResponse {
            findings: change.findings.into_iter().map(Into::into).collect(),
            mended: change.mended.into_iter().map(Into::into).collect(),
            judged: count(change.judged),
            skipped: change.skipped.into_iter().chain(gap).collect(),
        })
    }

    pub(super) fn stream(
        &self,
        caller: Caller,
        texts: Streaming<ValidateStreamRequest>,
    ) -> impl Stream<Item = Result<ValidateStreamResponse, Status>> + Send + use<G> {
        let state = Reading {
            peers: Arc::clone(&self.peers),
            definitions: Arc::clone(&self.definitions),
            sessions: Arc::clone(&self.sessions),
            worker: self.worker.clone(),
            caller,
            texts,
            sent: Vec::new(),
            begun: None,
            refused: false,
            out: Vec::new(),
        };
        stream::unfold(Some(state), |state| async move {
            let mut state = state?;
            match state.next().await {
                Ok(Some(message)) => Some((Ok(message), Some(state))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }
}

/// A stream that is being read.
struct Reading<G> {
    peers: Arc<Peers<G>>,
    definitions: Arc<Definitions>,
    sessions: Arc<Sessions>,
    worker: Worker,
    caller: Caller,
    texts: Streaming<ValidateStreamRequest>,
    /// The texts, if they are to be kept: their digest names the session.
    sent: Vec<String>,
    /// None before the first message, and when all is said.
    begun: Option<(Options, Batch)>,
    /// An error of layers 1 to 3 was told.
    refused: bool,
    /// Answers that are ready, the next one at the end.
    out: Vec<ValidateStreamResponse>,
}

/// What the first message says of all.
struct Options {
    complete: bool,
    keep: bool,
    cluster: String,
    /// The definitions are read once, so that all texts are judged alike.
    checks: Checks,
}

impl<G: Gateway> Reading<G> {
    /// The next answer; `None` after the summary.
    async fn next(&mut self) -> Result<Option<ValidateStreamResponse>, Status> {
        loop {
            if let Some(ready) = self.out.pop() {
                return Ok(Some(ready));
            }
            match self.texts.message().await? {
                Some(request) => self.add(request).await?,
                None if self.begun.is_some() => self.finish().await?,
                None => return Ok(None),
            }
        }
    }

    async fn begin(&self, first: &ValidateStreamRequest) -> Result<(Options, Batch), Error> {
        let ValidateStreamRequest { complete, keep, ref cluster, .. } = *first;
        check_cluster(cluster)?;
        let meant = convert::meant(cluster, None);
        let checks = self.definitions.of(&self.peers.gateway, meant, &self.caller.bearer).await;
        let options = Options { complete, keep, cluster: cluster.clone(), checks };
        Ok((options, Batch::new(complete, self.worker.now())))
    }

    async fn add(&mut self, request: ValidateStreamRequest) -> Result<(), Error> {
        check_texts(self.sent.len() + 1)?;
        let (options, mut batch) = match self.begun.take() {
            Some(begun) => begun,
            None => self.begin(&request).await?,
        };
        let yaml = request.yaml;
        let source = format!("yaml[{}]", self.sent.len());
        self.sent.push(if options.keep { yaml.clone() } else { String::new() });
        let work = move |catalogue: &_| {
            batch.add(&Input { text: yaml.as_bytes(), source: &source }, catalogue);
            let found = batch.take();
            (batch, found)
        };
        let (batch, found) = self.worker.run(Arc::clone(&options.checks.catalogue), work).await?;
        if batch.objects() > MOST_OBJECTS {
            return Err(Error::Request { field: "yaml", problem: format!("more than {MOST_OBJECTS} objects") });
        }
        self.begun = Some((options, batch));
        self.answer(found, None);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let Some((options, batch)) = self.begun.take() else { return Ok(()) };
        let Options { complete, keep, cluster, checks: Checks { catalogue, gap } } = options;
        let (report, warm) = self.worker.run(catalogue, move |_| batch.finish()).await?;
        let sent = Sent { texts: &self.sent, complete, cluster: &cluster };
        let session = if keep { self.sessions.keep(&self.caller.subject, sent, warm) } else { String::new() };
        let BatchReport { findings, objects, skipped } = report;
        let valid = !self.refused && crate::report::is_valid(&findings);
        let (objects, skipped) = (count(objects), skipped.into_iter().chain(gap).collect());
        self.answer(findings, Some(ValidateStreamSummary { valid, objects, skipped, session }));
        Ok(())
    }

    /// Puts findings into messages of a bounded size, the last of which has the summary.
    fn answer(&mut self, findings: Vec<meshward_model::Finding>, summary: Option<ValidateStreamSummary>) {
        self.refused |= !crate::report::is_valid(&findings);
        let messages = findings.chunks(FINDINGS_AT_ONCE).map(|some| ValidateStreamResponse {
            findings: some.iter().cloned().map(Into::into).collect(),
            summary: None,
        });
        self.out = messages.collect();
        self.out.extend(summary.map(|summary| ValidateStreamResponse { findings: Vec::new(), summary: Some(summary) }));
        self.out.reverse();
    }
}

fn check_texts(texts: usize) -> Result<(), Error> {
    if texts <= MOST_TEXTS {
        return Ok(());
    }
    Err(Error::Request { field: "yaml", problem: format!("{texts} texts, and at most {MOST_TEXTS} are taken") })
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
