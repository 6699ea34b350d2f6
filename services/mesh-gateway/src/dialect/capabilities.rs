//! What can be exposed how: the kind × mechanism table.
//!
//! It is read from what the dialects themselves ask before they plan, so it cannot promise what they refuse. Whether a
//! certain pair of versions can be exposed by a mechanism that its kind has is still the plan's answer. Print it with
//! `cargo run -p meshward-mesh-gateway --example capabilities`.

use std::fmt::Write as _;

use meshward_model::{Mechanism, Mesh};

use super::of;

/// What can be done with a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its mesh.
    pub mesh: Mesh,
    /// Its API group, in whatever version.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// How it can be exposed, best first; [`Mechanism::None`] = all at once.
    pub mechanisms: Vec<Mechanism>,
}

/// The columns of the table.
pub(super) const MECHANISMS: [Mechanism; 8] = [
    Mechanism::Request,
    Mechanism::Weight,
    Mechanism::Subset,
    Mechanism::Instance,
    Mechanism::Namespace,
    Mechanism::Header,
    Mechanism::Shadow,
    Mechanism::None,
];

/// Every kind of every mesh that Meshward knows of.
#[must_use]
pub fn capabilities() -> Vec<Capability> {
    [Mesh::Istio, Mesh::Linkerd].into_iter().flat_map(|mesh| of(mesh).capabilities()).collect()
}

/// The table as Markdown; "1" is the mechanism that a plan takes if none is asked for, then "2".
#[must_use]
pub fn table() -> String {
    let names = MECHANISMS.map(mechanism_name);
    let mut text = format!("| kind | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for Capability { group, kind, mechanisms, .. } in capabilities() {
        let cell = |mechanism: &Mechanism| {
            let place = mechanisms.iter().position(|known| known == mechanism);
            place.map_or_else(String::new, |place| (place + 1).to_string())
        };
        let cells = MECHANISMS.iter().map(cell).collect::<Vec<_>>().join(" | ");
        writeln!(text, "| {kind}.{group} | {cells} |").expect("a text can be written to");
    }
    text
}

/// As the contract writes it.
pub(super) fn mechanism_name(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Request => "REQUEST",
        Mechanism::Weight => "WEIGHT",
        Mechanism::Subset => "SUBSET",
        Mechanism::Instance => "INSTANCE",
        Mechanism::Namespace => "NAMESPACE",
        Mechanism::Header => "HEADER",
        Mechanism::Shadow => "SHADOW",
        Mechanism::None => "NONE",
    }
}

#[cfg(test)]
mod tests {
    use meshward_model::{Baseline, Target, Weight};
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::{Audience, HeaderMatch, HeaderValue, Question};

    /// Two versions of a kind that every mechanism which the kind has can expose.
    fn versions(kind: &str) -> [Value; 2] {
        let spec = |name: &str| match kind {
            "VirtualService" => json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": name}}]}]}),
            "AuthorizationPolicy" => {
                json!({"rules": [{"to": [{"operation": {"paths": [format!("/{name}")]}}]}]})
            }
            "PeerAuthentication" => json!({"mtls": {"mode": if name == "a" { "PERMISSIVE" } else { "STRICT" }}}),
            "ServiceEntry" => {
                json!({"hosts": ["x.example.com"], "resolution": "STATIC", "endpoints": [{"address": format!("{name}.example.com")}]})
            }
            "Gateway" => json!({"selector": {"app": "x"}, "servers": [{"name": name}]}),
            "WorkloadEntry" => json!({"address": format!("{name}.example.com"), "weight": 100}),
            "DestinationRule" => json!({"host": "x", "trafficPolicy": {"loadBalancer": {"simple": name}}}),
            _ => json!({"field": name}),
        };
        ["a", "b"].map(|name| json!({"metadata": {"name": "x", "namespace": "n"}, "spec": spec(name)}))
    }

    /// What a DestinationRule is for.
    fn service() -> Value {
        json!({"kind": "Service", "metadata": {"name": "x", "namespace": "n"},
               "spec": {"ports": [{"name": "http", "port": 80}]}})
    }

