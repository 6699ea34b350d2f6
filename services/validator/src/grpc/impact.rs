//! AnalyzeImpact: texts and edges in, what would change out.

mod edge;
mod mesh;

use meshward_model::Finding;
use meshward_proto::{
    ConvertError, from_duration,
    validator::v1::{
        AnalyzeImpactRequest, AnalyzeImpactResponse, EdgeImpact, EffectSum, ObservedTraffic, RouteImpact, TrafficEdge,
        TrafficEffect,
    },
};
use serde_json::{Value, json};

use crate::{
    access::{Policy, TrustDomains},
    app,
    error::Error,
    impact::{self, Edge, routes},
    live::View,
    ports::traffic::{Observation, Observed},
    report::Findings,
    routing::{self, VirtualService},
    schema::Catalogue,
    text,
};

const MOST_EDGES: usize = 10_000;
const MOST_TEXTS: usize = 100;
/// When an object that is not there yet will have been made: after all others.
const LAST: &str = "9999-12-31T23:59:59Z";

/// Refuses what is too much or has no meaning.
pub(super) fn check(request: &AnalyzeImpactRequest) -> Result<(), Error> {
    let texts = request.context.as_ref().map_or(0, |context| context.yaml.len());
    let namespaces = request.observed.as_ref().map(|observed| observed.namespaces.len());
    if namespaces == Some(0) {
        let problem = "name those of the services that are called; \"*\" = all".to_owned();
        return Err(Error::Request { field: "observed.namespaces", problem });
    }
    for (field, count, most) in [
        ("edges", request.edges.len(), MOST_EDGES),
        ("context.yaml", texts, MOST_TEXTS),
        ("removed", request.removed.len(), MOST_TEXTS),
    ] {
        if count > most {
            return Err(Error::Request { field, problem: format!("{count}, and at most {most} are taken") });
        }
    }
    request.edges.iter().try_for_each(edge::check)
}

/// Which traffic a request wants to be read; none if it brings all of it.
pub(super) fn observation(request: &AnalyzeImpactRequest) -> Result<Option<Observation>, Error> {
    let Some(ObservedTraffic { namespaces, window }) = request.observed.clone() else { return Ok(None) };
    let refused = |error: ConvertError| Error::Request { field: "observed.window", problem: error.problem };
    let window = window.map(|window| from_duration("observed.window", window)).transpose().map_err(refused)?;
    Ok(Some(Observation { cluster: request.cluster.clone(), namespaces, window }))
}

/// Objects as they are, or as they shall be.
#[derive(Default)]
struct Objects(Vec<Value>);

impl Objects {
    fn policies(&self, trust: &TrustDomains, skipped: &mut Vec<String>) -> Vec<Policy> {
        let mut read = Vec::new();
        for object in self.0.iter().filter(|object| impact::is_policy(object)) {
            match Policy::new(object, trust) {
                Ok(policy) => read.push(policy),
                Err(invalid) if skipped.contains(&invalid.to_string()) => {}
                Err(invalid) => skipped.push(invalid.to_string()),
            }
        }
        read
    }

    fn find(&self, other: &Value) -> Option<&Value> {
        self.0.iter().find(|object| is_same(object, other))
    }
}

/// What the change means. Pure.
pub(super) fn analyze(
    request: AnalyzeImpactRequest,
    view: Option<View>,
    observed: Observed,
    catalogue: &Catalogue,
) -> AnalyzeImpactResponse {
    let mut skipped: Vec<String> = view.iter().flat_map(|view| view.gaps.iter().cloned()).collect();
    skipped.extend(observed.gaps);
    let mut findings: Vec<Finding> = Vec::new();
    let mut changed = Objects::default();
    if !request.yaml.is_empty() {
        let report = app::validate(request.yaml.as_bytes(), &request.cluster, catalogue);
        findings.extend(report.findings);
        skipped.extend(report.skipped);
        for object in report.objects {
            match is_told(&object.value) {
                true => changed.0.push(object.value),
                false => skipped.push(format!(
                    "{}: only AuthorizationPolicies and VirtualServices of Istio are evaluated",
                    object.target
                )),
            }
        }
    }
    let context = around(&request, view, &mut findings);
    let before = Objects(context.0.iter().filter(|object| is_told(object)).cloned().collect());
    let after = after(&request, &before, changed);
    let mesh = mesh::Mesh::among(&context.0);
    let mut edges: Vec<_> = request.edges.iter().map(edge::read).collect();
    let mut all = request.edges;
    let room = MOST_EDGES - all.len();
    if observed.edges.len() > room {
        skipped.push(format!(
            "traffic: {} more edges were seen, and there is no room for them",
            observed.edges.len() - room
        ));
    }
    let mut workloads = edge::Workloads::default();
    for seen in observed.edges.into_iter().take(room) {
        let (told, read) = edge::seen(seen, &mut workloads, &context.0);
        edges.push(read);
        all.push(told);
    }
    skipped.extend(mesh.lack(&edges).map(str::to_owned));
    let [now, then] = [&before, &after].map(|objects| objects.policies(&mesh.trust, &mut skipped));
    let access = impact::analyze(&now, &then, mesh.root(&request.root_namespace), &edges);
    let routes = changed_routes(&before, &after, &edges);
    let is_access = routes.is_none() || differ(&before, &after, impact::is_policy);
    let summaries =
        is_access.then(|| access.summary()).into_iter().chain(routes.as_ref().map(routes::RouteImpact::summary));
    let (mut services, mut namespaces) = (access.services, access.namespaces);
    if let Some(impact) = &routes {
        services.extend(impact.services.iter().cloned());
        namespaces.extend(impact.namespaces.iter().cloned());
    }
    AnalyzeImpactResponse {
        findings: findings.into_iter().map(Into::into).collect(),
        summary: summaries.collect::<Vec<_>>().join(" "),
        denied: count(access.denied),
        allowed: count(access.allowed),
        undecided: count(access.undecided),
        requests_per_second: access.all.rate,
        denied_requests_per_second: access.denied.rate,
        allowed_requests_per_second: access.allowed.rate,
        undecided_requests_per_second: access.undecided.rate,
        services: services.into_iter().collect(),
        namespaces: namespaces.into_iter().collect(),
        affected: access.affected.into_iter().map(|affected| of_access(affected, &all)).collect(),
        skipped,
        routes: routes.map(|routes| of_routes(routes, &all)),
    }
}

