//! What a DestinationRule has become in a proxy's clusters.
//!
//! There is one cluster for each port and subset of a host, named `outbound|8080|v1|checkout.shop.svc.cluster.local`,
//! and each names the rule that its policy comes from. So the names tell the subsets, which at the steps of a deployment
//! are others than before and at the end; and inside is what can be predicted of the policy: limits, timeouts, the
//! balancer, when an endpoint is ejected. Other settings are not predicted, and cost time where they are all that
//! differs.
//!
//! A cluster that is new has no endpoints, and serves nothing, before the proxy has asked for them and been answered.
//! So endpoints are part of what must have been acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{CLUSTER, Seen, mentions, milliseconds, resources, source, sync};
use crate::{
    dialect::{effective_policy, qualified},
    proof::{Content, Expected},
};

/// What Istio writes for a limit that is none.
const UNLIMITED: u64 = u32::MAX as u64;

/// One cluster of the host.
struct Cluster<'a> {
    port: u64,
    subset: &'a str,
    config: &'a Value,
}

/// `None` if the object cannot concern the proxy.
pub(in crate::proof::istiod) fn read(dump: &Value, expected: &Expected) -> Option<Seen<'static>> {
    let source = [source(&expected.target)];
    let all: Vec<_> = resources(dump, CLUSTER).collect();
    let hosts = hosts(expected);
    let of_host: Vec<_> = all.iter().filter_map(|config| cluster(config, &hosts)).collect();
    let ours: Vec<_> = of_host.iter().filter(|cluster| mentions(&cluster.config["metadata"], &source)).collect();
    let content = match &expected.object {
        // Only the servers' side of it is here.
        _ if of_host.is_empty() && all.iter().any(|config| mentions(&config["metadata"], &source)) => Content::Unclear,
        _ if of_host.is_empty() => return None,
        None if ours.is_empty() => Content::Shows,
        None => Content::Older,
        Some(_) if ours.is_empty() => Content::Unused,
        Some(object) => compare(&object["spec"], &expected.others, &ours),
    };
    let has_endpoints = of_host.iter().any(|cluster| cluster.config["type"] == "EDS");
    let endpoints = has_endpoints.then_some(sync::ENDPOINTS);
    let kinds = std::iter::once(sync::CLUSTERS).chain(endpoints).collect();
    Some(Seen { content, kinds })
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// The hosts that the object names, or named.
fn hosts(expected: &Expected) -> BTreeSet<String> {
    let specs = expected.object.iter().map(|object| &object["spec"]).chain(&expected.others);
    let names = specs.filter_map(|spec| spec["host"].as_str());
    names.map(|host| qualified(host, &expected.target.namespace)).collect()
}

/// A cluster of one of the hosts.
fn cluster<'a>(config: &'a Value, hosts: &BTreeSet<String>) -> Option<Cluster<'a>> {
    let mut parts = config["name"].as_str()?.strip_prefix("outbound|")?.splitn(3, '|');
    let (port, subset, host) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    hosts.contains(host).then_some(Cluster { port, subset, config })
}

