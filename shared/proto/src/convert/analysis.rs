//! What the judge is asked and what it says.

use meshward_model as model;

use super::{ConvertError, from_timestamp, required, timestamp, weight};
use crate::{metrics::v1 as metrics, types::v1 as types};

/// An hour: no latency objective is longer.
const MAX_LATENCY_MS: f64 = 3_600_000.0;

/// Counts are far below 2^63.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_count(field: &'static str, number: i64) -> Result<u64, ConvertError> {
    u64::try_from(number).map_err(|_| ConvertError::new(field, "is negative"))
}

/// "No value" is NaN on the wire.
fn or_nan(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

fn unless_nan(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

impl From<model::Verdict> for types::Verdict {
    fn from(verdict: model::Verdict) -> Self {
        match verdict {
            model::Verdict::Healthy => Self::Healthy,
            model::Verdict::Regression => Self::Regression,
            model::Verdict::Watching => Self::Watching,
            model::Verdict::NoTraffic => Self::NoTraffic,
            model::Verdict::NoData => Self::NoData,
            model::Verdict::ProviderError => Self::ProviderError,
            model::Verdict::NotComparable => Self::NotComparable,
        }
    }
}

impl TryFrom<types::Verdict> for model::Verdict {
    type Error = ConvertError;

    fn try_from(verdict: types::Verdict) -> Result<Self, ConvertError> {
        Ok(match verdict {
            types::Verdict::Healthy => Self::Healthy,
            types::Verdict::Regression => Self::Regression,
            types::Verdict::Watching => Self::Watching,
            types::Verdict::NoTraffic => Self::NoTraffic,
            types::Verdict::NoData => Self::NoData,
            types::Verdict::ProviderError => Self::ProviderError,
            types::Verdict::NotComparable => Self::NotComparable,
            types::Verdict::Unspecified => return Err(ConvertError::new("verdict", "is required")),
        })
    }
}

impl From<model::CohortTraffic> for metrics::CohortTraffic {
    fn from(traffic: model::CohortTraffic) -> Self {
        Self {
            requests: count(traffic.requests),
            errors: count(traffic.errors),
            success_rate: or_nan(traffic.success_rate()),
            requests_per_second: traffic.requests_per_second,
            latency_p50_ms: or_nan(traffic.latency_p50_ms),
            latency_p95_ms: or_nan(traffic.latency_p95_ms),
            latency_p99_ms: or_nan(traffic.latency_p99_ms),
            connection_failures: traffic.connection_failures.map(count),
            circuit_breaker_trips: traffic.circuit_breaker_trips.map(count),
            denials: traffic.denials.map(count),
        }
    }
}

impl TryFrom<metrics::CohortTraffic> for model::CohortTraffic {
    type Error = ConvertError;

    fn try_from(traffic: metrics::CohortTraffic) -> Result<Self, ConvertError> {
        let some = |field, number: Option<i64>| number.map(|number| from_count(field, number)).transpose();
        Ok(Self {
            requests: from_count("requests", traffic.requests)?,
            errors: from_count("errors", traffic.errors)?,
            requests_per_second: traffic.requests_per_second,
            latency_p50_ms: unless_nan(traffic.latency_p50_ms),
            latency_p95_ms: unless_nan(traffic.latency_p95_ms),
            latency_p99_ms: unless_nan(traffic.latency_p99_ms),
            connection_failures: some("connection_failures", traffic.connection_failures)?,
            circuit_breaker_trips: some("circuit_breaker_trips", traffic.circuit_breaker_trips)?,
            denials: some("denials", traffic.denials)?,
        })
    }
}

impl From<model::WeightPeriod> for metrics::WeightPeriod {
    fn from(period: model::WeightPeriod) -> Self {
        Self { start_time: Some(timestamp(period.start)), weight_bp: period.weight.basis_points().into() }
    }
}

impl TryFrom<metrics::WeightPeriod> for model::WeightPeriod {
    type Error = ConvertError;

    fn try_from(period: metrics::WeightPeriod) -> Result<Self, ConvertError> {
        Ok(Self {
            start: from_timestamp("start_time", required("start_time", period.start_time)?)?,
            weight: weight("weight_bp", period.weight_bp)?,
        })
    }
}

impl From<model::JudgeOptions> for metrics::JudgeOptions {
    fn from(options: model::JudgeOptions) -> Self {
        let model::JudgeOptions { alpha, tolerance, detectable_effect, objectives } = options;
        Self { alpha, tolerance, detectable_effect, objectives: Some(objectives.into()) }
    }
}

impl TryFrom<metrics::JudgeOptions> for model::JudgeOptions {
    type Error = ConvertError;

    /// Zero means the default.
    fn try_from(options: metrics::JudgeOptions) -> Result<Self, ConvertError> {
        let defaults = Self::default();
        let fraction = |field: &'static str, value: f64, default: f64, most: f64| match value {
            0.0 => Ok(default),
            v if v > 0.0 && v <= most => Ok(v),
            v => Err(ConvertError::new(field, format!("is within 0 and {most}, not {v}"))),
        };
        Ok(Self {
            alpha: fraction("alpha", options.alpha, defaults.alpha, 0.5)?,
            tolerance: fraction("tolerance", options.tolerance, defaults.tolerance, 0.5)?,
            detectable_effect: fraction(
                "detectable_effect",
                options.detectable_effect,
                defaults.detectable_effect,
                1.0,
            )?,
            objectives: match options.objectives {
                Some(objectives) => objectives.try_into().map_err(|error: ConvertError| error.within("objectives"))?,
                None => model::Objectives::default(),
            },
        })
    }
}

impl From<model::Objectives> for metrics::Objectives {
    fn from(objectives: model::Objectives) -> Self {
        Self {
            max_error_rate: objectives.max_error_rate.unwrap_or_default(),
            negligible_error_rate: objectives.negligible_error_rate.unwrap_or_default(),
            latency_ms: objectives.latency_ms.unwrap_or_default(),
            max_slow_rate: objectives.max_slow_rate.unwrap_or_default(),
            negligible_latency_ms: objectives.negligible_latency_ms.unwrap_or_default(),
            denials_are_meant: objectives.denials_are_meant,
        }
    }
}

impl TryFrom<metrics::Objectives> for model::Objectives {
    type Error = ConvertError;

    /// Zero means that there is no such limit.
    fn try_from(objectives: metrics::Objectives) -> Result<Self, ConvertError> {
        let limit = |field: &'static str, value: f64, below: f64| match value {
            0.0 => Ok(None),
            v if v > 0.0 && v < below => Ok(Some(v)),
            v => Err(ConvertError::new(field, format!("is above 0 and below {below}, not {v}"))),
        };
        let found = Self {
            max_error_rate: limit("max_error_rate", objectives.max_error_rate, 1.0)?,
            negligible_error_rate: limit("negligible_error_rate", objectives.negligible_error_rate, 1.0)?,
            latency_ms: limit("latency_ms", objectives.latency_ms, MAX_LATENCY_MS)?,
            max_slow_rate: limit("max_slow_rate", objectives.max_slow_rate, 1.0)?,
            negligible_latency_ms: limit("negligible_latency_ms", objectives.negligible_latency_ms, MAX_LATENCY_MS)?,
            denials_are_meant: objectives.denials_are_meant,
        };
        let exceeds = |one: Option<f64>, two: Option<f64>| matches!((one, two), (Some(one), Some(two)) if one > two);
        if exceeds(found.negligible_error_rate, found.max_error_rate) {
            return Err(ConvertError::new("negligible_error_rate", "is above max_error_rate"));
        }
        if exceeds(found.negligible_latency_ms, found.latency_ms) {
            return Err(ConvertError::new("negligible_latency_ms", "is above latency_ms"));
        }
        if found.max_slow_rate.is_some() && found.latency_ms.is_none() {
            return Err(ConvertError::new("max_slow_rate", "needs latency_ms, which says what is slow"));
        }
        Ok(found)
    }
}

