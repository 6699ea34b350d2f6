//! SHADOW: a Server that audits: everything is allowed, and what the policies would not allow is counted.
//!
//! It changes nothing only where nothing is denied now, so the live version must allow everybody. Then the step writes
//! the live version with `accessPolicy: audit`, and 100 % the new one, which denies.
//!
//! **The trap**: at the level of a Server authorizations travel in no order, and the proxy counts the first that fits.
//! Of 200 pushes 99 had the audit first, which then counted requests that a policy allows. Authorizations of a *route*
//! come before those of its Server. So the step adds a route for every path and copies of the Server's policies that are
//! about that route: what the audit counts then is what would be denied, no more. A ServerAuthorization cannot be about
//! a route, and a Server that has routes of its own gets no other: then the count is an upper bound, and the plan says
//! so.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, RelatedBaseline, Target, Weight};
use serde_json::{Value, json};

use super::{
    alternatives, blend,
    kind::{Kind, POLICY},
    object::{About, about, helper, kind_of, name, namespace, target_of, twin_name, twin_of},
    twins::{may_overlap, names_server},
};
use crate::{
    dialect::{
        Desired, Phase, Planned, Question, Unsupported, Wanted, direct,
        steps::{ALL_AT_ONCE, Wording, approved, baseline, planned, step},
    },
    object::{self, full_name, spec},
};

/// The version of routes that came before audits did.
const ROUTE_VERSION: &str = "policy.linkerd.io/v1beta3";
/// Allows everybody; the second one counts as well.
const OPEN: [&str; 2] = ["all-unauthenticated", "audit"];

fn refuse<T>(reason: impl Into<String>, would_work: impl Into<String>) -> Result<T, Unsupported> {
    Err(Unsupported::new(reason, would_work))
}

fn access(spec: &Value) -> &str {
    spec["accessPolicy"].as_str().unwrap_or("deny")
}

/// The plan.
pub(super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let Some(stable) = &question.baseline.object else {
        return refuse(
            format!("{} does not exist, and what its pods allow now is decided elsewhere", question.target),
            "first create it with accessPolicy all-unauthenticated, all at once: that allows everybody",
        );
    };
    check(question, spec(stable), spec(question.canary))?;
    let others: Vec<_> = question
        .neighbours
        .iter()
        .filter(|other| namespace(other) == question.target.namespace && !object::is_of(other, question.target))
        .collect();
    let own = [stable];
    let hanging: Vec<_> = others.iter().copied().filter(|other| names_server(other, &own)).collect();
    let of = |wanted: fn(Kind) -> bool| hanging.iter().copied().filter(move |one| kind_of(one).is_some_and(wanted));
    let mut not_covered = vec![
        "Nobody is denied anything: it shows what would be.".to_owned(),
        "The kubelet's probes are counted too, unless a policy allows them.".to_owned(),
        "It cannot be judged against a control: look at inbound_http_authz_allow_total with authz_name=\"audit\"."
            .to_owned(),
    ];
    let overlapping = others.iter().find(|other| kind_of(other) == Some(Kind::Server) && may_overlap(stable, other));
    if let Some(other) = overlapping {
        return refuse(
            format!("Server {} selects the same port of the same pods, and the older of two wins", name(other)),
            "let one Server select each port of a pod",
        );
    }
    let is_http = !matches!(spec(stable)["proxyProtocol"].as_str(), Some("opaque" | "TLS"));
    let inexact = of(|kind| kind == Kind::ServerAuthorization).next().or_else(|| of(Kind::is_http_route).next());
    let mut related = Vec::new();
    match inexact {
        Some(object) => not_covered.push(format!(
            "Because of {} the count is an upper bound: some of what it counts a policy would allow.",
            full_name(object)
        )),
        None if !is_http => {
            not_covered.push("Connections are counted, and some of them a policy would allow.".to_owned());
        }
        None => {
            let policies = of(|kind| kind == Kind::AuthorizationPolicy);
            related.extend(policies.map(|policy| RelatedBaseline {
                target: target_of(policy, &question.target.cluster),
                object: Some(policy.clone()),
            }));
        }
    }
    let facts = json!({"exact": inexact.is_none() && is_http});
    check_names(question, &related)?;
    let share = |_| Weight::ZERO;
    let exposed = |_| "Nobody; what the new version would deny is counted.".to_owned();
    let wording = Wording { mechanism: Mechanism::Shadow, share: &share, exposed: &exposed };
    let plan = ExposurePlan {
        mechanism: Mechanism::Shadow,
        reason: "By audit: the live version allows everybody, so counting what the new one would deny changes nothing."
            .to_owned(),
        steps: planned(question, (&related, &facts), &wording, render)?,
        not_covered,
        alternatives: alternatives::of(Kind::Server, Mechanism::Shadow),
        metrics_target: MetricsTarget::uncounted(question.target.mesh, Mechanism::Shadow, &question.target.cluster),
    };
    Ok(Planned { plan, related, facts })
}

