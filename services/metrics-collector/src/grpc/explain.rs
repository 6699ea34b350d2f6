//! ExplainVerdict on the wire.

use meshward_chassis::problem::Problem;
use meshward_proto::{metrics::v1 as proto, timestamp, types::v1::ErrorReason};
use tonic::Code;

use crate::app::{
    explain::{Explanation, TickExplanation},
    kept::Which,
};

pub(super) fn request(request: proto::ExplainVerdictRequest) -> Result<Which, Problem> {
    let proto::ExplainVerdictRequest { analysis_id, deployment_id, step } = request;
    match (analysis_id.is_empty(), deployment_id.is_empty()) {
        (false, true) if step.is_none() => Ok(Which::Id(analysis_id)),
        (true, false) => Ok(Which::Newest { deployment_id, step }),
        (true, true) => Err(Problem::invalid_argument("analysis_id", "is required, or deployment_id")),
        _ => Err(Problem::invalid_argument("analysis_id", "names the verdict alone: leave out deployment_id and step")),
    }
}

/// `why` continues the verdict's name.
pub(super) fn not_kept(which: &Which, why: &str) -> Problem {
    let (kind, name) = match which {
        Which::Id(id) => ("verdict", id),
        Which::Newest { deployment_id, .. } => ("deployment", deployment_id),
    };
    let message = format!("the {kind} {name:?} {why}");
    Problem::new(Code::NotFound, ErrorReason::ResourceNotFound, message).resource(kind, name)
}

pub(super) fn response(explanation: &Explanation) -> proto::ExplainVerdictResponse {
    proto::ExplainVerdictResponse {
        analysis: Some(explanation.analysis.clone().into()),
        deployment_id: explanation.deployment_id.clone(),
        step: explanation.step,
        ticks: explanation.ticks.iter().map(tick).collect(),
        options: Some(explanation.options.into()),
        sentences: explanation.sentences.clone(),
    }
}

fn tick(tick: &TickExplanation) -> proto::TickExplanation {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let slow = |(edge_ms, canary, control): &(f64, u64, u64)| proto::SlowCount {
        edge_ms: *edge_ms,
        canary: count(*canary),
        control: count(*control),
    };
    proto::TickExplanation {
        sample: Some(tick.sample.into()),
        start_time: Some(timestamp(tick.start)),
        weight_bp: tick.weight.basis_points().into(),
        before_change: tick.before_change,
        evidence: tick.evidence,
        canary_timed: count(tick.timed.0),
        control_timed: count(tick.timed.1),
        slow: tick.slow.iter().map(slow).collect(),
    }
}
