//! A verdict with everything that led to it, and the sentences that tell it to people.

use jiff::Timestamp;
use meshward_model::{Analysis, JudgeOptions, MetricsTarget, TickSample, Weight};

use super::AnalysisRequest;

/// A verdict and what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What was answered.
    pub analysis: Analysis,
    /// Whose traffic it was.
    pub target: MetricsTarget,
    /// Whose step it was; may be empty.
    pub deployment_id: String,
    /// Which step, from 0.
    pub step: i32,
    /// How it was judged.
    pub options: JudgeOptions,
    /// What the judge saw; empty if the source gave no numbers.
    pub ticks: Vec<TickExplanation>,
    /// Why, for people.
    pub sentences: Vec<String>,
}

/// One tick as the judge saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct TickExplanation {
    /// First moment.
    pub start: Timestamp,
    /// End, and what was counted.
    pub sample: TickSample,
    /// What was asked for when it began.
    pub weight: Weight,
    /// Of the time before the change.
    pub before_change: bool,
    /// The evidence after it.
    pub evidence: f64,
    /// Requests of canary and control that were timed.
    pub timed: (u64, u64),
    /// Latencies in milliseconds that were compared, and requests of canary and control that took longer.
    pub slow: Vec<(f64, u64, u64)>,
}

/// What is known where the source gave numbers.
pub(super) struct Known {
    pub tolerated_ratio: f64,
    pub edges_ms: Vec<f64>,
    pub ticks: Vec<TickExplanation>,
}

impl Explanation {
    pub(super) fn new(request: &AnalysisRequest, analysis: Analysis, known: Option<Known>) -> Self {
        let options = request.options;
        let mut sentences = vec![format!("{}: {}.", analysis.verdict.name(), analysis.explanation)];
        if let Some(known) = &known {
            sentences.push(evidence(&analysis, &known.ticks));
            sentences.push(tolerance(&options, known.tolerated_ratio));
            sentences.push(sample(&analysis, &options));
            sentences.push(before(&known.ticks));
            sentences.push(latencies(&known.edges_ms, &options));
            sentences.extend(others(&analysis));
            sentences.extend(objectives(&options));
        }
        Self {
            analysis,
            target: request.target.clone(),
            deployment_id: request.deployment_id.clone(),
            step: request.step,
            options,
            ticks: known.map(|known| known.ticks).unwrap_or_default(),
            sentences,
        }
    }
}

fn evidence(analysis: &Analysis, ticks: &[TickExplanation]) -> String {
    let bound = analysis.evidence_bound;
    let weighed = || ticks.iter().filter(|tick| !tick.before_change);
    let rule = format!(
        "From {bound:.0} on it is a regression, which an equal canary ever reaches with a probability of at most {}; \
         from {:.0} on the step is held",
        percent(bound.recip()),
        bound.sqrt(),
    );
    match weighed().find(|tick| tick.evidence >= bound) {
        Some(tick) => {
            format!("The evidence reached {:.1} in the tick that ended at {}. {rule}.", tick.evidence, tick.sample.end)
        }
        None => {
            let most = weighed().map(|tick| tick.evidence).fold(1.0, f64::max);
            let now = analysis.evidence;
            format!(
                "The evidence after the last of {} ticks is {now:.1}, and was {most:.1} at most. {rule}.",
                weighed().count()
            )
        }
    }
}

fn tolerance(options: &JudgeOptions, ratio: f64) -> String {
    let more = percent(options.tolerance);
    format!(
        "A canary that fails {ratio:.2} times as often as the control, and in {more} of its requests on top, is called equal."
    )
}

fn sample(analysis: &Analysis, options: &JudgeOptions) -> String {
    format!(
        "The canary had {} requests in this step; {} are needed before HEALTHY is said, so that an effect of {} of the \
         requests would have been seen.",
        analysis.canary.requests,
        analysis.required_requests,
        percent(options.detectable_effect),
    )
}

fn before(ticks: &[TickExplanation]) -> String {
    let before: Vec<&TickSample> = ticks.iter().filter(|tick| tick.before_change).map(|tick| &tick.sample).collect();
    let sum =
        |count: fn(&TickSample) -> u64| before.iter().map(|sample| count(sample)).fold(0_u64, u64::saturating_add);
    let (canary, control) = (sum(|one| one.canary_requests), sum(|one| one.control_requests));
    match (canary, control) {
        (0, 0) => "Nothing is known of the time before the change.".to_owned(),
        (0, _) => format!(
            "In {} ticks before the change the control had {} errors in {control} requests; the canary's group had none, so \
             whether both are alike is not known.",
            before.len(),
            sum(|one| one.control_errors),
        ),
        _ => format!(
            "In {} ticks before the change the canary's group had {} errors in {canary} requests, the control's {} in {control}.",
            before.len(),
            sum(|one| one.canary_errors),
            sum(|one| one.control_errors),
        ),
    }
}

fn latencies(edges_ms: &[f64], options: &JudgeOptions) -> String {
    let list = |edges: &[f64]| edges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let floor = options.objectives.negligible_latency_ms.map(|ms| format!("; up to {ms} ms nothing is slow"));
    match edges_ms {
        [] => "Latencies were not compared: there are no histograms, or too few requests in them yet.".to_owned(),
        edges => format!("Latencies were compared at {} ms{}.", list(edges), floor.unwrap_or_default()),
    }
}

/// What else was counted in the current step.
fn others(analysis: &Analysis) -> Option<String> {
    let (canary, control) = (&analysis.canary, &analysis.control);
    let counted = [
        ("connection failures", canary.connection_failures, control.connection_failures),
        ("circuit breaker trips", canary.circuit_breaker_trips, control.circuit_breaker_trips),
        ("denied requests", canary.denials, control.denials),
    ];
    let told = counted.into_iter().filter_map(|(name, canary, control)| {
        Some(format!("{name}: {} in the canary, {} in the control", canary?, control?))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| format!("Counted beside the errors, in this step: {}.", told.join("; ")))
}

fn objectives(options: &JudgeOptions) -> Vec<String> {
    let objectives = &options.objectives;
    let errors =
        objectives.max_error_rate.map(|limit| format!("Objective: at most {} of the requests fail.", percent(limit)));
    let negligible = objectives
        .negligible_error_rate
        .map(|limit| format!("Up to {} of errors are called negligible.", percent(limit)));
    let latency = objectives.latency_ms.map(|ms| {
        let rate = objectives.max_slow_rate.unwrap_or(crate::judge::MAX_SLOW_RATE);
        format!("Objective: at most {} of the requests take longer than {ms} ms.", percent(rate))
    });
    let denials = objectives
        .denials_are_meant
        .then(|| "The change is meant to deny requests, so denials are not judged.".to_owned());
    [errors, negligible, latency, denials].into_iter().flatten().collect()
}

fn percent(fraction: f64) -> String {
    format!("{} %", (fraction * 1e6).round() / 1e4)
}
