//! Two versions in one object, told apart by a header of the request: the canary's routes for the requests that have
//! it, then the stable routes for all others.
//!
//! Putting the canary's routes in front is not enough: a request of the canary's that none of them matches would fall
//! through to the stable routes and be governed by a mixture. So every match of every route is narrowed, the canary's
//! by `headers` and the stable ones' by `withoutHeaders` with the same condition; a route without a match gets one.
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

/// The header with a request's id.
pub(in super::super) const REQUEST_ID: &str = "x-request-id";
/// Where a match can speak of headers.
const HEADER_FIELDS: [&str; 2] = ["headers", "withoutHeaders"];

/// What the canary's requests have and all others have not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Condition {
    /// The header's name.
    pub(super) header: String,
    /// What Istio holds it against, a `StringMatch` that no missing header fits.
    pub(super) value: Value,
}

impl Condition {
    /// One of the ids of a cohort; `None` for nobody.
    pub(in super::super) fn of_ids(cohort: Cohort) -> Option<Self> {
        Some(Self { header: REQUEST_ID.to_owned(), value: json!({"regex": cohort.regex()?}) })
    }
}

/// Whether only routes of requests differ, and none of them asks for the header itself.
pub(super) fn check(stable: &Value, canary: &Value, header: &str) -> Result<(), Unsupported> {
    check_only_http(stable, canary)?;
    for (version, spec) in [("live", stable), ("new", canary)] {
        for (index, route) in routes(spec, "http").iter().enumerate() {
            check_route(version, index, route, header)?;
        }
    }
    Ok(())
}

/// Whether routes of requests are all that differs.
pub(super) fn check_only_http(stable: &Value, canary: &Value) -> Result<(), Unsupported> {
    if routes(stable, "http").is_empty() && routes(canary, "http").is_empty() {
        return Err(Unsupported::new(
            "neither version has spec.http, and connections have no headers and no request id",
            "WEIGHT, if only destinations and weights differ",
        ));
    }
    let differing = differing_fields(stable, canary, "http");
    if differing.is_empty() {
        return Ok(());
    }
    let names = differing.iter().map(|name| format!("spec.{name}")).collect::<Vec<_>>().join(", ");
    Err(Unsupported::new(
        format!("the versions differ in {names}, and here only spec.http is chosen among"),
        format!("leave {names} as it is, or {ALL_AT_ONCE}"),
    ))
}

/// Refuses a route that matches on the header itself.
pub(in super::super) fn check_route(
    version: &str,
    index: usize,
    route: &Value,
    header: &str,
) -> Result<(), Unsupported> {
    for (number, one) in matches(route).iter().enumerate() {
        if let Some(field) = asks_for(one, header) {
            return Err(Unsupported::new(
                format!("spec.http[{index}].match[{number}].{field} of the {version} version uses {header}"),
                format!("match another header, or {ALL_AT_ONCE}"),
            ));
        }
    }
    Ok(())
}

/// The field of a match that asks for a header, if any does.
pub(super) fn asks_for(one: &Value, header: &str) -> Option<&'static str> {
    let asks = |field: &str| {
        one[field].as_object().is_some_and(|map| map.keys().any(|name| name.eq_ignore_ascii_case(header)))
    };
    HEADER_FIELDS.into_iter().find(|field| asks(field))
}

/// The spec of a step: each request is governed by exactly one version.
pub(super) fn compose(stable: &Value, canary: &Value, condition: &Condition) -> Value {
    let canary_routes = routes(canary, "http").iter().map(|route| narrow(route, "headers", condition, CANARY_SERIES));
    let stable_routes =
        routes(stable, "http").iter().map(|route| narrow(route, "withoutHeaders", condition, STABLE_SERIES));
    let mut spec = stable.clone();
    spec["http"] = canary_routes.chain(stable_routes).collect();
    spec
}

/// The route with each of its matches narrowed to the canary's requests (`headers`) or to all others
/// (`withoutHeaders`).
pub(in super::super) fn narrow(route: &Value, field: &str, condition: &Condition, series: &str) -> Value {
    with_each_match(route, |one| {
        one[field][condition.header.as_str()] = condition.value.clone();
        one["statPrefix"] = series.into();
    })
}

/// The route with each of its matches changed; one that has none gets one.
pub(super) fn with_each_match(route: &Value, change: impl Fn(&mut Value)) -> Value {
    let everything = [json!({})];
    let matches = match matches(route) {
        [] => &everything,
        some => some,
    };
    let changed = matches.iter().map(|one| {
        let mut one = one.clone();
        change(&mut one);
        one
    });
    let mut route = route.clone();
    route["match"] = changed.collect();
    route
}

/// What a plan must admit of how requests are counted, and of who is not governed.
pub(super) fn not_covered(question: &Question<'_>, stable: &Value, canary: &Value) -> Vec<String> {
    let mut sentences = Vec::new();
    if bindings::is_bound_to_mesh(canary) {
        sentences.push("Callers without a sidecar are not governed by a VirtualService at all.".to_owned());
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
