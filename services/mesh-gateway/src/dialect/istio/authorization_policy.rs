//! AuthorizationPolicy: by request ids.
//!
//! Both versions stand in the one object, as one list of rules: those of the live version for the ids outside the
//! cohort, those of the new one for the ids inside. A request meets a policy if it meets *any* of its rules, and a
//! rule if it meets *all* of its conditions, so with one more condition on the id (`notValues` here, `values` there)
//! each request is decided by exactly one version, whatever the action is. A rule that both versions have stays as it
//! is.
//!
//! A version that comes (there was no policy), goes (there shall be none) or changes its action is exposed too: see
//! [`compose`]. Versions of different actions take an object each, since an object has one action: the new one stands
//! in a helper until the end.
//!
//! That holds for requests. Connections have no id, and what Istio does with a condition that only requests can meet is
//! another matter, and the reason of most refusals here: see [`tcp`]. Where it is known which ports of the selected
//! workloads take HTTP ([`workload`]), connections are left with the live version until the end.

mod compose;
mod tcp;
mod workload;

use meshward_model::{Alternative, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Target, Weight};
use serde_json::Value;

use super::{cohort::Cohort, differing_fields};
use crate::{
    dialect::{
        Need, Phase, Planned, Question, Unsupported, direct,
        steps::{ALL_AT_ONCE, Wording, baseline, gone, helper, helper_name, planned, step},
    },
    object,
};
use compose::Workload;

/// The condition on the id.
const REQUEST_ID: &str = "request.headers[x-request-id]";
/// What the schema allows.
const MOST_RULES: usize = 512;
const DRY_RUN: &str = "istio.io/dry-run";

/// How two versions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Both have the same action.
    Rules,
    /// There was no policy.
    Comes,
    /// There shall be none.
    Goes,
    /// They have different actions.
    Action,
}

impl Change {
    fn of(stable: Option<&Value>, canary: &Value) -> Self {
        match stable.map(object::spec) {
            None => Self::Comes,
            Some(_) if canary.is_null() => Self::Goes,
            Some(stable) if action(stable) != action(object::spec(canary)) => Self::Action,
            Some(_) => Self::Rules,
        }
    }
}

/// The workloads must be known unless both versions ask about requests only.
pub(super) fn needs(question: &Question<'_>) -> Vec<Need> {
    let stable = question.baseline.object.as_ref();
    let is_about_requests = stable.is_some_and(|stable| {
        Change::of(Some(stable), question.canary) == Change::Rules
            && check_connections(object::spec(stable), object::spec(question.canary)).is_ok()
    });
    if is_about_requests { Vec::new() } else { workload::needs(question) }
}

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let stable = question.baseline.object.as_ref();
    for (version, object) in stable.map(|stable| ("live", stable)).into_iter().chain([("new", question.canary)]) {
        check_dry_run(object)?;
        check_rules(version, object::spec(object))?;
    }
    let change = Change::of(stable, question.canary);
    let (before, after) = (stable.map_or(&Value::Null, object::spec), object::spec(question.canary));
    let workload = match change {
        Change::Rules => {
            check_same(before, after)?;
            match check_connections(before, after) {
                Ok(()) => None,
                Err(refusal) => Some(workload::read(question, before).map_err(|_| refusal)?),
            }
        }
        Change::Comes => Some(only_requests(after).and_then(|()| workload::read(question, after))?),
        Change::Goes => Some(only_requests(before).and_then(|()| workload::read(question, before))?),
        Change::Action => {
            check_same(before, after)?;
            only_requests(before).and_then(|()| only_requests(after))?;
            Some(workload::read(question, before)?)
        }
    };
    let facts = workload.as_ref().map_or(Value::Null, Workload::to_facts);
    let exposed = |weight: Weight| {
        let cohort = Cohort::of(weight);
        let ends = cohort.suffixes().join(", ");
        format!("Requests whose x-request-id is one of {ends}: {} of random ids.", cohort.nominal_share())
    };
    let share = |weight| Cohort::of(weight).nominal_share();
    let wording = Wording { mechanism: Mechanism::Request, share: &share, exposed: &exposed };
    let steps = planned(question, (&[], &facts), &wording, render)?;
    check_size(steps.iter().flat_map(|step| step.writes.iter().map(|write| &write.object)))?;
    let plan = ExposurePlan {
        mechanism: Mechanism::Request,
        reason: "By request id: each request is decided by exactly one version, and one id always by the same."
            .to_owned(),
        steps,
        not_covered: not_covered(change),
        alternatives: alternatives(),
        // Envoy counts what its RBAC filter allows and denies per listener, for both cohorts together.
        metrics_target: MetricsTarget::uncounted(question.target.mesh, Mechanism::Request, &question.target.cluster),
    };
    Ok(Planned { facts, ..plan.into() })
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let change = Change::of(intent.baseline.object.as_ref(), &intent.canary);
    let before = intent.baseline.object.as_ref().map_or(&Value::Null, object::spec);
    let after = object::spec(&intent.canary);
    let (target, cohort) = (&intent.target, Cohort::of(intent.weight));
    let workload = Workload::of_facts(&intent.baseline.facts);
    let known = || workload.as_ref().ok_or_else(direct::only_full);
    let objects = match (change, intent.weight) {
        (Change::Action, Weight::FULL) => {
            // The helper first: for a moment both versions decide, and the stricter one wins.
            let mut phases = vec![Phase::Objects(vec![helper(&twin(target), after.clone())])];
            phases.extend(direct::at_the_end(intent));
            phases.push(Phase::Objects(vec![gone(&twin(target))]));
            return Ok(phases);
        }
        (_, Weight::FULL) => return Ok(direct::at_the_end(intent)),
        (Change::Rules, _) => vec![step(target, compose::both(before, after, cohort, workload.as_ref()))],
        (Change::Comes, _) => vec![step(target, compose::coming(after, cohort, known()?))],
        (Change::Goes, _) => vec![step(target, compose::going(before, cohort, known()?))],
        (Change::Action, _) => vec![
            helper(&twin(target), compose::coming(after, cohort, known()?)),
            step(target, compose::going(before, cohort, known()?)),
        ],
    };
    Ok(vec![Phase::Objects(objects)])
}

