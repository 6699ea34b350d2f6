//! AnalyzeImpact: texts and edges in, what would change out.

use meshward_model::Finding;
use meshward_proto::validator::v1::{
    AnalyzeImpactRequest, AnalyzeImpactResponse, EdgeImpact, TrafficEdge, TrafficEffect,
};
use serde_json::Value;

use crate::{
    access::{Call, Fact, Policy, Workload},
    app,
    error::Error,
    impact::{self, Edge, Effect},
    live::View,
    report::Findings,
    schema::Catalogue,
    text,
};

const MOST_EDGES: usize = 10_000;
const MOST_TEXTS: usize = 100;
/// Where policies for the whole mesh lie, unless the mesh was set up otherwise.
const ROOT_NAMESPACE: &str = "istio-system";

/// Refuses what is too much or has no meaning.
pub(super) fn check(request: &AnalyzeImpactRequest) -> Result<(), Error> {
    let texts = request.context.as_ref().map_or(0, |context| context.yaml.len());
    for (field, count, most) in [
        ("edges", request.edges.len(), MOST_EDGES),
        ("context.yaml", texts, MOST_TEXTS),
        ("removed", request.removed.len(), MOST_TEXTS),
    ] {
        if count > most {
            return Err(Error::Request { field, problem: format!("{count}, and at most {most} are taken") });
        }
    }
    let bad_port = |edge: &&TrafficEdge| u16::try_from(edge.destination_port).is_err();
    if let Some(edge) = request.edges.iter().find(bad_port) {
        let problem = format!("{} is no port (1 to 65535; 0 = not known)", edge.destination_port);
        return Err(Error::Request { field: "edges.destination_port", problem });
    }
    let bad_rate = |edge: &&TrafficEdge| !edge.requests_per_second.is_finite() || edge.requests_per_second < 0.0;
    if let Some(edge) = request.edges.iter().find(bad_rate) {
        let problem = format!("{} is no rate", edge.requests_per_second);
        return Err(Error::Request { field: "edges.requests_per_second", problem });
    }
    Ok(())
}

/// What the change means. Pure.
pub(super) fn analyze(
    request: AnalyzeImpactRequest,
    view: Option<View>,
    catalogue: &Catalogue,
) -> AnalyzeImpactResponse {
    let mut skipped: Vec<String> = view.iter().flat_map(|view| view.gaps.iter().cloned()).collect();
    let mut findings: Vec<Finding> = Vec::new();
    let mut after = Vec::new();
    if !request.yaml.is_empty() {
        let report = app::validate(request.yaml.as_bytes(), &request.cluster, catalogue);
        findings.extend(report.findings);
        for object in report.objects {
            match impact::is_policy(&object.value) {
                true => after.push(object.value),
                false => skipped.push(format!("{}: only AuthorizationPolicies of Istio are evaluated", object.target)),
            }
        }
    }
    let mut before = in_force(request.context.iter().flat_map(|context| &context.yaml), &mut findings);
    let live = view.iter().flat_map(|view| view.objects.iter()).filter(|object| impact::is_policy(object));
    let live: Vec<_> = live.filter(|object| !before.iter().any(|sent| is_same(sent, object))).cloned().collect();
    before.extend(live);
    let is_replaced = |object: &Value| {
        let is_removed = request.removed.iter().any(|removed| {
            removed.kind == "AuthorizationPolicy"
                && object["metadata"]["namespace"] == *removed.namespace
                && object["metadata"]["name"] == *removed.name
        });
        after.iter().any(|other| is_same(other, object)) || is_removed
    };
    let kept: Vec<_> = before.iter().filter(|object| !is_replaced(object)).cloned().collect();
    after.extend(kept);
    let before = policies(&before, &mut skipped);
    let after = policies(&after, &mut skipped);
    let root = if request.root_namespace.is_empty() { ROOT_NAMESPACE } else { &request.root_namespace };
    let edges: Vec<_> = request.edges.iter().map(edge).collect();
    let impact = impact::analyze(&before, &after, root, &edges);
    let count = |sum: impact::Sum| i32::try_from(sum.edges).unwrap_or(i32::MAX);
    AnalyzeImpactResponse {
        findings: findings.into_iter().map(Into::into).collect(),
        summary: impact.summary(),
        denied: count(impact.denied),
        allowed: count(impact.allowed),
        undecided: count(impact.undecided),
        requests_per_second: impact.all.rate,
        denied_requests_per_second: impact.denied.rate,
        allowed_requests_per_second: impact.allowed.rate,
        undecided_requests_per_second: impact.undecided.rate,
        services: impact.services.into_iter().collect(),
        namespaces: impact.namespaces.into_iter().collect(),
        affected: impact.affected.into_iter().map(|affected| told(affected, &request.edges)).collect(),
        skipped,
    }
}

/// Whether two policies are one object.
fn is_same(one: &Value, other: &Value) -> bool {
    ["namespace", "name"].iter().all(|field| one["metadata"][*field] == other["metadata"][*field])
}

/// The policies of a context; what keeps its texts from being read is told.
fn in_force<'a>(texts: impl Iterator<Item = &'a String>, findings: &mut Vec<Finding>) -> Vec<Value> {
    let mut objects = Vec::new();
    for text in texts {
        let mut of_text = Findings::default();
        let documents = text::load(text.as_bytes(), &mut of_text);
        objects.extend(documents.into_iter().map(|document| document.value).filter(impact::is_policy));
        findings.extend(of_text.into_sorted());
    }
    objects
}

fn policies(objects: &[Value], skipped: &mut Vec<String>) -> Vec<Policy> {
    let mut read = Vec::new();
    for object in objects {
        match Policy::new(object) {
            Ok(policy) => read.push(policy),
            Err(invalid) if skipped.contains(&invalid.to_string()) => {}
            Err(invalid) => skipped.push(invalid.to_string()),
        }
    }
    read
}

fn edge(edge: &TrafficEdge) -> Edge {
    let known = |text: &String| if text.is_empty() { Fact::Unknown } else { Fact::Known(text.clone()) };
    let labels = edge.destination_labels.iter().map(|(key, value)| (key.clone(), value.clone()));
    Edge {
        workload: Workload { namespace: edge.destination_namespace.clone(), labels: labels.collect() },
        service: edge.destination_service.clone(),
        call: Call {
            principal: if edge.source_principal == "-" { Fact::Absent } else { known(&edge.source_principal) },
            port: match u16::try_from(edge.destination_port) {
                Ok(port) if port > 0 => Fact::Known(port),
                _ => Fact::Unknown,
            },
            method: known(&edge.method),
            path: known(&edge.path),
            host: known(&edge.host),
            ..Call::default()
        },
        rate: edge.requests_per_second,
    }
}

fn told(affected: impact::Affected, edges: &[TrafficEdge]) -> EdgeImpact {
    let effect = match affected.effect {
        Effect::Denied => TrafficEffect::Denied,
        Effect::Allowed => TrafficEffect::Allowed,
        Effect::Undecided => TrafficEffect::Undecided,
    };
    EdgeImpact { edge: edges.get(affected.edge).cloned(), effect: effect.into(), reason: affected.reason }
}
