//! WEIGHT: one object, whose destinations are blended ([`super::blend`]).

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Weight};

use serde_json::Value;

use super::{alternatives, blend, kind::Kind, route};
use crate::{
    dialect::{
        Phase, Planned, Question, Unsupported, direct,
        steps::{Wording, planned, step},
    },
    object::spec,
};

/// The plan.
pub(super) fn plan(question: &Question<'_>, kind: Kind) -> Result<Planned, Unsupported> {
    let Some(stable) = &question.baseline.object else { return Err(super::no_version_yet(question)) };
    if kind.is_route() {
        route::check_annotations(stable, question.canary)?;
    }
    let parent = route::own_destination(kind, stable);
    blend::check(kind, spec(stable), spec(question.canary), parent.as_ref())?;
    let drawn = if matches!(kind, Kind::TlsRoute | Kind::TcpRoute) { "connection" } else { "request" };
    let exposed = |weight: Weight| format!("Each {drawn}, drawn anew, with a probability of {weight}.");
    let wording = Wording { mechanism: Mechanism::Weight, share: &|weight| weight, exposed: &exposed };
    let series = blend::told_apart(kind, spec(stable), spec(question.canary), parent.as_ref());
    // What a ServiceProfile or a TrafficSplit shares is not counted by destination.
    let series = series.filter(|_| kind.is_route());
    let mut not_covered = vec![
        format!("It is not sticky: every {drawn} is drawn anew."),
        "Only destinations that are ready are drawn: while the canary's are not, its share goes to the stable ones."
            .to_owned(),
    ];
    if drawn == "connection" {
        not_covered.push("Open connections stay with their destination; only new ones are shared.".to_owned());
    }
    if series.is_none() {
        not_covered.push("It cannot be judged by destination: the versions have some in common.".to_owned());
    }
    let (canary_series, control_series) = series.unwrap_or_default();
    let plan = ExposurePlan {
        mechanism: Mechanism::Weight,
        reason: "By blended weights: the versions differ only in where they send and how much.".to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered,
        alternatives: alternatives::of(kind, Mechanism::Weight),
        metrics_target: MetricsTarget {
            hosts: super::hosts(question, kind),
            canary_series,
            control_series,
            ..MetricsTarget::uncounted(question.target.mesh, Mechanism::Weight, &question.target.cluster)
        },
    };
    Ok(plan.into())
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    if intent.weight == Weight::FULL {
        return Ok(direct::at_the_end(intent));
    }
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    let Some(kind) = Kind::of_target(&intent.target) else { return Err(direct::only_full()) };
    let parent = route::own_destination(kind, stable);
    let spec = match intent.weight {
        Weight::ZERO => spec(stable).clone(),
        weight => blend::blend(kind, spec(stable), spec(&intent.canary), weight, parent.as_ref()),
    };
    Ok(vec![Phase::Objects(vec![step(&intent.target, spec)])])
}
