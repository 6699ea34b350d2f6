//! An AuthorizationPolicy, or a route of a Server, by requests: HEADER and WEIGHT.
//!
//! Authorizations add up: whatever a second policy says, the live one goes on to allow what it allows, wherever it
//! covers the same Server. A request is told from another only by a route. So the new version is laid on a route of its
//! own ("canary") for the requests of the cohort, and the live one on another for the rest:
//!
//! | the policy is about | phases of a step |
//! |---|---|
//! | a Server without routes | a route for every path; then the new version for the canary's route, which is not there yet, and the live one moved to the route for every path; then the canary's route |
//! | a route | the new version, and copies of the route's other policies, for the canary's route; then the canary's route, a copy of the route |
//!
//! A route itself is exposed likewise: copies of its policies, then the new version for the cohort's requests only.
//!
//! The first route of a Server takes away Linkerd's own for every path and for the kubelet's probes; hence the route for
//! every path, and hence a Server whose pods are probed by HTTP on its port is refused: of two objects one is read
//! first, and for a moment the probes would be denied. Authorizations of a route come besides those of its Server, so
//! the Server's other policies, and those of its namespace, stay where they are and hold for both versions.
//!
//! Each phase is proven before the next: the live version leaves the Server in the very update that lays it on the
//! route which is there already, and the canary's route comes when its authorization is known. (Policies are read in
//! the order of writing. So the proof that the live one has moved is one for the new version, written before it.)
//!
//! Who is in the cohort:
//!
//! - **HEADER**: requests with the header of an audience, if one is named (A/B); else clients by their identity. The
//!   proxy of the pod itself sets `l5d-client-id` from the client's certificate, whatever the client sends, so nobody
//!   chooses a version.
//! - **WEIGHT**: a share of the requests to the Services of the pods. The caller's proxy sets a header, drawn by the
//!   weights of an outbound route that names the same Service twice. Who calls past the Service could set it itself.
//!
//! Seen with Linkerd's own programs: at 10, 30 and 50 % by WEIGHT a client that only the new version lets in was let in
//! with 0.098, 0.312 and 0.494 of its requests, and of 27,477 requests of one that both let in none was lost through all
//! steps, the way back and the end.
//!
//! At 100 % the approved version is written into the object first, which covers both routes in one update; then the
//! rest goes. The way back takes the canary's route away first.

mod around;
mod shadow;
mod stricter;
mod world;

use meshward_model::{ExposureIntent, ExposurePlan, Mechanism, MetricsTarget, Target, Weight};
use serde_json::{Value, json};

use super::{alternatives, header, kind::Kind};
use crate::dialect::{
    Desired, HeaderMatch, Need, Phase, Planned, Question, Unsupported, Wanted, callers, direct,
    steps::{Wording, approved, baseline, planned, step},
};
pub(super) use shadow::{plan as plan_shadow, render as render_shadow, undo as undo_shadow};
use world::World;

/// What the plans must know, besides the kinds that hang on Servers.
pub(super) fn needs(question: &Question<'_>, mechanism: Mechanism) -> Vec<Need> {
    let namespace = question.target.namespace.as_str();
    let here = [Kind::Server, Kind::AuthorizationPolicy, Kind::ServerAuthorization];
    let routes = [Kind::PolicyRoute, Kind::HttpRoute, Kind::GrpcRoute];
    let mut needs: Vec<_> = here.into_iter().map(|kind| super::need(kind, Some(namespace))).collect();
    needs.extend([Kind::MeshTls, Kind::Network].map(|kind| super::need(kind, None)));
    match mechanism {
        // Callers, and their routes and profiles, are anywhere.
        Mechanism::Weight => {
            let outbound = [Kind::TlsRoute, Kind::TcpRoute, Kind::Profile];
            needs.extend(routes.into_iter().chain(outbound).map(|kind| super::need(kind, None)));
            needs.extend(["Service", "Pod"].map(|kind| Need::within("v1", kind, namespace)));
        }
        _ => {
            needs.extend(routes.map(|kind| super::need(kind, Some(namespace))));
            let is_everywhere = mechanism == Mechanism::Header;
            needs.push(if is_everywhere { Need::all("v1", "Pod") } else { Need::within("v1", "Pod", namespace) });
        }
    }
    needs
}

