//! ServiceEntry: hosts, addresses, ports and endpoints, as far as the way to resolve them allows.

use std::collections::{HashMap, HashSet};

use super::{
    common::{self, Audience},
    listener::{self, Protocol},
    selector, workload,
};
use crate::{
    report::{Hit, quote},
    rules::{Object, catalogue as rule, field::Field},
};

const DYNAMIC: &str = "DYNAMIC_DNS";
const WAYPOINT: &str = "istio.io/use-waypoint";

/// All rules.
#[must_use]
pub fn check(object: &Object<'_>) -> Vec<Hit> {
    let spec = object.root().get("spec");
    let entry = Entry::of(&spec);
    let mut hits = selector::by_labels(&spec.get("workloadSelector"), "labels");
    let set = spec.set_among(&["workloadSelector", "endpoints"]);
    if set.len() == 2 {
        let message = "workloadSelector and endpoints exclude each other";
        hits.push(Hit::new(rule::SE_ENDPOINT, spec.get("endpoints").path(), message).at_key());
    }
    hits.extend(entry.hosts());
    hits.extend(entry.addresses());
    hits.extend(entry.ports());
    hits.extend(entry.endpoints());
    hits.extend(entry.hosts_share_ports());
    if entry.resolution == DYNAMIC {
        let labels = object.root().get("metadata").get("labels");
        hits.extend(entry.dynamic(labels.get(WAYPOINT).text()));
    }
    hits.extend(common::export_to(&spec.get("exportTo"), &object.head.namespace, Audience::AnyoneOrNobody));
    hits
}

/// The parts of a ServiceEntry that decide on each other.
struct Entry<'a> {
    spec: Field<'a>,
    hosts: Vec<Field<'a>>,
    ports: Vec<Field<'a>>,
    endpoints: Vec<Field<'a>>,
    resolution: &'a str,
}

impl<'a> Entry<'a> {
    fn of(spec: &Field<'a>) -> Self {
        let resolution = match spec.get("resolution").text() {
            "" => "NONE",
            resolution => resolution,
        };
        let items = |name: &str| spec.get(name).items();
        Self {
            spec: spec.clone(),
            hosts: items("hosts"),
            ports: items("ports"),
            endpoints: items("endpoints"),
            resolution,
        }
    }

    fn hosts(&self) -> Vec<Hit> {
        let mut hits = Vec::new();
        if self.hosts.is_empty() {
            hits.push(Hit::new(rule::SE_HOST, self.spec.get("hosts").path(), "a ServiceEntry needs at least one host"));
        }
        for host in &self.hosts {
            let name = host.text();
            let problem = match name {
                "*" => Some("it would be every host".to_owned()),
                _ => common::wildcard_name(name).err().or_else(|| self.unresolvable(name)),
            };
            if let Some(problem) = problem {
                let message = format!("the host {} cannot be used: {problem}", quote(name));
                hits.push(Hit::new(rule::SE_HOST, host.path(), message));
            } else if common::is_partial_wildcard(name) {
                let message = format!("{} has a partial wildcard, which most of Istio does not match", quote(name));
                hits.push(Hit::new(rule::SE_WILDCARD, host.path(), message).suggest("write *. and whole labels"));
            }
        }
        hits
    }

    /// Why DNS cannot resolve a host to endpoints that nobody lists.
    fn unresolvable(&self, name: &str) -> Option<String> {
        if self.resolution == DYNAMIC {
            let message = format!("the resolution {DYNAMIC} is for wildcards");
            return (!name.starts_with('*')).then_some(message);
        }
        let by_dns = ["DNS", "DNS_ROUND_ROBIN"].contains(&self.resolution) && self.endpoints.is_empty();
        let problem = common::dns_name(name).err().filter(|_| by_dns)?;
        Some(format!("with the resolution {} and no endpoints it must be a DNS name: {problem}", self.resolution))
    }

    fn addresses(&self) -> Vec<Hit> {
        let addresses = self.spec.get("addresses").items();
        let mut hits: Vec<Hit> = addresses.iter().filter_map(common::subnet).collect();
        let block = addresses.iter().find(|address| address.text().contains('/'));
        if let Some(block) = block.filter(|_| !["NONE", "STATIC"].contains(&self.resolution)) {
            let message = format!("a CIDR block needs the resolution NONE or STATIC, not {}", self.resolution);
            hits.push(Hit::new(rule::SE_RESOLUTION, block.path(), message));
        }
        hits
    }

