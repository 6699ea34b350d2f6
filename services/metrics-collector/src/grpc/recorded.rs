//! Recorded ticks from the wire, with every rule of the contract.

use meshward_chassis::problem::Problem;
use meshward_model::{JudgeOptions, TickSample, WeightPeriod};
use meshward_proto::metrics::v1 as proto;

use super::convert::{invalid, options, periods};
use crate::{
    app::recorded::{Details, MAX_REPLAYED},
    judge::{
        counts::{Count, Kind},
        latency::SlowTick,
    },
};

/// Most buckets of a tick's histogram.
const MAX_BUCKETS: usize = 200;

/// Recorded ticks that shall be judged.
pub(super) struct Recorded {
    pub samples: Vec<TickSample>,
    /// None, or one for each sample.
    pub details: Vec<Details>,
    pub options: JudgeOptions,
    pub periods: Vec<WeightPeriod>,
}

pub(super) fn request(request: proto::ReplayAnalysisRequest) -> Result<Recorded, Problem> {
    let samples = samples(request.samples)?;
    let periods = if request.periods.is_empty() { Vec::new() } else { periods(request.periods)? };
    let end = samples.last().map(|sample| sample.end);
    if let Some(late) = periods.iter().position(|period| Some(period.start) > end) {
        return Err(Problem::invalid_argument(format!("periods[{late}].start_time"), "is after the last sample"));
    }
    let details = details(request.details, &samples)?;
    Ok(Recorded { samples, details, options: options(request.options)?, periods })
}

fn samples(samples: Vec<proto::TickSample>) -> Result<Vec<TickSample>, Problem> {
    if samples.is_empty() || samples.len() > MAX_REPLAYED {
        return Err(Problem::invalid_argument("samples", format!("are 1 to {MAX_REPLAYED}")));
    }
    let mut converted: Vec<TickSample> = Vec::with_capacity(samples.len());
    for (index, sample) in samples.into_iter().enumerate() {
        let wrong = |field: &str, problem| Problem::invalid_argument(format!("samples[{index}].{field}"), problem);
        let sample =
            TickSample::try_from(sample).map_err(|error| invalid(error.within(&format!("samples[{index}]"))))?;
        if converted.last().is_some_and(|last| last.end >= sample.end) {
            return Err(wrong("end_time", "is not after the sample before it"));
        }
        if sample.canary_errors > sample.canary_requests {
            return Err(wrong("canary_errors", "are more than the requests"));
        }
        if sample.control_errors > sample.control_requests {
            return Err(wrong("control_errors", "are more than the requests"));
        }
        converted.push(sample);
    }
    Ok(converted)
}

fn details(details: Vec<proto::TickDetails>, samples: &[TickSample]) -> Result<Vec<Details>, Problem> {
    if !details.is_empty() && details.len() != samples.len() {
        return Err(Problem::invalid_argument(
            "details",
            format!("are none, or {}, one for each sample", samples.len()),
        ));
    }
    let is_counted =
        |kind: &Kind| details.iter().any(|one| failures(one.canary, *kind).or(failures(one.control, *kind)).is_some());
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(is_counted).collect();
    let convert = |(index, (details, sample)): (usize, (&proto::TickDetails, &TickSample))| {
        let field = format!("details[{index}]");
        let slow = slow_tick(&format!("{field}.latencies"), &details.latencies, sample)?;
        let count = |kind: &Kind| {
            let of_arm = |arm: &str, counts| {
                let count = failures(counts, *kind).unwrap_or_default();
                u64::try_from(count).map_err(|_| Problem::invalid_argument(format!("{field}.{arm}"), "is negative"))
            };
            let (canary, control) = (of_arm("canary", details.canary)?, of_arm("control", details.control)?);
            Ok(Count { kind: *kind, canary, control })
        };
        Ok(Details { slow, counts: kinds.iter().map(count).collect::<Result<_, Problem>>()? })
    };
    details.iter().zip(samples).enumerate().map(convert).collect()
}

fn failures(counts: Option<proto::FailureCounts>, kind: Kind) -> Option<i64> {
    let counts = counts?;
    match kind {
        Kind::ConnectionFailures => counts.connection_failures,
        Kind::CircuitBreakerTrips => counts.circuit_breaker_trips,
        Kind::Denials => counts.denials,
    }
}

/// How many took longer than each finite edge.
fn slow_tick(field: &str, buckets: &[proto::LatencyBucket], sample: &TickSample) -> Result<Option<SlowTick>, Problem> {
    let Some((last, finite)) = buckets.split_last() else { return Ok(None) };
    let wrong = |problem: &str| Err(Problem::invalid_argument(field, problem));
    if buckets.len() > MAX_BUCKETS {
        return wrong("are at most 200");
    }
    let ascends = buckets.is_sorted_by(|a, b| a.upper_edge_ms < b.upper_edge_ms);
    if last.upper_edge_ms != f64::INFINITY || !ascends || buckets[0].upper_edge_ms < 0.0 {
        return wrong("ascend by upper_edge_ms from 0 or more, up to infinity");
    }
    if buckets.iter().any(|bucket| bucket.canary < 0 || bucket.control < 0) {
        return wrong("hold increases of 0 or more");
    }
    let sum = |buckets: &[proto::LatencyBucket], count: fn(&proto::LatencyBucket) -> i64| {
        buckets.iter().fold(0, |sum: u64, bucket| sum.saturating_add(count(bucket).unsigned_abs()))
    };
    let beyond = |count| (1..buckets.len()).map(|above| sum(&buckets[above..], count)).collect();
    let (canary, control) =
        (|bucket: &proto::LatencyBucket| bucket.canary, |bucket: &proto::LatencyBucket| bucket.control);
    Ok(Some(SlowTick {
        requests: TickSample {
            canary_requests: sum(buckets, canary),
            control_requests: sum(buckets, control),
            ..*sample
        },
        edges_ms: finite.iter().map(|bucket| bucket.upper_edge_ms).collect(),
        canary: beyond(canary),
        control: beyond(control),
    }))
}
