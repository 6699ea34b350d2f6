//! What a ServiceEntry or a WorkloadEntry has become in a proxy's endpoints.
//!
//! Endpoints carry no name of what they come from: they are known by their addresses, of a ServiceEntry in the clusters
//! of its hosts, of a WorkloadEntry in any. And they carry no version either. istiod may push them without a new push
//! context, so that a nonce does not tell whether the push was made from what it would generate now. So what fits is
//! believed only after everything has stood still for a while, as where nothing can be told at all.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ENDPOINTS, Seen, resources, sync};
use crate::{
    dialect::qualified,
    proof::{Content, Expected},
};

/// An address and its weight.
type Endpoints = BTreeSet<(String, u64)>;

/// Whether endpoints are what an object is about. Those of hosts that are looked up are parts of clusters.
pub(in crate::proof::istiod) fn are_told_by(expected: &Expected) -> bool {
    let is_static = |spec: &Value| spec["resolution"] == "STATIC";
    match &*expected.target.kind {
        "WorkloadEntry" => true,
        "ServiceEntry" => {
            let written = expected.object.iter().map(|object| &object["spec"]);
            written.chain(&expected.others).all(is_static)
        }
        _ => false,
    }
}

/// `None` if the object cannot concern the proxy.
pub(super) fn read(dump: &Value, expected: &Expected) -> Option<Seen<'static>> {
    let found = found(dump, &hosts(expected));
    let content = match &expected.object {
        _ if found.is_empty() => return None,
        Some(object) => compare(&predicted(&object["spec"]), &others(expected), &found),
        None => match others(expected).iter().any(|(address, _)| has_address(&found, address)) {
            true => Content::Older,
            false => Content::Unused,
        },
    };
    let kinds = vec![sync::CLUSTERS, sync::ENDPOINTS];
    Some(Seen { content, kinds })
}

fn compare(written: &Endpoints, others: &Endpoints, found: &[Endpoints]) -> Content {
    if found.iter().any(|found| written.is_subset(found)) {
        return Content::Unclear;
    }
    let is_known = |(address, _): &(String, u64)| has_address(found, address);
    if written.iter().any(is_known) || others.iter().any(is_known) { Content::Older } else { Content::Unused }
}

fn has_address(found: &[Endpoints], address: &str) -> bool {
    found.iter().flatten().any(|(known, _)| known == address)
}

