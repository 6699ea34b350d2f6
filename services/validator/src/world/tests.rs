//! A set that changes is judged as if it were new, and asks no more than it must.

use std::sync::Arc;

use meshward_model::Confidence;
use serde_json::{Value, json};

use super::{Entry, Kind, Set};
use crate::{
    app::{Input, Warm},
    text::Places,
};

fn entry(kind: &str, name: &str, spec: &Value) -> Entry {
    let (version, kind) = match kind {
        "Service" | "Pod" => ("v1", kind),
        "PeerAuthentication" | "AuthorizationPolicy" => ("security.istio.io/v1", kind),
        _ => ("networking.istio.io/v1", kind),
    };
    let value = json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
    });
    let head = crate::app::head(&value);
    let kind = Kind::of(&head).expect("a known kind");
    Entry { head, kind, value: Arc::new(value), places: Arc::new(Places::default()), source: "".into() }
}

fn service(name: &str) -> Entry {
    entry("Service", name, &json!({"selector": {"app": name}, "ports": [{"port": 80, "name": "http"}]}))
}

fn route(name: &str, subset: &str) -> Entry {
    let to = json!({"host": name, "subset": subset});
    entry("VirtualService", name, &json!({"hosts": [name], "http": [{"route": [{"destination": to}]}]}))
}

