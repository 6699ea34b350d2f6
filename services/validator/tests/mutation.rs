//! Thousands of damaged texts: the validator never panics, and whatever it refuses, it gives a reason for.

use meshward_model::{Finding, Severity};
use meshward_validator::{
    app,
    explain::{self, Explained},
    rules::catalogue,
    schema::Catalogue,
};
use serde_json::{Value, json};

#[path = "../src/bin/bench/damage.rs"]
mod damage;

use damage::{Chance, damage};

const SEEDS: [&str; 3] = [
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: checkout\n  namespace: shop\nspec:\n  hosts: [checkout]\n  \
     http:\n  - match:\n    - headers: {x-user: {regex: 'a.*'}}\n    route:\n    - destination: {host: checkout, subset: v1}\n      weight: 90\n    \
     - destination: {host: checkout, subset: v2}\n      weight: 10\n    timeout: 10s\n    retries: {attempts: 3, retryOn: 5xx}\n",
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: checkout, namespace: shop}\nspec:\n  host: checkout\n  \
     trafficPolicy: &p\n    connectionPool: {tcp: {maxConnections: 10, connectTimeout: 30ms}}\n    outlierDetection: {interval: 1s}\n  subsets:\n  \
     - name: v1\n    labels: {version: v1}\n    trafficPolicy: *p\n  - {<<: {name: v2}, labels: {version: \"v2\"}}\n",
    "---\na: !!str 1\nb: |\n  text\nc: >-\n  folded\n? d\n: [1, 0x2, 1_0, yes, ~, .inf]\n...\n---\n{e: &x {f: *x}}\n",
];

/// Policies on who may call whom, and routes, of both meshes.
const POLICIES: [&str; 4] = [
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: cart, namespace: shop}\nspec:\n  rules:\n  - from:\n    \
     - source: {principals: [a, b*], notNamespaces: [c]}\n    to:\n    - operation: {methods: [GET], paths: [/x]}\n    when:\n    \
     - {key: source.ip, values: [10.0.0.0/8]}\n",
    "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: cart, namespace: shop}\nspec:\n  targetRef: \
     {group: policy.linkerd.io, kind: Server, name: cart}\n  requiredAuthenticationRefs:\n  - {kind: ServiceAccount, name: web}\n---\n\
     apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: cart, namespace: shop}\nspec:\n  podSelector: {matchLabels: \
     {app: cart}}\n  port: 80\n",
    "apiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata:\n  name: cart\n  namespace: shop\n  annotations: \
     {retry.linkerd.io/http: 5xx}\nspec:\n  parentRefs: [{group: core, kind: Service, name: cart, port: 80}]\n  rules:\n  - matches: \
     [{path: {type: RegularExpression, value: '/a.*'}}]\n    timeouts: {request: 10s, backendRequest: 1s}\n",
    "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: cart.shop.svc.cluster.local, namespace: shop}\nspec:\n  \
     routes:\n  - name: a\n    condition: {all: [{not: {method: PUT}}]}\n    responseClasses:\n    - condition: {status: {min: 500}}\n",
];

/// Istio's other kinds.
const ISTIO: [&str; 8] = [
    "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a, namespace: shop}\nspec:\n  servers:\n  - hosts: ['*.a.b', \
     ./*]\n    bind: 0.0.0.0\n    port: {number: 443, name: https, protocol: HTTPS}\n    tls: {mode: MUTUAL, credentialName: a}\n",
    "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a, namespace: shop}\nspec:\n  ingress:\n  - port: {number: 80, \
     protocol: HTTP}\n    defaultEndpoint: '[::1]:80'\n  egress:\n  - bind: unix:///a\n    port: {number: 0}\n    hosts: [./*, ~b/*]\n  - \
     hosts: ['*/*']\n",
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\nspec:\n  hosts: [a.b]\n  addresses: \
     [10.0.0.0/8, fd00::]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints:\n  - {address: \
     1.1.1.1, ports: {http: 8080}, labels: {a: b}}\n",
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: a, namespace: shop}\nspec:\n  configPatches:\n  - \
     applyTo: HTTP_FILTER\n    match: {proxy: {proxyVersion: '^1\\.2.*'}, listener: {filterChain: {filter: {name: a}}}}\n    patch:\n      \
     operation: ADD\n      value: {name: a, typed_config: {'@type': x/envoy.a.v3.B}}\n",
    "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a, namespace: shop}\nspec:\n  accessLogging:\n  - filter: \
     {expression: \"response.code >= 400 && a['b'] in [1, 'c']\"}\n  metrics:\n  - overrides: [{tagOverrides: {a: {value: b}}}]\n",
    "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a, namespace: shop}\nspec:\n  jwtRules:\n  - issuer: \
     a\n    jwksUri: https://u@a.b:80/c%20d?e\n  - jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"a\"}]}'\n    issuer: b\n",
    "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a, namespace: shop}\nspec:\n  url: oci://a/b\n  \
     vmConfig: {env: [{name: a, value: b}]}\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, \
     namespace: shop}\nspec: {selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: STRICT}}}\n",
    "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: a, namespace: shop}\nspec:\n  template: {address: \
     unix://@a}\n  probe: {httpGet: {port: 80, httpHeaders: [{name: a}]}}\n---\napiVersion: networking.istio.io/v1\nkind: \
     WorkloadEntry\nmetadata: {name: a, namespace: shop}\nspec: {address: a.b, ports: {http: 80}}\n",
];

