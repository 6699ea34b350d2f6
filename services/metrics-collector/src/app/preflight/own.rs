//! Templates that the caller brings, checked against the source: a metric that does not exist, and what the source itself
//! cannot read or evaluate, is said with its place.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use meshward_model::MetricsTarget;

use super::{super::readings, LOOK_BACK, Preflight, QueryCheck, QueryState, has_value};
use crate::{
    app::{Collector, milliseconds},
    error::Error,
    queries::{
        Catalog, QueryError,
        promql::{InvalidQuery, refusal, selectors},
        templates::{self, InvalidTemplates, Template},
    },
    source::{Answer, MetricsSource, SourceError},
};

/// Longest text, bytes.
pub const MAX_OWN_BYTES: usize = 16 * 1024;
/// Most selectors of a query that are asked for by themselves.
const MAX_ASKED: usize = 10;
/// How Prometheus refuses a query whose series are too many for it.
const TOO_MANY: &str = "query processing would load too many samples";

impl Collector {
    /// [`Collector::check`] with the templates of `text` in place of the configured ones, in the form of their file.
    ///
    /// # Errors
    /// Also if a template is wrong, or asks for a metric or a label that the source does not have.
    pub async fn check_own(&self, text: &str, target: &MetricsTarget, now: Timestamp) -> Result<Preflight, Error> {
        if text.len() > MAX_OWN_BYTES {
            let problem = format!("have {} bytes, {MAX_OWN_BYTES} are allowed", text.len());
            return Err(InvalidTemplates::Form(problem).into());
        }
        let templates = templates::parse(text)?;
        let used = templates.iter().position(|one| one.serves(target));
        let collector = Self { catalog: Arc::new(Catalog::of(templates.clone())), ..self.clone() };
        let preflight = collector.check(target, now).await.map_err(of_templates)?;
        let Some(index) = used else { return Ok(preflight) };
        let probe = Probe { source: self.sources.of(&target.cluster)?.as_ref(), timeout: self.timeout, now };
        for check in &preflight.checks {
            if let Some((key, error)) = probe.explain(&templates[index], check).await {
                return Err(InvalidTemplates::Query { index, key, error }.into());
            }
        }
        Ok(preflight)
    }
}

/// Asks a source for parts of a template. A source that fails on the way says nothing about it.
struct Probe<'a> {
    source: &'a dyn MetricsSource,
    timeout: Duration,
    now: Timestamp,
}

impl Probe<'_> {
    /// Which of a template's queries is to blame for a check without data, and why.
    async fn explain(&self, template: &Template, check: &QueryCheck) -> Option<(String, InvalidQuery)> {
        let found_nothing = check.state == QueryState::NoSeries && check.series == (0, 0);
        if check.state != QueryState::Refused && !found_nothing {
            return None;
        }
        let deadline = Instant::now() + self.timeout;
        // Only requests and latencies must have series: the first error makes those of errors.
        let queries = match check.name {
            "traffic" if found_nothing => template.requests(),
            "traffic" => template.requests().into_iter().chain(template.errors()).collect(),
            "latency" => template.latencies(),
            _ => template.others(),
        };
        for (key, query) in queries {
            let found = if found_nothing {
                self.unknown(query, deadline).await.ok().flatten()
            } else {
                self.refused(query, deadline).await
            };
            if let Some(error) = found {
                return Some((key, error));
            }
        }
        None
    }

    async fn ask(&self, query: &str, deadline: Instant) -> Result<Answer, SourceError> {
        self.source.range(query, &readings(self.now.as_millisecond(), milliseconds(LOOK_BACK)), deadline).await
    }

    /// What the source has against a query, if that is no limit of its own. A template is PromQL itself, so the place that
    /// the source tells is one in the template.
    async fn refused(&self, query: &str, deadline: Instant) -> Option<InvalidQuery> {
        match self.ask(query, deadline).await {
            Err(SourceError::Refused { status: 400 | 422, message, .. }) if !message.contains(TOO_MANY) => {
                Some(refusal::told(query, &message))
            }
            _ => None,
        }
    }

    /// The first name in a query that the source does not have.
    async fn unknown(&self, query: &str, deadline: Instant) -> Result<Option<InvalidQuery>, SourceError> {
        let minutes = LOOK_BACK.as_secs() / 60;
        for selectors::Selector { metric, labels } in selectors::selectors(query).into_iter().take(MAX_ASKED) {
            let names: Vec<&str> = labels.iter().map(|label| label.text.as_str()).collect();
            let answer = self.ask(&format!("group by ({}) ({})", names.join(", "), metric.text), deadline).await?;
            let seen: Vec<_> = answer.iter().filter(|series| has_value(series)).collect();
            if seen.is_empty() {
                let reason = format!("no metric {:?} was scraped in the last {minutes} minutes", metric.text);
                return Ok(Some(InvalidQuery::at(query, metric.byte, reason)));
            }
            if let Some(label) =
                labels.iter().find(|label| seen.iter().all(|series| series.label(&label.text).is_empty()))
            {
                let reason = format!("no series of {:?} has the label {:?}", metric.text, label.text);
                return Ok(Some(InvalidQuery::at(query, label.byte, reason)));
            }
        }
        Ok(None)
    }
}

/// The target's fields stay what they are.
fn of_templates(error: Error) -> Error {
    match error {
        Error::Query(error @ (QueryError::Filled { .. } | QueryError::Unsupported { .. })) => {
            InvalidTemplates::Form(format!("cannot be used for this target: {error}")).into()
        }
        error => error,
    }
}