fn compare(written: &Value, others: &[Value], clusters: &[&Cluster<'_>]) -> Content {
    match (fits(written, clusters), others.iter().any(|spec| fits(spec, clusters))) {
        (true, false) => Content::Shows,
        (false, true) => Content::Older,
        // The subsets are certain: whatever this comes from, it is not what was written.
        (false, false) if !has_subsets(written, clusters) => Content::Older,
        _ => Content::Unclear,
    }
}

/// Whether clusters can come from a spec: on each port the same subsets, and the policy of each.
fn fits(spec: &Value, clusters: &[&Cluster<'_>]) -> bool {
    has_subsets(spec, clusters)
        && clusters.iter().all(|cluster| {
            let policy = effective_policy(spec, cluster.subset, cluster.port);
            let found = found(cluster.config);
            predicted(&policy).iter().all(|(name, value)| found.get(name) == Some(value))
        })
}

fn has_subsets(spec: &Value, clusters: &[&Cluster<'_>]) -> bool {
    let wanted: BTreeSet<_> = items(spec, "subsets").filter_map(|it| it["name"].as_str()).chain([""]).collect();
    let mut by_port: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for cluster in clusters {
        by_port.entry(cluster.port).or_default().insert(cluster.subset);
    }
    by_port.values().all(|found| *found == wanted)
}

/// What a policy makes of a cluster, as far as it is certain; null = it has none of it.
fn predicted(policy: &Map<String, Value>) -> BTreeMap<&'static str, Value> {
    let part = |name: &str| policy.get(name).unwrap_or(&Value::Null);
    let (pool, outlier) = (part("connectionPool"), part("outlierDetection"));
    let limit = |value: &Value| json!(value.as_u64().filter(|limit| *limit > 0).unwrap_or(UNLIMITED));
    let mut traits = BTreeMap::from([
        ("maxConnections", limit(&pool["tcp"]["maxConnections"])),
        ("maxPendingRequests", limit(&pool["http"]["http1MaxPendingRequests"])),
        ("maxRequests", limit(&pool["http"]["http2MaxRequests"])),
        ("maxRetries", limit(&pool["http"]["maxRetries"])),
        ("ejects", json!(!outlier.is_null())),
    ]);
    let mut certain = |name, value: Value| {
        if !value.is_null() {
            traits.insert(name, value);
        }
    };
    let time = |value: &Value| if value.is_null() { Value::Null } else { json!(milliseconds(value)) };
    certain("connectTimeout", time(&pool["tcp"]["connectTimeout"]));
    certain("consecutive5xx", outlier["consecutive5xxErrors"].clone());
    certain("interval", time(&outlier["interval"]));
    certain("baseEjectionTime", time(&outlier["baseEjectionTime"]));
    certain("perConnection", above_zero(&pool["http"]["maxRequestsPerConnection"]));
    certain("idleTimeout", time(&pool["http"]["idleTimeout"]));
    certain("balancer", balancer(part("loadBalancer")));
    certain("encrypted", part("tls").get("mode").map_or(Value::Null, |mode| json!(mode != "DISABLE")));
    traits
}

fn above_zero(value: &Value) -> Value {
    if value.as_u64().is_some_and(|number| number > 0) { value.clone() } else { Value::Null }
}

fn balancer(settings: &Value) -> Value {
    let hash = &settings["consistentHash"];
    match settings["simple"].as_str() {
        _ if hash.is_object() && hash["maglev"].is_object() => "MAGLEV",
        _ if hash.is_object() => "RING_HASH",
        Some(name @ ("RANDOM" | "ROUND_ROBIN")) => name,
        None | Some("LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED") => "LEAST_REQUEST",
        Some(_) => return Value::Null,
    }
    .into()
}

/// The same of a generated cluster.
fn found(config: &Value) -> BTreeMap<&'static str, Value> {
    let limits = &config["circuitBreakers"]["thresholds"][0];
    let outlier = &config["outlierDetection"];
    let options = config["typedExtensionProtocolOptions"].as_object().into_iter().flat_map(Map::values).next();
    let common = options.map_or(&Value::Null, |options| &options["commonHttpProtocolOptions"]);
    let limit = |name: &str| json!(limits[name].as_u64().unwrap_or(UNLIMITED));
    BTreeMap::from([
        ("maxConnections", limit("maxConnections")),
        ("maxPendingRequests", limit("maxPendingRequests")),
        ("maxRequests", limit("maxRequests")),
        ("maxRetries", limit("maxRetries")),
        ("ejects", json!(!outlier.is_null())),
        ("connectTimeout", json!(milliseconds(&config["connectTimeout"]))),
        ("consecutive5xx", outlier["consecutive5xx"].clone()),
        ("interval", json!(milliseconds(&outlier["interval"]))),
        ("baseEjectionTime", json!(milliseconds(&outlier["baseEjectionTime"]))),
        ("perConnection", common["maxRequestsPerConnection"].clone()),
        ("idleTimeout", json!(milliseconds(&common["idleTimeout"]))),
        ("balancer", config["lbPolicy"].as_str().unwrap_or("ROUND_ROBIN").into()),
        ("encrypted", json!(!config["transportSocket"].is_null())),
    ])
}

#[cfg(test)]
mod tests {
    use meshward_model::Target;

    use super::*;

    const SOURCE: &str = "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/checkout";

    /// As istiod 1.32 generates it, without what is not read.
    fn generated(subset: &str, limit: u64, source: &str) -> Value {
        json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": format!("outbound|8080|{subset}|checkout.shop.svc.cluster.local"), "type": "EDS",
            "connectTimeout": "10s", "lbPolicy": "LEAST_REQUEST",
            "circuitBreakers": {"thresholds": [{"maxConnections": 4_294_967_295_u64,
                "maxPendingRequests": 4_294_967_295_u64, "maxRequests": limit, "maxRetries": 4_294_967_295_u64}]},
            "metadata": {"filterMetadata": {"istio": {"config": source, "subset": subset}}},
        })
    }

    fn dump(clusters: &[Value]) -> Value {
        json!({"configs": clusters})
    }

    fn spec(limit: u64, subsets: &[&str]) -> Value {
        let subsets: Vec<_> = subsets.iter().map(|name| json!({"name": name})).collect();
        let policy = json!({"connectionPool": {"http": {"http2MaxRequests": limit}}});
        json!({"host": "checkout", "trafficPolicy": policy, "subsets": subsets})
    }

    fn seen(clusters: &[Value], written: Option<Value>, others: Vec<Value>) -> Option<Seen<'static>> {
        let target = Target::new("", "networking.istio.io/v1", "DestinationRule", "shop", "checkout").unwrap();
        let object = written.map(|spec| json!({"spec": spec}));
        read(
            &dump(clusters),
            &Expected {
                target,
                object,
                others,
                rebinds: false,
                through: Vec::new(),
                cohorts: None,
                beside: Vec::new(),
                readers: crate::dialect::Readers::default(),
            },
        )
    }

    #[test]
    fn content_tells_new_from_old() {
        let plain = |limit| vec![generated("", limit, SOURCE)];
        let twins = |limit| vec![generated("", limit, SOURCE), generated("canary", limit, SOURCE)];
        let mut patient = spec(5, &[]);
        patient["trafficPolicy"]["connectionPool"]["tcp"] = json!({"tcpKeepalive": {"probes": 1}});
        let unlimited = json!({"host": "checkout"});
        for (name, clusters, written, other, content) in [
            ("its subset", twins(5), spec(5, &["canary"]), spec(5, &[]), Content::Shows),
            ("not its subset yet", plain(5), spec(5, &["canary"]), spec(5, &[]), Content::Older),
            ("its subset still", twins(5), spec(5, &[]), spec(7, &[]), Content::Older),
            ("its limit", plain(5), spec(5, &[]), spec(7, &[]), Content::Shows),
            ("the other's limit", plain(7), spec(5, &[]), spec(7, &[]), Content::Older),
            ("a limit that is gone", plain(UNLIMITED), unlimited.clone(), spec(7, &[]), Content::Shows),
            ("a limit that shall go", plain(7), unlimited, spec(7, &[]), Content::Older),
            ("what is not predicted", plain(5), patient, spec(5, &[]), Content::Unclear),
            ("neither", plain(6), spec(5, &[]), spec(7, &[]), Content::Unclear),
        ] {
            let seen = seen(&clusters, Some(written), vec![other]).unwrap();
            assert_eq!((seen.content, seen.kinds), (content, vec![sync::CLUSTERS, sync::ENDPOINTS]), "{name}");
        }
    }

    #[test]
    fn the_rest_of_a_policy_is_content_as_well() {
        let mut cluster = generated("", UNLIMITED, SOURCE);
        let config = &mut cluster;
        config["outlierDetection"] = json!({"consecutive5xx": 3, "interval": "1.500s"});
        config["lbPolicy"] = "RANDOM".into();
        config["transportSocket"] = json!({"name": "tls"});
        config["typedExtensionProtocolOptions"] =
            json!({"HttpProtocolOptions": {"commonHttpProtocolOptions": {"idleTimeout": "60s"}}});
        let policy = json!({"outlierDetection": {"consecutive5xxErrors": 3, "interval": "1500ms"},
                            "loadBalancer": {"simple": "RANDOM"}, "tls": {"mode": "SIMPLE"},
                            "connectionPool": {"http": {"idleTimeout": "1m"}}});
        let spec = json!({"host": "checkout", "trafficPolicy": policy});
        let clusters = [cluster];
        let content = |other: Value| seen(&clusters, Some(spec.clone()), vec![other]).unwrap().content;
        for (part, value) in [
            ("outlierDetection", json!({"consecutive5xxErrors": 3, "interval": "2s"})),
            ("outlierDetection", json!({"consecutive5xxErrors": 4})),
            ("loadBalancer", json!({"simple": "ROUND_ROBIN"})),
            ("loadBalancer", json!({"consistentHash": {"useSourceIp": true}})),
            ("loadBalancer", Value::Null),
            ("tls", json!({"mode": "DISABLE"})),
            ("connectionPool", json!({"http": {"idleTimeout": "2m"}})),
            ("connectionPool", json!({"tcp": {"connectTimeout": "1s"}})),
        ] {
            let mut other = spec.clone();
            other["trafficPolicy"][part] = value.clone();
            assert_eq!(content(other), Content::Shows, "{part} {value}");
        }
        assert_eq!(content(spec.clone()), Content::Unclear, "the same");
    }

    #[test]
    fn who_is_concerned() {
        let content =
            |clusters: &[Value], written| seen(clusters, written, vec![spec(7, &[])]).map(|seen| seen.content);
        let foreign = generated("", 5, "/apis/networking.istio.io/v1/namespaces/web/destination-rule/checkout");
        let mut elsewhere = generated("", 5, SOURCE);
        elsewhere["name"] = "outbound|8080||other.shop.svc.cluster.local".into();
        elsewhere["metadata"] = Value::Null;
        let mut inbound = generated("", 5, SOURCE);
        inbound["name"] = "inbound|8080||".into();
        let written = || Some(spec(5, &[]));
        assert_eq!(content(std::slice::from_ref(&foreign), written()), Some(Content::Unused), "another rule");
        assert_eq!(content(std::slice::from_ref(&foreign), None), Some(Content::Shows), "it is gone there");
        assert_eq!(content(&[generated("", 5, SOURCE)], None), Some(Content::Older), "it is still there");
        assert_eq!(content(&[elsewhere], written()), None, "it never calls the host");
        assert_eq!(content(&[inbound], written()), Some(Content::Unclear), "it is a server of the host");
    }
}
