use meshward_model::Finding;
use serde_json::{Value, json};

use super::{Catalogue, explain::nearest};
use crate::app;

/// A small definition with every construct that Istio's use.
fn catalogue() -> Catalogue {
    let one_of = json!([
        {"not": {"anyOf": [{"required": ["exact"]}, {"required": ["prefix"]}]}},
        {"required": ["exact"]},
        {"required": ["prefix"]},
    ]);
    let spec = json!({
        "type": "object",
        "required": ["host"],
        "properties": {
            "host": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
            "weight": {"type": "integer", "minimum": 0, "maximum": 100},
            "port": {"x-kubernetes-int-or-string": true},
            "mode": {"type": "string", "enum": ["DISABLE", "SIMPLE"]},
            "uri": {
                "type": "object",
                "oneOf": one_of,
                "properties": {"exact": {"type": "string"}, "prefix": {"type": "string"}},
            },
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "maxItems": 2, "items": {"type": "boolean"}},
            "maybe": {"type": "string", "nullable": true},
        },
    });
    let definition = json!({
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": "networking.istio.io",
            "names": {"kind": "Widget"},
            "versions": [
                {"name": "v1", "served": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}},
                {"name": "v0", "served": false, "schema": {"openAPIV3Schema": {}}},
            ],
        },
    });
    let mut catalogue = Catalogue::default();
    catalogue.add(&definition);
    catalogue.add(&json!({"kind": "ConfigMap"}));
    catalogue
}

fn judge(head: &str, rest: &Value) -> Vec<Finding> {
    let text = format!("{head}\nmetadata: {{name: a, namespace: shop}}\nspec: {rest}\n");
    app::validate(text.as_bytes(), "", &catalogue()).findings
}

fn widget(spec: &Value) -> Vec<Finding> {
    judge("apiVersion: networking.istio.io/v1\nkind: Widget", spec)
}

#[test]
fn objects_that_fit_have_no_findings() {
    for spec in [
        json!({"host": "a", "weight": 100, "port": 80, "mode": "SIMPLE", "uri": {"exact": "/"}, "labels": {"a": "b"}}),
        json!({"host": "a", "port": "http", "uri": {}, "free": {"any": [1]}, "list": [true, false], "maybe": null}),
        json!({"host": "a", "weight": null}),
    ] {
        assert_eq!(widget(&spec), [], "{spec}");
    }
}

#[test]
fn every_kind_of_error_is_a_sentence_at_its_field() {
    for (spec, id, path, message, suggestion) in [
        (json!({}), "MW2005", "spec.host", "the field host is missing", ""),
        (
            json!({"host": "a", "wieght": 1}),
            "MW2004",
            "spec.wieght",
            "spec has no field \"wieght\"",
            "did you mean weight?",
        ),
        (json!({"host": "a", "zzz": 1}), "MW2004", "spec.zzz", "spec has no field \"zzz\"", ""),
        (
            json!({"host": "a", "weight": "1"}),
            "MW2006",
            "spec.weight",
            "must be a whole number, and is the text \"1\"",
            "",
        ),
        (json!({"host": "a", "weight": 1.5}), "MW2006", "spec.weight", "must be a whole number, and is 1.5", ""),
        (
            json!({"host": "a", "labels": {"v": 1}}),
            "MW2006",
            "spec.labels.v",
            "must be a text, and is 1",
            "put it in quotes",
        ),
        (
            json!({"host": "a", "port": true}),
            "MW2006",
            "spec.port",
            "must be a whole number or a text, and is true",
            "put it in quotes",
        ),
        (
            json!({"host": "a", "mode": "simple"}),
            "MW2007",
            "spec.mode",
            "the text \"simple\" is not one of DISABLE and SIMPLE",
            "did you mean SIMPLE?",
        ),
        (json!({"host": "A"}), "MW2008", "spec.host", "the text \"A\" does not match \"^[a-z]+$\"", ""),
        (json!({"host": "a", "weight": 101}), "MW2009", "spec.weight", "101 is more than 100", ""),
        (json!({"host": "a", "weight": -1}), "MW2009", "spec.weight", "-1 is less than 0", ""),
        (json!({"host": "a", "list": [true, true, true]}), "MW2009", "spec.list", "a list has more than 2 items", ""),
        (
            json!({"host": "a", "uri": {"exact": "a", "prefix": "b"}}),
            "MW2010",
            "spec.uri.prefix",
            "only one of exact and prefix may be set, and exact and prefix are",
            "",
        ),
        (json!({"host": "a", "uri": "/"}), "MW2006", "spec.uri", "must be a mapping, and is the text \"/\"", ""),
    ] {
        let findings = widget(&spec);
        let found: Vec<_> = findings
            .iter()
            .map(|f| (f.id.as_str(), f.path.as_str(), f.message.as_str(), f.suggestion.as_str()))
            .collect();
        assert_eq!(found, [(id, path, message, suggestion)], "{spec}");
        assert!(findings[0].at.is_some_and(|at| at.line == 4), "{findings:?}");
    }
}

#[test]
fn objects_of_other_kinds_have_findings_of_their_own() {
    let spec = json!({});
    for (head, id, suggestion) in [
        ("apiVersion: v1\nkind: Service", "MW2001", "Meshward governs Widget"),
        ("apiVersion: networking.istio.io/v1\nkind: Widgett", "MW2002", "its kinds are Widget"),
        ("apiVersion: other.istio.io/v1\nkind: Widget", "MW2002", "its kinds are Widget"),
        ("apiVersion: networking.istio.io/v0\nkind: Widget", "MW2003", "its versions are v1"),
        ("apiVersion: networking.istio.io/v1", "MW2012", ""),
    ] {
        let findings = judge(head, &spec);
        assert_eq!(findings.len(), 1, "{head}: {findings:?}");
        assert_eq!((findings[0].id.as_str(), findings[0].suggestion.as_str()), (id, suggestion), "{head}");
    }
    let text = "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: a, namespace: b}\nspec: {port: 80, podSelector: {}}";
    let report = app::validate(text.as_bytes(), "", &catalogue());
    assert!(report.is_valid() && report.skipped.iter().any(|reason| reason.contains("nothing of its mesh")));
}

#[test]
fn without_definitions_the_schema_is_skipped_and_said_so() {
    let text =
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], htttp: []}";
    let report = app::validate(text.as_bytes(), "", &Catalogue::default());
    assert_eq!(report.skipped, ["schema: no CRD catalogue is configured; set --crds"]);
    let found: Vec<_> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(found, ["MW3003", "MW3105"]);
    assert_eq!(report.objects.len(), 0, "an object without a namespace is no target");
}

#[test]
fn suggestions_are_near() {
    assert_eq!(nearest("hots", &["hosts", "http"]), Some("hosts"));
    assert_eq!(nearest("completely", &["hosts", "http"]), None);
    assert_eq!(nearest(&"x".repeat(1000), &["hosts"]), None);
}
