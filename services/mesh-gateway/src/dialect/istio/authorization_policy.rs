//! AuthorizationPolicy: by request ids.
//!
//! Both versions stand in the one object, as one list of rules: those of the live version for the ids outside the
//! cohort, those of the new one for the ids inside. A request meets a policy if it meets *any* of its rules, and a
//! rule if it meets *all* of its conditions, so with one more condition on the id (`notValues` here, `values` there)
//! each request is decided by exactly one version, whatever the action is. A rule that both versions have stays as it
//! is.
//!
//! That holds for requests. Connections have no id, and what Istio does with a condition that only requests can meet is
//! another matter, and the reason of most refusals here: see [`tcp`].

mod tcp;

use meshward_model::{Alternative, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Weight};
use serde_json::{Value, json};

use super::{cohort::Cohort, differing_fields};
use crate::{
    dialect::{
        Phase, Planned, Question, Unsupported, direct,
        steps::{ALL_AT_ONCE, Wording, planned, step},
    },
    object,
};

/// The condition on the id.
const REQUEST_ID: &str = "request.headers[x-request-id]";
/// What the schema allows.
const MOST_RULES: usize = 512;
const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let stable = question.baseline.object.as_ref().ok_or_else(|| no_version_yet(question))?;
    for object in [stable, question.canary] {
        check_dry_run(object)?;
    }
    let (stable, canary) = (object::spec(stable), object::spec(question.canary));
    check(stable, canary)?;
    let exposed = |weight: Weight| {
        let cohort = Cohort::of(weight);
        let ends = cohort.suffixes().join(", ");
        format!("Requests whose x-request-id is one of {ends}: {} of random ids.", cohort.nominal_share())
    };
    let share = |weight| Cohort::of(weight).nominal_share();
    let wording = Wording { mechanism: Mechanism::Request, share: &share, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism: Mechanism::Request,
        reason: "By request id: each request is decided by exactly one version, and one id always by the same."
            .to_owned(),
        steps: planned(question, (&[], &Value::Null), &wording, render)?,
        not_covered: not_covered(),
        alternatives: alternatives(),
        metrics_target: MetricsTarget {
            mesh: question.target.mesh,
            mechanism: Mechanism::Request,
            cluster: question.target.cluster.clone(),
            // Envoy counts what its RBAC filter allows and denies per listener, for both cohorts together.
            hosts: Vec::new(),
            canary_series: String::new(),
            control_series: String::new(),
        },
    };
    Ok(plan.into())
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    if intent.weight == Weight::FULL {
        return Ok(direct::at_the_end(intent));
    }
    let Some(baseline) = &intent.baseline.object else { return Err(direct::only_full()) };
    let spec = compose(object::spec(baseline), object::spec(&intent.canary), Cohort::of(intent.weight));
    Ok(vec![Phase::Objects(vec![step(&intent.target, spec)])])
}

fn no_version_yet(question: &Question<'_>) -> Unsupported {
    let target = question.target;
    if action(object::spec(question.canary)) == "ALLOW" {
        return Unsupported::new(
            format!(
                "{target} does not exist, and a first ALLOW denies whatever it does not name, to TCP connections and \
                 to requests outside the cohort as well"
            ),
            "first create it with the one rule {to: [{operation: {methods: [\"*\"]}}]}, which allows every request, if \
             its workloads serve no plain TCP, and release yours as the next version; or create it all at once \
             (mechanism NONE, 100 %)",
        );
    }
    Unsupported::new(
        format!("{target} does not exist, so there is no object that could hold both versions"),
        "create it all at once (mechanism NONE, 100 %)",
    )
}

fn check_dry_run(object: &Value) -> Result<(), Unsupported> {
    let annotation = object::metadata_map(object, "annotations").and_then(|map| map.get(DRY_RUN)?.as_str());
    // As Go reads a truth value.
    if !annotation.is_some_and(|value| ["1", "t", "T", "true", "TRUE", "True"].contains(&value)) {
        return Ok(());
    }
    Err(Unsupported::new(
        format!("one of the versions is a dry run ({DRY_RUN}), which decides nothing, for no share of the requests"),
        format!("leave the annotation out of both, or {ALL_AT_ONCE}"),
    ))
}

fn action(spec: &Value) -> &str {
    spec["action"].as_str().unwrap_or("ALLOW")
}