/// The plan by HEADER or by WEIGHT.
pub(super) fn plan(question: &Question<'_>, kind: Kind, mechanism: Mechanism) -> Result<Planned, Unsupported> {
    let Some(stable) = &question.baseline.object else { return Err(super::no_version_yet(question)) };
    let around = if kind == Kind::AuthorizationPolicy {
        around::look(question, stable)?
    } else {
        around::look_at_route(question, kind, stable)?
    };
    let cohort = match mechanism {
        Mechanism::Weight => by_weight(question, &around)?,
        _ => match &question.audience.header {
            Some(wanted) => by_header(wanted),
            None => by_identity(question)?,
        },
    };
    let Cohort { facts, share, exposed, reason, mut not_covered, hosts } = cohort;
    if let Some(name) = &around.server {
        not_covered.push(format!(
            "Server {name} has routes of Meshward's while the deployment lasts, and its series carry their names."
        ));
    }
    not_covered.push(
        "It cannot be judged by a series that is known: look at inbound_http_authz_deny_total by route_name."
            .to_owned(),
    );
    let wording = Wording { mechanism, share: &*share, exposed: &*exposed };
    let steps = planned(question, (&around.related, &facts), &wording, render)?;
    around.check_names(question, &steps)?;
    let plan = ExposurePlan {
        mechanism,
        reason: reason.to_owned(),
        steps,
        not_covered,
        alternatives: alternatives::inbound(kind, mechanism),
        metrics_target: MetricsTarget {
            hosts,
            ..MetricsTarget::uncounted(question.target.mesh, mechanism, &question.target.cluster)
        },
    };
    Ok(Planned { plan, related: around.related, facts })
}

/// Who gets the new version, as the plan says it.
struct Cohort<'a> {
    facts: Value,
    share: Box<dyn Fn(Weight) -> Weight + 'a>,
    exposed: Box<dyn Fn(Weight) -> String + 'a>,
    reason: &'static str,
    not_covered: Vec<String>,
    hosts: Vec<String>,
}

fn by_identity<'a>(question: &Question<'_>) -> Result<Cohort<'a>, Unsupported> {
    let clients = around::clients(question)?;
    let facts = json!({"clients": clients});
    let all = clients.len();
    let exposed = move |weight: Weight| {
        let chosen = callers::split(&clients, weight).0.join(", ");
        format!("Requests of these clients, by their verified identity: {chosen}.")
    };
    Ok(Cohort {
        facts,
        share: Box::new(move |weight| callers::nominal_share(weight, all)),
        exposed: Box::new(exposed),
        reason: "By the client's verified identity: each client is governed by exactly one whole version.",
        not_covered: vec![
            format!("The share is one of the {all} accounts that have a proxy, however much each calls."),
            "Clients without a proxy, and accounts that are new, are stable until 100 %.".to_owned(),
        ],
        hosts: Vec::new(),
    })
}

fn by_header<'a>(wanted: &HeaderMatch) -> Cohort<'a> {
    let words = wanted.in_words();
    Cohort {
        facts: json!({"header": header::of_audience(wanted)}),
        share: Box::new(|weight| weight),
        exposed: Box::new(move |_| format!("Requests {words}: all of them, whatever the weight.")),
        reason: "By a header: each request is governed by exactly one whole version.",
        not_covered: vec![
            "It is no share of the traffic: how many requests have the header nobody knows before.".to_owned(),
            "Callers can choose their version by sending the header: it is no boundary of security.".to_owned(),
        ],
        hosts: Vec::new(),
    }
}

