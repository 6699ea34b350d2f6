//! The traffic policy of a DestinationRule, of a subset, or of one port.

use std::collections::HashSet;

use super::{common, tls_settings};
use crate::{
    report::{Hit, quote},
    rules::{catalogue as rule, field::Field},
};

const PARTS: [&str; 8] = [
    "outlierDetection",
    "connectionPool",
    "loadBalancer",
    "tls",
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];

const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// One past the largest table that Envoy's Maglev takes.
const MAGLEV_BOUND: i64 = 5_000_011;

/// All rules of a policy that may be absent.
pub(super) fn check(policy: &Field<'_>, namespace: &str) -> Vec<Hit> {
    if !policy.is_set() {
        return Vec::new();
    }
    if policy.set_among(&PARTS).is_empty() {
        let message = "the traffic policy has no field";
        return vec![Hit::new(rule::DR_EMPTY, policy.path(), message).suggest("fill it or remove it")];
    }
    if policy.set_among(&["tunnel", "proxyProtocol"]).len() == 2 {
        let message = "tunnel and proxyProtocol exclude each other";
        return vec![Hit::new(rule::DR_CONFLICT, policy.get("proxyProtocol").path(), message).at_key()];
    }
    let mut hits = parts(policy, namespace);
    for port in policy.get("portLevelSettings").items() {
        hits.extend(port_level(&port, namespace));
    }
    hits.extend(tunnel(&policy.get("tunnel")));
    hits
}

/// What a policy and a port-level policy have in common.
fn parts(policy: &Field<'_>, namespace: &str) -> Vec<Hit> {
    let outlier = policy.get("outlierDetection");
    let mut hits = outlier_detection(&outlier);
    hits.extend(connection_pool(&policy.get("connectionPool")));
    hits.extend(load_balancer(&policy.get("loadBalancer"), outlier.is_set()));
    hits.extend(tls_settings::check(&policy.get("tls"), namespace));
    hits
}

fn port_level(port: &Field<'_>, namespace: &str) -> Vec<Hit> {
    let mut hits = Vec::new();
    if !port.get("port").is_set() {
        let message = "port-level settings need a port";
        hits.push(Hit::new(rule::DR_PORT_LEVEL, port.path(), message).suggest("add port: {number: …}"));
    }
    if port.set_among(&PARTS[..4]).is_empty() {
        hits.push(Hit::new(rule::DR_EMPTY, port.path(), "the port-level policy has no field"));
    }
    hits.extend(parts(port, namespace));
    hits
}

fn outlier_detection(outlier: &Field<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> =
        ["baseEjectionTime", "interval"].iter().filter_map(|name| common::duration(&outlier.get(name))).collect();
    for name in ["maxEjectionPercent", "minHealthPercent"] {
        let percent = outlier.get(name);
        if let Some(number) = percent.integer().filter(|number| !(0..=100).contains(number)) {
            let message = format!("{name} is {number}, which is not within 0 to 100");
            hits.push(Hit::new(rule::DR_PERCENT, percent.path(), message));
        }
    }
    let local = outlier.get("consecutiveLocalOriginFailures");
    if local.integer().is_some_and(|number| number > 0) && !outlier.get("splitExternalLocalOriginErrors").is_true() {
        let message = "consecutiveLocalOriginFailures counts only with splitExternalLocalOriginErrors: true";
        hits.push(Hit::new(rule::DR_OUTLIER, local.path(), message).at_key());
    }
    let old = outlier.get("consecutiveErrors");
    if old.integer().is_some_and(|number| number != 0) {
        let message = "consecutiveErrors is deprecated";
        let advice = "use consecutiveGatewayErrors or consecutive5xxErrors";
        hits.push(Hit::new(rule::DR_DEPRECATED, old.path(), message).at_key().suggest(advice));
    }
    hits
}

/// Limits of connections and requests, which may be absent.
pub(super) fn connection_pool(pool: &Field<'_>) -> Vec<Hit> {
    if !pool.is_set() {
        return Vec::new();
    }
    let (http, tcp) = (pool.get("http"), pool.get("tcp"));
    if !http.is_set() && !tcp.is_set() {
        let message = "the connection pool has neither http nor tcp";
        return vec![Hit::new(rule::DR_EMPTY, pool.path(), message).suggest("fill it or remove it")];
    }
    let limits = [
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "maxConcurrentStreams",
    ];
    let mut hits: Vec<Hit> =
        limits.iter().filter_map(|name| common::non_negative(rule::DR_LIMIT, &http.get(name), name)).collect();
    hits.extend(common::duration(&http.get("idleTimeout")));
    if http.get("h2UpgradePolicy").text() == "UPGRADE" && http.get("useClientProtocol").is_true() {
        let message = "useClientProtocol and h2UpgradePolicy UPGRADE exclude each other";
        hits.push(Hit::new(rule::DR_CONFLICT, http.get("useClientProtocol").path(), message).at_key());
    }
    hits.extend(keepalive(&http.get("http2KeepAlive")));
    hits.extend(common::non_negative(rule::DR_LIMIT, &tcp.get("maxConnections"), "maxConnections"));
    let alive = tcp.get("tcpKeepalive");
    let times = [tcp.get("connectTimeout"), tcp.get("maxConnectionDuration"), alive.get("time"), alive.get("interval")];
    hits.extend(times.iter().filter_map(common::duration));
    // Below a millisecond means "never", so that only finer parts of longer times are wrong.
    let idle = tcp.get("idleTimeout");
    let off = common::nanoseconds(idle.text()).is_some_and(|nanos| nanos / 1_000_000 == 0);
    hits.extend(common::duration(&idle).filter(|_| !off));
    hits
}

