//! What Istio makes of a rule, written down from its documentation and its behaviour and not from our code: for a
//! subset and a port, the parts of the policy that hold. Version 2 must have the same effect as a twin as by itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::policy::{Names, exposed, promoted, subsets};

const PARTS: [&str; 7] =
    ["connectionPool", "loadBalancer", "outlierDetection", "proxyProtocol", "retryBudget", "tls", "tunnel"];
const OF_PORTS: [&str; 4] = ["connectionPool", "loadBalancer", "outlierDetection", "tls"];
const PORTS: [u64; 2] = [80, 81];

/// What holds for a subset on a port; the cluster's part, and the mode of TLS that its endpoints are given.
type Effect = (BTreeMap<&'static str, Value>, Option<String>);

fn find<'a>(spec: &'a Value, name: Option<&str>) -> &'a Value {
    name.map_or(&Value::Null, |name| subsets(spec).iter().find(|subset| subset["name"] == name).expect("it is there"))
}

/// The settings of a port, if a policy has some.
fn setting(policy: &Value, port: u64) -> Option<&Value> {
    policy["portLevelSettings"].as_array()?.iter().find(|setting| setting["port"]["number"] == port)
}

fn effect(spec: &Value, name: Option<&str>, port: u64) -> Effect {
    let (rule, own) = (&spec["trafficPolicy"], &find(spec, name)["trafficPolicy"]);
    let of_rule = |part: &str| match setting(rule, port) {
        Some(setting) if OF_PORTS.contains(&part) => setting[part].clone(),
        Some(_) => Value::Null,
        None => rule[part].clone(),
    };
    let mut parts = BTreeMap::new();
    for part in PARTS {
        let value = match setting(own, port) {
            Some(setting) if OF_PORTS.contains(&part) => setting[part].clone(),
            Some(_) => of_rule(part),
            None if own[part].is_null() => of_rule(part),
            None => own[part].clone(),
        };
        // Says nothing, and is there because something must be.
        if !value.is_null() && value != json!({"tcp": {}}) {
            parts.insert(part, value);
        }
    }
    let mode = |policy: &Value| {
        let tls = setting(policy, port).map(|setting| &setting["tls"]).filter(|tls| !tls.is_null());
        Some(tls.unwrap_or(&policy["tls"])).filter(|tls| !tls.is_null()).map(|tls| tls["mode"].to_string())
    };
    (parts, mode(own).or_else(|| mode(rule)))
}

/// Every twin is what version 2 says, and every subset of version 1 is what it was.
fn check(stable: &Value, canary: &Value, held: &Value) {
    let names = Names::new(stable, canary);
    let all = |spec: &Value| {
        let names = subsets(spec).iter().map(|subset| subset["name"].as_str().map(str::to_owned));
        std::iter::once(None).chain(names).collect::<Vec<_>>()
    };
    for port in PORTS {
        for name in all(canary) {
            let twin = names.twin(name.as_deref());
            assert_eq!(effect(held, Some(&twin), port), effect(canary, name.as_deref(), port), "{twin} in {held:#}");
            assert_eq!(find(held, Some(&twin))["labels"], find(canary, name.as_deref())["labels"]);
        }
        for name in all(stable) {
            assert_eq!(effect(held, name.as_deref(), port), effect(stable, name.as_deref(), port), "{name:?}");
        }
    }
}

/// A small source of chance: the same cases in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }

    fn parts(&mut self, names: &[&str]) -> Map<String, Value> {
        let mut parts = Map::new();
        for name in names {
            match (*name, self.below(4)) {
                ("tls", 0) => drop(parts.insert("tls".into(), json!({"mode": "DISABLE"}))),
                ("tls", 1) => drop(parts.insert("tls".into(), json!({"mode": "ISTIO_MUTUAL"}))),
                (part @ ("tunnel" | "proxyProtocol"), _) if self.below(8) > 0 => {
                    parts.remove(part);
                }
                (part, value @ 0..2) => drop(parts.insert(part.into(), json!({"value": value}))),
                _ => {}
            }
        }
        parts
    }

    fn policy(&mut self) -> Value {
        let mut policy = self.parts(&PARTS);
        let mut settings = Vec::new();
        for port in PORTS {
            if self.below(3) == 0 {
                let mut setting = self.parts(&OF_PORTS);
                setting.insert("port".into(), json!({"number": port}));
                settings.push(setting);
            }
        }
        if !settings.is_empty() {
            policy.insert("portLevelSettings".into(), json!(settings));
        }
        if policy.is_empty() { Value::Null } else { policy.into() }
    }

    fn spec(&mut self) -> Value {
        let mut spec = json!({"host": "a"});
        for (holder, chance) in [(None, 1), (Some("v1"), 2), (Some("v1-canary"), 4)] {
            if self.below(chance) > 0 {
                continue;
            }
            let policy = self.policy();
            let place = match holder {
                None => &mut spec,
                Some(name) => {
                    let list = spec.as_object_mut().expect("a map").entry("subsets").or_insert_with(|| json!([]));
                    let list = list.as_array_mut().expect("a list");
                    list.push(json!({"name": name, "labels": {"version": self.below(2).to_string()}}));
                    list.last_mut().expect("it was pushed")
                }
            };
            if !policy.is_null() {
                place["trafficPolicy"] = policy;
            }
        }
        spec
    }
}

