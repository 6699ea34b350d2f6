//! By request id: the canary's routes for the ids of the cohort, then the stable routes for all others.
//!
//! Putting the canary's routes in front is not enough: a request of the cohort that none of them matches would fall
//! through to the stable routes and be governed by a mixture. So every match of every route is narrowed, the canary's
//! by `headers` and the stable ones' by `withoutHeaders` with the same expression; a route without a match gets one.
//! Then a request can only ever meet the routes of one version, also where that version has no route for it.
//!
//! Every match also names its series: Envoy then counts requests by version without any other setting. A user's own
//! `statPrefix` gives way until the deployment ends.

use serde_json::{Value, json};

use super::{ALL_AT_ONCE, bindings, differing_fields, matches, routes};
use crate::dialect::{Question, Unsupported, istio::Cohort};

/// `statPrefix` of the canary's routes.
pub(in super::super) const CANARY_SERIES: &str = "canary";
/// `statPrefix` of the stable routes.
pub(in super::super) const STABLE_SERIES: &str = "stable";

const REQUEST_ID: &str = "x-request-id";
/// Where a match can speak of headers.
const HEADER_FIELDS: [&str; 2] = ["headers", "withoutHeaders"];

/// Whether the pair can be exposed like this.
pub(super) fn check(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    if routes(stable, "http").is_empty() && routes(canary, "http").is_empty() {
        return Err(Unsupported::new(
            "neither version has spec.http, and connections have no request id",
            "WEIGHT, if only destinations and weights differ",
        ));
    }
    let differing = differing_fields(stable, canary, "http");
    if !differing.is_empty() {
        let names = differing.iter().map(|name| format!("spec.{name}")).collect::<Vec<_>>().join(", ");
        return Err(Unsupported::new(
            format!("the versions differ in {names}, and a request id chooses only among spec.http"),
            format!("leave {names} as it is, or {ALL_AT_ONCE}"),
        ));
    }
    for (version, spec) in [("live", stable), ("new", canary)] {
        for (index, route) in routes(spec, "http").iter().enumerate() {
            check_route(version, index, route)?;
        }
    }
    Ok(())
}

/// Refuses a route that matches on the id itself.
pub(in super::super) fn check_route(version: &str, index: usize, route: &Value) -> Result<(), Unsupported> {
    for (number, one) in matches(route).iter().enumerate() {
        if let Some(field) = asks_for_the_id(one) {
            return Err(Unsupported::new(
                format!("spec.http[{index}].match[{number}].{field} of the {version} version uses {REQUEST_ID}"),
                format!("match another header, or {ALL_AT_ONCE}"),
            ));
        }
    }
    Ok(())
}

/// The field of a match that asks for the request id, if any does.
pub(super) fn asks_for_the_id(one: &Value) -> Option<&'static str> {
    let asks = |field: &str| {
        one[field].as_object().is_some_and(|map| map.keys().any(|name| name.eq_ignore_ascii_case(REQUEST_ID)))
    };
    HEADER_FIELDS.into_iter().find(|field| asks(field))
}

/// The spec of a step: each request is governed by exactly one version.
pub(super) fn compose(stable: &Value, canary: &Value, cohort: Cohort) -> Value {
    let Some(regex) = cohort.regex() else { return stable.clone() };
    let canary_routes = routes(canary, "http").iter().map(|route| narrow(route, "headers", &regex, CANARY_SERIES));
    let stable_routes =
        routes(stable, "http").iter().map(|route| narrow(route, "withoutHeaders", &regex, STABLE_SERIES));
    let mut spec = stable.clone();
    spec["http"] = canary_routes.chain(stable_routes).collect();
    spec
}

/// The route with each of its matches narrowed to the cohort (`headers`) or to everybody else (`withoutHeaders`).
pub(in super::super) fn narrow(route: &Value, field: &str, regex: &str, series: &str) -> Value {
    let everything = [json!({})];
    let matches = match matches(route) {
        [] => &everything,
        some => some,
    };
    let narrowed = matches.iter().map(|one| {
        let mut one = one.clone();
        one[field][REQUEST_ID] = json!({"regex": regex});
        one["statPrefix"] = series.into();
        one
    });
    let mut route = route.clone();
    route["match"] = narrowed.collect();
    route
}

/// What a plan must admit.
pub(super) fn not_covered(question: &Question<'_>, stable: &Value, canary: &Value) -> Vec<String> {
    let mut sentences = Vec::new();
    if bindings::is_bound_to_mesh(canary) {
        sentences.push("Callers without a sidecar are not governed by a VirtualService at all.".to_owned());
        sentences.push(
            "Callers in the mesh can choose their version: their sidecar keeps a request id that they send.".to_owned(),
        );
    }
    let mut both = routes(stable, "http").iter().chain(routes(canary, "http"));
    if both.clone().any(|route| ["directResponse", "redirect", "fault"].iter().any(|field| !route[*field].is_null())) {
        sentences.push(
            "Requests that are answered by a direct response, a redirect or an injected fault are not counted."
                .to_owned(),
        );
    }
    if both.any(|route| matches(route).iter().any(|one| !one["statPrefix"].is_null())) {
        sentences.push(format!(
            "The statPrefix of your routes is \"{CANARY_SERIES}\" or \"{STABLE_SERIES}\" until the deployment ends."
        ));
    }
    sentences.extend(bindings::hidden_behind(question.target, canary, question.neighbours));
    sentences
}
