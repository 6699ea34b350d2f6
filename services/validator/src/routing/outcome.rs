//! What becomes of a request on a route, and what differs between two such outcomes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Request;
use crate::world::host;

/// Fields of a route that say where a request goes, or that are no setting of it.
const NO_SETTINGS: [&str; 7] = ["match", "name", "route", "redirect", "directResponse", "delegate", "fault"];
/// Shares that are the same but for rounding.
const NOTHING: f64 = 1e-9;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Goes {
    /// To these destinations ("cart.shop.svc.cluster.local subset v2"), with these shares, which sum to 1.
    To(BTreeMap<String, f64>),
    /// Back to the client, to ask elsewhere.
    Redirected(String),
    /// Nowhere: the proxy answers with this status.
    Answered(u64),
    /// Nowhere: no route takes it, which is a 404 (for a connection, its end).
    NoRoute,
    /// It cannot be told.
    Unknown,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Where it goes, unless a fault aborts it.
    pub goes: Goes,
    /// The share (0 to 1) that a fault aborts, and with which status.
    pub abort: Option<(f64, String)>,
    /// What else the route sets: timeout, retries, mirrors, headers…
    settings: Map<String, Value>,
}

/// What a change does to requests, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// They get a 404 that found a route before.
    NoRoute,
    /// A fault aborts them.
    Aborted,
    /// The proxy answers them itself.
    Answered,
    /// They are redirected.
    Redirected,
    /// It cannot be told.
    Undecided,
    /// They go to other destinations.
    Moved,
    /// They reach a destination that got none before.
    Restored,
    /// They go where they went, with other settings.
    Settings,
}

/// What a change does to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The worst of it.
    pub effect: Effect,
    /// The share of such requests that it is true of, 0 to 1.
    pub share: f64,
    /// The fields of the route that have other values, by name.
    pub settings: Vec<String>,
}

impl Outcome {
    fn plain(goes: Goes) -> Self {
        Self { goes, abort: None, settings: Map::new() }
    }

    pub(super) fn unknown() -> Self {
        Self::plain(Goes::Unknown)
    }

    pub(super) fn no_route() -> Self {
        Self::plain(Goes::NoRoute)
    }

    /// Without a VirtualService: to the host itself; a gateway knows none then.
    pub(super) fn default_of(request: &Request) -> Self {
        match request.is_at_gateway() {
            true => Self::no_route(),
            false => Self::plain(Goes::To([(request.host.clone(), 1.0)].into())),
        }
    }

    /// What a route of an object in this namespace does.
    pub(super) fn of_route(route: &Value, namespace: &str, request: &Request) -> Self {
        let mut settings: Map<String, Value> = route.as_object().cloned().unwrap_or_default();
        settings.retain(|name, value| !NO_SETTINGS.contains(&name.as_str()) && !value.is_null());
        let mut insert = |name: &str, value: &Value| {
            if !value.is_null() {
                settings.insert(name.to_owned(), value.clone());
            }
        };
        insert("fault.delay", &route["fault"]["delay"]);
        let headers = |to: &Value| (!to["headers"].is_null()).then(|| json!([to["destination"], to["headers"]]));
        let of_destinations: Vec<_> = list(&route["route"]).iter().filter_map(headers).collect();
        if !of_destinations.is_empty() {
            insert("route.headers", &Value::Array(of_destinations));
        }
        Self { goes: goes(route, namespace, request), abort: abort(&route["fault"]["abort"]), settings }
    }

    pub(super) fn may_reach(&self, host: &str) -> bool {
        let is_at = |place: &String| {
            place.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ' ']))
        };
        match &self.goes {
            Goes::To(places) => places.keys().any(is_at),
            Goes::Unknown => true,
            Goes::Redirected(_) | Goes::Answered(_) | Goes::NoRoute => false,
        }
    }

    /// What becomes of which share of the requests.
    fn fates(&self) -> BTreeMap<Fate, f64> {
        let (aborted, status) = self.abort.clone().unwrap_or_default();
        let mut fates = BTreeMap::new();
        let mut add = |fate, share: f64| {
            if share > NOTHING {
                *fates.entry(fate).or_default() += share;
            }
        };
        add(Fate::Aborted(status), aborted);
        let left = 1.0 - aborted;
        match &self.goes {
            Goes::To(places) => {
                for (place, share) in places {
                    add(Fate::Reaches(place.clone()), left * share);
                }
            }
            Goes::Redirected(to) => add(Fate::Redirected(to.clone()), left),
            Goes::Answered(status) => add(Fate::Answered(*status), left),
            // A fault is a setting of a route, so without a route there is none.
            Goes::NoRoute | Goes::Unknown => add(Fate::NoRoute, left),
        }
        fates
    }

    /// "sent to cart.shop.svc.cluster.local subset v2 (10 %) and …", to follow "it is".
    #[must_use]
    pub fn words(&self) -> String {
        let goes = match &self.goes {
            Goes::To(places) if places.len() == 1 => {
                format!("sent to {}", places.keys().next().map_or("", |only| only))
            }
            Goes::To(places) => {
                let each = places.iter().map(|(place, share)| format!("{place} ({} %)", percent(*share)));
                format!("sent to {}", each.collect::<Vec<_>>().join(" and "))
            }
            Goes::Redirected(to) => format!("redirected ({to})"),
            Goes::Answered(status) => format!("answered with {status}"),
            Goes::NoRoute => "left without a route (404)".to_owned(),
            Goes::Unknown => "not known".to_owned(),
        };
        match &self.abort {
            Some((share, status)) => format!("aborted with {status} ({} %), else {goes}", percent(*share)),
            None => goes,
        }
    }
}