    /// Pairs of versions of a kind, each with what stands around it; together they show all of its mechanisms, the first
    /// one the best.
    fn examples(row: &Capability) -> Vec<([Value; 2], Vec<Value>)> {
        match row.mesh {
            Mesh::Istio => vec![(versions(row.kind), [neighbours(), vec![service()]].concat())],
            Mesh::Linkerd => crate::dialect::linkerd::examples(row.group, row.kind),
        }
    }

    fn planned(row: &Capability, example: &([Value; 2], Vec<Value>), wanted: Option<Mechanism>) -> Option<Mechanism> {
        let ([stable, canary], neighbours) = example;
        let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
        let target = Target {
            cluster: String::new(),
            mesh: row.mesh,
            api_version: canary["apiVersion"].as_str().map_or_else(|| format!("{}/v1", row.group), str::to_owned),
            kind: row.kind.to_owned(),
            namespace: text(&canary["metadata"]["namespace"]),
            name: text(&canary["metadata"]["name"]),
        };
        let weight = if wanted == Some(Mechanism::None) { 10_000 } else { 1000 };
        let header = (row.mesh == Mesh::Istio && wanted == Some(Mechanism::Header)).then(|| HeaderMatch {
            name: "x-beta".to_owned(),
            is_cookie: false,
            value: HeaderValue::Any,
        });
        let audience = Audience { header, namespaces: Vec::new() };
        let question = Question {
            target: &target,
            baseline: &Baseline::of(Some(stable.clone())),
            canary,
            weights: &[Weight::from_basis_points(weight).unwrap()],
            wanted,
            audience: &audience,
            neighbours: neighbours.into(),
        };
        of(row.mesh).plan(&question).ok().map(|planned| planned.plan.mechanism)
    }

    /// What stands around them: two pods, and a namespace of callers.
    fn neighbours() -> Vec<Value> {
        let pod = |name| json!({"kind": "Pod", "metadata": {"name": name, "namespace": "n", "labels": {"app": "x"}}});
        let callers = json!({"kind": "Namespace", "metadata": {"name": "m", "labels": {"istio-injection": "enabled"}}});
        ["x-0", "x-1"].map(pod).into_iter().chain([callers]).collect()
    }

    #[test]
    fn the_table_says_what_plans_say() {
        let mut asked = 0;
        for row in capabilities() {
            let examples = examples(&row);
            for mechanism in MECHANISMS {
                let is_planned =
                    examples.iter().any(|example| planned(&row, example, Some(mechanism)) == Some(mechanism));
                assert_eq!(is_planned, row.mechanisms.contains(&mechanism), "{} {mechanism:?}", row.kind);
                asked += 1;
            }
            // What a plan takes by itself is the first one below 100 %.
            let best = row.mechanisms.first().copied().filter(|mechanism| *mechanism != Mechanism::None);
            assert_eq!(planned(&row, &examples[0], None), best, "{}", row.kind);
        }
        assert_eq!(asked, (15 + 14) * 8);
    }

    #[test]
    fn the_table_can_be_read() {
        let table = table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "| kind | REQUEST | WEIGHT | SUBSET | INSTANCE | NAMESPACE | HEADER | SHADOW | NONE |");
        assert_eq!(lines[2], "| VirtualService.networking.istio.io | 1 | 2 |  | 4 | 3 | 5 |  | 6 |");
        assert!(lines.contains(&"| DestinationRule.networking.istio.io |  |  | 1 | 2 | 3 |  |  | 4 |"), "{table}");
        assert!(lines.contains(&"| ServiceEntry.networking.istio.io |  | 1 |  |  | 2 |  |  | 3 |"), "{table}");
        assert!(lines.contains(&"| AuthorizationPolicy.security.istio.io | 1 |  |  | 2 |  |  | 3 | 4 |"), "{table}");
        assert!(lines.contains(&"| Telemetry.telemetry.istio.io |  |  |  | 1 |  |  |  | 2 |"), "{table}");
        assert!(lines.contains(&"| Server.policy.linkerd.io |  |  |  | 1 |  |  | 2 | 3 |"), "{table}");
        assert_eq!(lines.len(), 2 + 15 + 14);
    }
}
