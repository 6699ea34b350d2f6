use meshward_model::{Finding, Severity};
use serde_json::{Value, json};

use super::Known;
use crate::{
    app::{Accepted, Input, Warm, validate_among},
    schema::Catalogue,
};

/// A VirtualService for one host.
fn route(name: &str, host: &str) -> Value {
    let http = json!([{"route": [{"destination": {"host": host}}]}]);
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name, "namespace": "shop"},
           "spec": {"hosts": [host], "http": http}})
}

fn beta(mut object: Value) -> Value {
    object["apiVersion"] = json!("networking.istio.io/v1beta1");
    object
}

/// What is found about who else has a host, on the judged object and on others.
fn conflicts(own: &Value, known: &Known, texts: &[Value]) -> Vec<Finding> {
    let texts: Vec<String> = texts.iter().map(Value::to_string).collect();
    let inputs: Vec<_> = texts.iter().map(|text| Input { text: text.as_bytes(), source: "context[0]" }).collect();
    let mut warm = Warm::among(known, &inputs, false);
    let accepted = Accepted { list: &[], now: jiff::civil::date(2026, 1, 1).at(0, 0, 0, 0) };
    let report = validate_among(own.to_string().as_bytes(), "", &mut warm, &accepted, &Catalogue::default());
    report.findings.into_iter().filter(|finding| finding.id == "MW5101").collect()
}

#[test]
fn an_object_counts_once_and_never_against_itself() {
    let own = || route("cart", "cart");
    let b = |host: &str| vec![route("b", host)];
    for (what, live, active, approved, texts, expected) in [
        ("alone", vec![], vec![], vec![], vec![], vec![]),
        ("active only", vec![], b("cart"), vec![], vec![], vec!["registry"]),
        ("live only", b("cart"), vec![], vec![], vec![], vec!["cluster"]),
        ("live and active", b("cart"), b("cart"), vec![], vec![], vec!["cluster"]),
        ("in another API version", b("cart"), vec![beta(route("b", "cart"))], vec![], vec![], vec!["cluster"]),
        ("what is live differs", b("web"), b("cart"), vec![], vec![], vec![]),
        ("approved only", vec![], vec![], b("cart"), vec![], vec!["registry/approved"]),
        ("approved after the active one", vec![], b("web"), b("cart"), vec![], vec!["registry/approved"]),
        ("approved after the live one", b("web"), vec![], b("cart"), vec![], vec!["registry/approved"]),
        ("both", vec![], b("cart"), b("cart"), vec![], vec!["registry"]),
        ("mended by the approved one", vec![], b("cart"), b("web"), vec![], vec!["registry"]),
        ("a text is newer", b("cart"), vec![], b("cart"), b("web"), vec![]),
        ("its own older version", vec![own()], vec![beta(own())], vec![own()], vec![], vec![]),
        ("a draft after an approved one", vec![], vec![route("cart", "web")], vec![own()], vec![], vec![]),
    ] {
        let found = conflicts(&own(), &Known::new(live, active, approved), &texts);
        let about_own = found.iter().filter(|finding| finding.details.source.is_empty());
        let sources: Vec<_> = about_own.map(|finding| finding.details.related[0].source.as_str()).collect();
        assert_eq!(sources, expected, "{what}: {found:?}");
    }
}

#[test]
fn what_only_an_approved_version_causes_blocks_nobody() {
    for (known, expected) in [
        (Known::new(vec![], vec![route("b", "cart")], vec![]), Severity::Error),
        (Known::new(vec![], vec![], vec![route("b", "cart")]), Severity::Warning),
    ] {
        let found = conflicts(&route("cart", "cart"), &known, &[]);
        assert_eq!(found.len(), 2, "one on each of both: {found:?}");
        assert!(found.iter().all(|finding| finding.severity == expected), "{found:?}");
    }
}

#[test]
fn a_new_version_is_as_old_as_its_object() {
    let born = |name: &str, host: &str, year: i32| {
        let mut object = route(name, host);
        object["metadata"]["creationTimestamp"] = json!(format!("{year}-01-01T00:00:00Z"));
        object
    };
    let two = || vec![born("cart", "web", 2022), born("b", "web", 2020)];
    for (what, live, approved, first) in [
        ("the judged one is the older", vec![born("cart", "web", 2020), born("b", "cart", 2022)], vec![], "shop/cart"),
        ("the judged one is new", vec![born("b", "cart", 2022)], vec![], "shop/b"),
        ("the approved one is the older", two(), vec![route("b", "cart")], "shop/b"),
    ] {
        let found = conflicts(&route("cart", "cart"), &Known::new(live, vec![], approved), &[]);
        assert!(found[0].message.ends_with(&format!("which is {first:?}")), "{what}: {}", found[0].message);
    }
}

#[test]
fn an_approved_version_lacks_what_is_to_be_removed() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
                         "spec": {"ports": [{"port": 80, "name": "http"}]}});
    let removed = [crate::app::head(&service)];
    let known = Known::new(vec![service], vec![], vec![route("b", "cart")]);
    let report = crate::app::removal(&removed, &mut Warm::among(&known, &[], true));
    let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((finding.id.as_str(), finding.details.source.as_str()), ("MW4102", "registry/approved"));
    assert_eq!(finding.severity, Severity::Warning);
}
