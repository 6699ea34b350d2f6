//! VirtualServices that delegate routes to others, and those that are delegated to.
//!
//! Istio merges each match of a root's route with each match of the delegate's routes: their headers are united, and so
//! are `withoutHeaders`. A version that is narrowed to a cohort stays exact on either side, since both sides of a
//! merged match ask for the same. Three things would spoil it and are refused: a condition on the same header on the
//! other side (only one of the two would count), `ignoreUriCase` on the other side of a route that has no match yet (a
//! new match that does not ignore the case conflicts with it, and Istio drops the route), and a delegate that nobody
//! delegates to (nobody would be exposed).
//!
//! Seen in `pilot/pkg/model/virtualservice.go` of Istio 1.32: `mergeHTTPMatchRequests`, `hasConflict`.

use serde_json::{Value, json};

use super::{ALL_AT_ONCE, Pair, matches, narrow::asks_for, routes};
use crate::{
    apply::Marks,
    dialect::{Question, Unsupported},
    object::{full_name, is_of, spec},
};

/// Whether others delegate to an object: it has no hosts of its own.
pub(super) fn is_delegate(spec: &Value) -> bool {
    spec["hosts"].as_array().is_none_or(Vec::is_empty)
}

/// The VirtualServices that delegate to the target.
pub(super) fn roots<'a>(question: &Question<'a>) -> Vec<&'a Value> {
    let name = format!("{}/{}", question.target.namespace, question.target.name);
    let delegates = |other: &&Value| delegations(other).any(|(_, delegate)| delegate == name);
    question.neighbours.iter().filter(|other| !is_of(other, question.target)).filter(delegates).collect()
}

/// Whether any route delegates.
pub(super) fn delegates(spec: &Value) -> bool {
    routes(spec, "http").iter().any(|route| route["delegate"].is_object())
}

/// The routes of an object that delegate, each with "namespace/name" of the delegate.
fn delegations(object: &Value) -> impl Iterator<Item = (&Value, String)> {
    let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
    routes(spec(object), "http").iter().filter(|route| route["delegate"].is_object()).map(move |route| {
        let text = |field: &str| route["delegate"][field].as_str().filter(|text| !text.is_empty());
        (route, format!("{}/{}", text("namespace").unwrap_or(own), text("name").unwrap_or_default()))
    })
}

/// Whether both versions stay exact under the merge with those that they delegate to, or that delegate to them.
pub(super) fn check(pair: &Pair<'_>, header: &str) -> Result<(), Unsupported> {
    let Pair { question, stable, canary } = *pair;
    for version in [stable, canary] {
        let object = json!({"metadata": {"namespace": question.target.namespace}, "spec": version});
        for (route, name) in delegations(&object) {
            let Some(delegate) = question.neighbours.iter().find(|other| full_name(other) == name) else { continue };
            let others: Vec<_> = routes(spec(delegate), "http").iter().collect();
            check_pair(&[route], &others, &name, header)?;
            check_series(&others, &name)?;
        }
    }
    if !is_delegate(stable) {
        return Ok(());
    }
    let roots = roots(question);
    if roots.is_empty() {
        return Err(Unsupported::new(
            "the VirtualService has no hosts and none delegates to it, so nobody would be exposed",
            "let a VirtualService delegate to it, or release it all at once (mechanism NONE, 100 %)",
        ));
    }
    let own: Vec<_> = routes(stable, "http").iter().chain(routes(canary, "http")).collect();
    let target = format!("{}/{}", question.target.namespace, question.target.name);
    for root in roots {
        let delegating: Vec<_> =
            delegations(root).filter(|(_, delegate)| *delegate == target).map(|(route, _)| route).collect();
        check_pair(&own, &delegating, &full_name(root), header)?;
        check_siblings(question, root, &target)?;
    }
    Ok(())
}

/// The series of a root's matches counts only where the delegate's own have none.
fn check_series(others: &[&Value], other: &str) -> Result<(), Unsupported> {
    if others.iter().flat_map(|route| matches(route)).all(|one| one["statPrefix"].is_null()) {
        return Ok(());
    }
    Err(Unsupported::new(
        format!("VirtualService {other} has a statPrefix, so its requests would not be counted by version"),
        format!("leave it out there, or {ALL_AT_ONCE}"),
    ))
}

/// Proxies do not tell which delegate of a root a route comes from, so there is one deployment at a time.
fn check_siblings(question: &Question<'_>, root: &Value, target: &str) -> Result<(), Unsupported> {
    let names: Vec<_> = delegations(root).map(|(_, name)| name).filter(|name| name != target).collect();
    let is_under_way = |other: &&Value| names.contains(&full_name(other)) && Marks::of(other).is_some();
    match question.neighbours.iter().find(is_under_way) {
        None => Ok(()),
        Some(other) => Err(Unsupported::new(
            format!(
                "VirtualService {} is under a deployment, and {} delegates to both",
                full_name(other),
                full_name(root)
            ),
            "wait until that deployment has ended",
        )),
    }
}

/// Routes that are narrowed against those of the other side, which stay as they are.
fn check_pair(narrowed: &[&Value], others: &[&Value], other: &str, header: &str) -> Result<(), Unsupported> {
    let mut matches_of_others = others.iter().flat_map(|route| matches(route));
    if matches_of_others.clone().any(|one| asks_for(one, header).is_some()) {
        return Err(Unsupported::new(
            format!("VirtualService {other} matches {header}, and its matches are merged with those of this one"),
            format!("match another header there, end the deployment that it is under, or {ALL_AT_ONCE}"),
        ));
    }
    let gets_a_match = narrowed.iter().any(|route| matches(route).is_empty());
    if gets_a_match && matches_of_others.any(|one| one["ignoreUriCase"] == true) {
        return Err(Unsupported::new(
            format!("VirtualService {other} has a match with ignoreUriCase, and a route here has no match of its own"),
            format!("give each route here a match with ignoreUriCase in both versions, or {ALL_AT_ONCE}"),
        ));
    }
    Ok(())
}