/// The hosts of a ServiceEntry, before and after; none = any.
fn hosts(expected: &Expected) -> BTreeSet<String> {
    let specs = expected.object.iter().map(|object| &object["spec"]).chain(&expected.others);
    let names = specs.flat_map(|spec| spec["hosts"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    names.map(|host| qualified(host, &expected.target.namespace)).collect()
}

fn others(expected: &Expected) -> Endpoints {
    expected.others.iter().flat_map(predicted).collect()
}

/// 0 and none count as 1.
fn predicted(spec: &Value) -> Endpoints {
    let own = [spec.clone()];
    let endpoints = spec["endpoints"].as_array().map_or(&own[..], Vec::as_slice);
    let one = |endpoint: &Value| {
        let address = endpoint["address"].as_str()?.to_owned();
        Some((address, endpoint["weight"].as_u64().unwrap_or(0).max(1)))
    };
    endpoints.iter().filter_map(one).collect()
}

/// The endpoints of each cluster of the hosts.
fn found(dump: &Value, hosts: &BTreeSet<String>) -> Vec<Endpoints> {
    let is_wanted = |assignment: &&Value| {
        let host = assignment["clusterName"].as_str().and_then(|name| name.splitn(4, '|').nth(3));
        host.is_some_and(|host| hosts.is_empty() || hosts.contains(host))
    };
    resources(dump, ENDPOINTS).filter(is_wanted).map(of_cluster).collect()
}

fn of_cluster(assignment: &Value) -> Endpoints {
    let places = assignment["endpoints"].as_array().into_iter().flatten();
    let all = places.flat_map(|place| place["lbEndpoints"].as_array().into_iter().flatten());
    let one = |endpoint: &Value| {
        let address = endpoint["endpoint"]["address"]["socketAddress"]["address"].as_str()?.to_owned();
        Some((address, endpoint["loadBalancingWeight"].as_u64().unwrap_or(1)))
    };
    all.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use meshward_model::Target;
    use serde_json::json;

    use super::*;

    fn dump(host: &str, endpoints: &[(&str, u64)]) -> Value {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(address, weight)| {
                json!({"endpoint": {"address": {"socketAddress": {"address": address, "portValue": 80}}},
                       "loadBalancingWeight": weight})
            })
            .collect();
        let mut assignment =
            json!({"clusterName": format!("outbound|80||{host}"), "endpoints": [{"lbEndpoints": endpoints}]});
        assignment["@type"] = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".into();
        json!({"configs": [assignment]})
    }

    fn content(dump: &Value, kind: &str, written: Option<Value>, other: Value) -> Option<Content> {
        let target = Target::new("", "networking.istio.io/v1", kind, "shop", "bank").unwrap();
        let object = written.map(|spec| json!({"spec": spec}));
        let expected = Expected {
            target,
            object,
            others: vec![other],
            rebinds: false,
            through: Vec::new(),
            cohorts: None,
            beside: Vec::new(),
            readers: crate::dialect::Readers::default(),
        };
        assert!(are_told_by(&expected));
        read(dump, &expected).map(|seen| seen.content)
    }

    #[test]
    fn weights_tell_new_from_old_and_what_fits_is_still_waited_for() {
        let entry = |endpoints: &[(&str, u64)]| {
            let endpoints: Vec<_> =
                endpoints.iter().map(|(address, weight)| json!({"address": address, "weight": weight})).collect();
            json!({"hosts": ["bank.example.com"], "resolution": "STATIC", "endpoints": endpoints})
        };
        let one = |address: &str, weight: u64| json!({"address": address, "weight": weight});
        let here = |endpoints: &[(&str, u64)]| dump("bank.example.com", endpoints);
        let (before, half) = (entry(&[("10.0.0.1", 0)]), entry(&[("10.0.0.1", 9000), ("10.0.0.2", 1000)]));
        for (name, dump, kind, written, other, expected) in [
            (
                "blended",
                here(&[("10.0.0.1", 9000), ("10.0.0.2", 1000)]),
                "ServiceEntry",
                Some(half.clone()),
                before.clone(),
                Some(Content::Unclear),
            ),
            (
                "not yet",
                here(&[("10.0.0.1", 1)]),
                "ServiceEntry",
                Some(half.clone()),
                before.clone(),
                Some(Content::Older),
            ),
            ("0 is 1", here(&[("10.0.0.1", 1)]), "ServiceEntry", Some(before.clone()), half, Some(Content::Unclear)),
            ("of another host", dump("other", &[("10.0.0.1", 1)]), "ServiceEntry", Some(before.clone()), before, None),
            (
                "its part",
                here(&[("10.0.0.1", 90)]),
                "WorkloadEntry",
                Some(one("10.0.0.1", 90)),
                one("10.0.0.1", 100),
                Some(Content::Unclear),
            ),
            (
                "its old part",
                here(&[("10.0.0.1", 100)]),
                "WorkloadEntry",
                Some(one("10.0.0.1", 90)),
                one("10.0.0.1", 100),
                Some(Content::Older),
            ),
            (
                "nobody's",
                here(&[("10.0.0.9", 1)]),
                "WorkloadEntry",
                Some(one("10.0.0.1", 1)),
                one("10.0.0.2", 1),
                Some(Content::Unused),
            ),
            ("gone", here(&[("10.0.0.9", 1)]), "WorkloadEntry", None, one("10.0.0.1", 1), Some(Content::Unused)),
            ("shall go", here(&[("10.0.0.1", 1)]), "WorkloadEntry", None, one("10.0.0.1", 1), Some(Content::Older)),
        ] {
            assert_eq!(content(&dump, kind, written, other), expected, "{name}");
        }
    }
}
