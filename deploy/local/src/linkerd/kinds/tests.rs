//! The generated definitions against what they stand for.

use std::{collections::BTreeMap, fs};

use serde::Deserialize as _;
use serde_json::Value;

use super::*;

/// What a schema says, flattened: path of a field, and what counts of it.
fn flat(schema: &Value, path: &str, into: &mut BTreeMap<String, String>) {
    let facts = ["type", "enum", "default", "x-kubernetes-int-or-string"];
    let mut said = facts
        .iter()
        .filter(|fact| !schema[**fact].is_null())
        .map(|fact| format!("{fact}={}", sorted(&schema[*fact])))
        .collect::<Vec<_>>();
    // On a list it says nothing, though an original has it.
    if schema["type"] == "object" && !schema["required"].is_null() {
        said.push(format!("required={}", sorted(&schema["required"])));
    }
    into.insert(path.to_owned(), said.join(" "));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        flat(field, &format!("{path}.{name}"), into);
    }
    if schema["items"].is_object() {
        flat(&schema["items"], &format!("{path}[]"), into);
    }
}

fn sorted(value: &Value) -> String {
    let mut items: Vec<_> =
        value.as_array().map(|items| items.iter().map(Value::to_string).collect()).unwrap_or_default();
    items.sort();
    if value.is_array() { items.join(",") } else { value.to_string() }
}

/// Every version's spec of every definition, by kind and version.
fn specs(definitions: &[Value]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for definition in definitions {
        let spec = &definition["spec"];
        for version in spec["versions"].as_array().into_iter().flatten() {
            let name = format!("{} {} {}", spec["group"], spec["names"]["kind"], version["name"]);
            let mut fields = BTreeMap::new();
            flat(&version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec", &mut fields);
            found.insert(name, fields);
        }
    }
    found
}

#[test]
fn a_definition_is_structural_and_says_what_the_type_says() {
    let definitions = definitions();
    let specs = specs(&definitions);
    let server = &specs[r#""policy.linkerd.io" "Server" "v1beta3""#];
    assert_eq!(server["spec.accessPolicy"], r#"type="string" default="deny""#);
    assert_eq!(server["spec.port"], "x-kubernetes-int-or-string=true");
    let operator = &server["spec.podSelector.matchExpressions[].operator"];
    assert_eq!(operator, r#"type="string" enum="DoesNotExist","Exists","In","NotIn""#);
    let text = serde_json::to_string(&definitions).expect("JSON");
    for foreign in ["$ref", "$defs", "definitions", "nullable", "anyOf\":[{\"type\":\"object"] {
        assert!(!text.contains(foreign), "{foreign}");
    }
    let stored = |definition: &Value| {
        let versions = definition["spec"]["versions"].as_array().expect("a list").clone();
        versions.iter().filter(|version| version["storage"] == true).count()
    };
    assert!(definitions.iter().all(|definition| stored(definition) == 1));
}

/// Compares with the originals where somebody has them: `MESHWARD_LINKERD_CRDS` names the folder.
#[test]
fn the_originals_say_the_same() {
    let Some(folder) = std::env::var_os("MESHWARD_LINKERD_CRDS") else {
        println!("not compared: MESHWARD_LINKERD_CRDS names no folder");
        return;
    };
    let mut originals = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(path).expect("a file");
            originals
                .extend(serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).expect("YAML")));
        }
    }
    let (ours, originals) = (specs(&definitions()), specs(&originals));
    let mut different = Vec::new();
    for (name, ours) in ours.iter().filter(|(name, _)| !name.contains(GATEWAY)) {
        let Some(original) = originals.get(name) else {
            different.push(format!("{name} is none of theirs"));
            continue;
        };
        let paths = ours.keys().chain(original.keys()).collect::<std::collections::BTreeSet<_>>();
        for path in paths {
            let (ours, original) = (ours.get(path), original.get(path));
            if ours != original {
                different.push(format!("{name} {path}: {ours:?}, theirs {original:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{} differences:\n{}", different.len(), different.join("\n"));
}
