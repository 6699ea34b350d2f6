//! A set that changes is judged as if it were new, and asks no more than it must.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Entry, Kind, Set};
use crate::{
    app::{Input, Warm},
    text::Places,
};

fn entry(kind: &str, name: &str, spec: &Value) -> Entry {
    let (version, kind) = match kind {
        "Service" => ("v1", kind),
        "PeerAuthentication" => ("security.istio.io/v1", kind),
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
fn many_changes_end_where_a_new_set_begins() {
    let mut changing = shop(20);
    let mut number = 0x2545_f491_usize;
    let mut last: std::collections::BTreeMap<(Kind, String), Option<Entry>> = std::collections::BTreeMap::new();
    for (_, entry) in shop(20).world().entries() {
        last.insert((entry.kind, entry.head.name.clone()), Some(entry.clone()));
    }
    for _ in 0..300 {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        let name = format!("s{}", number % 20);
        let subset = ["v1", "v2", "v3"][number / 20 % 3];
        let entry = match number / 60 % 4 {
            0 => service(&name),
            1 => route(&name, subset),
            2 => rule(&name, &[subset]),
            _ => entry(
                "PeerAuthentication",
                &name,
                &json!({"selector": {"matchLabels": {"app": name}}, "mtls": {"mode": "STRICT"}}),
            ),
        };
        let key = (entry.kind, name.clone());
        if (number / 240).is_multiple_of(3) {
            changing.remove(entry.kind, "shop", &name);
            last.insert(key, None);
        } else {
            changing.put(entry.clone());
            last.insert(key, Some(entry));
        }
        if number.is_multiple_of(5) {
            changing.settle();
        }
    }
    changing.settle();
    let mut fresh = Set::new(true);
    fresh.extend(last.into_values().flatten());
    fresh.settle();
    assert_eq!(all(&changing), all(&fresh));
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
        let mut warm = Warm::of(&inputs, complete);
        let accepted = crate::app::Accepted { list: &[], today: "2026-01-01".parse().expect("a day") };
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
    let mut warm = Warm::of(&[Input { text: other.as_bytes(), source: "context[0]" }], false);
    let accepted = crate::app::Accepted { list: &[], today: "2026-01-01".parse().expect("a day") };
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