fn rule(name: &str, subsets: &[&str]) -> Entry {
    let subsets: Vec<Value> = subsets.iter().map(|name| json!({"name": name})).collect();
    entry(
        "DestinationRule",
        name,
        &json!({"host": name, "subsets": subsets, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
    )
}

/// Everything that is said of every object.
fn all(set: &Set) -> Vec<String> {
    let said = set.world().entries().flat_map(|(id, entry)| {
        let hits = set.judgement(id).map(|judgement| judgement.hits.clone()).unwrap_or_default();
        hits.into_iter().map(move |hit| format!("{} {} {} {}", hit.rule.id, entry.full_name(), hit.path, hit.message))
    });
    let mut said: Vec<String> = said.collect();
    said.sort();
    said
}

/// `count` services with a route and a rule each.
fn shop(count: usize) -> Set {
    let mut set = Set::new(true);
    for number in 0..count {
        let name = format!("s{number}");
        set.extend([service(&name), route(&name, "v1"), rule(&name, &["v1", "v2"])]);
    }
    set.settle();
    set
}

#[test]
fn a_change_is_judged_with_what_it_touches_and_nothing_else() {
    let mut set = shop(200);
    let before = all(&set);
    let outcome = set.what_if(vec![rule("s7", &["v2"])]);
    assert!(outcome.judged <= 3, "{} objects were judged again", outcome.judged);
    let broken: Vec<_> = outcome.broken.iter().map(|(entry, hit)| (entry.head.name.as_str(), hit.rule.id)).collect();
    assert_eq!(broken, [("s7", "MW4104")], "the route to v1 is now one to nothing");
    assert_eq!(all(&set), before, "afterwards the set is as it was");
}

#[test]
fn a_policy_for_one_workload_touches_none_of_the_others() {
    let mut set = shop(50);
    let of = |name: &str, mode: &str| {
        let selector = json!({"matchLabels": {"app": name}});
        entry("PeerAuthentication", name, &json!({"selector": selector, "mtls": {"mode": mode}}))
    };
    set.extend((0..50).map(|number| of(&format!("s{number}"), "PERMISSIVE")));
    let outcome = set.what_if(vec![of("s7", "STRICT")]);
    assert_eq!(outcome.judged, 2, "itself and the rule for its host");
    let broken: Vec<_> = outcome.broken.iter().map(|(entry, hit)| (entry.head.name.as_str(), hit.rule.id)).collect();
    assert_eq!(broken, [("s7", "MW5104")]);
}

#[test]
fn what_a_change_mends_and_what_a_new_object_brings_is_told() {
    let mut set = shop(3);
    set.put(route("s1", "v3"));
    set.settle();
    let outcome = set.what_if(vec![rule("s1", &["v3"])]);
    let mended: Vec<_> = outcome.mended.iter().map(|(entry, hit)| (entry.head.name.as_str(), hit.rule.id)).collect();
    assert_eq!(mended, [("s1", "MW4104")]);
    let strict = entry("PeerAuthentication", "all", &json!({"mtls": {"mode": "STRICT"}}));
    let outcome = set.what_if(vec![strict, service("new")]);
    let broken: Vec<_> = outcome.broken.iter().map(|(_, hit)| hit.rule.id).collect();
    assert_eq!(broken, ["MW5104"; 3], "every rule sends plain text");
    assert_eq!(set.world().find(Kind::Service, "shop", "new"), None);
}

#[test]
fn who_needs_the_last_object_of_a_kind_is_told_when_it_is_gone() {
    let gateway = || entry("Gateway", "edge", &json!({"selector": {"istio": "ingress"}}));
    let bound = || {
        let spec =
            json!({"hosts": ["s0"], "gateways": ["edge"], "http": [{"route": [{"destination": {"host": "s0"}}]}]});
        entry("VirtualService", "s0", &spec)
    };
    for (gone, others, expected) in [
        (service("s0"), vec![route("s0", "v1"), rule("s0", &["v1"])], &["MW4102", "MW4116"][..]),
        (rule("s0", &["v1"]), vec![route("s0", "v1"), service("s0")], &["MW4104"]),
        (gateway(), vec![bound(), service("s0")], &["MW4101"]),
        (service("s1"), vec![route("s0", "v1"), rule("s0", &["v1"])], &[]),
    ] {
        let mut set = Set::new(false);
        set.extend(others);
        set.put(gone.clone());
        set.settle();
        let before = all(&set);
        let identity = (gone.kind, gone.head.namespace.clone(), gone.head.name.clone());
        for _ in 0..2 {
            let broken = set.without(std::slice::from_ref(&identity)).broken;
            let told: Vec<_> = broken.iter().map(|(_, hit)| (hit.rule.id, hit.confidence)).collect();
            let expected: Vec<_> = expected.iter().map(|id| (*id, Confidence::Possible)).collect();
            assert_eq!(told, expected, "{:?}", gone.head);
            assert_eq!(all(&set), before, "afterwards the set is as it was");
        }
        // Taken out in earnest it was never given, and nothing is known of its kind.
        set.remove(gone.kind, "shop", &gone.head.name);
        set.settle();
        assert!(all(&set).iter().all(|said| !expected.iter().any(|id| said.starts_with(id))), "{:?}", all(&set));
    }
}

/// Numbers by chance (xorshift).
struct Chance(usize);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())]
    }
}

/// One of some hundred objects that refer to each other, select the same workloads, or exclude each other.
fn any(chance: &mut Chance) -> Entry {
    let name = format!("s{}", chance.below(12));
    let (app, subset) = (format!("s{}", chance.below(12)), chance.of(&["v1", "v2", "v3"]));
    let labels = [json!({}), json!({"app": app}), json!({"app": app, "version": subset}), json!({"version": subset})];
    let labels = &labels[chance.below(labels.len())];
    let selector = json!({"matchLabels": labels});
    let mode = json!({"mode": chance.of(&["STRICT", "PERMISSIVE", "DISABLE", "UNSET"])});
    let source = json!([{"source": {"principals": [format!("cluster.local/ns/shop/sa/{app}")]}}]);
    match chance.below(8) {
        0 => service(&name),
        1 => route(&name, subset),
        2 => rule(&name, &[subset]),
        3 | 4 => entry("PeerAuthentication", &name, &json!({"selector": selector, "mtls": mode})),
        5 => {
            let action = chance.of(&["ALLOW", "DENY"]);
            let rules = json!([{"from": source}]);
            entry("AuthorizationPolicy", &name, &json!({"selector": selector, "action": action, "rules": rules}))
        }
        _ => {
            let mut pod =
                entry("Pod", &name, &json!({"serviceAccountName": app, "containers": [{"name": "istio-proxy"}]}));
            Arc::make_mut(&mut pod.value)["metadata"]["labels"] = labels.clone();
            pod
        }
    }
}

