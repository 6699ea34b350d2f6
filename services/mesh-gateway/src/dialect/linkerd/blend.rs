//! Blended weights of destinations: `(1 - p) * stable + p * canary`, per destination.
//!
//! Linkerd draws one destination for each request (HTTP, gRPC) or connection (TLS, TCP), by any total of weights. Two of
//! its habits matter here: a lone destination gets everything, whatever its weight says, and a list whose weights are
//! all zero makes the proxy panic. Neither is ever written.

use meshward_model::Weight;
use serde_json::{Value, json};

use super::kind::Kind;
use crate::dialect::{Unsupported, steps::ALL_AT_ONCE};

/// The total of blended weights. The schema allows up to 1,000,000 for each.
const TOTAL: f64 = 10_000.0;

/// Where a kind's lists of destinations are: the lists of a spec, each with its place for people.
fn lists(kind: Kind, spec: &Value) -> Vec<(String, &Value)> {
    match kind {
        Kind::Profile => vec![("spec.dstOverrides".to_owned(), &spec["dstOverrides"])],
        Kind::Split => vec![("spec.backends".to_owned(), &spec["backends"])],
        _ => {
            let rules = spec["rules"].as_array().into_iter().flatten().enumerate();
            rules.map(|(index, rule)| (format!("spec.rules[{index}].backendRefs"), &rule["backendRefs"])).collect()
        }
    }
}

/// The lists of destinations, to be written.
fn lists_mut(kind: Kind, spec: &mut Value) -> Vec<&mut Value> {
    match kind {
        Kind::Profile => vec![&mut spec["dstOverrides"]],
        Kind::Split => vec![&mut spec["backends"]],
        _ => {
            let rules = spec["rules"].as_array_mut().into_iter().flatten();
            rules.map(|rule| &mut rule["backendRefs"]).collect()
        }
    }
}

/// Whether destinations are all that differs, and none of them is a trap. `parent` is where a rule without destinations
/// sends.
pub(super) fn check(kind: Kind, stable: &Value, canary: &Value, parent: Option<&Value>) -> Result<(), Unsupported> {
    let without = |spec: &Value| {
        let mut spec = spec.clone();
        lists_mut(kind, &mut spec).into_iter().for_each(|list| *list = Value::Null);
        spec
    };
    let (before, after) = (without(stable), without(canary));
    if before != after {
        let field = first_difference(&before, &after, "spec");
        return Err(Unsupported::new(
            format!("the versions differ in {field}, and a weight chooses destinations only"),
            format!("change only destinations and their weights, or {ALL_AT_ONCE}"),
        ));
    }
    for (version, spec) in [("live", stable), ("new", canary)] {
        for (place, list) in lists(kind, spec) {
            check_list(version, &place, list)?;
        }
    }
    for ((place, before), (_, after)) in lists(kind, stable).into_iter().zip(lists(kind, canary)) {
        if before != after && (entries(before).is_empty() || entries(after).is_empty()) && parent.is_none() {
            return Err(Unsupported::new(
                format!(
                    "one version has no {place}, so it sends to where the object is about, and no one destination \
                     with a port says the same"
                ),
                format!("name that Service with its port as a destination in both versions, or {ALL_AT_ONCE}"),
            ));
        }
    }
    Ok(())
}

/// Where two values differ first, for people.
pub(super) fn first_difference(a: &Value, b: &Value, path: &str) -> String {
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys());
            let mut differing = keys.filter(|key| left.get(*key) != right.get(*key));
            differing.next().map_or_else(
                || path.to_owned(),
                |key| first_difference(&a[key.as_str()], &b[key.as_str()], &format!("{path}.{key}")),
            )
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let index = left.iter().zip(right).position(|(a, b)| a != b).unwrap_or_default();
            first_difference(&a[index], &b[index], &format!("{path}[{index}]"))
        }
        _ => path.to_owned(),
    }
}

