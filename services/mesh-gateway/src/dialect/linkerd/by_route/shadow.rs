//! SHADOW of an AuthorizationPolicy: what a stricter version would deny is counted, and nobody is denied.
//!
//! A proxy counts a request under the first authorization that lets it in, and those of a route come before those of
//! its Server. So the new version and copies of all others that the Server has are laid on a route for every path,
//! while the live one stays on the Server: a request that is counted under the live one's name is one that the new one
//! would deny. That holds only where the new version lets in nobody else ([`super::stricter`]), since an authorization
//! more would open the Server, and where nothing else of the Server's comes in between: in that place there is no
//! order. So a ServerAuthorization, which cannot be about a route, and an access policy that lets in others are
//! refused.

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, RelatedBaseline, Target, Weight};
use serde_json::Value;

use super::{
    super::{
        alternatives,
        kind::Kind,
        object::{About, about, kind_of, name, namespace, twin_of},
        twins::names_server,
    },
    around::{self, refuse},
    gone, helpers, stricter,
    world::{about_route, every_path, linkerd_route},
};
use crate::{
    dialect::{
        Desired, Phase, Planned, Question, Unsupported, direct,
        steps::{Wording, approved, baseline, planned, step},
    },
    object::{self, full_name, spec},
};

/// The plan.
pub(in super::super) fn plan(question: &Question<'_>) -> Result<Planned, Unsupported> {
    let Some(stable) = &question.baseline.object else { return Err(super::super::no_version_yet(question)) };
    let around = around::look(question, stable)?;
    let Some(server) = &around.server else {
        return refuse(
            "the policy is about a route, whose authorizations are in no order: requests that both versions let in would \
             be counted under either",
            "ask for HEADER, WEIGHT or INSTANCE",
        );
    };
    if let Some(newcomer) = stricter::newcomer(stable, question.canary, question.neighbours) {
        return refuse(
            format!("the new version would let in {newcomer}, and beside the live one it would do so at once"),
            "ask for HEADER, WEIGHT or INSTANCE",
        );
    }
    let related = beside(question, server)?;
    let share = |_| Weight::ZERO;
    let exposed = |_| "Nobody; what the new version would deny is counted.".to_owned();
    let wording = Wording { mechanism: Mechanism::Shadow, share: &share, exposed: &exposed };
    let steps = planned(question, (&related, &Value::Null), &wording, render)?;
    around.check_names(question, &steps)?;
    let series = format!("inbound_http_authz_allow_total with srv_name=\"{server}\", authz_name=\"{}\"", name(stable));
    let plan = ExposurePlan {
        mechanism: Mechanism::Shadow,
        reason: "By the order of authorizations: those of a route are asked before those of its Server.".to_owned(),
        steps,
        not_covered: vec![
            "Nobody is denied anything: it shows what would be.".to_owned(),
            format!("It cannot be judged against a control: {series} counts what would be denied."),
        ],
        alternatives: alternatives::inbound(Kind::AuthorizationPolicy, Mechanism::Shadow),
        metrics_target: MetricsTarget::uncounted(question.target.mesh, Mechanism::Shadow, &question.target.cluster),
    };
    Ok(Planned { plan, related, facts: Value::Null })
}

/// The Server's other policies, and those of its namespace; refused if anything else lets somebody in.
fn beside(question: &Question<'_>, server: &str) -> Result<Vec<RelatedBaseline>, Unsupported> {
    let here = |one: &&Value| namespace(one) == question.target.namespace && !object::is_of(one, question.target);
    let others: Vec<_> = question.neighbours.iter().filter(here).collect();
    let own = others.iter().find(|one| kind_of(one) == Some(Kind::Server) && name(one) == server);
    let own: Vec<_> = own.into_iter().copied().collect();
    let access = own.first().and_then(|server| spec(server)["accessPolicy"].as_str()).unwrap_or("deny");
    if access != "deny" {
        return refuse(
            format!("Server {server} has accessPolicy {access}, which lets in others than its policies do"),
            "ask for SHADOW of the Server",
        );
    }
    let is_older_kind = |one: &&&Value| kind_of(one) == Some(Kind::ServerAuthorization) && names_server(one, &own);
    if let Some(older) = others.iter().find(is_older_kind) {
        return refuse(
            format!(
                "ServerAuthorization {} lets clients in too, cannot be about a route, and is in no order with the live \
                 version",
                full_name(older)
            ),
            "write it as AuthorizationPolicy, or ask for HEADER, WEIGHT or INSTANCE",
        );
    }
    let holds = |one: &&&Value| {
        kind_of(one) == Some(Kind::AuthorizationPolicy)
            && (names_server(one, &own) || about(spec(one)) == About::Namespace)
    };
    Ok(around::baselines(question, others.iter().filter(holds).copied()))
}

/// The new version and the others, then the route that they are about.
fn objects(intent: &ExposureIntent) -> Vec<(Target, Value)> {
    let Some(About::Server(server)) = intent.baseline.object.as_ref().map(|stable| about(spec(stable))) else {
        return Vec::new();
    };
    let route = every_path(linkerd_route(&intent.target, &intent.target.name), &server, &[]);
    let related = intent.baseline.related.iter();
    let others = related.filter_map(|related| Some((&related.target, related.object.as_ref()?)));
    let policies = std::iter::once((&intent.target, &intent.canary)).chain(others);
    let policies = policies.map(|(target, policy)| about_route(twin_of(target), policy, &route.0));
    policies.chain([route.clone()]).collect()
}

/// The phases of a step. Whoever is let in is so by the live version all the time, so that nothing hangs on the order.
pub(in super::super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(stable) = &intent.baseline.object else { return Err(direct::only_full()) };
    if intent.weight == Weight::FULL {
        let phases = [vec![approved(&intent.target, &intent.canary)], away(intent)];
        return Ok(phases.map(Phase::Objects).into());
    }
    let own = step(&intent.target, spec(stable).clone());
    Ok(vec![Phase::Objects(std::iter::once(own).chain(helpers(objects(intent))).collect())])
}

/// The route first.
fn away(intent: &ExposureIntent) -> Vec<Desired> {
    gone(objects(intent).into_iter().rev().collect())
}

/// The way back: the live version first, which denies nobody whom it let in before.
pub(in super::super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    [vec![baseline(&intent.target)], away(intent)].map(Phase::Objects).into()
}