/// Everything that is said of the same objects in a set where they came in the same order and nothing ever changed.
fn of_new(set: &Set, changes: &[Entry]) -> Vec<String> {
    let mut fresh = Set::new(true);
    fresh.extend(set.world().entries().map(|(_, entry)| entry.clone()));
    fresh.extend(changes.iter().cloned());
    fresh.settle();
    all(&fresh)
}

#[test]
fn many_changes_end_where_a_new_set_begins() {
    for seed in [0x2545_f491_usize, 0x9e37_79b9, 0x1405_7b7e] {
        let (mut changing, mut chance) = (shop(4), Chance(seed));
        let mut there: std::collections::BTreeSet<(Kind, String)> =
            shop(4).world().entries().map(|(_, entry)| (entry.kind, entry.head.name.clone())).collect();
        for round in 0..1_000 {
            let entry = any(&mut chance);
            let key = (entry.kind, entry.head.name.clone());
            if chance.below(3) == 0 {
                assert_eq!(changing.remove(entry.kind, "shop", &key.1).is_some(), there.remove(&key));
            } else {
                changing.put(entry);
                there.insert(key);
            }
            if chance.below(5) == 0 {
                changing.settle();
            }
            if round % 50 == 0 {
                changing.settle();
                assert_eq!(all(&changing), of_new(&changing, &[]), "seed {seed}, round {round}");
            }
        }
        assert_eq!(changing.world().len(), there.len());
    }
}

#[test]
fn what_would_be_is_what_a_new_set_says_and_leaves_no_trace() {
    let (mut set, mut chance) = (shop(4), Chance(0x7fb5_d329));
    (0..80).for_each(|_| drop(set.put(any(&mut chance))));
    set.settle();
    let (mut broken, mut mended) = (0, 0);
    for round in 0..200 {
        let before = all(&set);
        let changes: Vec<Entry> = (0..=chance.below(3)).map(|_| any(&mut chance)).collect();
        let outcome = set.what_if(changes.clone());
        assert_eq!(all(&set), before, "round {round}: afterwards the set is as it was");
        let said = |entry: &Entry, hit: &crate::report::Hit| {
            format!("{} {} {} {}", hit.rule.id, entry.full_name(), hit.path, hit.message)
        };
        let would_be = of_new(&set, &changes);
        for (entry, hit) in &outcome.broken {
            assert!(would_be.contains(&said(entry, hit)), "round {round}: {}", said(entry, hit));
        }
        for (entry, hit) in &outcome.mended {
            assert!(before.contains(&said(entry, hit)), "round {round}: {}", said(entry, hit));
        }
        for (entry, judgement) in changes.iter().zip(&outcome.changed) {
            let later =
                changes.iter().rev().find(|other| (other.kind, &other.head.name) == (entry.kind, &entry.head.name));
            let counts = later.is_some_and(|later| std::ptr::eq(later, entry));
            let missing = judgement.hits.iter().find(|hit| counts && !would_be.contains(&said(entry, hit)));
            assert!(missing.is_none(), "round {round}: {missing:?}");
        }
        (broken, mended) = (broken + outcome.broken.len(), mended + outcome.mended.len());
        if chance.below(4) == 0 {
            changes.into_iter().for_each(|entry| drop(set.put(entry)));
            set.settle();
            assert_eq!(all(&set), would_be, "round {round}");
        }
    }
    assert!(broken > 50 && mended > 50, "{broken} broken, {mended} mended: too little happened");
}

