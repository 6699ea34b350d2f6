//! Requests from the wire, with every rule of the contract, and answers to it.

use std::time::Duration;

use jiff::Timestamp;
use meshward_chassis::problem::Problem;
use meshward_model::{CohortTraffic, JudgeOptions, MetricsTarget, WeightPeriod};
use meshward_proto::{
    ConvertError, from_duration, from_timestamp, gateway::v1 as gateway, metrics::v1 as proto, types::v1 as types,
};

use crate::{
    app::{
        AnalysisRequest, TrafficReport,
        preflight::{Preflight, QueryCheck, QueryState},
    },
    judge::Judgement,
};

const LEAST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_TICK: Duration = Duration::from_secs(15);
const LEAST_TICK: Duration = Duration::from_secs(1);
const LONGEST_TICK: Duration = Duration::from_secs(300);
const MAX_PERIODS: usize = 1000;
const DEFAULT_HISTORY: Duration = Duration::from_secs(15 * 60);
const MAX_ID_BYTES: usize = 200;
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);
const DEFAULT_WATCH_WINDOW: Duration = Duration::from_secs(60);

/// A window that shall be summed up.
pub(super) struct TrafficRequest {
    pub target: MetricsTarget,
    pub end: Timestamp,
    pub window: Duration,
}

pub(super) fn traffic_request(
    request: proto::GetTrafficMetricsRequest,
    now: Timestamp,
) -> Result<TrafficRequest, Problem> {
    let window = request.window.ok_or_else(|| Problem::invalid_argument("window", "is required"))?;
    Ok(TrafficRequest { target: target(request.target)?, end: end(request.end_time, now)?, window: length(window)? })
}

pub(super) fn length(window: prost_types::Duration) -> Result<Duration, Problem> {
    let window = from_duration("window", window).map_err(invalid)?;
    if !(LEAST_WINDOW..=LONGEST_WINDOW).contains(&window) {
        return Err(Problem::invalid_argument("window", "is 1 s to 24 h"));
    }
    Ok(window)
}

/// A sliding window that shall be told again and again.
pub(super) struct WatchRequest {
    pub target: MetricsTarget,
    pub interval: Duration,
    pub window: Duration,
}

pub(super) fn watch_request(request: proto::WatchTrafficMetricsRequest) -> Result<WatchRequest, Problem> {
    let interval = request.interval.ok_or_else(|| Problem::invalid_argument("interval", "is required"))?;
    let interval = from_duration("interval", interval).map_err(invalid)?;
    if !(LEAST_INTERVAL..=LONGEST_INTERVAL).contains(&interval) {
        return Err(Problem::invalid_argument("interval", "is 1 s to 5 min"));
    }
    let window = request.window.map(length).transpose()?.unwrap_or(DEFAULT_WATCH_WINDOW.max(interval));
    Ok(WatchRequest { target: target(request.target)?, interval, window })
}

/// Two windows that shall be compared.
pub(super) struct CompareRequest {
    pub baseline: CohortTraffic,
    pub current: CohortTraffic,
    pub options: JudgeOptions,
}

pub(super) fn compare_request(request: proto::CompareMetricsRequest) -> Result<CompareRequest, Problem> {
    Ok(CompareRequest {
        baseline: traffic("baseline", request.baseline)?,
        current: traffic("current", request.current)?,
        options: options(request.options)?,
    })
}

fn traffic(field: &str, traffic: Option<proto::CohortTraffic>) -> Result<CohortTraffic, Problem> {
    let traffic = traffic.ok_or_else(|| Problem::invalid_argument(field, "is required"))?;
    let traffic = CohortTraffic::try_from(traffic).map_err(|error| invalid(error.within(field)))?;
    if traffic.errors > traffic.requests {
        return Err(Problem::invalid_argument(format!("{field}.errors"), "are more than the requests"));
    }
    Ok(traffic)
}

pub(super) fn options(options: Option<proto::JudgeOptions>) -> Result<JudgeOptions, Problem> {
    let options = options.unwrap_or_default();
    options.try_into().map_err(|error: ConvertError| invalid(error.within("options")))
}

pub(super) fn analysis_request(request: proto::RunAnalysisRequest, now: Timestamp) -> Result<AnalysisRequest, Problem> {
    let start = request.start_time.ok_or_else(|| Problem::invalid_argument("start_time", "is required"))?;
    let start = from_timestamp("start_time", start).map_err(invalid)?;
    let end = end(request.end_time, now)?;
    if end < start {
        return Err(Problem::invalid_argument("end_time", "is before start_time"));
    }
    let options = options(request.options)?;
    Ok(AnalysisRequest {
        target: target(request.target)?,
        start,
        end,
        tick: tick(request.tick)?,
        periods: periods(request.periods)?,
        options,
        history: history(request.history)?,
        deployment_id: deployment_id(request.deployment_id)?,
        step: step(request.step)?,
    })
}

