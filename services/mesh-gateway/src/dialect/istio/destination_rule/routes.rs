//! Sending a part of the traffic to the canary's subsets: VirtualServices with every way to the host split in two.
//!
//! A route of requests that goes to the host becomes a pair in its place: for the ids of the cohort to the twins, for
//! all others as it was. Together the two match what the route matched, so the order of the routes, and what goes
//! elsewhere, stays as it is. A route of connections has no id to go by and is split by weight.

use meshward_model::Weight;
use serde_json::{Value, json};

use super::policy::Names;
use crate::dialect::istio::{
    Cohort,
    virtual_service::{CANARY_SERIES, Condition, STABLE_SERIES, narrow, qualified, routes, weight},
};

/// The host, as seen from the namespace of a VirtualService.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// Fully qualified.
    pub(super) host: &'a str,
    /// Where short names belong to.
    pub(super) namespace: &'a str,
}

impl Way<'_> {
    fn is(self, destination: &Value) -> bool {
        destination["host"].as_str().is_some_and(|host| qualified(host, self.namespace) == self.host)
    }

    /// Whether a route, or a copy of what it sends, goes to the host.
    pub(super) fn is_taken_by(self, route: &Value) -> bool {
        destinations(route).any(|destination| self.is(destination))
    }

    /// Whether any route of a VirtualService does.
    pub(super) fn is_in(self, spec: &Value) -> bool {
        PROTOCOLS.iter().any(|protocol| routes(spec, protocol).iter().any(|route| self.is_taken_by(route)))
    }

    /// The subsets that a VirtualService names.
    pub(super) fn subsets(self, spec: &Value) -> Vec<&str> {
        let all = PROTOCOLS.iter().flat_map(|protocol| routes(spec, protocol)).flat_map(destinations);
        all.filter(|destination| self.is(destination)).filter_map(|it| it["subset"].as_str()).collect()
    }

    /// A VirtualService with a share of what goes to the host sent to the twins.
    pub(super) fn split(self, spec: &Value, names: &Names<'_>, weight: Weight) -> Value {
        let mut to_twins = spec.clone();
        for protocol in ["tcp", "tls"] {
            for route in to_twins.get_mut(protocol).and_then(Value::as_array_mut).into_iter().flatten() {
                self.turn(route, names);
            }
        }
        let mut split = weight::blend(spec, &to_twins, weight);
        if let Some(ids) = Condition::of_ids(Cohort::of(weight)).filter(|_| spec["http"].is_array()) {
            let pairs = routes(spec, "http").iter().flat_map(|route| self.pair(route, names, &ids));
            split["http"] = pairs.collect();
        }
        split
    }

    fn pair(self, route: &Value, names: &Names<'_>, ids: &Condition) -> Vec<Value> {
        if !self.is_taken_by(route) {
            return vec![route.clone()];
        }
        let mut to_twins = route.clone();
        self.turn(&mut to_twins, names);
        let canary = narrow(&to_twins, "headers", ids, CANARY_SERIES);
        vec![canary, narrow(route, "withoutHeaders", ids, STABLE_SERIES)]
    }

    /// Turns every destination at the host to its twin.
    fn turn(self, route: &mut Value, names: &Names<'_>) {
        let turn = |destination: &mut Value| {
            if self.is(destination) {
                destination["subset"] = names.twin(destination["subset"].as_str()).into();
            }
        };
        for list in LISTS {
            for entry in route.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                entry.get_mut("destination").into_iter().for_each(turn);
            }
        }
        route.get_mut("mirror").into_iter().for_each(turn);
    }
}

const PROTOCOLS: [&str; 3] = ["http", "tcp", "tls"];
/// Where a route lists destinations; `mirror` is one by itself.
const LISTS: [&str; 2] = ["route", "mirrors"];

fn destinations(route: &Value) -> impl Iterator<Item = &Value> {
    let listed = LISTS.iter().flat_map(|list| route[*list].as_array().into_iter().flatten());
    listed.map(|entry| &entry["destination"]).chain([&route["mirror"]])
}

/// A port of a host, and what comes in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: u64,
    /// Requests are told apart.
    pub(super) http: bool,
    /// Connections are handed on as they are.
    pub(super) tcp: bool,
}

/// The VirtualService of a host that has none: everything goes where it goes without it. `None` if no port's traffic
/// can be routed.
pub(super) fn helper(host: &str, export_to: &Value, ports: &[Port]) -> Option<Value> {
    let is_only = ports.len() == 1;
    let route = |port: &Port| {
        let destination = json!({"host": host, "port": {"number": port.number}});
        let mut route = json!({"route": [{"destination": destination}]});
        if !is_only {
            route["match"] = json!([{"port": port.number}]);
        }
        route
    };
    let http: Vec<_> = ports.iter().filter(|port| port.http).map(route).collect();
    let tcp: Vec<_> = ports.iter().filter(|port| port.tcp).map(route).collect();
    if http.is_empty() && tcp.is_empty() {
        return None;
    }
    let mut spec = json!({"hosts": [host]});
    for (protocol, routes) in [("http", http), ("tcp", tcp)] {
        if !routes.is_empty() {
            spec[protocol] = routes.into();
        }
    }
    if !export_to.is_null() {
        spec["exportTo"] = export_to.clone();
    }
    Some(spec)
}
