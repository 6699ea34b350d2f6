//! TrafficSplit: a kind of the SMI, which Linkerd itself does not read since 2.12; its extension linkerd-smi does.
//!
//! Where the kind is installed it is exposed like any list of destinations. Where it is not, the refusal brings the
//! `HTTPRoute` that says the same.

use serde_json::{Value, json};

use super::object::{list, name, namespace};
use crate::{dialect::Unsupported, object::spec};

/// What to write where the kind is not installed.
pub(super) fn instead(split: &Value) -> Unsupported {
    Unsupported::new(
        "the cluster has no TrafficSplit: Linkerd itself dropped it in 2.12, and only its extension linkerd-smi reads it",
        format!(
            "release this HTTPRoute, which does the same (its port is the Service's, correct it): {}",
            route(split)
        ),
    )
}

/// The route that splits the same Service in the same way.
fn route(split: &Value) -> Value {
    // The SMI may name the Service with its namespace.
    let service = spec(split)["service"].as_str().unwrap_or_default().split('.').next().unwrap_or_default();
    let destination =
        |backend: &Value| json!({"name": backend["service"], "port": 80, "weight": whole(&backend["weight"])});
    let destinations = list(spec(split), "backends").iter().map(destination).collect::<Vec<_>>();
    json!({
        "apiVersion": "policy.linkerd.io/v1beta3",
        "kind": "HTTPRoute",
        "metadata": {"name": name(split), "namespace": namespace(split)},
        "spec": {
            "parentRefs": [{"group": "core", "kind": "Service", "name": service, "port": 80}],
            "rules": [{"backendRefs": destinations}],
        },
    })
}

/// A weight in thousandths, since the SMI has "500m", and a route has whole numbers.
fn whole(weight: &Value) -> Value {
    let thousandths = match weight {
        Value::String(text) => match text.strip_suffix('m') {
            Some(number) => number.parse().ok(),
            None => text.parse().ok().map(|number: i64| number.saturating_mul(1000)),
        },
        number => number.as_i64().map(|number| number.saturating_mul(1000)),
    };
    // More than the schema allows only if a weight was above 1000.
    thousandths.map_or(Value::Null, |number| number.min(1_000_000).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_without_its_kind_is_a_route() {
        let split = json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": {"service": "web.shop", "backends": [
                {"service": "web-v1", "weight": "900m"}, {"service": "web-v2", "weight": "100m"}]}});
        let Unsupported { reason, would_work } = instead(&split);
        assert!(reason.contains("dropped it in 2.12"), "{reason}");
        let object: Value = serde_json::from_str(&would_work[would_work.find('{').unwrap()..]).unwrap();
        assert_eq!(
            object["spec"]["rules"][0]["backendRefs"],
            json!([
            {"name": "web-v1", "port": 80, "weight": 900}, {"name": "web-v2", "port": 80, "weight": 100}])
        );
        assert_eq!(object["spec"]["parentRefs"][0]["name"], "web");
    }
}