#[test]
fn what_is_not_at_hand_is_possible_or_skipped() {
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: shop}
spec: {hosts: [cart], http: [{route: [{destination: {host: cart}}]}]}
";
    let other = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}";
    for (context, complete, expected, skipped) in [
        (vec![], false, None, true),
        (vec![other], false, Some(("MW4102", meshward_model::Severity::Warning)), false),
        (vec![other], true, Some(("MW4102", meshward_model::Severity::Error)), false),
    ] {
        let inputs: Vec<Input<'_>> =
            context.iter().map(|text: &&str| Input { text: text.as_bytes(), source: "context[0]" }).collect();
        let mut warm = Warm::among(&crate::app::Known::default(), &inputs, complete);
        let accepted = crate::app::Accepted { list: &[], now: "2026-01-01T00:00".parse().expect("a time") };
        let report =
            crate::app::validate_among(text.as_bytes(), "", &mut warm, &accepted, &crate::schema::Catalogue::default());
        let found = report.findings.iter().find(|finding| finding.id.starts_with("MW4"));
        assert_eq!(found.map(|finding| (finding.id.as_str(), finding.severity)), expected);
        let reason = "hosts that VirtualServices route to: no Service or ServiceEntry was given as context";
        assert_eq!(report.skipped.iter().any(|why| why == reason), skipped, "{:?}", report.skipped);
        assert!(report.is_valid(), "references are advice");
    }
}

#[test]
fn a_conflict_with_the_context_names_its_text() {
    let vs = |name: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: shop}}, spec: {{hosts: [cart], http: [{{route: [{{destination: {{host: cart}}}}]}}]}}}}"
        )
    };
    let (own, other) = (vs("a"), vs("b"));
    let mut warm =
        Warm::among(&crate::app::Known::default(), &[Input { text: other.as_bytes(), source: "context[0]" }], false);
    let accepted = crate::app::Accepted { list: &[], now: "2026-01-01T00:00".parse().expect("a time") };
    let report =
        crate::app::validate_among(own.as_bytes(), "", &mut warm, &accepted, &crate::schema::Catalogue::default());
    let places: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.id == "MW5101")
        .map(|finding| {
            (finding.object.name.as_str(), finding.details.source.as_str(), finding.details.related[0].source.as_str())
        })
        .collect();
    assert_eq!(places, [("a", "", "context[0]"), ("b", "context[0]", "")]);
}

#[test]
fn time_that_goes_by_is_no_change_of_anybody() {
    let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2027, 1, 1));
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    let data = json!({"tls.crt": certificate, "tls.key": key.serialize_pem()});
    let port = json!({"number": 443, "name": "a", "protocol": "HTTPS"});
    let server = json!({"hosts": ["a"], "port": port, "tls": {"mode": "SIMPLE", "credentialName": "pair"}});
    let context = [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pair", "namespace": "shop"}, "stringData": data}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "in", "namespace": "shop", "labels": {"gw": "in"}}, "spec": {}}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "a", "namespace": "shop"},
               "spec": {"selector": {"gw": "in"}, "servers": [server]}}),
    ];
    let text = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80, name: http}]}}";
    let mut warm = Warm::among(&crate::app::Known::new(context.to_vec(), Vec::new(), Vec::new()), &[], true);
    for (now, expired) in [("2026-06-01T12:00", false), ("2027-02-01T12:00", true), ("2026-06-01T12:00", false)] {
        warm.at(now.parse().expect("a time"));
        let said = all(&warm.set);
        assert_eq!(said.iter().any(|line| line.starts_with("MW4110 shop/a spec.servers[0].tls")), expired, "{said:?}");
        let change = warm.what_if(text.as_bytes(), &crate::schema::Catalogue::default());
        let about: Vec<_> = change.findings.iter().chain(&change.mended).filter(|one| one.id == "MW4110").collect();
        assert!(about.is_empty(), "the change has done nothing to the certificate: {about:?}");
    }
}