fn count(sum: impact::Sum) -> i32 {
    i32::try_from(sum.edges).unwrap_or(i32::MAX)
}

/// Whether the impact of an object is told.
fn is_told(object: &Value) -> bool {
    impact::is_policy(object) || routing::is_virtual_service(object)
}

/// Whether two objects are one.
fn is_same(one: &Value, other: &Value) -> bool {
    one["kind"] == other["kind"]
        && ["namespace", "name"].iter().all(|field| one["metadata"][*field] == other["metadata"][*field])
}

/// The objects of a context and those that are live; what keeps texts from being read is told.
fn around(request: &AnalyzeImpactRequest, view: Option<View>, findings: &mut Vec<Finding>) -> Objects {
    let mut objects = Objects::default();
    for text in request.context.iter().flat_map(|context| &context.yaml) {
        let mut of_text = Findings::default();
        let documents = text::load(text.as_bytes(), &mut of_text);
        objects.0.extend(documents.into_iter().map(|document| document.value));
        findings.extend(of_text.into_sorted());
    }
    // Others than these are of no use here, and a cluster has many.
    let is_used =
        |object: &&Value| is_told(object) || ["Service", "Pod", "ConfigMap"].iter().any(|kind| object["kind"] == *kind);
    let live = view.iter().flat_map(|view| view.known.in_force()).filter(is_used);
    let live: Vec<_> = live.filter(|object| objects.find(object).is_none()).cloned().collect();
    objects.0.extend(live);
    objects
}

/// The objects when the change is made.
fn after(request: &AnalyzeImpactRequest, before: &Objects, changed: Objects) -> Objects {
    let is_removed = |object: &Value| {
        request.removed.iter().any(|removed| {
            object["kind"] == *removed.kind
                && object["metadata"]["namespace"] == *removed.namespace
                && object["metadata"]["name"] == *removed.name
        })
    };
    let kept = before.0.iter().filter(|object| changed.find(object).is_none() && !is_removed(object));
    let kept: Vec<_> = kept.cloned().collect();
    let mut after = changed;
    for object in &mut after.0 {
        // A change keeps the age of what it changes; what is new is the youngest.
        let created =
            before.find(object).map_or_else(|| json!(LAST), |old| old["metadata"]["creationTimestamp"].clone());
        object["metadata"]["creationTimestamp"] = created;
    }
    after.0.extend(kept);
    after
}

/// Whether objects of a kind are not the same before and after.
fn differ(before: &Objects, after: &Objects, is_kind: fn(&Value) -> bool) -> bool {
    let lack = |one: &Objects, other: &Objects| {
        one.0.iter().any(|object| is_kind(object) && other.find(object) != Some(object))
    };
    lack(before, after) || lack(after, before)
}

/// What happens to routes; none if no VirtualService changes.
fn changed_routes(before: &Objects, after: &Objects, edges: &[Edge]) -> Option<routes::RouteImpact> {
    differ(before, after, routing::is_virtual_service)
        .then(|| routes::analyze(&VirtualService::all(&before.0), &VirtualService::all(&after.0), edges))
}

fn of_access(affected: impact::Affected, edges: &[TrafficEdge]) -> EdgeImpact {
    let effect = match affected.effect {
        impact::Effect::Denied => TrafficEffect::Denied,
        impact::Effect::Allowed => TrafficEffect::Allowed,
        impact::Effect::Undecided => TrafficEffect::Undecided,
    };
    let edge = edges.get(affected.edge).cloned();
    EdgeImpact { edge, effect: effect.into(), reason: affected.reason, share: 1.0 }
}

fn of_routes(impact: routes::RouteImpact, edges: &[TrafficEdge]) -> RouteImpact {
    let affected = impact.affected.into_iter().map(|one| EdgeImpact {
        edge: edges.get(one.edge).cloned(),
        effect: route_effect(one.change.effect).into(),
        reason: one.reason,
        share: one.change.share,
    });
    let effects = impact.effects.iter().map(|(effect, sum)| EffectSum {
        effect: route_effect(*effect).into(),
        edges: count(*sum),
        requests_per_second: sum.rate,
    });
    RouteImpact {
        affected: affected.collect(),
        changed: count(impact.changed),
        changed_requests_per_second: impact.changed.rate,
        effects: effects.collect(),
    }
}

fn route_effect(effect: routing::Effect) -> TrafficEffect {
    match effect {
        routing::Effect::NoRoute => TrafficEffect::NoRoute,
        routing::Effect::Aborted => TrafficEffect::Aborted,
        routing::Effect::Answered => TrafficEffect::Answered,
        routing::Effect::Redirected => TrafficEffect::Redirected,
        routing::Effect::Undecided => TrafficEffect::Undecided,
        routing::Effect::Moved => TrafficEffect::Moved,
        routing::Effect::Restored => TrafficEffect::Restored,
        routing::Effect::Settings => TrafficEffect::Settings,
    }
}
