//! What can be predicted of a generated route from the VirtualService that it comes from.

use serde_json::Value;

use super::milliseconds;

/// A route's features that Istio carries over as they are. A redirect or direct response has no destinations.
#[derive(Debug, PartialEq)]
struct Traits {
    name: String,
    series: String,
    destinations: Vec<Sent>,
    timeout_ms: u64,
    /// "name=value" of the headers that the route sets or adds, sorted.
    headers: Vec<String>,
}

/// What a destination gets. None of weight 0 is generated, and the only one that is left has the weight 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    host: String,
    subset: String,
    /// A spec need not name it.
    port: Option<u64>,
    weight: u64,
}

impl Sent {
    /// Whether these were generated from those of a spec, where a short host is the beginning of the full one.
    pub(super) fn are(wanted: &[Self], found: &[Self]) -> bool {
        wanted.len() == found.len() && wanted.iter().all(|wanted| found.iter().any(|found| wanted.is(found)))
    }

    fn is(&self, found: &Self) -> bool {
        let is_host = found.host == self.host || found.host.starts_with(&format!("{}.", self.host));
        is_host
            && self.subset == found.subset
            && self.weight == found.weight
            && (self.port.is_none() || self.port == found.port)
    }
}

/// Whether generated routes can come from a spec: each fits one of the spec's, in the same order. Some may be missing,
/// since a match can be for certain callers, ports or gateways only.
pub(super) fn fit(spec: &Value, generated: &[&Value]) -> bool {
    in_order(predict(spec).into_iter(), generated.iter().map(|route| found(route)), |wanted, found| {
        is_alike(wanted, found) && Sent::are(&wanted.destinations, &found.destinations)
    })
}

/// The same but for the destinations.
pub(super) fn fit_elsewhere(spec: &Value, generated: &[&Value]) -> bool {
    in_order(predict(spec).into_iter(), generated.iter().map(|route| found(route)), is_alike)
}

/// Whether each of what was found fits one of what is wanted, in the same order.
pub(super) fn in_order<T>(
    mut wanted: impl Iterator<Item = T>,
    mut found: impl Iterator<Item = T>,
    fits: impl Fn(&T, &T) -> bool,
) -> bool {
    found.all(|found| wanted.any(|wanted| fits(&wanted, &found)))
}

/// But for the destinations.
fn is_alike(wanted: &Traits, found: &Traits) -> bool {
    wanted.name == found.name
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
                destinations: sent(&route["route"]),
                timeout_ms: milliseconds(&route["timeout"]),
                headers: headers(&route["headers"]),
            });
        }
    }
    all
}

/// What the destinations of a route in a spec get.
pub(super) fn sent(route: &Value) -> Vec<Sent> {
    let entries = route.as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |entry: &Value| Sent {
        host: text(&entry["destination"]["host"]),
        subset: text(&entry["destination"]["subset"]),
        port: entry["destination"]["port"]["number"].as_u64(),
        weight: if entries.len() == 1 { 1 } else { entry["weight"].as_u64().unwrap_or(0) },
    };
    of_weight(entries.iter().map(of))
}

fn of_weight(all: impl Iterator<Item = Sent>) -> Vec<Sent> {
    let mut all: Vec<_> = all.filter(|sent| sent.weight > 0).collect();
    if let [only] = &mut all[..] {
        only.weight = 1;
    }
    all
}

/// What clusters get of a generated action, of requests or of connections.
pub(super) fn sent_by(action: &Value) -> Vec<Sent> {
    let single = action["cluster"].as_str().map(|name| of_cluster(name, 1));
    let several = action["weightedClusters"]["clusters"].as_array().into_iter().flatten();
    let several = several
        .map(|entry| of_cluster(entry["name"].as_str().unwrap_or_default(), entry["weight"].as_u64().unwrap_or(0)));
    of_weight(single.into_iter().chain(several))
}

/// Of "outbound|8080|v2|checkout.shop.svc.cluster.local".
fn of_cluster(name: &str, weight: u64) -> Sent {
    let mut parts = name.splitn(4, '|').skip(1);
    let port = parts.next().and_then(|port| port.parse().ok());
    let subset = parts.next().unwrap_or_default().to_owned();
    Sent { host: parts.next().unwrap_or(name).to_owned(), subset, port, weight }
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
        destinations: sent_by(action),
        timeout_ms: milliseconds(&action["timeout"]),
        headers,
    }
}