fn keepalive(keepalive: &Field<'_>) -> Vec<Hit> {
    if !keepalive.is_set() {
        return Vec::new();
    }
    let missing = |name: &&str| {
        let field = keepalive.get(name);
        let message = format!("http2KeepAlive needs {name}");
        if field.is_set() {
            common::duration(&field)
        } else {
            Some(Hit::new(rule::DR_KEEPALIVE, field.path(), message))
        }
    };
    ["interval", "timeout"].iter().filter_map(missing).collect()
}

fn load_balancer(settings: &Field<'_>, has_outlier: bool) -> Vec<Hit> {
    let mut hits = consistent_hash(&settings.get("consistentHash"));
    let (locality, zone) = (settings.get("localityLbSetting"), settings.get("zoneAwareLbSetting"));
    if locality.is_set() && zone.is_set() {
        let message = "localityLbSetting and zoneAwareLbSetting exclude each other";
        hits.push(Hit::new(rule::DR_CONFLICT, zone.path(), message).at_key());
    }
    hits.extend(distribution(&locality));
    hits.extend(fail_over(&locality, has_outlier));
    hits.extend(topology(&locality, !locality.get("failover").items().is_empty()));
    hits.extend(fail_over(&zone, has_outlier));
    hits.extend(topology(&zone, true));
    hits.extend(warm_up(&settings.get("warmup")));
    hits
}

fn consistent_hash(hash: &Field<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut hit =
        |field: &Field<'_>, message: String| hits.push(Hit::new(rule::DR_LOAD_BALANCER, field.path(), message));
    let cookie = hash.get("httpCookie");
    if cookie.is_set() && cookie.get("name").text().is_empty() {
        hit(&cookie, "the cookie needs a name".to_owned());
    }
    let mut names = HashSet::new();
    for attribute in cookie.get("attributes").items() {
        match attribute.get("name").text() {
            "" => hit(&attribute, "the cookie attribute needs a name".to_owned()),
            name if !names.insert(name) => {
                hit(&attribute, format!("the cookie attribute {} is there already", quote(name)));
            }
            _ => {}
        }
    }
    let (ring, maglev) = (hash.get("minimumRingSize"), hash.get("maglev"));
    let old = ring.integer().is_some_and(|size| size != 0);
    if old && !hash.set_among(&["maglev", "ringHash"]).is_empty() {
        hit(&ring, "minimumRingSize excludes maglev and ringHash".to_owned());
    }
    if maglev.is_set() {
        let size = maglev.get("tableSize").integer().unwrap_or_default();
        if !(1..MAGLEV_BOUND).contains(&size) || !is_prime(size) {
            let message = format!("tableSize is {size}, and must be a prime number below {MAGLEV_BOUND}");
            hit(&maglev.get("tableSize"), message);
        }
    }
    if old {
        let message = "minimumRingSize is deprecated";
        hits.push(Hit::new(rule::DR_DEPRECATED, ring.path(), message).at_key().suggest("use ringHash"));
    }
    hits
}

/// For numbers below [`MAGLEV_BOUND`].
fn is_prime(number: i64) -> bool {
    number >= 2 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| number % divisor != 0)
}

/// Weights of 1 to 100 that sum up to 100, and no failover beside them.
fn distribution(setting: &Field<'_>) -> Vec<Hit> {
    let distribute = setting.get("distribute");
    let mut hits = Vec::new();
    let mut hit = |field: &Field<'_>, message: String| hits.push(Hit::new(rule::DR_LOCALITY, field.path(), message));
    if !distribute.items().is_empty() && !setting.get("failover").items().is_empty() {
        hit(&setting.get("failover"), "distribute and failover exclude each other".to_owned());
        return hits;
    }
    for part in distribute.items() {
        let weights = part.get("to").entries();
        let bad =
            weights.iter().find(|(_, weight)| !weight.integer().is_some_and(|weight| (1..=100).contains(&weight)));
        let sum = weights.iter().filter_map(|(_, weight)| weight.integer()).fold(0, i64::saturating_add);
        match bad {
            Some((_, weight)) => hit(weight, "a locality's weight must be within 1 to 100".to_owned()),
            None if sum != 100 => {
                hit(&part.get("to"), format!("the weights of the localities sum up to {sum}, not 100"));
            }
            None => {}
        }
        let targets: Vec<&str> = weights.iter().map(|(name, _)| *name).collect();
        if let Some(problem) = overlap(&targets) {
            hit(&part.get("to"), problem);
        }
    }
    let sources = distribute.items();
    let sources: Vec<&str> = sources.iter().map(|part| part.get("from").text()).collect();
    if let Some(problem) = overlap(&sources) {
        hit(&distribute, problem);
    }
    hits
}