/// The way back: what was there before first, so that nothing is decided by nobody.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let mut phases = vec![Phase::Objects(vec![baseline(&intent.target)])];
    if Change::of(intent.baseline.object.as_ref(), &intent.canary) == Change::Action {
        phases.push(Phase::Objects(vec![gone(&twin(&intent.target))]));
    }
    phases
}

/// The helper that holds a version of another action.
fn twin(target: &Target) -> Target {
    Target { name: helper_name(&target.name), ..target.clone() }
}

pub(super) fn is_dry_run(object: &Value) -> bool {
    let annotation = object::metadata_map(object, "annotations").and_then(|map| map.get(DRY_RUN)?.as_str());
    // As Go reads a truth value.
    annotation.is_some_and(|value| ["1", "t", "T", "true", "TRUE", "True"].contains(&value))
}

pub(super) fn check_dry_run(object: &Value) -> Result<(), Unsupported> {
    if !is_dry_run(object) {
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

fn check_rules(version: &str, spec: &Value) -> Result<(), Unsupported> {
    if !spec["rules"].is_null() && !spec["rules"].is_array() || !rules(spec).iter().all(Value::is_object) {
        return Err(Unsupported::new(
            format!("spec.rules of the {version} version is no list of rules"),
            "write it as the schema asks",
        ));
    }
    match rules(spec).iter().position(asks_for_the_id) {
        None => Ok(()),
        Some(index) => Err(Unsupported::new(
            format!(
                "spec.rules[{index}] of the {version} version has a condition on x-request-id itself, so the requests \
                 that it governs are no random part of the ids"
            ),
            format!("use another header, or {ALL_AT_ONCE}"),
        )),
    }
}

/// Whether two versions of one action leave every connection as it is, wherever it goes.
fn check_connections(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    tcp::check(action(stable), rules(stable), rules(canary))
}

/// A version that comes, goes or changes its action must have one of the actions that decide by themselves.
fn only_requests(spec: &Value) -> Result<(), Unsupported> {
    if action(spec) != "CUSTOM" {
        return Ok(());
    }
    Err(Unsupported::new(
        "one of the versions has the action CUSTOM and the other has not, and what a provider decides for a part of \
         the requests is not known here",
        ALL_AT_ONCE,
    ))
}

fn check_size<'a>(mut objects: impl Iterator<Item = &'a Value>) -> Result<(), Unsupported> {
    let size = |object: &&Value| rules(object::spec(object)).len() > MOST_RULES;
    match objects.find(size) {
        None => Ok(()),
        Some(object) => Err(Unsupported::new(
            format!(
                "both versions together have {} rules, and a policy has at most {MOST_RULES}",
                rules(object::spec(object)).len()
            ),
            format!("change fewer rules at once, or {ALL_AT_ONCE}"),
        )),
    }
}

/// All but the rules and the action must be the same.
fn check_same(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
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

/// What a plan must admit.
fn not_covered(change: Change) -> Vec<String> {
    let sentences = [
        "It is not measured per cohort, so nothing judges it: Envoy counts what its filter denies for both versions \
         together, and Istio asks for no counts by rule. Release it by SHADOW first, which counts what the new version \
         would deny of all requests, or by INSTANCE, which is judged; or compare denials (status 403) in the access log, \
         which has the request id.",
        "Callers in the mesh can choose their version: the proxies keep a request id that they send. A gateway makes \
         a new one.",
        "Requests on a connection that is open already are decided as before until the proxy has drained it: tens of \
         milliseconds with Istio's own settings, seconds with others.",
        "TCP connections are decided by the live version until the deployment ends.",
    ];
    let two_objects = "Between the two writes of a step, requests that change their version meet both: the stricter one \
                       wins.";
    let more = (change == Change::Action).then_some(two_objects);
    sentences.into_iter().chain(more).map(str::to_owned).collect()
}

fn alternatives() -> Vec<Alternative> {
    let fixed = [
        (
            Mechanism::Instance,
            "By pods: the way where a rule also decides TCP connections, and the one that is judged.",
        ),
        (Mechanism::Shadow, "A dry run (istio.io/dry-run) counts and decides nothing."),
        (Mechanism::Weight, "Is for destinations."),
        (Mechanism::Subset, "Is for DestinationRule."),
        (Mechanism::Namespace, "A copy in another namespace governs that namespace's workloads, not a share."),
        (Mechanism::Header, "A header that callers send would let them choose what they are allowed."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    fixed.map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() }).to_vec()
}

#[cfg(test)]
mod tests;