/// Definitions with a part of the real structure, so that schemas take part.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for kind in ["VirtualService", "DestinationRule"] {
        let spec = json!({"type": "object", "properties": {
            "hosts": {"type": "array", "items": {"type": "string"}},
            "host": {"type": "string"},
            "http": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            "trafficPolicy": {"type": "object", "properties": {"connectionPool": {"type": "object"}}},
            "subsets": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        }});
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
        catalogue.add(&json!({
            "kind": "CustomResourceDefinition",
            "spec": {
                "group": "networking.istio.io",
                "names": {"kind": kind},
                "versions": [{"name": "v1", "served": true, "schema": schema}],
            },
        }));
    }
    catalogue
}

#[test]
fn damaged_texts_are_answered_with_findings() {
    let (catalogue, mut chance) = (catalogue(), Chance(0x9e37_79b9_7f4a_7c15));
    let (mut refused, mut without_object) = (0, 0);
    for round in 0..6_000 {
        let bytes = damage(SEEDS[round % SEEDS.len()], 4, 12, &mut chance);
        let report = app::validate(&bytes, "", &catalogue);
        let shown = String::from_utf8_lossy(&bytes);
        for finding in &report.findings {
            assert!(
                catalogue::ALL.iter().any(|rule| rule.id == finding.id && rule.slug == finding.slug),
                "{finding:?}"
            );
            assert!(
                !finding.message.is_empty() && finding.at.is_some_and(|at| at.line > 0 && at.column > 0),
                "{shown}: {finding:?}"
            );
        }
        let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        assert!(errors > 0 || !report.objects.is_empty(), "refused without a reason: {shown}");
        refused += usize::from(errors > 0);
        without_object += usize::from(report.objects.is_empty());
    }
    // The damage is of a kind that is noticed, and not so grave that nothing but syntax is tried.
    assert!((3_000..6_000).contains(&refused), "{refused} refused");
    assert!((1_000..5_500).contains(&without_object), "{without_object} without an object");
}

#[test]
fn damaged_policies_are_judged_and_explained_or_refused_with_places() {
    let (catalogue, mut chance) = (Catalogue::default(), Chance(0x2545_f491_4f6c_dd1d));
    let (mut explained, mut refused) = (0, 0);
    for round in 0..4_000 {
        let bytes = damage(POLICIES[round % POLICIES.len()], 4, 12, &mut chance);
        let report = app::validate(&bytes, "", &catalogue);
        let shown = String::from_utf8_lossy(&bytes);
        let placed = report.findings.iter().all(|finding| finding.at.is_some_and(|at| at.line > 0 && at.column > 0));
        assert!(placed, "{shown}: {:?}", report.findings);
        match explain::explain(&bytes, &catalogue) {
            Ok(Explained { sentences, .. }) => {
                assert!(sentences.len() >= report.objects.len().max(1), "{shown}: {sentences:?}");
                explained += 1;
            }
            Err(findings) => {
                assert!(!findings.is_empty() && !report.is_valid(), "{shown}: refused without a reason");
                refused += 1;
            }
        }
    }
    assert!(explained > 200 && refused > 500, "{explained} explained, {refused} refused");
}

/// Puts a value of any kind where another one was.
fn swap(value: &mut Value, chance: &mut Chance) {
    let below: Vec<&mut Value> = match value {
        Value::Object(fields) => fields.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => Vec::new(),
    };
    if !below.is_empty() && chance.below(6) > 0 {
        let at = chance.below(below.len());
        return below.into_iter().nth(at).into_iter().for_each(|inner| swap(inner, chance));
    }
    let others = [
        json!(null),
        json!(-1),
        json!(65536),
        json!(1e300),
        json!(true),
        json!(""),
        json!("*"),
        json!("unix://"),
        json!("\u{e9}/%/[::1]:x"),
        json!([]),
        json!([null, 0, ""]),
        json!({}),
        json!({"": {"a/*": "~"}}),
    ];
    *value = others[chance.below(others.len())].clone();
}

#[test]
fn objects_of_istio_with_any_value_anywhere_are_judged_with_places() {
    let (catalogue, mut chance) = (Catalogue::default(), Chance(0x1405_7b7e_f767_814f));
    let mut semantic = 0;
    for seed in ISTIO {
        let report = app::validate(seed.as_bytes(), "", &catalogue);
        assert!(
            report.findings.iter().all(|finding| finding.severity == Severity::Info),
            "{seed}: {:?}",
            report.findings
        );
        for _ in 0..600 {
            let mut objects: Vec<Value> = report.objects.iter().map(|object| object.value.clone()).collect();
            for object in &mut objects {
                swap(&mut object["spec"], &mut chance);
                swap(&mut object["spec"], &mut chance);
            }
            let text = objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
            let report = app::validate(text.as_bytes(), "", &catalogue);
            let is_placed = |finding: &Finding| finding.at.is_some_and(|at| at.line > 0 && at.column > 0);
            assert!(report.findings.iter().all(is_placed), "{text}: {:?}", report.findings);
            semantic += usize::from(report.findings.iter().any(|finding| finding.id.starts_with("MW31")));
        }
    }
    assert!(semantic > 2_000, "{semantic} changed so that a rule of Istio notices");
}
