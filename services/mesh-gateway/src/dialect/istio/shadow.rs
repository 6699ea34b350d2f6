//! AuthorizationPolicy by dry run: the new version counts what it would decide, and decides nothing.
//!
//! The new version stands beside the live one as an object of its own with `istio.io/dry-run`, on all pods at once, and
//! exposes nobody. What a proxy counts is what *all* dry runs on it would decide together, and they know nothing of
//! policies that are enforced. Two things follow:
//!
//! - A request that another ALLOW policy lets in would be counted as denied. So each other ALLOW policy for the same
//!   pods gets a copy that is a dry run as well.
//! - A second dry run on the same pods would be counted in the same numbers, so there can be one at a time only.

use std::collections::BTreeMap;

use meshward_model::{Alternative, Digest, ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Target, Weight};
use serde_json::{Value, json};

use super::{
    authorization_policy::{check_dry_run, is_dry_run},
    instance::{Scope, helper_name, overlaps},
    neighbours_of, of_istio,
};
use crate::{
    dialect::{
        Desired, Need, Phase, Planned, Question, Unsupported, Wanted, direct,
        steps::{ALL_AT_ONCE, Wording, baseline, planned, step},
    },
    object,
};

const DRY_RUN: &str = "istio.io/dry-run";
const ROOT_NAMESPACE: &str = "istio-system";

/// The objects that a plan must know.
pub(super) fn needs(question: &Question<'_>) -> Vec<Need> {
    vec![Need::all(&question.target.api_version, "AuthorizationPolicy")]
}

pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let canary = question.canary;
    for object in question.baseline.object.iter().chain([canary]) {
        check_dry_run(object)?;
    }
    let action = action(canary);
    if canary.is_null() || !["ALLOW", "DENY"].contains(&action) {
        let reason = format!("a dry run counts what an ALLOW or a DENY would decide, and the new version is {action}");
        return Err(Unsupported::new(reason, format!("use another mechanism, or {ALL_AT_ONCE}")));
    }
    let facts = json!({"copies": copies(question)?});
    let wording = Wording {
        mechanism: Mechanism::Shadow,
        share: &|_| Weight::ZERO,
        exposed: &|_| "Nobody: on all pods the new version only counts what it would decide.".to_owned(),
    };
    let plan = ExposurePlan {
        mechanism: Mechanism::Shadow,
        reason: "By dry run: the new version decides nothing, and what it would decide is counted.".to_owned(),
        steps: planned(question, (&[], &facts), &wording, render)?,
        not_covered: not_covered(action),
        alternatives: alternatives(),
        metrics_target: MetricsTarget {
            // Values of the label authz_dry_run_result.
            canary_series: "denied".to_owned(),
            control_series: "allowed".to_owned(),
            ..MetricsTarget::uncounted(question.target.mesh, Mechanism::Shadow, &question.target.cluster)
        },
    };
    Ok(Planned { facts, ..plan.into() })
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    if intent.weight == Weight::FULL {
        return Ok([direct::at_the_end(intent), vec![gone(intent)]].concat());
    }
    let mut objects: Vec<_> = copies_of(intent).map(|(target, copy)| dry_run(target, &copy["spec"], copy)).collect();
    objects.push(dry_run(shadow(intent), object::spec(&intent.canary), &intent.canary));
    if let Some(stable) = &intent.baseline.object {
        // Only marks: who looks at it sees the deployment.
        objects.push(step(&intent.target, object::spec(stable).clone()));
    }
    Ok(vec![Phase::Objects(objects)])
}

/// The phases of the way back.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    vec![Phase::Objects(vec![baseline(&intent.target)]), gone(intent)]
}

fn action(policy: &Value) -> &str {
    object::spec(policy)["action"].as_str().unwrap_or("ALLOW")
}

/// What stands in for the other ALLOW policies on the same pods: names and specs. A DENY is counted by itself.
fn copies(question: &Question<'_>) -> Result<Vec<Value>, Unsupported> {
    let labels = Scope::AuthorizationPolicy.labels(object::spec(question.canary));
    let mut copies = BTreeMap::new();
    for other in neighbours_of(question, "AuthorizationPolicy") {
        let namespace = other["metadata"]["namespace"].as_str().unwrap_or_default();
        let is_near = namespace == question.target.namespace || namespace == ROOT_NAMESPACE;
        let theirs = Scope::AuthorizationPolicy.labels(object::spec(other));
        if !is_near || object::is_of(other, question.target) || !overlaps(&labels, &theirs) {
            continue;
        }
        if is_dry_run(other) {
            let reason =
                format!("{} is a dry run on the same pods, and both would be counted as one", object::full_name(other));
            return Err(Unsupported::new(reason, "end that one first"));
        }
        if action(question.canary) == "ALLOW" && action(other) == "ALLOW" {
            let digest = Digest::of(&Value::from(object::full_name(other))).to_string();
            let hex = digest.rsplit(':').next().and_then(|hex| hex.get(..8)).unwrap_or_default();
            let copy = json!({"name": format!("{}-{hex}", helper_name(&question.target.name)),
                              "spec": object::spec(other),
                              "metadata": {"labels": of_istio(other, "labels")}});
            copies.insert(object::full_name(other), copy);
        }
    }
    Ok(copies.into_values().collect())
}

