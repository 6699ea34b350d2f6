//! Requests from the wire, with every rule of the contract, and answers to it.

use std::time::Duration;

use jiff::Timestamp;
use meshward_chassis::problem::Problem;
use meshward_model::{JudgeOptions, MetricsTarget, WeightPeriod};
use meshward_proto::{ConvertError, from_duration, from_timestamp, gateway::v1 as gateway, metrics::v1 as proto};

use crate::app::{AnalysisRequest, TrafficReport};

const LEAST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_TICK: Duration = Duration::from_secs(15);
const LEAST_TICK: Duration = Duration::from_secs(1);
const LONGEST_TICK: Duration = Duration::from_secs(300);
const MAX_PERIODS: usize = 1000;

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
    let window = from_duration("window", window).map_err(invalid)?;
    if !(LEAST_WINDOW..=LONGEST_WINDOW).contains(&window) {
        return Err(Problem::invalid_argument("window", "is 1 s to 24 h"));
    }
    Ok(TrafficRequest { target: target(request.target)?, end: end(request.end_time, now)?, window })
}

pub(super) fn analysis_request(request: proto::RunAnalysisRequest, now: Timestamp) -> Result<AnalysisRequest, Problem> {
    let start = request.start_time.ok_or_else(|| Problem::invalid_argument("start_time", "is required"))?;
    let start = from_timestamp("start_time", start).map_err(invalid)?;
    let end = end(request.end_time, now)?;
    if end < start {
        return Err(Problem::invalid_argument("end_time", "is before start_time"));
    }
    let options: JudgeOptions = request
        .options
        .unwrap_or_default()
        .try_into()
        .map_err(|error: ConvertError| invalid(error.within("options")))?;
    Ok(AnalysisRequest {
        target: target(request.target)?,
        start,
        end,
        tick: tick(request.tick)?,
        periods: periods(request.periods)?,
        options,
    })
}

pub(super) fn traffic_response(report: TrafficReport) -> proto::GetTrafficMetricsResponse {
    proto::GetTrafficMetricsResponse {
        canary: Some(report.canary.into()),
        control: Some(report.control.into()),
        observed_share: report.observed_share.unwrap_or(f64::NAN),
        queries: report.queries,
    }
}

fn invalid(error: ConvertError) -> Problem {
    Problem::invalid_argument(error.field, error.problem)
}

fn target(target: Option<gateway::MetricsTarget>) -> Result<MetricsTarget, Problem> {
    let target = target.ok_or_else(|| Problem::invalid_argument("target", "is required"))?;
    MetricsTarget::try_from(target).map_err(|error| invalid(error.within("target")))
}

/// Absent means now, and so does the future: nothing was counted there yet.
fn end(end: Option<prost_types::Timestamp>, now: Timestamp) -> Result<Timestamp, Problem> {
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

fn periods(periods: Vec<proto::WeightPeriod>) -> Result<Vec<WeightPeriod>, Problem> {
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
