use serde_json::{Value, json};

use crate::schema::{Catalogue, Checked, Lookup};

/// A kind whose `spec` has one field `value` of this schema.
fn check(value_schema: &Value, value: &Value) -> Checked {
    let spec = json!({"type": "object", "properties": {"value": value_schema}});
    let mut catalogue = Catalogue::default();
    catalogue.add(&json!({
        "kind": "CustomResourceDefinition",
        "spec": {"group": "networking.istio.io", "names": {"kind": "Widget"}, "versions": [
            {"name": "v1", "served": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}},
        ]},
    }));
    let Lookup::Schema(schema) = catalogue.find("networking.istio.io/v1", "Widget") else { panic!("it was added") };
    let object = json!({"metadata": {"name": "a"}, "spec": {"value": value}});
    schema.check(&object).expect("the definition is in order")
}

fn with_rule(schema: &Value, rule: &Value) -> Value {
    let mut schema = schema.clone();
    schema["x-kubernetes-validations"] = json!([rule]);
    schema
}

fn text() -> Value {
    json!({"type": "string"})
}

fn texts() -> Value {
    json!({"type": "array", "items": text()})
}

fn object(fields: Value) -> Value {
    json!({"type": "object", "properties": fields})
}

/// The expressions are those of the definitions of Istio and of the Gateway API, in their own form.
#[test]
fn rules_hold_or_do_not() {
    let number = json!({"type": "integer"});
    let open = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let ports = json!({"type": "array", "items": object(json!({"number": number}))});
    for (schema, rule, good, bad) in [
        (text(), "duration(self) >= duration('1ms')", json!("1m30s"), json!("1us")),
        (text(), "self != '*' && !self.contains('*')", json!("a"), json!("a*")),
        (text(), "url(self).getScheme() in ['http', 'https']", json!("https://a/b"), json!("ftp://a")),
        (text(), "isURL(self) ? url(self).getHost() == 'a' : false", json!("http://a:80/"), json!("a")),
        (
            text(),
            "self.startsWith('unix://') ? self.substring(7, 8) == '/' : true",
            json!("unix:///a"),
            json!("unix://a"),
        ),
        (text(), "size(self) == 0 || !format.dns1123Label().validate(self).hasValue()", json!("a-b"), json!("A")),
        (text(), "self.matches(r\"\"\"^(?:[-a-z/]|[%][0-9a-f]{2})+$\"\"\")", json!("/a%2f"), json!("/A")),
        (text(), "quantity(self).isLessThan(quantity('1Gi'))", json!("500Mi"), json!("2Gi")),
        (texts(), "self.isSorted()", json!(["a", "b"]), json!(["b", "a"])),
        (texts(), "self.all(h, !isIP(h))", json!(["a"]), json!(["a", "10.0.0.1"])),
        (texts(), "self.exists_one(h, h == 'a')", json!(["a", "b"]), json!(["a", "a"])),
        (texts(), "self.filter(h, h == 'a').size() <= 1", json!(["a", "b"]), json!(["a", "a"])),
        (open.clone(), "self.all(key, key.split('/')[0].size() < 5)", json!({"a.b/c": "d"}), json!({"abc.de/f": ""})),
        (open, "self.all(key, 0 < int(key) && int(key) <= 65535)", json!({"80": "x"}), json!({"0": "x"})),
        (
            ports,
            "self.all(a, self.exists_one(b, a.number == b.number))",
            json!([{"number": 1}, {"number": 2}]),
            json!([{"number": 1}, {"number": 1}]),
        ),
        (number.clone(), "0 < self && self <= 65535", json!(80), json!(0)),
        (json!({"type": "number"}), "self <= 0.5", json!(0), json!(1)),
        (
            object(json!({"a_b": text(), "c": text()})),
            "has(self.a_b) != has(self.c)",
            json!({"a_b": "x"}),
            json!({"a_b": "", "c": ""}),
        ),
        (
            object(json!({"namespace": text(), "a-b": text()})),
            "self.__namespace__ == self.a__dash__b",
            json!({"namespace": "x", "a-b": "x"}),
            json!({"namespace": "x", "a-b": "y"}),
        ),
        (object(json!({"a": text()})), "(has(self.a) ? self.a : '').size() > 0", json!({"a": "x"}), json!({"a": null})),
        (json!({"type": "string", "format": "duration"}), "self < duration('1h')", json!("1m"), json!("2h")),
        (json!({"type": "string", "format": "byte"}), "size(self) == 2", json!("YWI="), json!("YQ==")),
    ] {
        let schema = with_rule(&schema, &json!({"rule": rule, "message": "no"}));
        let found = check(&schema, &good);
        assert!(found.hits.is_empty() && found.skipped.is_empty(), "{rule} holds for {good}: {found:?}");
        let found = check(&schema, &bad);
        assert_eq!((found.hits.len(), found.skipped.len()), (1, 0), "{rule} does not hold for {bad}: {found:?}");
        assert_eq!(
            (found.hits[0].rule.id, found.hits[0].path.to_string().as_str()),
            ("MW2014", "spec.value"),
            "{rule}"
        );
    }
}