/// Localities are region/zone/subzone, with `*` at the end only, and must not overlap.
fn overlap(localities: &[&str]) -> Option<String> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut wide: HashSet<&str> = HashSet::new();
    for locality in localities {
        let parts: Vec<&str> = locality.split('/').collect();
        let star = parts.iter().position(|part| *part == "*");
        let inner_star = star.is_some_and(|at| at + 1 != parts.len());
        if parts.len() > 3
            || inner_star
            || parts.iter().any(|part| part.is_empty() || (part.contains('*') && *part != "*"))
        {
            return Some(format!("{} is no locality (region/zone/subzone)", quote(locality)));
        }
        let base = locality.strip_suffix("/*").unwrap_or(if *locality == "*" { "" } else { locality });
        if !seen.insert(base) {
            return Some(format!("the locality {} overlaps another one", quote(locality)));
        }
        wide.insert(base);
    }
    let within_another = |base: &&&str| {
        let parents = base.match_indices('/').map(|(at, _)| &base[..at]).chain([""]);
        !base.is_empty() && parents.into_iter().any(|parent| wide.contains(parent))
    };
    seen.iter().find(within_another).map(|base| format!("the locality {} overlaps another one", quote(base)))
}

fn fail_over(setting: &Field<'_>, has_outlier: bool) -> Vec<Hit> {
    let failover = setting.get("failover").items();
    let mut hits = Vec::new();
    for part in &failover {
        let (from, to) = (part.get("from").text(), part.get("to").text());
        let problem = match () {
            () if from == to => "from and to are the same region",
            () if from.contains('/') || to.contains('/') => "failover names regions only, without zones",
            () if from.contains('*') || to.contains('*') => "failover takes no wildcards",
            () => continue,
        };
        hits.push(Hit::new(rule::DR_LOCALITY, part.path(), problem));
    }
    let fails_over = !failover.is_empty() || !setting.get("failoverPriority").items().is_empty();
    if fails_over && !has_outlier {
        let message = "failover does nothing without outlierDetection, which tells a failed endpoint";
        hits.push(Hit::new(rule::DR_FAILOVER, setting.path(), message).suggest("add outlierDetection"));
    }
    hits
}

fn topology(setting: &Field<'_>, forbidden: bool) -> Option<Hit> {
    let priorities = setting.get("failoverPriority").items();
    let field = priorities.iter().find(|priority| forbidden && TOPOLOGY.contains(&priority.text()))?;
    let message = format!("failoverPriority must not use {} here", quote(field.text()));
    Some(Hit::new(rule::DR_LOCALITY, field.path(), message))
}

fn warm_up(warm: &Field<'_>) -> Vec<Hit> {
    if !warm.is_set() {
        return Vec::new();
    }
    let mut hits: Vec<Hit> = common::duration(&warm.get("duration")).into_iter().collect();
    let mut hit = |name: &str, message: &str| {
        hits.push(Hit::new(rule::DR_LOAD_BALANCER, warm.get(name).path(), message));
    };
    if !warm.get("duration").is_set() {
        hit("duration", "warmup needs a duration");
    }
    if warm.get("minimumPercent").number().is_some_and(|number| number > 100.0) {
        hit("minimumPercent", "minimumPercent is more than 100");
    }
    if warm.get("aggression").number().is_some_and(|number| number <= 0.0) {
        hit("aggression", "aggression must be greater than 0");
    }
    hits
}

fn tunnel(tunnel: &Field<'_>) -> Vec<Hit> {
    if !tunnel.is_set() {
        return Vec::new();
    }
    let mut hits = Vec::new();
    let mut hit = |name: &str, message: String| {
        hits.push(Hit::new(rule::DR_TUNNEL, tunnel.get(name).path(), message));
    };
    let (protocol, host) = (tunnel.get("protocol").text(), tunnel.get("targetHost").text());
    if !["", "CONNECT", "POST"].contains(&protocol) {
        hit("protocol", format!("the tunnel protocol {} is not CONNECT or POST", quote(protocol)));
    }
    if let (Err(problem), false) = (common::dns_name(host), common::is_ip(host)) {
        hit("targetHost", format!("the tunnel's host {} cannot be used: {problem}", quote(host)));
    }
    let port = tunnel.get("targetPort");
    if !(1..=65535).contains(&port.integer().unwrap_or_default()) {
        hit("targetPort", "the tunnel's port is not within 1 to 65535".to_owned());
    }
    hits
}