fn copies_of(intent: &ExposureIntent) -> impl Iterator<Item = (Target, &Value)> {
    let copies = intent.baseline.facts["copies"].as_array().into_iter().flatten();
    copies.filter_map(|copy| Some((Target { name: copy["name"].as_str()?.to_owned(), ..intent.target.clone() }, copy)))
}

fn shadow(intent: &ExposureIntent) -> Target {
    Target { name: helper_name(&intent.target.name), ..intent.target.clone() }
}

/// A dry run of a spec, with the labels of `of` that Istio reads.
fn dry_run(target: Target, spec: &Value, of: &Value) -> Desired {
    let mut object = json!({
        "apiVersion": target.api_version,
        "kind": target.kind,
        "metadata": {"name": target.name, "namespace": target.namespace, "annotations": {DRY_RUN: "true"}},
        "spec": spec,
    });
    let labels = of_istio(of, "labels");
    if !labels.is_empty() {
        object["metadata"]["labels"] = labels.into();
    }
    Desired { target, wanted: Wanted::Helper(object) }
}

fn gone(intent: &ExposureIntent) -> Phase {
    let all = [shadow(intent)].into_iter().chain(copies_of(intent).map(|(target, _)| target));
    Phase::Objects(all.map(|target| Desired { target, wanted: Wanted::Gone }).collect())
}

fn not_covered(action: &str) -> Vec<String> {
    vec![
        "Nobody is exposed below 100 %: go on by REQUEST or INSTANCE once the counts are as they should be.".to_owned(),
        format!(
            "It is counted per pod and listener in envoy_http_rbac{{authz_dry_run_action=\"{}\", \
             authz_dry_run_result=\"denied\"}}, without the rule or the request.",
            action.to_lowercase()
        ),
        "The copies of other ALLOW policies are as those were when the plan was made.".to_owned(),
    ]
}

fn alternatives() -> Vec<Alternative> {
    let fixed = [
        (Mechanism::Request, "Decides for a part of the requests; the step after this one."),
        (Mechanism::Instance, "Decides on a part of the pods; the step after this one."),
        (Mechanism::None, "All at once: there is no control, and a mistake reaches everybody."),
    ];
    fixed.map(|(mechanism, reason)| Alternative { mechanism, reason: reason.to_owned() }).to_vec()
}

#[cfg(test)]
mod tests {
    use meshward_model::Baseline;

    use super::*;
    use crate::dialect::Audience;
    use crate::dialect::{Dialect as _, Istio};

    fn policy(name: &str, action: &str, app: &str, dry: bool) -> Value {
        let annotations = if dry { json!({DRY_RUN: "true"}) } else { json!({}) };
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
               "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
               "spec": {"selector": {"matchLabels": {"app": app}}, "action": action, "rules": [{}]}})
    }

    fn planned_with(canary: &Value, around: &[Value]) -> Result<Planned, Unsupported> {
        let question = Question {
            target: &Target::new("", "security.istio.io/v1", "AuthorizationPolicy", "shop", "ledger").unwrap(),
            baseline: &Baseline::of(Some(policy("ledger", "ALLOW", "a", false))),
            canary,
            weights: &[1000, 10_000].map(|weight| Weight::from_basis_points(weight).unwrap()),
            wanted: Some(Mechanism::Shadow),
            audience: &Audience::default(),
            neighbours: around.into(),
        };
        Istio.plan(&question)
    }

    /// "phase operation name" of each write of a step.
    fn writes(planned: &Planned, step: usize) -> Vec<String> {
        let writes = planned.plan.steps[step].writes.iter();
        writes.map(|write| format!("{} {:?} {}", write.phase, write.operation, write.target.name)).collect()
    }

    #[test]
    fn other_allows_are_dry_runs_too_so_that_they_are_counted() {
        let around = [
            policy("ledger", "ALLOW", "a", false),
            policy("other", "ALLOW", "a", false),
            policy("denies", "DENY", "a", false),
            policy("elsewhere", "ALLOW", "b", false),
        ];
        let allow = planned_with(&policy("ledger", "ALLOW", "a", false), &around).unwrap();
        let told = writes(&allow, 0);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("0 Create ledger-meshward-canary-"), "{told:?}");
        assert_eq!(told[1..], ["0 Create ledger-meshward-canary", "0 Apply ledger"]);
        for write in &allow.plan.steps[0].writes[..2] {
            assert_eq!(write.object["metadata"]["annotations"], json!({DRY_RUN: "true"}));
        }
        assert_eq!(writes(&allow, 1).len(), 3, "approved, and both helpers gone");
        assert_eq!(allow.plan.steps[0].nominal_share, Weight::ZERO);
        let deny = planned_with(&policy("ledger", "DENY", "a", false), &around).unwrap();
        assert_eq!(writes(&deny, 0), ["0 Create ledger-meshward-canary", "0 Apply ledger"]);
    }

    #[test]
    fn what_would_be_counted_wrong_is_refused() {
        let dry = [policy("x", "ALLOW", "a", true)];
        for (canary, around, reason) in [
            (policy("ledger", "ALLOW", "a", false), &dry[..], "shop/x is a dry run on the same pods"),
            (policy("ledger", "AUDIT", "a", false), &[], "the new version is AUDIT"),
            (policy("ledger", "ALLOW", "a", true), &[], "is a dry run"),
        ] {
            let refusal = planned_with(&canary, around).unwrap_err();
            assert!(refusal.reason.contains(reason), "{refusal}");
        }
    }
}