impl From<model::TickSample> for metrics::TickSample {
    fn from(sample: model::TickSample) -> Self {
        Self {
            end_time: Some(timestamp(sample.end)),
            canary_requests: count(sample.canary_requests),
            canary_errors: count(sample.canary_errors),
            control_requests: count(sample.control_requests),
            control_errors: count(sample.control_errors),
        }
    }
}

impl TryFrom<metrics::TickSample> for model::TickSample {
    type Error = ConvertError;

    fn try_from(sample: metrics::TickSample) -> Result<Self, ConvertError> {
        Ok(Self {
            end: from_timestamp("end_time", required("end_time", sample.end_time)?)?,
            canary_requests: from_count("canary_requests", sample.canary_requests)?,
            canary_errors: from_count("canary_errors", sample.canary_errors)?,
            control_requests: from_count("control_requests", sample.control_requests)?,
            control_errors: from_count("control_errors", sample.control_errors)?,
        })
    }
}

impl From<model::Analysis> for metrics::Analysis {
    fn from(analysis: model::Analysis) -> Self {
        Self {
            id: analysis.id,
            verdict: types::Verdict::from(analysis.verdict).into(),
            explanation: analysis.explanation,
            evidence: analysis.evidence,
            evidence_bound: analysis.evidence_bound,
            canary: Some(analysis.canary.into()),
            control: Some(analysis.control.into()),
            observed_share: or_nan(analysis.observed_share),
            required_requests: count(analysis.required_requests),
            samples: analysis.samples.into_iter().map(Into::into).collect(),
            queries: analysis.queries,
            time: Some(timestamp(analysis.time)),
        }
    }
}

impl TryFrom<metrics::Analysis> for model::Analysis {
    type Error = ConvertError;

    fn try_from(analysis: metrics::Analysis) -> Result<Self, ConvertError> {
        Ok(Self {
            verdict: analysis.verdict().try_into()?,
            id: analysis.id,
            explanation: analysis.explanation,
            evidence: analysis.evidence,
            evidence_bound: analysis.evidence_bound,
            canary: analysis.canary.unwrap_or_default().try_into()?,
            control: analysis.control.unwrap_or_default().try_into()?,
            observed_share: unless_nan(analysis.observed_share),
            required_requests: from_count("required_requests", analysis.required_requests)?,
            samples: analysis.samples.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            queries: analysis.queries,
            time: from_timestamp("time", required("time", analysis.time)?)?,
        })
    }
}
