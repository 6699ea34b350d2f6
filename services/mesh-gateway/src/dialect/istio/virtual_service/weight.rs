//! By blended destination weights: `(1 - p) * stable + p * canary`, per destination.
//!
//! Exact only if where the routes send is all that differs. Each request is drawn anew, so two requests of one caller
//! can get different versions; of tcp and tls it is connections that are drawn. It is the only way to share tcp and tls
//! traffic.
//!
//! Two things were seen of connections through a real Envoy (1.40). Open ones stay where they are, but not for ever: each
//! step replaces the filter chain that they came through, and Envoy closes those of the old one when its drain time is
//! over. And a destination that a caller's Sidecar does not list is a cluster that its proxy has only as long as a route
//! sends there: when the last such route goes, the cluster is taken away first, and what comes in between is reset.

mod counted;

use meshward_model::{ExposurePlan, Mechanism, Weight};
use serde_json::{Value, json};

use super::{ALL_AT_ONCE, Pair, alternatives, differing_fields, routes};
use crate::dialect::{
    Planned, Unsupported,
    steps::{Wording, planned},
};

const PROTOCOLS: [&str; 3] = ["http", "tcp", "tls"];

pub(super) fn plan(pair: &Pair<'_>) -> Result<Planned, Unsupported> {
    check(pair.stable, pair.canary)?;
    let exposed = |weight: Weight| format!("Each request or connection, drawn anew, with a probability of {weight}.");
    let mechanism = Mechanism::Weight;
    let wording = Wording { mechanism, share: &|weight| weight, exposed: &exposed };
    let facts = pair.roots();
    let (metrics_target, told) = counted::counted(pair);
    let plan = ExposurePlan {
        mechanism,
        reason: "By blended weights: the versions differ only in where their routes send and how much.".to_owned(),
        steps: planned(pair.question, (&[], &facts), &wording, super::render)?,
        not_covered: not_covered(pair.stable, pair.canary, told),
        alternatives: alternatives(pair, mechanism),
        metrics_target,
    };
    Ok(Planned { facts, ..plan.into() })
}

/// Whether destinations are all that differs.
pub(super) fn check(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    let same = |name: &str| without_destinations(&stable[name]) == without_destinations(&canary[name]);
    let differing = differing_fields(stable, canary, "");
    let other = differing.iter().find(|name| !PROTOCOLS.contains(&name.as_str()) || !same(name));
    match other {
        None => Ok(()),
        Some(name) => Err(Unsupported::new(
            format!("the versions differ in more of spec.{name} than the destinations of equal routes in equal order"),
            format!("change only destinations and weights, or {ALL_AT_ONCE}"),
        )),
    }
}

fn without_destinations(routes: &Value) -> Value {
    let mut routes = routes.clone();
    for route in routes.as_array_mut().into_iter().flatten() {
        // Only where there is one: a redirect must stay a redirect.
        if let Some(destinations) = route.get_mut("route") {
            *destinations = Value::Null;
        }
    }
    routes
}

/// The spec of a step.
pub(in super::super) fn blend(stable: &Value, canary: &Value, weight: Weight) -> Value {
    let mut spec = canary.clone();
    for protocol in PROTOCOLS {
        for (index, old) in routes(stable, protocol).iter().enumerate() {
            let route = &mut spec[protocol][index];
            if route["route"] != old["route"] {
                route["route"] = blend_route(&old["route"], &route["route"], weight.fraction());
            }
        }
    }
    spec
}

/// One route's destinations, each with its weight of 10000. What both versions send to is one entry.
fn blend_route(stable: &Value, canary: &Value, share: f64) -> Value {
    let mut blended: Vec<(Value, f64)> = Vec::new();
    for (destinations, share) in [(stable, 1.0 - share), (canary, share)] {
        for (key, fraction) in fractions(destinations) {
            match blended.iter_mut().find(|(known, _)| *known == key) {
                Some((_, weight)) => *weight += share * fraction,
                None => blended.push((key, share * fraction)),
            }
        }
    }
    let entries = blended.into_iter().filter_map(|(mut entry, fraction)| {
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of 10000 is within 0 to 10000")]
        let weight = (fraction * 10_000.0).round() as i64;
        entry["weight"] = json!(weight);
        (weight > 0).then_some(entry)
    });
    entries.collect()
}

/// Each destination without its weight, and its share of the route. A single destination gets everything, whatever it
/// says; several get what their weight is of the total, which can be any number.
fn fractions(destinations: &Value) -> Vec<(Value, f64)> {
    let destinations = destinations.as_array().map_or(&[][..], Vec::as_slice);
    let weight = |entry: &Value| entry["weight"].as_f64().unwrap_or(0.0);
    let total: f64 = destinations.iter().map(weight).sum();
    let fraction = |entry: &Value| match destinations {
        [_] => 1.0,
        _ if total > 0.0 => weight(entry) / total,
        _ => 0.0,
    };
    let split = |entry: &Value| {
        let mut key = entry.clone();
        if let Some(fields) = key.as_object_mut() {
            fields.remove("weight");
        }
        (key, fraction(entry))
    };
    destinations.iter().map(split).collect()
}

/// What a plan must admit; `counted` is how its requests are told apart.
fn not_covered(stable: &Value, canary: &Value, counted: Vec<String>) -> Vec<String> {
    let mut sentences = vec!["It is not sticky: every request or connection is drawn anew.".to_owned()];
    sentences.extend(counted);
    if ["tcp", "tls"].iter().any(|protocol| stable[*protocol] != canary[*protocol]) {
        sentences.push(
            "Open connections stay with their destination until their proxy closes them, a drain time (drainDuration, 45 s \
             by default) after a step; only new ones are shared."
                .to_owned(),
        );
        sentences.push(
            "Where a caller's Sidecar does not list a destination, new connections to it can be reset in the moment in \
             which the last route to it goes: at the end, or on the way back."
                .to_owned(),
        );
    }
    sentences
}
