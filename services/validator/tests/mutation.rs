//! Thousands of damaged texts: the validator never panics, and whatever it refuses, it gives a reason for.

use meshward_model::Severity;
use meshward_validator::{app, explain, rules::catalogue, schema::Catalogue};
use serde_json::json;

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

/// Pieces that break YAML in interesting ways.
const PIECES: [&str; 28] = [
    "\t", "\n", "\r", " ", "- ", ": ", "? ", "{", "}", "[", "]", "&a ", "*a ", "*x", "!t ", "!!int ", "<<: ", "\"",
    "'", "|", ">", "#", "%", "---\n", "\u{feff}", "\u{0}", "é", "0777",
];

/// A small generator of numbers (xorshift), so that every run sees the same texts.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

fn damage(text: &str, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + chance.below(12)).min(bytes.len());
        let piece = PIECES[chance.below(PIECES.len())].as_bytes();
        match chance.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, piece.iter().copied())),
            2 => drop(bytes.splice(at..end, piece.iter().copied())),
            3 => bytes.extend_from_within(at..end),
            _ if at < bytes.len() => bytes[at] = u8::try_from(chance.below(256)).unwrap(),
            _ => bytes.push(b'\n'),
        }
    }
    bytes
}

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
        let bytes = damage(SEEDS[round % SEEDS.len()], &mut chance);
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
        let bytes = damage(POLICIES[round % POLICIES.len()], &mut chance);
        let report = app::validate(&bytes, "", &catalogue);
        let shown = String::from_utf8_lossy(&bytes);
        let placed = report.findings.iter().all(|finding| finding.at.is_some_and(|at| at.line > 0 && at.column > 0));
        assert!(placed, "{shown}: {:?}", report.findings);
        match explain::explain(&bytes, &catalogue) {
            Ok(sentences) => {
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