    fn ports(&self) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut names: HashMap<&str, String> = HashMap::new();
        let mut numbers: HashMap<i64, String> = HashMap::new();
        for port in &self.ports {
            let (name, number, protocol) = (port.get("name"), port.get("number"), port.get("protocol"));
            hits.extend(listener::port_name(name.text(), &name));
            hits.extend(listener::port_number(&number, port));
            hits.extend(common::port(&port.get("targetPort")));
            if !protocol.text().is_empty() {
                hits.extend(listener::protocol(&protocol));
            }
            let mut twice = |first: Option<String>, field: &Field<'_>, what: String| {
                if let Some(first) = first {
                    let message = format!("{what} is there already, at {first}");
                    hits.push(Hit::new(rule::SE_PORT, field.path(), message));
                }
            };
            let first = names.insert(name.text(), name.path().to_string());
            twice(first, &name, format!("the port name {}", quote(name.text())));
            if let Some(number_of) = number.integer() {
                let first = numbers.insert(number_of, number.path().to_string());
                twice(first, &number, format!("the port {number_of}"));
            }
        }
        hits
    }

    fn endpoints(&self) -> Vec<Hit> {
        let names: HashSet<&str> = self.ports.iter().map(|port| port.get("name").text()).collect();
        let list = self.spec.get("endpoints");
        let mut hits = Vec::new();
        match self.resolution {
            "NONE" if list.is_set() => {
                let message =
                    "with the resolution NONE traffic goes where the client sends it, so there are no endpoints";
                let hit = Hit::new(rule::SE_ENDPOINT, list.path(), message).at_key();
                hits.push(hit.suggest("set resolution: STATIC or DNS, or remove endpoints"));
            }
            DYNAMIC if !self.endpoints.is_empty() => {
                let message = format!("with the resolution {DYNAMIC} the request's host is the endpoint");
                hits.push(Hit::new(rule::SE_ENDPOINT, list.path(), message).at_key().suggest("remove endpoints"));
            }
            "DNS_ROUND_ROBIN" if self.endpoints.len() > 1 => {
                let message = "the resolution DNS_ROUND_ROBIN takes one endpoint only";
                hits.push(Hit::new(rule::SE_ENDPOINT, self.endpoints[1].path(), message));
            }
            _ => {}
        }
        let kinds = if self.resolution == "STATIC" { workload::Address::NoName } else { workload::Address::NameOrIp };
        for endpoint in &self.endpoints {
            hits.extend(workload::entry(endpoint, kinds));
            hits.extend(self.declared(endpoint, &names));
        }
        hits
    }

    /// Ports of an endpoint are those of the service; a socket stands for the only one.
    fn declared(&self, endpoint: &Field<'_>, names: &HashSet<&str>) -> Vec<Hit> {
        let mut hits = Vec::new();
        for (name, port) in endpoint.get("ports").entries() {
            if !names.contains(name) {
                let message = format!("the port {} is not one of spec.ports", quote(name));
                hits.push(Hit::new(rule::SE_ENDPOINT, port.path(), message).at_key());
            }
        }
        let address = endpoint.get("address");
        if self.resolution == "STATIC" && address.text().starts_with(listener::UNIX) && names.len() != 1 {
            let message = format!("a unix socket serves one port, and spec.ports has {}", names.len());
            hits.push(Hit::new(rule::SE_ENDPOINT, address.path(), message));
        }
        hits
    }

    /// Several hosts on one port can be told apart by HTTP and TLS only.
    fn hosts_share_ports(&self) -> Option<Hit> {
        if self.hosts.len() < 2 || ["NONE", DYNAMIC].contains(&self.resolution) {
            return None;
        }
        let opaque = |port: &&Field<'_>| {
            let protocol = Protocol::named(port.get("protocol").text());
            !matches!(protocol, Some(Protocol::Http | Protocol::Tls))
        };
        let port = self.ports.iter().find(opaque)?;
        let protocol = port.get("protocol");
        let message = format!("{} hosts share this port, and only HTTP and TLS tell them apart", self.hosts.len());
        let at = if protocol.is_set() { protocol.path().clone() } else { port.path().clone() };
        Some(Hit::new(rule::SE_PORT, &at, message).suggest("one ServiceEntry per host"))
    }

    fn dynamic(&self, waypoint: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        for port in &self.ports {
            let protocol = port.get("protocol");
            if !["HTTP", "HTTPS", "TLS", "GRPC", "HTTP2"].contains(&protocol.text().to_ascii_uppercase().as_str()) {
                let message =
                    format!("the resolution {DYNAMIC} needs a protocol with a host name: HTTP, HTTP2, GRPC or TLS");
                hits.push(Hit::new(rule::SE_RESOLUTION, protocol.path(), message));
            }
        }
        let addresses = self.spec.get("addresses");
        if !addresses.items().is_empty() {
            let message = format!("the resolution {DYNAMIC} goes by hosts, so there are no addresses");
            hits.push(Hit::new(rule::SE_RESOLUTION, addresses.path(), message).at_key().suggest("remove addresses"));
        }
        let location = self.spec.get("location");
        if location.text() == "MESH_INTERNAL" && !["", "none"].contains(&waypoint) {
            let message = format!("the resolution {DYNAMIC} with a waypoint is for services outside the mesh");
            let hit = Hit::new(rule::SE_RESOLUTION, location.path(), message);
            hits.push(hit.suggest(format!("set location: MESH_EXTERNAL, or remove the label {WAYPOINT}")));
        }
        hits
    }
}
