//! What can be predicted of a generated route from the VirtualService that it comes from.

use std::collections::BTreeMap;

use serde_json::Value;

use super::milliseconds;

/// A route's features that Istio carries over as they are. A redirect or direct response has no destinations.
#[derive(Debug, PartialEq)]
struct Traits {
    name: String,
    series: String,
    /// Weight by host and subset; a single destination has the weight 1.
    destinations: BTreeMap<(String, String), u64>,
    timeout_ms: u64,
    /// "name=value" of the headers that the route sets or adds, sorted.
    headers: Vec<String>,
}

/// Whether generated routes can come from a spec: each fits one of the spec's, in the same order. Some may be missing,
/// since a match can be for certain callers, ports or gateways only.
pub(super) fn fit(spec: &Value, generated: &[&Value]) -> bool {
    let mut predicted = predict(spec).into_iter();
    generated.iter().all(|route| {
        let found = found(route);
        predicted.any(|wanted| is_generated_from(&wanted, &found))
    })
}

/// A short host in a spec is the beginning of the full one.
fn is_generated_from(wanted: &Traits, found: &Traits) -> bool {
    let same_destinations = wanted.destinations.len() == found.destinations.len()
        && wanted.destinations.iter().all(|((host, subset), weight)| {
            let is_it = |full: &str| full == host || full.starts_with(&format!("{host}."));
            found.destinations.iter().any(|((full, other), found)| is_it(full) && other == subset && found == weight)
        });
    same_destinations
        && wanted.name == found.name
        && wanted.series == found.series
        && wanted.timeout_ms == found.timeout_ms
        && wanted.headers == found.headers
}

/// One route for each match of each route of the spec.
fn predict(spec: &Value) -> Vec<Traits> {
    let nothing = [Value::Null];
    let mut all = Vec::new();
    for route in spec["http"].as_array().into_iter().flatten() {
        let matches = route["match"].as_array().filter(|matches| !matches.is_empty());
        for one in matches.map_or(&nothing[..], Vec::as_slice) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let name = match one["name"].as_str() {
                Some(name) => format!("{}.{name}", text(&route["name"])),
                None => text(&route["name"]),
            };
            all.push(Traits {
                name,
                series: text(&one["statPrefix"]),
                destinations: destinations(&route["route"]),
                timeout_ms: milliseconds(&route["timeout"]),
                headers: headers(&route["headers"]),
            });
        }
    }
    all
}

fn destinations(route: &Value) -> BTreeMap<(String, String), u64> {
    let entries = route.as_array().map_or(&[][..], Vec::as_slice);
    let weight = |entry: &Value| if entries.len() == 1 { 1 } else { entry["weight"].as_u64().unwrap_or(0) };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = |entry: &Value| (text(&entry["destination"]["host"]), text(&entry["destination"]["subset"]));
    entries.iter().filter(|entry| weight(entry) > 0).map(|entry| (key(entry), weight(entry))).collect()
}

fn headers(operations: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for map in ["request", "response"].iter().flat_map(|side| [&operations[side]["set"], &operations[side]["add"]]) {
        let pairs = map.as_object().into_iter().flatten();
        all.extend(
            pairs.map(|(name, value)| format!("{}={}", name.to_lowercase(), value.as_str().unwrap_or_default())),
        );
    }
    all.sort();
    all
}

fn found(route: &Value) -> Traits {
    let action = &route["route"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut destinations = BTreeMap::new();
    if let Some(cluster) = action["cluster"].as_str() {
        destinations.insert(cluster_parts(cluster), 1);
    }
    for entry in action["weightedClusters"]["clusters"].as_array().into_iter().flatten() {
        let name = entry["name"].as_str().unwrap_or_default();
        destinations.insert(cluster_parts(name), entry["weight"].as_u64().unwrap_or(0));
    }
    let options = ["requestHeadersToAdd", "responseHeadersToAdd"];
    let added = options.iter().flat_map(|field| route[*field].as_array().into_iter().flatten());
    let pair = |option: &Value| {
        let header = &option["header"];
        format!("{}={}", text(&header["key"]).to_lowercase(), text(&header["value"]))
    };
    let mut headers: Vec<_> = added.map(pair).collect();
    headers.sort();
    Traits {
        name: text(&route["name"]),
        series: text(&route["statPrefix"]),
        destinations,
        timeout_ms: milliseconds(&action["timeout"]),
        headers,
    }
}

/// Host and subset of "outbound|8080|v2|checkout.shop.svc.cluster.local".
fn cluster_parts(name: &str) -> (String, String) {
    let mut parts = name.splitn(4, '|').skip(2);
    let subset = parts.next().unwrap_or_default().to_owned();
    (parts.next().unwrap_or(name).to_owned(), subset)
}
