//! A cluster as large as one asks for: services with their routes, rules and policies, and a few mistakes.

use std::fmt::Write as _;

/// Objects of one service, Service and Pods included.
const OF_A_SERVICE: usize = 8;
/// Services of one namespace.
const OF_A_NAMESPACE: usize = 25;

/// So many objects as YAML.
pub fn yaml(objects: usize) -> String {
    let mut text = String::new();
    for number in 0..objects.div_ceil(OF_A_SERVICE) {
        let left = objects - number * OF_A_SERVICE;
        for object in service(number).into_iter().take(left) {
            let _ = write!(
                text,
                "---
{object}"
            );
        }
    }
    text
}

/// Another version of one object of such a cluster: a route to a subset that may not be there, a rule without a subset, a policy.
pub fn change(objects: usize, number: usize) -> String {
    let services = (objects / OF_A_SERVICE).max(1);
    let of = number.wrapping_mul(7919) % services;
    let own = service(of);
    match number % 3 {
        0 => own[3].replace("subset: v2", "subset: v3"),
        1 => own[4].replace("name: v2", "name: v4"),
        _ => own[6].replace("mode: STRICT", "mode: DISABLE"),
    }
}

fn service(number: usize) -> Vec<String> {
    let (namespace, name) = (format!("team-{}", number / OF_A_NAMESPACE), format!("service-{number}"));
    let meta = |version: &str, kind: &str, name: &str, labels: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\n{labels}")
    };
    let pod = |version: &str| {
        let labels = format!("  labels:\n    app: {name}\n    version: {version}\n");
        meta("v1", "Pod", &format!("{name}-{version}"), &labels)
            + &format!(
                "spec:\n  serviceAccountName: {name}\n  containers:\n  - name: app\n    image: app\n  - name: istio-proxy\n    image: proxy\n"
            )
    };
    // Every fortieth route goes to a subset that is not there, every fiftieth rule sends plain text, some hosts are there twice.
    let subset = if number % 40 == 13 { "v9" } else { "v2" };
    let tls = if number % 50 == 17 { "DISABLE" } else { "ISTIO_MUTUAL" };
    let host = if number % 60 == 19 { format!("service-{}", number - 1) } else { name.clone() };
    vec![
        meta("v1", "Service", &name, "")
            + &format!(
                "spec:\n  selector:\n    app: {name}\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n"
            ),
        pod("v1"),
        pod("v2"),
        meta("networking.istio.io/v1", "VirtualService", &name, "")
            + &format!(
                "spec:\n  hosts:\n  - {host}\n  http:\n  - name: beta\n    match:\n    - headers:\n        x-beta:\n          exact: \"1\"\n    route:\n    \
                 - destination:\n        host: {name}\n        subset: {subset}\n  - name: all\n    route:\n    - destination:\n        host: {name}\n        \
                 subset: v1\n      weight: 90\n    - destination:\n        host: {name}\n        subset: v2\n      weight: 10\n    timeout: 10s\n    \
                 retries:\n      attempts: 3\n      perTryTimeout: 2s\n"
            ),
        meta("networking.istio.io/v1", "DestinationRule", &name, "")
            + &format!(
                "spec:\n  host: {name}\n  trafficPolicy:\n    tls:\n      mode: {tls}\n    connectionPool:\n      tcp:\n        maxConnections: 100\n    \
                 outlierDetection:\n      consecutive5xxErrors: 5\n      interval: 10s\n  subsets:\n  - name: v1\n    labels:\n      version: v1\n  \
                 - name: v2\n    labels:\n      version: v2\n"
            ),
        meta("security.istio.io/v1", "AuthorizationPolicy", &name, "")
            + &format!(
                "spec:\n  selector:\n    matchLabels:\n      app: {name}\n  action: ALLOW\n  rules:\n  - from:\n    - source:\n        principals:\n        \
                 - cluster.local/ns/{namespace}/sa/{name}\n    to:\n    - operation:\n        methods: [GET, POST]\n        paths: [/api/*]\n"
            ),
        meta("security.istio.io/v1", "PeerAuthentication", &name, "")
            + &format!("spec:\n  selector:\n    matchLabels:\n      app: {name}\n  mtls:\n    mode: STRICT\n"),
        meta("networking.istio.io/v1", "ServiceEntry", &format!("{name}-ext"), "")
            + &format!(
                "spec:\n  hosts:\n  - {name}.example.com\n  ports:\n  - number: 443\n    name: tls\n    protocol: TLS\n  resolution: DNS\n"
            ),
    ]
}
