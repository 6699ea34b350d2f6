//! Routes that never get a request, because those before take them; and patches and retries that do not do what they say.

use std::collections::HashMap;

use super::common::nanoseconds;
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
};

/// Texts that a match may have, each as `exact`, `prefix` or `regex`.
const TEXTS: [&str; 4] = ["uri", "scheme", "method", "authority"];
/// Mappings of names to such texts.
const MAPS: [&str; 2] = ["headers", "queryParams"];
/// Fields that must be the same in both.
const SAME: [&str; 6] = ["withoutHeaders", "port", "sourceLabels", "sourceNamespace", "gateways", "ignoreUriCase"];

/// All routes of one protocol.
pub(super) fn check(routes: &[Field<'_>]) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut first: HashMap<String, usize> = HashMap::new();
    let mut open: Option<usize> = None;
    for (index, route) in routes.iter().enumerate() {
        let matches = route.get("match").items();
        if let Some(before) = open {
            let message = format!("{} takes every request, so this route is never used", routes[before].path());
            hits.push(
                Hit::new(rule::VS_UNREACHABLE, route.path(), message).suggest("put the route without a match last"),
            );
        } else {
            let repeated = repeated(routes, index, &matches, &mut first, &mut hits);
            if repeated > 0 && repeated == matches.len() {
                let message = "earlier routes have all of these matches, so this route is never used";
                hits.push(Hit::new(rule::VS_UNREACHABLE, route.path(), message).suggest("remove the route"));
            }
        }
        if matches.is_empty() {
            open.get_or_insert(index);
        }
    }
    hits.extend(overlaps(routes));
    hits
}

/// Counts the matches that an earlier route has too, and reports each.
fn repeated(
    routes: &[Field<'_>],
    index: usize,
    matches: &[Field<'_>],
    first: &mut HashMap<String, usize>,
    hits: &mut Vec<Hit>,
) -> usize {
    let mut repeated = 0;
    for item in matches {
        let before = *first.entry(text(item)).or_insert(index);
        if before < index
            || matches.iter().take_while(|other| other.path() != item.path()).any(|other| text(other) == text(item))
        {
            let message = format!("{} has the same match and comes first", routes[before].path());
            hits.push(Hit::new(rule::VS_OVERLAP, item.path(), message).suggest("remove the match"));
            repeated += 1;
        }
    }
    repeated
}

/// A match without its name, to be compared.
fn text(item: &Field<'_>) -> String {
    let mut value = item.value().cloned().unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("name");
    }
    value.to_string()
}

/// Matches that are within an earlier one. If that holds for all matches of a route, the route is dead.
fn overlaps(routes: &[Field<'_>]) -> Vec<Hit> {
    /// More pairs than any hand has written; beyond, a text of 1 MiB would be compared for seconds.
    const MOST: usize = 300;
    let mut earlier: Vec<Field<'_>> = Vec::new();
    let mut hits = Vec::new();
    for route in routes.iter().take(MOST) {
        let matches = route.get("match").items();
        let others = earlier.len();
        let mut dead = Vec::new();
        for item in &matches {
            let covering = |before: &&Field<'_>| text(before) != text(item) && covers(before, item);
            if let Some((at, before)) = earlier.iter().enumerate().find(|(_, before)| covering(before)) {
                let message = format!("{} takes every request that this match does, and comes first", before.path());
                hits.push(Hit::new(rule::VS_OVERLAP, item.path(), message).suggest("put the narrower match first"));
                dead.extend((at < others).then(|| before.path().to_string()));
            }
            if earlier.len() < MOST {
                earlier.push(item.clone());
            }
        }
        if let Some(before) = dead.first().filter(|_| dead.len() == matches.len()) {
            let message = format!("{before} and what comes before take all its requests, so this route is never used");
            hits.push(Hit::new(rule::VS_DEAD_ROUTE, route.path(), message).suggest("put the narrower route first"));
        }
    }
    hits
}

/// Whether a route takes every request of another that comes after it.
pub(in crate::rules) fn takes_all_of(before: &Field<'_>, route: &Field<'_>) -> bool {
    let (wide, narrow) = (before.get("match").items(), route.get("match").items());
    if wide.is_empty() {
        return true;
    }
    let everything = |item: &Field<'_>| {
        item.entries()
            .iter()
            .all(|(name, field)| *name == "name" || (*name == "uri" && field.get("prefix").text() == "/"))
    };
    if narrow.is_empty() {
        return wide.iter().any(everything);
    }
    narrow.iter().all(|item| wide.iter().any(|before| covers(before, item)))
}

/// Whether every request of `inner` is one of `outer`, as far as that can be told.
fn covers(outer: &Field<'_>, inner: &Field<'_>) -> bool {
    let text = |name: &&str| holds(&outer.get(name), &inner.get(name));
    let map = |name: &&str| {
        let own = inner.get(name);
        outer.get(name).entries().iter().all(|(key, wanted)| own.get(key).is_set() && holds(wanted, &own.get(key)))
    };
    let same = |name: &&str| !outer.get(name).is_set() || outer.get(name).value() == inner.get(name).value();
    TEXTS.iter().all(text) && MAPS.iter().all(map) && SAME.iter().all(same)
}

/// Whether every text that `inner` matches is matched by `outer`; an absent match matches everything.
fn holds(outer: &Field<'_>, inner: &Field<'_>) -> bool {
    if !outer.is_set() {
        return true;
    }
    let get = |field: &Field<'_>, name: &str| field.get(name).as_text().map(str::to_owned);
    let (exact, prefix) = (get(inner, "exact"), get(inner, "prefix"));
    if let Some(wanted) = get(outer, "exact") {
        return exact == Some(wanted);
    }
    if let Some(wanted) = get(outer, "prefix") {
        return exact.or(prefix).is_some_and(|own| own.starts_with(&wanted));
    }
    let Some(pattern) = get(outer, "regex") else { return outer.entries().is_empty() };
    if get(inner, "regex").as_ref() == Some(&pattern) || [".*", "/.*", ".+"].contains(&pattern.as_str()) {
        return true;
    }
    // Envoy's expressions have to match the whole text.
    let whole = || regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 18).build().ok();
    exact.is_some_and(|own| whole().is_some_and(|expression| expression.is_match(&own)))
        || prefix.is_some_and(|own| {
            pattern.strip_suffix(".*").is_some_and(|start| regex::escape(start) == start && own.starts_with(start))
        })
}

/// Retries that the timeout ends before they are done.
pub(super) fn retries(route: &Field<'_>) -> Option<Hit> {
    let retries = route.get("retries");
    let (each, whole) = (retries.get("perTryTimeout"), route.get("timeout"));
    let attempts = i128::from(retries.get("attempts").integer()?);
    let (each_time, whole_time) = (nanoseconds(each.text())?, nanoseconds(whole.text())?);
    if attempts <= 0 || whole_time <= 0 || each_time * (attempts + 1) <= whole_time {
        return None;
    }
    let message = format!(
        "{} tries of {} need up to {} times as long, but the timeout of {} ends them",
        attempts + 1,
        quote(each.text()),
        attempts + 1,
        quote(whole.text())
    );
    Some(
        Hit::new(rule::VS_RETRY_TIME, each.path(), message)
            .suggest("raise timeout, or lower attempts or perTryTimeout"),
    )
}