fn history(history: Option<prost_types::Duration>) -> Result<Duration, Problem> {
    let history = history.map(|history| from_duration("history", history)).transpose().map_err(invalid)?;
    let history = history.unwrap_or(DEFAULT_HISTORY);
    if history > LONGEST_WINDOW {
        return Err(Problem::invalid_argument("history", "is 0 s to 24 h"));
    }
    Ok(history)
}

fn deployment_id(id: String) -> Result<String, Problem> {
    if id.len() > MAX_ID_BYTES {
        return Err(Problem::invalid_argument("deployment_id", format!("has at most {MAX_ID_BYTES} bytes")));
    }
    Ok(id)
}

fn step(step: i32) -> Result<i32, Problem> {
    if step < 0 {
        return Err(Problem::invalid_argument("step", "is counted from 0"));
    }
    Ok(step)
}

pub(super) fn traffic_response(report: TrafficReport) -> proto::GetTrafficMetricsResponse {
    proto::GetTrafficMetricsResponse {
        canary: Some(report.canary.into()),
        control: Some(report.control.into()),
        observed_share: report.observed_share.unwrap_or(f64::NAN),
        queries: report.queries,
    }
}

pub(super) fn compare_response(judgement: Judgement, options: &JudgeOptions) -> proto::CompareMetricsResponse {
    proto::CompareMetricsResponse {
        verdict: types::Verdict::from(judgement.verdict).into(),
        evidence: judgement.evidence(),
        evidence_bound: options.alpha.recip(),
        required_requests: i64::try_from(judgement.required_requests).unwrap_or(i64::MAX),
        explanation: judgement.explanation,
    }
}

pub(super) fn check_response(preflight: Preflight) -> proto::CheckQueriesResponse {
    proto::CheckQueriesResponse {
        problems: preflight.problems,
        checks: preflight.checks.into_iter().map(query_check).collect(),
    }
}

fn query_check(check: QueryCheck) -> proto::QueryCheck {
    let state = match check.state {
        QueryState::Data => proto::QueryState::Data,
        QueryState::NoSeries => proto::QueryState::NoSeries,
        QueryState::Refused => proto::QueryState::Refused,
        QueryState::ProviderError => proto::QueryState::ProviderError,
    };
    let count = |series| i32::try_from(series).unwrap_or(i32::MAX);
    proto::QueryCheck {
        name: check.name.to_owned(),
        query: check.query,
        state: state.into(),
        canary_series: count(check.series.0),
        control_series: count(check.series.1),
        reason: check.reason,
    }
}

pub(super) fn target(target: Option<gateway::MetricsTarget>) -> Result<MetricsTarget, Problem> {
    let target = target.ok_or_else(|| Problem::invalid_argument("target", "is required"))?;
    MetricsTarget::try_from(target).map_err(|error| invalid(error.within("target")))
}

pub(super) fn invalid(error: ConvertError) -> Problem {
    Problem::invalid_argument(error.field, error.problem)
}

/// Absent means now, and so does the future: nothing was counted there yet.
pub(super) fn end(end: Option<prost_types::Timestamp>, now: Timestamp) -> Result<Timestamp, Problem> {
    let end = end.map(|end| from_timestamp("end_time", end)).transpose().map_err(invalid)?;
    Ok(end.map_or(now, |end| end.min(now)))
}

fn tick(tick: Option<prost_types::Duration>) -> Result<Duration, Problem> {
    let tick = tick.map(|tick| from_duration("tick", tick)).transpose().map_err(invalid)?.unwrap_or(DEFAULT_TICK);
    if !(LEAST_TICK..=LONGEST_TICK).contains(&tick) {
        return Err(Problem::invalid_argument("tick", "is 1 s to 5 min"));
    }
    Ok(tick)
}

pub(super) fn periods(periods: Vec<proto::WeightPeriod>) -> Result<Vec<WeightPeriod>, Problem> {
    if periods.is_empty() || periods.len() > MAX_PERIODS {
        return Err(Problem::invalid_argument("periods", format!("are 1 to {MAX_PERIODS}")));
    }
    let mut converted: Vec<WeightPeriod> = Vec::with_capacity(periods.len());
    for (index, period) in periods.into_iter().enumerate() {
        let field = format!("periods[{index}]");
        let period = WeightPeriod::try_from(period).map_err(|error| invalid(error.within(&field)))?;
        if converted.last().is_some_and(|last| last.start >= period.start) {
            return Err(Problem::invalid_argument(format!("{field}.start_time"), "is not after the period before it"));
        }
        converted.push(period);
    }
    Ok(converted)
}
