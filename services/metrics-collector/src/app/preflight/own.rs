//! Templates that the caller brings, checked against the source: a metric that does not exist is said with its place.

use std::{sync::Arc, time::Instant};

use jiff::Timestamp;
use meshward_model::MetricsTarget;

use super::{super::readings, LOOK_BACK, Preflight, QueryCheck, QueryState, has_value};
use crate::{
    app::{Collector, milliseconds},
    error::Error,
    queries::{
        Catalog, QueryError,
        promql::{InvalidQuery, selectors},
        templates::{self, InvalidTemplates, Template},
    },
    source::{MetricsSource, SourceError},
};

/// Longest text, bytes.
pub const MAX_OWN_BYTES: usize = 16 * 1024;
/// Most selectors of a query that are asked for by themselves.
const MAX_ASKED: usize = 10;

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
        for check in &preflight.checks {
            self.explain(index, &templates[index], check, target, now).await?;
        }
        Ok(preflight)
    }

    /// Why a query for requests or latencies found nothing, if its template is to blame.
    async fn explain(
        &self,
        index: usize,
        template: &Template,
        check: &QueryCheck,
        target: &MetricsTarget,
        now: Timestamp,
    ) -> Result<(), Error> {
        let queries = match check.name {
            _ if check.state != QueryState::NoSeries || check.series != (0, 0) => return Ok(()),
            "traffic" => template.requests(),
            "latency" => template.latencies(),
            _ => return Ok(()),
        };
        let source = self.sources.of(&target.cluster)?.as_ref();
        let deadline = Instant::now() + self.timeout;
        for (key, query) in queries {
            // A source that fails now says nothing about the template.
            if let Ok(Some(error)) = unknown(source, query, now, deadline).await {
                return Err(InvalidTemplates::Query { index, key, error }.into());
            }
        }
        Ok(())
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

/// The first name in a query that the source does not have.
async fn unknown(
    source: &dyn MetricsSource,
    query: &str,
    now: Timestamp,
    deadline: Instant,
) -> Result<Option<InvalidQuery>, SourceError> {
    let grid = readings(now.as_millisecond(), milliseconds(LOOK_BACK));
    let minutes = LOOK_BACK.as_secs() / 60;
    for selectors::Selector { metric, labels } in selectors::selectors(query).into_iter().take(MAX_ASKED) {
        let names: Vec<&str> = labels.iter().map(|label| label.text.as_str()).collect();
        let ask = format!("group by ({}) ({})", names.join(", "), metric.text);
        let answer = source.range(&ask, &grid, deadline).await?;
        let seen: Vec<_> = answer.iter().filter(|series| has_value(series)).collect();
        if seen.is_empty() {
            let reason = format!("no metric {:?} was scraped in the last {minutes} minutes", metric.text);
            return Ok(Some(InvalidQuery::at(query, metric.byte, reason)));
        }
        if let Some(label) = labels.iter().find(|label| seen.iter().all(|series| series.label(&label.text).is_empty()))
        {
            let reason = format!("no series of {:?} has the label {:?}", metric.text, label.text);
            return Ok(Some(InvalidQuery::at(query, label.byte, reason)));
        }
    }
    Ok(None)
}