fn by_weight<'a>(question: &Question<'_>, around: &around::Around<'_>) -> Result<Cohort<'a>, Unsupported> {
    let services = around.services(question)?;
    let names: Vec<_> = services.iter().map(|(name, port)| format!("{name}:{port}")).collect();
    let hosts = services.iter().map(|(name, _)| format!("{name}.{}.svc.cluster.local", question.target.namespace));
    let exposed = move |weight: Weight| {
        format!("Each request to Service {}, drawn anew, with a probability of {weight}.", names.join(" or "))
    };
    Ok(Cohort {
        facts: json!({"services": services}),
        share: Box::new(|weight| weight),
        exposed: Box::new(exposed),
        reason: "By a header that the caller's proxy draws for each request: each is governed by one whole version.",
        not_covered: vec![
            "It is not sticky: every request is drawn anew.".to_owned(),
            "Callers without a proxy, and those that call a pod past its Service, are stable until 100 %.".to_owned(),
            format!("Such callers could send {} themselves: it is no boundary of security.", world::COHORT_HEADER),
        ],
        hosts: hosts.collect(),
    })
}

/// The phases of a step.
pub(super) fn render(intent: &ExposureIntent) -> Result<Vec<Phase>, Unsupported> {
    let Some(world) = World::of(intent) else { return Err(direct::only_full()) };
    if intent.weight == Weight::FULL {
        return Ok(promote(&world));
    }
    let mut policies = helpers(world.policies());
    let own = step(&intent.target, world.stable_spec());
    let (canary, there) = world.canary_route();
    let canary = wanted((canary, there), |route| world.has_cohort() && !route.is_null());
    let routes =
        std::iter::once(canary).chain(world.outbound().into_iter().map(|route| wanted(route, |_| world.is_drawn())));
    let routes: Vec<_> = routes.collect();
    if policies.is_empty() {
        // Nothing must be there before the canary's route.
        return Ok(vec![Phase::Objects(std::iter::once(own).chain(routes).collect())]);
    }
    Ok(match world.rest() {
        Some(rest) => {
            // The new version first: see above.
            policies.push(own);
            [helpers(vec![rest]), policies, routes].map(Phase::Objects).into()
        }
        None => vec![Phase::Objects(std::iter::once(own).chain(policies).collect()), Phase::Objects(routes)],
    })
}

fn wanted((target, object): (Target, Value), is_there: impl Fn(&Value) -> bool) -> Desired {
    let wanted = if is_there(&object) { Wanted::Helper(object) } else { Wanted::Gone };
    Desired { target, wanted }
}

fn helpers(objects: Vec<(Target, Value)>) -> Vec<Desired> {
    objects.into_iter().map(|one| wanted(one, |_| true)).collect()
}

fn gone(objects: Vec<(Target, Value)>) -> Vec<Desired> {
    objects.into_iter().map(|one| wanted(one, |_| false)).collect()
}

/// What leads requests to the canary, from the callers on.
fn routes_gone(world: &World<'_>) -> Vec<Desired> {
    let mut routes = world.outbound();
    routes.push(world.canary_route());
    gone(routes)
}

/// The approved version for everybody, then away with what was for the cohort: the canary's route before its policies,
/// and few objects at once.
fn promote(world: &World<'_>) -> Vec<Phase> {
    let intent = world.intent;
    let approved = vec![approved(&intent.target, &intent.canary)];
    let mut policies = gone(world.policies());
    policies.extend(gone(world.rest().into_iter().collect()));
    let phases = [approved, routes_gone(world), policies].into_iter();
    phases.filter(|objects| !objects.is_empty()).map(Phase::Objects).collect()
}

/// The way back: the canary's route, then the versions, then the route for every path.
pub(super) fn undo(intent: &ExposureIntent) -> Vec<Phase> {
    let Some(world) = World::of(intent) else { return direct::undo(intent) };
    let mut policies = gone(world.policies());
    policies.push(baseline(&intent.target));
    let mut phases = vec![Phase::Objects(routes_gone(&world)), Phase::Objects(policies)];
    phases.extend(world.rest().map(|rest| Phase::Objects(gone(vec![rest]))));
    phases
}