#[test]
fn a_twin_has_the_effect_of_version_2_or_is_refused() {
    let mut dice = Dice(7);
    let (mut held, mut refused) = (0, BTreeMap::new());
    for _ in 0..2000 {
        let (stable, canary) = (dice.spec(), dice.spec());
        match exposed(&stable, &canary, &PORTS) {
            Ok(spec) => {
                held += 1;
                check(&stable, &canary, &spec);
                let words = ["trafficPolicy", "host"].map(|field| spec[field] == stable[field]);
                assert_eq!(words, [true, true], "version 1 is not touched");
            }
            Err(unsupported) => {
                let words = if unsupported.reason.contains("tls.mode") { "tls.mode" } else { "settings of the port" };
                assert!(unsupported.reason.contains(words), "{unsupported}");
                *refused.entry(words).or_insert(0) += 1;
            }
        }
        // At the end everything is version 2, under every name.
        let last = promoted(&stable, &canary);
        for port in PORTS {
            for subset in std::iter::once(&Value::Null).chain(subsets(&canary)) {
                let name = subset["name"].as_str();
                let twin = Names::new(&stable, &canary).twin(name);
                assert_eq!(effect(&last, Some(&twin), port), effect(&canary, name, port));
                assert_eq!(effect(&last, name, port), effect(&canary, name, port));
            }
        }
    }
    println!("{held} pairs are held exactly, refused: {refused:?}");
    assert!(held > 200 && refused.len() == 2 && refused.values().all(|count| *count > 20), "{held} {refused:?}");
}

#[test]
fn a_plain_subset_would_have_inherited_what_is_removed() {
    let stable = json!({"host": "a", "trafficPolicy": {"outlierDetection": {"x": 1}, "connectionPool": {"y": 1}}});
    let canary = json!({"host": "a", "trafficPolicy": {"connectionPool": {"y": 2}}});
    let mut plain = stable.clone();
    plain["subsets"] = json!([{"name": "canary", "trafficPolicy": canary["trafficPolicy"]}]);
    assert_ne!(effect(&plain, Some("canary"), 80), effect(&canary, None, 80), "or this test proves nothing");
    let held = exposed(&stable, &canary, &PORTS).unwrap();
    check(&stable, &canary, &held);
    assert_eq!(
        held["subsets"],
        json!([{"name": "canary", "trafficPolicy": {"connectionPool": {"y": 2}, "portLevelSettings": [
            {"port": {"number": 80}, "connectionPool": {"y": 2}}, {"port": {"number": 81}, "connectionPool": {"y": 2}}]}}])
    );
    // Nothing left at all: still something must be said.
    let held = exposed(&stable, &json!({"host": "a"}), &PORTS[..1]).unwrap();
    assert_eq!(
        held["subsets"][0]["trafficPolicy"],
        json!({"portLevelSettings": [{"port": {"number": 80}, "connectionPool": {"tcp": {}}}]})
    );
}

#[test]
fn what_only_adds_is_written_as_it_is() {
    let stable = json!({"host": "a", "trafficPolicy": {"connectionPool": {"y": 1}, "retryBudget": {"z": 1}}});
    let mut canary = stable.clone();
    canary["trafficPolicy"]["outlierDetection"] = json!({"x": 1});
    canary["trafficPolicy"]["retryBudget"] = json!({"z": 2});
    let held = exposed(&stable, &canary, &PORTS).unwrap();
    assert_eq!(held["subsets"], json!([{"name": "canary", "trafficPolicy": canary["trafficPolicy"]}]));
}

#[test]
fn names_avoid_those_of_both_versions() {
    let (stable, canary) = (
        json!({"subsets": [{"name": "canary"}, {"name": "v1"}]}),
        json!({"subsets": [
        {"name": "v1-canary"}]}),
    );
    let names = Names::new(&stable, &canary);
    assert_eq!(names.twin(None), "canary-2");
    assert_eq!(names.twin(Some("v1")), "v1-canary-2");
    assert_eq!(names.twin(Some("v1-canary")), "v1-canary-canary");
}

#[test]
fn what_cannot_be_a_twin_is_refused() {
    let with = |policy: Value| json!({"host": "a", "trafficPolicy": policy});
    let passthrough = json!({"loadBalancer": {"simple": "PASSTHROUGH"}});
    let long = "n".repeat(60);
    for (stable, canary, words) in [
        (with(json!({"tls": {"mode": "SIMPLE"}})), with(Value::Null), "the live one has SIMPLE"),
        (with(json!({"tls": {}})), with(Value::Null), "the live one has DISABLE"),
        (with(json!({"retryBudget": {"z": 1}})), with(Value::Null), "differ in retryBudget on port 80"),
        (with(json!({"tunnel": {"z": 1}})), with(json!({"connectionPool": {}})), "differ in tunnel on port 80"),
        (with(passthrough.clone()), with(Value::Null), "the live version has loadBalancer PASSTHROUGH"),
        (
            with(Value::Null),
            json!({"host": "a", "subsets": [{"name": "v", "trafficPolicy": {"portLevelSettings": [passthrough]}}]}),
            "the new version has loadBalancer PASSTHROUGH",
        ),
        (with(Value::Null), json!({"host": "a", "subsets": [{"name": long}]}), "so long a name"),
    ] {
        let unsupported = exposed(&stable, &canary, &PORTS).unwrap_err();
        assert!(unsupported.reason.contains(words) && !unsupported.would_work.is_empty(), "{unsupported}");
    }
}
