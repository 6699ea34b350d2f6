//! ServiceProfiles: what a client is told of a service by the destination controller. Pure.

use std::collections::BTreeSet;

use linkerd2_proxy_api::destination::{DestinationProfile as Message, RequestMatch, request_match::Match as Condition};
use serde_json::{Value, json};

use super::{
    facts::{Facts, Kind},
    shape::{self, items},
};
use crate::proof::Expected;

/// A client, by one pod that stands for all of its namespace, and the service that it asks about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// "web.shop.svc.cluster.local:80".
    pub(super) path: String,
    port: u16,
}

/// A profile is named after its service. One in the service's namespace is for all clients that have none of their own.
pub(super) fn places(facts: &Facts, expected: &Expected) -> BTreeSet<Place> {
    let target = &expected.target;
    let mut parts = target.name.split('.');
    let (Some(name), Some(namespace)) = (parts.next(), parts.next()) else { return BTreeSet::new() };
    let Some(service) = facts.find(Kind::Service, namespace, name) else { return BTreeSet::new() };
    let ports = items(&service["spec"], "ports").filter_map(|port| u16::try_from(port["port"].as_u64()?).ok());
    let mut places = BTreeSet::new();
    for port in ports {
        for (client, pod) in facts.clients() {
            let has_its_own = client != target.namespace && facts.find(Kind::Profile, &client, &target.name).is_some();
            if client == target.namespace || target.namespace == namespace && !has_its_own {
                places.insert(Place { namespace: client, pod, path: format!("{}:{port}", target.name), port });
            }
        }
    }
    places
}

/// What a client should be told if the target says `spec`; null = nothing of it.
pub(super) fn wanted(spec: Option<&Value>, place: &Place) -> Value {
    let Some(spec) = spec else { return Value::Null };
    let route = |route: &Value| {
        let timeout = route["timeout"].as_str().and_then(shape::milliseconds_of);
        json!({"name": route["name"], "condition": condition_of(&route["condition"]),
               "retried": route["isRetryable"].as_bool().unwrap_or_default(), "timeout": timeout,
               "classes": items(route, "responseClasses").count()})
    };
    let to = |one: &Value| {
        let authority = one["authority"].as_str().unwrap_or_default();
        let authority =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:{}", place.port) };
        json!([authority, weight_of(&one["weight"])])
    };
    let routes: Value = items(spec, "routes").map(route).collect();
    let overrides: Value = items(spec, "dstOverrides").map(to).collect();
    json!({"routes": routes, "overrides": overrides})
}

/// In ten-thousandths of one: "500m" is half of 1.
fn weight_of(weight: &Value) -> Option<u64> {
    match weight {
        Value::Number(number) => number.as_u64().map(|number| number * 10_000),
        Value::String(text) => match text.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<u64>().ok().map(|number| number * 10),
            None => text.parse::<u64>().ok().map(|number| number * 10_000),
        },
        _ => None,
    }
}

fn condition_of(condition: &Value) -> Value {
    let nested = |field: &str| -> Option<Value> {
        let list: Value = condition[field].as_array()?.iter().map(condition_of).collect();
        Some(json!({field: list}))
    };
    let not = condition["not"].is_object().then(|| json!({"not": condition_of(&condition["not"])}));
    let method = condition["method"].as_str().map(|method| json!({"method": method.to_uppercase()}));
    let path = condition["pathRegex"].as_str().map(|path| json!({"path": path}));
    let mut all: Vec<_> = [nested("all"), nested("any"), method, not, path].into_iter().flatten().collect();
    if all.len() == 1 { all.remove(0) } else { json!({"all": all}) }
}

/// What a client is told of the target.
pub(super) fn found(expected: &Expected, message: &Message) -> Value {
    let target = &expected.target;
    let is_it = shape::resource(message.profile_ref.as_ref())
        .is_some_and(|resource| resource.namespace == target.namespace && resource.name == target.name);
    if !is_it {
        return Value::Null;
    }
    let routes: Value = message
        .routes
        .iter()
        .map(|route| {
            json!({"name": route.metrics_labels.get("route"), "condition": condition(route.condition.as_ref()),
                   "retried": route.is_retryable, "timeout": shape::milliseconds(route.timeout.as_ref()),
                   "classes": route.response_classes.len()})
        })
        .collect();
    let overrides: Value = message.dst_overrides.iter().map(|one| json!([one.authority, one.weight])).collect();
    json!({"routes": routes, "overrides": overrides})
}

fn condition(condition: Option<&RequestMatch>) -> Value {
    let list = |matches: &[RequestMatch]| -> Value { matches.iter().map(|one| self::condition(Some(one))).collect() };
    match condition.and_then(|condition| condition.r#match.as_ref()) {
        Some(Condition::All(all)) => json!({"all": list(&all.matches)}),
        Some(Condition::Any(any)) => json!({"any": list(&any.matches)}),
        Some(Condition::Not(not)) => json!({"not": self::condition(Some(not))}),
        Some(Condition::Path(path)) => json!({"path": path.regex}),
        Some(Condition::Method(method)) => {
            json!({"method": http::Method::try_from(method.clone()).map(|method| method.to_string()).ok()})
        }
        None => Value::Null,
    }
}