/// A share as a percentage, without noise: "33.33", "50".
fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 1e2
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    NoRoute,
    Aborted(String),
    Answered(u64),
    Redirected(String),
    Reaches(String),
}

impl Fate {
    fn reaches(&self) -> bool {
        matches!(self, Self::Reaches(_))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn goes(route: &Value, namespace: &str, request: &Request) -> Goes {
    if route["redirect"].is_object() {
        return Goes::Redirected(redirect(&route["redirect"]));
    }
    if let Some(answer) = route["directResponse"].as_object() {
        return Goes::Answered(answer.get("status").and_then(Value::as_u64).unwrap_or_default());
    }
    let destinations = list(&route["route"]);
    let weight = |to: &Value| to["weight"].as_f64().unwrap_or_default();
    let sum: f64 = destinations.iter().map(weight).sum();
    let mut places = BTreeMap::new();
    for to in destinations {
        // One destination alone gets everything, whatever its weight; among several, one without weight gets nothing.
        let share = match (destinations.len(), sum > 0.0) {
            (1, _) => 1.0,
            (_, true) => weight(to) / sum,
            (_, false) => return Goes::Unknown,
        };
        if share > 0.0 {
            *places.entry(place(&to["destination"], namespace, request)).or_default() += share;
        }
    }
    if places.is_empty() { Goes::Unknown } else { Goes::To(places) }
}

/// The port is told only where it is not the one that was asked for.
fn place(to: &Value, namespace: &str, request: &Request) -> String {
    let mut place = host::full(to["host"].as_str().unwrap_or_default(), namespace);
    if let Some(port) = to["port"]["number"].as_u64() {
        let same = request.port.test(|own| u64::from(*own) == port);
        if same != Some(true) {
            place.push_str(&format!(":{port}"));
        }
    }
    match to["subset"].as_str() {
        Some(subset) if !subset.is_empty() => format!("{place} subset {subset}"),
        _ => place,
    }
}

fn redirect(redirect: &Value) -> String {
    let parts = redirect.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut told: Vec<_> = parts.map(|(name, value)| format!("{name} {}", text(value))).collect();
    told.sort();
    told.join(", ")
}

/// A fault without a percentage aborts nothing.
fn abort(fault: &Value) -> Option<(f64, String)> {
    let share = fault["percentage"]["value"].as_f64().unwrap_or_default().clamp(0.0, 100.0) / 100.0;
    let status = match (&fault["httpStatus"], &fault["grpcStatus"]) {
        (Value::Number(status), _) => status.to_string(),
        (_, Value::String(status)) => status.clone(),
        _ => return None,
    };
    (share > 0.0).then_some((share, status))
}

/// What differs between two outcomes that are both known.
pub(super) fn change(now: &Outcome, then: &Outcome) -> Option<Change> {
    let (before, after) = (now.fates(), then.fates());
    let share = |fates: &BTreeMap<Fate, f64>, fate: &Fate| fates.get(fate).copied().unwrap_or_default();
    // What each fate gains; the sum of it is the share of requests that fare otherwise.
    let gains =
        after.iter().map(|(fate, after)| (fate, after - share(&before, fate))).filter(|(_, gain)| *gain > NOTHING);
    let gains: Vec<_> = gains.collect();
    let settings = differing(&now.settings, &then.settings);
    // They come in the order of Fate, the worst first.
    let Some((worst, _)) = gains.first() else {
        let change = Change { effect: Effect::Settings, share: 1.0, settings };
        return (!change.settings.is_empty() && before.keys().any(Fate::reaches)).then_some(change);
    };
    let lost =
        |fates: &BTreeMap<Fate, f64>| fates.iter().filter(|(fate, _)| !fate.reaches()).map(|(_, share)| share).sum();
    let (lost_before, lost_after): (f64, f64) = (lost(&before), lost(&after));
    let effect = match worst {
        Fate::NoRoute => Effect::NoRoute,
        Fate::Aborted(_) => Effect::Aborted,
        Fate::Answered(_) => Effect::Answered,
        Fate::Redirected(_) => Effect::Redirected,
        Fate::Reaches(_) if lost_after + NOTHING < lost_before => Effect::Restored,
        Fate::Reaches(_) => Effect::Moved,
    };
    Some(Change { effect, share: gains.iter().map(|(_, gain)| gain).sum(), settings })
}

/// Names of the settings with other values.
fn differing(now: &Map<String, Value>, then: &Map<String, Value>) -> Vec<String> {
    let names: BTreeSet<_> = now.keys().chain(then.keys()).collect();
    names.into_iter().filter(|name| now.get(*name) != then.get(*name)).cloned().collect()
}