#[test]
fn messages_are_those_of_the_rule() {
    for (schema, rule, value, path, message) in [
        (
            text(),
            json!({"rule": "self == 'a'", "message": "must be a"}),
            json!("b"),
            "spec.value",
            "the text \"b\": must be a",
        ),
        (
            text(),
            json!({"rule": "self == 'a'", "message": "x", "messageExpression": "'not ' + self"}),
            json!("b"),
            "spec.value",
            "the text \"b\": not b",
        ),
        (
            text(),
            json!({"rule": "self == 'a'", "message": "x", "messageExpression": "self.no.such"}),
            json!("b"),
            "spec.value",
            "the text \"b\": x",
        ),
        (
            texts(),
            json!({"rule": "size(self) > 0"}),
            json!([]),
            "spec.value",
            "the kind's definition demands \"size(self) > 0\"",
        ),
        (
            object(json!({"a": text()})),
            json!({"rule": "self.a == ''", "message": "x", "fieldPath": ".a"}),
            json!({"a": "b"}),
            "spec.value.a",
            "x",
        ),
        (
            text(),
            json!({"rule": "duration(self) > duration('0s')", "message": "x"}),
            json!("soon"),
            "spec.value",
            "the text \"soon\": x",
        ),
        (
            text(),
            json!({"rule": "int(self) > 0"}),
            json!("soon"),
            "spec.value",
            "the text \"soon\": the kind's definition demands \"int(self) > 0\" (int: ",
        ),
    ] {
        let found = check(&with_rule(&schema, &rule), &value).hits;
        assert_eq!(found.len(), 1, "{rule}: {found:?}");
        assert_eq!(found[0].path.to_string(), path, "{rule}");
        assert!(found[0].message.starts_with(message), "{rule}: {}", found[0].message);
    }
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    let many: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    for (rule, value, reason) in [
        ("self ==", json!(["a"]), "it cannot be read as CEL"),
        ("self == oldSelf", json!(["a"]), "it compares with the object before the change"),
        ("authorizer(self)", json!(["a"]), "authorizer is not known"),
        ("size(self)", json!(["a"]), "its result is neither true nor false"),
        ("self.all(a, self.all(b, a != '' || b != ''))", json!(many), "it would take too long on an object this large"),
    ] {
        let found = check(&with_rule(&texts(), &json!({"rule": rule, "message": "no"})), &value);
        assert!(found.hits.is_empty(), "{rule}: {found:?}");
        let expected = format!("rule {rule:?} of the definition: {reason}");
        assert_eq!(found.skipped, [expected], "{rule}");
    }
}

#[test]
fn a_rule_sees_defaults_and_no_object_with_wrong_types() {
    let schema = with_rule(
        &object(json!({"kind": {"type": "string", "default": "Service"}, "port": {"type": "integer"}})),
        &json!({"rule": "self.kind != 'Service' || has(self.port)", "message": "no port"}),
    );
    assert_eq!(check(&schema, &json!({})).hits.len(), 1, "the default counts");
    assert!(check(&schema, &json!({"kind": "Other"})).hits.is_empty());
    let found = check(&schema, &json!({"port": "80"}));
    let ids: Vec<_> = found.hits.iter().map(|hit| hit.rule.id).collect();
    assert_eq!(ids, ["MW2006"]);
    assert_eq!(found.skipped, ["rules of the definition: not asked, because of \"spec.value.port\""]);
}

#[test]
fn fields_that_the_definition_does_not_describe_are_not_seen() {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": text()}});
    let found =
        check(&with_rule(&schema, &json!({"rule": "self.size() == 1", "message": "no"})), &json!({"a": "", "b": ""}));
    assert!(found.hits.is_empty() && found.skipped.is_empty(), "{found:?}");
}
