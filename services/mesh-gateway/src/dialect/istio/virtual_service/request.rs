//! By request id: the canary's routes for the ids of the cohort, then the stable routes for all others. See
//! [`super::narrow`] for how.

use meshward_model::{Mechanism, Weight};
use serde_json::Value;

use super::{
    Pair, alternatives, bindings, delegates, metrics_target,
    narrow::{self, CANARY_SERIES, REQUEST_ID, STABLE_SERIES},
};
use crate::dialect::{
    Planned, Unsupported,
    istio::Cohort,
    steps::{Wording, planned},
};
use meshward_model::ExposurePlan;

/// Whether the pair can be exposed like this.
pub(super) fn check(pair: &Pair<'_>) -> Result<(), Unsupported> {
    narrow::check(pair.stable, pair.canary, REQUEST_ID)?;
    delegates::check(pair, REQUEST_ID)?;
    pair.check_shared_hosts()
}

pub(super) fn plan(pair: &Pair<'_>) -> Result<Planned, Unsupported> {
    check(pair)?;
    let exposed = |weight: Weight| {
        let cohort = Cohort::of(weight);
        let regex = cohort.regex().unwrap_or_default();
        format!("Requests whose x-request-id matches {regex}: {} of random ids.", cohort.nominal_share())
    };
    let mechanism = Mechanism::Request;
    let share = |weight| Cohort::of(weight).nominal_share();
    let wording = Wording { mechanism, share: &share, exposed: &exposed };
    let facts = pair.roots();
    let plan = ExposurePlan {
        mechanism,
        reason: "By request id: each request is governed by exactly one whole version, and one id always by the same."
            .to_owned(),
        steps: planned(pair.question, (&[], &facts), &wording, super::render)?,
        not_covered: not_covered(pair),
        alternatives: alternatives(pair, mechanism),
        metrics_target: metrics_target(pair.question, mechanism, CANARY_SERIES, STABLE_SERIES),
    };
    Ok(Planned { facts, ..plan.into() })
}

/// What a plan must admit.
fn not_covered(pair: &Pair<'_>) -> Vec<String> {
    let mut sentences = narrow::not_covered(pair.question, pair.stable, pair.canary);
    if bindings::is_bound_to_mesh(pair.canary) {
        sentences.push(
            "Callers in the mesh can choose their version: their sidecar keeps a request id that they send.".to_owned(),
        );
    }
    sentences
}

/// The spec of a step.
pub(super) fn compose(stable: &Value, canary: &Value, weight: Weight) -> Value {
    let condition = narrow::Condition::of_ids(Cohort::of(weight));
    condition.map_or_else(|| stable.clone(), |condition| narrow::compose(stable, canary, &condition))
}
