//! Thousands of objects: batch, stream, and changes of what is kept warm.

use std::sync::Arc;

use futures::{Stream, stream};
use meshward_proto::validator::v1::{
    ValidateBatchRequest, ValidateBatchResponse, ValidateStreamRequest, ValidateStreamResponse, ValidateStreamSummary,
    WhatIfRequest, WhatIfResponse,
};
use tonic::{Status, Streaming};

use super::{Validator, Worker, now};
use crate::{
    app::{self, Batch, BatchReport, Input},
    error::Error,
    ports::Gateway,
    sessions::Sessions,
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
        owner: String,
        request: ValidateBatchRequest,
    ) -> Result<ValidateBatchResponse, Error> {
        let ValidateBatchRequest { yaml, complete, keep } = request;
        check_texts(yaml.len())?;
        let sessions = Arc::clone(&self.sessions);
        let now = now(&*self.clock);
        let work = move |catalogue: &_| {
            let names: Vec<String> = (0..yaml.len()).map(|index| format!("yaml[{index}]")).collect();
            let texts = yaml.iter().zip(&names);
            let inputs: Vec<Input<'_>> = texts.map(|(text, source)| Input { text: text.as_bytes(), source }).collect();
            let (report, warm) = app::batch(&inputs, complete, now, catalogue);
            let kept = || sessions.keep(&owner, yaml.iter().map(String::as_str), complete, warm);
            let session = if keep { kept() } else { String::new() };
            (report, session)
        };
        let (report, session) = self.bounded(work).await?;
        Ok(ValidateBatchResponse {
            valid: report.is_valid(),
            objects: count(report.objects),
            findings: report.findings.into_iter().map(Into::into).collect(),
            skipped: report.skipped,
            session,
        })
    }

    pub(super) async fn change(&self, owner: &str, request: WhatIfRequest) -> Result<WhatIfResponse, Error> {
        let WhatIfRequest { session, yaml } = request;
        let warm = self.sessions.get(owner, &session).ok_or(Error::NoSession)?;
        let now = now(&*self.clock);
        let work = move |catalogue: &_| {
            // A set whose last user panicked may be half changed.
            let mut warm = warm.lock().ok()?;
            warm.at(now);
            Some(warm.what_if(yaml.as_bytes(), catalogue))
        };
        let change = self.bounded(work).await?.ok_or(Error::NoSession)?;
        Ok(WhatIfResponse {
            findings: change.findings.into_iter().map(Into::into).collect(),
            mended: change.mended.into_iter().map(Into::into).collect(),
            judged: count(change.judged),
            skipped: change.skipped,
        })
    }

    pub(super) fn stream(
        &self,
        owner: String,
        texts: Streaming<ValidateStreamRequest>,
    ) -> impl Stream<Item = Result<ValidateStreamResponse, Status>> + Send + use<G> {
        let state = Reading {
            worker: self.worker(),
            sessions: Arc::clone(&self.sessions),
            owner,
            texts,
            batch: None,
            sent: Vec::new(),
            options: None,
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
struct Reading {
    worker: Worker,
    sessions: Arc<Sessions>,
    owner: String,
    texts: Streaming<ValidateStreamRequest>,
    batch: Option<Batch>,
    /// The texts, if they are to be kept: their digest names the session.
    sent: Vec<String>,
    /// `complete` and `keep` of the first message; none before it, and when all is said.
    options: Option<(bool, bool)>,
    /// An error of layers 1 to 3 was told.
    refused: bool,
    /// Answers that are ready, the next one at the end.
    out: Vec<ValidateStreamResponse>,
}

impl Reading {
    /// The next answer; `None` after the summary.
    async fn next(&mut self) -> Result<Option<ValidateStreamResponse>, Status> {
        loop {
            if let Some(ready) = self.out.pop() {
                return Ok(Some(ready));
            }
            match self.texts.message().await? {
                Some(request) => self.add(request).await?,
                None if self.batch.is_some() => self.finish().await?,
                None => return Ok(None),
            }
        }
    }

    async fn add(&mut self, request: ValidateStreamRequest) -> Result<(), Error> {
        let ValidateStreamRequest { yaml, complete, keep } = request;
        let (complete, keep) = *self.options.get_or_insert((complete, keep));
        check_texts(self.sent.len() + 1)?;
        let source = format!("yaml[{}]", self.sent.len());
        self.sent.push(if keep { yaml.clone() } else { String::new() });
        let mut batch = self.batch.take().unwrap_or_else(|| Batch::new(complete, now(&*self.worker.clock)));
        let work = move |catalogue: &_| {
            batch.add(&Input { text: yaml.as_bytes(), source: &source }, catalogue);
            let found = batch.take();
            (batch, found)
        };
        let (batch, found) = self.worker.run(work).await?;
        if batch.objects() > MOST_OBJECTS {
            return Err(Error::Request { field: "yaml", problem: format!("more than {MOST_OBJECTS} objects") });
        }
        self.batch = Some(batch);
        self.answer(found, None);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        let (complete, keep) = self.options.unwrap_or_default();
        let (report, warm) = self.worker.run(move |_| batch.finish()).await?;
        let kept = || self.sessions.keep(&self.owner, self.sent.iter().map(String::as_str), complete, warm);
        let session = if keep { kept() } else { String::new() };
        let BatchReport { findings, objects, skipped } = report;
        let valid = !self.refused && crate::report::is_valid(&findings);
        self.answer(findings, Some(ValidateStreamSummary { valid, objects: count(objects), skipped, session }));
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
