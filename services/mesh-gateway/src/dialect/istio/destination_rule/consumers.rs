//! NAMESPACE: a copy of the new version in some of the namespaces that call, where it takes the place of the live one.
//!
//! A copy is a whole rule under its own name, shown to its namespace alone. In the namespace of the live rule no copy
//! can stand, since Istio would merge the two: callers there are stable until the end.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism};

use super::{ALL_AT_ONCE, copies, words};
use crate::{
    dialect::{
        Phase, Planned, Question, Unsupported, callers as chosen,
        istio::{callers, placed},
        steps::{Wording, planned},
    },
    object,
};

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let mut host = String::new();
    let rule = copies::rule(question, &mut host)?;
    let own = &question.target.namespace;
    for place in &question.audience.namespaces {
        if place == own {
            return Err(Unsupported::new(
                format!("a copy in {own} would be merged with the rule itself"),
                format!("name other namespaces, ask for SUBSET or INSTANCE, or {ALL_AT_ONCE}"),
            ));
        }
        copies::check_governs(&rule, place)?;
    }
    let names = callers::namespaces(question, |place| place == own || copies::check_governs(&rule, place).is_err())?;
    let exposed = |weight| format!("Callers in {}.", chosen::split(&names, weight).0.join(", "));
    let mechanism = Mechanism::Namespace;
    let share = |weight| chosen::nominal_share(weight, names.len());
    let wording = Wording { mechanism, share: &share, exposed: &exposed };
    let facts = chosen::to_facts(&names);
    let mut not_covered = callers::namespaces_not_covered();
    not_covered.push(format!("Callers in {own} itself are governed by the live version until 100 %."));
    not_covered.push("Each namespace that joins takes a write of its own.".to_owned());
    not_covered.extend(words::copies_not_covered(&rule));
    let plan = ExposurePlan {
        mechanism,
        reason: "By the caller's namespace: each caller is governed by exactly one whole version.".to_owned(),
        steps: planned(question, (&[], &facts), &wording, render)?,
        not_covered,
        alternatives: words::alternatives(mechanism),
        metrics_target: copies::metrics_target(&rule, mechanism),
    };
    Ok(Planned { facts, ..plan.into() })
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    placed::render(intent, copies::within(object::spec(&intent.canary), &intent.target, "."))
}