fn check(question: &Question<'_>, stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    if !OPEN.contains(&access(stable)) {
        return refuse(
            format!(
                "the live version has accessPolicy {}, and an audit allows everybody: it would open {} instead of showing \
                 what the new version does",
                access(stable),
                question.target
            ),
            "ask for INSTANCE",
        );
    }
    if access(canary) != "deny" {
        return refuse(
            format!("the new version has accessPolicy {}, and an audit shows what deny does", access(canary)),
            format!("ask for INSTANCE, or {ALL_AT_ONCE}"),
        );
    }
    let without = |spec: &Value| {
        let mut spec = spec.clone();
        spec["accessPolicy"] = Value::Null;
        spec
    };
    let (before, after) = (without(stable), without(canary));
    if before != after {
        let field = blend::first_difference(&before, &after, "spec");
        return refuse(
            format!("the versions differ in {field} too, and an audit shows what accessPolicy does"),
            format!("release {field} by itself, or ask for INSTANCE"),
        );
    }
    Ok(())
}

fn check_names(question: &Question<'_>, related: &[RelatedBaseline]) -> Result<(), Unsupported> {
    let route = audit_route(question.target);
    let twins = related.iter().map(|related| twin_of(&related.target)).chain([route]);
    for twin in twins {
        if question.neighbours.iter().any(|other| object::is_of(other, &twin)) {
            return refuse(
                format!("{twin} exists already, and the audit needs that name"),
                "remove it if it is left from a deployment, or give it another name",
            );
        }
    }
    Ok(())
}

fn audit_route(server: &Target) -> Target {
    Target { api_version: ROUTE_VERSION.to_owned(), kind: "HTTPRoute".to_owned(), ..twin_of(server) }
}

/// A route for every path, then the policies about it.
fn helpers(intent: &ExposureIntent) -> Vec<(Target, Value)> {
    if intent.baseline.facts["exact"] != true {
        return Vec::new();
    }
    let route = audit_route(&intent.target);
    let parent = json!({"group": POLICY, "kind": "Server", "name": intent.target.name});
    let every_path = json!([{"path": {"type": "PathPrefix", "value": "/"}}]);
    let spec_of_route = json!({"parentRefs": [parent], "rules": [{"matches": every_path}]});
    let about_route = json!({"group": POLICY, "kind": "HTTPRoute", "name": route.name});
    let policies = intent.baseline.related.iter().filter_map(|related| {
        let object = related.object.as_ref()?;
        debug_assert!(matches!(about(spec(object)), About::Server(_)), "a plan takes only policies of the Server");
        let mut spec = spec(object).clone();
        spec["targetRef"] = about_route.clone();
        let target = Target { name: twin_name(&related.target.name), ..related.target.clone() };
        let helper = helper(&target, object, spec);
        Some((target, helper))
    });
    let policies: Vec<_> = policies.collect();
    let object = helper(&route, &Value::Null, spec_of_route);
    std::iter::once((route, object)).chain(policies).collect()
}

fn gone(intent: &ExposureIntent) -> Vec<Desired> {
    let helpers = helpers(intent).into_iter().rev();
    helpers.map(|(target, _)| Desired { target, wanted: Wanted::Gone }).collect()
}

/// The phases of a step. At the end the helpers go first: their route has taken away Linkerd's own for probes, which
/// matters as soon as something is denied.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    if intent.weight == Weight::FULL {
        let phases = [gone(intent), vec![approved(&intent.target, &intent.canary)]];
        return Ok(phases.into_iter().filter(|objects| !objects.is_empty()).map(Phase::Objects).collect());
    }
    let mut audited = spec(stable).clone();
    audited["accessPolicy"] = "audit".into();
    let helpers = helpers(intent).into_iter();
    let helpers = helpers.map(|(target, object)| Desired { target, wanted: Wanted::Helper(object) });
    Ok(vec![Phase::Objects(std::iter::once(step(&intent.target, audited)).chain(helpers).collect())])
}

/// The way back: the live version first, which denies nobody anything.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let phases = [vec![baseline(&intent.target)], gone(intent)];
    phases.into_iter().filter(|objects| !objects.is_empty()).map(Phase::Objects).collect()
}
