//! Whether the queries of a target return data, asked before anything depends on them.

pub mod own;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use meshward_model::MetricsTarget;

use super::{Collector, milliseconds, nothing_counts, other_failures, readings};
use crate::{
    error::Error,
    queries::Arm,
    source::{Answer, SourceError},
    window::Series,
};

/// How far back is looked.
const LOOK_BACK: Duration = Duration::from_secs(300);

/// What a query gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryState {
    /// Series of both arms.
    Data,
    /// The source answered; an arm, or both, has no series.
    NoSeries,
    /// The source cannot read the query, or refuses to execute it.
    Refused,
    /// The source failed: nothing is known about the query.
    ProviderError,
}

/// One query and what it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryCheck {
    /// "traffic", "latency" or "failures".
    pub name: &'static str,
    /// As it was sent.
    pub query: String,
    /// What it gave.
    pub state: QueryState,
    /// Series with a value, of the canary and of the control.
    pub series: (usize, usize),
    /// One sentence; empty with [`QueryState::Data`].
    pub reason: String,
}

/// What a target's queries gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// One for each query; none if nothing counts the versions apart.
    pub checks: Vec<QueryCheck>,
    /// A sentence for each query without data.
    pub problems: Vec<String>,
}

impl Collector {
    /// Sends each query of a target once, for the last five minutes before `now`.
    ///
    /// # Errors
    /// If the target cannot be asked for. A source that fails is an answer.
    pub async fn check(&self, target: &MetricsTarget, now: Timestamp) -> Result<Preflight, Error> {
        if target.canary_series.is_empty() && target.control_series.is_empty() {
            return Ok(Preflight { checks: Vec::new(), problems: vec![nothing_counts(target.mechanism)] });
        }
        let (queries, source) = self.plan(target)?;
        let grid = readings(now.as_millisecond(), milliseconds(LOOK_BACK));
        let deadline = Instant::now() + self.timeout;
        let (traffic, latency, failures) = futures::join!(
            source.range(&queries.traffic, &grid, deadline),
            source.range(&queries.latency, &grid, deadline),
            other_failures(&queries, source.as_ref(), &grid, deadline),
        );
        let queries = match &traffic {
            Ok(traffic) => queries.where_counted(traffic),
            Err(_) => queries,
        };
        let requests = |series: &Series| queries.counts_requests(series);
        let mut checks = vec![
            check("traffic", &queries.traffic, &traffic, target, |one| queries.arm(one).filter(|_| requests(one))),
            check("latency", &queries.latency, &latency, target, |one| queries.arm(one)),
        ];
        if let Some(query) = &queries.failures {
            let arm = |one: &Series| queries.failure(one).map(|(arm, _)| arm);
            checks.push(without_failures(check("failures", query, &failures, target, arm)));
        }
        let problem = |check: &QueryCheck| format!("{}: {}", check.name, check.reason);
        let problems = checks.iter().filter(|check| check.state != QueryState::Data).map(problem).collect();
        Ok(Preflight { checks, problems })
    }
}

/// Series of failures are made by the first failure: without them the query is as good as with them.
fn without_failures(check: QueryCheck) -> QueryCheck {
    match check.state {
        QueryState::NoSeries => QueryCheck { state: QueryState::Data, reason: String::new(), ..check },
        _ => check,
    }
}

fn check(
    name: &'static str,
    query: &str,
    answer: &Result<Answer, SourceError>,
    target: &MetricsTarget,
    arm_of: impl Fn(&Series) -> Option<Arm>,
) -> QueryCheck {
    let (state, series, reason) = match answer {
        Ok(series) => {
            let with_value = |arm| series.iter().filter(|one| arm_of(one) == Some(arm) && has_value(one)).count();
            let found = (with_value(Arm::Canary), with_value(Arm::Control));
            match missing(found, target) {
                Some(reason) => (QueryState::NoSeries, found, reason),
                None => (QueryState::Data, found, String::new()),
            }
        }
        Err(error @ SourceError::Refused { status: 400 | 422, .. }) => (QueryState::Refused, (0, 0), error.to_string()),
        Err(error) => (QueryState::ProviderError, (0, 0), error.to_string()),
    };
    QueryCheck { name, query: query.to_owned(), state, series, reason }
}

fn has_value(series: &Series) -> bool {
    series.points.iter().any(|(_, value)| value.is_finite())
}

fn missing((canary, control): (usize, usize), target: &MetricsTarget) -> Option<String> {
    let arms = match (canary, control) {
        (0, 0) => format!("{:?} (canary) and {:?} (control)", target.canary_series, target.control_series),
        (0, _) => format!("{:?} (canary)", target.canary_series),
        (_, 0) => format!("{:?} (control)", target.control_series),
        _ => return None,
    };
    let minutes = LOOK_BACK.as_secs() / 60;
    Some(format!("no series {arms} for {} in the last {minutes} minutes", target.hosts.join(", ")))
}