fn entries(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn check_list(version: &str, place: &str, list: &Value) -> Result<(), Unsupported> {
    let refuse = |reason: String, would_work: &str| Err(Unsupported::new(reason, would_work));
    let weights: Option<Vec<_>> = entries(list).iter().map(weight).collect();
    let Some(weights) = weights.filter(|weights| weights.iter().all(|weight| *weight >= 0.0)) else {
        return refuse(
            format!("a weight in {place} of the {version} version is no number from 0"),
            "correct the weight",
        );
    };
    if weights.is_empty() || weights.iter().sum::<f64>() > 0.0 {
        return Ok(());
    }
    if weights.len() == 1 {
        return refuse(
            format!("{place} of the {version} version is a lone destination with weight 0, which gets everything"),
            "leave the weight out, or add the destination that shall get the rest",
        );
    }
    refuse(
        format!("all weights in {place} of the {version} version are zero, which makes the proxies panic"),
        "give one of them a weight",
    )
}

/// The weight of a destination: a number, or a quantity as Kubernetes writes it.
fn weight(entry: &Value) -> Option<f64> {
    match &entry["weight"] {
        Value::Null => Some(1.0),
        Value::String(text) => match text.strip_suffix('m') {
            Some(thousandths) => thousandths.parse::<f64>().ok().map(|value| value / 1000.0),
            None => text.parse().ok(),
        },
        number => number.as_f64(),
    }
}

/// The spec of a step.
pub(super) fn blend(kind: Kind, stable: &Value, canary: &Value, weight: Weight, parent: Option<&Value>) -> Value {
    let mut spec = stable.clone();
    let after: Vec<_> = lists(kind, canary).into_iter().map(|(_, list)| list.clone()).collect();
    for (list, after) in lists_mut(kind, &mut spec).into_iter().zip(after) {
        if *list != after {
            *list = blend_list(list, &after, weight.fraction(), parent);
        }
    }
    // Asking for a list that is not there has made it.
    remove_nulls(kind, &mut spec);
    spec
}

fn remove_nulls(kind: Kind, spec: &mut Value) {
    let without_null = |holder: &mut Value, field: &str| {
        if holder[field].is_null()
            && let Some(fields) = holder.as_object_mut()
        {
            fields.remove(field);
        }
    };
    match kind {
        Kind::Profile => without_null(spec, "dstOverrides"),
        Kind::Split => without_null(spec, "backends"),
        _ => {
            let rules = spec["rules"].as_array_mut().into_iter().flatten();
            rules.for_each(|rule| without_null(rule, "backendRefs"));
        }
    }
}

/// One list. What both versions send to is one entry.
fn blend_list(stable: &Value, canary: &Value, share: f64, parent: Option<&Value>) -> Value {
    let mut blended: Vec<(Value, f64)> = Vec::new();
    for (list, share) in [(stable, 1.0 - share), (canary, share)] {
        for (key, fraction) in fractions(list, parent) {
            match blended.iter_mut().find(|(known, _)| *known == key) {
                Some((_, weight)) => *weight += share * fraction,
                None => blended.push((key, share * fraction)),
            }
        }
    }
    let entries = blended.into_iter().filter(|(_, fraction)| *fraction > 0.0).map(|(mut entry, fraction)| {
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of 10000 is within 0 to 10000")]
        let weight = (fraction * TOTAL).round().max(1.0) as i64;
        entry["weight"] = json!(weight);
        entry
    });
    entries.collect()
}

/// Each destination without its weight, and its share.
fn fractions(list: &Value, parent: Option<&Value>) -> Vec<(Value, f64)> {
    let total: f64 = entries(list).iter().filter_map(weight).sum();
    match entries(list) {
        [] => parent.map(|parent| (parent.clone(), 1.0)).into_iter().collect(),
        [lone] => vec![(key(lone), 1.0)],
        several => several.iter().map(|entry| (key(entry), weight(entry).unwrap_or(0.0) / total)).collect(),
    }
}

/// A destination without its weight.
fn key(entry: &Value) -> Value {
    let mut key = entry.clone();
    if let Some(fields) = key.as_object_mut() {
        fields.remove("weight");
    }
    key
}

/// The name of the only destination that one version has and the other has not, of the canary and of the stable one.
/// `None` if there is not one of each, the same in every list.
pub(super) fn told_apart(
    kind: Kind,
    stable: &Value,
    canary: &Value,
    parent: Option<&Value>,
) -> Option<(String, String)> {
    let mut found: Option<(String, String)> = None;
    for ((_, before), (_, after)) in lists(kind, stable).into_iter().zip(lists(kind, canary)) {
        if before == after {
            continue;
        }
        let (before, after) = (fractions(before, parent), fractions(after, parent));
        let [(stable, _)] = &before[..] else { return None };
        let [(canary, _)] = &after[..] else { return None };
        let pair = (canary["name"].as_str()?.to_owned(), stable["name"].as_str()?.to_owned());
        if pair.0 == pair.1 || found.as_ref().is_some_and(|known| *known != pair) {
            return None;
        }
        found = Some(pair);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: Value) -> Value {
        json!({"rules": [{"backendRefs": list}]})
    }

    fn to(name: &str, weight: Value) -> Value {
        json!({"name": name, "port": 80, "weight": weight})
    }

    #[test]
    fn destinations_are_blended() {
        let parent = json!({"name": "web", "port": 80});
        let stable = of(json!([to("a", json!(3)), to("b", json!(1))]));
        for (stable, canary, weight, expected) in [
            // Any total.
            (
                stable.clone(),
                of(json!([to("c", json!(7))])),
                2000,
                json!([to("a", json!(6000)), to("b", json!(2000)), to("c", json!(2000))]),
            ),
            // What both send to is one entry; a lone one gets everything, whatever it says.
            (
                of(json!([to("a", json!(5))])),
                of(json!([to("a", json!(1)), to("b", json!(1))])),
                1000,
                json!([to("a", json!(9500)), to("b", json!(500))]),
            ),
            // No destination is the parent.
            (
                json!({"rules": [{}]}),
                of(json!([to("v2", json!(1))])),
                3000,
                json!([to("web", json!(7000)), to("v2", json!(3000))]),
            ),
            // A share that rounds to nothing is not nothing.
            (
                of(json!([to("a", json!(1)), to("b", json!(999_999))])),
                of(json!([to("b", json!(1))])),
                5000,
                json!([to("a", json!(1)), to("b", json!(10_000))]),
            ),
        ] {
            let weight = Weight::from_basis_points(weight).unwrap();
            assert_eq!(check(Kind::HttpRoute, &stable, &canary, Some(&parent)), Ok(()));
            let spec = blend(Kind::HttpRoute, &stable, &canary, weight, Some(&parent));
            assert_eq!(spec["rules"][0]["backendRefs"], expected);
        }
        let quantities = json!({"service": "web", "backends": [{"service": "a", "weight": "900m"}, {"service": "b", "weight": "100m"}]});
        let half =
            json!({"service": "web", "backends": [{"service": "a", "weight": 1}, {"service": "b", "weight": 1}]});
        let spec = blend(Kind::Split, &quantities, &half, Weight::from_basis_points(5000).unwrap(), None);
        let expected = json!([{"service": "a", "weight": 7000}, {"service": "b", "weight": 3000}]);
        assert_eq!(spec["backends"], expected);
    }

    #[test]
    fn what_is_equal_stays_as_it_is() {
        let stable = json!({"rules": [{"backendRefs": [to("a", json!(1))]}, {"filters": []}]});
        let canary = json!({"rules": [{"backendRefs": [to("b", json!(1))]}, {"filters": []}]});
        let spec = blend(Kind::HttpRoute, &stable, &canary, Weight::from_basis_points(1000).unwrap(), None);
        assert_eq!(spec["rules"][1], json!({"filters": []}));
    }

    #[test]
    fn traps_are_refused() {
        let fine = of(json!([to("a", json!(1))]));
        for (canary, reason) in [
            (of(json!([to("a", json!(0))])), "a lone destination with weight 0, which gets everything"),
            (of(json!([to("a", json!(0)), to("b", json!(0))])), "are zero, which makes the proxies panic"),
            (of(json!([to("a", json!(-1))])), "is no number from 0"),
            (json!({"rules": [{}]}), "one version has no spec.rules[0].backendRefs"),
            (
                json!({"rules": [{"timeouts": {"request": "1s"}, "backendRefs": [to("b", json!(1))]}]}),
                "the versions differ in spec.rules[0].timeouts, and a weight chooses destinations only",
            ),
            (json!({"hostnames": ["a"], "rules": fine["rules"]}), "the versions differ in spec.hostnames"),
        ] {
            let error = check(Kind::HttpRoute, &fine, &canary, None).unwrap_err();
            assert!(error.reason.contains(reason), "{error}");
        }
    }

    #[test]
    fn cohorts_are_told_apart_by_their_only_destinations() {
        let (a, b) = (of(json!([to("a", json!(1))])), of(json!([to("b", json!(1))])));
        let both = of(json!([to("a", json!(1)), to("b", json!(1))]));
        let pair = Some(("b".to_owned(), "a".to_owned()));
        assert_eq!(told_apart(Kind::HttpRoute, &a, &b, None), pair);
        assert_eq!(told_apart(Kind::HttpRoute, &a, &both, None), None);
        assert_eq!(told_apart(Kind::HttpRoute, &a, &a, None), None);
    }
}