/// The rules of a version; no list and an empty one are the same.
fn rules(spec: &Value) -> &[Value] {
    spec["rules"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether the pair can be exposed like this.
fn check(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    check_same(stable, canary)?;
    for (version, spec) in [("live", stable), ("new", canary)] {
        if !spec["rules"].is_null() && !spec["rules"].is_array() || !rules(spec).iter().all(Value::is_object) {
            return Err(Unsupported::new(
                format!("spec.rules of the {version} version is no list of rules"),
                "write it as the schema asks",
            ));
        }
        if let Some(index) = rules(spec).iter().position(asks_for_the_id) {
            return Err(Unsupported::new(
                format!(
                    "spec.rules[{index}] of the {version} version has a condition on x-request-id itself, so the \
                     requests that it governs are no random part of the ids"
                ),
                format!("use another header, or {ALL_AT_ONCE}"),
            ));
        }
    }
    tcp::check(action(stable), rules(stable), rules(canary))?;
    // Any cohort that is not empty makes as many rules.
    let composed = compose(stable, canary, Cohort::of(Weight::FULL));
    let count = rules(&composed).len();
    if count > MOST_RULES {
        return Err(Unsupported::new(
            format!("both versions together have {count} rules, and a policy has at most {MOST_RULES}"),
            format!("change fewer rules at once, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(())
}

/// All but the rules must be the same.
fn check_same(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    let (before, after) = (action(stable), action(canary));
    if before != after {
        return Err(Unsupported::new(
            format!("the versions differ in spec.action ({before}, {after}), and one object has one action"),
            format!("release a second policy with the action {after} and then remove this one, or {ALL_AT_ONCE}"),
        ));
    }
    if stable["provider"] != canary["provider"] {
        return Err(Unsupported::new(
            "the versions differ in spec.provider, and two providers on one workload deny everything unless istiod has \
             PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS",
            ALL_AT_ONCE,
        ));
    }
    let differing = differing_fields(stable, canary, "rules");
    let names: Vec<_> = differing.iter().filter(|name| *name != "action").map(|name| format!("spec.{name}")).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    Err(Unsupported::new(
        format!("the versions differ in {names}, and a request id chooses only among spec.rules"),
        format!("leave {names} as it is, or {ALL_AT_ONCE}"),
    ))
}

fn asks_for_the_id(rule: &Value) -> bool {
    let conditions = rule["when"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| condition["key"].as_str()).any(|key| key.eq_ignore_ascii_case(REQUEST_ID))
}

/// The spec of a step: each request is decided by exactly one version.
fn compose(stable: &Value, canary: &Value, cohort: Cohort) -> Value {
    let suffixes = cohort.suffixes();
    if suffixes.is_empty() {
        return stable.clone();
    }
    let (before, after) = (rules(stable), rules(canary));
    let stable_rules = before.iter().map(|rule| match after.contains(rule) {
        true => rule.clone(),
        false => narrow(rule, "notValues", &suffixes),
    });
    let canary_rules = after.iter().filter(|rule| !before.contains(rule)).map(|rule| narrow(rule, "values", &suffixes));
    let mut spec = stable.clone();
    let rules: Vec<_> = stable_rules.chain(canary_rules).collect();
    if !rules.is_empty() {
        spec["rules"] = rules.into();
    }
    spec
}

/// The rule for the ids of the cohort only (`values`), or for all others (`notValues`; also those without an id).
fn narrow(rule: &Value, field: &str, suffixes: &[String]) -> Value {
    let mut rule = rule.clone();
    let mut conditions = rule["when"].as_array().cloned().unwrap_or_default();
    conditions.push(json!({"key": REQUEST_ID, field: suffixes}));
    rule["when"] = conditions.into();
    rule
}

/// What a plan must admit.
fn not_covered() -> Vec<String> {
    let sentences = [
        "It cannot be judged: Envoy's RBAC counters are not split by cohort. Compare denials (status 403) in the access \
         log, which has the request id.",
        "Callers in the mesh can choose their version: the proxies keep a request id that they send. A gateway makes \
         a new one.",
        "Requests on a connection that is open already are decided as before until the proxy has drained it: tens of \
         milliseconds with Istio's own settings, seconds with others.",
        "TCP connections are decided as before: what differs is about requests only.",
    ];
    sentences.map(str::to_owned).to_vec()
}

fn alternatives() -> Vec<Alternative> {
    let fixed = [
        (Mechanism::Instance, "By pods: the way where a rule also decides TCP connections; not built yet."),
        (Mechanism::Shadow, "A dry run (istio.io/dry-run) counts and decides nothing; not built yet."),
        (Mechanism::Weight, "Is for destinations."),
        (Mechanism::Subset, "Is for DestinationRule."),
        (Mechanism::Namespace, "A copy in another namespace governs that namespace's workloads, not a share."),
        (Mechanism::Header, "A header chooses who, not how many; not built yet."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    fixed.map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() }).to_vec()
}

#[cfg(test)]
mod tests;
