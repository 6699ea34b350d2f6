//! HEADER: the new version for the requests with a header or a cookie (A/B), the live one for all others.
//!
//! Composed like a cohort of request ids ([`super::narrow`]), with another header. Who is exposed does not grow with the
//! weight of a step: every step below 100 % exposes all who have the header.

use meshward_model::{ExposurePlan, Mechanism};
use serde_json::{Value, json};

use super::{
    Pair, alternatives, delegates, metrics_target,
    narrow::{self, CANARY_SERIES, Condition, REQUEST_ID, STABLE_SERIES},
};
use crate::dialect::{
    Planned, Unsupported,
    audience::Asked as _,
    steps::{Wording, planned},
};

/// Names that Istio ignores among headers, since a match has fields for them.
const IGNORED: [&str; 4] = ["uri", "scheme", "method", "authority"];

pub(super) fn plan(pair: &Pair<'_>) -> Result<Planned, Unsupported> {
    let Some(wanted) = &pair.question.audience.header else {
        return Err(Unsupported::new(
            "HEADER gives the new version to the requests with a certain header or cookie, and none is named",
            "name it in audience.header",
        ));
    };
    let header = wanted.header();
    check_name(header)?;
    narrow::check(pair.stable, pair.canary, header)?;
    delegates::check(pair, header)?;
    pair.check_shared_hosts()?;
    let mut facts = pair.roots();
    facts["condition"] = json!({"header": header, "value": wanted.string_match()});
    let mechanism = Mechanism::Header;
    let exposed = |_| format!("Requests {}: all of them, whatever the weight.", wanted.in_words());
    let wording = Wording { mechanism, share: &|weight| weight, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism,
        reason: "By a header: each request is governed by exactly one whole version, and who has the header always by \
                 the new one."
            .to_owned(),
        steps: planned(pair.question, (&[], &facts), &wording, super::render)?,
        not_covered: not_covered(pair),
        alternatives: alternatives(pair, mechanism),
        metrics_target: metrics_target(pair.question, mechanism, CANARY_SERIES, STABLE_SERIES),
    };
    Ok(Planned { facts, ..plan.into() })
}

fn check_name(header: &str) -> Result<(), Unsupported> {
    if header == REQUEST_ID {
        return Err(Unsupported::new("the ids of requests are shared out by number", "ask for REQUEST"));
    }
    if IGNORED.contains(&header) {
        return Err(Unsupported::new(
            format!("Istio ignores {header} among the headers of a match"),
            "choose a header that callers send",
        ));
    }
    Ok(())
}

fn not_covered(pair: &Pair<'_>) -> Vec<String> {
    let mut sentences = vec![
        "It is no share of the traffic: how many requests have the header nobody knows before.".to_owned(),
        "Who has the header is no random part of the callers: what differs may be they and not the versions."
            .to_owned(),
        "Callers can choose their version: they send the header.".to_owned(),
    ];
    sentences.extend(narrow::not_covered(pair.question, pair.stable, pair.canary));
    sentences
}

/// The spec of a step, whatever its weight; without a condition that of the live version.
pub(super) fn compose(stable: &Value, canary: &Value, facts: &Value) -> Value {
    let condition = &facts["condition"];
    match condition["header"].as_str() {
        None => stable.clone(),
        Some(header) => {
            let condition = Condition { header: header.to_owned(), value: condition["value"].clone() };
            narrow::compose(stable, canary, &condition)
        }
    }
}
