//! What a VirtualService shares with others: its gateways and its hosts.
//!
//! A gateway concatenates the routes of all VirtualServices of one host and moves catch-alls to the end. Narrowed to a
//! cohort, the canary's catch-all is none any more and would move in front of the routes of the *other*
//! VirtualServices. So a host that is shared on a gateway is refused. A sidecar takes the oldest VirtualService of a
//! host and ignores the others.

use meshward_model::Target;
use serde_json::Value;

use super::qualified;
use crate::{
    dialect::{Neighbours, Unsupported},
    object::{full_name, spec},
};

/// The name that stands for all sidecars.
const MESH: &str = "mesh";

/// Whether sidecars take it in.
pub(in super::super) fn is_bound_to_mesh(spec: &Value) -> bool {
    gateways(spec, "").iter().any(|gateway| gateway == MESH)
}

/// "namespace/name" of each gateway. None named means all sidecars.
fn gateways(spec: &Value, namespace: &str) -> Vec<String> {
    let names: Vec<_> = spec["gateways"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        return vec![MESH.to_owned()];
    }
    let full = |name: &&str| match *name {
        MESH => MESH.to_owned(),
        name if name.contains('/') => name.to_owned(),
        name => format!("{namespace}/{name}"),
    };
    names.iter().map(full).collect()
}

fn hosts(spec: &Value, namespace: &str) -> Vec<String> {
    let names = spec["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(|host| qualified(host, namespace)).collect()
}

/// Whether two hosts, each perhaps with a leading wildcard, have a name in common.
pub(in super::super) fn overlap(a: &str, b: &str) -> bool {
    let covers = |wide: &str, narrow: &str| wide.strip_prefix('*').is_some_and(|suffix| narrow.ends_with(suffix));
    a == b || covers(a, b) || covers(b, a)
}

/// The first other VirtualService that has a host in common on a gateway for which `on` holds: its name, gateway and
/// host.
fn shared<'a>(
    target: &Target,
    own: &Value,
    others: Neighbours<'a>,
    on: impl Fn(&str) -> bool,
) -> Option<(&'a Value, String, String)> {
    let own_name = format!("{}/{}", target.namespace, target.name);
    let own_hosts = hosts(own, &target.namespace);
    let own_gateways: Vec<_> = gateways(own, &target.namespace).into_iter().filter(|gateway| on(gateway)).collect();
    others.iter().filter(|other| full_name(other) != own_name).find_map(|other| {
        let namespace = other["metadata"]["namespace"].as_str().unwrap_or_default();
        let gateway = gateways(spec(other), namespace).into_iter().find(|gateway| own_gateways.contains(gateway))?;
        let host =
            hosts(spec(other), namespace).into_iter().find(|host| own_hosts.iter().any(|own| overlap(own, host)))?;
        Some((other, gateway, host))
    })
}

/// Refuses a host that another VirtualService has on the same gateway.
pub(in super::super) fn check_shared_hosts(
    target: &Target,
    own: &Value,
    others: Neighbours<'_>,
) -> Result<(), Unsupported> {
    match shared(target, own, others, |gateway| gateway != MESH) {
        None => Ok(()),
        Some((other, gateway, host)) => {
            let other = full_name(other);
            Err(Unsupported::new(
                format!(
                    "VirtualService {other} also serves {host} on the gateway {gateway}, and their routes are merged"
                ),
                format!("put the routes of {host} into one VirtualService, or {}", super::ALL_AT_ONCE),
            ))
        }
    }
}

/// A sentence if another VirtualService has one of the hosts for sidecars.
pub(super) fn hidden_behind(target: &Target, own: &Value, others: Neighbours<'_>) -> Option<String> {
    let (other, _, host) = shared(target, own, others, |gateway| gateway == MESH)?;
    let other = full_name(other);
    Some(format!(
        "Sidecars take the oldest VirtualService of a host; {other} also has {host}: if it is older, nobody is exposed."
    ))
}
